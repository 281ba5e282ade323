"""Images of two colours, and networks of two layers, for tests of the choice of layers."""

import functools

import keras
import numpy as np
from keras import layers

N, SIDE = 120, 12
COLOURS = np.arange(N) % 2


@functools.cache
def images():
    """Return reddish (0) and greenish images (1) of random brightness."""
    rng = np.random.default_rng(0)
    gray = rng.integers(60, 190, (N, 1, 1, 1)) + rng.integers(-20, 20, (N, SIDE, SIDE, 1))
    sign = np.where(COLOURS, 1, -1)[:, None, None, None]
    return (gray + sign * np.array([-30, 30, 0])).astype(np.uint8)


def two_layers(blind):
    """Return a network of two linear layers, one of which lets little but the brightness through.

    The classes are easy to tell for one that trains this layer. If it is the second, steps of the
    usual size are far too large for the first. With "none", both let the colours through.
    """
    return _two_layers(blind)


@functools.cache
def _two_layers(blind):
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 32, offset=-4)(x)  # large values, so that few steps are enough
    for name in ("conv1", "conv2"):
        layer = layers.Conv2D(4, 1, name=name)
        x = layer(x)
        size = 1e-6 if blind == "conv2" and name == "conv1" else 1
        kernel = np.eye(layer.kernel.shape[2], 4)[None, None]
        kernel = size * (0.3 + 0.03 * kernel if name == blind else kernel)
        layer.set_weights([kernel, np.zeros(4)])
        x = layers.Rescaling(1 / size, name=f"{name}_scale")(x)
    return keras.Model(inputs, x, name=f"blind_{blind}")
