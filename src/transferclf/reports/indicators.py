"""Several labels for each sample: label names, indicators of y, and predictions in one pass."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from transferclf._spelling import did_you_mean
from transferclf.estimators.classifier import TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.reports.predictions import objective_of, unwrapped

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


def is_of_labels(y: object) -> bool:
    """Return whether y is a table of columns, or a sequence of label sets."""
    shape = getattr(y, "shape", None)
    if shape is not None and len(shape) == 2:
        return bool(shape[1] > 1)
    if isinstance(y, str | Mapping) or not isinstance(y, Sequence | np.ndarray) or len(y) == 0:
        return False
    return all(isinstance(row, Set | list | tuple | np.ndarray) for row in y)


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
    binarizer = getattr(last, "_label_binarizer", None)
    if binarizer is not None:
        return str(getattr(binarizer, "y_type_", "")).startswith("multilabel")
    tags = getattr(last, "__sklearn_tags__", None)
    takes_labels = tags is not None and getattr(tags().classifier_tags, "multi_label", False)
    return bool(takes_labels) and is_of_labels(y)


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
        return _array_of(list(columns))
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
    if y is None:
        raise InvalidParameterError("Expected labels for each sample. Got None instead.")
    table = _table_of(y, names)
    if len(table) != n_samples:
        raise ValueError(
            "X and y must have the labels of each image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {len(table)} rows of labels."
        )
    if table.shape[1] != len(names):
        raise ValueError(
            f"y must have one column for each of the {len(names)} labels {_few(names)}. "
            f"Got {table.shape[1]} columns."
        )
    wrong = ~np.isin(table, (0, 1)).all(axis=1)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            "y must be an indicator of 0 and 1 without missing values. "
            f"Got {table[first].tolist()!r:.100} at index {first}."
        )
    return table.astype(int)


def label_names(*several: Any) -> np.ndarray:
    """Return the names of the labels in these y: columns, numbers, or all members of their sets."""
    found: set[Hashable] = set()
    for y in several:
        if hasattr(y, "columns"):
            return _array_of(list(y.columns))
        if _are_sets(y):
            found |= {label for row in y for label in _members(row)}
        else:
            return np.arange(np.shape(_dense(y))[-1])
    try:
        return _array_of(sorted(found))
    except TypeError:
        raise ValueError("Labels must be of one type, and none may be missing.") from None


def place_of(label: object, names: np.ndarray) -> int:
    """Return the column of a label; raise InvalidParameterError if there is no such label."""
    known = names.tolist()
    if not isinstance(label, Hashable) or label not in known:
        hint = did_you_mean([label], known) if isinstance(label, Hashable) else ""
        raise InvalidParameterError(f"label must be one of {_few(known)}. Got {label!r}.{hint}")
    return known.index(label)


def _table_of(y: object, names: np.ndarray) -> np.ndarray:
    """Return y as a table, shape (n, number of columns)."""
    if hasattr(y, "columns"):
        return _ordered(y, names)
    if _are_sets(y, len(names)):
        return _of_sets(list(y), names)  # type: ignore[call-overload]
    try:
        table = np.asarray(_dense(y))
        table = table.astype(float) if table.dtype == object else table
    except (TypeError, ValueError):
        table = np.empty(0)
    if table.ndim != 2 or table.dtype.kind not in "biuf":
        raise ValueError(
            "y must have several labels for each image: an indicator of shape "
            f"(n, {len(names)}), or a set of labels for each. Got {y!r:.100}."
        )
    return table


def _ordered(frame: Any, names: np.ndarray) -> np.ndarray:
    """Return the values of a data frame, its columns in the order of the labels."""
    columns, known = list(frame.columns), names.tolist()
    if set(columns) == set(known) and len(columns) == len(known):
        frame = frame[known]
    elif any(isinstance(name, str) for name in known):
        unknown = [name for name in columns if name not in known]
        raise ValueError(
            f"y must have the columns of the labels {_few(names)}. Got {_few(columns)}."
            + did_you_mean(unknown, known, only_look_alikes=True)
        )
    try:
        return np.asarray(frame, dtype=float)
    except (TypeError, ValueError):
        raise ValueError("y must be an indicator of 0 and 1. Got columns of other types.") from None


def _of_sets(rows: list[Any], names: np.ndarray) -> np.ndarray:
    place = {label: number for number, label in enumerate(names.tolist())}
    table = np.zeros((len(rows), len(names)), int)
    unknown = sorted({label for row in rows for label in _members(row)} - set(place), key=str)
    if unknown:
        raise ValueError(
            f"y must have labels among the known ones, {_few(names)}. Got {_few(unknown)} too."
            + did_you_mean(unknown, list(place), only_look_alikes=True)
        )
    for index, row in enumerate(rows):
        table[index, [place[label] for label in _members(row)]] = 1
    return table


def _members(row: object) -> list[Any]:
    members = row.tolist() if isinstance(row, np.ndarray) else list(row)  # type: ignore[call-overload]
    if not all(isinstance(label, Hashable) for label in members):
        raise ValueError(f"y must be a set of labels for each image. Got {row!r:.100} instead.")
    return members


def _are_sets(y: object, n_labels: int | None = None) -> bool:
    """Return whether y is a sequence of label sets, and no table of 0 and 1."""
    is_table = getattr(y, "ndim", 1) != 1 or isinstance(y, str | Mapping) or not is_of_rows(y)
    if is_table:
        return False
    rows = list(y)  # type: ignore[call-overload]
    if any(isinstance(row, Set) for row in rows):
        return True
    widths = {len(row) for row in rows}
    values = {value for row in rows for value in row if isinstance(value, Hashable)}
    is_indicator = len(widths) == 1 and values <= {0, 1} and widths <= {n_labels or max(widths)}
    has_numbers_alone = all(isinstance(v, int | float | np.generic | type(None)) for v in values)
    is_table_with_faults = len(widths) == 1 and widths == {n_labels} and has_numbers_alone
    return not is_indicator and not is_table_with_faults


def is_of_rows(y: object) -> bool:
    """Return whether each item of y is a collection that is no text."""
    try:
        rows = list(y)  # type: ignore[call-overload]
    except TypeError:
        return False
    return bool(rows) and all(isinstance(row, Set | list | tuple | np.ndarray) for row in rows)


def _dense(y: Any) -> Any:
    return y.toarray() if hasattr(y, "toarray") else y


def _array_of(names: list[Any]) -> np.ndarray:
    """Return names as an array; those of several types keep their types."""
    if len({type(name) for name in names}) == 1 and not isinstance(names[0], tuple):
        return np.array(names)
    made = np.empty(len(names), dtype=object)
    made[:] = names
    return made


def _few(names: Any) -> str:
    """Return at most twelve names for a message."""
    listed = list(names.tolist() if isinstance(names, np.ndarray) else names)
    return (
        repr(listed) if len(listed) <= 12 else f"{listed[:12]!r:.300} and {len(listed) - 12} more"
    )


def label_predictions_of(estimator: Any, X: object, names: np.ndarray) -> LabelPredictions:
    """Return the predictions of any fitted classifier of several labels.

    The network of a TransferClassifier runs once, also in a pipeline or a search.
    """
    last, n_labels = unwrapped(estimator)[1], len(names)
    if hasattr(estimator, "predict_proba"):
        said = estimator.predict_proba(X)
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
        found = np.asarray(estimator.decision_function(X), dtype=float)
        y_score = found if found.shape[1:] == (n_labels,) else None
    return LabelPredictions(names, _predicted(estimator, X, n_labels), None, y_score)


def _predicted(estimator: Any, X: object, n_labels: int) -> np.ndarray:
    y_pred = np.asarray(_dense(estimator.predict(X)))
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
