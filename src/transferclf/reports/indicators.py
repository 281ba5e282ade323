"""Several labels for each sample: label names, indicators of y, and predictions in one pass."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from transferclf._spelling import did_you_mean
from transferclf.estimators.classifier import TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.label_sets import (
    has_several,
    known_label_sets,
    label_array,
    names_in,
)
from transferclf.reports.predictions import objective_of, of_all_images, unwrapped

THRESHOLD = 0.5  # labels above this probability are predicted, as scikit-learn's classifiers do


@dataclass(frozen=True)
class LabelPredictions:
    """Predictions for n images, with one column for each label.

    `y_pred` is an indicator. `y_score` ranks the images of a label: the probabilities, or else the
    decision function.
    """

    classes: np.ndarray
    y_pred: np.ndarray
    y_proba: np.ndarray | None = None
    y_score: np.ndarray | None = None


def gives_labels(estimator: BaseEstimator, y: object = None) -> bool:
    """Return whether a fitted classifier of scikit-learn's kind gives several labels per sample.

    Where the estimator does not say so, y decides.
    """
    last = unwrapped(estimator)[1]
    classes = getattr(estimator, "classes_", None)
    if isinstance(classes, list):  # one array for each column; those of a table of labels are 0, 1
        return all(np.isin(column, (0, 1)).all() for column in map(_numbers, classes))
    if getattr(last, "multilabel_", False):
        return True
    if hasattr(last, "out_activation_"):  # a perceptron, with one output for two classes
        return bool(last.out_activation_ == "logistic" and last.n_outputs_ > 1)
    tags = getattr(last, "__sklearn_tags__", None)
    takes_labels = tags is not None and getattr(tags().classifier_tags, "multi_label", False)
    return bool(takes_labels) and has_several(y)


def _numbers(column: object) -> np.ndarray:
    values = np.asarray(column)
    return values if values.dtype.kind in "biuf" else np.array([-1])


def names_of(estimator: BaseEstimator, y: object, n_labels: int | None = None) -> np.ndarray:
    """Return the names of the labels: those of the estimator, or of the columns of y, or numbers.

    `n_labels` is the number of columns of the predictions, if it is known.
    """
    last = unwrapped(estimator)[1]
    if isinstance(last, TransferClassifier):
        return objective_of(last).output_names()
    classes = getattr(estimator, "classes_", None)
    count = n_labels if classes is None else len(classes)
    columns = getattr(y, "columns", None)
    if columns is not None and count in (None, len(columns)):
        return label_array(list(columns), "the columns of y")
    if count is None:
        raise InvalidParameterError(
            f"estimator must be a fitted classifier with classes_. Got {type(last).__name__}."
        )
    is_named = isinstance(classes, np.ndarray) and len(classes) == count
    return np.asarray(classes) if is_named else np.arange(count)


def indicators_of(y: object, n_samples: int, names: np.ndarray) -> np.ndarray:
    """Return y as an indicator, int of shape (n_samples, n_labels); raise ValueError for others.

    y is an array, a sparse matrix, a data frame or a sequence of label sets. Columns of a data
    frame that have the names of the labels may be in any order.
    """
    return known_label_sets(y, n_samples, names).astype(int)


def label_names(*several: Any) -> np.ndarray:
    """Return the labels in these y: the columns of the first, or all members of all label sets."""
    parts = [names_in(y) for y in several]
    is_table = hasattr(several[0], "columns") or len(getattr(several[0], "shape", ())) == 2
    return parts[0] if is_table or len(parts) == 1 else np.unique(np.concatenate(parts))


def place_of(label: object, names: np.ndarray) -> int:
    """Return the column of a label; raise InvalidParameterError if there is no such label."""
    known = names.tolist()
    if not isinstance(label, Hashable) or label not in known:
        hint = did_you_mean([label], known) if isinstance(label, Hashable) else ""
        raise InvalidParameterError(f"label must be one of {_few(known)}. Got {label!r}.{hint}")
    return known.index(label)


def _few(names: list[Any]) -> str:
    """Return at most twelve names for a message."""
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{names[:12]!r:.300}{more}"


def label_predictions_of(estimator: Any, X: object, names: np.ndarray) -> LabelPredictions:
    """Return the predictions of any fitted classifier of several labels.

    The network of a TransferClassifier runs once, also in a pipeline or a search.
    """
    last, n_labels = unwrapped(estimator)[1], len(names)
    if hasattr(estimator, "predict_proba"):
        said = of_all_images(estimator.predict_proba(X))
        if isinstance(said, list):
            said = _of_one(said, estimator.classes_)
        y_proba = checked_shares(said, n_labels)
        decides_by_them = (
            isinstance(last, TransferClassifier)
            and type(last).predict is TransferClassifier.predict
            and type(last).predict_proba is TransferClassifier.predict_proba
        )
        if decides_by_them:
            return LabelPredictions(names, objective_of(last).decide(y_proba), y_proba, y_proba)
        return LabelPredictions(names, _predicted(estimator, X, n_labels), y_proba, y_proba)
    y_score = None
    if hasattr(estimator, "decision_function"):
        found = np.asarray(of_all_images(estimator.decision_function(X)), dtype=float)
        y_score = found if found.shape[1:] == (n_labels,) else None
    return LabelPredictions(names, _predicted(estimator, X, n_labels), None, y_score)


def _predicted(estimator: Any, X: object, n_labels: int) -> np.ndarray:
    said = estimator.predict(X)
    y_pred = np.asarray(said.toarray() if hasattr(said, "toarray") else said)
    if y_pred.ndim != 2 or y_pred.shape[1] != n_labels or not np.isin(y_pred, (0, 1)).all():
        raise InvalidParameterError(
            f"estimator must predict an indicator of shape (n, {n_labels}), as y is. "
            f"{type(estimator).__name__} gives {y_pred.dtype} of shape {y_pred.shape}."
        )
    return y_pred.astype(int)


def _of_one(several: list[np.ndarray], classes: list[np.ndarray]) -> np.ndarray:
    """Return the probability of 1 for each label, from a list with an array for each label."""
    columns = []
    for proba, known in zip(several, classes, strict=True):
        ones = np.flatnonzero(np.asarray(known) == 1)
        columns.append(proba[:, ones[0]] if len(ones) else np.zeros(len(proba)))
    return np.column_stack(columns)


def checked_shares(y_proba: object, n_labels: int) -> np.ndarray:
    """Return probabilities of labels, shape (n, n_labels); raise ValueError for other values."""
    values = np.asarray(y_proba)
    if values.ndim != 2 or values.shape[1] != n_labels or values.dtype.kind not in "fiub":
        raise ValueError(
            f"Probabilities must be numbers of shape (n, {n_labels}), one column for each label. "
            f"Got {values.dtype} of shape {values.shape} instead."
        )
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"Probabilities must be numbers from 0 to 1. Got {wrong.sum()} of {len(values)} rows "
            f"that are not, the first at index {first}: {values[first][:5].tolist()}."
        )
    return values
