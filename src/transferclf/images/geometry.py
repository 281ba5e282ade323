"""Geometry: one antialiased resize to the size that a network needs.

All resize modes resample one box of the source once, with Pillow's antialiased bilinear filter, so
that no intermediate image is rounded. At the edges of the box the filter uses pixels a little
beyond it, as it would if the whole image were resized and cropped after.

Images many times larger than needed are first averaged in blocks of 2, 4 or 8 pixels. JPEG files of
that size are decoded at reduced scale, which gives the same.

A large picture of floats is computed one channel at a time.

Other libraries prepare images in other ways, which a :class:`Sampling` describes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor, prod
from typing import Literal, get_args

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

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos3"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Sampling:
    """How pixels of the network's size are computed from those of the image.

    `interpolation` is the filter. Without `antialias` it sees only the few pixels next to each
    point, as in Keras' `Resizing` layer. With a `crop_fraction` the image is resized so that its
    centre of this share has the network's size, with the rounding to whole pixels of torchvision.
    With `whole_pixels` it is cropped or padded before it is resized, as in Keras' `Resizing` layer;
    without `antialias` this is always so.
    """

    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    crop_fraction: float | None = None
    whole_pixels: bool = False

    @property
    def cuts_first(self) -> bool:
        """Whether an image is cropped or padded to its final proportions before it is resized."""
        return self.whole_pixels or not self.antialias

    @property
    def may_reduce(self) -> bool:
        """Whether a large image may be averaged in blocks before it is resized."""
        return self == PLAIN


PLAIN = Sampling()

# Images that are averaged in blocks stay at least this many times larger than needed. With less,
# features of a JPEG file decoded at reduced scale and of the same pixels averaged have a cosine
# below 0.999. Large inputs need less: a margin of 1.9 changes less at 224 pixels than 3 at 96.
FACTORS = (8, 4, 2)
MARGIN = 3.0
LARGE_SIDE = 200
LARGE_MARGIN = 1.9


# A long strip is not resized as a whole, because the result may be a small part of it. This is the
# largest multiple of the pixels of the result.
MOST_RESIZED = 16


def resize_image(
    image: Picture, size: tuple[int, int], mode: ResizeMode = "crop", sampling: Sampling = PLAIN
) -> np.ndarray:
    """Resize one RGB picture, to an array of its dtype, or float32 as Keras' layer does.

    `size` is (height, width). "crop" takes the largest centred part of the right proportions,
    "first" and "last" take it from the left or top, and from the right or bottom. "stretch"
    distorts the whole image, "pad" keeps it undistorted between black borders.
    """
    if mode == "pad":
        return _padded(image, size, sampling)
    resized = _resized(sides(image), size, mode, sampling)
    if resized is not None and prod(resized) <= MOST_RESIZED * prod(size):
        # Pillow chooses by the sizes which axis it resizes first, and rounds in between. Only the
        # same sizes give the pixels of the library.
        height, width = sides(image)
        whole = _resample(image, resized, (0, 0, width, height), sampling)
        top, left = _margins(resized, size)
        return whole[top : top + size[0], left : left + size[1]]
    return _resample(image, size, source_box(sides(image), size, mode, sampling), sampling)


def source_box(
    source: tuple[int, int], size: tuple[int, int], mode: str, sampling: Sampling = PLAIN
) -> Box:
    """Return the part (left, top, right, bottom) of an image that becomes the result."""
    if mode == "pad":
        return (0, 0, source[1], source[0])
    resized = _resized(source, size, mode, sampling)
    if resized is not None:
        return _centre_after(source, resized, size)
    if mode == "stretch":
        return (0, 0, source[1], source[0])
    if mode not in _PLACES:
        raise InvalidParameterError(f"resize must be one of {RESIZE_MODES}. Got {mode!r} instead.")
    if mode == "crop" and sampling.cuts_first:
        return _whole_box(source, size)
    return largest_box(source, size, _PLACES[mode])


def _padded(image: Picture, size: tuple[int, int], sampling: Sampling) -> np.ndarray:
    height, width = sides(image)
    if sampling.cuts_first:
        # Keras adds the same number of rows or columns at both ends.
        rows = max(width * size[0] // size[1] - height, 0) // 2
        columns = max(height * size[1] // size[0] - width, 0) // 2
        full = (height + 2 * rows, width + 2 * columns)
        canvas = _on_black(rgb_array(image), full)
        return _resample(canvas, size, (0, 0, full[1], full[0]), sampling)
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(max(round(height * scale), 1), size[0]),
        min(max(round(width * scale), 1), size[1]),
    )
    resized = _resample(image, inner, source_box((height, width), size, "pad"), sampling)
    return _on_black(resized, size)


def _on_black(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an image in the middle of a black one."""
    height, width = pixels.shape[:2]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas = np.zeros((*size, 3), pixels.dtype)
    canvas[top : top + height, left : left + width] = pixels
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


def _resized(
    source: tuple[int, int], size: tuple[int, int], mode: str, sampling: Sampling
) -> tuple[int, int] | None:
    """Return the size of the whole resized image if the result is the centre of it, else None."""
    if sampling.crop_fraction is None or mode not in ("crop", "stretch"):
        return None
    enlarged = _enlarged(size, sampling.crop_fraction)
    return enlarged if mode == "stretch" else _covering(source, enlarged)


def _enlarged(size: tuple[int, int], fraction: float) -> tuple[int, int]:
    return floor(size[0] / fraction), floor(size[1] / fraction)


def _covering(source: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image that is resized in proportion to just cover another.

    torchvision cuts the longer side to whole pixels if a square is to be covered. timm rounds both
    sides for other proportions.
    """
    if wanted[0] == wanted[1]:
        short = min(source)
        height, width = (
            wanted[0] if side == short else int(wanted[0] * side / short) for side in source
        )
    else:
        ratio = min(source[0] / wanted[0], source[1] / wanted[1])
        height, width = (round(side / ratio) for side in source)
    return height, width


def _centre_after(source: tuple[int, int], resized: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return the part of the source that is the centre of the resized image."""
    top, left = _margins(resized, size)
    y, x = source[0] / resized[0], source[1] / resized[1]
    right, bottom = (left + size[1]) * x, (top + size[0]) * y
    return (left * x, top * y, min(right, source[1]), min(bottom, source[0]))


def _margins(resized: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows and columns of the resized image come before its centre."""
    return round((resized[0] - size[0]) / 2), round((resized[1] - size[1]) / 2)


def _whole_box(source: tuple[int, int], target: tuple[int, int]) -> Box:
    """Return the largest centred box in whole pixels, as Keras' `Resizing` layer cuts it."""
    height = max(min(int(source[1] * target[0] / target[1]), source[0]), 1)
    width = max(min(int(source[0] * target[1] / target[0]), source[1]), 1)
    top, left = (source[0] - height) // 2, (source[1] - width) // 2
    return (left, top, left + width, top + height)


def extreme_square_crops(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two largest squares of an image (h, w[, c]), as views.

    They are the left and right end of a wide image, top and bottom of a tall one. Together they
    show every pixel of an image up to twice as long as wide, undistorted.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    return image[:side, :side], image[height - side :, width - side :]


def _resample(image: Picture, size: tuple[int, int], box: Box, sampling: Sampling) -> np.ndarray:
    height, width = sides(image)
    if (height, width) == size and box == (0, 0, width, height):
        return rgb_array(image)
    # Keras' nearest pixel is the same with antialiasing and without.
    if not sampling.antialias or (sampling.whole_pixels and sampling.interpolation == "nearest"):
        return _at_points(rgb_array(image), size, box, sampling.interpolation)
    kind = _FILTERS[sampling.interpolation]
    if sampling.whole_pixels:
        left, top, right, bottom = map(round, box)
        # Keras does not round to whole levels between the two axes.
        image = rgb_array(image)[top:bottom, left:right].astype(np.float32)
        box = (0, 0, right - left, bottom - top)
    return rgb_array(_by_pillow(image, lambda it: it.resize((size[1], size[0]), kind, box=box)))


def _at_points(
    pixels: np.ndarray, size: tuple[int, int], box: Box, interpolation: str
) -> np.ndarray:
    """Return the values at the centres of the new pixels, interpolated between old ones; float32.

    Only pixels inside the box count, as in TensorFlow.
    """
    left, top, right, bottom = map(round, box)
    part = pixels[top:bottom, left:right]
    for axis in (0, 1):
        indices, weights = _taps(part.shape[axis], size[axis], interpolation)
        shape = [-1 if other == axis else 1 for other in range(3)]
        part = sum(
            part.take(index, axis=axis) * weight.reshape(shape)
            for index, weight in zip(indices, weights, strict=True)
        )
    return np.asarray(part, np.float32)


def _taps(length: int, wanted: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels that each new pixel is a sum of, and their weights: both (taps, wanted)."""
    places = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
    reach = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos3": 3}[interpolation]
    first = np.floor(places if reach else places + 0.5)
    taps = first + np.arange(min(1 - reach, 0), reach + 1)[:, None]
    is_inside = (taps >= 0) & (taps < length)
    weights = np.where(is_inside, _kernel(np.abs(taps - places), interpolation), 0)
    weights /= weights.sum(axis=0)
    return np.clip(taps, 0, length - 1).astype(int), weights.astype(np.float32)


def _kernel(distance: np.ndarray, interpolation: str) -> np.ndarray:
    if interpolation == "nearest":
        return np.ones_like(distance)
    if interpolation == "bilinear":
        return 1 - distance
    if interpolation == "lanczos3":
        return np.sinc(distance) * np.sinc(distance / 3)
    # Keys' cubic convolution with a = -1/2.
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance <= 1, near, far)


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
