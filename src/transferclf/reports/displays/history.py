"""TrainingHistoryDisplay: the course of training, of one run or of many side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays.figures import (
    GREY,
    colour_of,
    given_axes,
    legend_beside,
    legend_width,
    marker_of,
    pyplot,
)
from transferclf.reports.predictions import transfer_classifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

PANELS = ("loss", "accuracy")

# Units of the steps of training.
ITERATION, EPOCH = UNITS = ("iteration", "epoch")

# Markers on a line, whatever its length, so that they tell lines apart and do not hide them.
MARKERS_ON_LINE = 6

# Up to here one epoch more makes a visible difference, and each has its point.
SHORT = 12


# Above this, lines are many and the legend is long.
FEW = 8

# Height of a line of the legend, in inches.
LINE = 0.21


class TrainingHistoryDisplay:
    """Loss and accuracy after each epoch, or iteration of L-BFGS.

    Lines of training images are solid, those of validation images dashed. Iterations of L-BFGS and
    epochs have panels of their own with one scale of values, since a head may take hundreds of
    iterations and fine-tuning ten epochs. Where a head was trained by epochs too, a vertical line
    stands where fine-tuning begins. Make a display by :meth:`from_estimator` or
    :meth:`from_histories`.

    Parameters
    ----------
    histories : dict of str to dict of str to list of float
        The `history_` of each run: "loss" and "accuracy", and "val_loss" and "val_accuracy" where
        there were validation images.
    boundaries : dict of str to int, or None, default=None
        The number of epochs before fine-tuning, as `n_head_iter_` says it, of runs with two phases.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        From left to right: for each metric one, or two where there are iterations of L-BFGS and
        epochs, these second.
    figure_ : matplotlib.figure.Figure
    lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The line of each run and entry of its history, such as `lines_["run", "val_loss"]`; of its
        epochs, where a run has iterations too.
    head_lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The lines of the iterations of runs that have epochs too.
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

    def __init__(
        self,
        histories: Mapping[str, Mapping[str, Sequence[float]]],
        boundaries: Mapping[str, int] | None = None,
    ):
        self.histories = histories
        self.boundaries = boundaries

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        **options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw the training of a fitted TransferClassifier.

        Parameters
        ----------
        estimator : estimator
            A fitted TransferClassifier, or a pipeline, search or frozen estimator that ends in one.
        name : str or None, default=None
            The name of the run in the legend; None is its backbone.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        TrainingHistoryDisplay

        Raises
        ------
        InvalidParameterError
            If there is no TransferClassifier in the estimator.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        """
        _, classifier = transfer_classifier(estimator)
        run = classifier.prefix_.backbone.name if name is None else name
        return cls.from_histories({run: estimator}, ax=ax, **options)

    @classmethod
    def from_histories(
        cls,
        histories: Mapping[str, Any],
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
            head by L-BFGS, tell it themselves.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        TrainingHistoryDisplay

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
        metrics: Sequence[str] = PANELS,
        legend: bool = True,
        **line_options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw into new axes, or into given ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, sequence of them or None, default=None
            One for each metric; None makes a new figure. Two panels share the room of one axes.
        metrics : sequence of {"loss", "accuracy"}, default=("loss", "accuracy")
            The metrics to draw.
        legend : bool, default=True
            Whether the last panel has a legend beside it.
        **line_options
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self
        """
        panels = _checked_panels(metrics)
        units = self._units()
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

    def _units(self) -> list[str]:
        """The units of the runs' steps; each has a panel."""
        parts = [part for history in self.histories.values() for part in _parts(history)]
        return [unit for unit in UNITS if unit in parts] or [EPOCH]

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
        # Where there are validation images, they are what to look at.
        alpha = 0.6 if len(history.get(f"val_{panel}", ())) else 1.0
        for entry, dashes in ((panel, "-"), (f"val_{panel}", (0, (3, 1)))):
            style = self._style(number) | {"linestyle": dashes}
            style["alpha"] = alpha if entry == panel else 1.0
            for unit, (steps, values) in _drawn(history, entry, parts).items():
                style["markevery"] = _every(len(values), number)
                (line,) = by_unit[unit].plot(steps, values, **(style | line_options))
                is_head = len(parts) > 1 and unit == ITERATION
                (self.head_lines_ if is_head else self.lines_)[name, entry] = line
        self._draw_boundary(by_unit, panel, number, name)

    def _draw_boundary(self, by_unit: dict[str, Axes], panel: str, number: int, name: str) -> None:
        """A vertical line where fine-tuning begins, if that is within one panel."""
        boundary = (self.boundaries or {}).get(name, 0)
        for unit, part in _parts(self.histories[name]).items():
            if part.start < boundary < part.stop:
                self.boundary_lines_[name, panel] = by_unit[unit].axvline(
                    boundary - part.start + 0.5,
                    color=colour_of(number),
                    linestyle=":",
                    linewidth=1.5,
                )

    def _style(self, number: int) -> dict[str, Any]:
        marker = self._marker(number)
        return {"color": colour_of(number), "linewidth": 1.5, "marker": marker, "markersize": 5}

    def _marker(self, number: int) -> str:
        return marker_of(number) if len(self.histories) > 1 else "."

    def _add_legend(self, axes: Axes) -> None:
        from matplotlib.lines import Line2D

        def handle(**style: Any) -> Any:
            return Line2D([], [], **({"color": GREY} | style))

        entries = []
        for number, name in enumerate(self.histories):
            colour, marker = colour_of(number), self._marker(number)
            entries.append((name, handle(color=colour, marker=marker, markersize=5)))
        entries.append(("training", handle(linestyle="-")))
        if any(entry.startswith("val_") for _, entry in (*self.lines_, *self.head_lines_)):
            entries.append(("validation", handle(linestyle=(0, (3, 1)))))
        if self.boundary_lines_:
            entries.append(("fine-tuning begins", handle(linestyle=":")))
        names, handles = zip(*entries, strict=True)
        legend_beside(axes, handles, names)


def _checked_run(name: Any, run: Any) -> tuple[dict[str, list[float]], int | None]:
    """The history of a run, and the number of steps before fine-tuning, if there was any."""
    if not isinstance(run, Mapping):
        if not hasattr(run, "fit"):
            raise InvalidParameterError(
                f"Run {name!r} must be a history or a fitted estimator. "
                f"Got {type(run).__name__} instead."
            )
        _, classifier = transfer_classifier(run)
        return classifier.history_, classifier.n_head_iter_
    if "loss" not in run or not all(np.ndim(values) == 1 for values in run.values()):
        raise InvalidParameterError(
            f"Run {name!r} must be a history: lists of numbers, with one named 'loss'. "
            f"Got {list(run)} instead."
        )
    n_before = len(run["loss"]) - len(_rates(run))
    return dict(run), n_before if _rates(run) and n_before else None


def _rates(history: Mapping[str, Sequence[float]]) -> list[float]:
    """The learning rates, which only epochs by Keras' optimizers have."""
    return list(history.get("learning_rate", ()))


def _parts(history: Mapping[str, Sequence[float]]) -> dict[str, range]:
    """The positions of iterations of L-BFGS and of the epochs after them, by unit."""
    n_steps, n_epochs = len(history["loss"]), len(_rates(history))
    n_iterations = max(n_steps - n_epochs, 0)
    parts = {ITERATION: range(n_iterations), EPOCH: range(n_iterations, n_steps)}
    return {unit: part for unit, part in parts.items() if part}


def _drawn(
    history: Mapping[str, Sequence[float]], entry: str, parts: dict[str, range]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each unit the numbers of the steps, from 1, and the values of an entry."""
    values = np.asarray(history.get(entry, ()), dtype=float)
    # Where only the last epochs were measured, as after a warm start, they are the last.
    first = len(history["loss"]) - len(values)
    steps = np.arange(first, first + len(values))
    drawn = {}
    for unit, part in parts.items():
        chosen = (steps >= part.start) & (steps < part.stop)
        if chosen.any():
            drawn[unit] = (steps[chosen] - part.start + 1, values[chosen])
    return drawn


def _checked_panels(metrics: Any) -> tuple[str, ...]:
    panels = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if not panels or not set(panels) <= set(PANELS):
        raise InvalidParameterError(f"metrics must be some of {PANELS}. Got {metrics!r} instead.")
    return panels


def _axes(
    ax: Axes | Sequence[Axes] | None, count: int, n_units: int, names: list[str]
) -> tuple[Any, np.ndarray]:
    """The figure, and axes of shape (count, n_units): those of a row share their scale."""
    if ax is None:
        width = 4.2 if n_units == 1 else 5.6
        # The legend has a line for each run, and up to three more.
        height = max(3.8 if len(names) <= FEW else 5.0, LINE * (len(names) + 3) + 0.8)
        size = (width * count + max(2.2, legend_width(names)), height)
        figure, axes = pyplot().subplots(
            1, count * n_units, figsize=size, layout="constrained", squeeze=False
        )
        cells = axes.reshape(count, n_units)
    else:
        given = given_axes(ax, count, f"None or one axes for each of the {count} panels")
        figure = given[0].figure
        cells = np.array([_divided(axes, n_units) for axes in given])
    for first, *others in cells:
        for other in others:
            other.sharey(first)
            other.tick_params(labelleft=False)
    return figure, cells


def _divided(axes: Axes, n_parts: int) -> list[Axes]:
    """Axes side by side in the room of one."""
    if n_parts == 1:
        return [axes]
    axes.set_axis_off()
    width = 1 / n_parts
    return [axes.inset_axes((part * width, 0, width * 0.94, 1)) for part in range(n_parts)]


def _every(n_values: int, number: int) -> tuple[int, int]:
    """First point with a marker, and every which; runs have them at different places."""
    step = 1 if n_values <= SHORT else n_values // MARKERS_ON_LINE
    return number % step, step
