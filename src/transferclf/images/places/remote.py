"""Image files behind URLs, read by fsspec: s3://, gs://, https://, zip://...::..., memory://.

fsspec chooses the file system by the scheme, and has its credentials from its own configuration.
"""

from __future__ import annotations

import asyncio
import functools
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError, how_to_install
from transferclf.images.files import Contents

# Seconds for one file, with the tries that fsspec makes, where its file system is asynchronous:
# HTTP, S3, Google and Azure. Others (SFTP, archives) have the limits of their own libraries.
TIMEOUT = 60.0

# A remote file is held in memory as a whole, so it may not be larger.
LARGEST = 2**28

# A scheme has two letters or more, unlike the drive of a path of Windows. Schemes before "::" are
# those of a chain, such as simplecache::https://...
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+::)*[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# Parts of a URL that may be secret: a password, and long values of a query, such as signatures.
_SECRET = re.compile(r"(?<=://)([^/@\s]*):[^/@\s]*(?=@)|(?<==)[^&\s'\"]{25,}")


def is_url(text: str) -> bool:
    """Whether a text is a URL and not a path.

    >>> is_url("s3://bucket/a.png"), is_url("zip://a.png::https://host/all.zip")
    (True, True)
    >>> is_url("c:/photos/a.png"), is_url("a.png"), is_url("./s3://a.png")
    (False, False, False)
    """
    return _URL.match(text) is not None


def shown(text: str) -> str:
    """Return a text without passwords and long values of queries in the URLs in it.

    >>> shown("https://me:pass@host/a.png?id=3&Signature=0123456789abcdef0123456789abcdef")
    'https://me:...@host/a.png?id=3&Signature=...'
    """
    return _SECRET.sub(lambda found: "..." if found[1] is None else f"{found[1]}:...", text)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An image file behind a URL. The URL is kept as text."""

    is_far: ClassVar[bool] = True

    url: str

    @classmethod
    def of(cls, item: object) -> RemoteFile | None:
        """Return the place of a URL, else None. A text with a scheme is always a URL."""
        return cls(str(item)) if isinstance(item, str) and is_url(item) else None

    @property
    def name(self) -> str:
        """The URL, without secrets."""
        return shown(self.url)

    @property
    def item(self) -> str:
        """The URL."""
        return self.url

    def problem(self) -> ImageError | None:
        """Return the error if fsspec cannot read URLs of this kind."""
        text = scheme_problem(_schemes(self.url))
        return None if text is None else ImageReadError(text)

    def read(self, held: int | None = None) -> Contents:
        """Read the file into memory. It may have at most 2**28 bytes."""
        try:
            data = _bytes_of(self.url)
        except Exception as error:  # file systems raise almost anything
            # Its own text may show secrets in the URL.
            raise read_problem(error) from None
        if not data:
            raise ImageReadError("expected an image file, got an empty file")
        if len(data) > LARGEST:
            raise ImageReadError(
                f"expected a file of at most {LARGEST} bytes behind a URL, got a larger one; "
                "download it and pass its path"
            )
        return Contents(data)


@functools.lru_cache(maxsize=256)
def scheme_problem(schemes: tuple[str, ...]) -> str | None:
    """Return the fault of the schemes of a URL: unknown, or without their package; else None."""
    try:
        from fsspec import get_filesystem_class
    except ImportError:
        return (
            f"expected a path, got a URL with {schemes[0]}://, which needs fsspec. "
            + how_to_install("remote")
        )
    for scheme in schemes:
        try:
            get_filesystem_class(scheme)
        except ImportError as error:
            return f"expected the package that reads {scheme}:// URLs, got none: {error}"
        except ValueError:
            return (
                f"expected a URL that fsspec reads, got the unknown scheme {scheme}://; a path "
                "that looks like a URL is written ./PATH"
            )
    return None


def _schemes(url: str) -> tuple[str, ...]:
    """Return the schemes in a URL, in small letters."""
    parts = url.split("::")
    return tuple(part.partition("://")[0].lower() for part in parts if "://" in part or part)


def _bytes_of(url: str) -> bytes:
    """Return the bytes of a file, or one more than LARGEST of a larger one."""
    from fsspec.asyn import AsyncFileSystem, sync
    from fsspec.core import url_to_fs

    # fsspec keeps a file system for each thread.
    system, path = url_to_fs(url)
    if not isinstance(system, AsyncFileSystem):
        with system.open(path, "rb") as file:
            return file.read(LARGEST + 1)
    is_http = "http" in system.protocol
    read = _streamed(system, path) if is_http else system._cat_file(path, start=0, end=LARGEST + 1)
    return sync(system.loop, lambda: read, timeout=TIMEOUT)


async def _streamed(system: Any, url: str) -> bytes:
    """Read a file as it comes. Many servers send all of it, whatever part is asked for."""
    session = await system.set_session()
    async with session.get(system.encode_url(url), **system.kwargs) as response:
        response.raise_for_status()
        parts, length = [], 0
        async for part in response.content.iter_chunked(2**20):
            parts.append(part)
            length += len(part)
            if length > LARGEST:
                break
    return b"".join(parts)


def read_problem(error: Exception) -> ImageReadError:
    """Return the error for a URL that cannot be read."""
    status = _status(error)
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return UnansweredError(f"expected an answer within {TIMEOUT:g} seconds, got none")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return MissingImageError("expected a file, got a URL where there is none")
    if isinstance(error, IsADirectoryError):
        return ImageReadError("expected an image file, got a folder")
    if isinstance(error, PermissionError) or status in (401, 403):
        number = "" if status is None else f" (status {status})"
        return ImageReadError(
            f"expected a readable file, got no permission{number}: credentials are missing, or the "
            "link has expired"
        )
    if status == 416:  # a file without bytes has no part that could be sent
        return ImageReadError("expected an image file, got an empty file")
    if status is not None:
        return ImageReadError(f"expected a readable file, got the status {status} of the server")
    text = shown(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    kind = UnansweredError if isinstance(error, ConnectionError | OSError) else ImageReadError
    return kind(f"expected a readable file, got {text:.300}")


class UnansweredError(ImageReadError):
    """A server gave no answer."""


def _status(error: Any) -> int | None:
    """Return the HTTP status in an error of aiohttp or of a library for a cloud, or None."""
    # s3fs raises an OSError from the error of botocore, which has the status in a dict.
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, dict):
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(error, "status", None) or getattr(error, "code", None)
    return found if isinstance(found, int) else None
