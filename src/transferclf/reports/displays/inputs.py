"""NetworkInputDisplay: each photograph beside the input that the network gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf._checks import check_number
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.reading import images_of
from transferclf.exceptions import InvalidParameterError
from transferclf.images.geometry import source_box
from transferclf.images.source import ImageSource
from transferclf.reports.displays import figures
from transferclf.reports.predictions import through, unwrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TILE = 2.2  # side of one picture in a figure, in inches

FRAME = figures.COLOURS[1]


@dataclass(eq=False, repr=False)
class NetworkInputDisplay:
    """Photographs beside the inputs of a network: resized, and cropped, padded or stretched.

    Where ``resize="crop"`` cuts something off, a frame in the photograph shows the part that is
    left, and the title says its share of the area. Make a display by :meth:`from_estimator`.

    Parameters
    ----------
    images : sequence of n ndarrays of shape (h, w, 3), uint8
        The photographs.
    inputs : ndarray of shape (n, height, width, 3), uint8
        The inputs of the network.
    boxes : ndarray of shape (n, 4)
        The part of each photograph that the network gets, in its pixels: left, top, right, bottom.

    Attributes
    ----------
    seen_ : ndarray of shape (n,)
        The share of each photograph's area that the network gets.
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n, 2)
        For each image the axes of the photograph and of the input.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf import CNNFeatureExtractor
    >>> from transferclf.reports import NetworkInputDisplay
    >>> images = np.random.default_rng(0).integers(0, 256, (3, 40, 64, 3), dtype=np.uint8)
    >>> extractor = CNNFeatureExtractor(image_size=32).fit(images)
    >>> display = NetworkInputDisplay.from_estimator(extractor, images)
    >>> display.inputs.shape, display.seen_.tolist()
    ((3, 32, 32, 3), [0.625, 0.625, 0.625])
    """

    images: Sequence[np.ndarray]
    inputs: np.ndarray
    boxes: np.ndarray

    @classmethod
    def from_estimator(
        cls,
        estimator: object,
        X: object,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        n_columns: int | None = None,
    ) -> NetworkInputDisplay:
        """Load some images as an estimator does, and plot them.

        Parameters
        ----------
        estimator : TransferClassifier, CNNFeatureExtractor, or Pipeline or search with one
            Fitted.
        X : array-like or sequence of images, n of them
            As for `predict` or `transform`. All are shown: pass a few, such as ``X[:6]``.
        ax, n_columns
            As for :meth:`plot`.

        Returns
        -------
        NetworkInputDisplay
            The display, drawn.

        Raises
        ------
        InvalidParameterError
            If there is no estimator of this package in `estimator`.
        sklearn.exceptions.NotFittedError
            If it is not fitted.
        ImageError
            If images cannot be read, or there are none.
        ImportError
            If matplotlib is not installed.
        """
        figures.pyplot()  # fail early if matplotlib is missing
        reader, source = _reader(estimator, X)
        size, resize, sampling = reader.prefix_.size, reader.resize_, reader.prefix_.sampling
        images = [figures.picture(source, index) for index in range(len(source))]
        inputs = [source.load(index, size, resize, sampling) for index in range(len(source))]
        boxes = [source_box(image.shape[:2], size, resize, sampling) for image in images]
        display = cls(images, figures.as_bytes(np.stack(inputs)), np.array(boxes))
        return display.plot(ax=ax, n_columns=n_columns)

    def plot(
        self, *, ax: Axes | Sequence[Axes] | None = None, n_columns: int | None = None
    ) -> NetworkInputDisplay:
        """Plot each photograph, and to the right of it the input of the network.

        Parameters
        ----------
        ax : sequence of 2 n matplotlib.axes.Axes or None, default=None
            Two for each image; None makes a figure.
        n_columns : int or None, default=None
            Images in a row of that figure; None is up to two.

        Returns
        -------
        NetworkInputDisplay
            This display.
        """
        check_number("n_columns", n_columns or 1, 1, whole=True, or_else="None or ")
        sides = np.array([image.shape[:2] for image in self.images], dtype=float)
        left, top, right, bottom = np.asarray(self.boxes, dtype=float).T
        self.seen_ = (right - left) * (bottom - top) / sides.prod(axis=1)
        n_images = len(self.images)
        if ax is None:
            axes = figures.new_axes(
                2 * n_images, 2 * min(n_columns or 2, n_images), (TILE, TILE + 0.4)
            )
        else:
            expected = f"None or {2 * n_images} axes, two for each image"
            axes = figures.given_axes(ax, 2 * n_images, expected)
        from matplotlib.patches import Rectangle

        self.axes_ = axes.reshape(n_images, 2)
        self.figure_ = self.axes_[0, 0].figure
        for number, (of_image, of_input) in enumerate(self.axes_):
            image, given, share = self.images[number], self.inputs[number], self.seen_[number]
            extent = (0, image.shape[1], image.shape[0], 0)
            figures.show(of_image, image, f"image {number}", extent=extent)
            if share < 1:
                left, top, right, bottom = self.boxes[number]
                frame = Rectangle((left, top), right - left, bottom - top, fill=False)
                frame.set(edgecolor=FRAME, linewidth=2.5)
                of_image.add_patch(frame)
            # Round down: 99.6 % is not all of it.
            part = "all of it" if share >= 1 else f"{min(math.floor(share * 100), 99)}% of it"
            title = f"{part}, {given.shape[1]} x {given.shape[0]} pixels"
            figures.show(of_input, given, title, interpolation="nearest")
        return self


def _reader(estimator: object, X: object) -> tuple[BackboneEstimator, ImageSource]:
    """Return the estimator of this package that reads images, and the images that it gets."""
    steps, reader = unwrapped(estimator)
    for number, part in enumerate(steps):
        if isinstance(part.steps[0][1], BackboneEstimator):
            steps, reader = steps[:number], part.steps[0][1]
            break
    if not isinstance(reader, BackboneEstimator):
        raise InvalidParameterError(
            "estimator must be a TransferClassifier or CNNFeatureExtractor, or a pipeline, search "
            f"or frozen estimator with one. Got {type(estimator).__name__} instead."
        )
    check_is_fitted(reader)
    return reader, images_of(reader, through(steps, X))
