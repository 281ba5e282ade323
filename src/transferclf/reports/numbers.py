"""Numbers as targets: checks of y, names of the outputs, and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf.estimators.transfer import TransferEstimator
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.predictions import objective_of, unwrapped


@dataclass(frozen=True)
class NumberPredictions:
    """Predicted numbers, shape (n, n_outputs), and the names of the outputs."""

    outputs: np.ndarray
    y_pred: np.ndarray


def numbers_of(y: object, n_samples: int | None = None, what: str = "y") -> np.ndarray:
    """Return y as finite floats of shape (n, n_outputs); raise ValueError for other values."""
    if y is None:
        raise InvalidParameterError(f"Expected {what} of one number per sample. Got None instead.")
    try:
        values = np.asarray(y)
        values = values.astype(float) if values.dtype.kind in "biufO" else np.empty(())
    except (TypeError, ValueError):
        values = np.empty(())
    if values.ndim == 0:
        raise ValueError(f"{what} must hold numbers of shape (n,). Got {y!r:.100} instead.")
    if values.ndim not in (1, 2) or 0 in values.shape:
        raise ValueError(
            f"{what} must be numbers of shape (n,) or (n, n_outputs). Got shape {values.shape}."
        )
    if n_samples is not None and len(values) != n_samples:
        raise ValueError(
            f"X and {what} must have one target per image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {len(values)} targets."
        )
    table = values.reshape(len(values), -1)
    wrong = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{what} must be finite numbers. Got {len(wrong)} of {len(table)} that are NaN or "
            f"infinite, the first at index {wrong[0]}. Leave these images out."
        )
    return table


def output_names_of(estimator: Any, y: object, n_outputs: int) -> np.ndarray:
    """Return the names of the outputs: of the estimator, or of the columns of y, or numbers."""
    last = unwrapped(estimator)[1]
    if isinstance(last, TransferEstimator):
        names = objective_of(last).output_names()
        if len(names) == n_outputs:
            return names
    return column_names(y, n_outputs)


def column_names(y: object, n_outputs: int) -> np.ndarray:
    """Return the names of the columns of a data frame or series, or their numbers."""
    columns = getattr(y, "columns", None)
    if columns is None and n_outputs == 1 and isinstance(getattr(y, "name", None), str):
        columns = [y.name]  # type: ignore[attr-defined]
    if columns is None or len(columns) != n_outputs:
        return np.arange(n_outputs)
    return np.array([str(name) for name in columns])


def number_predictions_of(estimator: Any, X: object, y: object) -> NumberPredictions:
    """Return the predictions of any fitted regressor."""
    check_is_fitted(estimator)
    y_pred = numbers_of(estimator.predict(X), what="the predictions")
    return NumberPredictions(output_names_of(estimator, y, y_pred.shape[1]), y_pred)
