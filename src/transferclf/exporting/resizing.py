"""The antialiased resize of images as part of a Keras graph, for images of any size.

A resize is a product with two matrices, one for the rows and one for the columns. Their weights are
those of Pillow's bilinear filter (``Image.resize``), whole multiples of 2**-22. Pixels are rounded
to whole levels where Pillow rounds them. Sums of such products are exact in float64; a runtime that
has only float32 rounds a few pixels to the next level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import PIL
from keras import ops

from transferclf.images.geometry import FACTORS, LARGE_MARGIN, LARGE_SIDE, MARGIN, ResizeMode

EXACT = "float64"
BITS = 22  # of the fractions in Pillow's weights

# From 13.0 on, Pillow begins with the rows if their number falls by more than twice as many as that
# of the columns (python-pillow/Pillow, pull request 9549; the factor is the one that gives its
# pixels).
MAY_BEGIN_WITH_ROWS = int(PIL.__version__.partition(".")[0]) >= 13


class ResizeImages(keras.layers.Layer):
    """Resizes RGB images (n, h, w, 3) of one size, uint8, to float32 images (n, *size, 3).

    Parameters
    ----------
    size : (int, int)
        Height and width that the network needs.
    mode : {"crop", "stretch", "pad"}
        The same as `resize` of the estimators.
    """

    def __init__(self, size: tuple[int, int], mode: ResizeMode, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.mode = (size[0], size[1]), mode

    def call(self, images: Any) -> Any:
        """Return the resized images."""
        return ops.cast(resized(ops.cast(images, EXACT), self.size, self.mode), "float32")

    def compute_output_spec(self, images: Any) -> keras.KerasTensor:
        """Return the shape and type of the result."""
        return keras.KerasTensor((images.shape[0], *self.size, 3), "float32")


def resized(images: Any, size: tuple[int, int], mode: ResizeMode) -> Any:
    """Return float64 images (n, h, w, 3) of whole numbers, resized to `size`, whole again."""
    images = _averaged(images, max(size))
    sides = ops.shape(images)[1:3]
    places = _places(sides, size, mode)
    rows, columns = (_weights(*axis) for axis in zip(sides, size, places, strict=True))
    columns_first = _of_rows(rows, _of_columns(columns, images))
    if not MAY_BEGIN_WITH_ROWS:
        return columns_first
    rows_first = _of_columns(columns, _of_rows(rows, images))
    fewer_rows, fewer_columns = (
        ops.cast(side, EXACT) - place.count for side, place in zip(sides, places, strict=True)
    )
    is_tall = fewer_rows > 2 * ops.maximum(fewer_columns, 0)
    return ops.where(is_tall, rows_first, columns_first)


def _of_columns(weights: Any, images: Any) -> Any:
    """Return images whose new columns have these weights of the old ones, whole numbers."""
    return _rounded(ops.matmul(weights, images))  # one product for each row of each image


def _of_rows(weights: Any, images: Any) -> Any:
    """Return images whose new rows have these weights of the old ones, whole numbers."""
    return ops.transpose(_of_columns(weights, ops.transpose(images, (0, 2, 1, 3))), (0, 2, 1, 3))


def _averaged(images: Any, side: int) -> Any:
    """Average images many times larger than needed in blocks, as those of estimators are."""
    height, width = ops.shape(images)[1:3]
    margin = MARGIN if side < LARGE_SIDE else LARGE_MARGIN
    factor = ops.cast(1, "int32")
    for candidate in sorted(FACTORS):
        reduced = ops.cast(ops.minimum(height, width) // candidate, EXACT)
        factor = ops.where(reduced >= margin * side, candidate, factor)
    sums, row_counts = _block_sums(images, factor)
    sums, column_counts = _block_sums(ops.transpose(sums, (0, 2, 1, 3)), factor)
    sums = ops.transpose(sums, (0, 2, 1, 3))
    counts = ops.reshape(row_counts, (-1, 1, 1)) * ops.reshape(column_counts, (-1, 1))
    return _rounded(sums / counts)


def _block_sums(images: Any, factor: Any) -> tuple[Any, Any]:
    """Return the sums of every `factor` rows, and the number of rows in each sum."""
    shape = ops.shape(images)
    n_blocks = (shape[1] + factor - 1) // factor
    rows = ops.arange(n_blocks * factor)
    is_inside = ops.reshape(ops.cast(rows < shape[1], EXACT), (-1, 1, 1))
    images = ops.take(images, ops.minimum(rows, shape[1] - 1), axis=1) * is_inside
    blocks = ops.reshape(images, (shape[0] * n_blocks, factor, shape[2], 3))
    sums = ops.reshape(ops.sum(blocks, axis=1), (shape[0], n_blocks, shape[2], 3))
    counts = ops.minimum(factor, shape[1] - ops.arange(n_blocks) * factor)
    return sums, ops.cast(counts, EXACT)


class _Place(NamedTuple):
    """Where the new pixels of an axis lie among the old ones, all as float64.

    The new pixel number i has its centre at `start` + (i + 1/2) * `step`. The image fills `count`
    new pixels from `first` on; the others are black.
    """

    start: Any
    step: Any
    first: Any
    count: Any


def _places(sides: Sequence[Any], size: tuple[int, int], mode: ResizeMode) -> list[_Place]:
    """Return the places of the new rows and of the new columns."""
    lengths = [ops.cast(side, EXACT) for side in sides]
    ratios = [length / wanted for length, wanted in zip(lengths, size, strict=True)]
    if mode == "pad":
        scale = ops.minimum(size[0] / lengths[0], size[1] / lengths[1])
        return [_padded(*axis, scale) for axis in zip(lengths, size, strict=True)]
    steps = ratios
    if mode == "crop":  # the largest part of the right proportions; both axes have its scale
        is_wide = lengths[0] * size[1] < lengths[1] * size[0]
        steps = [ops.where(is_wide, ratios[0], ratios[1])] * 2
    return [_cropped(*axis) for axis in zip(lengths, size, steps, strict=True)]


def _cropped(length: Any, wanted: int, step: Any) -> _Place:
    """Return the place of an axis of which the middle is seen, with new pixels of this step."""
    start = (length - wanted * step) / 2
    # Pillow takes the ends of this part as float32.
    start, end = (ops.cast(ops.cast(x, "float32"), EXACT) for x in (start, start + wanted * step))
    return _Place(start, (end - start) / wanted, 0.0, float(wanted))


def _padded(length: Any, wanted: int, scale: Any) -> _Place:
    """Return the place of an axis between black borders."""
    count = ops.clip(ops.round(length * scale), 1.0, float(wanted))
    first = ops.floor((wanted - count) / 2)
    step = length / count
    return _Place(-first * step, step, first, count)


def _weights(length: Any, wanted: int, place: _Place) -> Any:
    """Return the weights of the old pixels in each new one, shape (wanted, length)."""
    start, step, first, count = place
    new = ops.arange(wanted, dtype=EXACT)
    centres = ops.expand_dims(start + (new + 0.5) * step, -1)
    old = ops.cast(ops.arange(length), EXACT) + 0.5
    weights = ops.relu(1.0 - ops.abs(old - centres) / ops.maximum(step, 1.0))
    # The sum is 0 beyond the image.
    weights = weights / ops.maximum(ops.sum(weights, axis=-1, keepdims=True), 1e-6)
    weights = _rounded(weights * 2**BITS) / 2**BITS
    is_filled = ops.logical_and(new >= first, new < first + count)
    return ops.where(ops.expand_dims(is_filled, -1), weights, 0.0)


def _rounded(values: Any) -> Any:
    return ops.floor(values + 0.5)
