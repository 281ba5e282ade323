"""The kinds of X, and the messages where X is something else. Nothing is read to find that out."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, warn

KINDS = (
    "an array (n, h, w) or (n, h, w, 1|3|4), rows (n, h*w*c) with image_shape=(h, w[, c]), "
    "or a sequence of paths, PIL images or arrays"
)

_APART = (
    "pass images and labels apart: X = [image for image, label in data] and "
    "y = [label for image, label in data]"
)
_BATCHES_APART = (
    "pass images and labels apart: where it gives batches, "
    "X = np.concatenate([images for images, labels in data]) and "
    "y = np.concatenate([labels for images, labels in data]); for folders there is "
    "transferclf.load_image_folder, which gives paths and labels"
)

# Libraries whose arrays are not in memory. NumPy's memmap is none of them: it is read as needed.
_LAZY_ARRAYS = {"dask", "h5py", "netCDF4", "tensorstore", "zarr"}


def refuse_what_is_no_sequence(X: Any) -> None:
    """Raise ImageError where X cannot be images, before NumPy would try to read all of it.

    That is one image or path, an iterator (which may never end), a dataset of pairs of image and
    label, a dict, or anything without a length.
    """
    if isinstance(X, str | os.PathLike | bytes | Image.Image):
        hint = "pass a list with this one in it"
        if isinstance(X, str | os.PathLike) and os.path.isdir(X):
            hint = "transferclf.load_image_folder reads a folder"
        raise ImageError(f"X must be {KINDS}. Got one {type(X).__name__}; {hint}.")
    if not isinstance(X, list | tuple | np.ndarray):
        _refuse_others(X)
    if _holds_pairs(X):
        raise ImageError(
            f"X must be {KINDS}. Got {type(X).__name__} of pairs of an image and a label; {_APART}."
        )


def _refuse_others(X: Any) -> None:
    """Raise ImageError where X is neither a list nor an array, and cannot be taken for one."""
    if hasattr(X, "toarray"):
        raise ImageError(f"X must be {KINDS}. Got a sparse matrix; pass X.toarray().")
    if is_iterator(X):
        raise ImageError(
            f"X must be {KINDS}. Got {type(X).__name__}, which is an iterator and may never end; "
            f"{_BATCHES_APART}."
        )
    if _gives_batches(X):
        raise ImageError(f"X must be {KINDS}. Got {type(X).__name__}; {_BATCHES_APART}.")
    is_array_like = hasattr(X, "__array__") or (hasattr(X, "__len__") and hasattr(X, "__getitem__"))
    if not is_array_like or isinstance(X, dict):
        raise ImageError(f"X must be {KINDS}. Got {type(X).__name__} instead.")


def is_iterator(X: Any) -> bool:
    """Whether X yields its elements only once or for ever, whatever length it claims to have."""
    return hasattr(type(X), "__next__")


def warn_if_read_whole(X: Any) -> None:
    """Warn where X is an array on disk or of lazy computations, which is read into memory whole."""
    library = type(X).__module__.partition(".")[0]
    if library in _LAZY_ARRAYS and hasattr(X, "shape") and hasattr(X, "dtype"):
        size = np.prod(X.shape, dtype=float) * getattr(X.dtype, "itemsize", 1)
        warn(
            f"X is an array of {library} and is read into memory as a whole ({size / 1e6:,.1f} MB)."
            " Where that is too much, pass parts of it, or image files"
        )


def item_error(item: Any) -> ImageError:
    """Return the error for an item of a sequence that is no image."""
    # Shortened: it may be the contents of a whole file.
    got = f"{type(item).__name__} {reprlib.repr(item)}"
    hint = _hint(item)
    return ImageError(
        f"expected a path, a PIL image or an array, got {got}{f'; {hint}' if hint else ''}"
    )


def _hint(item: Any) -> str:
    if isinstance(item, bytes | bytearray | memoryview):
        return "open such bytes first: PIL.Image.open(io.BytesIO(item))"
    if hasattr(item, "read"):
        return "open such files first: PIL.Image.open(item)"
    if isinstance(item, dict):
        return "pass the image that is in it, and labels apart"
    if is_pair(item):
        return _APART
    return ""


def is_pair(item: Any) -> bool:
    """Whether an item is an image and its label, as datasets hold them.

    >>> is_pair(("a.png", 3)), is_pair((0.5, 3)), is_pair(["a.png", "b.png"])
    (True, False, False)
    """
    if not isinstance(item, tuple | list) or len(item) != 2:
        return False
    image, label = item
    is_path = isinstance(image, str | os.PathLike) and not isinstance(label, str | os.PathLike)
    # Two paths in a tuple are a path and the name of a class; in a list they may be two images.
    is_path |= isinstance(image, str | os.PathLike) and isinstance(item, tuple)
    is_pixels = isinstance(image, Image.Image) or len(getattr(image, "shape", ())) in (2, 3)
    return (is_path or is_pixels) and _is_label(label)


def _is_label(label: Any) -> bool:
    # One-hot labels are short arrays of one dimension.
    is_plain = label is None or isinstance(label, str | int | float | bool | dict)
    return is_plain or len(getattr(label, "shape", (0, 0))) <= 1


def _gives_batches(X: Any) -> bool:
    """Whether X is a dataset of TensorFlow, Keras or torch that hands out batches."""
    names = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(X).__mro__}
    return not names.isdisjoint(
        {"tensorflow.DatasetV2", "keras.PyDataset", "torch.DataLoader", "grain.DataLoader"}
    )


def _holds_pairs(X: Any) -> bool:
    if hasattr(X, "__array__") or hasattr(X, "iloc"):
        return False
    try:
        return len(X) > 0 and is_pair(X[0])
    except Exception:  # later checks say what is wrong with it
        return False


def row_length(X: Any) -> int | None:
    """Return the length of the rows where X is a table of numbers, one image a row, else None."""
    if hasattr(X, "toarray") or is_iterator(X):  # a sparse matrix, or without an end
        return None
    if isinstance(X, list | tuple):
        X = array_of_rows(X) if is_rows(X) else ()
    table = X if hasattr(X, "shape") else np.asarray(X)
    if len(table.shape) != 2 or 0 in table.shape:
        return None
    first = np.asarray(table[:1])[0, 0]
    return table.shape[1] if _is_number(first) else None


def is_rows(X: Sequence[Any]) -> bool:
    """Whether X is rows of numbers in a list, as scikit-learn accepts them."""
    return (
        len(X) > 0
        and not is_pair(X[0])
        and all(isinstance(row, list | tuple | int | float) or _is_row(row) for row in X)
    )


def array_of_rows(X: Sequence[Any]) -> np.ndarray:
    """Return nested lists as an array. All rows must be of one length."""
    try:
        return np.asarray(X)
    except ValueError:
        raise ImageError(f"X must be {KINDS}. Got nested lists of unequal lengths.") from None


def numbers_of_objects(array: np.ndarray) -> np.ndarray:
    """Return numbers that came as Python objects, as in tables with columns of several types."""
    if array.ndim < 2 or array.size == 0 or not _is_number(array.flat[0]):
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ImageError(f"X must hold real numbers only: {error}.") from None


def _is_row(item: Any) -> bool:
    return isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind in "biuf"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.bool_)
