"""The columns with files and labels, from a text file or a data frame."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Hashable, Sequence
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transferclf._spelling import did_you_mean
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from _csv import Reader

_SEPARATORS = ",;\t|"


class TableRow(NamedTuple):
    """One row of a table. `number` is its line in a file or its position in a data frame."""

    number: int
    image: str
    label: str


class TableRows(NamedTuple):
    """The rows of a table, with the names of the table and of a row for messages."""

    name: str
    unit: str
    rows: list[TableRow]


def rows_of_file(file: Path, image_column: Hashable, label_column: Hashable) -> TableRows:
    """Read the lines below the header of a text file. Missing values are ""."""
    advice = "save it so, or read it with pandas and pass the data frame"
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader, columns = _reader(text, {str(image_column), str(label_column)})
        _check_columns(file.name, columns, image_column, label_column)
        image, label = columns.index(str(image_column)), columns.index(str(label_column))
        # Short lines are filled up, so that they count as lines without a label.
        filled = ([*line, *[""] * len(columns)] for line in reader if line)
        rows = [
            TableRow(reader.line_num, _stripped(line[image]), _stripped(line[label]))
            for line in filled
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        is_utf8 = not isinstance(error, UnicodeDecodeError)
        expected = "a table as text" if is_utf8 else "text in UTF-8"
        raise ValueError(f"expected {file.name} to be {expected}, got {error}; {advice}") from None
    if not rows:
        raise ValueError(f"{file.name} has no lines below its header.")
    return TableRows(file.name, "line", rows)


def rows_of_frame(frame: Any, image_column: Hashable, label_column: Hashable) -> TableRows:
    """Read the rows of a data frame of pandas or polars. Missing values are ""."""
    name = "the data frame"
    _check_columns(name, list(frame.columns), image_column, label_column)
    if len(frame) == 0:
        raise ValueError(f"{name} has no rows.")
    texts = [_texts(column, list(frame[column])) for column in (image_column, label_column)]
    return TableRows(name, "row", list(map(TableRow, range(len(frame)), *texts)))


def _check_columns(name: str, columns: Sequence[Hashable], *wanted: Hashable) -> None:
    for column in wanted:
        if not isinstance(column, Hashable):
            raise InvalidParameterError(f"expected the name of a column, got {column!r:.100}")
    unknown = [column for column in wanted if column not in columns]
    if unknown:
        has_none = " and ".join(f"has no column {column!r}" for column in unknown)
        raise InvalidParameterError(
            f"{name} {has_none}; it has {list(columns)}.{did_you_mean(unknown, columns)}"
        )
    twice = [column for column in wanted if list(columns).count(column) > 1]
    if twice:
        raise InvalidParameterError(
            f"{name} has more than one column {twice[0]!r}; give each a name of its own."
        )


def _texts(column: Hashable, values: Sequence[object]) -> list[str]:
    """Return the values of a column of a data frame as text."""
    texts = [_text(value) for value in values]
    if None in texts:
        first = texts.index(None)
        value = values[first]
        raise ValueError(
            f"{texts.count(None)} rows of the data frame have something else than text or whole "
            f"numbers in {column!r}, the first of them row {first}: {type(value).__name__} "
            f"{value!r:.100}. Convert the column, for instance by astype(str)."
        )
    return [text for text in texts if text is not None]


def _text(value: object) -> str | None:
    """Return a value as text: "" for a missing value, None for one that is no name."""
    if isinstance(value, str):
        return _stripped(value)
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else None
    if isinstance(value, Integral | np.bool_):
        return str(value)
    try:
        is_missing = value is None or bool(value != value)  # NaN and NaT differ from themselves
    except (TypeError, ValueError):
        is_missing = type(value).__name__ == "NAType"  # comparing pandas.NA has no truth value
    return "" if is_missing else None


def _stripped(text: str) -> str:
    # NumPy treats NUL characters at the end of a text as padding, too.
    return re.sub(r"^[\s\0]+|[\s\0]+$", "", text)


def _reader(text: str, wanted: set[str]) -> tuple[Reader, list[str]]:
    """Return a reader of the lines below the header, and the columns.

    The separator is the one with most wanted columns. csv.Sniffer would also guess the quoting, and
    from a header it guesses wrong.
    """
    readers = []
    for separator in _SEPARATORS:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        columns = [name.strip() for name in next(reader, [])]
        readers.append((reader, columns))
    return max(readers, key=lambda pair: (len(wanted.intersection(pair[1])), len(pair[1])))
