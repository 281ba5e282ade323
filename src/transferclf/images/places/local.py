"""Image files on a disk, by their paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from transferclf.exceptions import ImageError
from transferclf.images.files import Contents, contents_of, path_problem


@dataclass(frozen=True, slots=True)
class LocalFile:
    """An image file on a disk. Its path is kept as text."""

    is_far: ClassVar[bool] = False

    path: str

    @classmethod
    def of(cls, item: object) -> LocalFile | None:
        """Return the place of a path, else None."""
        return cls(os.fsdecode(item)) if isinstance(item, str | os.PathLike) else None

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    item = name

    def problem(self) -> ImageError | None:
        """Return the error if there is no file that may be read."""
        return path_problem(self.path)

    def read(self, held: int | None = None) -> Contents:
        """Open the file. More than `held` bytes (None: 2**24) are not read into memory."""
        return contents_of(self.path, held)
