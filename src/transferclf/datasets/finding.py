"""Search for files whose names in a table differ a little from those on the disk."""

from __future__ import annotations

import functools
import os
from collections import defaultdict
from pathlib import Path

from transferclf._spelling import in_nfc
from transferclf.datasets.bunches import Place
from transferclf.datasets.remote_paths import RemotePath
from transferclf.datasets.trees import image_extensions
from transferclf.images.places.remote import is_url

Names = defaultdict[str, list[str]]


class FileFinder:
    """Search for files by names relative to a folder. Each folder is read once."""

    def __init__(self, base: Place):
        self._base = base
        self._extensions = image_extensions()
        self._folder = functools.cache(self._similar_folder)
        self._names = functools.cache(self._listed)

    def find(self, name: str) -> list[Place]:
        """Return the file of exactly this name, or else all files that may be meant.

        Backslashes, ``~``, other capitals, another Unicode form and a missing extension are tried.
        Files behind URLs are not looked for, since each would be asked for.
        """
        if is_url(name):
            return [RemotePath(name)]
        if isinstance(self._base, RemotePath):
            return [self._base / name]
        exact = self._base / name
        if os.path.isfile(exact):
            return [exact]
        path = self._base / os.path.expanduser(name.replace("\\", "/"))
        if os.path.isfile(path):
            return [path]
        folder = self._folder(path.parent)
        if folder is None or not path.name:
            return []
        _, files, stems = self._names(folder)
        similar = _similar(path.name, files) or _similar(path.name, stems)
        return [folder / each for each in similar]

    def _similar_folder(self, path: Path) -> Path | None:
        """Return the folder of this path, or the only one with a similar path, or None."""
        if os.path.isdir(path):
            return path
        parent = self._folder(path.parent) if path.parent != path else None
        if parent is None:
            return None
        similar = _similar(path.name, self._names(parent)[0])
        return parent / similar[0] if len(similar) == 1 else None

    def _listed(self, folder: Path) -> tuple[Names, Names, Names]:
        """Return the names of folders, files, and images without extension, by their keys."""
        folders, files, stems = Names(list), Names(list), Names(list)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            names = []
        for name in names:
            if os.path.isdir(folder / name):
                folders[_key(name)].append(name)
            elif os.path.isfile(folder / name):
                files[_key(name)].append(name)
                stem, extension = os.path.splitext(name)
                if extension.lower() in self._extensions:
                    stems[_key(stem)].append(name)
        return folders, files, stems


def _key(name: str) -> str:
    return in_nfc(in_nfc(name).casefold())


def _similar(name: str, names: Names) -> list[str]:
    """Return the names with the same key; only those with the same capitals, if there are any."""
    found, name = names[_key(name)], in_nfc(name)
    same = [it for it in found if name in (in_nfc(it), in_nfc(os.path.splitext(it)[0]))]
    return same or found
