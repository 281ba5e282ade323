"""Fold batch normalisation into the layer before it.

In inference, batch normalisation multiplies and shifts each channel. Directly after a convolution
or dense layer, this is the same layer with other weights, and one pass over memory less.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers

from transferclf.graphs._private import Node
from transferclf.graphs.walking import Operation, functional, nodes_in_order, with_replaced

# The axes of the output channels in each kind of kernel.
_OUTPUT_AXES: dict[type, tuple[int, ...]] = {
    layers.Conv2D: (3,),
    layers.Dense: (1,),
    layers.DepthwiseConv2D: (2, 3),
}


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a flat model that computes the same in inference mode with fewer layers.

    Layers that could not be folded are shared.
    """
    model = functional(model)
    partners = _foldable_pairs(model)
    biased = {id(before): rebuilt(before, use_bias=True) for before, _ in partners}
    dropped = {id(norm) for _, norm in partners}

    def replaced(operation: Operation) -> Operation:
        if id(operation) in dropped:
            return lambda x, **_: x
        return biased.get(id(operation), operation)

    folded = with_replaced(model, replaced)
    for before, norm in partners:
        biased[id(before)].set_weights(_folded_weights(before, norm))
    return folded


def has_plain_weights(layer: layers.Layer) -> bool:
    """Whether a built layer has the weights of its class, and computes with them as they are.

    False for a quantised or adapted layer (LoRA), which has more weights, and another kernel than
    it shows.


    Examples
    --------
    >>> import keras
    >>> dense = keras.layers.Dense(2)
    >>> dense.build((None, 3))
    >>> has_plain_weights(dense)
    True
    >>> dense.enable_lora(1)
    >>> has_plain_weights(dense)
    False
    """
    expected = 1 + layer.use_bias if hasattr(layer, "use_bias") else 0
    return len(layer.weights) == expected


def rebuilt(layer: layers.Layer, **changes: Any) -> layers.Layer:
    """Return a new layer with other values of some options; its weights are not set.

    Examples
    --------
    >>> import keras
    >>> rebuilt(keras.layers.Dense(2), use_bias=False).use_bias
    False
    """
    config = layer.get_config()
    # Random initial weights would use the caller's random state.
    zeros = {name: "zeros" for name in config if name.endswith("_initializer")}
    return type(layer).from_config(config | zeros | changes)


def _foldable_pairs(model: keras.Model) -> list[tuple[layers.Layer, layers.Layer]]:
    """Return the pairs (layer, batch norm) in which nothing but the norm reads the layer."""
    nodes = nodes_in_order(model)
    calls = Counter(id(node.operation) for node in nodes)
    readers = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    readers.update(id(tensor) for tensor in model.outputs)
    makers = {id(tensor): node.operation for node in nodes for tensor in node.outputs}
    pairs = []
    for node in nodes:
        if not isinstance(node.operation, layers.BatchNormalization):
            continue
        read = id(node.input_tensors[0])
        before = makers.get(read)
        called_once = calls[id(before)] == calls[id(node.operation)] == 1
        if called_once and readers[read] == 1 and _is_foldable(before) and _is_constant(node):
            pairs.append((before, node.operation))
    return pairs


def _is_foldable(operation: keras.Operation) -> bool:
    return (
        type(operation) in _OUTPUT_AXES
        and operation.activation is keras.activations.linear
        and getattr(operation, "data_format", "channels_last") == "channels_last"
        and has_plain_weights(operation)
    )


def _is_constant(node: Node) -> bool:
    """Whether this call of a batch norm scales channels by its statistics, not by the batch's."""
    last_axis = len(node.input_tensors[0].shape) - 1
    by_channel = node.operation.axis in (-1, last_axis)
    # Called with training=True it scales by those of the batch.
    return by_channel and len(node.arguments.args) == 1 and not any(node.arguments.kwargs.values())


def _folded_weights(layer: layers.Layer, norm: layers.Layer) -> list[np.ndarray]:
    scale, shift = _scale_and_shift(norm)
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    bias = keras.ops.convert_to_numpy(layer.bias) if layer.use_bias else 0.0
    axes = _OUTPUT_AXES[type(layer)]
    channels = [size if axis in axes else 1 for axis, size in enumerate(kernel.shape)]
    return [kernel * scale.reshape(channels), bias * scale + shift]


def _scale_and_shift(norm: layers.Layer) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (
        keras.ops.convert_to_numpy(statistic).astype(np.float64)
        for statistic in (norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * keras.ops.convert_to_numpy(norm.gamma)
    shift = -mean * scale
    if norm.center:
        shift = shift + keras.ops.convert_to_numpy(norm.beta)
    return scale, shift
