"""EmbeddingDisplay: the features of images on a plane, by t-SNE or PCA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from transferclf._checks import check_choice, check_number
from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.estimators.reading import head_features
from transferclf.estimators.transfer import TransferEstimator
from transferclf.exceptions import InvalidParameterError
from transferclf.images import ImageSource
from transferclf.reports.displays import figures
from transferclf.reports.predictions import of_all_images, through, unwrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    RandomState = int | np.random.RandomState | None

METHODS = ("tsne", "pca")

# t-SNE compares this number of principal components, which removes noise.
# Source: van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 9, 2008.
N_COMPONENTS = 50
PERPLEXITY = 30.0

FEWEST_FOR_TSNE = 5  # with fewer points t-SNE is not defined

# Up to this number of points, one thread is faster than threads that wait for each other.
FEW_POINTS = 2000

# Side of a thumbnail: in pixels, in points of the figure, and its room as a share of the plane.
THUMBNAIL = 64
THUMBNAIL_POINTS = 24.0
THUMBNAIL_ROOM = 0.09

LEGEND_ROWS = 20  # classes in one column of the legend


@dataclass(eq=False, repr=False)
class EmbeddingDisplay:
    """Images as points of a plane, close together where a network sees them alike.

    Make one by :meth:`from_estimator` or :meth:`from_features`. Colours and markers together tell
    up to 64 classes apart.

    Parameters
    ----------
    embedding : ndarray of shape (n, 2)
        Where the images are.
    y : array-like of shape (n,) or None, default=None
        Their labels.
    images : ImageSource or None, default=None
        The images, for thumbnails.
    axis_names : (str, str), default=("", "")
        Of the two dimensions.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure
    scatters_ : dict of label to matplotlib.collections.PathCollection
        The points of each class; None is the label of all where there is no y.
    thumbnail_indices_ : ndarray of int
        Which images have a thumbnail.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf.reports import EmbeddingDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> display = EmbeddingDisplay.from_features(X[:50], y[:50], method="pca")
    >>> display.embedding.shape, len(display.scatters_)
    ((50, 2), 10)
    """

    embedding: np.ndarray
    y: npt.ArrayLike | None = None
    images: ImageSource | None = None
    axis_names: tuple[str, str] = ("", "")

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: object,
        y: npt.ArrayLike | None = None,
        *,
        method: str = "tsne",
        perplexity: float | None = None,
        random_state: RandomState = 0,
        images: object = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> EmbeddingDisplay:
        """Draw the features that a fitted estimator has of images.

        Parameters
        ----------
        estimator : estimator
            A fitted TransferClassifier or TransferRegressor, whose head's input is drawn (stored
            features are used again); a CNNFeatureExtractor; or a pipeline, whose last step's input
            is drawn.
        X : array-like or sequence of images, n of them
            Whatever the estimator takes.
        y : array-like of shape (n,) or None, default=None
            Labels.
        method : {"tsne", "pca"}, default="tsne"
            How features become two numbers.
        perplexity : float or None, default=None
            Of t-SNE: about how many neighbours each image has. None is 30, or a third of few
            images.
        random_state : int, RandomState or None, default=0
            Seed of t-SNE.
        images : array-like or sequence of images, or None, default=None
            Images for thumbnails, where X is no images.
        ax, **options
            As for :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If the estimator has no features, or a parameter is not as above.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        ValueError
            If y has not one label per image.
        """
        _check_method(method, perplexity)
        features = seen_features(estimator, X)
        if options.get("thumbnails"):
            images = figures.pictures_of(estimator, X, images)
        options |= {"method": method, "perplexity": perplexity, "random_state": random_state}
        return cls.from_features(features, y, images=images, ax=ax, **options)

    @classmethod
    def from_features(
        cls,
        features: npt.ArrayLike,
        y: npt.ArrayLike | None = None,
        *,
        method: str = "tsne",
        perplexity: float | None = None,
        random_state: RandomState = 0,
        images: object = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> EmbeddingDisplay:
        """Draw features that are known.

        Parameters
        ----------
        features : array-like of shape (n, d)
            One row for each image.
        y, method, perplexity, random_state, images, ax, **options
            As for :meth:`from_estimator`.

        Returns
        -------
        EmbeddingDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If a parameter is not as above.
        ValueError
            If features are not finite numbers (n, d), or y has not one label for each row.
        """
        _check_method(method, perplexity)
        rows = np.asarray(features)
        if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
            raise ValueError(
                f"features must be finite numbers of shape (n, d). Got shape {rows.shape}."
            )
        labels = None if y is None else np.asarray(y)
        if labels is not None and labels.shape != (len(rows),):
            raise ValueError(
                f"y must have one label per image, shape ({len(rows)},). Got {labels.shape}."
            )
        source = None if images is None else figures.source_of(images)
        if source is not None and len(source) != len(rows):
            raise ValueError(f"Expected {len(rows)} images, as X has. Got {len(source)} images.")
        if method == "pca":
            embedding, names = _by_pca(rows, random_state)
        else:
            embedding, names = _by_tsne(rows, perplexity, random_state)
        return cls(embedding, labels, source, names).plot(ax=ax, **options)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        thumbnails: bool = False,
        legend: bool = True,
        **scatter_options: Any,
    ) -> EmbeddingDisplay:
        """Draw into new axes, or into given ones.

        Parameters
        ----------
        ax : matplotlib.axes.Axes or None, default=None
            None makes a new figure.
        thumbnails : bool, default=False
            Whether to draw small pictures, framed in the colour of their class, as many as have
            room.
        legend : bool, default=True
            Whether there is a legend beside the points.
        **scatter_options
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        EmbeddingDisplay
            This display.

        Raises
        ------
        InvalidParameterError
            If thumbnails are to be drawn, but there are no images.
        """
        if thumbnails and self.images is None:
            raise InvalidParameterError("thumbnails=True needs images. Got images=None.")
        # Without labels all points are of one class, None.
        y = np.full(len(self.embedding), None) if self.y is None else np.asarray(self.y)
        classes = [None] if self.y is None else np.unique(y).tolist()
        colours = (
            [figures.GREY]
            if self.y is None
            else [figures.colour_of(k) for k in range(len(classes))]
        )
        has_legend = legend and self.y is not None
        n_columns = -(-len(classes) // LEGEND_ROWS) if has_legend else 0
        width = figures.legend_width(classes, n_columns)
        self.figure_, self.ax_ = figures.axes_for(ax, (5.2 + width, 5.2))
        self.scatters_ = {}
        for number, label in enumerate(classes):
            style = {
                "color": colours[number],
                "marker": figures.marker_of(number),
                "s": 34 if len(self.embedding) <= 1000 else 14,
                "linewidths": 0.4,
                "edgecolors": "#303030",  # makes yellow visible on white
            }
            points = self.embedding[y == label]
            self.scatters_[label] = self.ax_.scatter(*points.T, **(style | scatter_options))
        self.thumbnail_indices_ = np.array([], dtype=int)
        if thumbnails:
            self.thumbnail_indices_ = _apart(self.embedding)
            self._draw_thumbnails(dict(zip(classes, colours, strict=True)), y.tolist())
        # Only distances between points mean anything, not where the axes have their zero.
        self.ax_.set(xticks=[], yticks=[], xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        self.ax_.margins(0.06)
        if has_legend:
            figures.legend_beside(self.ax_, self.scatters_.values(), classes, n_columns)
        return self

    def _draw_thumbnails(self, colours: dict[Any, str], labels: list[object]) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        assert self.images is not None
        for index in self.thumbnail_indices_.tolist():
            pixels = figures.picture(self.images, index, THUMBNAIL)
            image = OffsetImage(pixels, zoom=THUMBNAIL_POINTS / max(pixels.shape[:2]))
            frame = {"edgecolor": colours[labels[index]], "linewidth": 1.6}
            box = AnnotationBbox(image, self.embedding[index], pad=0.08, bboxprops=frame)
            self.ax_.add_artist(box)


def seen_features(estimator: object, X: object) -> np.ndarray:
    """Return the features that the last step of a fitted estimator gets, shape (n, d).

    For a TransferClassifier or TransferRegressor these are the features of its head before
    standardising, and for a CNNFeatureExtractor those that it gives.
    """
    steps, last = unwrapped(estimator)
    if not steps and not isinstance(last, TransferEstimator | CNNFeatureExtractor):
        raise InvalidParameterError(
            "estimator must be a TransferClassifier, a CNNFeatureExtractor or a pipeline whose "
            f"last step gets features. Got {type(last).__name__}; from_features draws features."
        )
    rows = through(steps, X)
    if isinstance(last, TransferEstimator):
        return head_features(last, rows)
    if isinstance(last, CNNFeatureExtractor):
        return of_all_images(last.transform(rows))
    return of_all_images(rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows))


def _check_method(method: str, perplexity: float | None) -> None:
    check_choice("method", method, METHODS)
    if perplexity is not None:
        check_number("perplexity", perplexity, 0, above=True, or_else="None or ")


def _by_pca(rows: np.ndarray, random_state: RandomState) -> tuple[np.ndarray, tuple[str, str]]:
    """Return two principal components, and axis names with their shares of the variance."""
    pca, points = _components(rows, 2, random_state)
    first, second = (0.0, 0.0) if pca is None else (*pca.explained_variance_ratio_, 0.0)[:2]
    names = (f"component 1 ({first:.0%})", f"component 2 ({second:.0%})")
    return np.pad(points, [(0, 0), (0, 2 - points.shape[1])]), names


def _by_tsne(
    rows: np.ndarray, perplexity: float | None, random_state: RandomState
) -> tuple[np.ndarray, tuple[str, str]]:
    n_points = len(rows)
    pca, points = _components(rows, N_COMPONENTS, random_state)
    if n_points < FEWEST_FOR_TSNE or pca is None:
        return _by_pca(rows, random_state)
    if perplexity is None:
        perplexity = min(PERPLEXITY, (n_points - 1) / 3)
    start = "pca" if points.shape[1] >= 2 else "random"
    tsne = TSNE(perplexity=min(perplexity, n_points - 1.0), init=start, random_state=random_state)
    with threadpool_limits(1 if n_points <= FEW_POINTS else None):
        return tsne.fit_transform(points), ("t-SNE 1", "t-SNE 2")


def _components(
    rows: np.ndarray, count: int, random_state: RandomState
) -> tuple[PCA | None, np.ndarray]:
    """Return at most so many principal components; None for the PCA if all rows are the same."""
    rows = rows.astype(float)
    if (rows == rows[0]).all():
        return None, np.zeros((len(rows), 1))
    pca = PCA(min(count, *rows.shape), random_state=random_state)
    return pca, pca.fit_transform(rows)


def _apart(points: np.ndarray) -> np.ndarray:
    """Return indices of points far enough apart for thumbnails; earlier points are preferred."""
    extent = np.ptp(points, axis=0)
    scaled = points / np.where(extent > 0, extent, 1)
    chosen: list[int] = []
    for index, point in enumerate(scaled):
        # Thumbnails are square, so the larger of the two distances counts.
        if not chosen or np.abs(scaled[chosen] - point).max(axis=1).min() >= THUMBNAIL_ROOM:
            chosen.append(index)
    return np.array(chosen)
