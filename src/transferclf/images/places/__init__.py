"""Places of encoded images. Each kind is one module, and one line in KINDS.

A source keeps paths and URLs as text, and bytes as they are. :func:`place_of` says where and how
such an item is read. Nothing else tells the kinds apart.
"""

from __future__ import annotations

from collections.abc import Callable

from transferclf.exceptions import ImageError
from transferclf.images.places import dicts
from transferclf.images.places.encoded import Encoded
from transferclf.images.places.local import LocalFile
from transferclf.images.places.place import Place as Place
from transferclf.images.places.remote import RemoteFile

# Each returns the place of an item, or None if the item is of another kind. The first one counts.
KINDS: tuple[Callable[[object], Place | None], ...] = (
    RemoteFile.of,
    LocalFile.of,
    Encoded.of,
    dicts.of,
)


def place_of(item: object) -> Place | None:
    """Return the place of an encoded image, or None for an item that is none.

    Raise ImageError for an item of a known kind that holds no image.
    """
    for kind in KINDS:
        if (place := kind(item)) is not None:
            return place
    return None


def name_of(item: object) -> str | None:
    """Return the path or URL of an image for messages, or None if it has none."""
    try:
        place = place_of(item)
    except ImageError:
        return None
    return None if place is None else place.name
