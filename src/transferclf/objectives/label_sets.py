"""Checks of targets with several labels for an image: tables of 0 and 1, and sets of labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from transferclf._spelling import did_you_mean, quoted
from transferclf.exceptions import warn
from transferclf.objectives.labels import argmax_of, first_collection, is_missing

EXPECTED = (
    "y must be a table with a column of 0 and 1 for each label, or a set of labels for each image."
)


class Table(NamedTuple):
    """A checked table of 0 and 1, float32 (n, k), and the names of its columns, if it has any."""

    names: np.ndarray | None
    values: np.ndarray


def has_several(y: object) -> bool:
    """Return whether y has several labels for an image, or columns for them."""
    shape = getattr(y, "shape", None)
    if shape is not None and len(shape) == 2:
        return bool(shape[1] != 1)
    return (shape is None or len(shape) == 1) and first_collection(y) is not None


def encode_label_sets(y: object, n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, shape (k,), and a table of 0 and 1, float32 (n_samples, k).

    The labels of sets are sorted; those of a table are in the order of its columns. ValueError is
    raised if y does not fit `n_samples`, or cannot be learned from.
    """
    table = _table_of(y)
    if table is None:
        sets = _sets_of(y)
        _check_length(len(sets), n_samples)
        labels = np.unique(label_array([label for labels in sets for label in labels], "labels"))
        targets = _indicator(sets, labels)
    else:
        _check_length(len(table.values), n_samples)
        targets = table.values
        labels = np.arange(targets.shape[1]) if table.names is None else table.names
    _check_number(labels)
    _check_positives(labels, targets)
    if table is not None and (targets.sum(axis=1) == 1).all():
        warn(
            "y is one-hot, with a single 1 for each image, and is learned as several labels that "
            "do not exclude each other; if each image is of one class, pass "
            f"{argmax_of(y)}, or the names of the classes at these positions"
        )
    return labels, targets


def known_label_sets(y: object, n_samples: int, labels: np.ndarray) -> np.ndarray:
    """Return y as a table of these labels, float32 (n_samples, k); raise ValueError for others."""
    table = _table_of(y) if has_several(y) or getattr(y, "ndim", 1) == 2 else None
    if table is None:
        sets = _sets_of(y)
        _check_length(len(sets), n_samples)
        _check_known([label for of_image in sets for label in of_image], labels)
        return _indicator(sets, labels)
    _check_length(len(table.values), n_samples)
    columns = _columns(table, labels)
    if table.values.shape[1] != len(labels):
        raise ValueError(
            f"y must have one column for each of {len(labels)} labels, {labels.tolist()!s:.200}. "
            f"Got shape {table.values.shape} instead."
        )
    return table.values[:, columns]


def names_in(y: object) -> np.ndarray:
    """Return the labels in y, also those of no image: its columns, or the members of sets."""
    table = _table_of(y)
    if table is None:
        return np.unique(label_array([label for row in _sets_of(y) for label in row], "labels"))
    return np.arange(table.values.shape[1]) if table.names is None else table.names


def announced_labels(classes: object) -> np.ndarray:
    """Return the labels that are passed to the first call of `partial_fit`, in their order."""
    if classes is None:
        raise ValueError("classes must be passed to the first call of partial_fit.")
    labels = label_array(list(np.asarray(classes).ravel().tolist()), "classes")
    _check_different(labels, "classes")
    _check_number(labels)
    return labels


def label_array(labels: Sequence[object], name: str) -> np.ndarray:
    """Return labels as an array; raise ValueError unless they are all texts or whole numbers."""
    for label in labels:
        if not isinstance(label, str | Integral | np.bool_):
            raise ValueError(
                f"{name} must be texts or whole numbers. Got {label!r:.80} of type "
                f"{type(label).__name__} instead."
            )
    if len({isinstance(label, str) for label in labels}) > 1:
        raise ValueError(f"{name} must be of one type. Got both texts and numbers.")
    return np.array(labels if len(labels) else [], dtype=None if len(labels) else int)


def _table_of(y: object) -> Table | None:
    """Return y as a checked table, or None if it is a sequence of label sets."""
    rows = y if getattr(y, "ndim", 1) == 2 or len(getattr(y, "shape", ())) == 2 else _rows_of(y)
    if rows is None:
        return None
    columns: Any = getattr(rows, "columns", None)
    names = None
    # The numbers of columns without names are those of an array.
    if columns is not None and list(columns) != list(range(len(columns))):
        names = label_array(list(columns), "the columns of y")
        _check_different(names, "the columns of y")
    dense = rows.toarray() if hasattr(rows, "toarray") else np.asarray(rows)
    return Table(names, _zeros_and_ones(dense))


def _rows_of(y: object) -> list[object] | None:
    """Return lists of numbers as the rows of a table; None if they are label sets."""
    rows = list(y) if isinstance(y, Iterable) else []
    if not rows or not all(isinstance(row, list | tuple | np.ndarray) for row in rows):
        return None
    flat = [value for row in rows for value in row]
    if not flat or not all(value is None or isinstance(value, Real | np.bool_) for value in flat):
        return None
    if len({len(row) for row in rows}) == 1:
        return rows
    if all(value in (0, 1) for value in flat):
        raise ValueError(
            f"{EXPECTED} Got lists of 0 and 1 of different lengths, which may be either: make the "
            "lists equally long, or make sets of them if 0 and 1 are labels."
        )
    return None


def _zeros_and_ones(values: np.ndarray) -> np.ndarray:
    """Return a table as float32; raise ValueError unless it is numeric, complete and of 0 and 1."""
    kind = values.dtype.kind
    if kind == "O":
        is_lost = np.array([is_missing(value) for value in values.ravel()], bool)
        _check_complete(is_lost.reshape(values.shape))
        is_text = any(isinstance(value, str) for value in values.ravel())
        values = values if is_text else values.astype(float)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{EXPECTED} Got shape {values.shape} of {values.dtype}.")
    if values.dtype.kind == "f":
        _check_complete(np.isnan(values))
    is_other = (values != 0) & (values != 1)
    if is_other.any():
        row, column = np.argwhere(is_other)[0]
        raise ValueError(
            f"{EXPECTED} Got shape {values.shape} with {values[row, column]} in row {row}, column "
            f"{column}: numbers that are labels are passed as sets, such as {{3, 7}}."
        )
    return values.astype(np.float32)


def _check_complete(is_lost: np.ndarray) -> None:
    rows = np.flatnonzero(is_lost.any(axis=1))
    if len(rows):
        raise ValueError(
            f"y has no label for {len(rows)} of {len(is_lost)} images (NaN or None), the first at "
            f"index {rows[0]}. Say 0 or 1 for each label, or leave these images out."
        )


def _sets_of(y: Any) -> list[set[Hashable]]:
    """Return y as sets; raise ValueError where an element is no collection of labels."""
    if y is None or isinstance(y, str | Mapping) or not hasattr(y, "__len__"):
        raise ValueError(f"{EXPECTED} Got {y!r:.80} instead.")
    sets: list[set[Hashable]] = []
    for index, labels in enumerate(y):
        is_other = isinstance(labels, str | bytes | Mapping) or not hasattr(labels, "__len__")
        if is_other or getattr(labels, "ndim", 1) != 1:
            raise ValueError(
                f"{EXPECTED} Got {labels!r:.80} at index {index}: expected a set of labels, such "
                "as {'a', 'b'}, {'a'} or set()."
            )
        for label in labels:
            if is_missing(label) or not isinstance(label, Hashable):
                raise ValueError(f"{EXPECTED} Got the label {label!r:.80} at index {index}.")
        sets.append(set(labels))
    return sets


def _indicator(sets: Sequence[Set[Hashable]], labels: np.ndarray) -> np.ndarray:
    position = {label: number for number, label in enumerate(labels.tolist())}
    table = np.zeros((len(sets), len(labels)), np.float32)
    for row, of_image in zip(table, sets, strict=True):
        row[[position[label] for label in of_image]] = 1
    return table


def _columns(table: Table, labels: np.ndarray) -> np.ndarray:
    """Return the column of the table for each label."""
    if table.names is None:
        return np.arange(len(labels))
    names = table.names.tolist()
    _check_known(names, labels)
    lost = sorted(set(labels.tolist()) - set(names), key=str)
    if lost:
        raise ValueError(f"y must have a column for each label. Got none for {quoted(lost)}.")
    return np.array([names.index(label) for label in labels.tolist()])


def _check_known(found: Sequence[Hashable], labels: np.ndarray) -> None:
    known = labels.tolist()
    unknown = sorted(set(found) - set(known), key=str)
    if unknown:
        raise ValueError(
            f"y must have the known labels, {known!s:.200}. Got {quoted(unknown)} too."
            + did_you_mean(unknown, known)
        )


def _check_length(n_rows: int, n_samples: int) -> None:
    if n_rows != n_samples:
        raise ValueError(
            "X and y must have one set of labels per image. Got inconsistent numbers of samples: "
            f"{n_samples} images and {n_rows} sets or rows of labels."
        )


def _check_number(labels: np.ndarray) -> None:
    if len(labels) < 2:
        raise ValueError(
            f"y must have at least two labels. Got {labels.tolist()} alone: for a single label, "
            "pass y of shape (n,) with its two classes, such as 0 and 1."
        )


def _check_different(labels: np.ndarray, name: str) -> None:
    values, counts = np.unique(labels, return_counts=True)
    twice = values[counts > 1].tolist()
    if twice:
        raise ValueError(f"{name} must be different labels. Got {quoted(twice)} more than once.")


def _check_positives(labels: np.ndarray, targets: np.ndarray) -> None:
    """Raise ValueError for labels of no image; warn of labels of all images."""
    counts = targets.sum(axis=0)
    without = labels[counts == 0].tolist()
    if without:
        raise ValueError(
            f"y must have an image with each label. Got none with {quoted(without)}: add images, "
            "or leave these labels out."
        )
    everywhere = labels[counts == len(targets)].tolist()
    if everywhere:
        warn(
            f"all images have the label {quoted(everywhere)}: nothing can be learned about it, and "
            "it will be predicted nearly everywhere"
        )
