"""Parquet files as tables of images: their labels are read, and their images lazily."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from transferclf.datasets.bunches import Place
from transferclf.datasets.remote_paths import RemotePath
from transferclf.exceptions import ImageError, InvalidParameterError, how_to_install
from transferclf.images import ImageSource, check_images
from transferclf.images.columns.column import EXPECTED, holds_images, is_text
from transferclf.images.columns.parquet import ParquetColumn, opened
from transferclf.images.places.remote import RemoteFile, read_problem

SUFFIXES = (".parquet", ".pq")


def is_parquet(file: Place) -> bool:
    """Whether a table is a Parquet file by its name."""
    return file.name.lower().partition("?")[0].endswith(SUFFIXES)


class ParquetTable:
    """A Parquet file whose labels are read, with the shape and columns of a data frame."""

    def __init__(self, file: Place, image_column: Hashable, labels: Sequence[Hashable]):
        if not isinstance(file, RemotePath):
            file.open("rb").close()  # raises an error if it cannot be read
        try:
            import pyarrow.parquet as pq
        except ImportError:
            raise InvalidParameterError(
                f"{file.name} is a Parquet file, which needs pyarrow. " + how_to_install("parquet")
            ) from None
        self._path, self._image_column = str(file), image_column
        if isinstance(file, RemotePath) and (problem := RemoteFile(str(file)).problem()):
            raise problem
        try:
            with pq.ParquetFile(opened(self._path)) as parquet:
                self._schema = parquet.schema_arrow
                self.columns = list(self._schema.names)
                is_named = image_column in self.columns
                self.holds_files = is_named and is_text(self._kind)
                wanted = [*labels, *([image_column] if self.holds_files else [])]
                known = [name for name in wanted if name in self.columns]
                self._values = parquet.read(known).to_pydict()
                self._length = parquet.metadata.num_rows
        except FileNotFoundError:
            raise
        except Exception as error:
            raise _unreadable(file, error) from None

    @property
    def _kind(self) -> Any:
        return self._schema.field(self._image_column).type

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, column: Hashable) -> list[object]:
        """Return the values of a column; of the images, the numbers of their rows."""
        if column in self._values:
            return self._values[column]
        return [f"row {number}" for number in range(len(self))]

    def images(self) -> ImageSource:
        """Return the images, which are read when they are needed."""
        if not holds_images(self._kind):
            raise ImageError(
                f"the column {self._image_column!r} must hold {EXPECTED}. Got one of type "
                f"{self._kind}."
            )
        return check_images(ParquetColumn(self._path, str(self._image_column)))


def _unreadable(file: Place, error: Exception) -> Exception:
    if isinstance(file, RemotePath) and isinstance(error, OSError):
        return read_problem(error)
    return ValueError(
        f"expected {file.name} to be a Parquet file, got {type(error).__name__}: {error}; "
        "it may be cut off or damaged"
    )
