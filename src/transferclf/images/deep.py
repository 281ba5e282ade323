"""Pictures. Large ones are computed a strip of rows at a time to save memory.

A picture is an RGB array or, where Pillow made it and it has 8 bits, Pillow's own image (mode L or
RGB), because each conversion would copy all pixels. A large picture of floats is a `DeepPicture`:
scaling needs float64 copies, and compositing needs several, gigabytes for 24 megapixels. The result
is the same to the bit.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from transferclf.images.pixels import (
    PixelRange,
    Scale,
    is_on_255_scale,
    over_white,
    scale_for,
    to_rgb,
)

# Pixels that are computed at a time.
STRIP = 2**19


class Numbers(NamedTuple):
    """An image of numbers of any depth, of `shape` (height, width, 1 to 4 channels).

    `rows` takes the first row and the one after the last, and returns an array (rows, w, channels).
    """

    rows: Callable[[int, int], np.ndarray]
    shape: tuple[int, int, int]
    dtype: np.dtype


class DeepPicture:
    """A large picture of float32 levels that is computed when it is needed.

    `alpha` is the scale of the last channel, or None where nothing is transparent.
    """

    def __init__(self, numbers: Numbers, colour: Scale, alpha: Scale | None):
        self._numbers, self._colour, self._alpha = numbers, colour, alpha
        self.height, self.width = numbers.shape[:2]
        self.channels = 1 if numbers.shape[2] < 3 else 3

    def part(self, top: int, bottom: int, channel: int | None = None) -> np.ndarray:
        """Return the levels of some rows, of one channel or all: (rows, w, 1 | 3)."""
        numbers = self._numbers.rows(top, bottom)
        chosen = slice(self.channels) if channel is None else slice(channel, channel + 1)
        levels = self._colour.levels(numbers[..., chosen])
        if self._alpha is None:
            return levels
        return over_white(levels, self._alpha.levels(numbers[..., -1:]))

    def parts(self, channel: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the levels strip by strip, each with the number of its first row."""
        for top, bottom in strips(self.height, self.width):
            yield top, self.part(top, bottom, channel)

    def image(self, mode: str, channel: int | None = None) -> Image.Image:
        """Return the picture (mode L or RGB), or one channel of it (mode F), as a PIL image."""
        whole = Image.new(mode, (self.width, self.height))
        for top, levels in self.parts(channel):
            levels = levels if mode == "RGB" else levels[..., 0]
            whole.paste(Image.fromarray(np.ascontiguousarray(levels)), (0, top))
        return whole


Picture = np.ndarray | Image.Image | DeepPicture


def picture_of(numbers: Numbers, pixel_range: PixelRange) -> Picture:
    """Put numbers on the scale 0 to 255, with the values of :func:`.pixels.to_rgb`.

    A small picture becomes an array (h, w, 3), a large one of 8 bits a PIL image of mode L or RGB.
    """
    height, width, channels = numbers.shape
    if height * width <= STRIP:
        return to_rgb(numbers.rows(0, height), pixel_range)
    has_alpha = channels in (2, 4)
    colour = _scale(numbers, slice(-1) if has_alpha else slice(None), pixel_range)
    # `pixel_range` applies to colours; the type of alpha gives its scale.
    alpha = _scale(numbers, slice(-1, None), None) if has_alpha else None
    if alpha is not None and alpha.levels(np.array([alpha.minimum])).min() == 255:
        alpha = None
    picture = DeepPicture(numbers, colour, alpha)
    if not colour.is_whole:
        return picture
    return picture.image("L" if picture.channels == 1 else "RGB")


def array_numbers(array: np.ndarray) -> Numbers:
    """Return the numbers of an array of shape (h, w) or (h, w, channels)."""
    array = array[..., None] if array.ndim == 2 else array
    height, width, channels = array.shape
    return Numbers(lambda top, bottom: array[top:bottom], (height, width, channels), array.dtype)


def in_strips(
    image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str
) -> Image.Image:
    """Apply a change of mode to an image, a strip of rows at a time."""
    if image.width * image.height <= STRIP:
        return change(image)
    whole = Image.new(mode, image.size)
    for top, bottom in strips(image.height, image.width):
        whole.paste(change(image.crop((0, top, image.width, bottom))), (0, top))
    return whole


def _scale(numbers: Numbers, channels: slice, pixel_range: PixelRange) -> Scale:
    """Return the scale of some channels of the whole image."""

    def parts() -> Iterator[np.ndarray]:
        for top, bottom in strips(*numbers.shape[:2]):
            yield numbers.rows(top, bottom)[..., channels]

    if is_on_255_scale(numbers.dtype, pixel_range):
        is_alpha = channels.start == -1
        minimum = min(part.min() for part in parts()) if is_alpha else 0
        return Scale(0, 255, numbers.dtype, minimum, 255, is_whole=True)
    extremes = [(part.min(), part.max()) for part in parts()]
    # NumPy's minimum keeps a NaN, which Python's would lose.
    minimum = np.min([low for low, _ in extremes])
    maximum = np.max([high for _, high in extremes])
    scale = scale_for(minimum, maximum, numbers.dtype, pixel_range)
    levels = map(scale.exact, parts())
    return scale._replace(is_whole=all(scale.are_near(each, np.rint(each)) for each in levels))


def strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Return (first row, row after the last) of each strip of about 2**19 pixels."""
    count = max(STRIP // width, 1)
    return ((top, min(top + count, height)) for top in range(0, height, count))


def sides(image: Picture) -> tuple[int, int]:
    """Return the height and width in pixels."""
    if isinstance(image, np.ndarray):
        return image.shape[0], image.shape[1]
    return image.height, image.width


def rgb_array(image: Picture) -> np.ndarray:
    """Return the picture as an array (h, w, 3), gray repeated."""
    if isinstance(image, DeepPicture):
        array = np.empty((image.height, image.width, 3), np.float32)
        for top, levels in image.parts():
            array[top : top + len(levels)] = levels
        return array
    array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    return np.repeat(array, 3, axis=-1) if array.shape[-1] == 1 else array


def pixels_digest(pixels: np.ndarray) -> bytes:
    """SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(_header(pixels.dtype, pixels.shape))
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def picture_digest(picture: Picture) -> bytes:
    """SHA-256 of the RGB array of a picture, a strip at a time where it is no array yet."""
    if isinstance(picture, np.ndarray):
        return pixels_digest(picture)
    dtype = np.dtype(np.float32 if isinstance(picture, DeepPicture) else np.uint8)
    digest = hashlib.sha256(_header(dtype, (picture.height, picture.width, 3)))
    for top, bottom in strips(picture.height, picture.width):
        if isinstance(picture, DeepPicture):
            part = rgb_array(picture.part(top, bottom))
        else:
            part = rgb_array(picture.crop((0, top, picture.width, bottom)))
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()


@functools.lru_cache(maxsize=64)
def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    return f"pixels {dtype.name} {shape}".encode()
