"""TrainingHistoryDisplay: the course of training, of one run or of many side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays import figures
from transferclf.reports.predictions import transfer_estimator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    History = Mapping[str, Sequence[float]]

# Units of the steps of training, each with a panel of its own.
ITERATION, EPOCH = "iteration", "epoch"

SOLID, DASHED = "-", (0, (3, 1))

MARKERS_ON_LINE = 6  # of a long line: they tell lines apart and do not hide them
SHORT = 12  # a line of at most 12 points has a marker at each
FEW = 8  # runs; the legend of more runs is long
LINE = 0.21  # height of a line of the legend, in inches


@dataclass(eq=False, repr=False)
class TrainingHistoryDisplay:
    """Loss and accuracy after each epoch, or iteration of L-BFGS.

    Lines of training images are solid, those of validation images dashed. Iterations of L-BFGS and
    epochs have panels of their own with one scale of values, since a head may take hundreds of
    iterations and fine-tuning ten epochs. If the head was trained by epochs, too, a vertical line
    shows where fine-tuning begins. Make a display by :meth:`from_estimator` or
    :meth:`from_histories`.

    Parameters
    ----------
    histories : dict of str to dict of str to list of float
        The `history_` of each run: "loss" and "accuracy" (or another measure), and "val_loss" and
        "val_accuracy" if there were validation images.
    boundaries : dict of str to int, or None, default=None
        The number of epochs before fine-tuning (`n_head_iter_`), for runs with two phases.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        From left to right: one for each metric, or two, iterations of L-BFGS and then epochs.
    figure_ : matplotlib.figure.Figure
    lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The line of each run and entry of its history, such as `lines_["run", "val_loss"]`. For a
        run with iterations and epochs, the line of its epochs.
    head_lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The lines of iterations, for runs with iterations and epochs.
    boundary_lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The vertical lines, by run and metric.

    Examples
    --------
    >>> from transferclf.reports import TrainingHistoryDisplay
    >>> history = {"loss": [1.0, 0.6, 0.5], "accuracy": [0.4, 0.7, 0.8]}
    >>> display = TrainingHistoryDisplay.from_histories({"head": history})
    >>> display.lines_["head", "loss"].get_ydata().tolist()
    [1.0, 0.6, 0.5]
    """

    histories: Mapping[str, History]
    boundaries: Mapping[str, int] | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        *,
        name: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        **options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw the training of a fitted TransferClassifier or TransferRegressor.

        Parameters
        ----------
        estimator : estimator
            Fitted, alone or at the end of a pipeline, search or frozen estimator.
        name : str or None, default=None
            The name of the run in the legend; None is its backbone.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        TrainingHistoryDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If there is no estimator of this package in `estimator`.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        _, classifier = transfer_estimator(estimator)
        run = classifier.prefix_.backbone.name if name is None else name
        return cls.from_histories({run: estimator}, ax=ax, **options)

    @classmethod
    def from_histories(
        cls,
        histories: Mapping[str, object],
        *,
        boundaries: Mapping[str, int] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        **options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw one or more runs.

        Parameters
        ----------
        histories : dict of str to dict, or to fitted estimator
            For each run its `history_`, or the estimator that has one.
        boundaries : dict of str to int, or None, default=None
            For each run the number of epochs before fine-tuning. Estimators, and histories of a
            head by L-BFGS, need none.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        TrainingHistoryDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If there is no run, or something that is no history.
        """
        if not isinstance(histories, Mapping) or not histories:
            raise InvalidParameterError(
                f"histories must be a dict with at least one run by name. Got {histories!r}."
            )
        found = {str(name): _checked_run(name, run) for name, run in histories.items()}
        begins = {name: begin for name, (_, begin) in found.items() if begin is not None}
        known = {str(name): int(begin) for name, begin in (boundaries or {}).items()}
        display = cls({name: history for name, (history, _) in found.items()}, begins | known)
        return display.plot(ax=ax, **options)

    def plot(
        self,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        metrics: str | Sequence[str] | None = None,
        legend: bool = True,
        **line_options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw into new axes, or into given ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, sequence of them or None, default=None
            One for each metric; None makes a new figure. Two panels share the room of one axes.
        metrics : str, sequence of str or None, default=None
            The metrics to draw, such as "loss"; None is "loss" and "accuracy", or the measure of
            another kind of target.
        legend : bool, default=True
            Whether the last panel has a legend beside it.
        **line_options
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        TrainingHistoryDisplay
            This display.
        """
        panels = self._panels(metrics)
        found = {unit for history in self.histories.values() for unit in _parts(history)}
        units = [unit for unit in (ITERATION, EPOCH) if unit in found] or [EPOCH]
        self.figure_, cells = _axes(ax, len(panels), len(units), list(self.histories))
        self.axes_ = cells.ravel()
        self.lines_: dict[tuple[str, str], Line2D] = {}
        self.head_lines_: dict[tuple[str, str], Line2D] = {}
        self.boundary_lines_: dict[tuple[str, str], Line2D] = {}
        for of_panel, panel in zip(cells, panels, strict=True):
            by_unit = dict(zip(units, of_panel, strict=True))
            for number, name in enumerate(self.histories):
                self._draw_run(by_unit, panel, number, name, line_options)
            for unit, axes in by_unit.items():
                axes.set(xlabel=unit)
                axes.xaxis.get_major_locator().set_params(integer=True)
                axes.grid(alpha=0.3)
            of_panel[0].set_ylabel(panel)
        if legend:
            self._add_legend(self.axes_[-1])
        return self

    def _panels(self, metrics: str | Sequence[str] | None) -> tuple[str, ...]:
        """Return the metrics to draw. Histories name what their objective measures."""
        known, usual = {"loss": None, "accuracy": None}, {"loss": None}
        for history in self.histories.values():
            measures = dict.fromkeys(entry.removeprefix("val_") for entry in history)
            others = [name for name in measures if name not in ("loss", "learning_rate", "lr")]
            known |= dict.fromkeys(others)
            usual |= dict.fromkeys(["accuracy"] if not others or "accuracy" in others else others)
        if metrics is None:
            return tuple(usual)
        panels = (metrics,) if isinstance(metrics, str) else tuple(metrics)
        if not panels or not set(panels) <= set(known):
            raise InvalidParameterError(
                f"metrics must be some of {tuple(known)}. Got {metrics!r} instead."
            )
        return panels

    def _draw_run(
        self,
        by_unit: dict[str, Axes],
        panel: str,
        number: int,
        name: str,
        line_options: dict[str, Any],
    ) -> None:
        history = self.histories[name]
        parts = _parts(history)
        has_validation = len(history.get(f"val_{panel}", ())) > 0
        for entry, dashes in ((panel, SOLID), (f"val_{panel}", DASHED)):
            style = self._style(number) | {"linewidth": 1.5, "linestyle": dashes}
            # Validation images say more than training images, whose lines are faint beside theirs.
            style["alpha"] = 0.6 if has_validation and entry == panel else 1.0
            for unit, (steps, values) in _drawn(history, entry, parts).items():
                # Runs have their markers at different places.
                every = 1 if len(values) <= SHORT else len(values) // MARKERS_ON_LINE
                style["markevery"] = (number % every, every)
                (line,) = by_unit[unit].plot(steps, values, **(style | line_options))
                is_head = len(parts) > 1 and unit == ITERATION
                (self.head_lines_ if is_head else self.lines_)[name, entry] = line
        boundary = (self.boundaries or {}).get(name, 0)
        for unit, part in parts.items():
            if part.start < boundary < part.stop:
                style = {"color": figures.colour_of(number), "linestyle": ":", "linewidth": 1.5}
                line = by_unit[unit].axvline(boundary - part.start + 0.5, **style)
                self.boundary_lines_[name, panel] = line

    def _style(self, number: int) -> dict[str, Any]:
        marker = figures.marker_of(number) if len(self.histories) > 1 else "."
        return {"color": figures.colour_of(number), "marker": marker, "markersize": 5}

    def _add_legend(self, axes: Axes) -> None:
        from matplotlib.lines import Line2D

        styles = {name: self._style(number) for number, name in enumerate(self.histories)}
        entries = [*styles.items(), ("training", {"color": figures.GREY, "linestyle": SOLID})]
        if any(entry.startswith("val_") for _, entry in (*self.lines_, *self.head_lines_)):
            entries.append(("validation", {"color": figures.GREY, "linestyle": DASHED}))
        if self.boundary_lines_:
            entries.append(("fine-tuning begins", {"color": figures.GREY, "linestyle": ":"}))
        handles = [Line2D([], [], **style) for _, style in entries]
        figures.legend_beside(axes, handles, [name for name, _ in entries])


def _checked_run(name: object, run: object) -> tuple[History, int | None]:
    """Return the history of a run, and the number of steps before fine-tuning, if there is any."""
    if not isinstance(run, Mapping):
        if not hasattr(run, "fit"):
            raise InvalidParameterError(
                f"Run {name!r} must be a history or a fitted estimator. "
                f"Got {type(run).__name__} instead."
            )
        _, classifier = transfer_estimator(run)
        return classifier.history_, classifier.n_head_iter_
    if "loss" not in run or not all(np.ndim(values) == 1 for values in run.values()):
        raise InvalidParameterError(
            f"Run {name!r} must be a history: lists of numbers, with one named 'loss'. "
            f"Got {list(run)} instead."
        )
    parts = _parts(run)
    return dict(run), parts[EPOCH].start if len(parts) == 2 else None


def _parts(history: History) -> dict[str, range]:
    """Return the positions of iterations of L-BFGS and of the epochs after them, by unit.

    Only epochs by Keras' optimizers have learning rates.
    """
    n_steps, n_epochs = len(history["loss"]), len(history.get("learning_rate", ()))
    n_iterations = max(n_steps - n_epochs, 0)
    parts = {ITERATION: range(n_iterations), EPOCH: range(n_iterations, n_steps)}
    return {unit: part for unit, part in parts.items() if part}


def _drawn(
    history: History, entry: str, parts: dict[str, range]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each unit the numbers of the steps, from 1, and the values of an entry."""
    values = np.asarray(history.get(entry, ()), dtype=float)
    # If there are fewer values than steps, as after a warm start, they are of the last steps.
    first = len(history["loss"]) - len(values)
    steps = np.arange(first, first + len(values))
    drawn = {}
    for unit, part in parts.items():
        chosen = (steps >= part.start) & (steps < part.stop)
        if chosen.any():
            drawn[unit] = (steps[chosen] - part.start + 1, values[chosen])
    return drawn


def _axes(
    ax: Axes | Sequence[Axes] | None, count: int, n_units: int, names: list[str]
) -> tuple[Any, np.ndarray]:
    """Return the figure, and axes of shape (count, n_units), where rows share their scale."""
    if ax is None:
        width = 4.2 if n_units == 1 else 5.6
        # The legend has a line for each run, and up to three more.
        height = max(3.8 if len(names) <= FEW else 5.0, LINE * (len(names) + 3) + 0.8)
        size = (width * count + max(2.2, figures.legend_width(names)), height)
        figure, axes = figures.pyplot().subplots(
            1, count * n_units, figsize=size, layout="constrained", squeeze=False
        )
        cells = axes.reshape(count, n_units)
    else:
        given = figures.given_axes(ax, count, f"None or one axes for each of the {count} panels")
        figure, cells = given[0].figure, given.reshape(count, 1)
        if n_units > 1:  # side by side in the room of one
            width = 1 / n_units
            places = [(unit * width, 0, width * 0.94, 1) for unit in range(n_units)]
            for axes in given:
                axes.set_axis_off()
            cells = np.array([[axes.inset_axes(place) for place in places] for axes in given])
    for first, *others in cells:
        for other in others:
            other.sharey(first)
            other.tick_params(labelleft=False)
    return figure, cells
