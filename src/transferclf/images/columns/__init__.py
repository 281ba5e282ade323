"""Columns of tables with encoded images. Each kind is one module, and one line in KINDS."""

from __future__ import annotations

from collections.abc import Callable

from transferclf.images.columns.arrow import ArrowColumn
from transferclf.images.columns.column import Column as Column
from transferclf.images.columns.hugging_face import DatasetColumn

# Each returns the column that X is, or None if it is of another kind.
KINDS: tuple[Callable[[object], Column | None], ...] = (ArrowColumn.of, DatasetColumn.of)


def column_of(X: object) -> Column | None:
    """Return the column of encoded images that X is, else None.

    ImageError is raised for a whole table, and for a column of anything else.
    """
    if isinstance(X, Column):
        return X
    if isinstance(X, list | tuple):
        return None
    return next((column for kind in KINDS if (column := kind(X)) is not None), None)
