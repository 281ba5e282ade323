"""Search for files whose names in a table differ a little from those on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from transferclf._spelling import in_nfc
from transferclf.datasets.scanning import image_extensions


class FileFinder:
    """Search for files by names relative to a folder. Each folder is read once."""

    def __init__(self, base: Path):
        self._base = base
        self._extensions = image_extensions()
        self._folders: dict[Path, Path | None] = {}
        self._listings: dict[Path, _Listing] = {}

    def find(self, name: str) -> list[Path]:
        """Return the file of exactly this name, or else all files that may be meant.

        Backslashes, ``~``, other capitals, another Unicode form and a missing extension are tried.
        """
        exact = self._base / name
        if os.path.isfile(exact):
            return [exact]
        path = self._base / os.path.expanduser(name.replace("\\", "/"))
        if os.path.isfile(path):
            return [path]
        folder = self._folder(path.parent)
        if folder is None or not path.name:
            return []
        return [folder / name for name in self._listing(folder).files_like(path.name)]

    def _folder(self, path: Path) -> Path | None:
        """Return the one folder of this or a similar path, or None."""
        if path not in self._folders:
            found = path if os.path.isdir(path) else None
            parent = self._folder(path.parent) if found is None and path.parent != path else None
            if parent is not None:
                names = self._listing(parent).folders_like(path.name)
                found = parent / names[0] if len(names) == 1 else None
            self._folders[path] = found
        return self._folders[path]

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder, self._extensions)
        return self._listings[folder]


class _Listing:
    """The contents of a folder by name, in small letters and in Unicode NFC."""

    def __init__(self, folder: Path, extensions: frozenset[str]):
        self._files: dict[str, list[str]] = {}
        self._stems: dict[str, list[str]] = {}
        self._folders: dict[str, list[str]] = {}
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            names = []
        for name in names:
            path = folder / name
            if os.path.isdir(path):
                self._folders.setdefault(_key(name), []).append(name)
            elif os.path.isfile(path):
                self._files.setdefault(_key(name), []).append(name)
                stem, extension = os.path.splitext(name)
                if extension.lower() in extensions:
                    self._stems.setdefault(_key(stem), []).append(name)

    def folders_like(self, name: str) -> list[str]:
        return _closest(name, self._folders.get(_key(name), []))

    def files_like(self, name: str) -> list[str]:
        return _closest(name, self._files.get(_key(name), [])) or _closest(
            name, self._stems.get(_key(name), [])
        )


def _key(name: str) -> str:
    return in_nfc(in_nfc(name).casefold())


def _closest(name: str, candidates: list[str]) -> list[str]:
    """Return the candidates with the same capitals, or all of them if there are none."""
    name = in_nfc(name)
    same = [it for it in candidates if name in (in_nfc(it), in_nfc(os.path.splitext(it)[0]))]
    return same or candidates
