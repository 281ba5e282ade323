"""Several labels for an image in a table: a column of 0 and 1 for each, or one cell with all."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from transferclf._spelling import in_nfc, look, quoted, shortened
from transferclf.datasets.bunches import check_known, several
from transferclf.exceptions import InvalidParameterError

_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}

# The number of a row, and the text of each of its label columns.
Cells = Sequence[tuple[int, tuple[str, ...]]]


def checked_label_columns(
    label_column: str | Sequence[str], label_sep: object, classes: Sequence[str] | None
) -> list[str]:
    """Return the label columns; raise InvalidParameterError unless the parameters fit together."""
    given = several(label_column)
    if label_sep is not None and (not isinstance(label_sep, str) or not label_sep):
        raise InvalidParameterError(
            f"label_sep must be a text such as '|', or None. Got {label_sep!r:.100} instead."
        )
    if given is None or isinstance(label_column, tuple):  # tuples name columns of a MultiIndex
        return [label_column]  # type: ignore[list-item]
    columns = [str(name) if isinstance(name, str) else name for name in given]
    if label_sep is not None or classes is not None:
        name = "classes" if label_sep is None else "label_sep"
        raise InvalidParameterError(
            f"{name} goes with one label column. Got the columns {quoted(columns)}: leave {name} "
            "out, and pass the columns that you want."
        )
    if len(columns) < 2 or not all(isinstance(column, Hashable) for column in columns):
        raise InvalidParameterError(
            "label_column must be a name, or a sequence of at least two names. "
            f"Got {columns!r:.200} instead."
        )
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if twice:
        raise InvalidParameterError(
            f"label_column must be different names. Got {quoted(twice)} more than once."
        )
    return columns  # type: ignore[return-value]


def whole(value: object) -> object:
    """Return a float that is a whole number as an int; other values as they are."""
    return int(value) if isinstance(value, float | np.floating) and value == value // 1 else value


def flags_of(cells: Cells, columns: Sequence[str], name: str, unit: str) -> np.ndarray:
    """Return columns of 0 and 1, int of shape (n, k); raise ValueError for other values."""
    wrong = [
        f"{column!r} of {unit} {number} is {text!r}"
        for number, texts in cells
        for column, text in zip(columns, texts, strict=True)
        if text.lower() not in _FLAGS
    ]
    if wrong:
        raise ValueError(
            f"columns of several labels must hold 0 and 1. Got {len(wrong)} other values in "
            f"{name}: {shortened(wrong)}."
        )
    return np.array([[_FLAGS[text.lower()] for text in texts] for _, texts in cells])


def labels_of(
    cells: Cells, separator: str, wanted: Sequence[str] | None, name: str, unit: str
) -> tuple[list[str], np.ndarray]:
    """Return the labels, and a table of 0 and 1 of which image has which.

    ValueError is raised for an empty label, or one that an image has twice.
    """
    split = [_parts(texts[0], separator) for _, texts in cells]
    wrong = [
        f"{texts[0]!r} ({unit} {number})"
        for (number, texts), parts in zip(cells, split, strict=True)
        if len(set(parts)) < len(parts) or not all(map(look, parts))
    ]
    if wrong:
        raise ValueError(
            f"the labels between {separator!r} must be different and not empty. Got "
            f"{len(wrong)} other cells in {name}: {shortened(wrong)}."
        )
    found = sorted({label for parts in split for label in parts})
    check_known(wanted, found, f"the labels in {name}")
    names = found if wanted is None else list(wanted)
    if len(names) < 2:
        raise ValueError(f"{name} must have at least two labels. Got {names} alone.")
    return names, np.array([[label in parts for label in names] for parts in split]).astype(int)


def _parts(text: str, separator: str) -> list[str]:
    """Return the labels in a cell; none if it is empty."""
    return [in_nfc(part.strip()) for part in text.split(separator)] if look(text) else []
