"""Columns of datasets of Hugging Face, with the Image feature or with bytes, paths or URLs.

Images are read from the table of the dataset and decoded here, so that they have the digests of
their files. Indexing such a column would decode them before.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.checking import Item
from transferclf.images.columns.column import EXPECTED, Column, holds_images
from transferclf.images.lazy import LazyItems

# Up to this number of images, pickles contain them. Others contain the dataset.
PICKLED = 256


class DatasetColumn(Column):
    """A column of a dataset that is read from its Arrow table a row at a time."""

    def __init__(self, dataset: Any, column: str):
        super().__init__(len(dataset))
        self._column = column
        self._rows = dataset.select_columns([column]).with_format("arrow")

    @classmethod
    def of(cls, X: Any) -> DatasetColumn | None:
        """Return the column of a dataset, else None.

        None too if the dataset has a transform, which may make other images of the cells.
        """
        datasets: Any = sys.modules.get("datasets")
        if datasets is None or type(X).__module__.partition(".")[0] != "datasets":
            return None
        if hasattr(X, "column_names") and not hasattr(X, "column_name"):
            raise ImageError(
                f"X must be images. Got a {type(X).__name__} with the columns {X.column_names}; "
                "pass images and labels apart: X = data['image'], y = data['label']."
            )
        source, name = getattr(X, "source", None), getattr(X, "column_name", None)
        if not isinstance(source, datasets.Dataset):
            raise ImageError(
                f"X must be a column of a datasets.Dataset. Got {type(X).__name__} of "
                f"{type(source).__name__}; load the dataset without streaming."
            )
        if source.format["type"] == "custom":
            return None
        column = cls(source, str(name))
        kind = column._rows.data.schema.field(name).type
        if not holds_images(kind):
            raise ImageError(f"X must be a column of {EXPECTED}. Got one of type {kind}.")
        return column

    def cell(self, position: int) -> object:
        """Read one cell."""
        return self._rows[position].column(self._column)[0].as_py()

    def taken(self, positions: np.ndarray) -> LazyItems | list[Item] | np.ndarray | None:
        """Return few images to be pickled; None for more, whose dataset is pickled."""
        return super().taken(positions) if len(positions) <= PICKLED else None
