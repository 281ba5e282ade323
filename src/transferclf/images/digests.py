"""Digests of images: the SHA-256 of a file's bytes, or of the decoded pixels."""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple

import numpy as np

from transferclf.images.deep import DeepPicture, strips
from transferclf.images.files import Contents
from transferclf.images.geometry import Picture, rgb_array
from transferclf.images.pixels import DtypeRange, PixelRange


class Look(NamedTuple):
    """The SHA-256 of an image's content, and the :class:`.formats.Header` of its file.

    Mode and decoder are empty for arrays and loaded PIL images.
    """

    digest: bytes
    size: tuple[int, int]
    mode: str = ""
    decoder: str = ""


def pixels_digest(pixels: np.ndarray) -> bytes:
    """SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(_header(pixels.dtype, pixels.shape))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def picture_digest(picture: Picture) -> bytes:
    """SHA-256 of the RGB array of a picture, a strip at a time where it is no array yet."""
    if isinstance(picture, np.ndarray):
        return pixels_digest(picture)
    dtype = np.dtype(np.float32 if isinstance(picture, DeepPicture) else np.uint8)
    digest = hashlib.sha256(_header(dtype, (picture.height, picture.width, 3)))
    for top, bottom in strips(picture.height, picture.width):
        if isinstance(picture, DeepPicture):
            part = rgb_array(picture.part(top, bottom))
        else:
            part = rgb_array(picture.crop((0, top, picture.width, bottom)))
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()


def contents_digest(contents: Contents, pixel_range: PixelRange) -> bytes:
    """SHA-256 of a file's bytes and of the pixel range."""
    # The same file with another range is another picture, except for a DtypeRange.
    read_with = None if isinstance(pixel_range, DtypeRange) else pixel_range
    return contents.digest(f"file {read_with!r} ".encode())


@functools.lru_cache(maxsize=64)
def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"pixels {dtype.name} {shape}".encode()
