"""The contents of folders: images, further folders, and other things."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from natsort import natsorted
from PIL import Image

from transferclf.images.formats import is_decoded

# Folders and files that archives of macOS, network drives, file managers and Python add. Names that
# begin with a dot are hidden anyway.
_LITTER = {
    "#recycle", "$recycle.bin", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip


class Contents(NamedTuple):
    """Names in a folder, without hidden ones. `others` are names with the fault of each."""

    images: list[str]
    folders: list[str]
    others: list[tuple[str, str]]


def image_extensions() -> frozenset[str]:
    """Return the file name extensions, in small letters, of all formats that are decoded."""
    Image.init()
    # Not cached, because a plugin may be registered at any time.
    extensions = Image.registered_extensions().items()
    return frozenset(extension for extension, kind in extensions if is_decoded(kind))


def contents(folder: Path, extensions: frozenset[str]) -> Contents:
    """List a folder, in no particular order."""
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
    """Whether there is an image directly in a folder."""
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
    """Whether a folder or file is hidden or was added by a system."""
    return name.startswith(".") or name.lower() in _LITTER


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Sort names so that img2 is before img10."""
    # img1 and img01 are equal for natsort, and sorting before fixes their order.
    return natsorted(sorted(names))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, in natural order, without hidden ones."""
    names = contents(folder, frozenset()).folders
    return [folder / name for name in in_natural_order(names)]


def walk(
    tops: Sequence[Path], above: Sequence[Path], extensions: frozenset[str]
) -> Iterator[tuple[Path, Contents | None]]:
    """List folders and all folders below them, each once, depth first and in natural order.

    Yield each folder with its contents, or with None for a link to a folder that was listed before
    or is in `above`.
    """
    seen = {(status.st_dev, status.st_ino) for status in map(os.stat, above)}
    waiting = list(reversed(tops))
    while waiting:
        folder = waiting.pop()
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            yield folder, None
            continue
        seen.add((status.st_dev, status.st_ino))
        found = contents(folder, extensions)
        yield folder, found
        waiting += [folder / name for name in reversed(in_natural_order(found.folders))]


def has_images_below(folder: Path, above: Sequence[Path], extensions: frozenset[str]) -> bool:
    """Whether there is an image in a folder, or anywhere below it."""
    return any(found and found.images for _, found in walk([folder], above, extensions))


def count_images(
    folders: Sequence[Path], above: Sequence[Path], extensions: frozenset[str], most: int
) -> tuple[int, int]:
    """Count the images in and below folders, among at most `most` folders and files.

    Return the number of images, and how much of `most` is left: 0 if the count may be incomplete.
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
