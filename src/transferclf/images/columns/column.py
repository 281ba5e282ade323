"""Columns of tables whose cells are encoded images, read a row at a time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.lazy import LazyItems
from transferclf.images.places import place_of
from transferclf.images.places.dicts import KEYS

if TYPE_CHECKING:
    from transferclf.images.checking import Item

EXPECTED = "bytes, text (paths or URLs) or structs with 'bytes' and 'path'"


class Column(LazyItems):
    """A column of bytes, of paths or URLs, or of structs of both.

    `length` is the number of rows. With `is_far`, the cells are read over a network.
    """

    def __init__(self, length: int, is_far: bool = False):
        self._length = length
        self.is_far = is_far

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def cell(self, position: int) -> object:
        """Read one cell: bytes, a text, a dict, or None."""

    def __getitem__(self, position: int) -> Item:
        cell = self.cell(int(position))
        place = None if cell is None else place_of(cell)
        if place is None:
            raise ImageError(f"expected an image in this row, got {_named(cell)}")
        if (problem := place.problem()) is not None:
            raise problem
        return place.item  # type: ignore[return-value]

    def faults(self) -> dict[int, ImageError]:
        """Return the faults that are found without reading images, by position."""
        return {}

    def decided_range(self, positions: np.ndarray) -> None:
        """Return None: the modes of image files determine their range."""

    def sample(self, positions: np.ndarray) -> Iterator[Item]:
        """Yield nothing: no cell is an array."""
        return iter(())


def _named(cell: object) -> str:
    return "None" if cell is None else type(cell).__name__


def holds_images(kind: Any) -> bool:
    """Whether an Arrow type may hold encoded images: bytes, texts, or structs of both."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.get_field_index(key) >= 0 for key in KEYS)
    return is_bytes(kind) or is_text(kind)


def is_bytes(kind: Any) -> bool:
    """Whether an Arrow type is bytes."""
    return str(kind) in ("binary", "large_binary", "binary_view")


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is text."""
    return str(kind) in ("string", "large_string", "string_view")
