"""NumPy's files, written part by part: a file has its name only when it is whole."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from transferclf.exceptions import DiskSpaceError, InvalidParameterError

SUFFIX = ".npy"


class NpyFile:
    """A new file of type .npy, to be used as a context.

    Until the end of the context it has another name, which begins with its own and ends in
    ".part". After an error or Ctrl-C it is removed. Only a process that is killed leaves it there.
    A file that exists is never overwritten.

    Parameters
    ----------
    path : Path
        The name of the file, in an existing folder.
    name : str
        The parameter that the path comes from, for messages.

    Raises
    ------
    InvalidParameterError
        If there is such a file, or no file can be made there.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "numbers.npy"
    ...     with NpyFile(path, "output") as file:
    ...         start = file.begin((2,), np.float32)
    ...         file.append(np.ones((3, 2), np.float32))
    ...     np.load(path).shape
    (3, 2)
    """

    def __init__(self, path: Path, name: str):
        self.path, self._name = path, name
        self.start, self._n_rows = 0, 0
        self._row_shape: tuple[int, ...] = ()
        self._dtype: np.dtype = np.dtype(np.float32)
        if os.path.lexists(path):
            raise self._exists()
        self._temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            self.file: BinaryIO = open(self._temporary, "x+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            reason = error.strerror or error
            message = f"{name}={str(path)!r}: no file can be made in {str(path.parent)!r}: {reason}"
            raise InvalidParameterError(message) from error

    def begin(self, row_shape: tuple[int, ...], dtype: np.typing.DTypeLike, n_rows: int = 0) -> int:
        """Write the header for rows of this shape, and return its length.

        DiskSpaceError is raised if the disk has no room for `n_rows` rows. These may be written by
        their positions; `append` begins after them.
        """
        self._row_shape, self._dtype = tuple(row_shape), np.dtype(dtype)
        self._n_rows = n_rows
        self.file.truncate(0)
        self._write_header()
        self.start = self.file.tell()
        total = n_rows * self._row_bytes
        free = shutil.disk_usage(self.path.parent).free
        if free < total:
            raise self.no_room(f"{free / 1e6:,.0f} MB are free, and {total / 1e6:,.0f} are needed")
        self.file.truncate(self.start + total)
        self.file.seek(0, os.SEEK_END)
        return self.start

    def append(self, rows: np.ndarray) -> None:
        """Write further rows after the last one."""
        rest = np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data
        try:
            while len(rest):
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            raise self.no_room(error) from error
        self._n_rows += len(rows)

    def no_room(self, reason: object) -> DiskSpaceError:
        """Return the error of a disk without room for the file."""
        return DiskSpaceError(
            f"{self._name}={str(self.path)!r} does not fit on the disk: {reason}. Free that disk, "
            "or name a file on a larger one."
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._write_header()
                self.file.close()
                self._publish()
        finally:
            self.file.close()
            self._temporary.unlink(missing_ok=True)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self._row_shape, dtype=np.int64)) * self._dtype.itemsize

    def _write_header(self) -> None:
        # NumPy leaves room for any number of rows, so that the length of the header stays.
        self.file.seek(0)
        facts = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._n_rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self.file, facts)

    def _publish(self) -> None:
        """Give the file its name, unless another process has made such a file meanwhile."""
        try:
            os.link(self._temporary, self.path)
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:  # no links on this file system
            if error.errno == errno.ENOSPC:
                raise self.no_room(error) from error
            if os.path.lexists(self.path):
                raise self._exists() from None
            os.replace(self._temporary, self.path)

    def _exists(self) -> InvalidParameterError:
        return InvalidParameterError(
            f"{self._name}={str(self.path)!r} exists, and no file is overwritten, because an array "
            "in use may be read from it. Remove it, or name another file."
        )
