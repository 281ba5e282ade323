"""Reading labelled images as people keep them: in class folders, or in a table.

Nothing is decoded here: `data` are paths, which the estimators read when they need them.
"""

from __future__ import annotations

import csv as csv_format
import functools
import io
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from PIL import Image
from sklearn.utils import Bunch

from transferclf.exceptions import ImageError, MissingImageError, TransferclfWarning

SPLITS = ("train", "valid", "validation", "val", "test")

# Formats that Pillow can name but not decode without another program.
_UNDECODABLE = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}

# Multi-picture files begin like JPEG, whose plugin hands them on.
_OPENED_BY_OTHERS = {"MPO"}

_SEPARATORS = ",;\t|"

_NAMED = 5


def load_image_folder(
    path: str | os.PathLike, *, split: str | Sequence[str] | None = None
) -> Bunch:
    """Read the paths and labels of images in class folders.

    The layout is ``CLASS/IMAGE``, or ``SPLIT/CLASS/IMAGE`` where the folder holds splits (train,
    valid, validation, val, test).

    Parameters
    ----------
    path : str or Path
        The folder.
    split : str, sequence of str or None, default=None
        Which folder or folders of a split layout to read; their names need not be among those
        above. Class numbers are the same in all splits of a folder.

    Returns
    -------
    Bunch
        `data` : ndarray of str objects, shape (n,), the paths; `target` : ndarray of int, shape
        (n,); `target_names` : list of str; `filenames` : ndarray of str objects, the paths within
        the folder; `DESCR` : str. Classes and files are sorted naturally: img2 before img10.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such folder.
    ValueError
        If the folder has splits and `split` is None, has no such split, or holds no images.
        The last is an ImageError.

    Warns
    -----
    TransferclfWarning
        If files have unknown extensions or are broken links, folders hold no images, or images
        lie elsewhere than the layout says: these are left out.

    Examples
    --------
    >>> from transferclf import load_image_folder
    >>> train = load_image_folder("photos", split="train")  # doctest: +SKIP
    >>> clf.fit(train.data, train.target)  # doctest: +SKIP
    """
    root = Path(path)
    if not root.is_dir():
        kind = NotADirectoryError if root.exists() else FileNotFoundError
        raise kind(f"expected a folder of class folders, got {str(root)!r}")
    folders = _split_folders(root, split)
    found, left_out = [], []
    for folder in dict.fromkeys([root, *folders]):
        left_out += [f"{file.name} is in no class folder" for file in _images_in(folder)[0]]
    for folder in folders:
        for class_folder in _subfolders(folder):
            images, remarks = _images_in(class_folder)
            found += [(image, class_folder.name) for image in images]
            left_out += remarks
    _report(root, left_out)
    if not found:
        raise ImageError(
            f"No images in {str(root)!r}: expected CLASS/IMAGE, or SPLIT/CLASS/IMAGE with split=."
        )
    files, labels = zip(*found, strict=True)
    return _bunch(root, files, labels, _class_names(root, labels, split))


def load_image_table(
    csv: str | os.PathLike,
    image_column: str,
    label_column: str,
    root: str | os.PathLike | None = None,
) -> Bunch:
    """Read the paths and labels of images from a table with a header line.

    Parameters
    ----------
    csv : str or Path
        A text file in UTF-8; the separator (comma, semicolon, tab or bar) is found out.
    image_column, label_column : str
        Names of the columns with the files and with the classes.
    root : str, Path or None, default=None
        What relative file names start from; None is the table's own folder.

    Returns
    -------
    Bunch
        As from :func:`load_image_folder`, in the order of the table.

    Raises
    ------
    FileNotFoundError
        If there is no such table.
    MissingImageError
        If files are missing; all of them are named.
    ValueError
        If the table has no such column, no lines, lines without a file or a label, or is not
        in UTF-8.

    Examples
    --------
    >>> from transferclf import load_image_table
    >>> table = load_image_table(
    ...     "labels.csv", image_column="file", label_column="species"
    ... )  # doctest: +SKIP
    """
    table = Path(csv)
    rows = _rows(table, image_column, label_column)
    base = Path(root) if root is not None else table.parent
    files = [base / image for _, image, _ in rows]
    labels = [label for _, _, label in rows]
    for column, values in ((image_column, 1), (label_column, 2)):
        empty = [row[0] for row in rows if not row[values]]
        if empty:
            raise ValueError(
                f"{len(empty)} lines of {table.name} have no {column!r}: {_shortened(empty)}"
            )
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise MissingImageError(
            f"{len(missing)} of {len(files)} files of {table.name} are missing below {base}:\n  "
            + "\n  ".join(missing)
        )
    return _bunch(base, files, labels, _in_order(set(labels)))


def _split_folders(root: Path, split: str | Sequence[str] | None) -> list[Path]:
    """The folders whose subfolders are the classes."""
    splits = [folder.name for folder in _subfolders(root) if _subfolders(folder)]
    has_splits = any(name.lower() in SPLITS for name in splits)
    if split is None:
        if has_splits:
            raise ValueError(
                f"{str(root)!r} holds the splits {splits}: say which with split=, for instance "
                f"split={splits[0]!r}."
            )
        return [root]
    wanted = [split] if isinstance(split, str) else list(split)
    unknown = [name for name in wanted if name not in splits]
    if not splits:
        raise ValueError(
            f"{str(root)!r} has no splits, as split={split!r} would have it: its folders hold "
            "images and no class folders. Leave split out."
        )
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(
            f"split must be among {splits} for {str(root)!r}, each once. Got {split!r} instead."
        )
    return [root / name for name in wanted]


def _class_names(root: Path, labels: Sequence[str], split: str | Sequence[str] | None) -> list[str]:
    """All class folders with images, over all splits, so that numbers mean the same in each."""
    names = set(labels)
    if split is not None:
        classes = (folder for parent in _subfolders(root) for folder in _subfolders(parent))
        names |= {folder.name for folder in classes if _images_in(folder)[0]}
    return _in_order(names)


def _in_order(names: Iterable[str]) -> list[str]:
    """Natural order, and one order only: to natsort alone, img1 and img01 are the same."""
    return natsorted(sorted(names))


def _subfolders(folder: Path) -> list[Path]:
    names = (entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_hidden(entry))
    return [folder / name for name in _in_order(names)]


def _images_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The image files of one folder, and remarks on what else is there."""
    entries = [folder / name for name in _in_order(e.name for e in folder.iterdir())]
    entries = [entry for entry in entries if not _is_hidden(entry)]
    name, images, nested, remarks = folder.name, [], [], []
    for entry in entries:
        if entry.is_dir():
            nested.append(entry.name)
        elif not entry.is_file():
            remarks.append(f"{name}/{entry.name} is a broken link or no file")
        elif entry.suffix.lower() in image_extensions():
            images.append(entry)
        else:
            remarks.append(f"{name}/{entry.name} has no known image extension")
    if nested:
        remarks.append(f"{name} holds folders ({_shortened(nested)}), not looked into")
    if not images:
        remarks.append(f"{name} holds no images")
    return images, remarks


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".")


@functools.cache
def image_extensions() -> frozenset[str]:
    """File name extensions, in small letters, of all formats that Pillow can decode here."""
    Image.init()
    return frozenset(
        extension
        for extension, kind in Image.registered_extensions().items()
        if kind in {*Image.OPEN, *_OPENED_BY_OTHERS} - _UNDECODABLE
    )


def _rows(table: Path, image_column: str, label_column: str) -> list[tuple[int, str, str]]:
    """Line number, file and label of every line below the header."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected {table.name} to be text in UTF-8, got {error}; save it as UTF-8"
        ) from None
    reader, columns = _reader(text, {image_column, label_column})
    for column in (image_column, label_column):
        if column not in columns:
            raise ValueError(f"{table.name} has no column {column!r}; it has {columns}.")
    image, label = columns.index(image_column), columns.index(label_column)
    # Short lines are filled up, so that they are reported as lines without a label.
    filled = ([*line, *[""] * len(columns)] for line in reader if line)
    rows = [(reader.line_num, line[image].strip(), line[label].strip()) for line in filled]
    if not rows:
        raise ValueError(f"{table.name} has no lines below its header.")
    return rows


def _reader(text: str, wanted: set[str]) -> tuple[Any, list[str]]:
    """A reader of the lines below the header, with the separator that yields most wanted columns.

    csv.Sniffer would guess the rules of quoting too, and from a header guesses them wrong.
    """
    readers = []
    for separator in _SEPARATORS:
        reader = csv_format.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True
        )
        columns = [name.strip() for name in next(reader, [])]
        readers.append((reader, columns))
    return max(readers, key=lambda pair: (len(wanted.intersection(pair[1])), len(pair[1])))


def _report(root: Path, left_out: list[str]) -> None:
    if left_out:
        warnings.warn(
            f"{len(left_out)} things in {str(root)!r} were left out: {_shortened(left_out)}",
            TransferclfWarning,
            stacklevel=3,
        )


def _shortened(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(map(str, names[:_NAMED])) + more


def _bunch(root: Path, files: Sequence[Path], labels: Sequence[str], names: list[str]) -> Bunch:
    number = {name: index for index, name in enumerate(names)}
    return Bunch(
        data=np.array([str(file) for file in files], dtype=object),
        target=np.array([number[label] for label in labels]),
        target_names=names,
        filenames=np.array([_within(root, file) for file in files], dtype=object),
        DESCR=f"{len(files)} images of {len(set(labels))} classes in {root}",
    )


def _within(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.as_posix()
