"""The contents of folders: images, further folders, and other things."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted
from PIL import Image

from transferclf.images.formats import is_decoded

# Folders and files that systems put beside those of their users: archives of macOS, network
# drives, file managers, Python. Names that begin with a dot are hidden anyway.
_LITTER = {
    "#recycle",
    "$recycle.bin",
    "@eadir",
    "@recycle",
    "__macosx",
    "__pycache__",
    "desktop.ini",
    "lost+found",
    "system volume information",
    "thumbs.db",
}


class Contents(NamedTuple):
    """Names in a folder, without hidden ones. `others` has the reason why each is no image."""

    images: list[str]
    folders: list[str]
    others: list[tuple[str, str]]


def image_extensions() -> frozenset[str]:
    """File name extensions, in small letters, of all formats that are decoded.

    A plugin may be registered at any time, so that each call asks anew.
    """
    Image.init()
    return frozenset(
        extension for extension, kind in Image.registered_extensions().items() if is_decoded(kind)
    )


def contents(folder: Path, extensions: frozenset[str]) -> Contents:
    """List a folder, in no certain order."""
    found = Contents([], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if _is(entry.is_dir):
                found.folders.append(entry.name)
            elif not _is(entry.is_file):
                found.others.append((entry.name, "is a broken link or no file"))
            elif _has_extension(entry, extensions):
                found.images.append(entry.name)
            else:
                found.others.append((entry.name, "has no known image extension"))
    return found


def has_images(folder: Path, extensions: frozenset[str]) -> bool:
    """Whether there is an image in a folder itself."""
    with os.scandir(folder) as entries:
        return any(
            _has_extension(entry, extensions) and not is_hidden(entry.name) and _is(entry.is_file)
            for entry in entries
        )


def _has_extension(entry: os.DirEntry, extensions: frozenset[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in extensions


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def is_hidden(name: str) -> bool:
    """Whether a folder or file is none of the user's own."""
    return name.startswith(".") or name.lower() in _LITTER


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Sort names so that img2 is before img10.

    natsort takes img1 and img01 for the same; sorting before makes their order certain.
    """
    return natsorted(sorted(names))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in natural order, without hidden ones."""
    names = contents(folder, frozenset()).folders
    return [folder / name for name in in_natural_order(names)]


def walk(
    tops: Sequence[Path], above: Sequence[Path], extensions: frozenset[str]
) -> Iterator[tuple[Path, Contents | None]]:
    """List folders and all folders below them, each once, depth first and in natural order.

    Yield each folder with its contents, or with None where a link leads back to a folder that was
    listed or is in `above`. `extensions` are those of image files.
    """
    seen = {_identity(folder) for folder in above}
    waiting = list(reversed(tops))
    while waiting:
        folder = waiting.pop()
        identity = _identity(folder)
        if identity in seen:
            yield folder, None
            continue
        seen.add(identity)
        found = contents(folder, extensions)
        yield folder, found
        waiting += [folder / name for name in reversed(in_natural_order(found.folders))]


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def has_images_below(folder: Path, above: Sequence[Path], extensions: frozenset[str]) -> bool:
    """Whether there is an image in a folder, or anywhere below it."""
    return any(found and found.images for _, found in walk([folder], above, extensions))


def count_images(
    folders: Sequence[Path], above: Sequence[Path], extensions: frozenset[str], most: int
) -> tuple[int, int]:
    """Count the images in and below folders, looking at no more than `most` folders and files.

    Return the number of images, and how many more could have been looked at: 0 where the count may
    have ended early.
    """
    n_images = 0
    try:
        for _, found in walk(folders, above, extensions):
            if most <= 0:
                break
            if found is not None:
                n_images += len(found.images)
                most -= 1 + len(found.images) + len(found.folders) + len(found.others)
    except PermissionError:
        return n_images, 0
    return n_images, max(most, 0)
