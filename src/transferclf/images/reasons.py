"""Errors of Pillow in plain words."""

from __future__ import annotations

from typing import IO

from PIL import Image, UnidentifiedImageError

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images.containers import HEAD, in_worker, kind_of
from transferclf.images.files import Contents


def read_error(error: Exception, file: Contents | Image.Image | IO[bytes]) -> ImageError:
    """The error to raise where Pillow could not open or decode a file.

    Parameters
    ----------
    error : Exception
        What was raised.
    file : Contents, PIL image or file object
        What was to be decoded.

    Returns
    -------
    ImageReadError
    """
    if isinstance(error, UnidentifiedImageError):
        return ImageReadError(f"expected an image file, got {kind_of(_head(file))}{in_worker()}")
    if isinstance(error, FileNotFoundError):
        return MissingImageError("expected a file, got a path where there is none")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageReadError(
            f"expected an image of credible size, got a possible decompression bomb ({error}); "
            "if it is genuine, raise PIL.Image.MAX_IMAGE_PIXELS, of which up to twice is read"
            f"{in_worker()}"
        )
    closed = "; if it was closed before, call its load() first"
    hint = closed if isinstance(file, Image.Image) else in_worker()
    return ImageReadError(f"expected a whole image, got {_text(error)}{hint}")


def _head(file: Contents | Image.Image | IO[bytes]) -> bytes:
    if isinstance(file, Image.Image):
        return b""
    stream = file.file() if isinstance(file, Contents) else file
    stream.seek(0)
    return stream.read(HEAD)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
