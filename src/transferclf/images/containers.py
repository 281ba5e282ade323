"""Naming what a file is when it is no image that can be decoded."""

from __future__ import annotations

import multiprocessing
import re

# How much of a file is looked at.
HEAD = 1024

_HEIF = "install pillow-heif and call pillow_heif.register_heif_opener() first"
_CONVERT = "convert it to PNG"

# Brands of the container of ISO base media files, which photographs and videos share.
_BRANDS = (
    (
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        "a HEIC photograph",
        _HEIF,
    ),
    ((b"avif", b"avis"), "an AVIF image, which this Pillow cannot decode", _HEIF),
    ((b"crx ",), "a raw photograph (CR3)", "develop it to JPEG or TIFF"),
    ((b"jxl ",), "a JPEG XL image", _CONVERT),
    ((), "a video (MP4, MOV)", "extract its frames as images"),
)

# First bytes, what they are of, and what to do.
_STARTS = (
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file: git lfs pull"),
    (b"/annex/objects/", "a pointer of git-annex", "fetch the file: git annex get"),
    (b"%PDF", "a PDF document", "convert its pages to images"),
    (
        (b"%!PS", b"\xc5\xd0\xd3\xc6"),
        "an EPS or PostScript file, which Pillow decodes by starting another program (Ghostscript)",
        _CONVERT,
    ),
    ((b"\xd7\xcd\xc6\x9a", b"\x01\x00\x09\x00"), "a WMF drawing", _CONVERT),
    ((b"\xff\x0a", b"\x00\x00\x00\x0cJXL "), "a JPEG XL image", _CONVERT),
    (b"GRIB", "a GRIB file", "read it with a library for weather data and pass arrays"),
    (b"BUFR", "a BUFR file", "read it with a library for weather data and pass arrays"),
    (b"\x89HDF", "an HDF5 file", "read it with h5py and pass arrays"),
    (b"\x93NUMPY", "an array of NumPy", "pass np.load(path)"),
    (b"MATLAB", "a MATLAB file", "read it with scipy.io.loadmat and pass arrays"),
    (b"SIMPLE  =", "a damaged FITS file", "read it with astropy and pass arrays"),
    ((b"PK\x03\x04", b"PK\x05\x06"), "a ZIP archive", "unpack it"),
    (b"\x1f\x8b", "a gzip file", "unpack it"),
    (b"BZh", "a bzip2 file", "unpack it"),
    (b"\xfd7zXZ", "an xz file", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it"),
    (b"Rar!", "a RAR archive", "unpack it"),
    (b"\xd0\xcf\x11\xe0", "a compound file of Microsoft (FPX, MIC, an Office document)", _CONVERT),
    (b"\x00\x05\x16\x07", "an AppleDouble file of macOS, which holds no pixels", "leave it out"),
    ((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\x00", b"FOVb"), "a raw photograph",
     "develop it to JPEG or TIFF"),
    ((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3"), "an MPEG video", "extract its frames as images"),
    (b"\x1aE\xdf\xa3", "a video (Matroska, WebM)", "extract its frames as images"),
    (b"FLV\x01", "a video (FLV)", "extract its frames as images"),
    (b"OggS", "an Ogg file", "extract its frames as images"),
    (b"ID3", "an MP3 file", "make spectrograms first"),
    (b"PAR1", "a Parquet table", "read it with pandas and pass the images in it"),
    (b"SQLite format 3", "a database", "read the images in it and pass them"),
    ((b"\x7fELF", b"MZ"), "a program", "leave it out"),
    (b"\x80\x04\x95", "a pickle", "load it and pass arrays"),
)  # fmt: skip

_RIFF = {b"AVI ": ("a video (AVI)", "extract its frames as images"), b"WAVE": (
    "a sound file (WAV)", "make spectrograms first")}  # fmt: skip

# Formats that can be decoded: a file that begins like one and cannot be opened is damaged.
_IMAGES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    ((b"GIF87a", b"GIF89a"), "GIF"),
    ((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), "TIFF"),
    (b"BM", "BMP"),
    ((b"\x00\x00\x00\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    (b"8BPS", "PSD"),
    (b"\x00\x00\x01\x00", "ICO"),
)

_HTML = re.compile(rb"<!doctype html|<html|<head|<body", re.IGNORECASE)


def kind_of(head: bytes) -> str:
    """Say what a file is that cannot be opened as an image.

    Parameters
    ----------
    head : bytes
        Its first bytes, 1024 or all of them.

    Returns
    -------
    str
        To be put after "got"; with what to do, where something can be done.

    Examples
    --------
    >>> kind_of(b"%PDF-1.7")
    'a PDF document; convert its pages to images'
    >>> kind_of(b"")
    'an empty file'
    """
    if not head:
        return "an empty file"
    found = _by_start(head) or _by_content(head)
    if found is not None:
        return "; ".join(found)
    for start, name in _IMAGES:
        if head.startswith(start):
            return f"the beginning of a {name} file, cut off or damaged in its header"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "the beginning of a WebP file, cut off or damaged in its header"
    text = " (it looks like text)" if _is_text(head) else ""
    return f"one of no known image format{text}"


def in_worker() -> str:
    """What else may be the reason in a worker process; nothing in the main process."""
    if multiprocessing.current_process().name == "MainProcess":
        return ""
    return (
        ". This is a worker process: plugins and settings of Pillow that are registered or set in "
        'the main process do not reach it. Run in threads (joblib.parallel_config("threading")), '
        "or set them in a module that the workers import"
    )


def _by_start(head: bytes) -> tuple[str, str] | None:
    if head[4:8] == b"ftyp":
        return next((name, hint) for brands, name, hint in _BRANDS if _has_brand(head, brands))
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    return next(((name, hint) for start, name, hint in _STARTS if head.startswith(start)), None)


def _has_brand(head: bytes, brands: tuple[bytes, ...]) -> bool:
    return not brands or head[8:12] in brands


def _by_content(head: bytes) -> tuple[str, str] | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[8:11] == b"CR\x02":
        return "a raw photograph (CR2)", "develop it to JPEG or TIFF"
    if head[128:132] == b"DICM":
        return "a DICOM image", "read it with pydicom and pass its pixel_array"
    if head[40:44] == b" EMF":
        return "an EMF drawing", _CONVERT
    if head[257:262] == b"ustar":
        return "a tar archive", "unpack it"
    if head[344:347] in (b"n+1", b"ni1"):
        return "a NIfTI volume", "read it with nibabel and pass its slices as arrays"
    if _HTML.search(start) and start[:1] == b"<":
        return "an HTML page", "was this a download that failed?"
    if b"<svg" in head:
        return "an SVG drawing", _CONVERT
    if start[:5] == b"<?xml":
        return "an XML file", "was this a download that failed?"
    if start[:1] in (b"{", b"[") and b'"' in start and _is_text(head):
        return "a JSON file", "was this a download that failed?"
    return None


def _is_text(head: bytes) -> bool:
    text = head.decode("utf-8", "ignore")
    is_shown = all(sign.isprintable() or sign.isspace() for sign in text)
    return is_shown and len(text) > 0.9 * len(head)
