"""Tables of image files and their classes or labels as paths and targets."""

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
from sklearn.utils import Bunch

from transferclf._spelling import SHOWN, did_you_mean, in_nfc, look, quoted, shortened
from transferclf.datasets.bunches import (
    Place,
    bunch,
    check_known,
    checked_classes,
    given_path,
    label_bunch,
    remark_on_names,
    within,
)
from transferclf.datasets.finding import FileFinder
from transferclf.datasets.label_columns import checked_label_columns, flags_of, labels_of, whole
from transferclf.datasets.parquet_tables import ParquetTable, is_parquet
from transferclf.datasets.remote_paths import RemotePath
from transferclf.exceptions import InvalidParameterError, MissingImageError, warn
from transferclf.images import ImageSource

if TYPE_CHECKING:
    from _csv import Reader

_SEPARATORS = ",;\t|"


class TableRow(NamedTuple):
    """One row of a table. `number` is its line in a file or its position in a data frame.

    `labels` has the text of each label column.
    """

    number: int
    image: str
    labels: tuple[str, ...]


class TableRows(NamedTuple):
    """The rows of a table, with the names of the table and of a row for messages.

    `images` are those in the table itself, if it holds them and not their files.
    """

    name: str
    unit: str
    rows: list[TableRow]
    images: ImageSource | None = None


def load_image_table(
    csv: object,
    image_column: str,
    label_column: str | Sequence[str],
    root: str | os.PathLike | None = None,
    classes: Sequence[str] | None = None,
    *,
    label_sep: str | None = None,
) -> Bunch:
    r"""Read the paths of images, and the names of their classes or labels, from a table.

    Parameters
    ----------
    csv : str, Path or data frame
        The path or URL of a text file in UTF-8 with a header line, separated by commas, semicolons,
        tabs or bars, or of a Parquet file (the extra ``parquet``); or a data frame
        of pandas or polars.
    image_column : str
        Name of the column with the files: paths or URLs. White space around values does not count.
        In a Parquet file, the column may hold the images themselves: bytes, or structs with "bytes"
        and "path".
    label_column : str or list of str
        Name of the column with the classes, or with `label_sep` the labels. Whole numbers in a data
        frame are read as text. A list names columns of 0 and 1 (or false and true), one for
        each of several labels.
    root : str, Path or None, default=None
        The folder of relative file names, or its URL. Files behind URLs are not looked for before
        they are read. None is the folder of the table, or the current one for a
        data frame.
    classes : sequence of str or None, default=None
        The names of the classes to read, and `target_names` in this order. Rows of other classes
        are left out without a warning. None reads all. With `label_sep`: the labels to read; rows
        stay, and other labels are left out.
    label_sep : str or None, default=None
        What stands between the labels of an image in `label_column`, such as "|". An empty cell is
        an image without labels. None reads one class from each cell.

    Returns
    -------
    Bunch
        As from :func:`load_image_folder`, in the order of the table and without `groups`. If a
        Parquet file holds the images, `data` is an :class:`.ImageSource` that reads a part of the
        file at a time. It is sliced like an array, and is best read in the order of rows. With
        several labels, `target` is a table of 0 and 1, int of shape (n_images, n_labels), whose
        columns are `target_names`: sorted, or in the order of `label_column` or `classes`.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    MissingImageError
        If files are missing; the first ones are named. `indices` has the positions, from 0 on, of
        all rows whose files are missing, and `problems` their faults.
    InvalidParameterError
        If `csv` is neither a path nor a data frame, the table has no such column or has it twice,
        or no such `classes`, or `label_sep` is empty or goes with several columns. It is a
        ValueError.
    ValueError
        If the table has no lines, lines without a file or a label, values that are neither text
        nor whole numbers, or is not in UTF-8. If a column of several has other values than 0 and 1,
        or a cell an empty label or the same label twice.

    Warns
    -----
    TransferclfWarning
        If exactly one file has nearly the name in the table: backslashes for slashes, ``~`` for the
        home folder, no extension, other capitals or another Unicode form. Another warning names
        classes that look alike, as in :func:`load_image_folder`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from transferclf import load_image_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.png", "b.png"):
    ...         Image.new("RGB", (8, 8)).save(Path(folder, name))
    ...     table = Path(folder, "labels.csv")
    ...     _ = table.write_text("file,species\na.png,penny bun\nb.png,fly agaric\n")
    ...     images = load_image_table(table, image_column="file", label_column="species")
    >>> images.target
    array(['penny bun', 'fly agaric'], dtype='<U10')
    >>> images.target_names
    ['fly agaric', 'penny bun']
    """
    wanted = checked_classes(classes)
    columns = checked_label_columns(label_column, label_sep, wanted)
    # Tables of pyarrow have columns too, but other ones.
    folder: Place
    if hasattr(csv, "shape") and hasattr(csv, "columns") and not hasattr(csv, "column_names"):
        table, folder = _rows_of_frame(csv, image_column, columns), Path()
    else:
        if not isinstance(csv, str | os.PathLike):
            raise InvalidParameterError(
                "csv must be the path of a table, or a data frame of pandas or polars. "
                f"Got {type(csv).__name__} instead."
            )
        file = given_path("csv", csv)
        if file.is_dir():
            raise IsADirectoryError(
                f"expected a table, got the folder {str(file)!r}; load_image_folder reads class "
                "folders"
            )
        table, folder = _rows_of_file(file, image_column, columns), file.parent
    base = folder if root is None else given_path("root", root)
    _check_complete(table, image_column, () if label_sep else columns)
    if label_sep is not None or columns != [label_column]:
        cells = [(row.number, row.labels) for row in table.rows]
        if label_sep is None:
            names, target = columns, flags_of(cells, columns, table.name, table.unit)
        else:
            names, target = labels_of(cells, label_sep, wanted, table.name, table.unit)
        files, remark = _images(range(len(table.rows)), base, table)
        _warn_of(remark, remark_on_names(table.name, {"": names}, wanted))
        return label_bunch(base, files, names, target)
    labels = [in_nfc(row.labels[0]) for row in table.rows]
    check_known(wanted, labels, f"the values of {label_column!r} in {table.name}")
    kept = [position for position, label in enumerate(labels) if wanted is None or label in wanted]
    files, remark = _images(kept, base, table)
    names = [labels[position] for position in kept]
    _warn_of(remark, remark_on_names(table.name, {"": names}, wanted))
    return bunch(base, files, names, wanted)


def _warn_of(*remarks: str) -> None:
    for text in filter(None, remarks):
        warn(text)


def _check_complete(
    table: TableRows, image_column: Hashable, label_columns: Sequence[Hashable]
) -> None:
    """Raise ValueError where a row lacks its file or a label."""
    lacking = {image_column: [row.number for row in table.rows if not row.image]}
    for place, column in enumerate(label_columns):
        # A label of invisible characters only is no name.
        blank = {label for label in {row.labels[place] for row in table.rows} if not look(label)}
        lacking[column] = [row.number for row in table.rows if row.labels[place] in blank]
    texts = [
        f"{len(rows)} {table.unit}s of {table.name} have no {column!r}: {shortened(rows)}"
        for column, rows in lacking.items()
        if rows
    ]
    if texts:
        raise ValueError("\n".join(texts))


def _images(
    positions: Sequence[int], base: Place, table: TableRows
) -> tuple[Sequence[Place] | ImageSource, str]:
    """Return the images of some rows, and a text about files with other names than in the table."""
    if table.images is not None:
        return table.images[np.array(positions, int)], ""
    return _files(positions, base, table)


def _files(positions: Sequence[int], base: Place, table: TableRows) -> tuple[list[Place], str]:
    """Return the files of some rows, and a text about files with other names than in the table."""
    finder = FileFinder(base)
    found: list[Place] = []
    renamed: dict[str, Place] = {}
    missing: dict[int, str] = {}
    rows = [table.rows[position] for position in positions]
    for position, row in zip(positions, rows, strict=True):
        candidates = finder.find(row.image)
        if len(candidates) != 1:
            options = f": one of {quoted(it.name for it in candidates)}?" if candidates else ""
            missing[position] = f"{base / row.image} ({table.unit} {row.number}){options}"
            continue
        found.append(candidates[0])
        is_remote = isinstance(candidates[0], RemotePath)
        if not is_remote and candidates[0] != base / row.image:
            renamed[row.image] = candidates[0]
    if missing:
        raise _all_missing(missing, len(rows), base, table)
    if not renamed:
        return found, ""
    count = sum(row.image in renamed for row in rows)
    examples = [f"{name!r} is {within(base, file)!r}" for name, file in renamed.items()]
    return found, (
        f"{count} of {len(rows)} files of {table.name} have other names than in the table: "
        f"{shortened(examples)}"
    )


def _all_missing(
    missing: dict[int, str], total: int, base: Place, table: TableRows
) -> MissingImageError:
    texts = list(missing.values())
    hint = "" if base.is_dir() else "; there is no such folder, and root= says which one is meant"
    lines = [f"{len(texts)} of {total} files of {table.name} are missing below {base}{hint}:"]
    lines += [f"  {text}" for text in texts[:SHOWN]]
    if len(texts) > SHOWN:
        lines.append(f"  and {len(texts) - SHOWN} more")
    if len(texts) < total:
        lines.append(
            "To go on without them, catch this error and pass a data frame that lacks these rows: "
            "frame.drop(frame.index[error.indices])."
        )
    error = MissingImageError("\n".join(lines))
    error.indices, error.problems = list(missing), texts
    return error


def _rows_of_file(file: Place, image_column: Hashable, labels: Sequence[Hashable]) -> TableRows:
    """Read the lines below the header of a text file, or a Parquet file.

    Missing values are "".
    """
    if is_parquet(file):
        table = ParquetTable(file, image_column, labels)
        found = _rows_of_frame(table, image_column, labels, file.name)
        return found if table.holds_files else found._replace(images=table.images())
    advice = "save it so, or read it with pandas and pass the data frame"
    try:
        text = file.read_text(encoding="utf-8-sig")
        reader, columns = _reader(text, {str(image_column), *map(str, labels)})
        _check_columns(file.name, columns, image_column, *labels)
        image, *places = (columns.index(str(column)) for column in (image_column, *labels))
        # Short lines are filled up, so that they count as lines without a label.
        filled = ([*line, *[""] * len(columns)] for line in reader if line)
        rows = [
            TableRow(
                reader.line_num,
                _stripped(line[image]),
                tuple(_stripped(line[place]) for place in places),
            )
            for line in filled
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        is_utf8 = not isinstance(error, UnicodeDecodeError)
        expected = "a table as text" if is_utf8 else "text in UTF-8"
        raise ValueError(f"expected {file.name} to be {expected}, got {error}; {advice}") from None
    if not rows:
        raise ValueError(f"{file.name} has no lines below its header.")
    return TableRows(file.name, "line", rows)


def _rows_of_frame(
    frame: Any, image_column: Hashable, labels: Sequence[Hashable], name: str = "the data frame"
) -> TableRows:
    """Read the rows of a data frame of pandas or polars. Missing values are ""."""
    _check_columns(name, list(frame.columns), image_column, *labels)
    if len(frame) == 0:
        raise ValueError(f"{name} has no rows.")
    images = _texts(image_column, list(frame[image_column]))
    # Columns of 0 and 1 may be floats, which no names are.
    are_flags = len(labels) > 1
    cells = [
        _texts(column, list(map(whole, frame[column])) if are_flags else list(frame[column]))
        for column in labels
    ]
    rows = map(TableRow, range(len(frame)), images, zip(*cells, strict=True))
    return TableRows(name, "row", list(rows))


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
