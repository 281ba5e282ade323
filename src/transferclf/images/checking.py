"""Checks of images that need no decoding: kinds, shapes and values of arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images.files import path_problem
from transferclf.images.kinds import item_error
from transferclf.images.pixels import CHANNELS, DtypeRange, PixelRange, is_wide, value_problem
from transferclf.images.problems import Problem, raise_problems

# In a pickled source, bytes are the contents of a file.
Item = str | bytes | Image.Image | np.ndarray
ImageShape = tuple[int, ...] | Literal["infer"] | None


def check_image_shape(image_shape: Any) -> ImageShape:
    """Return `image_shape` as a tuple (h, w) or (h, w, c) of integers, "infer" or None."""
    if image_shape is None:
        return None
    if isinstance(image_shape, str) and image_shape == "infer":
        return "infer"
    try:
        shape = tuple(int(side) for side in image_shape)
    except (TypeError, ValueError, OverflowError):
        shape = ()
    right = len(shape) in (2, 3) and min(shape) > 0 and shape[2:] in ((), (1,), (3,), (4,))
    if not right or any(side != given for side, given in zip(shape, image_shape, strict=True)):
        raise InvalidParameterError(
            "image_shape must be (h, w) or (h, w, c) with positive sides and 1, 3 or 4 channels, "
            f"'infer' or None. Got {image_shape!r} instead."
        )
    return shape


def inferred_shape(length: int) -> tuple[int, ...]:
    """Return the shape of the image in a row of this length, for image_shape="infer".

    A square number gives a square gray image, three times a square number a square RGB image. Any
    other length gives a strip of gray pixels.

    >>> inferred_shape(784), inferred_shape(3072), inferred_shape(30)
    ((28, 28), (32, 32, 3), (1, 30))
    """
    for channels in ((), (3,)):
        side = math.isqrt(length // math.prod(channels))
        if math.prod((side, side, *channels)) == length:
            return (side, side, *channels)
    return (1, length)


def images_of_rows(rows: np.ndarray, image_shape: ImageShape) -> np.ndarray:
    """Return rows of numbers as images of a given or inferred shape."""
    if rows.shape[1] == 0:
        raise ImageError(
            f"X has 0 feature(s) (shape={rows.shape}) while a minimum of 1 is required."
        )
    if image_shape is None:
        raise ImageError(
            f"X is 2-D with shape {rows.shape}: rows are images only with image_shape=(h, w) or "
            "(h, w, c), for instance image_shape=(28, 28) for rows of 784, or with "
            "image_shape='infer'."
        )
    if image_shape == "infer":
        image_shape = inferred_shape(rows.shape[1])
    if rows.shape[1] != np.prod(image_shape):
        raise ImageError(
            f"X has {rows.shape[1]} features a row, but image_shape={image_shape} is expecting "
            f"{np.prod(image_shape)} features."
        )
    return rows.reshape(len(rows), *image_shape)


def batch_problem(shape: tuple[int, ...]) -> str | None:
    """Return the fault of an array of images with this shape, or None."""
    if len(shape) == 1:
        return f"got 1-D of shape {shape}. Reshape your data: X.reshape(1, -1) is one row"
    if len(shape) not in (3, 4):
        return f"got {len(shape)}-D of shape {shape}"
    if len(shape) == 3 and shape[2] in (3, 4):
        # As n gray images these would be strips 3 or 4 pixels wide, which nobody classifies.
        return (
            f"got shape {shape}, which looks like one image: pass X[None], or X[..., None] if "
            f"these are {shape[0]} gray images"
        )
    return shape_problem(shape[1:])


def shape_problem(shape: tuple[int, ...]) -> str | None:
    """Return the fault of one image with this shape, or None."""
    if len(shape) not in (2, 3) or min(shape) == 0:
        return f"got an image of shape {shape}"
    if len(shape) == 3 and shape[2] not in CHANNELS:
        hint = ""
        if shape[0] in CHANNELS:
            hint = "; channels come last here: np.moveaxis(image, 0, -1) puts them there"
        return f"got an image of shape {shape} with {shape[2]} channels{hint}"
    return None


def check_values_of_batch(array: np.ndarray, pixel_range: PixelRange) -> None:
    """Raise ImageError, naming all images whose values no image can have."""
    faults = _impossible_values(array, pixel_range)
    raise_problems([Problem(place, ImageError(text)) for place, text in faults], len(array))


def checked_item(item: object, pixel_range: PixelRange) -> Item:
    """Return one item of a sequence as a path, a PIL image or an array, or raise ImageError."""
    if isinstance(item, str | os.PathLike):
        path = os.fsdecode(item)
        if (problem := path_problem(path)) is not None:
            raise problem
        return path
    if isinstance(item, Image.Image):
        return item
    if not hasattr(item, "__array__") or np.ndim(item) == 0:
        raise item_error(item)
    array = np.asarray(item)
    if array.dtype.kind not in "biuf":
        raise ImageError(f"expected real numbers, got an array of {array.dtype}")
    if fault := shape_problem(array.shape):
        raise ImageError(f"expected (h, w) or (h, w, 1|3|4) pixels; {fault}")
    for _, text in _impossible_values(array[None], pixel_range):
        raise ImageError(text)
    return array


def colours_of(images: np.ndarray, n_axes: int = 3) -> np.ndarray:
    """Return the channels to which `pixel_range` applies: all but alpha."""
    return images[..., :3] if images.ndim == n_axes else images


def _impossible_values(images: np.ndarray, pixel_range: PixelRange) -> Iterator[tuple[int, str]]:
    """Yield the position and the fault of each image with values that no image can have."""
    is_given = type(pixel_range) is tuple
    if not is_wide(images.dtype) and not is_given:
        return
    limits: tuple[float, float] | None
    if pixel_range is None or isinstance(pixel_range, DtypeRange):
        limits = (0, np.inf)  # the upper end is checked when the range is decided
    else:
        limits = None if isinstance(pixel_range, str) else pixel_range
    colours = colours_of(images, 4)
    inner = tuple(range(1, images.ndim))
    lows, highs = colours.min(axis=inner), colours.max(axis=inner)
    low, high = limits or (-np.inf, np.inf)
    with np.errstate(invalid="ignore"):
        is_inside = (lows >= low) & (highs <= high) & np.isfinite(lows) & np.isfinite(highs)
    for place in np.flatnonzero(~is_inside):
        text = value_problem(float(lows[place]), float(highs[place]), limits, images.dtype)
        if text is not None:
            yield int(place), text
