"""What an image is known by: the SHA-256 of a file's bytes, or of the decoded pixels.

Nothing is copied to be digested, and hashlib releases the interpreter lock meanwhile.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from transferclf.exceptions import ImageReadError, MissingImageError
from transferclf.images.decoding import decode_image, is_readable_header
from transferclf.images.pixels import DtypeRange, PixelRange


def pixels_digest(pixels: np.ndarray) -> bytes:
    """SHA-256 of an array's type, shape and values.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((2, 2, 3), np.uint8)
    >>> pixels_digest(image) == pixels_digest(image.astype(np.float32))
    False
    """
    digest = hashlib.sha256(_header(pixels.dtype, pixels.shape))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


@functools.lru_cache(maxsize=64)
def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"pixels {dtype.name} {shape}".encode()


def file_digest(path: str, pixel_range: PixelRange) -> bytes:
    """SHA-256 of a file's bytes and of the range they are read with.

    Raises
    ------
    ImageReadError
        If the file cannot be read or does not begin like an image.
    """
    contents = _contents(path)
    if not is_readable_header(contents):
        decode_image(contents)  # fails with the reason
    # The same file read with another range is another picture; a DtypeRange is no other.
    read_with = None if isinstance(pixel_range, DtypeRange) else pixel_range
    digest = hashlib.sha256(f"file {read_with!r} ".encode())
    digest.update(contents)
    return digest.digest()


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise MissingImageError("expected a file, got a path where there is none") from None
    except OSError as error:
        raise ImageReadError(f"expected a readable file, got {error.strerror}") from error
