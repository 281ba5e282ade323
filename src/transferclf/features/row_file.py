"""Rows in a file, for more of them than memory should hold."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias

import numpy as np

from transferclf.engines.engine import ALIGNMENT
from transferclf.exceptions import DiskSpaceError

_UNITS = {"GB": 1e9, "MB": 1e6, "kB": 1e3}

# Variables that name the folder of temporary files; see the documentation of tempfile.
_NAMES_OF_FOLDERS = ("TMPDIR", "TEMP", "TMP")
_IN_MEMORY, _ON_DISK = "/tmp", "/var/tmp"


class RowFile:
    """Rows (n, ...) of one type in a temporary file; array-like as far as training needs.

    A row has a fixed size and is written and read by its position. Rows are read into memory of
    their own and not mapped, because the pages of a mapped file count as memory of the process.

    The file has no name wherever the system allows that, and is removed as soon as it is closed. So
    nothing is left after an error, Ctrl-C or the end of the process by a signal. `close` is safe to
    call again. A part shares the file and is closed with it.

    The feature store cannot take the place of this file: it is bounded, may be in memory or None,
    and an image whose row it has dropped would go through the network again in each epoch.

    Parameters
    ----------
    shape : tuple of int
        Number of rows, and the shape of each.
    dtype : numpy dtype
        Type of the values.
    records : Records, default=None
        Records of an open file; None makes a temporary file.

    Examples
    --------
    >>> rows = RowFile((3, 2), np.float32)
    >>> rows[np.array([2, 0])] = np.array([[5, 6], [1, 2]])
    >>> rows[np.array([0, 2, 2])].tolist()
    [[1.0, 2.0], [5.0, 6.0], [5.0, 6.0]]
    >>> rows.close()
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.typing.DTypeLike, records: Records | None = None
    ):
        self.shape = tuple(map(int, shape))
        self.dtype = np.dtype(dtype)
        self._start = 0
        self._records = records or temporary_records(self.nbytes, self.row_bytes)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Size of all rows."""
        return len(self) * self.row_bytes

    def __getitem__(self, positions: int | slice | np.ndarray) -> np.ndarray:
        numbers = self._numbers(positions)
        rows = aligned((len(numbers), *self.shape[1:]), self.dtype)
        for begin, end in runs(numbers):
            self._records.read(self._start + int(numbers[begin]), rows[begin:end])
        return rows[0] if _is_one(positions) else rows

    def __setitem__(self, positions: int | slice | np.ndarray, rows: np.ndarray) -> None:
        numbers = self._numbers(positions)
        values = np.asarray(rows, self.dtype, order="C")
        expected = self.shape[1:] if _is_one(positions) else (len(numbers), *self.shape[1:])
        if values.shape != expected:
            raise ValueError(f"expected rows of shape {expected}, got {values.shape}")
        values = values.reshape(len(numbers), *self.shape[1:])
        for begin, end in runs(numbers):
            self._records.write(self._start + int(numbers[begin]), values[begin:end])

    def part(self, start: int, stop: int) -> RowFile:
        """Return the rows from `start` to before `stop`, in the same file."""
        first, last, _ = slice(start, stop).indices(len(self))
        part = object.__new__(RowFile)
        part.shape = (max(last - first, 0), *self.shape[1:])
        part.dtype, part._start, part._records = self.dtype, self._start + first, self._records
        return part

    def close(self) -> None:
        """Remove the file."""
        self._records.close()

    def _numbers(self, positions: int | slice | np.ndarray) -> np.ndarray:
        """Return positions as whole numbers from 0 on; IndexError if there is no such row."""
        if isinstance(positions, slice):
            return np.arange(*positions.indices(len(self)))
        numbers = np.atleast_1d(positions)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise IndexError(f"expected a whole number, a slice or an array, got {positions!r}")
        wrong = (numbers < -len(self)) | (numbers >= len(self))
        if wrong.any():
            raise IndexError(f"expected positions below {len(self)}, got {numbers[wrong][0]}")
        return np.where(numbers < 0, numbers + len(self), numbers)


Rows: TypeAlias = np.ndarray | RowFile


def part_of(rows: Rows, start: int, stop: int) -> Rows:
    """Return consecutive rows without reading them."""
    return rows.part(start, stop) if isinstance(rows, RowFile) else rows[start:stop]


def aligned(shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return a new array that TensorFlow can use without a copy, with any values."""
    kind = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + nbytes].view(kind).reshape(shape)


def temporary_folder() -> str:
    """Return the folder of large temporary files.

    It is the one that TMPDIR names. Without that it is not /tmp, which many systems hold in memory,
    but /var/tmp. Source: the manual page file-hierarchy(7) of systemd.
    """
    usual = tempfile.gettempdir()
    is_chosen = usual != _IN_MEMORY or any(map(os.environ.get, _NAMES_OF_FOLDERS))
    return usual if is_chosen or not os.access(_ON_DISK, os.W_OK | os.X_OK) else _ON_DISK


def size_text(nbytes: int) -> str:
    """Return a size in words.

    Examples
    --------
    >>> size_text(1_230_000)
    '1.23 MB'
    """
    name = next((name for name, size in _UNITS.items() if nbytes >= size), None)
    return f"{nbytes} bytes" if name is None else f"{nbytes / _UNITS[name]:.3g} {name}"


def no_room(nbytes: int, reason: object) -> DiskSpaceError:
    """Return the error of a disk that cannot hold rows of this size."""
    return DiskSpaceError(
        f"expected room for {size_text(nbytes)} of rows in a temporary file in "
        f"{temporary_folder()!r}, got: {reason}. Free that disk, let the environment variable "
        "TMPDIR name a folder on a larger one, or set max_memory to more than that size."
    )


def _is_one(positions: object) -> bool:
    return np.ndim(positions) == 0 and not isinstance(positions, slice)  # type: ignore[arg-type]


def runs(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of consecutive numbers."""
    if len(numbers):
        breaks = (np.flatnonzero(np.diff(numbers) != 1) + 1).tolist()
        yield from zip([0, *breaks], [*breaks, len(numbers)], strict=True)


class Records:
    """Records of one size in an open file, from `start` on; several threads may use it.

    `no_room` makes the error of a full disk from the system's.
    """

    def __init__(
        self, file: BinaryIO, start: int, size: int, no_room: Callable[[object], DiskSpaceError]
    ):
        self._file, self._start, self._size, self._no_room = file, start, size, no_room
        self._lock = threading.Lock()

    def read(self, first: int, rows: np.ndarray) -> None:
        """Fill rows with the records from the first one on."""
        rest = _bytes_of(rows)
        with self._lock:
            self._file.seek(self._start + first * self._size)
            while len(rest):
                n_read = self._file.readinto(rest)  # type: ignore[attr-defined]
                if not n_read:
                    raise OSError("expected a temporary file of rows to stay as it is, got its end")
                rest = rest[n_read:]

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows as the records from the first one on."""
        rest = _bytes_of(rows)
        with self._lock:
            self._file.seek(self._start + first * self._size)
            try:
                while len(rest):
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                raise self._no_room(error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def temporary_records(nbytes: int, size: int) -> Records:
    """Return records in a new temporary file of so many bytes."""
    try:
        file: BinaryIO = tempfile.TemporaryFile(  # noqa: SIM115
            buffering=0, prefix="transferclf-rows-", dir=temporary_folder()
        )
        file.truncate(nbytes)  # rows that nobody has written are zeros
    except OSError as error:
        raise no_room(nbytes, error) from error
    return Records(file, 0, size, functools.partial(no_room, nbytes))


def _bytes_of(rows: np.ndarray) -> memoryview:
    return rows.reshape(-1).view(np.uint8).data
