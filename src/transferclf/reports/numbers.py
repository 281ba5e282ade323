"""Numbers as targets: checks of y, names of the outputs, and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from transferclf.estimators.transfer import TransferEstimator
from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.quantities import checked_numbers
from transferclf.reports.predictions import objective_of, of_all_images, unwrapped


@dataclass(frozen=True)
class NumberPredictions:
    """Predicted numbers, shape (n, n_outputs), and the names of the outputs."""

    outputs: np.ndarray
    y_pred: np.ndarray


def numbers_of(
    y: Any, n_samples: int | None = None, what: str = "y"
) -> tuple[np.ndarray, np.ndarray]:
    """Return y as finite floats of shape (n, n_outputs), and the names of the outputs.

    Outputs without names get numbers. ValueError is raised for other values; `what` names them.
    """
    if y is None:
        raise InvalidParameterError(f"Expected {what} of one number per sample. Got None instead.")
    has_length = hasattr(y, "__len__") and getattr(y, "shape", None) != ()
    count = n_samples if n_samples is not None or not has_length else len(y)
    if has_length and count == 0:
        raise ValueError(f"{what} must have at least one number. Got none.")
    try:
        table, names, _ = checked_numbers(y, count or 0)
    except ValueError as error:
        raise ValueError(str(error) if what == "y" else f"{what}: {error}") from None
    return table, np.arange(table.shape[1]) if names is None else np.array(names)


def number_predictions_of(estimator: Any, X: object, names: np.ndarray) -> NumberPredictions:
    """Return the predictions of any fitted regressor; `names` are for those without names."""
    check_is_fitted(estimator)
    y_pred, numbers = numbers_of(of_all_images(estimator.predict(X)), what="predictions")
    last = unwrapped(estimator)[1]
    known = objective_of(last).output_names() if isinstance(last, TransferEstimator) else numbers
    is_named = known.dtype.kind not in "iu" or len(names) != len(known)
    return NumberPredictions(known if is_named else names, y_pred)
