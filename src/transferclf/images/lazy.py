"""PIL images of the caller that are not loaded yet are read from their file and stay unloaded.

Loading such an image would leave its pixels in the caller's list, and take memory all that time.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from PIL import ExifTags, Image, ImageFile

from transferclf.exceptions import ImageReadError
from transferclf.images.files import Contents
from transferclf.images.formats import REFUSED, open_image

# Pillow reads and loads an image in place: two threads must not use the same object at once.
_loading = threading.Lock()


def loading() -> threading.Lock:
    """Return the lock to hold while an image of the caller is read or loaded."""
    return _loading


def _new_lock() -> None:
    # A child that was forked while a thread held it would wait for ever.
    global _loading
    _loading = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def is_lazy(image: Image.Image) -> bool:
    """Whether the pixels of an image are still in its file only."""
    if not isinstance(image, ImageFile.ImageFile):
        return False
    return bool(image.tile) or vars(image).get("_im", vars(image).get("im")) is None


def file_of(image: Image.Image) -> Contents | None:
    """Return the bytes of the file behind an image that is not loaded.

    None if it is loaded or was changed after it was opened: another frame, a reduced size, other
    information. Raise ImageReadError if its format is not decoded.
    """
    if not is_lazy(image):
        return None
    if image.format in REFUSED:
        raise ImageReadError(
            f"expected an image file, got a file in {image.format} format, "
            f"{REFUSED[image.format]}; convert it to PNG"
        )
    contents = _contents(image)
    return contents if contents is not None and _shows_the_same(image, contents) else None


def _contents(image: Any) -> Contents | None:
    with loading():
        try:
            position = image.fp.tell()
            image.fp.seek(0)
            try:
                return Contents(image.fp.read())
            finally:
                image.fp.seek(position)
        except (AttributeError, OSError, ValueError):  # closed, or no file that can be read again
            return None


def _shows_the_same(image: Any, contents: Contents) -> bool:
    if getattr(image, "decoderconfig", ()):  # draft() was called
        return False
    try:
        with open_image(contents.file(), contents.size) as fresh:
            return (
                type(fresh) is type(image)
                and (fresh.size, fresh.mode, fresh.info) == (image.size, image.mode, image.info)
                and fresh.tell() == image.tell()
                and _turn(fresh, image) == _turn(image, image)
            )
    except Exception:  # loading the image itself will say why
        return False


def _turn(image: Any, asked: Any) -> Any:
    """The EXIF orientation, if the caller has looked at EXIF data and may have changed it."""
    if getattr(asked, "_exif", None) is None:
        return None
    return image.getexif().get(ExifTags.Base.Orientation)
