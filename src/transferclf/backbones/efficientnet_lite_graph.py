"""The Keras graphs of EfficientNet-Lite, and their weights from a PyTorch state dict.

The blocks and multipliers are those that the authors published:
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Compared with
EfficientNet, there is no squeeze-and-excitation, the activation is ReLU6, and the widths of the
stem and of the top stay as they are, as do the repeats of the first and the last stage.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from string import ascii_lowercase
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
from keras import layers

from transferclf.backbones.applications import N_CLASSES
from transferclf.exceptions import WeightsError

Tensor: TypeAlias = keras.KerasTensor

STEM_WIDTH = 32
TOP_WIDTH = 1280


class Stage(NamedTuple):
    """Blocks of one width; the first has the strides."""

    kernel: int
    repeats: int
    width: int
    expansion: int
    strides: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)

# The names of layers in the published state dicts, in the whole network and in a block.
_OUTER_NAMES = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "predictions": "_fc",
}
_BLOCK_NAMES = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def build_efficientnet_lite(
    input_shape: tuple[int | None, int | None, int] = (None, None, 3),
    name: str = "efficientnet_lite0",
    width: float = 1.0,
    depth: float = 1.0,
    include_top: bool = False,
) -> keras.Model:
    """Return the network with random weights; its input are pixels (x - 127) / 128.

    `width` and `depth` multiply the channels and the repeats. The output is a map of a 32nd of the
    height and width with 1280 channels, or the probabilities of 1000 classes with `include_top`.
    """
    inputs = keras.Input(input_shape, name="input")
    x = _normalised(_convolution(STEM_WIDTH, 3, 2, "stem_conv")(inputs), "stem_bn")
    x = _activated(x, "stem_activation")
    for prefix, stage, strides in _blocks(width, depth):
        x = _block(x, stage, strides, prefix)
    x = _normalised(_convolution(TOP_WIDTH, 1, 1, "top_conv")(x), "top_bn")
    x = _activated(x, "top_activation")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(N_CLASSES, activation="softmax", name="predictions")(x)
    return keras.Model(inputs, x, name=name)


def load_state_dict(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a network of `build_efficientnet_lite` the weights of a published state dict.

    Raises WeightsError if the arrays are those of another network.
    """
    values = {layer: _values(layer, name, arrays) for layer, name in _named_layers(model)}
    n_blocks = sum(layer.name.endswith("_dwconv") for layer in values)
    if f"_blocks.{n_blocks}._depthwise_conv.weight" in arrays:
        raise WeightsError(f"the network has {n_blocks} blocks, the state dict has more")
    for layer, weights in values.items():
        layer.set_weights(weights)


def _blocks(width: float, depth: float) -> Iterator[tuple[str, Stage, int]]:
    """Yield the beginning of the names in each block, its stage and its strides."""
    for number, stage in enumerate(STAGES, start=1):
        is_outer = number in (1, len(STAGES))
        repeats = stage.repeats if is_outer else math.ceil(stage.repeats * depth)
        scaled = stage._replace(width=_rounded(stage.width * width))
        for letter, unit in zip(ascii_lowercase, range(repeats), strict=False):
            yield f"block{number}{letter}_", scaled, stage.strides if unit == 0 else 1


def _rounded(width: float) -> int:
    """Return the nearest multiple of 8 that is at most a tenth smaller."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _block(x: Tensor, stage: Stage, strides: int, prefix: str) -> Tensor:
    """An inverted residual block: expansion, depthwise convolution, projection."""
    inputs, width = x, x.shape[-1]
    if stage.expansion > 1:
        x = _convolution(width * stage.expansion, 1, 1, prefix + "expand_conv")(x)
        x = _activated(_normalised(x, prefix + "expand_bn"), prefix + "expand_activation")
    x = layers.DepthwiseConv2D(
        stage.kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer=_initializer(),
        name=prefix + "dwconv",
    )(x)
    x = _activated(_normalised(x, prefix + "bn"), prefix + "activation")
    x = _convolution(stage.width, 1, 1, prefix + "project_conv")(x)
    x = _normalised(x, prefix + "project_bn")
    if strides == 1 and width == stage.width:
        x = layers.Add(name=prefix + "add")([x, inputs])
    return x


def _convolution(width: int, kernel: int, strides: int, name: str) -> layers.Conv2D:
    return layers.Conv2D(
        width,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer=_initializer(),
        name=name,
    )


def _initializer() -> keras.Initializer:
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _normalised(x: Tensor, name: str) -> Tensor:
    return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)


def _activated(x: Tensor, name: str) -> Tensor:
    return layers.ReLU(6.0, name=name)(x)


def _named_layers(model: keras.Model) -> Iterator[tuple[keras.Layer, str]]:
    """Yield the layers with weights and their names in the state dict."""
    numbers: dict[str, int] = {}  # of the blocks, in their order
    for layer in model.layers:
        block, _, part = layer.name.partition("_")
        if not layer.weights:
            continue
        if layer.name in _OUTER_NAMES:
            yield layer, _OUTER_NAMES[layer.name]
        else:
            number = numbers.setdefault(block, len(numbers))
            yield layer, f"_blocks.{number}.{_BLOCK_NAMES[part]}"


def _values(layer: keras.Layer, name: str, arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the weights of a layer in Keras' order and axes."""
    if isinstance(layer, layers.BatchNormalization):
        values = [arrays.get(f"{name}.{part}") for part in _BATCH_NORM]
    elif isinstance(layer, layers.Dense):
        values = [_turned(arrays, f"{name}.weight", (1, 0)), arrays.get(f"{name}.bias")]
    elif isinstance(layer, layers.DepthwiseConv2D):
        values = [_turned(arrays, f"{name}.weight", (2, 3, 0, 1))]
    else:
        values = [_turned(arrays, f"{name}.weight", (2, 3, 1, 0))]
    expected = [tuple(weight.shape) for weight in layer.weights]
    found = [None if value is None else value.shape for value in values]
    if found != expected:
        raise WeightsError(f"layer {name!r} must have weights of shapes {expected}. Got {found}.")
    return [np.array(value) for value in values]


def _turned(
    arrays: Mapping[str, np.ndarray], name: str, axes: tuple[int, ...]
) -> np.ndarray | None:
    array = arrays.get(name)
    return array.transpose(axes) if array is not None and array.ndim == len(axes) else None
