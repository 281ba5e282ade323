"""Files that a command reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from transferclf.cli.endings import Refusal
from transferclf.datasets.trees import image_extensions, in_natural_order, walk
from transferclf.exceptions import ImageError
from transferclf.images.places.remote import is_url


def checked_output(path: str, suffixes: Sequence[str] = ()) -> Path:
    """Return the path of a file to be written; refuse one that cannot be, before any work."""
    place = Path(path)
    if suffixes and place.suffix.lower() not in suffixes:
        raise Refusal(f"expected a file that ends in {' or '.join(suffixes)}. Got {path} instead.")
    if place.is_dir():
        raise Refusal(f"expected the name of a file, got the folder {path}")
    if not place.parent.is_dir():
        raise Refusal(f"{path} cannot be written: there is no folder {place.parent}")
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise Refusal(f"{path} cannot be written: no permission to write in {place.parent}")
    return place


def images_of(given: Sequence[str]) -> list[str]:
    """Return files and URLs as they are, and all images in folders and the folders below them."""
    return [file for place in given for file in _images_of(place)]


def _images_of(place: str) -> Iterator[str]:
    if is_url(place) or not os.path.isdir(place):
        yield place
        return
    listings = walk([Path(place)], [], image_extensions())
    found = [(folder, listing) for folder, listing in listings if listing and listing.images]
    if not found:
        raise ImageError(f"there are no images in the folder {place}")
    for folder, listing in found:
        yield from (str(folder / name) for name in in_natural_order(listing.images))
