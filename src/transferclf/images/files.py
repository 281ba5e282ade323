"""Files: opened so that nothing blocks, and digested and decoded from the very same bytes.

A file may be replaced at any time. Its bytes are read once: small files into memory, large ones in
blocks, each of which must have the digest that it had when the whole file was digested.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import stat
from collections.abc import Callable
from typing import IO, Any

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError

# Files up to this size are held in memory while they are looked at or decoded.
LARGE = 2**24
BLOCK = 2**20

# To open a pipe would wait for a writer; regular files do not know O_NONBLOCK.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO (named pipe)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_NO_FILE = "expected a file, got"


class Contents:
    """The bytes of one image file in memory."""

    # Whether the file was seen to change while it was read.
    has_changed = False

    def __init__(self, data: bytes):
        self._data = data
        self.size = len(data)

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Give back the memory of the bytes, which must not be read again."""
        self._data = b""

    def digest(self, start: bytes) -> bytes:
        """SHA-256 of `start` and all bytes of the file."""
        digest = hashlib.sha256(start)
        digest.update(self._data)
        return digest.digest()

    def file(self) -> IO[bytes]:
        """A file object with these bytes, at their start."""
        return io.BytesIO(self._data)


class LargeContents(Contents):
    """The bytes of a file that is too large to be held in memory.

    After :meth:`digest`, its file object gives the bytes that were digested, or raises OSError.
    `read_at` takes an offset and a number of bytes, and returns as many or, at the end, fewer.
    """

    def __init__(
        self, read_at: Callable[[int, int], bytes], size: int, close: Callable[[], object]
    ):
        self._read_at, self._close = read_at, close
        self.size = size
        self._digests: list[bytes] = []
        self._held: tuple[int, bytes] = (-1, b"")

    def __exit__(self, *error: object) -> None:
        self._close()

    def digest(self, start: bytes) -> bytes:
        """SHA-256 of `start` and all bytes of the file."""
        whole = hashlib.sha256(start)
        digests: list[bytes] = []
        while block := self._read_at(len(digests) * BLOCK, BLOCK):
            whole.update(block)
            digests.append(hashlib.sha256(block).digest())
        self._digests = digests
        return whole.digest()

    def file(self) -> IO[bytes]:
        """A file object that reads blocks when they are needed."""
        return io.BufferedReader(_Blocks(self))

    def block(self, number: int) -> bytes:
        """Return one block. It is the same as when the file was digested."""
        if self._held[0] != number:
            block = self._read_at(number * BLOCK, BLOCK)
            if self._digests and not self._is_known(number, block):
                self.has_changed = True
                raise OSError("the file changed while it was read")
            self._held = (number, block)
        return self._held[1]

    def _is_known(self, number: int, block: bytes) -> bool:
        if number >= len(self._digests):
            return not block
        return hashlib.sha256(block).digest() == self._digests[number]


class _Blocks(io.RawIOBase):
    """A file object over the blocks of a large file."""

    def __init__(self, contents: LargeContents):
        self._contents = contents
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._contents.size}
        self._position = max(start[whence] + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        number, start = divmod(self._position, BLOCK)
        part = self._contents.block(number)[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)


def contents_of(path: str, held: int | None = None) -> Contents:
    """Open a file and return its bytes, for use in a ``with`` block.

    Files of more than `held` bytes (None: 2**24) are not read into memory. Raise an ImageReadError
    for anything but a regular file that is not empty: reading a pipe, a device or a file of the
    system may never end.
    """
    try:
        file = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _reason(path, error) from None
    is_kept = False
    try:
        size = _checked(os.fstat(file))
        is_kept = size > (LARGE if held is None else held)
        if is_kept:
            return LargeContents(_reader(file), size, functools.partial(os.close, file))
        return Contents(_all(file, size))
    except OSError as error:
        raise error if isinstance(error, ImageError) else _reason(path, error) from None
    finally:
        if not is_kept:
            os.close(file)


def path_problem(path: str) -> ImageError | None:
    """Return the error for a path of an image, without opening it; None if nothing is wrong."""
    try:
        _checked(os.stat(path))
    except ImageError as error:
        return error
    except (OSError, ValueError) as error:
        return _reason(path, error)
    return None


def _checked(found: os.stat_result) -> int:
    """Return the size of a file, or raise ImageReadError if it cannot be read to its end."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no file")
        raise ImageReadError(f"expected an image file, got {kind}")
    if found.st_size == 0:
        # Files of the system (/proc) say that they are empty, and reading them may never end.
        raise ImageReadError("expected an image file, got an empty file")
    return found.st_size


def _all(file: int, size: int) -> bytes:
    """Read a file to its end, which may have moved since `size` was taken."""
    data = os.read(file, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(file, BLOCK):
        parts.append(part)
    return b"".join(parts)


def _reader(file: int) -> Callable[[int, int], bytes]:
    def read_at(offset: int, count: int) -> bytes:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, count)

    return read_at


def _reason(path: str, error: OSError | ValueError) -> ImageError:
    """Return the error for a path that cannot be opened."""
    number = getattr(error, "errno", None)
    if number == errno.EISDIR:
        return ImageReadError("expected an image file, got a folder")
    if number == errno.ENXIO:  # from opening a socket
        return ImageReadError("expected an image file, got a socket or a device that is not there")
    if number == errno.ENOENT:
        return MissingImageError(f"{_NO_FILE} {_missing(path)}")
    if number == errno.ENOTDIR:
        return MissingImageError(f"{_NO_FILE} a path that goes through a file")
    if number == errno.EACCES:
        return ImageReadError(f"expected a readable file, got {_forbidden(path)}")
    if number == errno.ELOOP:
        return ImageReadError(f"{_NO_FILE} a link that leads back to itself")
    if number is None:  # a NUL character, or one that no file name can hold
        return ImageReadError(f"{_NO_FILE} a path that cannot be one ({error})")
    return ImageReadError(f"expected a readable file, got {getattr(error, 'strerror', error)}")


def _missing(path: str) -> str:
    if os.path.islink(path):
        return "a link to a file that is not there"
    return "a path where there is none"


def _forbidden(path: str) -> str:
    """Name the folder that may not be searched, or say that the file may not be read."""
    parts = os.path.abspath(path).split(os.sep)
    for end in range(2, len(parts)):
        folder = os.sep.join(parts[:end])
        if not os.access(folder, os.X_OK):
            return f"one in the folder {folder}, which may not be searched (no permission)"
    return "one that may not be read (no permission)"
