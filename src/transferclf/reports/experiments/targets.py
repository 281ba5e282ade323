"""The targets of experiments in a form that can be taken apart into folds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import is_regressor

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.label_sets import has_several
from transferclf.objectives.registry import kind_of
from transferclf.reports.experiments.values import digest_of
from transferclf.reports.indicators import indicators_of, label_names
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS
from transferclf.reports.numbers import numbers_of
from transferclf.reports.predictions import check_is_of_classes, n_samples_of
from transferclf.reports.tables import extra


def kind_of_experiments(estimators: Iterable[object], y: Any) -> str:
    """Return the kind of target: numbers for regressors, else labels or classes by y."""
    are_regressors = [is_regressor(estimator) for estimator in estimators]
    if all(are_regressors):
        return NUMBERS
    if any(are_regressors):
        raise InvalidParameterError(
            "estimators must be all regressors or all classifiers. Got both: run them apart."
        )
    kind = kind_of(y)
    if kind.kind not in (CLASSES, LABELS, NUMBERS):
        check_is_of_classes(kind, "run_experiments")
    return LABELS if has_several(y) else CLASSES


def checked_targets(X: object, y: Any, name: str, kind: str, known: Any = None) -> Any:
    """Return y as an array or, where labels or outputs have names, as a data frame.

    `known` are the targets that y has to go with, where there are any.
    """
    n_samples = n_samples_of(X)
    if kind == CLASSES:
        labels = np.asarray(y)
        if labels.shape != (n_samples,):
            raise InvalidParameterError(
                f"y must hold one label for each of the {n_samples} samples of {name}. "
                f"Got shape {labels.shape} instead."
            )
        return labels
    if kind == LABELS:
        names = label_names(y if known is None else known)
        table = indicators_of(y, n_samples, names)
        is_named = names.dtype.kind not in "iu"
    else:
        table, names = numbers_of(y, n_samples)
        is_named = hasattr(y, "columns")
        if not is_named and np.ndim(y) == 1:
            return table[:, 0]
    return extra("pandas").DataFrame(table, columns=names.tolist()) if is_named else table


def taken(items: Any, positions: np.ndarray) -> Any:
    """Return the samples at these positions, of an array, a data frame or a list."""
    if hasattr(items, "iloc"):
        return items.iloc[positions]
    is_list = isinstance(items, list | tuple)
    return [items[i] for i in positions] if is_list else items[positions]


def target_digest(y: Any) -> str:
    """Return the SHA-256 of targets that `checked_targets` returned."""
    values = np.asarray(y)
    if values.ndim == 1 and values.dtype.kind != "f":
        return digest_of([f"{type(label).__name__} {label}" for label in values.tolist()])
    names = [f"{type(name).__name__} {name}" for name in getattr(y, "columns", [])]
    content = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return digest_of([names, list(values.shape), content])
