"""Decoders that can do less: at reduced size, or with less memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from PIL import ImageFile

from transferclf.exceptions import ImageReadError
from transferclf.images.files import Contents

if TYPE_CHECKING:
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

# JPEG 2000 needs 19 bytes a pixel for decoding at full size, and 24 with transparency.
REDUCED_FROM = 2**22
FULL_PIXELS = 2**24
FULL_PIXELS_WITH_ALPHA = 2**23

_HEADER_BYTES = 2**16


def decoded_at_reduced_size(image: ImageFile.ImageFile, factor: int) -> int:
    """Set a JPEG or JPEG 2000 file that is not loaded yet to be decoded at reduced size.

    Return the part of `factor` (1, 2, 4 or 8) that is left to do. Raise ImageReadError for a JPEG
    2000 image that needs too much memory and cannot be reduced.
    """
    if image.format in ("JPEG", "MPO") and factor > 1:
        whole = image.size
        image.draft(image.mode, (image.width // factor, image.height // factor))
        return 1 if image.size != whole else factor
    if image.format == "JPEG2000" and image.width * image.height > REDUCED_FROM:
        return _reduced_wavelets(image, factor)
    return factor


def with_less_memory(image: ImageFile.ImageFile, contents: Contents | None) -> None:
    """Free memory of WebP and AVIF images that Pillow's plugins would keep during loading.

    It is the file, and the decoder with its canvases for further frames. `contents` are released,
    so that nothing else may read them.
    """
    if image.format not in ("WEBP", "AVIF"):
        return
    if contents is not None and image.fp is not None:
        image.fp.close()
        image.fp = None
        contents.release()
    prepare = image.load_prepare

    def prepared() -> None:
        vars(image)["_decoder"] = None
        prepare()

    vars(image)["load_prepare"] = prepared


def _reduced_wavelets(image: ImageFile.ImageFile, factor: int) -> int:
    # With transparency it is not reduced: colours of transparent pixels would bleed.
    has_alpha = image.mode in ("LA", "PA", "RGBA")
    limit = FULL_PIXELS_WITH_ALPHA if has_alpha else FULL_PIXELS
    steps = 0 if has_alpha else min(factor.bit_length() - 1, _levels(image))
    if image.width * image.height > limit << (2 * steps):
        raise ImageReadError(
            f"expected a JPEG 2000 image of at most {limit} pixels, or one that can be decoded at "
            f"reduced size, got {image.width} x {image.height} pixels of mode {image.mode}; "
            "convert it to PNG"
        )
    if steps:
        cast("Jpeg2KImageFile", image).reduce = steps
    return factor >> steps


def _levels(image: ImageFile.ImageFile) -> int:
    """Return how often a JPEG 2000 image can be halved: the number in its COD marker."""
    file = image.fp
    assert file is not None
    position = file.tell()
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    file.seek(position)
    start = head.find(b"\xff\x4f\xff\x51") + 2
    while start > 1 and head[start : start + 1] == b"\xff" and len(head) > start + 10:
        if head[start + 1] == 0x52:
            return head[start + 9]
        start += 2 + int.from_bytes(head[start + 2 : start + 4], "big")
    return 0
