"""The images in class folders, and the files and folders that are left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from natsort import natsorted
from PIL import Image

from transferclf._spelling import in_nfc, quoted, shortened
from transferclf.datasets.bunches import Place, below, within
from transferclf.datasets.remote_paths import Entry, RemotePath
from transferclf.images.formats import is_decoded

# The number of folders and files below the class folders that are listed to count their images.
MOST_COUNTED = 100_000

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


class LabelledImage(NamedTuple):
    """An image of a class. `group` is the first folder below the class folder, or the file."""

    file: Place
    label: str
    group: str


class ImageTree:
    """Class folders below a root, and remarks on the files and folders that were left out."""

    def __init__(self, root: Place, recursive: bool):
        self.root = root
        self.recursive = recursive
        self._extensions = image_extensions()
        self._left_out: list[str] = []
        self._nested: list[Place] = []
        self._n_nested = 0
        self._left_to_count = MOST_COUNTED

    def read(self, parents: Sequence[Place], classes: Sequence[str] | None) -> list[LabelledImage]:
        """Read the class folders in these folders: all, or only these classes."""
        for folder in dict.fromkeys([self.root, *parents]):
            strays = contents(folder, self._extensions).images
            self._leave_out(folder, ((name, "is in no class folder") for name in strays))
        images = []
        for parent in parents:
            for folder in subfolders(parent):
                label = in_nfc(folder.name)
                if classes is None or label in classes:
                    files = self._files_of(folder, [self.root, parent])
                    for file in files:
                        inner = below(folder, file).parts
                        group = inner[0] if len(inner) > 1 else within(self.root, file)
                        images.append(LabelledImage(file, label, in_nfc(group)))
        return images

    def holds_images(self, folder: Place, parent: Place) -> bool:
        """Whether a class folder has images that would be read."""
        if not self.recursive:
            return has_images(folder, self._extensions)
        listings = walk([folder], [self.root, parent], self._extensions)
        return any(found and found.images for _, found in listings)

    def remark(self) -> str:
        """Name the files and folders that were left out, if any."""
        if not self._left_out:
            return ""
        things = shortened(self._left_out)
        return f"{len(self._left_out)} things in {str(self.root)!r} were left out: {things}"

    def remark_on_nested(self) -> str:
        """Name the folders below class folders that were left out with their images, if any."""
        if not self._nested:
            return ""
        least = "" if self._left_to_count else "at least "
        count = f"{least}{self._n_nested} image{'s' if self._n_nested != 1 else ''}"
        folders = shortened([within(self.root, folder) for folder in self._nested])
        return (
            f"{count} in folders below the class folders of {str(self.root)!r} were left out "
            f"({folders}); recursive=True reads them too"
        )

    def nothing_found(self, classes: Sequence[str] | None) -> str:
        """Return an error message: no images, the expected layout, and the remarks."""
        which = "" if classes is None else f" of the classes {quoted(classes)}"
        expected = (
            f"No images{which} in {str(self.root)!r}: expected CLASS/IMAGE, SPLIT/CLASS/IMAGE with "
            "split=, or CLASS/SESSION/IMAGE with recursive=True"
        )
        return "; ".join(filter(None, [expected, self.remark_on_nested(), self.remark()])) + "."

    def _files_of(self, folder: Place, above: list[Place]) -> list[Place]:
        files: list[Place] = []
        has_nested = False
        listings = walk([folder], above, self._extensions)
        for place, found in listings if self.recursive else islice(listings, 1):
            if found is None:
                name = within(self.root, place)
                self._left_out.append(f"{name} leads to a folder that was read already")
                continue
            files += [place / name for name in in_natural_order(found.images)]
            self._leave_out(place, found.others)
            if not self.recursive:
                nested = [folder / name for name in in_natural_order(found.folders)]
                has_nested = self._count_nested(nested, [*above, folder])
        if not files and not has_nested:
            self._left_out.append(f"{within(self.root, folder)} holds no images")
        return files

    def _count_nested(self, folders: list[Place], above: list[Place]) -> bool:
        """Count the images that are left out. Return whether there are any, or may be."""
        if not folders:
            return False
        left, n_images = self._left_to_count, 0
        try:
            for _, found in walk(folders, above, self._extensions):
                if left <= 0:
                    break
                if found is not None:
                    n_images += len(found.images)
                    left -= 1 + len(found.images) + len(found.folders) + len(found.others)
        except PermissionError:
            left = 0
        self._left_to_count = max(left, 0)
        self._n_nested += n_images
        if n_images == 0 and self._left_to_count:
            return False
        self._nested += folders
        return True

    def _leave_out(self, folder: Place, others: Iterable[tuple[str, str]]) -> None:
        reasons = dict(others)
        for name in in_natural_order(reasons):
            self._left_out.append(f"{within(self.root, folder / name)} {reasons[name]}")


def image_extensions() -> frozenset[str]:
    """Return the file name extensions, in small letters, of all formats that are decoded."""
    Image.init()
    # Not cached, because a plugin may be registered at any time.
    extensions = Image.registered_extensions().items()
    return frozenset(extension for extension, kind in extensions if is_decoded(kind))


def contents(folder: Place, extensions: frozenset[str]) -> Contents:
    """List a folder, in no particular order."""
    found = Contents([], [], [])
    for entry in _entries(folder):
        if is_hidden(entry.name):
            continue
        if entry.is_folder:
            found.folders.append(entry.name)
        elif not entry.is_file:
            found.others.append((entry.name, "is a broken link or no file"))
        elif _has_extension(entry.name, extensions):
            found.images.append(entry.name)
        else:
            found.others.append((entry.name, "has no known image extension"))
    return found


def has_images(folder: Place, extensions: frozenset[str]) -> bool:
    """Whether there is an image directly in a folder."""
    return any(
        _has_extension(entry.name, extensions) and not is_hidden(entry.name) and entry.is_file
        for entry in _entries(folder)
    )


def _entries(folder: Place) -> Iterator[Entry]:
    if isinstance(folder, RemotePath):
        yield from folder.entries()
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            yield Entry(entry.name, _is(entry.is_dir), _is(entry.is_file))


def _identity(folder: Place) -> Hashable:
    """Return what tells a folder from others, whatever path leads to it."""
    if isinstance(folder, RemotePath):
        return folder.identity()
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _has_extension(name: str, extensions: frozenset[str]) -> bool:
    return os.path.splitext(name)[1].lower() in extensions


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


def subfolders(folder: Place) -> list[Place]:
    """Return the folders in a folder, in natural order, without hidden ones."""
    names = contents(folder, frozenset()).folders
    return [folder / name for name in in_natural_order(names)]


def walk(
    tops: Sequence[Place], above: Sequence[Place], extensions: frozenset[str]
) -> Iterator[tuple[Place, Contents | None]]:
    """List folders and all folders below them, each once, depth first and in natural order.

    Yield each folder with its contents, or with None for a link to a folder that was listed before
    or is in `above`.
    """
    seen = set(map(_identity, above))
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
