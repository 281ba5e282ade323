"""Predictions of a fitted classifier in one pass, and the estimators inside of others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from transferclf.estimators.classifier import TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.objectives.labels import known_targets

# How far from one the probabilities of an image may sum up: those of float16 still pass.
TOLERANCE = 5e-3


@dataclass(frozen=True)
class Predictions:
    """Predictions for n images, with one column for each class.

    `y_score` ranks the classes: the probabilities, or else the decision function.
    """

    classes: np.ndarray
    y_pred: np.ndarray
    y_proba: np.ndarray | None = None
    y_score: np.ndarray | None = None


def predictions_of(estimator: Any, X: Any) -> Predictions:
    """Return the predictions of any fitted classifier.

    A TransferClassifier, also the last step of a pipeline or the best of a search, is asked once,
    and predicts the class with the highest probability, as its `predict` does. Others may predict
    another class, and are asked for both.
    """
    classes = classes_of(estimator)
    if hasattr(estimator, "predict_proba"):
        y_proba = checked_probabilities(estimator.predict_proba(X), len(classes))
        if predicts_the_most_probable(estimator):
            return Predictions(classes, classes[y_proba.argmax(axis=1)], y_proba, y_proba)
        return Predictions(classes, np.asarray(estimator.predict(X)), y_proba, y_proba)
    y_score = None
    # Scores of pairs of classes do not rank classes. Three classes have three pairs, so that the
    # number of columns does not tell.
    is_of_pairs = getattr(unwrapped(estimator)[1], "decision_function_shape", None) == "ovo"
    if hasattr(estimator, "decision_function") and not (is_of_pairs and len(classes) > 2):
        y_score = _columns(np.asarray(estimator.decision_function(X)), len(classes))
    return Predictions(classes, np.asarray(estimator.predict(X)), None, y_score)


def classes_of(estimator: Any) -> np.ndarray:
    """Return the classes of a fitted classifier of one label per sample."""
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        check_is_fitted(estimator)
    if classes is None or np.ndim(classes) != 1 or isinstance(classes, list):
        raise InvalidParameterError(
            "estimator must be a fitted classifier with one label for each sample, and have "
            f"classes_. Got {type(estimator).__name__} instead."
        )
    return np.asarray(classes)


@contextmanager
def few_of_each_class() -> Iterator[None]:
    """Suppress scikit-learn's warning that many classes of few samples may be a regression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        yield


@few_of_each_class()
def label_indices(labels: Any, n_samples: int, classes: np.ndarray) -> np.ndarray:
    """Return the position of each label in `classes`; an unknown label is a ValueError."""
    if labels is None:
        raise InvalidParameterError("Expected one label per sample. Got None instead.")
    order = np.argsort(classes)
    return order[known_targets(labels, n_samples, classes[order])]


def checked_probabilities(y_proba: Any, n_classes: int) -> np.ndarray:
    """Return probabilities as an array of shape (n, n_classes), or raise ValueError.

    For two classes, those of the second alone will do, shape (n,).
    """
    values = np.asarray(y_proba)
    if values.ndim == 1 and n_classes == 2:
        values = np.column_stack([1 - values, values])
    if values.ndim != 2 or values.shape[1] != n_classes or values.dtype.kind not in "fiub":
        raise ValueError(
            f"Probabilities must be numbers of shape (n, {n_classes}), one column for each class. "
            f"Got {values.dtype} of shape {values.shape} instead."
        )
    wrong = ~((values >= 0) & (values <= 1)).all(axis=1)
    wrong |= ~(np.abs(values.sum(axis=1, dtype=float) - 1) <= TOLERANCE)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            "Probabilities must be numbers from 0 to 1 that sum up to one in each row. "
            f"Got {wrong.sum()} of {len(values)} rows that are not, the first at index {first}: "
            f"{values[first][:5].tolist()}{'' if n_classes <= 5 else ' ...'}."
        )
    return values


def predicts_the_most_probable(estimator: Any) -> bool:
    """Return whether `predict` gives the most probable class, so that it need not be called."""
    last = unwrapped(estimator)[1]
    return (
        isinstance(last, TransferClassifier)
        and type(last).predict is TransferClassifier.predict
        and type(last).predict_proba is TransferClassifier.predict_proba
    )


def unwrapped(estimator: Any) -> tuple[list[Pipeline], Any]:
    """Return the last estimator inside of pipelines, searches and frozen estimators.

    Before it, the steps that transform X for it, one after the other.
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


def transfer_classifier(estimator: Any) -> tuple[list[Pipeline], TransferClassifier]:
    """Return the fitted TransferClassifier inside of an estimator, after the steps before it."""
    steps, last = unwrapped(estimator)
    if not isinstance(last, TransferClassifier):
        raise InvalidParameterError(
            "estimator must be a TransferClassifier, or a pipeline, search or frozen estimator "
            f"that ends in one. Got {_described(estimator, last)} instead."
        )
    check_is_fitted(last)
    return steps, last


def through(steps: list[Pipeline], X: Any) -> Any:
    """Return X transformed by these steps."""
    for step in steps:
        X = step.transform(X)
    return X


def n_samples_of(X: Any) -> int:
    """Return the number of samples in X; an X without a length is an ImageError."""
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) > 0:
        return int(shape[0])
    if not hasattr(X, "__len__") or isinstance(X, str | bytes):
        raise ImageError(f"X must be a sequence or an array. Got one {type(X).__name__} instead.")
    return len(X)


def _described(estimator: Any, last: Any) -> str:
    outer, inner = type(estimator).__name__, type(last).__name__
    return inner if outer == inner else f"{outer} with {inner} inside"


def _columns(y_score: np.ndarray, n_classes: int) -> np.ndarray | None:
    """Return scores with a column for each class; None where there are other columns."""
    if y_score.ndim == 1:
        y_score = np.column_stack([-y_score, y_score])
    return y_score if y_score.shape[1] == n_classes else None
