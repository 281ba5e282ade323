"""Digests of images: the SHA-256 of a file's bytes, or of the decoded pixels."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from transferclf.images.deep import DeepPicture, strips
from transferclf.images.files import Contents
from transferclf.images.geometry import Picture, sides
from transferclf.images.pixels import DtypeRange, PixelRange


class Look(NamedTuple):
    """Facts about an image that need no resizing.

    `digest` is the SHA-256 of its content. `size` is (height, width) before the EXIF orientation is
    applied. `mode` is Pillow's name for the pixels of a file. `decoder` names everything that
    decides the pixels of a file besides its bytes. Both are empty for arrays and loaded PIL images.
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
    """SHA-256 of a picture: that of its RGB array, which is never in memory as a whole."""
    if isinstance(picture, np.ndarray):
        return pixels_digest(picture)
    dtype = np.dtype(np.float32 if isinstance(picture, DeepPicture) else np.uint8)
    digest = hashlib.sha256(_header(dtype, (picture.height, picture.width, 3)))
    for part in _parts(picture):
        levels = part[..., None] if part.ndim == 2 else part
        rgb = np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels
        digest.update(np.ascontiguousarray(rgb).data)
    return digest.digest()


def contents_digest(contents: Contents, pixel_range: PixelRange) -> bytes:
    """SHA-256 of a file's bytes and of the range they are read with."""
    # The same file read with another range is another picture; a DtypeRange is no other.
    read_with = None if isinstance(pixel_range, DtypeRange) else pixel_range
    return contents.digest(f"file {read_with!r} ".encode())


@functools.lru_cache(maxsize=64)
def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"pixels {dtype.name} {shape}".encode()


def _parts(picture: Image.Image | DeepPicture) -> Iterator[np.ndarray]:
    if isinstance(picture, DeepPicture):
        return (levels for _, levels in picture.parts())
    boxes = ((0, top, picture.width, bottom) for top, bottom in strips(*sides(picture)))
    return (np.asarray(picture.crop(box)) for box in boxes)
