"""ClassBalanceDisplay: the number of images of each class in each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import column_or_1d

from transferclf._checks import check_choice
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.displays.figures import axes_for, colour_of, legend_beside, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = ("label", "count")

# With more classes, or longer names, bars lie, so that names can be read.
UPRIGHT_CLASSES = 10
UPRIGHT_LETTERS = 9

# With more bars, numbers at their ends would be too small to be read.
NUMBERED_BARS = 80


class ClassBalanceDisplay:
    """Bars of the number of images of each class, side by side for several splits.

    Make one by :meth:`from_targets`.

    Parameters
    ----------
    counts : dict of str to array-like of shape (n_classes,)
        Number of images of each class, by the name of the split.
    classes : array-like of shape (n_classes,)
        The labels of the classes.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    bars_ : dict of str to matplotlib.container.BarContainer
        The bars of each split, in the order of the axis.
    classes_shown_ : list of length n_classes
        The labels in the order of the axis.

    Examples
    --------
    >>> from transferclf.reports import ClassBalanceDisplay
    >>> splits = {"train": ["cat", "dog", "cat"], "test": ["dog"]}
    >>> display = ClassBalanceDisplay.from_targets(splits)
    >>> display.counts["train"].tolist(), display.counts["test"].tolist()
    ([2, 1], [0, 1])
    """

    def __init__(self, counts: Mapping[str, Any], classes: Any):
        self.counts = counts
        self.classes = classes

    @classmethod
    def from_targets(
        cls, targets: Any, *, classes: Any = None, ax: Axes | None = None, **options: Any
    ) -> ClassBalanceDisplay:
        """Count labels and draw the counts.

        Parameters
        ----------
        targets : array-like of shape (n,), or dict of str to array-like
            Labels, or those of each split by its name.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes, also those without images; None takes those that there are, sorted.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        ClassBalanceDisplay

        Raises
        ------
        InvalidParameterError
            If there are no labels, or some that are not among `classes`.
        """
        splits = targets if isinstance(targets, Mapping) else {"": targets}
        labels = {str(name): column_or_1d(y).tolist() for name, y in splits.items()}
        there = {label for split in labels.values() for label in split}
        known = _sorted(there) if classes is None else column_or_1d(classes).tolist()
        if not there or not there <= set(known):
            raise InvalidParameterError(
                f"targets must be labels of the classes {known}, at least one. "
                f"Got {_sorted(there - set(known)) or 'none'}."
            )
        place = {label: number for number, label in enumerate(known)}
        counts = {
            name: np.bincount([place[label] for label in split], minlength=len(known))
            for name, split in labels.items()
        }
        return cls(counts, known).plot(ax=ax, **options)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        horizontal: bool | None = None,
        order: str = "label",
        normalize: bool = False,
        **bar_options: Any,
    ) -> ClassBalanceDisplay:
        """Draw into new axes, or into some that are there.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None makes a new figure, as long as the classes need.
        horizontal : bool or None, default=None
            Whether bars lie; None is where there are more than ten classes or long names.
        order : {"label", "count"}, default="label"
            Order of the classes: as in `classes`, or the most frequent first.
        normalize : bool, default=False
            Whether to show shares of each split in place of counts, to compare splits of
            different sizes.
        **bar_options
            For `matplotlib.axes.Axes.bar` or `barh`.

        Returns
        -------
        self
        """
        check_choice("order", order, ORDERS)
        table = np.array([np.asarray(counts) for counts in self.counts.values()])
        chosen = _order(table, order)
        labels = list(self.classes)
        self.classes_shown_ = [labels[number] for number in chosen]
        names = [plain(label) for label in self.classes_shown_]
        if horizontal is None:
            horizontal = _is_better_horizontal(names)
        self.figure_, self.ax_ = axes_for(ax, _size(table.shape, horizontal))
        values = _shares(table) if normalize else table
        self._draw_bars(values[:, chosen], names, horizontal, bar_options)
        self._label_axes("share of the images" if normalize else "images", horizontal)
        return self

    def _draw_bars(
        self, table: np.ndarray, names: list[str], horizontal: bool, bar_options: dict[str, Any]
    ) -> None:
        axes, places, width = self.ax_, np.arange(len(names)), 0.8 / len(table)
        draw = axes.barh if horizontal else axes.bar
        self.bars_ = {}
        for number, (split, values) in enumerate(zip(self.counts, table, strict=True)):
            moved = places + (number - (len(table) - 1) / 2) * width
            bars = draw(moved, values, width, **({"color": colour_of(number)} | bar_options))
            self.bars_[split] = bars
            if table.size <= NUMBERED_BARS:
                texts = _numbers(values)
                axes.bar_label(bars, texts, padding=2, fontsize="x-small")
        (axes.set_yticks if horizontal else axes.set_xticks)(places, names)
        if horizontal:
            axes.set_ylim(len(names) - 0.5, -0.5)  # the first class on top
        axes.margins(x=0.1) if horizontal else axes.margins(y=0.1)

    def _label_axes(self, what: str, horizontal: bool) -> None:
        axes = self.ax_
        axes.set(**{"xlabel" if horizontal else "ylabel": what})
        axes.grid(axis="x" if horizontal else "y", alpha=0.3)
        axes.set_axisbelow(True)
        if len(self.counts) > 1:
            legend_beside(axes, [bars[0] for bars in self.bars_.values()], self.bars_)


def _sorted(labels: set[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=lambda label: (type(label).__name__, str(label)))


def _order(table: np.ndarray, order: str) -> np.ndarray:
    if order == "label":
        return np.arange(table.shape[1])
    return np.argsort(-table.sum(axis=0), kind="stable")


def _shares(table: np.ndarray) -> np.ndarray:
    """Counts divided by those of the split; a split without images has none."""
    return table / np.maximum(table.sum(axis=1, keepdims=True), 1)


def _numbers(values: np.ndarray) -> list[str]:
    if values.dtype.kind == "f":
        return [f"{value:.1%}" for value in values]
    return [f"{value:,}" for value in values]


def _is_better_horizontal(names: Sequence[str]) -> bool:
    return len(names) > UPRIGHT_CLASSES or max(map(len, names)) > UPRIGHT_LETTERS


def _size(shape: tuple[int, ...], horizontal: bool) -> tuple[float, float]:
    """Size of a figure in inches for so many splits and classes."""
    n_splits, n_classes = shape
    # Each bar needs the height of the number beside it.
    length = 1.0 + n_classes * max(0.24, 0.14 * n_splits + 0.06)
    if horizontal:
        return 7.0, min(max(length, 2.4), 40.0)
    return min(max(1.5 + n_classes * max(0.6, 0.4 * n_splits), 4.8), 12.0), 4.0
