"""Predictions of a fitted classifier in one pass, and the estimators inside of others."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.transfer import TransferEstimator
from transferclf.estimators.wrapped import n_samples_of as n_samples_of
from transferclf.estimators.wrapped import through as through
from transferclf.estimators.wrapped import unwrapped as unwrapped
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.objectives import Classes, Objective
from transferclf.objectives.labels import known_targets

# How far the probabilities of an image may be from a sum of one. Those of float16 still pass.
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


def predictions_of(estimator: BaseEstimator, X: object) -> Predictions:
    """Return the predictions of any fitted classifier.

    A TransferClassifier predicts the most probable class, so that its network runs once, also at
    the end of a pipeline or inside of a search. Other classifiers may predict another class.
    """
    classes, last = classes_of(estimator), unwrapped(estimator)[1]
    if hasattr(estimator, "predict_proba"):
        y_proba = checked_probabilities(of_all_images(estimator.predict_proba(X)), len(classes))
        predicts_the_most_probable = (
            isinstance(last, TransferClassifier)
            and type(last).predict is TransferClassifier.predict
            and type(last).predict_proba is TransferClassifier.predict_proba
        )
        if predicts_the_most_probable:
            return Predictions(classes, objective_of(last).decide(y_proba), y_proba, y_proba)
        return Predictions(classes, np.asarray(estimator.predict(X)), y_proba, y_proba)
    y_score = None
    # Scores of pairs of classes do not rank classes. Three classes have three pairs, so that the
    # number of columns does not tell.
    is_of_pairs = getattr(last, "decision_function_shape", None) == "ovo"
    if hasattr(estimator, "decision_function") and not (is_of_pairs and len(classes) > 2):
        y_score = np.asarray(of_all_images(estimator.decision_function(X)))
        if y_score.ndim == 1:
            y_score = np.column_stack([-y_score, y_score])
        if y_score.shape[1] != len(classes):
            y_score = None
    return Predictions(classes, np.asarray(estimator.predict(X)), None, y_score)


def of_all_images(values: Any) -> Any:
    """Return results of an estimator; raise ImageError for rows of NaN, as of on_error="skip".

    Reports show images by their positions, so that none may be missing.
    """
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim not in (1, 2):
        return values
    rows = values[:, None] if values.ndim == 1 else values
    missing = np.flatnonzero(np.isnan(rows).all(axis=1)) if rows.size else np.empty(0, int)
    if len(missing):
        error = ImageError(
            f"the estimator gives NaN for {len(missing)} of {len(rows)} images, the first at "
            f"index {missing[0]}, as on_error='skip' does for images that cannot be used. Reports "
            "need a result for each image: leave these out of X and y. `indices` of this error are "
            "their positions."
        )
        error.indices = missing.tolist()
        raise error
    return values


def classes_of(estimator: BaseEstimator) -> np.ndarray:
    """Return the classes of a fitted classifier of one label per sample."""
    classes, last = getattr(estimator, "classes_", None), unwrapped(estimator)[1]
    if classes is None:
        check_is_fitted(estimator)
    if isinstance(last, TransferClassifier):
        check_is_of_classes(type(objective_of(last)), "this report")
    if classes is None or np.ndim(classes) != 1 or isinstance(classes, list):
        raise InvalidParameterError(
            "estimator must be a fitted classifier with one label for each sample, and have "
            f"classes_. Got {type(estimator).__name__} instead."
        )
    return np.asarray(classes)


def check_is_of_classes(kind: type[Objective], report: str) -> None:
    """Raise InvalidParameterError if a report about classes gets another kind of target."""
    if not issubclass(kind, Classes):
        raise InvalidParameterError(
            f"{report} is about classes: expected one class for each sample. "
            f"Got targets of the kind {kind.kind!r} instead."
        )


@contextmanager
def few_of_each_class() -> Iterator[None]:
    """Suppress scikit-learn's warning that many classes of few samples may be a regression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        yield


@few_of_each_class()
def label_indices(labels: npt.ArrayLike | None, n_samples: int, classes: np.ndarray) -> np.ndarray:
    """Return the position of each label in `classes`; an unknown label is a ValueError."""
    if labels is None:
        raise InvalidParameterError("Expected one label per sample. Got None instead.")
    order = np.argsort(classes)
    return order[known_targets(labels, n_samples, classes[order])]


def checked_probabilities(y_proba: npt.ArrayLike, n_classes: int) -> np.ndarray:
    """Return probabilities as an array of shape (n, n_classes), or raise ValueError.

    For two classes, the probabilities of the second suffice, shape (n,).
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


def transfer_estimator(estimator: BaseEstimator) -> tuple[list[Pipeline], TransferEstimator]:
    """Return the steps that transform X, and the fitted estimator of this package after them."""
    steps, last = unwrapped(estimator)
    if not isinstance(last, TransferEstimator):
        outer, inner = type(estimator).__name__, type(last).__name__
        raise InvalidParameterError(
            "estimator must be a TransferClassifier or TransferRegressor, or a pipeline, search or "
            "frozen estimator that ends in one. "
            f"Got {inner if outer == inner else f'{outer} with {inner} inside'} instead."
        )
    check_is_fitted(last)
    return steps, last


def objective_of(estimator: TransferEstimator) -> Objective:
    """Return what a fitted estimator knows of its target."""
    return estimator.head_.suffix.objective


def linked_values(estimator: Any, X: object) -> np.ndarray:
    """Return probabilities, or numbers where there are none, shape (n, n_outputs)."""
    ask = getattr(estimator, "predict_proba", None) or estimator.predict
    values = np.asarray(of_all_images(ask(X)))
    return values[:, None] if values.ndim == 1 else values
