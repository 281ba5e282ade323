"""PIL images of the caller that are not loaded yet are read from their file, and stay unloaded.

Loading them would keep the pixels of all images of the caller in memory.
"""

from __future__ import annotations

from PIL import ExifTags, Image, ImageFile

from transferclf.exceptions import ImageReadError
from transferclf.images.files import Contents
from transferclf.images.formats import REFUSED, open_image
from transferclf.images.threads import loading


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
        except (AttributeError, OSError, ValueError):  # the file is closed, or cannot be read again
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
