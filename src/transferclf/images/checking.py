"""Checks of X that need no decoding: its kind, and shapes and values of arrays."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Sequence
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images.pixels import CHANNELS, DtypeRange, PixelRange, is_wide, value_problem
from transferclf.images.places import Place, place_of
from transferclf.images.problems import Problem
from transferclf.images.single import refuse_single_image

if TYPE_CHECKING:
    from transferclf.images.lazy_arrays import LazyArray

# Texts, bytes and places are encoded images.
Item = str | bytes | Place | Image.Image | np.ndarray
ImageShape = tuple[int, ...] | Literal["infer"] | None

KINDS = (
    "an array (n, h, w) or (n, h, w, 1|3|4), rows (n, h*w*c) with image_shape=(h, w[, c]), "
    "or a sequence of paths, URLs, bytes of image files, PIL images or arrays"
)

_APART = (
    "pass images and labels apart: X = [image for image, label in data] and "
    "y = [label for image, label in data]; transferclf.load_image_dataset does it without reading "
    "all of them"
)
_BATCHES_APART = (
    "pass images and labels apart: where it gives batches, "
    "X = np.concatenate([images for images, labels in data]) and "
    "y = np.concatenate([labels for images, labels in data]); transferclf.load_image_dataset does "
    "it for large ones, and for folders there is transferclf.load_image_folder, which gives paths "
    "and labels"
)


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


def images_of_rows(rows: np.ndarray | LazyArray, image_shape: ImageShape) -> np.ndarray | LazyArray:
    """Return rows of numbers as images of a given or inferred shape."""
    if rows.shape[1] == 0:
        raise ImageError(
            f"X has 0 feature(s) (shape={rows.shape}) while a minimum of 1 is required."
        )
    if image_shape is None:
        raise ImageError(
            f"X is 2-D with shape {rows.shape}: rows are images only with image_shape=(h, w) or "
            "(h, w, c), for instance image_shape=(28, 28) for rows of 784, or with "
            "image_shape='infer'. If X is one gray image, pass it in a list, [image]."
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


def extremes_of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest value of each of n images without alpha, (n,) each."""
    colours = images[..., :3] if images.ndim == 4 else images
    inner = tuple(range(1, images.ndim))
    return colours.min(axis=inner), colours.max(axis=inner)


def has_any_values(dtype: np.dtype, pixel_range: PixelRange) -> bool:
    """Whether images of this type may have values that no image can have."""
    return is_wide(dtype) or type(pixel_range) is tuple


def value_problems(
    lows: np.ndarray, highs: np.ndarray, dtype: np.dtype, pixel_range: PixelRange
) -> list[Problem]:
    """Return the faults of all images with such smallest and largest values as no image has."""
    low, high = limits = _least_limits(pixel_range)
    with np.errstate(invalid="ignore"):
        is_inside = (lows >= low) & (highs <= high) & np.isfinite(lows) & np.isfinite(highs)
    problems = []
    for place in np.flatnonzero(~is_inside):
        text = value_problem(float(lows[place]), float(highs[place]), limits, dtype)
        if text is not None:
            problems.append(Problem(int(place), ImageError(text)))
    return problems


def checked_item(item: object, pixel_range: PixelRange) -> Item:
    """Return one item of a sequence as a source keeps it, or raise ImageError."""
    if isinstance(item, Image.Image):
        return item
    if not isinstance(item, np.ndarray) and (place := place_of(item)) is not None:
        if (problem := place.problem()) is not None:
            raise problem
        return cast(Item, place.item)
    if not hasattr(item, "__array__") or np.ndim(item) == 0:
        raise item_error(item)
    array = np.asarray(item)
    if array.dtype.kind not in "biuf":
        raise ImageError(f"expected real numbers, got an array of {array.dtype}")
    if fault := shape_problem(array.shape):
        raise ImageError(f"expected (h, w) or (h, w, 1|3|4) pixels; {fault}")
    if has_any_values(array.dtype, pixel_range):
        colours = colours_of(array)
        low, high = float(colours.min()), float(colours.max())
        if text := value_problem(low, high, _least_limits(pixel_range), array.dtype):
            raise ImageError(text)
    return array


def _least_limits(pixel_range: PixelRange) -> tuple[float, float]:
    """Return the limits that are known before the range is decided."""
    if pixel_range is None or isinstance(pixel_range, DtypeRange):
        return (0, np.inf)
    return (-np.inf, np.inf) if isinstance(pixel_range, str) else pixel_range


def colours_of(image: np.ndarray) -> np.ndarray:
    """Return the channels to which `pixel_range` applies: all but alpha."""
    return image[..., :3] if image.ndim == 3 else image


def check_kind(X: Any) -> None:
    """Raise ImageError where X cannot be images, before NumPy would read all of it."""
    refuse_single_image(X)
    got = _wrong_kind(X)
    if not (got or hasattr(X, "__array__") or hasattr(X, "iloc")):
        with suppress(Exception):  # later checks raise the error
            if is_pair(X[0]):
                got = f"{type(X).__name__} of pairs of an image and a label; {_APART}."
    if got is not None:
        raise ImageError(f"X must be {KINDS}. Got {got}")


def _wrong_kind(X: object) -> str | None:
    """Describe an X that is no sequence of images or array, else None."""
    name = type(X).__name__
    if isinstance(X, list | tuple | np.ndarray):
        return None
    if hasattr(X, "toarray"):
        return "a sparse matrix; pass X.toarray()."
    if is_iterator(X):
        return f"{name}, which is an iterator and may never end; {_BATCHES_APART}."
    # Datasets of TensorFlow, Keras and torch that give batches.
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(X).__mro__}
    if kinds & {"tensorflow.DatasetV2", "keras.PyDataset", "torch.DataLoader", "grain.DataLoader"}:
        return f"{name}; {_BATCHES_APART}."
    is_array_like = hasattr(X, "__array__") or (hasattr(X, "__len__") and hasattr(X, "__getitem__"))
    return None if is_array_like and not isinstance(X, dict) else f"{name} instead."


def is_iterator(X: object) -> bool:
    """Whether X yields its elements only once or without an end, even if it has a length."""
    return hasattr(type(X), "__next__")


def item_error(item: object) -> ImageError:
    """Return the error for an item of a sequence that is no image."""
    if hasattr(item, "read"):
        hint = "; pass the bytes in such files: item.read()"
    elif isinstance(item, dict):
        hint = "; pass the image that is in it, and labels apart"
    else:
        hint = f"; {_APART}" if is_pair(item) else ""
    # The item is shortened, because it may be the contents of a whole file.
    got = f"{type(item).__name__} {reprlib.repr(item)}"
    return ImageError(f"expected a path, a URL, bytes, a PIL image or an array, got {got}{hint}")


def is_pair(item: object) -> bool:
    """Whether an item of a dataset is an image and its label.

    >>> is_pair(("a.png", 3)), is_pair((0.5, 3)), is_pair(["a.png", "b.png"])
    (True, False, False)
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        return False
    image, label = item
    is_path = isinstance(image, str | os.PathLike) and not isinstance(label, str | os.PathLike)
    # Two texts in a tuple are a path and the name of a class. In a list they may be two images.
    is_path |= isinstance(image, str | os.PathLike) and isinstance(item, tuple)
    is_path |= isinstance(image, bytes)
    is_pixels = isinstance(image, Image.Image) or len(getattr(image, "shape", ())) in (2, 3)
    is_label = label is None or isinstance(label, str | int | float | bool | dict)
    # A one-hot label is an array of one dimension.
    is_label |= len(getattr(label, "shape", (0, 0))) <= 1
    return (is_path or is_pixels) and is_label


def row_length(X: Any) -> int | None:
    """Return the length of the rows where X is a table of numbers, one image a row, else None."""
    # A sparse matrix, something possibly endless, or columns that NumPy would read as a whole.
    if hasattr(X, "toarray") or is_iterator(X) or is_encoded_column(X):
        return None
    if isinstance(X, list | tuple):
        X = array_of_rows(X) if is_rows(X) else ()
    table = X if hasattr(X, "shape") else np.asarray(X)
    if len(table.shape) != 2 or 0 in table.shape:
        return None
    first = np.asarray(table[:1])[0, 0]
    return table.shape[1] if _is_number(first) else None


def is_encoded_column(X: object) -> bool:
    """Whether X is a column of Arrow or of a dataset of Hugging Face."""
    return type(X).__module__.partition(".")[0] in ("datasets", "pyarrow")


def is_rows(X: Sequence[object]) -> bool:
    """Whether X is a list of rows of numbers."""
    return (
        len(X) > 0
        and not is_pair(X[0])
        and all(
            isinstance(row, list | tuple | int | float)
            or (isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "biuf")
            for row in X
        )
    )


def array_of_rows(X: Sequence[object]) -> np.ndarray:
    """Return nested lists as an array. All rows must be of one length."""
    try:
        return np.asarray(X)
    except ValueError:
        raise ImageError(f"X must be {KINDS}. Got nested lists of unequal lengths.") from None


def numbers_of_objects(array: np.ndarray) -> np.ndarray:
    """Return an array of objects as numbers, if it holds a table of numbers."""
    if array.ndim < 2 or array.size == 0 or not _is_number(array.flat[0]):
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ImageError(f"X must hold real numbers only: {error}.") from None


def _is_number(value: object) -> bool:
    return isinstance(value, Real | np.bool_)
