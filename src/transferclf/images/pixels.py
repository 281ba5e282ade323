"""From numbers to pixels: every array becomes RGB on the scale 0 to 255.

The result is uint8 where the source has 8 bits (also floats that are whole 8-bit levels) and
float32 without rounding otherwise, so that microscopy loses nothing.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from transferclf.exceptions import ImageError, InvalidParameterError

CHANNELS = (1, 3, 4)
WHITE = 255

# Where even the brightest of many pixels stays below this share of white, they are almost
# certainly on another scale.
DARKEST_CREDIBLE_SHARE = 1 / 8

NOT_FINITE = "expected finite pixel values, got NaN or infinity"


class DtypeRange(NamedTuple):
    """The pixel range of integers whose type says it; floats still say their own."""

    low: float
    high: float


class ValueRange(NamedTuple):
    """The pixel range decided from the values of the training images; 8-bit data keep theirs."""

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


def is_wide(dtype: np.dtype) -> bool:
    """Whether values of this type do not say by themselves on which scale they are."""
    return not (dtype.kind in "bu" and dtype.itemsize <= 2)


def is_on_255_scale(dtype: np.dtype, pixel_range: PixelRange) -> bool:
    """Whether numbers of this type are levels from 0 to 255 as they are."""
    if dtype != np.uint8 or pixel_range == "minmax":
        return False
    is_given = type(pixel_range) is tuple
    return not is_given or pixel_range == (0, 255)


def dtype_limits(dtype: np.dtype) -> DtypeRange:
    """The scale of boolean, 8-bit and 16-bit pixels."""
    if dtype.kind == "b":
        return DtypeRange(0, 1)
    return DtypeRange(0, 255 if dtype.itemsize == 1 else 65535)


def limits_for_maximum(maximum: float, dtype: np.dtype) -> ValueRange:
    """The scale of floats and wide integers, read off their largest value."""
    steps = (1, 255) if dtype.kind == "f" else (255, 65535)
    for high in steps:
        if maximum <= high:
            return ValueRange(0, high)
    if not np.isfinite(maximum):
        raise ImageError(NOT_FINITE)
    raise ImageError(
        f"expected {dtype.name} pixels of at most {steps[-1]}, got {maximum:g}; "
        "say pixel_range=(low, high), or pixel_range='minmax' to stretch each image"
    )


def to_rgb(array: np.ndarray, pixel_range: PixelRange = None) -> np.ndarray:
    """Return one image as RGB on the scale 0 to 255.

    Gray is repeated three times. Transparency is composited over white. Values keep their
    fractions as float32 unless all of them are whole 8-bit levels.

    Parameters
    ----------
    array : ndarray of shape (h, w) or (h, w, 1 | 2 | 3 | 4)
        Gray, gray with alpha, RGB or RGBA numbers; never modified.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are; see :func:`transferclf.images.check_images`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8 or float32

    Raises
    ------
    ImageError
        If values are not finite, or lie outside the range.

    Examples
    --------
    >>> import numpy as np
    >>> to_rgb(np.array([[0.0, 0.5], [0.25, 1.0]]))[0, 1]
    array([127.5, 127.5, 127.5], dtype=float32)
    """
    array = array[..., None] if array.ndim == 2 else array
    has_alpha = array.shape[-1] in (2, 4)
    colour = _on_255_scale(array[..., :-1] if has_alpha else array, pixel_range)
    if has_alpha:
        colour = _over_white(colour, array[..., -1:])
    if colour.shape[-1] == 1:
        colour = np.repeat(colour, 3, axis=-1)
    return colour


def _on_255_scale(array: np.ndarray, pixel_range: PixelRange) -> np.ndarray:
    if is_on_255_scale(array.dtype, pixel_range):
        return array
    limits = _limits(array, pixel_range)
    low, high = float(limits[0]), float(limits[1])
    _check_values(float(array.min()), float(array.max()), low, high)
    # float64 only in between: a float32 quotient would miss whole levels by a rounding error.
    span = (high - low) or 1.0
    levels = (array.astype(np.float64) - low) * (255.0 / span)
    return _whole_levels(levels, array.dtype)


def _limits(array: np.ndarray, pixel_range: PixelRange) -> tuple[float, float]:
    if pixel_range == "minmax":
        return float(array.min()), float(array.max())
    if isinstance(pixel_range, ValueRange) and is_wide(array.dtype):
        return pixel_range
    if pixel_range is None or isinstance(pixel_range, DtypeRange | ValueRange):
        if not is_wide(array.dtype):
            return dtype_limits(array.dtype)
        return limits_for_maximum(float(array.max()), array.dtype)
    assert not isinstance(pixel_range, str)
    return pixel_range


def value_problem(low: float, high: float, limits: tuple[float, float] | None) -> str | None:
    """Say what is wrong with pixels that run from `low` to `high`, or None."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return NOT_FINITE
    if limits is None:
        return None
    if low < limits[0] == 0:
        return (
            f"Negative values in data: expected pixel values of at least 0, got {low:g}; images "
            "that were already put through a preprocess_input must be passed as they were before it"
        )
    if low < limits[0] or high > limits[1]:
        return (
            f"expected pixel values from {limits[0]:g} to {limits[1]:g}, "
            f"got {low:g} to {high:g}; say pixel_range=(low, high)"
        )
    return None


def _check_values(low: float, high: float, *limits: float) -> None:
    problem = value_problem(low, high, (limits[0], limits[1]))
    if problem is not None:
        raise ImageError(problem)


def _whole_levels(levels: np.ndarray, source: np.dtype) -> np.ndarray:
    """Return uint8 if every value is a whole level up to the source's own precision."""
    rounded = np.rint(levels)
    if np.abs(levels - rounded).max() <= _tolerance(source):
        return rounded.astype(np.uint8)
    return levels.astype(np.float32)


def _tolerance(source: np.dtype) -> float:
    # k/255 stored as float16 comes back as k within an eighth of a level, as float32 within
    # 1e-5; a thousandth of a level is far below anything a network can see.
    if source.kind == "f" and source.itemsize == 2:
        return 0.13
    return 1e-3


def _over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    # `pixel_range` is about colours; alpha has no unit but its own type's.
    opacity = _on_255_scale(alpha, None)
    if opacity.min() == 255:
        return colour
    # In float32 the two parts could add up to more than white.
    share = opacity.astype(np.float64) / 255.0
    blended = colour.astype(np.float64) * share + WHITE * (1.0 - share)
    if colour.dtype == np.uint8:
        return np.rint(blended).astype(np.uint8)
    return blended.astype(np.float32)
