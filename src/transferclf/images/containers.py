"""Errors for files that Pillow cannot open or decode: the kind of the file, and what to do."""

from __future__ import annotations

import multiprocessing
import re
from typing import IO

from PIL import Image, UnidentifiedImageError

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images.files import Contents

# The number of bytes from which the kind of a file is found.
HEAD = 1024

_HEIF = "install pillow-heif and call pillow_heif.register_heif_opener() first"
_CONVERT = "convert it to PNG"
_DEVELOP = "develop it to JPEG or TIFF"
_UNPACK = "unpack it"
_FRAMES = "extract its frames as images"
_WEATHER = "read it with a library for weather data and pass arrays"
_FAILED = "was this a download that failed?"

# Text files may begin with a byte order mark and white space.
_START = rb"[\xef\xbb\xbf \t\r\n]*"

# The beginning of a file, its kind, and what to do. The first match counts.
_KINDS = (
    (rb".{4}ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "a HEIC photograph", _HEIF),
    (rb".{4}ftypavi[fs]", "an AVIF image, which this Pillow cannot decode", _HEIF),
    (rb".{4}ftypcrx ", "a raw photograph (CR3)", _DEVELOP),
    (rb".{4}ftypjxl |\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL image", _CONVERT),
    (rb".{4}ftyp", "a video (MP4, MOV)", _FRAMES),
    (rb"RIFF.{4}AVI ", "a video (AVI)", _FRAMES),
    (rb"RIFF.{4}WAVE", "a sound file (WAV)", "make spectrograms first"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "fetch the file: git lfs pull"),
    (rb"/annex/objects/", "a pointer of git-annex", "fetch the file: git annex get"),
    (rb"%PDF", "a PDF document", "convert its pages to images"),
    (
        rb"%!PS|\xc5\xd0\xd3\xc6",
        "an EPS or PostScript file, which Pillow decodes by starting another program (Ghostscript)",
        _CONVERT,
    ),
    (rb"\xd7\xcd\xc6\x9a|\x01\x00\x09\x00", "a WMF drawing", _CONVERT),
    (rb"GRIB", "a GRIB file", _WEATHER),
    (rb"BUFR", "a BUFR file", _WEATHER),
    (rb"\x89HDF", "an HDF5 file", "read it with h5py and pass arrays"),
    (rb"\x93NUMPY", "an array of NumPy", "pass np.load(path)"),
    (rb"MATLAB", "a MATLAB file", "read it with scipy.io.loadmat and pass arrays"),
    (rb"SIMPLE  =", "a damaged FITS file", "read it with astropy and pass arrays"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP archive", _UNPACK),
    (rb"\x1f\x8b", "a gzip file", _UNPACK),
    (rb"BZh", "a bzip2 file", _UNPACK),
    (rb"\xfd7zXZ", "an xz file", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file", _UNPACK),
    (rb"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (rb"Rar!", "a RAR archive", _UNPACK),
    (rb"\xd0\xcf\x11\xe0", "a compound file of Microsoft (FPX, MIC, an Office document)", _CONVERT),
    (rb"\x00\x05\x16\x07", "an AppleDouble file of macOS, which holds no pixels", "leave it out"),
    (rb"FUJIFILMCCD-RAW|IIRO|IIRS|MMOR|IIU\x00|FOVb", "a raw photograph", _DEVELOP),
    (rb"\x00\x00\x01[\xba\xb3]", "an MPEG video", _FRAMES),
    (rb"\x1aE\xdf\xa3", "a video (Matroska, WebM)", _FRAMES),
    (rb"FLV\x01", "a video (FLV)", _FRAMES),
    (rb"OggS", "an Ogg file", _FRAMES),
    (rb"ID3", "an MP3 file", "make spectrograms first"),
    (rb"PAR1", "a Parquet table", "read it with pandas and pass the images in it"),
    (rb"SQLite format 3", "a database", "read the images in it and pass them"),
    (rb"\x7fELF|MZ", "a program", "leave it out"),
    (rb"\x80\x04\x95", "a pickle", "load it and pass arrays"),
    (rb".{8}CR\x02", "a raw photograph (CR2)", _DEVELOP),
    (rb".{128}DICM", "a DICOM image", "read it with pydicom and pass its pixel_array"),
    (rb".{40} EMF", "an EMF drawing", _CONVERT),
    (rb".{257}ustar", "a tar archive", _UNPACK),
    (rb".{344}(n\+1|ni1)", "a NIfTI volume", "read it with nibabel and pass its slices as arrays"),
    (_START + rb"(?=<)(?i:.*<(!doctype html|html|head|body))", "an HTML page", _FAILED),
    (rb".*<svg", "an SVG drawing", _CONVERT),
    (_START + rb"<\?xml", "an XML file", _FAILED),
)

# Formats that are decoded. A file that begins like one and cannot be opened is damaged.
_IMAGES = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG", "PNG"),
    (rb"GIF8[79]a", "GIF"),
    (rb"II[*+]\x00|MM\x00[*+]", "TIFF"),
    (rb"BM", "BMP"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"8BPS", "PSD"),
    (rb"\x00\x00\x01\x00", "ICO"),
    (rb"RIFF.{4}WEBP", "WebP"),
)


def read_error(error: Exception, file: Contents | Image.Image | IO[bytes]) -> ImageError:
    """Return the error to raise where Pillow could not open or decode a file."""
    if isinstance(error, UnidentifiedImageError) and not isinstance(file, Image.Image):
        stream = file.file() if isinstance(file, Contents) else file
        stream.seek(0)
        kind = kind_of(stream.read(HEAD))
        return ImageReadError(f"expected an image file, got {kind}{_in_worker()}")
    if isinstance(error, FileNotFoundError):
        return MissingImageError("expected a file, got a path where there is none")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageReadError(
            f"expected an image of credible size, got a possible decompression bomb ({error}); "
            "if it is genuine, raise PIL.Image.MAX_IMAGE_PIXELS, of which up to twice is read"
            f"{_in_worker()}"
        )
    closed = "; if it was closed before, call its load() first"
    hint = closed if isinstance(file, Image.Image) else _in_worker()
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ImageReadError(f"expected a whole image, got {text}{hint}")


def kind_of(head: bytes) -> str:
    """Return the kind of a file that is no image, and what to do, from its first bytes."""
    if not head:
        return "an empty file"
    for pattern, name, hint in _KINDS:
        if re.match(pattern, head, re.DOTALL):
            return f"{name}; {hint}"
    if re.match(_START + rb'[{\[].*"', head, re.DOTALL) and _is_text(head):
        return f"a JSON file; {_FAILED}"
    for pattern, name in _IMAGES:
        if re.match(pattern, head, re.DOTALL):
            return f"the beginning of a {name} file, cut off or damaged in its header"
    return f"one of no known image format{' (it looks like text)' if _is_text(head) else ''}"


def _in_worker() -> str:
    """Return a further possible reason in a worker process; empty in the main process."""
    if multiprocessing.current_process().name == "MainProcess":
        return ""
    return (
        ". This is a worker process: plugins and settings of Pillow that are registered or set in "
        'the main process do not reach it. Run in threads (joblib.parallel_config("threading")), '
        "or set them in a module that the workers import"
    )


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")
    is_shown = all(sign.isprintable() or sign.isspace() for sign in text)
    return is_shown and len(text) > 0.9 * len(head)
