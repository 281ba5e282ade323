"""top_k: the most probable classes of images, by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.predictions import of_all_images


def top_k(estimator: Any, X: object, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return the k most probable classes of each image, and their probabilities.

    It is a function and no method, so that it takes pipelines, searches and other classifiers too.

    Parameters
    ----------
    estimator : estimator
        Any fitted classifier with `predict_proba`: a :class:`transferclf.TransferClassifier`, also
        of several labels, an :class:`transferclf.UnknownRejector`, a pipeline or a search.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes.
    k : int, default=5
        From 1 to the number of classes.

    Returns
    -------
    labels : ndarray of shape (n, k)
        Labels from `classes_`, the most probable first. Classes of equal probability are in the
        order of `classes_`.
    probabilities : ndarray of shape (n, k)
        Their probabilities.

    Raises
    ------
    InvalidParameterError
        If `k` is not as above, or the estimator has no `predict_proba` with a column for each
        class.
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ImageError
        If images cannot be used, also with `on_error="skip"`; `indices` are their positions.

    See Also
    --------
    transferclf.reports.prediction_table : A data frame with files, labels and probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier, top_k
    >>> digits = load_digits()
    >>> names = digits.target.astype(str)
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier.fit(digits.images[:100], names[:100])  # doctest: +ELLIPSIS
    TransferClassifier(...)
    >>> labels, probabilities = top_k(classifier, digits.images[:4], k=3)
    >>> labels[:, 0].tolist()
    ['0', '1', '2', '3']
    >>> probabilities.shape
    (4, 3)
    """
    ask = getattr(estimator, "predict_proba", None)
    if ask is None:
        raise InvalidParameterError(
            "estimator must be a classifier with predict_proba. "
            f"Got {type(estimator).__name__} without it."
        )
    # Before the images are looked at; an estimator that is not fitted has no classes yet.
    classes = getattr(estimator, "classes_", None)
    if classes is not None:
        check_number("k", k, 1, len(classes), whole=True)
    probabilities = np.asarray(of_all_images(ask(X)))
    if classes is None or probabilities.shape[1:] != (len(classes),):
        raise InvalidParameterError(
            "estimator must have classes_ and a probability for each of them. "
            f"Got probabilities of shape {probabilities.shape}."
        )
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return np.asarray(classes)[order], np.take_along_axis(probabilities, order, axis=1)
