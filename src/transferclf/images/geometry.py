"""Geometry: one antialiased resize to the size that a network needs.

All resize modes resample one box of the source once, with Pillow's antialiased bilinear filter, so
that no intermediate image is rounded. At the edges of the box the filter uses pixels a little
beyond it, as it would if the whole image were resized and cropped after.

Images many times larger than needed are first averaged in blocks of 2, 4 or 8 pixels. JPEG files of
that size are decoded at reduced scale, which gives the same.

A large picture of floats is computed one channel at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from PIL import Image

from transferclf.exceptions import InvalidParameterError
from transferclf.images.deep import DeepPicture, Picture, rgb_array, sides

ResizeMode = Literal["crop", "stretch", "pad", "first", "last"]

# The modes that users may choose; the other two are for averaging over both ends of an image.
RESIZE_MODES: tuple[ResizeMode, ...] = ("crop", "stretch", "pad")

# The place of the box in each mode: the share of the left-out part that lies before it.
_PLACES = {"first": 0.0, "crop": 0.5, "last": 1.0}

Box = tuple[float, float, float, float]

# Images that are averaged in blocks stay at least this many times larger than needed. With less,
# features of a JPEG file decoded at reduced scale and of the same pixels averaged have a cosine
# below 0.999. Large inputs need less: a margin of 1.9 changes less at 224 pixels than 3 at 96.
FACTORS = (8, 4, 2)
MARGIN = 3.0
LARGE_SIDE = 200
LARGE_MARGIN = 1.9


def resize_image(image: Picture, size: tuple[int, int], mode: ResizeMode = "crop") -> np.ndarray:
    """Resize one RGB picture with antialiasing, to an array of its dtype.

    `size` is (height, width). "crop" takes the largest centred part of the right proportions,
    "first" and "last" take it from the left or top, and from the right or bottom. "stretch"
    distorts the whole image, "pad" keeps it undistorted between black borders.
    """
    height, width = sides(image)
    if mode in _PLACES:
        box = largest_box((height, width), size, _PLACES[mode])
        return rgb_array(_resample(image, size, box))
    whole = (0, 0, width, height)
    if mode == "stretch":
        return rgb_array(_resample(image, size, whole))
    if mode != "pad":
        raise InvalidParameterError(f"resize must be one of {RESIZE_MODES}. Got {mode!r} instead.")
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(max(round(height * scale), 1), size[0]),
        min(max(round(width * scale), 1), size[1]),
    )
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    resized = rgb_array(_resample(image, inner, whole))
    canvas = np.zeros((*size, 3), resized.dtype)
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas


def reduction_factor(source: tuple[int, int], side: int | None) -> int:
    """Return the factor (8, 4, 2 or 1) by which an image may be reduced in blocks.

    `source` is (height, width), and `side` the larger side that is needed, or None for all pixels.
    """
    if side is None:
        return 1
    margin = MARGIN if side < LARGE_SIDE else LARGE_MARGIN
    return next((factor for factor in FACTORS if min(source) // factor >= margin * side), 1)


def average_blocks(image: Picture, factor: int) -> Picture:
    """Reduce a picture by a whole factor: each new pixel is the mean of a square of pixels."""
    if factor == 1:
        return image
    return _by_pillow(image, lambda plane: plane.reduce(factor))


def largest_box(source: tuple[int, int], target: tuple[int, int], place: float = 0.5) -> Box:
    """Return the largest box (left, top, right, bottom) with the target's proportions.

    `source` and `target` are (height, width). `place` is 0 at the left or top, 1 at the other end.
    """
    height, width = map(float, source)
    # Whole numbers until the one division, so that equal proportions give exactly the image.
    if source[0] * target[1] < source[1] * target[0]:
        width = source[0] * target[1] / target[0]
    else:
        height = source[1] * target[0] / target[1]
    top, left = (source[0] - height) * place, (source[1] - width) * place
    # Pillow refuses a box that ends beyond the image, even by a rounding.
    return (left, top, min(left + width, source[1]), min(top + height, source[0]))


def extreme_square_crops(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two largest squares of an image (h, w[, c]), as views.

    They are the left and right end of a wide image, top and bottom of a tall one. Together they
    show every pixel of an image up to twice as long as wide, undistorted.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    return image[:side, :side], image[height - side :, width - side :]


def _resample(image: Picture, size: tuple[int, int], box: Box) -> Picture:
    if sides(image) == size:
        return image
    return _by_pillow(
        image, lambda it: it.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box)
    )


def _by_pillow(image: Picture, operation: Callable[[Image.Image], Image.Image]) -> Picture:
    if isinstance(image, Image.Image):
        return operation(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return np.asarray(operation(Image.fromarray(image)))
    # Pillow has no float image of several channels, so that each channel is computed alone.
    planes: Iterator[Image.Image]
    if isinstance(image, DeepPicture):
        planes = (image.image("F", channel) for channel in range(image.channels))
    else:
        arrays = map(np.ascontiguousarray, np.moveaxis(image, -1, 0))
        planes = map(Image.fromarray, arrays)
    done = [np.asarray(operation(plane)) for plane in planes]
    return np.stack(done if len(done) == 3 else done * 3, axis=-1)
