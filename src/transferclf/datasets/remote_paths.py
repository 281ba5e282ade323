"""Folders and files behind URLs, listed by fsspec, with the methods of Path that loaders need."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from transferclf.exceptions import ImageReadError
from transferclf.images.places.remote import RemoteFile, read_problem, shown

T = TypeVar("T")


class Entry(NamedTuple):
    """A thing in a folder."""

    name: str
    is_folder: bool
    is_file: bool


@dataclass(frozen=True)
class RemotePath:
    """A URL: that of the caller, and names of folders below it.

    Paths below one root share its listings, so that each folder is listed once.
    """

    root: str
    parts: tuple[str, ...] = ()
    _listings: dict[RemotePath, list[Entry]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def __str__(self) -> str:
        # In a chain, such as zip://folder::s3://bucket/file, the path is in the first URL.
        links = self.root.split("::")
        first = next(number for number, link in enumerate(links) if "://" in link)
        slash = "" if links[first].endswith("/") or not self.parts else "/"
        links[first] += slash + "/".join(self.parts)
        return "::".join(links)

    @property
    def name(self) -> str:
        """The last name. Names in HTTP are quoted in the URL, and here they are not."""
        links = str(self).split("::")
        last = next(link for link in links if "://" in link).rstrip("/").rpartition("/")[2]
        return unquote(last) if self._is_http else last

    @property
    def parent(self) -> RemotePath:
        """The folder of this file."""
        if self.parts:
            return RemotePath(self.root, self.parts[:-1], self._listings)
        links = self.root.split("::")
        first = next(number for number, link in enumerate(links) if "://" in link)
        links[first] = links[first].partition("?")[0].rstrip("/").rpartition("/")[0] + "/"
        return RemotePath("::".join(links))

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.root, (*self.parts, *name.split("/")), self._listings)

    def is_relative_to(self, other: object) -> bool:
        """Whether this is the other path or below it."""
        if not isinstance(other, RemotePath) or other.root != self.root:
            return False
        return self.parts[: len(other.parts)] == other.parts

    def relative_to(self, other: object) -> PurePosixPath:
        """Return the names below the other path."""
        if not isinstance(other, RemotePath) or not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(*self.parts[len(other.parts) :])

    def as_posix(self) -> str:
        """Return the URL."""
        return str(self)

    def entries(self) -> list[Entry]:
        """List the folder. A folder that is not there is empty."""
        if self not in self._listings:
            self._listings[self] = self._asked(self._listed)
        return self._listings[self]

    def is_dir(self) -> bool:
        """Whether this is a folder: something is in it, or the file system knows it as one."""
        return bool(self.entries()) or self._asks("isdir")

    def exists(self) -> bool:
        """Whether there is a file or folder of this name."""
        return self._asks("exists")

    def identity(self) -> Hashable:
        """Return what tells this folder from others. There are no links."""
        return str(self)

    def read_text(self, encoding: str) -> str:
        """Return the text in a file."""
        with RemoteFile(str(self)).read() as contents:
            return io.TextIOWrapper(contents.file(), encoding, newline="").read()

    @property
    def _is_http(self) -> bool:
        return self.root.lower().startswith(("http:", "https:"))

    def _system(self) -> tuple:
        from fsspec.core import url_to_fs

        return url_to_fs(str(self))

    def _asks(self, method: str) -> bool:
        def ask() -> bool:
            system, path = self._system()
            return bool(getattr(system, method)(path))

        return self._asked(ask)

    def _listed(self) -> list[Entry]:
        system, path = self._system()
        try:
            found = system.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        entries = []
        for each in found:
            above, _, name = each["name"].rstrip("/").rpartition("/")
            # Object stores list a folder itself too, and HTTP pages link to other places.
            if above.strip("/") == path.strip("/") and name and "?" not in name:
                kind = each["type"]
                entries.append(Entry(name, kind == "directory", kind == "file"))
        return entries

    def _asked(self, call: Callable[[], T]) -> T:
        """Return the answer of the file system. Raise ImageReadError if there is none."""
        problem = RemoteFile(self.root).problem()
        if problem is None:
            try:
                return call()
            except Exception as error:
                problem = read_problem(error)
        raise ImageReadError(f"{shown(str(self))} cannot be listed: {problem}")
