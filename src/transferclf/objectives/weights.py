"""Weights of samples and of classes, in the words of scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.utils import compute_class_weight

from transferclf._checks import check_choice
from transferclf._spelling import did_you_mean
from transferclf.exceptions import InvalidParameterError


def check_sample_weight(weights: object, n_samples: int, name: str = "sample_weight") -> np.ndarray:
    """Return weights as float64 of shape (n_samples,); None is a weight of one each."""
    if weights is None:
        return np.ones(n_samples)
    values = _floats(name, weights)
    if values.shape != (n_samples,):
        raise InvalidParameterError(
            f"{name} must have shape ({n_samples},), one weight per image. "
            f"Got {values.shape} instead."
        )
    if not np.isfinite(values).all() or values.min() < 0 or values.max() == 0:
        raise InvalidParameterError(
            f"{name} must be finite, nowhere negative and not zero everywhere. "
            f"Got values from {values.min()} to {values.max()} instead."
        )
    return values


def _floats(name: str, values: object) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidParameterError(f"{name} must hold numbers. Got {values!r} instead.") from None


def class_weights(
    class_weight: str | Mapping | None, classes: np.ndarray, indices: np.ndarray
) -> np.ndarray | None:
    """Return a factor for each class by scikit-learn's `class_weight`, or None."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, (None, "balanced", "a dict"))
        return compute_class_weight("balanced", classes=np.arange(len(classes)), y=indices)
    if not isinstance(class_weight, Mapping):
        raise InvalidParameterError(
            f"class_weight must be None, 'balanced' or a dict. Got {class_weight!r} instead."
        )
    unknown = set(class_weight) - set(classes.tolist())
    if unknown:
        raise InvalidParameterError(
            f"class_weight names classes that y has not: {sorted(unknown, key=str)}; "
            f"y has {classes.tolist()}.{did_you_mean(sorted(unknown, key=str), classes.tolist())}"
        )
    weights = _floats("class_weight", [class_weight.get(label, 1.0) for label in classes.tolist()])
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InvalidParameterError(
            "class_weight must be finite, nowhere negative and not zero for all classes. "
            f"Got {class_weight}."
        )
    return weights
