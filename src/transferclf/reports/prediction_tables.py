"""prediction_table: the predictions for images as a table, one row for each image."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError
from transferclf.images.checking import is_encoded_column
from transferclf.reports.indicators import label_predictions_of, names_of
from transferclf.reports.kinds import LABELS, NUMBERS, kind_of_estimator
from transferclf.reports.numbers import number_predictions_of
from transferclf.reports.predictions import Predictions, n_samples_of, predictions_of
from transferclf.reports.tables import extra

if TYPE_CHECKING:
    from pandas import DataFrame

    Columns = dict[str, Any]


def prediction_table(estimator: Any, X: Any, *, top_k: int = 1) -> DataFrame:
    """Return the predictions of any fitted estimator as a data frame, one row for each image.

    An estimator of this package, also in a pipeline or a search, looks at the images once.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier, of one or of several labels, or a fitted regressor.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes.
    top_k : int, default=1
        How many classes there are for each image, the predicted one first and then the most
        probable others; at most all. Only classes can be ranked.

    Returns
    -------
    pandas.DataFrame
        "file" is the path of the image, or its position in X where it is no file. Then

        - for classes "label" and "probability", and "label_2", "probability_2" and so on up to
          `top_k`. Without `predict_proba` there are "score", "score_2" and so on by
          `decision_function`, if there is one. A label that is no class, such as that of an unknown
          image, has no probability (NaN);
        - for several labels "labels", their names joined by ", ", and "probability_NAME" (or
          "score_NAME") for each label;
        - for numbers "prediction", or "prediction_NAME" for each of several outputs.

        "normality" is the result of `score_samples`, where the estimator has that: higher is more
        normal. The index is that of X where X is a series or data frame of pandas.

    Raises
    ------
    ImportError
        If pandas is not installed.
    InvalidParameterError
        If `estimator` is neither classifier nor regressor, or `top_k` is no whole number of at
        least 1, or above 1 where there is nothing to rank.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ImageError
        If images cannot be read.

    Notes
    -----
    ``prediction_table(...).to_csv(path, index=False)`` writes names as they are. A spreadsheet
    takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula. Where names of files
    or labels come from people you do not know, look for such cells before you open the file.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier
    >>> from transferclf.reports import prediction_table
    >>> digits = load_digits()
    >>> classifier = TransferClassifier("tiny", pixel_range=(0, 16))
    >>> classifier = classifier.fit(digits.images[:100], digits.target[:100])
    >>> table = prediction_table(classifier, digits.images[:3], top_k=2)
    >>> list(table.columns)
    ['file', 'label', 'probability', 'label_2', 'probability_2']
    >>> table[["file", "label"]].values.tolist()
    [[0, 0], [1, 1], [2, 2]]
    """
    pandas = extra("pandas")
    columns = prediction_columns(estimator, X, top_k=top_k)
    return pandas.DataFrame(columns, index=X.index if hasattr(X, "iloc") else None)


def prediction_columns(estimator: Any, X: Any, *, top_k: int = 1) -> Columns:
    """Return the columns of :func:`prediction_table` by their names, without pandas."""
    check_number("top_k", top_k, 1, whole=True)
    n_samples = n_samples_of(X)
    kind = kind_of_estimator(estimator)
    if kind in (LABELS, NUMBERS) and top_k > 1:
        raise InvalidParameterError(
            f"top_k ranks classes, and {type(estimator).__name__} predicts none: leave top_k=1. "
            f"Got {top_k} instead."
        )
    if kind == LABELS:
        found = _of_labels(estimator, X)
    elif kind == NUMBERS:
        found = _of_numbers(estimator, X)
    else:
        found = _of_classes(predictions_of(estimator, X), int(top_k))
    if hasattr(estimator, "score_samples"):
        found["normality"] = np.asarray(estimator.score_samples(X))
    return {"file": _files_of(X, n_samples)} | found


def _of_classes(said: Predictions, top_k: int) -> Columns:
    """Return the columns of classes: the predicted one first, then the best others."""
    columns: Columns = {"label": said.y_pred}
    if said.y_score is None:
        if top_k > 1:
            raise InvalidParameterError(
                "top_k above 1 needs predict_proba or decision_function to rank the classes by. "
                f"Got top_k={top_k} and an estimator without them."
            )
        return columns
    word = "score" if said.y_proba is None else "probability"
    # As objects, labels of different types can be compared.
    is_predicted = said.y_pred.astype(object)[:, None] == said.classes.astype(object)
    first = np.where(is_predicted, np.inf, said.y_score)
    order = np.argsort(-first, axis=1, kind="stable")
    # An unknown label is no class: it takes the first place without one.
    is_class = is_predicted.any(axis=1)
    order = np.where(is_class[:, None], order, np.roll(order, 1, axis=1))
    rows = np.arange(len(order))
    columns[word] = np.where(is_class, said.y_score[rows, order[:, 0]], np.nan)
    for place in range(1, min(top_k, len(said.classes))):
        columns[f"label_{place + 1}"] = said.classes[order[:, place]]
        columns[f"{word}_{place + 1}"] = said.y_score[rows, order[:, place]]
    return columns


def _of_labels(estimator: Any, X: object) -> Columns:
    names = names_of(estimator, None)
    said = label_predictions_of(estimator, X, names)
    texts = [str(name) for name in names.tolist()]
    joined = [", ".join(texts[place] for place in np.flatnonzero(row)) for row in said.y_pred]
    columns: Columns = {"labels": joined}
    if said.y_score is not None:
        word = "score" if said.y_proba is None else "probability"
        columns |= {f"{word}_{text}": said.y_score[:, k] for k, text in enumerate(texts)}
    return columns


def _of_numbers(estimator: Any, X: object) -> Columns:
    said = number_predictions_of(estimator, X, np.arange(0))
    if len(said.outputs) == 1:
        return {"prediction": said.y_pred[:, 0]}
    return {
        f"prediction_{name}": said.y_pred[:, column]
        for column, name in enumerate(said.outputs.tolist())
    }


def _files_of(X: Any, n_samples: int) -> list[str | int]:
    """Return the path of each image, or its position in X."""
    is_row = getattr(X, "shape", (n_samples,)) in ((n_samples,), (n_samples, 1))
    if not is_row or hasattr(X, "toarray") or is_encoded_column(X):
        return list(range(n_samples))
    items = X if isinstance(X, list | tuple) else np.asarray(X, dtype=object).ravel()
    return [_file_of(item) or index for index, item in enumerate(items)]


def _file_of(item: object) -> str:
    """Return the path of an image or of the file that it was opened from; empty if none."""
    path = item if isinstance(item, str | os.PathLike) else getattr(item, "filename", "")
    return str(os.fsdecode(path)) if isinstance(path, str | os.PathLike) else ""
