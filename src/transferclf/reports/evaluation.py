"""evaluate: measure an estimator by scikit-learn's measures, in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.evaluations.classes import Evaluation, checked_top_k, evaluation_of
from transferclf.reports.evaluations.multilabel import (
    MultilabelEvaluation,
    multilabel_evaluation_of,
)
from transferclf.reports.evaluations.numbers import RegressionEvaluation, regression_evaluation_of
from transferclf.reports.indicators import indicators_of, label_predictions_of, names_of
from transferclf.reports.kinds import LABELS, NUMBERS, kind_of_estimator
from transferclf.reports.numbers import number_predictions_of, numbers_of
from transferclf.reports.predictions import (
    classes_of,
    label_indices,
    n_samples_of,
    predictions_of,
)
from transferclf.reports.unknowns import UnknownEvaluation, evaluate_unknowns, is_rejector


def evaluate(
    estimator: Any,
    X: object,
    y: Any,
    *,
    top_k: int | Sequence[int] = (1, 3, 5),
    sample_weight: npt.ArrayLike | None = None,
) -> Evaluation | MultilabelEvaluation | RegressionEvaluation | UnknownEvaluation:
    """Measure how good an estimator is, by scikit-learn's own measures.

    The kind of target decides which measures there are. An estimator of this package, also in a
    pipeline or a search, looks at the images once.

    Parameters
    ----------
    estimator : estimator
        Any fitted classifier, of one or of several labels, or any fitted regressor. Without
        `predict_proba` there is no loss and no calibration error, and `decision_function` ranks the
        classes for ROC AUC and top-k accuracy, and the images of a label.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes.
    y : array-like of shape (n,), or of one row for each image
        The true labels; some classes may be missing. For several labels an indicator of shape
        (n, n_labels), as an array, a sparse matrix or a data frame, or a sequence of label sets.
        Columns of a data frame that have the names of the labels may be in any order. For a
        regressor numbers of shape (n,) or (n, n_outputs).
    top_k : int or sequence of int, default=(1, 3, 5)
        For each k below the number of classes, count the images whose true class is among the k
        best. Only classes have this measure.
    sample_weight : array-like of shape (n,) or None, default=None
        Weight of each image.

    Returns
    -------
    Evaluation, MultilabelEvaluation or RegressionEvaluation
        The measures by name; `print` shows them as text. For an UnknownRejector, it is what
        :func:`evaluate_unknowns` returns.

    Raises
    ------
    InvalidParameterError
        If `estimator` is neither classifier nor regressor, or a `top_k` is no whole number of at
        least 1.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one known label per image, or other targets than the estimator predicts, or
        probabilities do not sum up to one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from transferclf.reports import evaluate
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(max_iter=500).fit(X[::2], y[::2])
    >>> evaluation = evaluate(classifier, X[1::2], y[1::2])
    >>> round(evaluation.accuracy, 2)
    0.96
    >>> evaluation.confusion_matrix
    array([[25,  0,  0],
           [ 0, 24,  1],
           [ 0,  2, 23]])
    """
    counts = checked_top_k(top_k)
    if is_rejector(estimator):
        return evaluate_unknowns(estimator, X, y, sample_weight=sample_weight)
    n_samples = n_samples_of(X)
    kind = kind_of_estimator(estimator, y)
    if kind == LABELS:
        return _of_labels(estimator, X, y, n_samples, sample_weight)
    if kind == NUMBERS:
        return _of_numbers(estimator, X, y, n_samples, sample_weight)
    # Wrong labels are found before the images are looked at.
    label_indices(y, n_samples, classes_of(estimator))
    check_sample_weight(sample_weight, n_samples)
    said = predictions_of(estimator, X)
    return evaluation_of(y, said, counts, sample_weight)


def _of_labels(
    estimator: Any, X: object, y: object, n_samples: int, sample_weight: npt.ArrayLike | None
) -> MultilabelEvaluation:
    names = names_of(estimator, y)
    true = indicators_of(y, n_samples, names)
    check_sample_weight(sample_weight, n_samples)
    said = label_predictions_of(estimator, X, names)
    return multilabel_evaluation_of(true, said, sample_weight)


def _of_numbers(
    estimator: Any, X: object, y: object, n_samples: int, sample_weight: npt.ArrayLike | None
) -> RegressionEvaluation:
    true, names = numbers_of(y, n_samples)
    check_sample_weight(sample_weight, n_samples)
    said = number_predictions_of(estimator, X, names)
    return regression_evaluation_of(true, said, sample_weight)
