"""Rewrite networks: fold batch normalisation, and compute in bfloat16.

In inference, batch normalisation multiplies and shifts each channel. Directly after a convolution
or dense layer, this is the same layer with other weights, and one pass over memory less.

bfloat16 has half the bytes, and many times the speed on CPUs made for it. It keeps three decimal
digits, which is enough between the layers of a network. The scaling of pixels, sums of many numbers
and the last layer stay in float32.
"""

from __future__ import annotations

from collections import Counter

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

# Each computes an output from few inputs, or sums in float32 inside (convolutions).
_LOWERED = (
    layers.Activation, layers.Add, layers.Concatenate, layers.Conv2D, layers.Cropping2D,
    layers.Dense, layers.DepthwiseConv2D, layers.MaxPooling2D, layers.Multiply, layers.ReLU,
    layers.ZeroPadding2D,
)  # fmt: skip

# On CPUs, TensorFlow takes several times as long for gradients of depthwise convolutions in
# bfloat16 as in float32.
_SLOW_GRADIENTS = (layers.DepthwiseConv2D,)


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Return a flat model that computes the same in inference mode with fewer layers.

    Layers that are not folded are shared with the given model.
    """
    model = functional(model)
    partners = _foldable_pairs(model)
    biased = {id(before): _rebuilt(before, use_bias=True) for before, _ in partners}
    dropped = {id(norm) for _, norm in partners}

    def replaced(operation: Operation) -> Operation:
        if id(operation) in dropped:
            return lambda x, **_: x
        return biased.get(id(operation), operation)

    folded = with_replaced(model, replaced)
    for before, norm in partners:
        biased[id(before)].set_weights(_folded_weights(before, norm))
    return folded


def lower_precision(model: keras.Model, *, is_trained: bool = False) -> keras.Model:
    """Return a model that does most of its work in bfloat16, from and to float32.

    `model` is flat, as `fold_batch_norm` returns it. The layers that stay in float32 are shared. If
    it `is_trained`, the weights stay in float32.
    """
    model = functional(model)
    originals = _layers_to_lower(model)
    if is_trained:
        originals = [each for each in originals if not isinstance(each, _SLOW_GRADIENTS)]
    dtype = "mixed_bfloat16" if is_trained else "bfloat16"
    lowered = {id(layer): _rebuilt(layer, dtype=dtype) for layer in originals}
    changed = with_replaced(model, lambda operation: lowered.get(id(operation), operation))
    for layer in originals:
        lowered[id(layer)].set_weights(layer.get_weights())
    return changed


def _layers_to_lower(model: keras.Model) -> list[layers.Layer]:
    ends = {id(tensor) for tensor in model.outputs}
    operations = {id(node.operation): node.operation for node in nodes_in_order(model)}
    for node in nodes_in_order(model):
        if any(id(tensor) in ends for tensor in node.outputs):
            operations.pop(id(node.operation), None)
    return [
        operation
        for operation in operations.values()
        # A subclass of these may compute something else.
        if type(operation) in _LOWERED and _has_plain_weights(operation)
    ]


def _has_plain_weights(layer: layers.Layer) -> bool:
    """Whether a built layer has exactly the weights of its class.

    A quantised or adapted layer (LoRA) has more, and computes with another kernel than it shows.
    """
    expected = 1 + layer.use_bias if hasattr(layer, "use_bias") else 0
    return len(layer.weights) == expected


def _rebuilt(layer: layers.Layer, **changes: object) -> layers.Layer:
    """Return a new layer with other values of some options; its weights are not set."""
    config = layer.get_config()
    # Random initial weights would use the caller's random state.
    zeros = {name: "zeros" for name in config if name.endswith("_initializer")}
    return type(layer).from_config(config | zeros | changes)


def _foldable_pairs(model: keras.Model) -> list[tuple[layers.Layer, layers.Layer]]:
    """Return the pairs (layer, batch norm) in which only the norm reads the layer."""
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
        and _has_plain_weights(operation)
    )


def _is_constant(node: Node) -> bool:
    """Whether a batch norm scales channels by its own statistics, not by those of the batch."""
    last_axis = len(node.input_tensors[0].shape) - 1
    by_channel = node.operation.axis in (-1, last_axis)
    # With training=True it uses the statistics of the batch.
    return by_channel and len(node.arguments.args) == 1 and not any(node.arguments.kwargs.values())


def _folded_weights(layer: layers.Layer, norm: layers.Layer) -> list[np.ndarray]:
    to_numpy = keras.ops.convert_to_numpy
    mean, variance = (
        to_numpy(statistic).astype(np.float64)
        for statistic in (norm.moving_mean, norm.moving_variance)
    )
    scale = 1.0 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * to_numpy(norm.gamma)
    shift = -mean * scale
    if norm.center:
        shift = shift + to_numpy(norm.beta)
    kernel = to_numpy(layer.kernel)
    bias = to_numpy(layer.bias) if layer.use_bias else 0.0
    axes = _OUTPUT_AXES[type(layer)]
    channels = [size if axis in axes else 1 for axis, size in enumerate(kernel.shape)]
    return [kernel * scale.reshape(channels), bias * scale + shift]
