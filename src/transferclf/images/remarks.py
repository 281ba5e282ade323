"""Warnings about images that can be used, but perhaps not as the caller means.

Only a sample is read: headers of files, and the pixels of the few files that have more than 8 bits
or four bands.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, warn
from transferclf.images.decoding import is_turned
from transferclf.images.files import Contents, contents_of
from transferclf.images.formats import loses_bits, open_image
from transferclf.images.geometry import ResizeMode, largest_box
from transferclf.images.pixels import (
    DEPTHS,
    ValueRange,
    dtype_limits,
    is_decided_by_caller,
    is_wide,
    sample_step,
    warn_if_dark,
    warn_if_dark_on,
    warn_if_scaled,
)
from transferclf.images.places import place_of
from transferclf.images.places.local import LocalFile
from transferclf.images.source import ImageSource
from transferclf.images.threads import loading, room_for

# The number of images in a sample, and of those whose pixels are read.
SAMPLE = 32
DECODED = 8
DECODED_PIXELS = 2**22

# An image is much wider or taller than the crop where the crop keeps less than this share of it.
LEAST_KEPT = 0.5

# Formats that never have 16 bits: predictions need not read their headers.
_EIGHT_BITS = (".jpg", ".jpeg", ".webp", ".bmp", ".gif")

_WHITE_16 = 65535

# What follows the position in `Seen`.
Facts = tuple[tuple[int, int], str, str, bool]


class Seen(NamedTuple):
    """A sampled image: position in the source, upright (height, width), and Pillow's names.

    `loses_bits` says whether Pillow keeps only the upper 8 bits of a channel.
    """

    position: int
    size: tuple[int, int]
    mode: str = ""
    format: str = ""
    loses_bits: bool = False


def sample(source: ImageSource, most: int = SAMPLE) -> list[Seen]:
    """Read the headers of some images, evenly spread. Unreadable ones are left out."""
    most = min(most, DECODED) if source.is_far else most
    positions = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).astype(int))
    seen = []
    for index in positions.tolist():
        with suppress(Exception):  # decoding will raise the error
            seen.append(_seen(source, index))
    return seen


def remark_on_training_images(source: ImageSource, seen: list[Seen]) -> None:
    """Warn of scales that seem wrong, and of fourth bands that are no alpha."""
    _remark_on_depth(source, seen)
    _remark_on_given_range(source, seen)
    items = (source.item(it.position) for it in seen if _may_have_alpha(source))
    arrays = [item for item in items if isinstance(item, np.ndarray) and item.shape[2:] == (4,)]
    # Pillow reads any four bands of a TIFF file as RGBA.
    files = [it for it in seen if (it.mode, it.format) == ("RGBA", "TIFF")]
    looks = [looks_like_alpha(pixels) for pixels in (*arrays, *_decoded(source, files))]
    if np.mean(looks or [True]) < 0.5:
        warn(
            "the fourth channel of X is read as transparency, and the colours are put over white "
            "by it, yet it does not look like transparency: few of its values are fully "
            "transparent or opaque. If it is another band, or the black of CMYK, pass three "
            "channels: X[..., :3] of an array, or other bands of your choice"
        )


def remark_on_other_images(source: ImageSource) -> None:
    """Warn of images that seem to be on another scale than those of training."""
    seen = sample(source, DECODED) if _may_be_deep(source) else []
    _remark_on_depth(source, seen)
    _remark_on_given_range(source, seen)
    if is_decided_by_caller(source.pixel_range):
        return
    is_255 = isinstance(source.pixel_range, ValueRange) and source.pixel_range.high == 255
    arrays = source.colours()
    if arrays and not (is_255 and warn_if_scaled(arrays)):
        # Dark floats may be meant, because their type and scale are those of training.
        some = source[:: sample_step(len(source))].colours()
        integers = [it for it in some if it.dtype.kind in "iu"]
        warn_if_dark(integers, source.pixel_range)


def remark_on_proportions(seen: list[Seen], size: tuple[int, int], resize: ResizeMode) -> None:
    """Warn if the crop to `size`, (height, width), leaves out a large part of most images."""
    if resize != "crop" or not seen:
        return
    boxes = [largest_box(it.size, size) for it in seen]
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in boxes]
    kept = np.array(areas) / [it.size[0] * it.size[1] for it in seen]
    if np.mean(kept < LEAST_KEPT) <= 0.5:
        return
    height, width = seen[int(np.argmin(kept))].size
    warn(
        f"resize='crop' leaves out a large part of most images: the network sees "
        f"{np.median(kept):.0%} of them, from the middle (the median of {len(seen)} images; one of "
        f"them is {width} pixels wide and {height} high). resize='pad' keeps all of each image "
        "between black borders, resize='stretch' distorts it, and an image_size=(height, width) "
        "of about these proportions keeps most of it"
    )


def _remark_on_depth(source: ImageSource, seen: list[Seen]) -> None:
    """Warn if files of 16 bits hold numbers of 10, 12 or 14 bits."""
    if type(source.pixel_range) is tuple:
        return
    _remark_on_lost_bits(source, seen)
    if source.pixel_range == "minmax":
        return
    brightest = [
        float(pixels.max())
        for pixels in _decoded(source, [it for it in seen if it.mode.startswith("I")])
        if pixels.min() >= 0 and pixels.max() <= _WHITE_16
    ]
    warn_if_dark_on(_WHITE_16, brightest)


def _remark_on_lost_bits(source: ImageSource, seen: list[Seen]) -> None:
    """Warn if little is left of colour files, because Pillow keeps the upper 8 of 16 bits."""
    seen = [it for it in seen if it.loses_bits and it.mode in ("RGB", "RGBA")]
    brightest = max((int(it[..., :3].max()) for it in _decoded(source, seen)), default=255)
    bits = next((bits for bits in DEPTHS if brightest < 2 ** (bits - 8)), None)
    if bits is None:
        return
    first = seen[0].position
    warn(
        f"the brightest pixel of colour files with 16 bits a channel, such as "
        f"{source.name(first) or f'image {first} of X'}, is {brightest} of 255, because Pillow "
        "keeps the upper 8 bits only, which makes them dark or nearly black; read them by another "
        f"library, such as tifffile, and pass the arrays with pixel_range=(0, {2**bits - 1}) if "
        f"they have {bits} bits, or say pixel_range=(0, 255) if it is meant"
    )


def _remark_on_given_range(source: ImageSource, seen: list[Seen]) -> None:
    """Warn of floats up to 1 where the caller's own range says that white is 255 or more."""
    given = source.pixel_range
    if type(given) is tuple:
        files = _decoded(source, [it for it in seen if it.mode == "F"])
        warn_if_scaled([*source.colours(), *files], given)


def looks_like_alpha(image: np.ndarray) -> bool:
    """Whether the fourth channel of an image is likely to be transparency.

    At least half of it is fully transparent or fully opaque, and some of it is opaque. Or it has
    one value that is not nearly transparent. Pixels that are 0 in all channels do not count.
    """
    step = max(min(image.shape[:2]) // 64, 1)
    pixels = image[::step, ::step].reshape(-1, 4)
    alpha = pixels[pixels.any(axis=1), 3]
    if not alpha.size:
        return True
    white = dtype_limits(alpha.dtype).high
    if is_wide(alpha.dtype):
        usual = (1, 255) if alpha.dtype.kind == "f" else (255,)
        white = next((high for high in usual if not alpha.max() > high), _WHITE_16)
    if alpha.min() == alpha.max():
        return bool(alpha[0] > white / 8)
    is_opaque = alpha >= white
    ends = is_opaque | (alpha == 0)
    return bool(ends.mean() >= 0.5 and is_opaque.any())


def _decoded(source: ImageSource, seen: list[Seen]) -> Iterator[np.ndarray]:
    """Yield the numbers in the first few images, at least in one."""
    pixels = 0
    for it in seen[:DECODED]:
        if pixels > DECODED_PIXELS:
            break
        pixels += it.size[0] * it.size[1]
        with suppress(Exception):  # decoding will raise the error
            yield _pixels(source, it.position)


def _may_be_deep(source: ImageSource) -> bool:
    """Whether the first image may have 16 bits, as far as is known without decoding it."""
    if len(source) == 0 or source.image_shape is not None:
        return False
    try:
        first = source.item(0)
    except ImageError:
        return False  # decoding will raise it
    if isinstance(first, Image.Image):
        return first.mode == "F" or first.mode.startswith("I") or loses_bits(first)
    name = source.name(0) or ""
    return not isinstance(first, np.ndarray) and not name.lower().endswith(_EIGHT_BITS)


def _may_have_alpha(source: ImageSource) -> bool:
    """Whether arrays of the source may have four channels, as far as is known without reading."""
    shape = source.image_shape
    return shape is None or shape[2:] == (4,)


def _seen(source: ImageSource, index: int) -> Seen:
    if source.image_shape is not None:
        height, width = source.image_shape[:2]
        return Seen(index, (height, width))
    item = source.item(index)
    if isinstance(item, np.ndarray):
        return Seen(index, (item.shape[0], item.shape[1]))
    if isinstance(item, Image.Image):
        return Seen(index, *_facts(item))
    if isinstance(place := place_of(item), LocalFile):
        entry = os.stat(place.path)
        return Seen(index, *_facts_of_file(place.path, entry.st_mtime_ns, entry.st_size))
    with source.contents(item) as contents:
        assert contents is not None
        return Seen(index, *_facts_in(contents))


@functools.lru_cache(maxsize=1024)
def _facts_of_file(path: str, modified: int, size: int) -> Facts:
    """Return the facts in a file's header. They are cached for the next fit of a search."""
    with contents_of(path, held=0) as contents:
        return _facts_in(contents)


def _facts_in(contents: Contents) -> Facts:
    with open_image(contents.file(), contents.size) as image:
        return _facts(image)


def _facts(image: Image.Image) -> Facts:
    """Return the upright size, mode and format of an opened image, and whether it loses bits."""
    height, width = image.height, image.width
    # EXIF data need not be read for a square.
    is_lying = height != width and is_turned(image, quarter=True)
    size = (width, height) if is_lying else (height, width)
    return size, image.mode, image.format or "", loses_bits(image)


def _pixels(source: ImageSource, index: int) -> np.ndarray:
    item = source.item(index)
    with source.contents(item) as contents:
        if contents is None:
            with loading():
                return np.asarray(item)
        with (
            open_image(contents.file(), contents.size) as image,
            room_for(image.width * image.height),
        ):
            return np.asarray(image)
