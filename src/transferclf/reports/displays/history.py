"""TrainingHistoryDisplay: the course of training, of one run or of many side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays.figures import (
    GREY,
    check_axes,
    colour_of,
    legend_beside,
    marker_of,
    pyplot,
)
from transferclf.reports.predictions import transfer_classifier

PANELS = ("loss", "accuracy")

# Markers on a line, whatever its length, so that they tell lines apart and do not hide them.
MARKERS_ON_LINE = 6

# Up to here one epoch more makes a visible difference, and each has its point.
SHORT = 12


# Above this, lines are many and the legend is long.
FEW = 8


class TrainingHistoryDisplay:
    """Loss and accuracy after each epoch, or iteration of L-BFGS.

    Lines of training images are solid, those of validation images dashed; a vertical line stands
    where fine-tuning begins. Make one by :meth:`from_estimator` or :meth:`from_histories`.

    Parameters
    ----------
    histories : dict of str to dict of str to list of float
        For each run what `history_` holds: "loss" and "accuracy", and "val_loss" and
        "val_accuracy" where there were validation images.
    boundaries : dict of str to int, or None, default=None
        For each run how many epochs came before fine-tuning, as `n_head_iter_` says; runs that
        are not there have one phase.

    Attributes
    ----------
    axes_ : ndarray of matplotlib.axes.Axes
        One for each panel.
    figure_ : matplotlib.figure.Figure
    lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The line of each run and entry of its history, such as `lines_["run", "val_loss"]`.
    boundary_lines_ : dict of (str, str) to matplotlib.lines.Line2D
        The vertical line of each run that has one, and panel.

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
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, **options: Any
    ) -> TrainingHistoryDisplay:
        """Draw the training of a fitted TransferClassifier.

        Parameters
        ----------
        estimator : estimator
            A fitted TransferClassifier, or a pipeline, search or frozen estimator that ends in
            one.
        name : str or None, default=None
            What the run is called in the legend; None is its backbone.
        ax : matplotlib.axes.Axes, sequence of them or None, default=None
            As for :meth:`plot`.
        **options
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
        ax: Any = None,
        **options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw one or more runs.

        Parameters
        ----------
        histories : dict of str to dict, or to fitted estimator
            For each run its `history_`, or the estimator that has one.
        boundaries : dict of str to int, or None, default=None
            For each run how many epochs came before fine-tuning. Estimators say so themselves,
            and so do histories of a head by L-BFGS, which has no learning rates.
        ax : matplotlib.axes.Axes, sequence of them or None, default=None
            As for :meth:`plot`.
        **options
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
        ax: Any = None,
        metrics: Sequence[str] = PANELS,
        legend: bool = True,
        **line_options: Any,
    ) -> TrainingHistoryDisplay:
        """Draw into new axes, or into some that are there.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, sequence of them or None, default=None
            One for each panel; None makes a new figure.
        metrics : sequence of {"loss", "accuracy"}, default=("loss", "accuracy")
            The panels.
        legend : bool, default=True
            Whether the last panel has a legend beside it.
        **line_options
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        self
        """
        panels = _checked_panels(metrics)
        self.figure_, self.axes_ = _axes(ax, len(panels), len(self.histories))
        self.lines_: dict[tuple[str, str], Any] = {}
        self.boundary_lines_: dict[tuple[str, str], Any] = {}
        for axes, panel in zip(self.axes_, panels, strict=True):
            for number, name in enumerate(self.histories):
                self._draw_run(axes, panel, number, name, line_options)
            axes.set(xlabel=self._x_label(), ylabel=panel)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        if legend:
            self._add_legend(self.axes_[-1])
        return self

    def _draw_run(
        self, axes: Any, panel: str, number: int, name: str, line_options: dict[str, Any]
    ) -> None:
        history, colour = self.histories[name], colour_of(number)
        n_epochs = len(history["loss"])
        # Where there are validation images, they are what to look at.
        alpha = 0.6 if len(history.get(f"val_{panel}", ())) else 1.0
        for entry, dashes in ((panel, "-"), (f"val_{panel}", (0, (3, 1)))):
            values = np.asarray(history.get(entry, ()), dtype=float)
            if len(values) == 0:
                continue
            # Where only the last epochs were measured, as after a warm start, they are the last.
            epochs = np.arange(n_epochs - len(values), n_epochs) + 1
            style: dict[str, Any] = {
                "color": colour,
                "linestyle": dashes,
                "linewidth": 1.5,
                "markersize": 5,
            }
            style["alpha"] = alpha if entry == panel else 1.0
            style |= {"marker": self._marker(number), "markevery": _every(len(values), number)}
            (self.lines_[name, entry],) = axes.plot(epochs, values, **(style | line_options))
        boundary = (self.boundaries or {}).get(name, 0)
        if 0 < boundary < n_epochs:
            self.boundary_lines_[name, panel] = axes.axvline(
                boundary + 0.5, color=colour, linestyle=":", linewidth=1.5
            )

    def _marker(self, number: int) -> str:
        return marker_of(number) if len(self.histories) > 1 else "."

    def _x_label(self) -> str:
        lacks_rates = [len(_rates(history)) < len(history["loss"]) for history in self._runs()]
        has_rates = [len(_rates(history)) > 0 for history in self._runs()]
        if not any(lacks_rates):
            return "epoch"
        return "epoch or iteration" if any(has_rates) else "iteration"

    def _runs(self) -> list[Mapping[str, Sequence[float]]]:
        return list(self.histories.values())

    def _add_legend(self, axes: Any) -> None:
        from matplotlib.lines import Line2D

        def handle(**style: Any) -> Any:
            return Line2D([], [], **({"color": GREY} | style))

        entries = []
        for number, name in enumerate(self.histories):
            colour, marker = colour_of(number), self._marker(number)
            entries.append((name, handle(color=colour, marker=marker, markersize=5)))
        entries.append(("training", handle(linestyle="-")))
        if any(entry.startswith("val_") for _, entry in self.lines_):
            entries.append(("validation", handle(linestyle=(0, (3, 1)))))
        if self.boundary_lines_:
            entries.append(("fine-tuning begins", handle(linestyle=":")))
        names, handles = zip(*entries, strict=True)
        legend_beside(axes, handles, names)


def _checked_run(name: Any, run: Any) -> tuple[dict[str, list[float]], int | None]:
    """The history of a run, and how much of it came before fine-tuning, if there was any."""
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


def _checked_panels(metrics: Any) -> tuple[str, ...]:
    panels = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if not panels or not set(panels) <= set(PANELS):
        raise InvalidParameterError(f"metrics must be some of {PANELS}. Got {metrics!r} instead.")
    return panels


def _axes(ax: Any, count: int, n_runs: int) -> tuple[Any, np.ndarray]:
    """The figure, and axes for so many panels."""
    if ax is None:
        size = (4.2 * count + 2.2, 3.8 if n_runs <= FEW else 5.0)
        figure, axes = pyplot().subplots(1, count, figsize=size, layout="constrained")
        return figure, np.atleast_1d(axes)
    axes = np.array(ax, dtype=object).ravel()
    if len(axes) != count:
        raise InvalidParameterError(
            f"ax must be None or one axes for each of the {count} panels. Got {len(axes)}."
        )
    return check_axes(axes[0]).figure, np.array([check_axes(panel) for panel in axes])


def _every(n_values: int, number: int) -> tuple[int, int]:
    """Which points of a line have a marker: not at the same places for all runs."""
    step = 1 if n_values <= SHORT else n_values // MARKERS_ON_LINE
    return number % step, step
