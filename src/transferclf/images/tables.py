"""X as a table of numbers: rows of pixels, one image a row."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.kinds import KINDS, is_iterator, is_pair


def row_length(X: Any) -> int | None:
    """Return the length of the rows where X is a table of numbers, one image a row, else None."""
    if hasattr(X, "toarray") or is_iterator(X):  # a sparse matrix, or what may never end
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
