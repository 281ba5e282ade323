"""What every kind of place of an encoded image can do."""

from __future__ import annotations

from typing import ClassVar, Protocol

from transferclf.exceptions import ImageError
from transferclf.images.files import Contents


class Place(Protocol):
    """The place of one image file: on a disk, in memory, behind a URL.

    A place is small, can be pickled and holds no open file.
    """

    # Whether reading waits for a network, so that many images should be read at the same time.
    is_far: ClassVar[bool]

    @property
    def name(self) -> str | None:
        """The path or URL for messages, or None."""

    @property
    def item(self) -> object:
        """The object that a source keeps for this image; :func:`place_of` finds its place again."""

    def problem(self) -> ImageError | None:
        """Return the fault that is known without reading, or None."""

    def read(self, held: int | None = None) -> Contents:
        """Return the bytes, for use in a ``with`` block. Raise ImageReadError if there are none.

        A kind may leave files of more than `held` bytes on the disk (None is its default).
        """
