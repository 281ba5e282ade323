"""Images to look at: found inside of what an estimator is given, and made small enough."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator

from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.reading import images_of
from transferclf.exceptions import ImageError
from transferclf.images import ImageSource, check_images, resize_image
from transferclf.reports.predictions import unwrapped

SIDE = 256  # longest side of a picture in a figure, in pixels


def pictures_of(estimator: BaseEstimator, X: object, images: object = None) -> ImageSource:
    """Return the images to show for X, read as the estimator reads X, or `images` if given.

    Raises ImageError if there are no images in X.
    """
    if images is not None:
        return source_of(images)
    steps, last = unwrapped(estimator)
    first = steps[0].steps[0][1] if steps else last
    if isinstance(first, BackboneEstimator):
        return images_of(first, X)
    try:
        return source_of(X)
    except ImageError as error:
        raise ImageError(f"{error} Pass the images to be shown as images=...") from None


def source_of(images: object) -> ImageSource:
    """Return images of any kind, with the pixel range found in them."""
    source = check_images(images)
    return ImageSource(source.items, source.decided_range(), source.positions)


def picture(source: ImageSource, index: int, side: int = SIDE) -> np.ndarray:
    """Return one image as uint8 of shape (h, w, 3), its longer side at most `side` pixels."""
    pixels = source.load(index)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = resize_image(pixels, size, "stretch")
    return as_bytes(pixels)


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return pixels from 0 to 255 rounded to uint8."""
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
