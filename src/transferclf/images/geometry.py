"""Geometry: one antialiased resize to the size that a network wants, and crops.

All resize modes take one box of the source and resample it once with Pillow's
antialiased bilinear filter, so that no intermediate image is rounded. At the edges of the box the
filter looks a little beyond it, as it would if the whole image were resized and cropped after.

Images many times larger than needed are averaged in whole blocks of 2, 4 or 8 pixels first, as
JPEG files of that size are when they are decoded at reduced scale: fast, and the same for both.

A picture is an RGB array or, where Pillow made it and it has 8 bits, still Pillow's own image (mode
L or RGB): each change from one to the other copies all its pixels. A large picture of floats is
computed one channel at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from PIL import Image

from transferclf.exceptions import InvalidParameterError
from transferclf.images.deep import DeepPicture

ResizeMode = Literal["crop", "stretch", "pad", "first", "last"]

# Those that users may ask for; the other two are for averaging over both ends of an image.
RESIZE_MODES: tuple[ResizeMode, ...] = ("crop", "stretch", "pad")

# The place of a mode's box: the share of the left-out part that lies before it.
_PLACES = {"first": 0.0, "crop": 0.5, "last": 1.0}

Box = tuple[float, float, float, float]

Picture = np.ndarray | Image.Image | DeepPicture

# What is averaged in blocks stays at least this many times larger than needed. With less,
# features of pretrained networks differ by more than a cosine of 0.999 between a JPEG file decoded
# at reduced scale and the same pixels averaged. Networks of large inputs see less of it: a
# margin of 1.9 changes less at 224 pixels than one of 3 at 96.
FACTORS = (8, 4, 2)
MARGIN = 3.0
LARGE_SIDE = 200
LARGE_MARGIN = 1.9


def resize_image(image: Picture, size: tuple[int, int], mode: ResizeMode = "crop") -> np.ndarray:
    """Resize one RGB picture with antialiasing, to an array of its dtype.

    `size` is (height, width). "crop" takes the largest centred part of the right proportions,
    "stretch" distorts the whole image, "pad" keeps the whole image undistorted between black
    borders. "first" and "last" are "crop" at the ends of the image: left or top, and right or
    bottom.
    """
    height, width = sides(image)
    if mode in _PLACES:
        box = largest_box((height, width), size, _PLACES[mode])
        return rgb_array(_resample(image, size, box))
    if mode == "stretch":
        return rgb_array(_resample(image, size, (0, 0, width, height)))
    if mode == "pad":
        return _padded(image, size)
    raise InvalidParameterError(f"resize must be one of {RESIZE_MODES}. Got {mode!r} instead.")


def reduction_factor(source: tuple[int, int], side: int) -> int:
    """Return the factor (8, 4, 2 or 1) by which an image may be reduced in blocks.

    `source` is (height, width), and `side` the larger side that is wanted.

    >>> reduction_factor((3000, 4000), 224)
    4
    """
    margin = MARGIN if side < LARGE_SIDE else LARGE_MARGIN
    return next((factor for factor in FACTORS if min(source) // factor >= margin * side), 1)


def average_blocks(image: Picture, factor: int) -> Picture:
    """Reduce a picture by a whole factor: each new pixel is the mean of a square of old ones."""
    if factor == 1:
        return image
    return _by_pillow(image, lambda plane: plane.reduce(factor))


def sides(image: Picture) -> tuple[int, int]:
    """Height and width in pixels."""
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    return image.height, image.width


def rgb_array(image: Picture) -> np.ndarray:
    """Return the picture as an array (h, w, 3), gray repeated."""
    if isinstance(image, DeepPicture):
        array = np.empty((image.height, image.width, 3), np.float32)
        for top, levels in image.parts():
            array[top : top + len(levels)] = levels
        return array
    array = np.asarray(image)
    return array if array.ndim == 3 else np.repeat(array[..., None], 3, axis=-1)


def largest_box(source: tuple[int, int], target: tuple[int, int], place: float = 0.5) -> Box:
    """The largest box (left, top, right, bottom) of the source with the target's proportions.

    `source` and `target` are (height, width). `place` is 0 at the left or top, 1 at the other end.

    >>> largest_box((10, 30), (5, 5))
    (10.0, 0.0, 20.0, 10.0)
    """
    height, width = map(float, source)
    # Of whole numbers until the one division, so that equal proportions give exactly the image.
    if source[0] * target[1] < source[1] * target[0]:
        width = source[0] * target[1] / target[0]
    else:
        height = source[1] * target[0] / target[1]
    top, left = (source[0] - height) * place, (source[1] - width) * place
    # Pillow refuses a box that ends beyond the image by as little as a rounding.
    return (left, top, min(left + width, source[1]), min(top + height, source[0]))


def extreme_square_crops(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two largest squares of an image (h, w[, c]), as views.

    They are the left and right end of a wide image, top and bottom of a tall one. Together they
    show every pixel of an image up to twice as long as wide, undistorted.
    """
    side = min(image.shape[:2])
    height, width = image.shape[:2]
    return image[:side, :side], image[height - side :, width - side :]


def _padded(image: Picture, size: tuple[int, int]) -> np.ndarray:
    height, width = sides(image)
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(max(round(height * scale), 1), size[0]),
        min(max(round(width * scale), 1), size[1]),
    )
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    resized = rgb_array(_resample(image, inner, (0, 0, width, height)))
    canvas = np.zeros((*size, 3), resized.dtype)
    canvas[top : top + inner[0], left : left + inner[1]] = resized
    return canvas


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
    # Pillow has no multi-channel float image: one plane at a time keeps the fractions.
    done = [np.asarray(operation(plane)) for plane in _planes(image)]
    return np.stack(done if len(done) == 3 else done * 3, axis=-1)


def _planes(image: np.ndarray | DeepPicture) -> Iterator[Image.Image]:
    if isinstance(image, DeepPicture):
        return image.planes()
    planes = np.moveaxis(image, -1, 0)
    return (Image.fromarray(np.ascontiguousarray(plane)) for plane in planes)
