"""Shift and scale by constants, in a way that every format of exported models can hold.

Keras' Normalization keeps tensors besides its weights. A converter that treats weights as constants
leaves these tensors as unknown inputs. A Rescaling layer has plain numbers.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from transferclf.graphs.copying import Replace
from transferclf.graphs.walking import Operation

# The largest number of float32.
LARGEST = float(np.finfo(np.float32).max)


def shifted(x: keras.KerasTensor, mean: np.ndarray, name: str) -> keras.KerasTensor:
    """Subtract a mean, rounded to float32, by a layer of this name."""
    return _shift(mean, name)(x)


def shifted_and_scaled(
    x: keras.KerasTensor, mean: np.ndarray, scale: np.ndarray, names: tuple[str, str]
) -> keras.KerasTensor:
    """Subtract a mean and divide by a scale, as exactly as float32 can, by two layers.

    The two steps are not folded into one multiplication and addition, nor into the next layer. If
    the deviation is far below the mean, as in features of untrained networks, the difference would
    be lost in rounding. `mean` and `scale` broadcast to `x`; no scale is zero.
    """
    centre, rescale = _shift_and_scale(mean, scale, names)
    return rescale(centre(x))


def _shift(mean: np.ndarray, name: str) -> layers.Rescaling:
    return layers.Rescaling(1.0, offset=_plain(-np.asarray(mean, np.float32)), name=name)


def _shift_and_scale(
    mean: np.ndarray, scale: np.ndarray, names: tuple[str, str]
) -> tuple[layers.Rescaling, layers.Rescaling]:
    nearest = np.asarray(mean, np.float32).astype(float)
    factor = np.minimum(1.0 / scale, LARGEST)
    # The part of the mean that float32 could not hold, which may be many deviations.
    rest = np.clip((nearest - mean) * factor, -LARGEST, LARGEST)
    rescale = layers.Rescaling(_plain(factor), offset=_plain(rest), name=names[1])
    return _shift(mean, names[0]), rescale


def as_constants() -> Replace:
    """Return the function that makes `graphs.copying.copied` replace Normalization layers."""

    def replaced(layer: keras.Layer) -> Operation | None:
        if type(layer) is not layers.Normalization or layer.invert:
            return None
        mean = _aligned(layer.mean)
        # The layer itself uses at least this scale.
        scale = np.maximum(np.sqrt(_aligned(layer.variance)), keras.config.epsilon())
        names = (f"{layer.name}_centre", layer.name)
        centre, rescale = _shift_and_scale(mean, scale, names)
        return lambda x: rescale(centre(x))  # the same two layers in each call

    return replaced


def _aligned(statistic: keras.KerasTensor) -> np.ndarray:
    """Return statistics without leading axes of length 1, which broadcasting adds anyway."""
    values = keras.ops.convert_to_numpy(statistic).astype(float)
    while values.ndim and values.shape[0] == 1:
        values = values[0]
    return values


def _plain(values: np.ndarray) -> float | list[float]:
    """Return numbers for JSON: a single one if all are equal."""
    values = np.asarray(values, np.float64)
    return float(values.flat[0]) if (values == values.flat[0]).all() else values.tolist()
