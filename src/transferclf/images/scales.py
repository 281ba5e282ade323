"""Black and white of arrays, decided from all arrays of one X together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

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

if TYPE_CHECKING:
    from transferclf.images.source import ImageSource

T = TypeVar("T", "ImageSource", list[np.ndarray])

# The number and the size of the images that are checked for being nearly black.
SAMPLE = 64
SAMPLE_PIXELS = 2**26

# Bit depths of cameras and scanners that write files of 16 bits.
DEPTHS = (8, 10, 12, 14)


def range_of(arrays: list[np.ndarray]) -> DtypeRange | ValueRange:
    """Return the pixel range of at least one array, and warn if it is doubtful."""
    wide = [array for array in arrays if is_wide(array.dtype)]
    decided: DtypeRange | ValueRange
    if wide:
        decided = _range_of_wide(wide)
    else:
        decided = max((dtype_limits(it.dtype) for it in arrays), key=lambda limits: limits.high)
    warn_if_dark(sample_of(arrays), decided)
    return decided


def sample_of(images: T) -> T:
    """Return at most 64 of the images, evenly spread."""
    return images[:: -(-len(images) // SAMPLE) or 1]


def warn_if_scaled(arrays: Sequence[np.ndarray]) -> bool:
    """Warn if X is in [0, 1] but the training data was in [0, 255]. Return whether it is."""
    maximum = max((float(it.max()) for it in arrays if it.dtype.kind == "f"), default=0)
    is_scaled = 0 < maximum <= 1
    if is_scaled:
        warn(
            f"the brightest pixel of X is {maximum:g}, yet the training images went beyond 1 "
            "and pixels are read as 0 to 255; pass these on the same scale"
        )
    return is_scaled


def warn_if_dark(arrays: Sequence[np.ndarray], decided: PixelRange) -> None:
    """Warn if all arrays of one type are nearly black on the scale that training decided.

    Floats and wide integers are skipped where each image has a scale of its own.
    """
    brightest: dict[tuple[float, bool], list[float]] = {}
    for array in arrays:
        dtype = array.dtype
        if is_wide(dtype):
            white = decided.high if isinstance(decided, ValueRange) else 0
        else:
            white = dtype_limits(dtype).high if dtype.kind != "b" else 0
        if white and array.size <= SAMPLE_PIXELS:
            brightest.setdefault((white, dtype == np.uint8), []).append(float(array.max()))
    for (white, is_8_bit), found in brightest.items():
        warn_if_dark_on(white, found, is_8_bit)


def warn_if_dark_on(white: float, brightest: Sequence[float], is_8_bit: bool = False) -> None:
    """Warn if the brightest pixel of all these images is nearly black on a scale up to `white`."""
    maximum = max(brightest, default=0)
    is_16_bit = white == 65535
    # Dark photographs of 8 bits are common: only levels 0 and 1 count as black. Cameras of 10, 12
    # and 14 bits write their numbers unchanged into 16 bits.
    darkest = 2 if is_8_bit else 2**14 if is_16_bit else DARKEST_CREDIBLE_SHARE * white
    if not 0 < maximum < darkest:
        return
    likely = f"(0, {maximum:g}) if that is white"
    if is_16_bit:
        bits = next(bits for bits in DEPTHS if maximum < 2**bits)
        likely = f"(0, {2**bits - 1}) if they have {bits} bits"
    warn(
        f"the brightest pixel of {len(brightest)} images of X is {maximum:g}, yet pixels are "
        f"read as 0 to {white:g}, which makes them dark or nearly black; say pixel_range="
        f"{likely}, or pixel_range=(0, {white:g}) if it is meant"
    )


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
