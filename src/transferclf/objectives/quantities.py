"""Checks of numbers as targets, and their mean and deviation."""

from __future__ import annotations

from typing import Any

import numpy as np

from transferclf.exceptions import warn

# A deviation within this part of the largest value is rounding.
ROUNDING = 10 * np.finfo(float).eps


def checked_numbers(y: Any, n_samples: int) -> tuple[np.ndarray, tuple[str, ...] | None, bool]:
    """Return y as float64 of shape (n, n_outputs), names of the outputs, and whether y was 1-D.

    ValueError is raised unless y has one or several finite numbers for each image.
    """
    if y is None:
        raise ValueError("TransferRegressor requires y to be passed, but the target y is None.")
    if hasattr(y, "toarray"):
        raise ValueError("y must be dense. Got a sparse matrix: pass y.toarray().")
    table = _as_floats(y)
    if table.ndim not in (1, 2) or 0 in table.shape[1:]:
        raise ValueError(
            "y must be numbers of shape (n,) or (n, n_outputs), with n_outputs of at least 1. "
            f"Got shape {table.shape} instead."
        )
    if len(table) != n_samples:
        raise ValueError(
            "X and y must have one target per image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {len(table)} targets."
        )
    is_flat, table = table.ndim == 1, table.reshape(n_samples, -1)
    _refuse_not_finite(table)
    return table, _names_of(y, table.shape[1]), is_flat


def _as_floats(y: Any) -> np.ndarray:
    """Return y as float64, NaN where it is masked or None; text is no number, also "1"."""
    if np.ma.isMaskedArray(y):
        y = np.where(np.ma.getmaskarray(y), np.nan, np.ma.getdata(y))
    try:
        values = np.asarray(y)
    except ValueError:
        raise ValueError(
            "y must have as many numbers for each image. Got rows of different lengths."
        ) from None
    if values.ndim == 0:
        raise ValueError(f"y must be one target per image. Got one {type(y).__name__} instead.")
    if values.dtype == object:
        values = _objects_as_floats(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(
            f"y must be numbers. Got values of type {values.dtype}, such as "
            f"{values.ravel()[:1].tolist()!r:.60}. TransferClassifier learns classes."
        )
    return values.astype(np.float64)


def _objects_as_floats(values: np.ndarray) -> np.ndarray:
    """Return an array of objects as floats; raise ValueError for what is no number."""
    floats = np.empty(values.shape)
    for place, value in np.ndenumerate(values):
        is_missing = value is None or type(value).__name__ in ("NAType", "NaTType")
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            floats[place] = np.nan if is_missing else float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"y must be numbers. Got {value!r:.60} at index {place[0]} instead."
            ) from None
    return floats


def _refuse_not_finite(table: np.ndarray) -> None:
    for what, found in {"NaN": np.isnan(table), "infinity": np.isinf(table)}.items():
        rows = np.flatnonzero(found.any(axis=1))
        if len(rows):
            raise ValueError(
                # The first words are scikit-learn's.
                f"Input y contains {what}{' or a value too large' if what != 'NaN' else ''}: the "
                f"targets of {len(rows)} of {len(table)} images, the first at index {rows[0]}. "
                "Correct them or leave these images out."
            )


def _names_of(y: Any, n_outputs: int) -> tuple[str, ...] | None:
    """Return the names of the columns of a data frame, or of a series that has a name."""
    columns = getattr(y, "columns", None)
    if columns is None:
        name = getattr(y, "name", None)
        columns = [name] if isinstance(name, str) else None
    names = None if columns is None else tuple(str(name) for name in columns)
    return names if names is not None and len(names) == n_outputs else None


def mean_and_scale(table: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and deviation of each output; 0 is the deviation of a constant one."""
    kept = table[weights > 0]
    shares = weights[weights > 0] / weights.max()
    shares /= shares.sum()
    largest = np.abs(kept).max(axis=0)
    unit = np.where(largest > 0, largest, 1.0)  # squares of huge numbers would overflow
    parts = kept / unit
    mean = shares @ parts
    scale = np.sqrt(shares @ (parts - mean) ** 2)
    is_same = (kept == kept[0]).all(axis=0)
    scale = np.where(is_same | (scale <= ROUNDING), 0.0, scale * unit)
    return np.where(is_same, kept[0], mean * unit), scale


def warn_of_constants(scale: np.ndarray, names: tuple[str, ...] | None) -> None:
    """Warn once if an output is constant."""
    constant = np.flatnonzero(scale == 0)
    if not len(constant):
        return
    of = ""
    if len(scale) > 1:
        shown = [repr(names[i]) if names else str(i) for i in constant[:10]]
        of = f" in {len(constant)} of {len(scale)} outputs ({', '.join(shown)})"
    warn(f"y is constant{of}: there is nothing to learn, and this constant is predicted")
