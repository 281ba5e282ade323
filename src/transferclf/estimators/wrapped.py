"""The estimators inside of pipelines, searches and frozen estimators, and what goes into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from transferclf.exceptions import ImageError
from transferclf.images.single import refuse_single_image


def unwrapped(estimator: BaseEstimator) -> tuple[list[Pipeline], BaseEstimator]:
    """Return the steps that transform X, and the last estimator after them.

    The last estimator is looked for inside of pipelines, searches and frozen estimators.
    """
    steps: list[Pipeline] = []
    while True:
        if isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif isinstance(estimator, Pipeline) and estimator.steps:
            if len(estimator.steps) > 1:
                steps.append(estimator[:-1])
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return steps, estimator


def through(steps: Sequence[Pipeline], X: Any) -> Any:
    """Return X transformed by these steps."""
    for step in steps:
        X = step.transform(X)
    return X


def taken(values: Any, positions: np.ndarray) -> Any:
    """Return the values at these positions: of an array, table, sparse matrix or sequence."""
    if hasattr(values, "iloc"):
        return values.iloc[positions]
    values = values.tocsr() if hasattr(values, "tocsr") else values
    return values[positions] if hasattr(values, "shape") else [values[i] for i in positions]


def n_samples_of(X: object) -> int:
    """Return the number of samples in X; an X without a length is an ImageError."""
    refuse_single_image(X)
    # An iterator with a length may be asked for an array without end.
    if not hasattr(X, "shape") and not hasattr(X, "__len__") and hasattr(X, "__array__"):
        X = np.asarray(X)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 0:
        return int(shape[0])
    if not hasattr(X, "__len__"):
        raise ImageError(f"X must be a sequence or an array. Got one {type(X).__name__} instead.")
    return len(X)
