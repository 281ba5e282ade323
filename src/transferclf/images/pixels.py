"""From numbers to pixels: every array becomes RGB on the scale 0 to 255.

The result is uint8 if all levels are whole, as they are for 8-bit images and for floats made from
them. Otherwise it is float32 without rounding, so that images of more than 8 bits lose nothing.
Black and white are decided by the caller, by the type, or by the values of all arrays of one X.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from transferclf.exceptions import ImageError, InvalidParameterError, warn

CHANNELS = (1, 3, 4)
WHITE = 255

# If the brightest of many pixels is below this share of white, they are almost certainly on another
# scale.
DARKEST_CREDIBLE_SHARE = 1 / 8

# Floats may exceed black and white by this share of the range, two levels of 255, and are clipped.
# Interpolation produces such values at edges.
OVERSHOOT = 2 / 255

NOT_FINITE = "expected finite pixel values, got NaN or infinity"

# The number and the size of the images that are checked for being nearly black.
SAMPLE = 64
SAMPLE_PIXELS = 2**26

# Bit depths of cameras and scanners that write files of 16 bits.
DEPTHS = (8, 10, 12, 14)


class DtypeRange(NamedTuple):
    """The pixel range that the type of integers gives. Floats still have their own range."""

    low: float
    high: float


class ValueRange(NamedTuple):
    """The pixel range found from the values of the training images. 8-bit images keep theirs."""

    low: float
    high: float


PixelRange = tuple[float, float] | DtypeRange | ValueRange | Literal["minmax"] | None


def check_pixel_range(pixel_range: object) -> PixelRange:
    """Return `pixel_range` if it is None, "minmax" or a rising pair of numbers."""
    if pixel_range is None or isinstance(pixel_range, DtypeRange | ValueRange):
        return pixel_range
    if isinstance(pixel_range, str) and pixel_range == "minmax":
        return "minmax"
    try:
        ordered = not isinstance(pixel_range, str | bytes | set | frozenset | dict)
        low, high = (float(bound) for bound in pixel_range if ordered)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low, high = 0.0, 0.0
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise InvalidParameterError(
            "pixel_range must be None, 'minmax' or a pair (low, high) with low < high. "
            f"Got {pixel_range!r} instead."
        )
    return (low, high)


def is_decided_by_caller(pixel_range: PixelRange) -> bool:
    """Whether the caller has said what black and white are."""
    return pixel_range == "minmax" or type(pixel_range) is tuple


def is_wide(dtype: np.dtype) -> bool:
    """Whether the dtype does not fix the value range."""
    return not (dtype.kind in "bu" and dtype.itemsize <= 2)


def is_on_255_scale(dtype: np.dtype, pixel_range: PixelRange) -> bool:
    """Whether numbers of this type are levels from 0 to 255 without scaling."""
    if dtype != np.uint8:
        return False
    return not is_decided_by_caller(pixel_range) or pixel_range == (0, 255)


def dtype_limits(dtype: np.dtype) -> DtypeRange:
    """Return the scale of boolean, 8-bit and 16-bit pixels."""
    if dtype.kind == "b":
        return DtypeRange(0, 1)
    return DtypeRange(0, 255 if dtype.itemsize == 1 else 65535)


def limits_for_maximum(maximum: float, dtype: np.dtype) -> ValueRange:
    """Return the scale of floats and wide integers with this largest value."""
    is_float = dtype.kind == "f"
    steps = (1, 255) if is_float else (255, 65535)
    for high in steps:
        if maximum <= high * (1 + OVERSHOOT if is_float else 1):
            return ValueRange(0, high)
    if not np.isfinite(maximum):
        raise ImageError(NOT_FINITE)
    raise ImageError(
        f"expected {dtype.name} pixels of at most {steps[-1]}, got {maximum:g}; "
        "say pixel_range=(low, high), or pixel_range='minmax' to stretch each image"
    )


class Scale(NamedTuple):
    """How the numbers of one image become levels from 0 to 255.

    `low` and `high` are black and white, `minimum` and `maximum` the extremes of the image.
    `is_whole` says whether all its levels are whole; None if only a look at them can tell.
    """

    low: float
    high: float
    dtype: np.dtype
    minimum: float
    maximum: float
    is_whole: bool | None = None

    def levels(self, numbers: np.ndarray) -> np.ndarray:
        """Return levels: uint8 if they are whole up to the numbers' precision, else float32."""
        if self.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return numbers
        exact = self.exact(numbers)
        if self.is_whole is False:
            return exact.astype(np.float32)
        rounded = np.rint(exact)
        is_whole = self.is_whole or self.are_near(exact, rounded)
        return rounded.astype(np.uint8) if is_whole else exact.astype(np.float32)

    def exact(self, numbers: np.ndarray) -> np.ndarray:
        """Return levels in float64. A float32 quotient may miss whole levels by a rounding."""
        span = (self.high - self.low) or 1.0
        levels = (numbers.astype(np.float64) - self.low) * (255.0 / span)
        is_clipped = self.minimum < self.low or self.maximum > self.high
        return np.clip(levels, 0, 255) if is_clipped else levels

    def are_near(self, exact: np.ndarray, rounded: np.ndarray) -> bool:
        """Whether levels are whole, up to the precision of the numbers."""
        # k/255 stored as float16 comes back as k within an eighth of a level, as float32 within
        # 1e-5. A thousandth of a level is too small to matter to a network.
        return np.abs(exact - rounded).max() <= (0.13 if self.dtype.type is np.float16 else 1e-3)


def scale_for(minimum: float, maximum: float, dtype: np.dtype, pixel_range: PixelRange) -> Scale:
    """Return the scale of an image with these extremes. Raise ImageError for impossible ones."""
    minimum, maximum = float(minimum), float(maximum)
    limits = _limits(minimum, maximum, dtype, pixel_range)
    problem = value_problem(minimum, maximum, limits, dtype)
    if problem is not None:
        raise ImageError(problem)
    return Scale(float(limits[0]), float(limits[1]), dtype, minimum, maximum)


def to_rgb(array: np.ndarray, pixel_range: PixelRange = None) -> np.ndarray:
    """Return one image as RGB on the scale 0 to 255, shape (h, w, 3), uint8 or float32.

    `array` has shape (h, w) or (h, w, 1 | 2 | 3 | 4) and is not modified. Gray is repeated, and
    transparent images are composited over white.
    """
    array = array[..., None] if array.ndim == 2 else array
    has_alpha = array.shape[-1] in (2, 4)
    colour = _on_255_scale(array[..., :-1] if has_alpha else array, pixel_range)
    if has_alpha:
        # `pixel_range` applies to colours; the type of alpha gives its scale.
        opacity = _on_255_scale(array[..., -1:], None)
        colour = colour if opacity.min() == 255 else over_white(colour, opacity)
    if colour.shape[-1] == 1:
        colour = np.repeat(colour, 3, axis=-1)
    return colour


def _on_255_scale(array: np.ndarray, pixel_range: PixelRange) -> np.ndarray:
    if is_on_255_scale(array.dtype, pixel_range):
        return array
    return scale_for(array.min(), array.max(), array.dtype, pixel_range).levels(array)


def _limits(
    minimum: float, maximum: float, dtype: np.dtype, pixel_range: PixelRange
) -> tuple[float, float]:
    if pixel_range == "minmax":
        return minimum, maximum
    if isinstance(pixel_range, ValueRange) and is_wide(dtype):
        return pixel_range
    if pixel_range is None or isinstance(pixel_range, DtypeRange | ValueRange):
        return limits_for_maximum(maximum, dtype) if is_wide(dtype) else dtype_limits(dtype)
    assert not isinstance(pixel_range, str)
    return pixel_range


def value_problem(
    low: float, high: float, limits: tuple[float, float], dtype: np.dtype
) -> str | None:
    """Return the fault of an image with values from `low` to `high`, or None.

    An infinite limit is not known yet, or does not apply.
    """
    if not (np.isfinite(low) and np.isfinite(high)):
        return NOT_FINITE
    slack = _overshoot(high, limits) if dtype.kind == "f" else 0.0
    is_given = type(limits) is tuple and np.isfinite(limits[1])
    if low < limits[0] - slack and limits[0] == 0 and not (is_given and high > limits[1] + slack):
        return (
            f"Negative values in data: expected pixel values of at least 0, got {low:g}; say "
            "pixel_range=(low, high) if they are meant, and pass images that were already put "
            "through a preprocess_input as they were before it"
        )
    if low < limits[0] - slack or high > limits[1] + slack:
        hint = "pass all images on the scale of the training images"
        if is_given:
            hint = f"np.clip(X, {limits[0]:g}, {limits[1]:g}) if the rest is of no interest"
        return (
            f"expected pixel values from {limits[0]:g} to {limits[1]:g}, "
            f"got {low:g} to {high:g}; {hint}, or say pixel_range=(low, high)"
        )
    return None


def _overshoot(high: float, limits: tuple[float, float]) -> float:
    """Return how far floats may exceed the limits; 0 if they seem to be on another scale."""
    black, white = limits
    if not np.isfinite(white):
        white = 1 if high <= 1 + OVERSHOOT else 255
    is_credible = high - black > DARKEST_CREDIBLE_SHARE * (white - black)
    return OVERSHOOT * (white - black) if is_credible else 0.0


def over_white(colour: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Composite levels over white, by an opacity from 0 to 255. uint8 stays uint8, rounded."""
    if colour.dtype == opacity.dtype == np.uint8:
        # 255 times the level fits into 16 bits, and the division below is exact.
        blended = colour * opacity.astype(np.uint16)
        blended += 255 * (255 - opacity.astype(np.uint16)) + 128
        return ((blended + (blended >> 8)) >> 8).astype(np.uint8)
    # In float32 the sum of the two parts could exceed white.
    share = opacity.astype(np.float64) / 255.0
    levels = colour.astype(np.float64) * share + WHITE * (1.0 - share)
    if colour.dtype == np.uint8:
        return np.rint(levels).astype(np.uint8)
    return levels.astype(np.float32)


def range_of(arrays: list[np.ndarray]) -> DtypeRange | ValueRange:
    """Return the pixel range of at least one array, and warn if it is doubtful."""
    wide = [array for array in arrays if is_wide(array.dtype)]
    decided: DtypeRange | ValueRange
    if wide:
        decided = _range_of_wide(wide)
    else:
        decided = max((dtype_limits(it.dtype) for it in arrays), key=lambda limits: limits.high)
    warn_if_dark(arrays[:: sample_step(len(arrays))], decided)
    return decided


def sample_step(n_images: int) -> int:
    """Return the step between images of an evenly spread sample of at most 64."""
    return -(-n_images // SAMPLE) or 1


def warn_if_scaled(arrays: Sequence[np.ndarray], given: PixelRange = None) -> bool:
    """Warn if floats in [0, 1] are read on a scale up to 255 or more. Return whether they are.

    `given` is the caller's own range. Without it, the training data was in [0, 255].
    """
    maximum = max((float(it.max()) for it in arrays if it.dtype.kind == "f"), default=0)
    if not 0 < maximum <= 1:
        return False
    brightest = f"the brightest pixel of X is {maximum:g}, yet"
    if given is None:
        warn(
            f"{brightest} the training images went beyond 1 and pixels are read as 0 to 255; "
            "pass these on the same scale"
        )
        return True
    assert not isinstance(given, str)
    low, high = given
    # Floats below 1 may be meant where white is 16, or where black is a negative number. Who gives
    # 0 to 255, which is the scale of most images, means what they are.
    if low < 0 or high <= WHITE:
        return False
    warn(
        f"{brightest} pixel_range=({low:g}, {high:g}) reads it as black; pass the images as they "
        "were before they were divided"
    )
    return True


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
