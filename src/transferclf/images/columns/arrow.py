"""Columns of Arrow: arrays of pyarrow, and Series of pandas over them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.columns.column import EXPECTED, Column, holds_images, is_text
from transferclf.images.places import name_of, place_of

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowColumn(Column):
    """An array of pyarrow, in memory or mapped from a file."""

    def __init__(self, values: pa.ChunkedArray):
        super().__init__(len(values))
        self.values = values
        if is_text(values.type):
            self.is_far = any(_is_far(values[i].as_py()) for i in range(min(len(self), 32)))

    @classmethod
    def of(cls, X: object) -> ArrowColumn | None:
        """Return the column of an Arrow array or a pandas Series of an Arrow type, else None."""
        pa: Any = sys.modules.get("pyarrow")
        if pa is None:
            return None
        if type(getattr(X, "dtype", None)).__name__ == "ArrowDtype" and hasattr(X, "array"):
            X = X.array.__arrow_array__()
        if isinstance(X, pa.Table | pa.RecordBatch):
            raise ImageError(
                f"X must be images. Got a table with the columns {X.schema.names}; pass the column "
                "with the images, X[NAME]."
            )
        if isinstance(X, pa.Array):
            X = pa.chunked_array([X])
        if not isinstance(X, pa.ChunkedArray):
            return None
        if not holds_images(X.type):
            raise ImageError(f"X must be a column of {EXPECTED}. Got one of type {X.type}.")
        return cls(X)

    def cell(self, position: int) -> object:
        """Return one cell."""
        return self.values[position].as_py()

    def name(self, position: int) -> str | None:
        """Return the path in a cell, or None."""
        return name_of(self.cell(position))

    def faults(self) -> dict[int, ImageError]:
        """Return the faults of cells that are missing, by position. No images are read."""
        found: dict[int, ImageError] = {}
        for position in np.flatnonzero(np.asarray(self.values.is_null())).tolist():
            try:
                self[position]
            except ImageError as error:
                found[position] = error
        return found

    def taken(self, positions: np.ndarray) -> ArrowColumn:
        """Return the column of these rows alone, to be pickled."""
        return ArrowColumn(self.values.take(positions))


def _is_far(cell: object) -> bool:
    place = None if cell is None else place_of(cell)
    return place is not None and place.is_far
