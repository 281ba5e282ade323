"""The formats that are decoded, and everything besides a file's bytes that determines its pixels.

Some formats of Pillow are refused: those for which it starts another program or calls a handler of
the caller (EPS, WMF, GRIB, BUFR, HDF5), that it cannot decode (MPEG), or that contain pictures of
any other format (IPTC, FPX, MIC). Pillow decodes the others by its own code. Formats that a library
has registered (HEIF, JPEG XL) are decoded too, because the caller has installed that library.
"""

from __future__ import annotations

import functools
import secrets
import sys
from typing import IO, TYPE_CHECKING, NamedTuple, cast

import PIL
from PIL import Image, ImageFile, UnidentifiedImageError, features

from transferclf.exceptions import ImageReadError
from transferclf.images.files import Contents

if TYPE_CHECKING:
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

DECODED = frozenset((
    "JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "ICO",
    "ICNS", "CUR", "TGA", "PSD", "QOI", "PCX", "DCX", "SGI", "SUN", "XBM", "XPM", "MSP", "DDS",
    "FTEX", "BLP", "IM", "IMT", "FITS", "SPIDER", "MCIDAS", "PIXAR", "PCD", "GBR", "FLI", "XVTHUMB",
))  # fmt: skip

# These are never decoded, even if a plugin or a handler is registered for them.
_HANDLER = "for which Pillow would call a handler"
REFUSED = {
    "EPS": "which Pillow decodes by starting another program (Ghostscript)",
    "WMF": _HANDLER,
    "GRIB": _HANDLER,
    "BUFR": _HANDLER,
    "HDF5": _HANDLER,
    "MPEG": "which is a video",
    "FPX": "which may hold pictures of any format",
    "MIC": "which may hold pictures of any format",
    "IPTC": "which may hold pictures of any format",
}

# The largest credible number of pixels for each byte of a file. The largest in practice is 104,000,
# of a blank page in fax compression that is 13,000 pixels wide.
PIXELS_PER_BYTE = 2**17
CREDIBLE_PIXELS = 2**22

# Python code decodes plain PPM and needs up to 48 bytes for each pixel.
PLAIN_PIXELS = 2**22

# Settings of callers that change pixels: formats (None is all), module, name, default.
_SETTINGS: tuple[tuple[frozenset[str] | None, str, str, object], ...] = (
    (None, "PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", False),
    (frozenset({"GIF"}), "PIL.GifImagePlugin", "LOADING_STRATEGY", 0),
    (frozenset({"BMP", "DIB", "ICO", "CUR"}), "PIL.BmpImagePlugin", "USE_RAW_ALPHA", False),
    (frozenset({"AVIF"}), "PIL.AvifImagePlugin", "DECODE_CODEC_CHOICE", "auto"),
    (frozenset({"TIFF"}), "PIL.TiffImagePlugin", "READ_LIBTIFF", False),
)

# Libraries that decode. Their versions differ between builds of one Pillow.
_LIBRARIES = {
    "JPEG": ("jpg", "libjpeg_turbo"),
    "MPO": ("jpg", "libjpeg_turbo"),
    "TIFF": ("libtiff", "libjpeg_turbo", "littlecms2"),
    "PSD": ("littlecms2",),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "JPEG2000": ("jpg_2000",),
    "ICNS": ("jpg_2000",),
}

# Version of code that has none. No other process has the same.
_UNKNOWN = secrets.token_hex(8)


# JPEG 2000 needs 19 bytes a pixel for decoding at full size, and 24 with transparency.
REDUCED_FROM = 2**22
FULL_PIXELS = 2**24
FULL_PIXELS_WITH_ALPHA = 2**23

_HEADER_BYTES = 2**16

# Tag of TIFF files.
_BITS_PER_SAMPLE = 258


class Header(NamedTuple):
    """Facts about an image that need no decoding.

    `size` is (height, width) before the EXIF orientation is applied, `mode` is Pillow's mode, and
    `decoder` names everything besides the bytes that determines the pixels.
    """

    size: tuple[int, int]
    mode: str
    decoder: str


class Look(NamedTuple):
    """The SHA-256 of an image's content, and the :class:`Header` of its file.

    Mode and decoder are empty for arrays and loaded PIL images.
    """

    digest: bytes
    size: tuple[int, int]
    mode: str = ""
    decoder: str = ""


def open_image(file: IO[bytes], length: int | None = None) -> ImageFile.ImageFile:
    """Open an image of one of the formats that are decoded, without reading its pixels.

    `length` is the number of bytes in the file. Raise ImageReadError if the header gives too many
    pixels for it, or for decoding with bounded memory.
    """
    Image.preinit()
    try:
        image = Image.open(file, formats=_decoded(len(Image.ID)))
    except UnidentifiedImageError:
        if not Image.init():  # all plugins of Pillow are there already
            raise
        image = Image.open(file, formats=_decoded(len(Image.ID)))
    try:
        _check_size(image, length)
    except ImageReadError:
        image.close()
        raise
    return image


def header_of(image: Image.Image) -> Header:
    """Return the header of an opened image."""
    return Header((image.height, image.width), image.mode, decoder_of(image))


def loses_bits(image: Image.Image) -> bool:
    """Whether a colour file has 16 bits a channel. Pillow keeps the upper 8 of them."""
    if image.mode == "F" or image.mode.startswith("I"):
        return False
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    return any(";16" in str(tile[3]) for tile in tiles)


def is_decoded(name: str) -> bool:
    """Whether files of this format of Pillow are decoded."""
    if name in REFUSED:
        return False
    return name in DECODED or (name in Image.OPEN and _is_foreign(Image.OPEN[name][0]))


@functools.cache
def pillow_version() -> str:
    """Return the name and version of the library that resizes images."""
    return f"Pillow {PIL.__version__}"


def decoder_of(image: Image.Image) -> str:
    """Name everything besides the bytes of its file that determines an image's pixels."""
    modules = sys.modules
    values = tuple([getattr(modules.get(it[1]), it[2], it[3]) for it in _SETTINGS])
    kind: object = type(image)
    return _decoder(kind, image.format or "", values, tuple(Image.DECODERS.items()))


@functools.lru_cache(maxsize=256)
def _decoder(
    kind: object, name: str, values: tuple[object, ...], codecs: tuple[tuple[str, object], ...]
) -> str:
    libraries = " ".join(features.version(it) or "none" for it in _LIBRARIES.get(name, ()))
    text = f"{name} {_identity(kind) if _is_foreign(kind) else libraries}"
    for (names, _, setting, default), value in zip(_SETTINGS, values, strict=True):
        if value != default and (names is None or name in names):
            text += f" {setting}={getattr(value, 'value', value)!r}"
    # Codecs that were put in the place of Pillow's own.
    foreign = (f" {codec}={_identity(code)}" for codec, code in codecs if _is_foreign(code))
    return text + "".join(foreign)


@functools.lru_cache(maxsize=4)
def _decoded(registered: int) -> tuple[str, ...]:
    """Return the decoded formats among the first `registered` ones of Pillow, in its order."""
    return tuple(name for name in Image.ID[:registered] if is_decoded(name))


def _check_size(image: ImageFile.ImageFile, length: int | None) -> None:
    pixels = image.width * image.height
    if length is not None and pixels > max(CREDIBLE_PIXELS, PIXELS_PER_BYTE * length):
        raise ImageReadError(
            f"expected an image of credible size, got {length} bytes that claim to be "
            f"{image.width} x {image.height} pixels: a possible decompression bomb"
        )
    codec = image.tile[0][0] if image.tile else ""
    if codec == "ppm_plain" and pixels > PLAIN_PIXELS:
        raise ImageReadError(
            f"expected at most {PLAIN_PIXELS} pixels in a plain (text) {image.format} file, got "
            f"{image.width} x {image.height}; convert it to PNG"
        )


def _is_foreign(factory: object) -> bool:
    return not str(getattr(factory, "__module__", "")).startswith("PIL.")


def _identity(code: object) -> str:
    """Name code of another library by its version, or by this process if it has none."""
    module = str(getattr(code, "__module__", ""))
    package = module.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", None)
    known = _UNKNOWN if version is None or package == "__main__" else version
    return f"{module}.{getattr(code, '__qualname__', '')} {known}"


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
