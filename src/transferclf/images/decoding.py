"""Decoding: any file, bytes or PIL image becomes RGB pixels on the scale 0 to 255.

The rules, one for each kind of Pillow image:

========================================  =====================================================
``1``, ``L``, ``P``, ``RGB``, ``RGBX``     as they are, gray repeated, palettes looked up
any mode with transparency                composited over white
``CMYK``, ``YCbCr``, ``HSV``              Pillow's own conversion
``LAB``                                   through the sRGB profile (littleCMS)
colours of 16 bits a channel              the upper 8 bits; an error if `pixel_range` goes
                                          beyond 255
``I;16`` (any byte order), ``I``          0 to 65535 is black to white, unless `pixel_range`
``F``                                     0 to 1 where nothing is above 1, else 0 to 255,
                                          unless `pixel_range`
EXIF orientation                          applied
animations, multi-page files              the first frame
========================================  =====================================================

Decoding needs less than 12 bytes a pixel besides the file itself, for every mode, because whole
pictures are computed a strip of rows at a time. The decoder of WebP needs all of the 12.

PIL images of the caller that are not loaded yet are read from their file and stay unloaded. Loading
them would keep the pixels of all images of the caller in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from typing import IO, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps

from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images.containers import read_error
from transferclf.images.deep import Numbers, Picture, in_strips, picture_of, rgb_array, sides
from transferclf.images.files import Contents
from transferclf.images.formats import (
    REFUSED,
    Header,
    decoded_at_reduced_size,
    header_of,
    loses_bits,
    open_image,
    with_less_memory,
)
from transferclf.images.geometry import average_blocks, reduction_factor
from transferclf.images.pixels import PixelRange, is_on_255_scale
from transferclf.images.places import Place, place_of
from transferclf.images.threads import loading, room_for


def decode_image(
    file: str | PathLike | bytes | IO[bytes] | Image.Image,
    *,
    pixel_range: PixelRange = None,
    reduce_to: int | None = None,
) -> np.ndarray:
    """Decode one image to RGB on the scale 0 to 255: an array (h, w, 3), uint8 or float32.

    `file` is a path, the bytes of a file, a file object or a PIL image, which is not modified.
    `reduce_to` is the side to which the image will be resized. An image at least six times as large
    (3.8 times from 200 pixels on) is returned at 1/2, 1/4 or 1/8 of its size. JPEG and JPEG 2000
    files are decoded at that size, which is several times faster.
    """
    with contents_behind(file) as contents:
        source = cast(IO[bytes] | Image.Image, file) if contents is None else contents
        return rgb_array(decoded(source, pixel_range, reduce_to)[0])


def decoded(
    file: Contents | Image.Image | IO[bytes], pixel_range: PixelRange, reduce_to: int | None
) -> tuple[Picture, Header | None]:
    """Decode one image, reduced in whole blocks where it is much larger than needed.

    Return RGB on the scale 0 to 255, and the header of a file. A PIL image of the caller is loaded,
    but not changed, and may be returned itself.
    """
    try:
        if not isinstance(file, Image.Image):
            return _of_file(file, pixel_range, reduce_to)
        with loading():
            file.load()
        upright = ImageOps.exif_transpose(file) if is_turned(file) else file
        factor = reduction_factor(sides(upright), reduce_to)
        return average_blocks(_picture(upright, pixel_range), factor), None
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
    """Return a PIL image that pickle does not change, or the bytes of its file.

    The bytes are returned for an image that is not loaded yet. Pickle would lose the transparency
    of a palette and a changed orientation of other images.
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
    file: Contents | IO[bytes], pixel_range: PixelRange, reduce_to: int | None
) -> tuple[Picture, Header]:
    contents = file if isinstance(file, Contents) else None
    stream = file.file() if isinstance(file, Contents) else file
    with open_image(stream, None if contents is None else contents.size) as image:
        seen = header_of(image)
        _check_depth(image, pixel_range)
        factor = decoded_at_reduced_size(image, reduction_factor(sides(image), reduce_to))
        with room_for(image.width * image.height):
            with_less_memory(image, contents)
            image.load()
            if is_turned(image):
                ImageOps.exif_transpose(image, in_place=True)
            return average_blocks(_picture(image, pixel_range), factor), seen


def _check_depth(image: Image.Image, pixel_range: PixelRange) -> None:
    """Raise ImageReadError if `pixel_range` is for numbers that Pillow does not keep."""
    if type(pixel_range) is tuple and pixel_range[1] > 255 and loses_bits(image):
        raise ImageReadError(
            f"expected pixels on the scale of pixel_range=({pixel_range[0]:g}, "
            f"{pixel_range[1]:g}), got a colour {image.format} file of 16 bits a channel, of which "
            "Pillow keeps the upper 8; read it by another library, such as tifffile, and pass the "
            "array"
        )


def is_turned(image: Image.Image, quarter: bool = False) -> bool:
    """Whether the EXIF orientation turns or mirrors an image; with `quarter`, by 90 degrees."""
    return _orientation(image) in (range(5, 9) if quarter else range(2, 9))


def _picture(image: Image.Image, pixel_range: PixelRange) -> Picture:
    """Return the finished picture of a loaded image."""
    if image.mode in ("P", "PA") and image.palette is None:
        image = image.copy()  # some plugins leave out the palette, and copies have it
    if image.mode == "F" or image.mode.startswith("I"):
        return picture_of(_deep_numbers(image), pixel_range)
    mode, change = _eight_bit(image)
    if is_on_255_scale(np.dtype(np.uint8), pixel_range):
        if mode == "RGBA":
            return in_strips(image, lambda part: _on_white(change(part)), "RGB")
        return image if mode == image.mode else in_strips(image, change, mode)
    return picture_of(_numbers(image, change, len(mode)), pixel_range)


def _eight_bit(image: Image.Image) -> tuple[str, Callable[[Image.Image], Image.Image]]:
    """Return the mode (L, RGB or RGBA) to which an image of 8 bits is converted, and how."""
    if image.has_transparency_data:
        return "RGBA", _to_rgba
    if image.mode in ("L", "RGB"):
        return image.mode, lambda part: part
    if image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        return "RGB", lambda part: cast(Image.Image, ImageCms.applyTransform(part, transform))
    mode = "L" if image.mode == "1" else "RGB"
    return mode, lambda part: part.convert(mode)


def _on_white(rgba: Image.Image) -> Image.Image:
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba, (0, 0), rgba)  # rounded exactly
    return white


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
    low, high = cast(tuple[int, int], image.getextrema()) if image.mode == "I" else (-1, 0)
    is_16_bit = has_key or (low >= 0 and high <= 65535)

    def rows(top: int, bottom: int) -> np.ndarray:
        numbers = np.asarray(image.crop((0, top, image.width, bottom)))
        if has_key:  # one gray level is transparent
            numbers = np.stack([numbers, np.where(numbers == key, 0, 65535)], axis=-1)
        numbers = numbers.astype(np.uint16) if is_16_bit else numbers
        return numbers if has_key else numbers[..., None]

    dtype = np.dtype(np.uint16) if is_16_bit else rows(0, 1).dtype
    return Numbers(rows, (image.height, image.width, 2 if has_key else 1), dtype)


def _to_rgba(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # Pillow converts premultiplied gray only one step at a time
        image = image.convert("LA")
    return image if image.mode == "RGBA" else image.convert("RGBA")


def contents_behind(
    item: str | PathLike | bytes | Place | np.ndarray | IO[bytes] | Image.Image,
) -> AbstractContextManager[Contents | None]:
    """Return the bytes of an encoded image, or of a PIL image that is not loaded yet, else None."""
    if isinstance(item, np.ndarray):  # first: the check for a path is slow
        return nullcontext()
    if (place := place_of(item)) is not None:
        return place.read()
    contents = file_of(item) if isinstance(item, Image.Image) else None
    return nullcontext() if contents is None else contents


def file_of(image: Image.Image) -> Contents | None:
    """Return the bytes of the file behind an image that is not loaded, else None.

    None too if the image was changed after it was opened: another frame, a reduced size, other
    metadata. Raise ImageReadError if its format is not decoded.
    """
    if not isinstance(image, ImageFile.ImageFile):
        return None
    is_loaded = vars(image).get("_im", vars(image).get("im")) is not None
    if is_loaded and not image.tile:
        return None
    if image.format in REFUSED:
        raise ImageReadError(
            f"expected an image file, got a file in {image.format} format, "
            f"{REFUSED[image.format]}; convert it to PNG"
        )
    contents = _contents(image)
    return contents if contents is not None and _shows_the_same(image, contents) else None


def _contents(image: ImageFile.ImageFile) -> Contents | None:
    with loading():
        if (file := getattr(image, "fp", None)) is None:
            return None
        try:
            position = file.tell()
            file.seek(0)
            try:
                return Contents(file.read())
            finally:
                file.seek(position)
        except Exception:  # the file is closed or damaged; loading the image raises what it is
            return None


def _shows_the_same(image: ImageFile.ImageFile, contents: Contents) -> bool:
    """Whether the file still gives this image: same frame, size, mode and metadata."""
    if getattr(image, "decoderconfig", ()):  # draft() was called
        return False
    # The caller can have changed the orientation only after having read the EXIF data.
    has_exif = getattr(image, "_exif", None) is not None
    try:
        with open_image(contents.file(), contents.size) as fresh:
            return (
                type(fresh) is type(image)
                and (fresh.size, fresh.mode, fresh.info) == (image.size, image.mode, image.info)
                and fresh.tell() == image.tell()
                and (not has_exif or _orientation(fresh) == _orientation(image))
            )
    except Exception:  # loading the image itself will raise the error
        return False


def _orientation(image: Image.Image) -> object:
    return image.getexif().get(ExifTags.Base.Orientation)
