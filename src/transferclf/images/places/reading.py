"""Reading of the encoded images of one X, which remembers what it has read from far away."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from transferclf.exceptions import ImageReadError
from transferclf.images.files import Contents
from transferclf.images.places.place import Place
from transferclf.images.places.remote import UnansweredError

# Bytes of remote files that are kept for each X. An extraction looks at all images before it
# decodes those that are not stored, so that others are read twice.
KEPT_BYTES = 2**28

# After this number of files in a row without an answer, no more are tried.
UNANSWERED = 8


class UntriedError(ImageReadError):
    """An image was not read, for a reason that has nothing to do with it: a server is silent."""


class Reader:
    """Reads encoded images, and keeps the bytes of the first remote ones.

    All slices of a source share one. It is not pickled with them.
    """

    def __init__(self) -> None:
        self._kept: dict[Place, bytes] = {}
        self._room = KEPT_BYTES
        self._unanswered = 0
        self._reason = ""
        self._lock = threading.Lock()

    def contents(self, place: Place, held: int | None = None) -> AbstractContextManager[Contents]:
        """Return the bytes in a place, for use in a ``with`` block; see :meth:`.Place.read`."""
        if not place.is_far:
            return place.read(held)
        kept = self._kept.get(place)
        return Contents(kept) if kept is not None else self._from_far(place)

    def ask_again(self) -> None:
        """Try servers again that gave no answer."""
        with self._lock:
            self._unanswered = 0

    def _from_far(self, place: Place) -> Contents:
        if self._unanswered >= UNANSWERED:
            raise UntriedError(
                f"not read, because {UNANSWERED} files before it got no answer, one after another; "
                f"the last: {self._reason}"
            )
        try:
            contents = place.read()
        except UnansweredError as error:
            with self._lock:
                self._unanswered += 1
                self._reason = str(error)
            raise
        with self._lock:
            self._unanswered = 0
            if contents.size <= self._room and place not in self._kept:
                self._room -= contents.size
                self._kept[place] = contents.data
        return contents
