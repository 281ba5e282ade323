"""Columns of Parquet files, read a part of a row group at a time.

A row group may hold gigabytes. It is decoded in order, in blocks of about 16 MB, of which the last
few are kept. Reading in the order of rows therefore decodes each block once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transferclf.exceptions import ImageReadError
from transferclf.images.columns.column import Column
from transferclf.images.lazy import Lock
from transferclf.images.places import name_of
from transferclf.images.places.reading import UntriedError
from transferclf.images.places.remote import is_url, read_problem, shown

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BLOCK_BYTES = 2**24

# Threads are a few images apart, so that two blocks may be in use, and one is kept besides.
BLOCKS_HELD = 3


class Block(NamedTuple):
    """Decoded cells, from the row `start` of the file on."""

    start: int
    cells: pa.Array


class ParquetColumn(Column):
    """A column of a Parquet file, by its path or URL. Pickles contain no images."""

    def __init__(self, file: str, column: str):
        self.file, self._column = file, column
        self._lock = Lock()
        self._opened: pq.ParquetFile | None = None
        groups = self._metadata()
        super().__init__(sum(rows for rows, _ in groups), is_far=is_url(file))
        self._starts = np.cumsum([0, *(rows for rows, _ in groups)])
        self._block_rows = [max(rows * BLOCK_BYTES // max(size, 1), 1) for rows, size in groups]
        self._blocks: deque[Block] = deque(maxlen=BLOCKS_HELD)
        # The row group that is being decoded, its next row, and the blocks that are to come.
        self._next: tuple[int, int, Iterator[pa.RecordBatch]] = (-1, 0, iter(()))
        self._broken: dict[int, tuple[int, str]] = {}

    def __reduce__(self) -> tuple[type[ParquetColumn], tuple[str, str]]:
        return ParquetColumn, (self.file, self._column)

    def cell(self, position: int) -> object:
        """Read one cell, and the block that it is in unless it is held."""
        with self._lock:
            block = self._held(position) or self._decoded(position)
        return block.cells[position - block.start].as_py()

    def name(self, position: int) -> str:
        """Return the path in a cell of a held block, else the file and the row."""
        with self._lock:
            block = self._held(position)
        inner = None if block is None else name_of(block.cells[position - block.start].as_py())
        return inner or f"{shown(self.file)}, row {position}"

    def taken(self, positions: np.ndarray) -> None:
        """Return None: the file is opened again."""

    def _held(self, position: int) -> Block | None:
        for block in self._blocks:
            if block.start <= position < block.start + len(block.cells):
                return block
        return None

    def _decoded(self, position: int) -> Block:
        group = int(np.searchsorted(self._starts, position, side="right")) - 1
        row, text = self._broken.get(group, (len(self), ""))
        if position >= row:
            raise ImageReadError(text)
        current, start, batches = self._next
        if current != group or position < start:
            start, batches = int(self._starts[group]), self._batches(group)
        while True:
            try:
                cells = next(batches).column(0)
            except UntriedError:
                self._next = (-1, 0, iter(()))
                raise
            except Exception as error:  # of pyarrow, or of the system
                self._next = (-1, 0, iter(()))
                text = (
                    f"expected a readable Parquet file, got {shown(self.file)} whose row group "
                    f"{group} is damaged from row {start} on, or cut off "
                    f"({type(error).__name__}: {shown(str(error)):.200})"
                )
                self._broken[group] = start, text
                raise ImageReadError(text) from None
            block = Block(start, cells)
            start += len(cells)
            if position < start:
                self._blocks.append(block)
                self._next = (group, start, batches)
                return block

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        file, rows = self._parquet(), self._block_rows[group]
        return file.iter_batches(rows, row_groups=[group], columns=[self._column])

    def _parquet(self) -> pq.ParquetFile:
        import pyarrow.parquet as pq

        if self._opened is None:
            # Without the buffer, a whole row group would be read ahead.
            self._opened = pq.ParquetFile(opened(self.file), pre_buffer=False, buffer_size=2**20)
        return self._opened

    def _metadata(self) -> list[tuple[int, int]]:
        """Return the number of rows and the bytes of this column in each row group."""
        metadata = self._parquet().metadata
        found = []
        for number in range(metadata.num_row_groups):
            group, size = metadata.row_group(number), 0
            for leaf in range(group.num_columns):
                column = group.column(leaf)
                if column.path_in_schema.partition(".")[0] == self._column:
                    size += column.total_uncompressed_size
            found.append((group.num_rows, size))
        return found

    def __del__(self) -> None:
        with suppress(Exception):
            self._opened.close()  # type: ignore[union-attr]


def opened(file: str) -> str | FarFile:
    """Return a path as it is, and the open file behind a URL."""
    if not is_url(file):
        return file
    import fsspec

    return FarFile(fsspec.open(file, "rb").open(), shown(file))


class FarFile:
    """An open file behind a URL. Errors of reading it say nothing about the images in it."""

    def __init__(self, file: IO[bytes], name: str):
        self._file, self._name = file, name

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes. UntriedError is raised if the server does not send them."""
        try:
            return self._file.read(size)
        except Exception as error:  # file systems raise almost anything
            problem = read_problem(error)
            raise UntriedError(f"not read, because {self._name} was not: {problem}") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
