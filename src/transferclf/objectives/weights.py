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
    weights = _weights_by_name(class_weight, classes, "classes")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise InvalidParameterError(
            "class_weight must be finite, nowhere negative and not zero for all classes. "
            f"Got {class_weight}."
        )
    return weights


def label_weights(
    class_weight: str | Mapping | None, labels: np.ndarray, targets: np.ndarray
) -> np.ndarray | None:
    """Return factors of samples without and with each label, shape (2, k), or None.

    "balanced" is scikit-learn's for each label alone: n / (2 * n_with) and n / (2 * n_without). A
    dict has the weights of samples with a label. `targets` are 0 and 1, shape (n, k).
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        check_choice("class_weight", class_weight, (None, "balanced", "a dict"))
        n_with = targets.sum(axis=0, dtype=float)
        counts = np.stack([len(targets) - n_with, n_with])
        # A label that all samples have weighs 1, as a single class does in scikit-learn.
        n_kinds = (counts > 0).sum(axis=0)
        return len(targets) / (n_kinds * np.maximum(counts, 1))
    weights = _weights_by_name(class_weight, labels, "labels")
    if not np.isfinite(weights).all() or weights.min() <= 0:
        raise InvalidParameterError(
            f"class_weight must be finite and above zero for each label. Got {class_weight}."
        )
    return np.stack([np.ones(len(labels)), weights])


def _weights_by_name(class_weight: object, names: np.ndarray, outputs: str) -> np.ndarray:
    """Return the weight of each class or label in a dict, 1 for those it has not."""
    if not isinstance(class_weight, Mapping):
        raise InvalidParameterError(
            f"class_weight must be None, 'balanced' or a dict. Got {class_weight!r} instead."
        )
    known = names.tolist()
    unknown = sorted(set(class_weight) - set(known), key=str)
    if unknown:
        raise InvalidParameterError(
            f"class_weight names {outputs} that y has not: {unknown}; y has {known}."
            f"{did_you_mean(unknown, known)}"
        )
    return _floats("class_weight", [class_weight.get(name, 1.0) for name in known])
