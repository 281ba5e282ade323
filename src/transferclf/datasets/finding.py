"""Finding files whose names in a table are not quite those on the disk."""

from __future__ import annotations

import os
from pathlib import Path

from transferclf._spelling import in_nfc
from transferclf.datasets.scanning import image_extensions


class FileFinder:
    """Finds files by names relative to a folder. Each folder is read once."""

    def __init__(self, base: Path):
        self._base = base
        self._extensions = image_extensions()
        self._folders: dict[Path, Path | None] = {}
        self._listings: dict[Path, _Listing] = {}

    def find(self, name: str) -> list[Path]:
        """Return the file of exactly this name, or else all files that may be meant, perhaps none.

        They are looked for with slashes in the place of backslashes and the home folder in the
        place of ``~``, with other capitals and in another Unicode form, and with the extension of
        an image.
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
        """Return a folder whose parts may be written otherwise, or None."""
        if path not in self._folders:
            self._folders[path] = path if os.path.isdir(path) else self._folder_like(path)
        return self._folders[path]

    def _folder_like(self, path: Path) -> Path | None:
        parent = self._folder(path.parent) if path.parent != path else None
        names = self._listing(parent).folders_like(path.name) if parent is not None else []
        return parent / names[0] if parent is not None and len(names) == 1 else None

    def _listing(self, folder: Path) -> _Listing:
        if folder not in self._listings:
            self._listings[folder] = _Listing(folder, self._extensions)
        return self._listings[folder]


class _Listing:
    """The contents of a folder, by names without capitals and in Unicode NFC."""

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
    """Return the candidates with the same capitals, or all of them where none has these."""
    same = [
        other
        for other in candidates
        if in_nfc(name) in (in_nfc(other), in_nfc(os.path.splitext(other)[0]))
    ]
    return same or candidates
