"""Which numbers are black and white, as the images of one X show it together."""

from __future__ import annotations

import warnings

import numpy as np

from transferclf.exceptions import ImageError, TransferclfWarning
from transferclf.images.pixels import (
    DARKEST_CREDIBLE_SHARE,
    DtypeRange,
    ValueRange,
    dtype_limits,
    is_wide,
    limits_for_maximum,
)

# How many images, and how large ones, are looked at for whether they are nearly black.
SAMPLE = 64
SAMPLE_PIXELS = 2**26


def range_of(arrays: list[np.ndarray]) -> DtypeRange | ValueRange:
    """The pixel range that arrays show, at least one; a warning says if it is doubtful.

    Raises
    ------
    ImageError
        If they are on no scale, or on several.
    """
    wide = [array for array in arrays if is_wide(array.dtype)]
    decided = _range_of_wide(wide) if wide else _range_of_dtypes(arrays)
    _warn_if_dark(arrays, decided)
    return decided


def warn_if_scaled(arrays: list[np.ndarray]) -> None:
    """Warn if floats that are read as 0 to 255 go to 1 only."""
    floats = [array for array in arrays if array.dtype.kind == "f"]
    maximum = max((float(array.max()) for array in floats), default=0)
    if 0 < maximum <= 1:
        warnings.warn(
            f"the brightest pixel of X is {maximum:g}, yet the training images went beyond 1 "
            "and pixels are read as 0 to 255; pass these on the same scale",
            TransferclfWarning,
            stacklevel=5,
        )


def _range_of_dtypes(arrays: list[np.ndarray]) -> DtypeRange:
    return max((dtype_limits(array.dtype) for array in arrays), key=lambda limits: limits.high)


def _warn_if_dark(arrays: list[np.ndarray], decided: DtypeRange | ValueRange) -> None:
    """Warn if a sample of the images is nearly black; all of them may be too many to look at."""
    sample = arrays[:: -(-len(arrays) // SAMPLE)]
    maximum = max(
        (float(image.max()) for image in sample if image.size <= SAMPLE_PIXELS), default=0
    )
    # Dark photographs of 8 bits are common enough; only 0 and 1 are most likely something else.
    is_8_bit = isinstance(decided, DtypeRange) and decided.high == 255
    darkest = 2 if is_8_bit else DARKEST_CREDIBLE_SHARE * decided.high
    if 0 < maximum < darkest:
        warnings.warn(
            f"the brightest pixel of {len(sample)} images of X is {maximum:g}, yet pixels are read "
            f"as 0 to {decided.high:g}, which makes them nearly black; say "
            f"pixel_range=(0, {maximum:g}) if that is white, or "
            f"pixel_range=(0, {decided.high:g}) if it is meant",
            TransferclfWarning,
            stacklevel=5,
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
