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

Memory while one image is decoded stays below 12 bytes a pixel besides the file itself, for every
mode: what has to be computed of whole pictures is computed a strip of rows at a time. The decoders
of WebP need all of the 12.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import IO, Any, NamedTuple, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

from transferclf.exceptions import ImageError
from transferclf.images.containers import read_error
from transferclf.images.deep import Numbers, in_strips, picture_of
from transferclf.images.files import Contents, contents_of
from transferclf.images.formats import Header, header_of, open_image
from transferclf.images.geometry import Picture, average_blocks, reduction_factor, rgb_array
from transferclf.images.lazy import file_of
from transferclf.images.pixels import PixelRange, is_on_255_scale
from transferclf.images.reducing import decoded_at_reduced_size, with_less_memory
from transferclf.images.threads import loading, room_for

# What must be done to show an image upright; 1 is nothing.
TURNS = range(2, 9)
QUARTERS = range(5, 9)

# Modes whose pixels are taken as they are.
PLAIN_MODES = ("L", "RGB")


class Decoded(NamedTuple):
    """RGB on the scale 0 to 255, and the header of the file if there is one.

    A PIL image is read only: it may be the caller's own.
    """

    picture: Picture
    header: Header | None


def decode_image(
    file: str | PathLike | bytes | Any,
    *,
    pixel_range: PixelRange = None,
    reduce_to: int | None = None,
) -> np.ndarray:
    """Decode one image to RGB on the scale 0 to 255: an array (h, w, 3), uint8 or float32.

    `file` is a path, the bytes of a file, a file object or a PIL image, which is not modified.
    `reduce_to` is the side of the square that the image will be resized to: an image at least six
    times as large (3.8 times from 200 pixels on) is returned at 1/2, 1/4 or 1/8 of its size, and
    JPEG and JPEG 2000 files are decoded so, which is several times faster.

    >>> decode_image(Image.new("L", (2, 1), 7)).tolist()
    [[[7, 7, 7], [7, 7, 7]]]
    """
    if isinstance(file, str | PathLike):
        with contents_of(str(file)) as contents:
            return rgb_array(read_image(contents, pixel_range=pixel_range, reduce_to=reduce_to))
    if isinstance(file, bytes):
        file = Contents(file)
    return rgb_array(read_image(file, pixel_range=pixel_range, reduce_to=reduce_to))


def read_image(
    file: Contents | Image.Image | IO[bytes], *, pixel_range: PixelRange, reduce_to: int | None
) -> Picture:
    """Return the picture of :func:`decode_image`, without copying Pillow's pixels into an array."""
    return decoded(file, pixel_range, reduce_to).picture


def decoded(
    file: Contents | Image.Image | IO[bytes], pixel_range: PixelRange, reduce_to: int | None
) -> Decoded:
    """Decode one image, reduced in whole blocks where it is much larger than needed."""
    try:
        if isinstance(file, Image.Image):
            contents = file_of(file)
            if contents is None:
                return _of_image(file, pixel_range, reduce_to)
            file = contents
        if isinstance(file, Contents):
            return _of_file(file.file(), file, pixel_range, reduce_to)
        return _of_file(file, None, pixel_range, reduce_to)
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise almost anything on damaged files
        raise read_error(error, file) from error


def header(contents: Contents) -> Header:
    """Return the header of an image file. Nothing is decoded."""
    try:
        with open_image(contents.file(), contents.size) as image:
            return header_of(image)
    except ImageError:
        raise
    except Exception as error:
        raise read_error(error, contents) from error


def to_be_pickled(image: Image.Image) -> Image.Image | bytes:
    """Return a PIL image as pickle can carry it without change.

    If it is not loaded yet, its pixels stay in its file, and the bytes of that are returned. Of
    other images pickle would lose a palette's transparency, and an orientation that was changed.
    """
    contents = file_of(image)
    if contents is not None:
        return contents.file().read()
    with loading():
        image.load()
    upright = ImageOps.exif_transpose(image) if is_turned(image) else image
    key = upright.info.get("transparency")
    if upright.mode == "F" or upright.mode.startswith("I"):
        plain = upright.copy()
        plain.info = {} if key is None else {"transparency": key}
    else:
        plain = _eight_bit(upright)[1](upright).copy()
        plain.info = {}
    return plain


def _of_file(
    stream: IO[bytes],
    contents: Contents | None,
    pixel_range: PixelRange,
    reduce_to: int | None,
) -> Decoded:
    with open_image(stream, None if contents is None else contents.size) as image:
        seen = header_of(image)
        factor = decoded_at_reduced_size(image, _factor(image, reduce_to))
        with room_for(image.width * image.height):
            with_less_memory(image, contents)
            image.load()
            if is_turned(image):
                ImageOps.exif_transpose(image, in_place=True)
            return Decoded(average_blocks(_picture(image, pixel_range), factor), seen)


def _of_image(image: Image.Image, pixel_range: PixelRange, reduce_to: int | None) -> Decoded:
    """Decode an image of the caller, which stays as it is."""
    with loading():
        image.load()
    factor = _factor(image, reduce_to)
    if is_turned(image):
        image = ImageOps.exif_transpose(image)
    return Decoded(average_blocks(_picture(image, pixel_range), factor), None)


def _factor(image: Image.Image, reduce_to: int | None) -> int:
    return 1 if reduce_to is None else reduction_factor((image.height, image.width), reduce_to)


def is_turned(image: Image.Image, quarter: bool = False) -> bool:
    """Whether EXIF data say that an image is not upright; or that it lies, by a `quarter`."""
    return image.getexif().get(ExifTags.Base.Orientation) in (QUARTERS if quarter else TURNS)


def _picture(image: Image.Image, pixel_range: PixelRange) -> Picture:
    """Return the finished picture of a loaded image."""
    if image.mode in ("P", "PA") and image.palette is None:
        image = image.copy()  # which has the palette that some plugins leave out
    if image.mode == "F" or image.mode.startswith("I"):
        return picture_of(_deep_numbers(image), pixel_range)
    mode, change = _eight_bit(image)
    if is_on_255_scale(np.dtype(np.uint8), pixel_range):
        if mode == "RGBA":
            return _over_white(image, change)
        return image if mode == image.mode else in_strips(image, change, mode)
    return picture_of(_numbers(image, change, len(mode)), pixel_range)


def _eight_bit(image: Image.Image) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    """Return the mode (L, RGB or RGBA) that an image of 8 bits becomes, and the conversion."""
    if image.has_transparency_data:
        return "RGBA", _to_rgba
    if image.mode in PLAIN_MODES:
        return image.mode, lambda part: part
    if image.mode == "LAB":
        return "RGB", _lab_to_rgb()
    mode = "L" if image.mode == "1" else "RGB"
    return mode, lambda part: part.convert(mode)


def _over_white(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    def composited(part: Image.Image) -> Image.Image:
        rgba = change(part)
        white = Image.new("RGB", part.size, "white")
        white.paste(rgba, (0, 0), rgba)  # rounded exactly
        return white

    return in_strips(image, composited, "RGB")


def _numbers(
    image: Image.Image, change: Callable[[Image.Image], Image.Image], channels: int
) -> Numbers:
    """Return the pixels of an image of 8 bits, to be scaled."""

    def rows(top: int, bottom: int) -> np.ndarray:
        part = np.asarray(change(image.crop((0, top, image.width, bottom))))
        return part.reshape(*part.shape[:2], channels)

    return Numbers(rows, (image.height, image.width, channels), np.dtype(np.uint8))


def _deep_numbers(image: Image.Image) -> Numbers:
    """Return the pixels of an image with more than 8 bits."""
    key = image.info.get("transparency")
    has_key = image.mode.startswith("I;16") and isinstance(key, int)
    # Pillow opens many 16-bit files as 32-bit integers.
    is_16_bit = has_key or (image.mode == "I" and _is_within_16_bits(image))

    def rows(top: int, bottom: int) -> np.ndarray:
        numbers = np.asarray(image.crop((0, top, image.width, bottom)))
        if has_key:  # one gray level stands for "nothing here"
            numbers = np.stack([numbers, np.where(numbers == key, 0, 65535)], axis=-1)
        numbers = numbers.astype(np.uint16) if is_16_bit else numbers
        return numbers if has_key else numbers[..., None]

    dtype = np.dtype(np.uint16) if is_16_bit else rows(0, 1).dtype
    return Numbers(rows, (image.height, image.width, 2 if has_key else 1), dtype)


def _is_within_16_bits(image: Image.Image) -> bool:
    low, high = cast(tuple[int, int], image.getextrema())
    return low >= 0 and high <= 65535


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow converts premultiplied gray only one step at a time
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def _lab_to_rgb() -> Callable[[Image.Image], Image.Image]:
    transform = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )
    return lambda part: cast(Image.Image, ImageCms.applyTransform(part, transform))
