"""Space for the rows of some images: an array, or a file if the array would be too large."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import NetworkError
from transferclf.features.row_file import (
    RowFile,
    Rows,
    aligned,
    no_room,
    part_of,
    size_text,
    temporary_folder,
)

# Bytes that are read or copied at a time.
CHUNK_BYTES = 2**25


class OtherWidthError(NetworkError):
    """Rows of one space have different shapes."""


class RowLimit:
    """The limit of memory for `n_rows` rows, of one or several spaces.

    Where all of them together would have more than `max_bytes`, they are in files. Use it as a
    context, which removes these files at its end. None is no limit. `what` names the rows where
    `verbose` says, once, that there is a file.
    """

    def __init__(
        self, n_rows: int, max_bytes: int | None = None, what: str = "rows", verbose: int = 0
    ):
        self.n_rows, self.max_bytes = n_rows, max_bytes
        self._what, self._verbose = what, verbose
        self._files: list[RowFile] = []

    def new(self, shape: tuple[int, ...], dtype: np.dtype) -> Rows:
        """Return room for rows of a space."""
        total = self.n_rows * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        if self.max_bytes is None or total <= self.max_bytes:
            return aligned(shape, dtype)
        if not self._files:
            self._begin_files(total, self.max_bytes)
        self._files.append(RowFile(shape, dtype))
        return self._files[-1]

    def _begin_files(self, total: int, most: int) -> None:
        """Raise DiskSpaceError if the disk cannot hold all the rows; say that they go there."""
        folder = temporary_folder()
        free = shutil.disk_usage(folder).free
        if free < total:
            raise no_room(total, f"{size_text(free)} are free")
        if self._verbose:
            say(
                f"{self._what}: {size_text(total)} are more than max_memory allows "
                f"({size_text(most)}), and are read from a temporary file in {folder}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files:
            file.close()


class RowSpace:
    """Space for `n_rows` rows, which are written in any order.

    The first rows set the shape and the type. Whole numbers of 8 bits become float32 when rows of
    float32 follow. `rows` are an array or a file.
    """

    def __init__(self, n_rows: int, limit: RowLimit | None = None):
        self.n_rows = n_rows
        self._limit = RowLimit(n_rows) if limit is None else limit
        self._rows: Rows | None = None
        self._parts: set[int] = set()  # the starts of the parts that have rows

    @property
    def rows(self) -> Rows:
        """All rows, of which some must have been written."""
        assert self._rows is not None
        return self._rows

    def part(self, start: int = 0, stop: int | None = None) -> RowPart:
        """Return the space for the rows from `start` to before `stop`."""
        return RowPart(self, start, self.n_rows if stop is None else stop)

    def for_rows(self, shape: tuple[int, ...], dtype: np.dtype, start: int) -> Rows:
        """Return the room that can take rows of this shape; it becomes wider where needed."""
        if self._rows is None:
            self._rows = self._limit.new((self.n_rows, *shape), dtype)
        elif self._rows.shape[1:] != shape:
            raise OtherWidthError(
                f"expected rows of shape {self._rows.shape[1:]} as for other images, got {shape}"
            )
        elif self._rows.dtype != dtype and self._rows.dtype == np.uint8:
            self._rows = self._widened(self._rows, dtype)
        self._parts.add(start)
        return self._rows

    def _widened(self, rows: Rows, dtype: np.dtype) -> Rows:
        wide = self._limit.new(rows.shape, dtype)
        for start, stop in chunks_of(rows):
            wide[start:stop] = rows[start:stop]
        if isinstance(rows, RowFile):
            rows.close()
        return wide

    def forget(self, start: int) -> None:
        """Forget the shape, if only the part with this start has rows."""
        if self._parts <= {start}:
            if isinstance(self._rows, RowFile):
                self._rows.close()
            self._rows = None


class RowPart:
    """Consecutive rows of a space. Positions count from the first of them."""

    def __init__(self, space: RowSpace, start: int, stop: int):
        self._space, self._start, self._stop = space, start, stop

    @property
    def rows(self) -> Rows:
        """The rows of this part, of which some must have been written."""
        rows = self._space.rows
        is_whole = self._stop - self._start == len(rows)
        return rows if is_whole else part_of(rows, self._start, self._stop)

    @property
    def row_bytes(self) -> int | None:
        """Size of a row; None while nothing has been written."""
        rows = self._space._rows
        if rows is None:
            return None
        return int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize

    @property
    def is_in_file(self) -> bool:
        """Whether the rows are in a file."""
        return isinstance(self._space._rows, RowFile)

    def put(self, position: int, row: np.ndarray) -> None:
        """Write one row."""
        rows = self._space.for_rows(row.shape, row.dtype, self._start)
        rows[self._start + position] = row

    def __setitem__(self, positions: np.ndarray, rows: np.ndarray) -> None:
        room = self._space.for_rows(rows.shape[1:], rows.dtype, self._start)
        room[self._start + positions] = rows

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        return self._space.rows[self._start + positions]

    def forget(self) -> None:
        """Forget the shape, if no other part has rows."""
        self._space.forget(self._start)


def chunks_of(rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield start and stop of parts of the rows that are small enough to be read at once."""
    row_bytes = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize
    step = max(1, CHUNK_BYTES // max(row_bytes, 1))
    for start in range(0, len(rows), step):
        yield start, min(start + step, len(rows))
