"""The bundled backbone ``tiny``: a small residual network that needs no download.

The network has 1.73 million parameters and costs 56 million multiply-adds on a 96 x 96 image.
Its weights are in a file beside this module; ``tools/pretrain_tiny`` makes them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from itertools import count, repeat
from pathlib import Path
from typing import TypeAlias

import keras
import numpy as np
from keras import layers

from transferclf.exceptions import NetworkError, WeightsError

STEM_WIDTH = 16
BLOCK_WIDTHS = (32, 64, 128, 256)
UNITS_PER_BLOCK = (1, 2, 2, 1)
TOP_WIDTH = 512
# Channels of the output: all units from the second block on, and the top.
WIDTH = TOP_WIDTH + sum(
    width * n_units for width, n_units in zip(BLOCK_WIDTHS[1:], UNITS_PER_BLOCK[1:], strict=True)
)

Tensor: TypeAlias = keras.KerasTensor
Seeds = Iterator[int | None]

WEIGHTS_PATH = Path(__file__).with_name("tiny_weights.npz")
WEIGHTS_SHA256 = "d956443c92c03186a36e6b0bfeb72098c8d8a1d9062c1e91a254ada04d1c04f9"
_REINSTALL = "Reinstall transferclf, or use weights=None."


def build_tiny(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    name: str = "tiny",
    seed: int | None = None,
) -> keras.Model:
    """Return the network with random weights, from pixels on the scale -1 to 1.

    The network is fully convolutional and takes any size from 32 pixels up. Its output is one map
    with a 32nd of the height and width. The channels are those of the units from block 2 on (64,
    64, 128, 128 and 256), averaged to that size, and then the 512 channels of the top.
    """
    # A seed for each layer: with the same seed, layers of equal shape would start equal.
    seeds = repeat(None) if seed is None else count(seed * 1000)
    inputs = keras.Input(input_shape, name="input")
    x = _conv_bn(inputs, STEM_WIDTH, 3, 2, "stem_{}", seeds)
    x = layers.ReLU(name="stem_relu")(x)
    levels = []
    for block, (width, n_units) in enumerate(
        zip(BLOCK_WIDTHS, UNITS_PER_BLOCK, strict=True), start=1
    ):
        for unit in range(1, n_units + 1):
            strides = 2 if unit == 1 else 1
            x = _residual_unit(x, width, strides, f"block{block}_unit{unit}", seeds)
            if block > 1:
                level, factor = x, 2 ** (len(BLOCK_WIDTHS) - block)
                if factor > 1:  # to the height and width of the last block
                    mean = f"block{block}_unit{unit}_mean"
                    level = layers.AveragePooling2D(factor, padding="same", name=mean)(x)
                levels.append(level)
    x = _conv_bn(x, TOP_WIDTH, 1, 1, "top_{}", seeds)
    x = layers.ReLU(name="top_relu")(x)
    outputs = layers.Concatenate(name="top_levels")([*levels, x])
    return keras.Model(inputs, outputs, name=name)


def load_tiny_weights(model: keras.Model) -> None:
    """Give a network of `build_tiny`, or a model with its layers, the weights of this package.

    Raises WeightsError if the file is missing or changed, and NetworkError if the model lacks a
    layer.
    """
    try:
        content = WEIGHTS_PATH.read_bytes()
    except FileNotFoundError as error:
        message = f"The weights of 'tiny' are missing: {WEIGHTS_PATH}. {_REINSTALL}"
        raise WeightsError(message) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise WeightsError(
            f"The weights of 'tiny' are damaged: {WEIGHTS_PATH} has SHA-256 {digest}, "
            f"expected {WEIGHTS_SHA256}. {_REINSTALL}"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = dict(stored)
    variables = {
        f"{layer.name}/{variable.name}": variable
        for layer in model.layers
        for variable in layer.weights
    }
    _check_weights(arrays, variables)
    for key, array in arrays.items():
        variables[key].assign(array.astype("float32"))


def _check_weights(arrays: dict[str, np.ndarray], variables: dict[str, keras.Variable]) -> None:
    """Raise NetworkError unless the model has every stored variable in the stored shape."""
    for key, array in arrays.items():
        if key not in variables:
            raise NetworkError(f"The model has no weight {key!r}: it was not made by build_tiny().")
        shape = tuple(variables[key].shape)
        if shape != array.shape:
            raise NetworkError(
                f"Weight {key!r} has shape {shape} in the model and {array.shape} in "
                f"{WEIGHTS_PATH.name}: 'tiny' takes 3 input channels and its own widths."
            )


def _residual_unit(x: Tensor, width: int, strides: int, prefix: str, seeds: Seeds) -> Tensor:
    """Two 3 x 3 convolutions beside a shortcut, which is projected if the shape changes."""
    shortcut = x
    if strides > 1:
        # With the average, the 1 x 1 projection sees every pixel, not one in four.
        pool = layers.AveragePooling2D(strides, padding="same", name=f"{prefix}_shortcut_pool")
        shortcut = _conv_bn(pool(x), width, 1, 1, prefix + "_shortcut_{}", seeds)
    x = _conv_bn(x, width, 3, strides, prefix + "_{}1", seeds)
    x = layers.ReLU(name=f"{prefix}_relu1")(x)
    x = _conv_bn(x, width, 3, 1, prefix + "_{}2", seeds)
    x = layers.Add(name=f"{prefix}_add")([x, shortcut])
    return layers.ReLU(name=f"{prefix}_relu2")(x)


def _conv_bn(x: Tensor, width: int, kernel: int, strides: int, names: str, seeds: Seeds) -> Tensor:
    """A convolution without a bias; the batch normalisation after it has one."""
    convolution = layers.Conv2D(
        width,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=keras.initializers.HeNormal(seed=next(seeds)),
        name=names.format("conv"),
    )
    bn = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=names.format("bn"))
    return bn(convolution(x))
