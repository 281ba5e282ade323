"""Features as files of type .npy, for more of them than memory should hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transferclf._npy import SUFFIX, NpyFile
from transferclf.exceptions import InvalidParameterError
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.features.row_file import Records, RowFile, runs
from transferclf.features.row_space import RowLimit, RowSpace
from transferclf.images.looks import Digests, Looks
from transferclf.images.source import ImageSource

# Rows of NaN that are written at a time.
NAN_ROWS = 256

_FIX = (
    "Name another file, or a folder (a name without .npy), in which the features of each X have a "
    "file of their own."
)


class Placing(NamedTuple):
    """The rows of images in a file of `n_rows`: `positions`, int, ascending. Others are NaN."""

    positions: np.ndarray
    n_rows: int

    @property
    def others(self) -> np.ndarray:
        """The positions of the other rows."""
        return np.setdiff1d(np.arange(self.n_rows), self.positions)


def check_output(output: object) -> Path | None:
    """Return the path of `output`, which is None, a file in an existing folder, or a folder.

    InvalidParameterError is raised for anything else.
    """
    if output is None:
        return None
    if not isinstance(output, str | os.PathLike) or isinstance(os.fspath(output), bytes):
        raise InvalidParameterError(
            "output must be None, the path of a file that ends in .npy, or that of a folder. "
            f"Got {output!r} instead."
        )
    path = Path(output)
    is_folder = path.suffix != SUFFIX
    folder = path if is_folder else path.parent
    if is_folder and path.exists() and not path.is_dir():
        problem = "is a file that does not end in .npy"
    elif not is_folder and path.is_dir():
        problem = "is a folder, and the name ends in .npy"
    elif not is_folder and not folder.is_dir():
        problem = f"is in {str(folder)!r}, which is no folder"
    else:
        return path
    raise InvalidParameterError(f"output={str(path)!r} {problem}.")


def write_features(
    path: Path, read: Extractor, source: ImageSource, prefix: Prefix, placing: Placing
) -> np.memmap:
    """Write the features of all images to a file, and return it as a read-only array.

    In a folder, the file is named after the images, their rows and the network. If it is there
    already, nothing is computed or written.
    """
    if path.suffix == SUFFIX:
        if path.exists():
            message = f"output={str(path)!r} exists, and no file is overwritten. {_FIX}"
            raise InvalidParameterError(message)
        return _written(path, read, source, prefix, placing)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"output={str(path)!r} is a folder that cannot be made: {error}"
        raise InvalidParameterError(message) from error
    looks, keys = read.first_look(source, prefix)
    file = path / _name(keys, read, placing)
    if not file.exists():
        try:
            return _written(file, read, source, prefix, placing, looks)
        except InvalidParameterError:  # another process may have written the same features
            if not file.exists():
                raise
    return _opened(file)


def _written(
    path: Path,
    read: Extractor,
    source: ImageSource,
    prefix: Prefix,
    placing: Placing,
    looks: Looks | None = None,
) -> np.memmap:
    with NpyFile(path, "output") as file:
        room = _NamedFile(file, placing)
        if len(source) == 0:
            none = read.rows(source, prefix)
            room.new(none.shape, none.dtype)
        else:
            part = RowSpace(len(source), room).part()
            keys = read.fill(part, source, prefix, looks=looks)
            if looks is not None:  # files may have been replaced since the first look
                file.path = path.with_name(_name(keys, read, placing))
        room.fill_others()
    return _opened(file.path)


def _name(keys: Digests, read: Extractor, placing: Placing) -> str:
    """Return the name of a file in a folder, from the keys of all features in it."""
    dtype = "float32" if read.store is None else read.store.dtype
    digest = hashlib.sha256(dtype.encode())
    for key in keys:
        digest.update(key)
    if len(placing.positions) < placing.n_rows:
        digest.update(f" {placing.n_rows} rows, without {placing.others.tolist()}".encode())
    return f"features-{digest.hexdigest()[:32]}{SUFFIX}"


def _opened(path: Path) -> np.memmap:
    features: np.memmap = np.load(path, mmap_mode="r")
    return features


class _NamedFile(RowLimit):
    """Room for rows in a file of type .npy; the others are NaN."""

    def __init__(self, file: NpyFile, placing: Placing):
        super().__init__(len(placing.positions))
        self._file, self._placing = file, placing
        self._all: RowFile | None = None

    def new(self, shape: tuple[int, ...], dtype: np.dtype) -> RowFile:
        """Return room for the rows of images; a shape that was begun before is forgotten."""
        positions, n_rows = self._placing
        start = self._file.begin(shape[1:], dtype, n_rows)
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        records = _NamedRecords(self._file, start, size, np.arange(n_rows))
        self._all = RowFile((n_rows, *shape[1:]), dtype, records)
        return RowFile(shape, dtype, _NamedRecords(self._file, start, size, positions))

    def fill_others(self) -> None:
        """Write NaN into the other rows."""
        rows, others = self._all, self._placing.others
        assert rows is not None
        for part in np.split(others, range(NAN_ROWS, len(others), NAN_ROWS)):
            rows[part] = np.full((len(part), *rows.shape[1:]), np.nan, rows.dtype)


class _NamedRecords(Records):
    """The records at some positions, int, ascending, of a file of type .npy."""

    def __init__(self, file: NpyFile, start: int, size: int, positions: np.ndarray):
        super().__init__(file.file, start, size, file.no_room)
        self._positions = positions

    def read(self, first: int, rows: np.ndarray) -> None:
        """Fill rows with these records from the first one on."""
        numbers = self._positions[first : first + len(rows)]
        for begin, end in runs(numbers):
            super().read(int(numbers[begin]), rows[begin:end])

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows as these records from the first one on."""
        numbers = self._positions[first : first + len(rows)]
        for begin, end in runs(numbers):
            super().write(int(numbers[begin]), rows[begin:end])

    def close(self) -> None:
        """Leave the file open; its own context closes it."""
