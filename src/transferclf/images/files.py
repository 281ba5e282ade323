"""Files, opened without blocking. Digest and pixels come from the same bytes.

A file may be replaced at any time. Small files are therefore read into memory once. Large files are
read in blocks, and a block must still have the digest that it had when the file was digested.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import io
import os
import stat
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Files up to this size are held in memory while they are digested or decoded.
LARGE = 2**24
BLOCK = 2**20

# Without O_NONBLOCK, opening a pipe would wait for a writer.
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

    # Whether the file changed while it was read.
    has_changed = False

    def __init__(self, data: bytes):
        self.data = data
        self.size = len(data)

    def __enter__(self) -> Contents:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Free the memory of the bytes. They cannot be read again."""
        self.data = b""

    def digest(self, start: bytes) -> bytes:
        """SHA-256 of `start` and all bytes of the file."""
        digest = hashlib.sha256(start)
        digest.update(self.data)
        return digest.digest()

    def file(self) -> IO[bytes]:
        """A file object with these bytes, at their start."""
        return io.BytesIO(self.data)


class LargeContents(Contents):
    """The bytes of a file that is too large to be held in memory.

    After :meth:`digest`, its file object returns the digested bytes or raises OSError.
    `read_at` takes an offset and a number of bytes. It returns fewer at the end of the file.
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
        """Return one block. Raise OSError if it is not the one that was digested."""
        if self._held[0] != number:
            block = self._read_at(number * BLOCK, BLOCK)
            if self._digests:
                # Beyond the end there are no digests and no bytes.
                known = self._digests[number : number + 1]
                found = [hashlib.sha256(block).digest()] if block else []
                if found != known:
                    self.has_changed = True
                    raise OSError("the file changed while it was read")
            self._held = (number, block)
        return self._held[1]


class _Blocks(io.RawIOBase):
    """A file object over the blocks of a large file."""

    def __init__(self, contents: LargeContents):
        self._contents = contents
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._contents.size}
        self._position = max(start[whence] + offset, 0)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        number, start = divmod(self._position, BLOCK)
        part = self._contents.block(number)[start : start + len(view)]
        view[: len(part)] = part
        self._position += len(part)
        return len(part)


def contents_of(path: str, held: int | None = None) -> Contents:
    """Open a file and return its bytes, for use in a ``with`` block.

    Files of more than `held` bytes (None: 2**24) are not read into memory. Anything but a regular
    file that is not empty raises ImageReadError, because reading a pipe or a device may never end.
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
            read_at = functools.partial(_read_at, file)
            return LargeContents(read_at, size, functools.partial(os.close, file))
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
    """Return the size of a regular file. Raise ImageReadError for anything else."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no file")
        raise ImageReadError(f"expected an image file, got {kind}")
    if found.st_size == 0:
        # Files in /proc have this size too, and reading them may never end.
        raise ImageReadError("expected an image file, got an empty file")
    return found.st_size


def _all(file: int, size: int) -> bytes:
    """Read a file to its end. It may have grown or shrunk since `size` was taken."""
    data = os.read(file, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    while part := os.read(file, BLOCK):
        parts.append(part)
    return b"".join(parts)


def _read_at(file: int, offset: int, count: int) -> bytes:
    os.lseek(file, offset, os.SEEK_SET)
    return os.read(file, count)


def _reason(path: str, error: OSError | ValueError) -> ImageError:
    """Return the error for a path that cannot be opened."""
    number = getattr(error, "errno", None)
    if number == errno.EISDIR:
        return ImageReadError("expected an image file, got a folder")
    if number == errno.ENXIO:  # from opening a socket
        return ImageReadError("expected an image file, got a socket or a device that is not there")
    if number == errno.ENOENT:
        is_link = os.path.islink(path)
        found = "a link to a file that is not there" if is_link else "a path where there is none"
        return MissingImageError(f"{_NO_FILE} {found}")
    if number == errno.ENOTDIR:
        return MissingImageError(f"{_NO_FILE} a path that goes through a file")
    if number == errno.EACCES:
        return ImageReadError(f"expected a readable file, got {_forbidden(path)}")
    if number == errno.ELOOP:
        return ImageReadError(f"{_NO_FILE} a link that leads back to itself")
    if number is None:  # a character that no file name can hold
        return ImageReadError(f"{_NO_FILE} a path that cannot be one ({error})")
    return ImageReadError(f"expected a readable file, got {getattr(error, 'strerror', error)}")


def _forbidden(path: str) -> str:
    """Return what is forbidden: searching one of the folders, or reading the file."""
    parts = os.path.abspath(path).split(os.sep)
    for end in range(2, len(parts)):
        folder = os.sep.join(parts[:end])
        if not os.access(folder, os.X_OK):
            return f"one in the folder {folder}, which may not be searched (no permission)"
    return "one that may not be read (no permission)"
