"""Image files in dicts, as the Image feature of Hugging Face datasets has them in its tables."""

from __future__ import annotations

from transferclf.exceptions import ImageError
from transferclf.images.places.encoded import Encoded
from transferclf.images.places.local import LocalFile
from transferclf.images.places.place import Place
from transferclf.images.places.remote import RemoteFile

KEYS = ("bytes", "path")


def of(item: object) -> Place | None:
    """Return the place in a dict {"bytes": ..., "path": ...}, of which one may be missing or None.

    Return None for anything else. With both, the bytes are read, and the path is only a name.
    """
    if not isinstance(item, dict) or not any(key in item for key in KEYS):
        return None
    return place_in(*(item.get(key) for key in KEYS))


def place_in(data: object, path: object) -> Place:
    """Return the place of bytes, with a path as their name, or of the path if there are none."""
    if path is not None and not isinstance(path, str):
        raise ImageError(f"expected a text in 'path', got {type(path).__name__}")
    if data is None and not path:
        raise ImageError("expected a dict with 'bytes' or 'path', got one with neither")
    if data is None:
        return RemoteFile.of(path) or LocalFile(str(path))
    place = Encoded.of(data)
    if place is None:
        raise ImageError(f"expected bytes in 'bytes', got {type(data).__name__}")
    return Encoded(place.data, path or None)
