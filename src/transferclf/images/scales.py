"""Decide which numbers are black and white, from all arrays of one X together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from transferclf.exceptions import ImageError, warn
from transferclf.images.pixels import (
    DARKEST_CREDIBLE_SHARE,
    DtypeRange,
    PixelRange,
    ValueRange,
    dtype_limits,
    is_wide,
    limits_for_maximum,
)

T = TypeVar("T", bound=Any)

# How many images, and how large ones, are looked at for whether they are nearly black.
SAMPLE = 64
SAMPLE_PIXELS = 2**26

# Bits that cameras and scanners have where they write files of 16 bits.
DEPTHS = (8, 10, 12, 14)


def range_of(arrays: list[np.ndarray]) -> DtypeRange | ValueRange:
    """Return the pixel range of at least one array, and warn if it is doubtful."""
    wide = [array for array in arrays if is_wide(array.dtype)]
    decided = _range_of_wide(wide) if wide else _range_of_dtypes(arrays)
    warn_if_dark(sample_of(arrays), decided)
    return decided


def sample_of(images: T) -> T:
    """Return at most 64 of the images, evenly spread."""
    return images[:: -(-len(images) // SAMPLE) or 1]


def warn_if_scaled(arrays: Sequence[np.ndarray]) -> bool:
    """Warn if X is in [0, 1] but the training data was in [0, 255]. Return whether it is."""
    floats = [array for array in arrays if array.dtype.kind == "f"]
    maximum = max((float(array.max()) for array in floats), default=0)
    is_scaled = 0 < maximum <= 1
    if is_scaled:
        warn(
            f"the brightest pixel of X is {maximum:g}, yet the training images went beyond 1 "
            "and pixels are read as 0 to 255; pass these on the same scale"
        )
    return is_scaled


def warn_if_dark(arrays: Sequence[np.ndarray], decided: PixelRange) -> None:
    """Warn if all the arrays that are read on one scale are nearly black on it.

    `decided` was read off the training images; nothing is said where the caller gave a range.
    """
    brightest: dict[tuple[float, bool], list[float]] = {}
    for array in arrays:
        white = _white_of(array.dtype, decided)
        if white and array.size <= SAMPLE_PIXELS:
            scale = white, array.dtype == np.uint8
            brightest.setdefault(scale, []).append(float(array.max()))
    for (white, is_8_bit), found in brightest.items():
        warn_if_dark_on(white, found, is_8_bit)


def warn_if_dark_on(white: float, brightest: Sequence[float], is_8_bit: bool = False) -> None:
    """Warn if the brightest pixel of all these images is nearly black on a scale up to `white`.

    Dark photographs of 8 bits are common, so that for them only levels 0 and 1 count as black.
    """
    maximum = max(brightest, default=0)
    if 0 < maximum < (2 if is_8_bit else _darkest(white)):
        warn(
            f"the brightest pixel of {len(brightest)} images of X is {maximum:g}, yet pixels are "
            f"read as 0 to {white:g}, which makes them dark or nearly black; say pixel_range="
            f"{_likely_range(maximum, white)}, or pixel_range=(0, {white:g}) if it is meant"
        )


def _white_of(dtype: np.dtype, decided: PixelRange) -> float:
    """The number of white in arrays of this type; 0 where each image decides it."""
    if not is_wide(dtype):
        return dtype_limits(dtype).high if dtype.kind != "b" else 0
    return decided.high if isinstance(decided, ValueRange) else 0


def _darkest(white: float) -> float:
    """The smallest credible number for the brightest pixel of several images."""
    # Cameras of 10, 12 and 14 bits leave their numbers as they are in 16 bits.
    return 2**14 if white == 65535 else DARKEST_CREDIBLE_SHARE * white


def _likely_range(maximum: float, white: float) -> str:
    """Return the range that is most likely meant, and why."""
    if white != 65535:
        return f"(0, {maximum:g}) if that is white"
    bits = next(bits for bits in DEPTHS if maximum < 2**bits)
    return f"(0, {2**bits - 1}) if they have {bits} bits"


def _range_of_dtypes(arrays: list[np.ndarray]) -> DtypeRange:
    return max((dtype_limits(array.dtype) for array in arrays), key=lambda limits: limits.high)


def _range_of_wide(arrays: list[np.ndarray]) -> ValueRange:
    brightest: dict[bool, tuple[float, np.dtype]] = {}
    for array in arrays:
        is_float, maximum = array.dtype.kind == "f", float(array.max())
        if maximum >= brightest.get(is_float, (0, None))[0]:
            brightest[is_float] = (maximum, array.dtype)
    ranges = {limits_for_maximum(*found) for found in brightest.values()}
    if len(ranges) > 1:
        raise ImageError(
            f"X mixes floats up to {brightest[True][0]:g} with integers up to "
            f"{brightest[False][0]:g}: expected one scale for all; convert them to one type"
        )
    return ranges.pop()
