"""ImageGridDisplay: images that a classifier gets wrong, or is not sure of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from transferclf._checks import (
    check_choice,
    check_number,
    check_random_state,
    refuse,
    seed_from,
)
from transferclf.exceptions import InvalidParameterError
from transferclf.images import ImageSource
from transferclf.reports.displays import figures
from transferclf.reports.evaluation import evaluate
from transferclf.reports.evaluations.classes import Evaluation
from transferclf.reports.evaluations.multilabel import MultilabelEvaluation
from transferclf.reports.indicators import names_of, place_of
from transferclf.reports.kinds import LABELS, kind_of_estimator
from transferclf.reports.predictions import classes_of, label_indices, n_samples_of
from transferclf.reports.unknowns import check_is_no_rejector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    RandomState = int | np.random.RandomState | None

KINDS = ("worst", "confident", "uncertain", "random")

RIGHT, WRONG = figures.COLOURS[2], figures.COLOURS[1]

LETTERS = 14  # letters of a class name beside its probability, above a picture
PICTURE, LINES = 1.9, 0.42  # width of a picture, and height of the lines above it, in inches


@dataclass(eq=False, repr=False)
class ImageGridDisplay:
    """A grid of images with true and predicted class and their probabilities.

    Make one by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    images : ImageSource
        All images; only those that are shown are decoded.
    indices : ndarray of int, shape (n_images,)
        The images to show, row by row.
    evaluation : Evaluation
        The predictions for all of them.
    empty : str, default="no images"
        The text in the place of an empty grid.

    Attributes
    ----------
    indices_ : ndarray of int, shape (n_images,)
        The samples that are shown, row by row.
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_images,)
        One for each picture.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from transferclf.reports import ImageGridDisplay
    >>> digits = load_digits()
    >>> X, y, images = digits.data, digits.target, (digits.images * 15).astype("uint8")
    >>> classifier = LogisticRegression(max_iter=200).fit(X[:200], y[:200])
    >>> display = ImageGridDisplay.from_estimator(
    ...     classifier, X[200:400], y[200:400], images=images[200:400], n_images=6
    ... )
    >>> len(display.axes_), display.indices_.shape
    (6, (6,))
    """

    images: ImageSource
    indices: np.ndarray
    evaluation: Evaluation
    empty: str = "no images"

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: object,
        y: npt.ArrayLike,
        *,
        kind: str = "worst",
        label: object = None,
        n_images: int = 12,
        images: object = None,
        random_state: RandomState = 0,
        ax: Axes | None = None,
        **options: Any,
    ) -> ImageGridDisplay:
        """Predict, choose images and draw them.

        Parameters
        ----------
        estimator : estimator
            Any fitted classifier; with `predict_proba` unless `kind` is "random".
        X : array-like or sequence of images, n of them
            Whatever the estimator takes.
        y : array-like of shape (n,), or for several labels an indicator or label sets
            The true labels.
        kind : {"worst", "confident", "uncertain", "random"}, default="worst"
            Errors whose true class has the lowest probability; errors whose predicted class has the
            highest; images, right or wrong, whose two best classes are closest; or any images.
        label : label or None, default=None
            For a classifier of several labels, the label that is looked at: its classes are
            "not LABEL" and "LABEL".
        n_images : int, default=12
            How many at most.
        images : array-like or sequence of images, or None, default=None
            The images to show, where X is no images.
        random_state : int, RandomState or None, default=0
            Seed for the kind "random".
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        ImageGridDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If a parameter is not as above, or there are no probabilities to choose by.
        ImageError
            If X is no images and `images` is None.
        ValueError
            If y has not one known label per image.
        """
        _check_choice(kind, n_images, random_state)
        check_is_no_rejector(estimator, "ImageGridDisplay")
        # Check labels and images before the long work of predicting.
        if kind_of_estimator(estimator, y) == LABELS:
            place_of(label, names_of(estimator, y))
        elif label is not None:
            refuse("label", "None for an estimator that does not give several labels", label)
        else:
            label_indices(y, n_samples_of(X), classes_of(estimator))
        source = figures.pictures_of(estimator, X, images)
        found = evaluate(estimator, X, y, top_k=())
        if isinstance(found, MultilabelEvaluation):
            found = found.of_label(label)
        options |= {"kind": kind, "n_images": n_images, "random_state": random_state, "ax": ax}
        return cls.from_predictions(
            source, found.y_true, found.y_pred, found.y_proba, classes=found.classes, **options
        )

    @classmethod
    def from_predictions(
        cls,
        images: object,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike | None = None,
        y_proba: npt.ArrayLike | None = None,
        *,
        classes: npt.ArrayLike | None = None,
        kind: str = "worst",
        n_images: int = 12,
        random_state: RandomState = 0,
        ax: Axes | None = None,
        **options: Any,
    ) -> ImageGridDisplay:
        """Choose images by predictions that were made before, and draw them.

        Parameters
        ----------
        images : array-like or sequence of images, n of them
            See :func:`transferclf.images.check_images`.
        y_true, y_pred, y_proba, classes
            As for :meth:`transferclf.reports.Evaluation.from_predictions`.
        kind, n_images, random_state, ax, **options
            As for :meth:`from_estimator`, which raises the same errors.

        Returns
        -------
        ImageGridDisplay
            The display, drawn.
        """
        _check_choice(kind, n_images, random_state)
        source = figures.source_of(images)
        evaluation = Evaluation.from_predictions(y_true, y_pred, y_proba, classes=classes, top_k=())
        if len(source) != evaluation.n_samples:
            raise ValueError(
                f"Expected one image per label, {evaluation.n_samples}. Got {len(source)} images."
            )
        indices = chosen_images(evaluation, kind, n_images, random_state)
        empty = "no errors" if kind in ("worst", "confident") else "no images"
        return cls(source, indices, evaluation, empty).plot(ax=ax, **options)

    def plot(
        self, *, ax: Axes | None = None, n_columns: int | None = None, **image_options: Any
    ) -> ImageGridDisplay:
        """Draw into a new figure, or into given axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            Axes whose room the grid takes; None makes a new figure.
        n_columns : int or None, default=None
            Pictures in a row; None is 4, or 6 where there are more than 16.
        **image_options
            For `matplotlib.axes.Axes.imshow`.

        Returns
        -------
        ImageGridDisplay
            This display.
        """
        self.indices_ = np.asarray(self.indices, dtype=int)
        count = max(1, len(self.indices_))
        if n_columns is None:
            n_columns = 6 if count > 16 else 4
        check_number("n_columns", n_columns, 1, whole=True, or_else="None or ")
        pictures = [figures.picture(self.images, index) for index in self.indices_.tolist()]
        cells = _cells(ax, min(n_columns, count), pictures)
        self.figure_ = cells[0].figure
        self.axes_ = np.array(cells[: len(self.indices_)], dtype=object)
        if len(self.indices_) == 0:
            cells[0].set_axis_off()
            cells[0].text(0.5, 0.5, self.empty, ha="center", va="center")
        for cell, index, pixels in zip(self.axes_, self.indices_.tolist(), pictures, strict=True):
            figures.show(cell, pixels, **({"interpolation": "nearest"} | image_options))
            cell.set_title(self._title(index), fontsize="small", loc="left")
            is_right = self.evaluation.y_true[index] == self.evaluation.y_pred[index]
            cell.spines[:].set(color=RIGHT if is_right else WRONG, linewidth=2.5)
        return self

    def _title(self, index: int) -> str:
        """Return two lines over a picture: the true class and the predicted one."""
        evaluation, lines = self.evaluation, []
        for word, labels in (("true", evaluation.y_true), ("pred.", evaluation.y_pred)):
            share = ""
            if evaluation.y_proba is not None:
                column = np.flatnonzero(evaluation.classes == labels[index])[0]
                share = f" {evaluation.y_proba[index, column]:.2f}"
            lines.append(f"{word} {figures.plain(labels[index], LETTERS)}{share}")
        return "\n".join(lines)


def chosen_images(
    evaluation: Evaluation, kind: str, n_images: int, random_state: RandomState = 0
) -> np.ndarray:
    """Return indices of the images to show, in the order of :meth:`from_estimator`'s kinds."""
    n_samples = evaluation.n_samples
    if kind == "random":
        rng = np.random.default_rng(seed_from(random_state))
        return np.sort(rng.permutation(n_samples)[:n_images])
    y_proba = evaluation.y_proba
    if y_proba is None:
        raise InvalidParameterError(
            f"kind={kind!r} needs probabilities, which this estimator does not give. "
            "kind='random' does without."
        )
    if kind == "uncertain":
        ranked = np.sort(y_proba, axis=1)
        best, second = ranked[:, -1], ranked[:, -2:-1].sum(axis=1)
        return np.argsort(best - second, kind="stable")[:n_images]
    labels = evaluation.y_true if kind == "worst" else evaluation.y_pred
    columns = label_indices(labels, n_samples, evaluation.classes)
    of_label = y_proba[np.arange(n_samples), columns]
    rank = of_label if kind == "worst" else -of_label
    wrong = np.flatnonzero(evaluation.y_true != evaluation.y_pred)
    return wrong[np.argsort(rank[wrong], kind="stable")][:n_images]


def _check_choice(kind: str, n_images: int, random_state: RandomState) -> None:
    check_choice("kind", kind, KINDS)
    check_number("n_images", n_images, 1, whole=True)
    check_random_state(random_state)


def _cells(ax: Axes | None, n_columns: int, pictures: list[np.ndarray]) -> list[Axes]:
    """Return axes for the pictures, row by row: of a new figure, or inside of the given axes."""
    count = max(1, len(pictures))
    if ax is None:
        tallest = max((len(pixels) / pixels.shape[1] for pixels in pictures), default=0.5)
        height = LINES + PICTURE * min(max(tallest, 0.4), 1.6)
        return list(figures.new_axes(count, n_columns, (PICTURE, height)))
    figures.check_axes(ax).set_axis_off()
    width, height = 1 / n_columns, 1 / -(-count // n_columns)
    places = [divmod(number, n_columns) for number in range(count)]
    # Three quarters of the height are for the picture, the rest for its two lines and a margin.
    return [
        ax.inset_axes((column * width, 1 - (row + 1) * height, width * 0.92, height * 0.75))
        for row, column in places
    ]
