"""Image files in memory, as their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images.files import Contents


@dataclass(frozen=True, slots=True)
class Encoded:
    """The bytes of an image file, and the name of the file if it has one."""

    is_far: ClassVar[bool] = False

    data: bytes
    name: str | None = None

    @classmethod
    def of(cls, item: object) -> Encoded | None:
        """Return the place of bytes, else None."""
        if isinstance(item, np.bytes_):
            raise ImageError(
                "expected bytes, got an element of an array of bytes, which lacks zeros at its "
                "end; pass a list, or an array with dtype=object"
            )
        if isinstance(item, bytes):
            return cls(item)
        if isinstance(item, bytearray | memoryview):
            return cls(bytes(item))
        return item if isinstance(item, Encoded) else None

    @property
    def item(self) -> bytes | Encoded:
        """The bytes, if that is all."""
        return self.data if self.name is None else self

    def problem(self) -> ImageError | None:
        """Return the error if there are no bytes."""
        return None if self.data else ImageReadError("expected an image file, got no bytes")

    def read(self, held: int | None = None) -> Contents:
        """Return the bytes, which are in memory already."""
        return Contents(self.data)
