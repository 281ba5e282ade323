"""Decoding: any file, bytes or PIL image becomes RGB pixels on the scale 0 to 255.

The rules, one for each kind of Pillow image:

========================================  =====================================================
``1``, ``L``, ``P``, ``RGB``, ``RGBX``     as they are, gray repeated, palettes looked up
any mode with transparency                composited over white
``CMYK``, ``YCbCr``, ``HSV``              Pillow's own conversion
``LAB``                                   through the sRGB profile (littleCMS)
``I;16`` (any byte order), ``I``          0 to 65535 is black to white, unless `pixel_range`
``F``                                     0 to 1 where nothing is above 1, else 0 to 255,
                                          unless `pixel_range`
EXIF orientation                          applied
animations, multi-page files              the first frame
========================================  =====================================================
"""

from __future__ import annotations

import io
import threading
from os import PathLike
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from transferclf.exceptions import ImageReadError, MissingImageError
from transferclf.images.geometry import Picture, average_blocks, reduction_factor, rgb_array
from transferclf.images.pixels import PixelRange, is_on_255_scale, to_rgb

# What must be done to show an image upright; 1 is nothing.
TURNS = range(2, 9)

# Modes whose pixels are taken as they are.
PLAIN_MODES = ("L", "RGB")

# Pillow loads an image lazily and in place: two threads must not load the same object at once.
_LOADING = threading.Lock()


def decode_image(
    file: str | PathLike | bytes | Any,
    *,
    pixel_range: PixelRange = None,
    reduce_to: int | None = None,
) -> np.ndarray:
    """Decode one image to RGB on the scale 0 to 255.

    Parameters
    ----------
    file : str, Path, bytes, file object or PIL.Image.Image
        The image; `bytes` are the contents of an image file. A PIL image is not modified.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are; None takes each mode's own rule.
    reduce_to : int or None, default=None
        Side of the square in pixels that the image will be resized to. An image at least six
        times as large (3.8 times from 200 pixels on) is returned at 1/2, 1/4 or 1/8 of its size;
        JPEG files are decoded so, which is several times faster.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8 or float32
        uint8 where the image has 8 bits, else float32 without rounding.

    Raises
    ------
    ImageReadError
        If the file cannot be read, is no image, is damaged or is a decompression bomb.
    MissingImageError
        If there is no such file.
    ImageError
        If its values are not finite or outside `pixel_range`.

    Examples
    --------
    >>> from PIL import Image
    >>> decode_image(Image.new("L", (2, 1), 7)).tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """
    return rgb_array(read_image(file, pixel_range=pixel_range, reduce_to=reduce_to))


def read_image(file: Any, *, pixel_range: PixelRange, reduce_to: int | None) -> Picture:
    """What `decode_image` returns, but still Pillow's image where its pixels stay as they are.

    It has mode L or RGB and is read only: it may be the caller's own.
    """
    try:
        numbers, factor = _numbers_of(file, pixel_range, reduce_to)
    except UnidentifiedImageError:
        raise ImageReadError("expected an image file, got one of no known image format") from None
    except FileNotFoundError:
        raise MissingImageError("expected a file, got a path where there is none") from None
    except Image.DecompressionBombError as error:
        raise ImageReadError(
            f"expected an image of credible size, got a possible decompression bomb ({error}); "
            "if it is genuine, raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        closed = "; if it was closed before, call its load() first"
        hint = closed if isinstance(file, Image.Image) else ""
        raise ImageReadError(f"expected a whole image, got {_reason(error)}{hint}") from error
    if isinstance(numbers, np.ndarray):
        numbers = to_rgb(numbers, pixel_range)
    return average_blocks(numbers, factor)


def is_readable_header(contents: bytes) -> bool:
    """Whether `contents` begin like an image file of a credible size; nothing is decoded."""
    try:
        with Image.open(io.BytesIO(contents)):
            return True
    except Exception:  # see decode_image, which then says why
        return False


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _numbers_of(file: Any, pixel_range: PixelRange, reduce_to: int | None) -> tuple[Picture, int]:
    """The pixels, and the factor by which they are still to be reduced."""
    if isinstance(file, Image.Image):
        with _LOADING:
            file.load()
        return _numbers(file, pixel_range), _factor(file, reduce_to)
    with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
        factor = _drafted(image, _factor(image, reduce_to))
        image.load()
        return _numbers(image, pixel_range), factor


def _factor(image: Image.Image, reduce_to: int | None) -> int:
    return 1 if reduce_to is None else reduction_factor((image.height, image.width), reduce_to)


def _drafted(image: Image.Image, factor: int) -> int:
    """Have a JPEG file decoded at reduced scale; return the factor that is left."""
    whole = image.size
    if factor > 1 and image.format in ("JPEG", "MPO"):
        cast(Any, image).draft(image.mode, (image.width // factor, image.height // factor))
    return 1 if image.size != whole else factor


def _numbers(image: Image.Image, pixel_range: PixelRange) -> Picture:
    """The finished picture, or an array of any depth for `to_rgb`: gray, RGB or RGBA."""
    image = _upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep_numbers(image)
    if image.has_transparency_data:
        return np.asarray(_to_rgba(image))
    opaque = _gray_or_rgb(image)
    is_done = is_on_255_scale(np.dtype(np.uint8), pixel_range)
    return opaque if is_done else np.asarray(opaque)


def _upright(image: Image.Image) -> Image.Image:
    # Pillow's function copies the image also where there is nothing to turn.
    turns = image.getexif().get(ExifTags.Base.Orientation) in TURNS
    return ImageOps.exif_transpose(image) if turns or image.mode not in PLAIN_MODES else image


def _gray_or_rgb(image: Image.Image) -> Image.Image:
    if image.mode in PLAIN_MODES:
        return image
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    return image.convert("L" if image.mode == "1" else "RGB")


def _deep_numbers(image: Image.Image) -> np.ndarray:
    numbers = np.asarray(image)
    key = image.info.get("transparency")
    is_16_bit = image.mode.startswith("I;16")
    if is_16_bit and isinstance(key, int):  # one gray level stands for "nothing here"
        opacity = np.where(numbers == key, 0, 65535)
        return np.stack([numbers, opacity], axis=-1).astype(np.uint16)
    if image.mode == "I" and numbers.min() >= 0 and numbers.max() <= 65535:
        # Pillow opens many 16-bit files as 32-bit integers.
        return numbers.astype(np.uint16)
    return numbers


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow converts premultiplied gray only one step at a time
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    return cast(Image.Image, ImageCms.applyTransform(image, transform))
