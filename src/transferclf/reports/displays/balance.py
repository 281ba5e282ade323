"""ClassBalanceDisplay: the number of images of each class in each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import column_or_1d

from transferclf._checks import check_choice
from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.label_sets import has_several
from transferclf.reports.displays.figures import axes_for, colour_of, legend_beside, plain
from transferclf.reports.indicators import indicators_of, label_names
from transferclf.reports.predictions import n_samples_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS = ("label", "count")

# With more classes, or longer names, bars are horizontal, so that names can be read.
UPRIGHT_CLASSES = 10
UPRIGHT_LETTERS = 9

NUMBERED_BARS = 80  # with more bars, numbers at their ends would be too small to be read


@dataclass(eq=False, repr=False)
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

    counts: Mapping[str, npt.ArrayLike]
    classes: Sequence[object] | np.ndarray

    @classmethod
    def from_targets(
        cls,
        targets: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        *,
        classes: npt.ArrayLike | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> ClassBalanceDisplay:
        """Count labels and draw the counts.

        Parameters
        ----------
        targets : array-like of shape (n,), or dict of str to array-like
            Labels, or those of each split by its name. For several labels an indicator, a data
            frame or a sequence of label sets; each image counts for each of its labels.
        classes : array-like of shape (n_classes,) or None, default=None
            All classes, also those without images; None takes those in `targets`, sorted. For
            several labels the names of the columns.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        ClassBalanceDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If there are no labels, or some that are not among `classes`.
        """
        splits = targets if isinstance(targets, Mapping) else {"": targets}
        if any(has_several(y) for y in splits.values()):
            return cls(*_label_counts(splits, classes)).plot(ax=ax, **options)
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
        """Draw into new axes, or into given ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None makes a new figure, as long as the classes need.
        horizontal : bool or None, default=None
            None: horizontal if there are more than ten classes or long names.
        order : {"label", "count"}, default="label"
            Order of the classes: as in `classes`, or the most frequent first.
        normalize : bool, default=False
            Whether to show shares of each split in place of counts, to compare splits of
            different sizes.
        **bar_options
            For `matplotlib.axes.Axes.bar` or `barh`.

        Returns
        -------
        ClassBalanceDisplay
            This display.
        """
        check_choice("order", order, ORDERS)
        table = np.array([np.asarray(counts) for counts in self.counts.values()])
        chosen = np.arange(table.shape[1])
        if order == "count":
            chosen = np.argsort(-table.sum(axis=0), kind="stable")
        self.classes_shown_ = [list(self.classes)[number] for number in chosen]
        names = [plain(label) for label in self.classes_shown_]
        if horizontal is None:
            longest = max(map(len, names))
            horizontal = len(names) > UPRIGHT_CLASSES or longest > UPRIGHT_LETTERS
        self.figure_, axes = axes_for(ax, _size(len(table), len(names), horizontal))
        self.ax_ = axes
        if normalize:  # a split without images has shares of 0
            table = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        self._draw_bars(table[:, chosen], names, horizontal, bar_options)
        what = "share of the images" if normalize else "images"
        axes.set(**{"xlabel" if horizontal else "ylabel": what})
        axes.grid(axis="x" if horizontal else "y", alpha=0.3)
        axes.set_axisbelow(True)
        if len(self.counts) > 1:
            legend_beside(axes, [bars[0] for bars in self.bars_.values()], self.bars_)
        return self

    def _draw_bars(
        self, table: np.ndarray, names: list[str], horizontal: bool, bar_options: dict[str, Any]
    ) -> None:
        axes, places, width = self.ax_, np.arange(len(names)), 0.8 / len(table)
        draw = axes.barh if horizontal else axes.bar
        number_format = "{:.1%}" if table.dtype.kind == "f" else "{:,}"
        self.bars_ = {}
        for number, (split, values) in enumerate(zip(self.counts, table, strict=True)):
            moved = places + (number - (len(table) - 1) / 2) * width
            bars = draw(moved, values, width, **({"color": colour_of(number)} | bar_options))
            self.bars_[split] = bars
            if table.size <= NUMBERED_BARS:
                texts = [number_format.format(value) for value in values]
                axes.bar_label(bars, texts, padding=2, fontsize="x-small")
        if horizontal:
            axes.set_yticks(places, names)
            axes.set_ylim(len(names) - 0.5, -0.5)  # the first class on top
            axes.margins(x=0.1)
        else:
            axes.set_xticks(places, names)
            axes.margins(y=0.1)


def _label_counts(
    splits: Mapping[str, Any], classes: npt.ArrayLike | None
) -> tuple[dict[str, npt.ArrayLike], np.ndarray]:
    """Return the number of images with each label in each split, and the names of the labels."""
    names = label_names(*splits.values()) if classes is None else column_or_1d(classes)
    try:
        counts: dict[str, npt.ArrayLike] = {
            str(name): indicators_of(y, n_samples_of(y), names).sum(axis=0)
            for name, y in splits.items()
        }
    except ValueError as error:
        raise InvalidParameterError(f"targets: {error}") from None
    return counts, names


def _sorted(labels: set[Any]) -> list[Any]:
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=lambda label: (type(label).__name__, str(label)))


def _size(n_splits: int, n_classes: int, horizontal: bool) -> tuple[float, float]:
    """Return the size of a figure in inches for so many splits and classes."""
    # Each bar needs the height of the number beside it.
    length = 1.0 + n_classes * max(0.24, 0.14 * n_splits + 0.06)
    if horizontal:
        return 7.0, min(max(length, 2.4), 40.0)
    return min(max(1.5 + n_classes * max(0.6, 0.4 * n_splits), 4.8), 12.0), 4.0
