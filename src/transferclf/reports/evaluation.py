"""evaluate: measure an estimator by scikit-learn's measures, in one pass over the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.evaluations.classes import Evaluation, checked_top_k, evaluation_of
from transferclf.reports.predictions import (
    classes_of,
    label_indices,
    n_samples_of,
    predictions_of,
)


def evaluate(
    estimator: object,
    X: object,
    y: npt.ArrayLike,
    *,
    top_k: int | Sequence[int] = (1, 3, 5),
    sample_weight: npt.ArrayLike | None = None,
) -> Evaluation:
    """Measure how good a classifier is, by scikit-learn's own measures.

    A TransferClassifier, also in a pipeline or a search, looks at the images once.

    Parameters
    ----------
    estimator : estimator
        Any fitted classifier. Without `predict_proba` there is no loss and no calibration error,
        and `decision_function` ranks the classes for ROC AUC and top-k accuracy.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes.
    y : array-like of shape (n,)
        The true labels; some classes may be missing.
    top_k : int or sequence of int, default=(1, 3, 5)
        For each k below the number of classes, count the images whose true class is among the k
        best.
    sample_weight : array-like of shape (n,) or None, default=None
        Weight of each image.

    Returns
    -------
    Evaluation
        The measures by name; `print` shows them as text.

    Raises
    ------
    InvalidParameterError
        If `estimator` is no classifier, or a `top_k` is no whole number of at least 1.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one known label per image, or probabilities do not sum up to one.

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
    n_samples = n_samples_of(X)
    # Wrong labels are found before the images are looked at.
    label_indices(y, n_samples, classes_of(estimator))
    check_sample_weight(sample_weight, n_samples)
    said = predictions_of(estimator, X)
    return evaluation_of(y, said, counts, sample_weight)
