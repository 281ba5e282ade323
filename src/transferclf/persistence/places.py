"""Where a saved model is written or read: a path, or a file object of the user's own."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import IO

from transferclf.exceptions import InvalidParameterError
from transferclf.persistence.archive import MAX_BYTES

Place = Path | IO[bytes]
Given = str | os.PathLike[str] | IO[bytes]


def checked_place(path: Given) -> Place:
    """Return the place to write to.

    Raises OSError if there is no such folder, the path is a folder or writing is not allowed, and
    InvalidParameterError if this is neither a path nor a binary file object.
    """
    if not isinstance(path, str | os.PathLike):
        return _file_object(path, "write", "wb")
    place = _path(path)
    folder = place.parent
    if place.is_dir():
        raise _error(errno.EISDIR, "expected the name of a file, got a directory", place)
    if not folder.is_dir():
        raise _error(errno.ENOENT, f"there is no folder {folder}: make it first", place)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _error(errno.EACCES, f"permission denied to write in {folder}", place)
    return place


def readable_place(path: Given) -> Place:
    """Return the place to read from; a file object that cannot go back is read whole."""
    if isinstance(path, str | os.PathLike):
        return _path(path)
    file = _file_object(path, "read", "rb")
    try:
        file.seek(0)
    except (AttributeError, OSError):  # a pipe, a socket, the answer of a server
        return io.BytesIO(file.read(MAX_BYTES))
    if not isinstance(file.read(0), bytes):
        _refuse_text(path, "rb")
    return file


def place_name(place: Place) -> str:
    """Return the name of a place in messages."""
    if isinstance(place, Path):
        return str(place)
    return str(getattr(place, "name", "")) or f"the {type(place).__name__}"


def _path(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    if not isinstance(name, str) or not name or "\0" in name:
        raise InvalidParameterError(f"path must be the name of a file. Got {path!r} instead.")
    return Path(name)


def _file_object(value: IO[bytes], method: str, mode: str) -> IO[bytes]:
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise InvalidParameterError(
            "path must be a path or a binary file object, such as io.BytesIO() or "
            f"open(PATH, {mode!r}). Got {type(value).__name__} instead."
        )
    if isinstance(value, io.TextIOBase):
        _refuse_text(value, mode)
    if getattr(value, "closed", False):
        raise InvalidParameterError("path must be a file object that is open. Got a closed one.")
    is_able = getattr(value, "writable" if method == "write" else "readable", None)
    if callable(is_able) and not is_able():
        raise InvalidParameterError(
            f"path must be a file object opened by {mode!r}. Got one that cannot {method}."
        )
    return value


def _refuse_text(value: object, mode: str) -> None:
    raise InvalidParameterError(
        f"path must be a binary file object. Got one of text, {type(value).__name__}, instead: "
        f"open it by {mode!r}, or take io.BytesIO()."
    )


def _error(number: int, reason: str, path: Path) -> OSError:
    # Python makes the subclass that belongs to the number, such as FileNotFoundError.
    return OSError(number, f"the model cannot be saved: {reason}", str(path))
