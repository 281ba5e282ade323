"""How the scores of a network depend on the activations of one of its layers.

Scores are the numbers before the last activation. Before a softmax, their mean over the classes is
taken off: a softmax does not change if one number is added to all scores, and two networks that
always predict the same should have the same maps.

Zeros are added to the layer's activations, and the gradient is taken with respect to these zeros.
So only paths through the layer count, in any Keras backend.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from transferclf.engines.backend import gradient_at
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import Operation, nodes_in_order, replay

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

    from transferclf.graphs._private import Node

# Images that go through at a time: gradients need all activations of all of them.
BATCH_SIZE = 8

# Axes of a convolution's kernel: height, width, channels in, channels out.
CONVOLUTION_RANK = 4


def map_layers(model: keras.Model) -> dict[str, tuple[int, int]]:
    """Return height and width of each map of features in a flat model, by layer, in order.

    Layers that are called more than once are left out, and so are all layers before the first
    convolution, such as those that scale the pixels.

    Examples
    --------
    >>> import keras
    >>> inputs = keras.Input((8, 8, 3))
    >>> x = keras.layers.Conv2D(4, 3, name="conv")(keras.layers.Rescaling(1 / 255)(inputs))
    >>> map_layers(keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x)))
    {'conv': (6, 6)}
    """
    nodes = nodes_in_order(model)
    calls = Counter(id(node.operation) for node in nodes)
    after_convolution: set[int] = set()
    maps = {}
    for node in nodes:
        if not _is_after_convolution(node, after_convolution):
            continue
        after_convolution.update(map(id, node.outputs))
        if calls[id(node.operation)] == 1 and _is_map(node):
            maps[node.operation.name] = tuple(node.outputs[0].shape[1:3])
    return maps


def layer_gradients(
    model: keras.Model, layer: str, pixels: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the activations of a layer, and the gradients of scores with respect to them.

    `model` is flat, takes pixels between 0 and 255, and ends in a dense layer. `outputs` is the
    index of an output for each image. Both results have shape (n, map height, map width,
    channels), float32.
    """
    with undisturbed():
        nudged = _nudged(model, layer)
    starts = range(0, len(pixels), BATCH_SIZE)
    parts = [slice(start, start + BATCH_SIZE) for start in starts]
    results = [_of_batch(nudged, pixels[part], outputs[part]) for part in parts]
    activations, gradients = zip(*results, strict=True)
    return np.concatenate(activations), np.concatenate(gradients)


def _of_batch(
    nudged: keras.Model, pixels: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    shape = (len(pixels), *nudged.inputs[1].shape[1:])
    zeros = keras.ops.zeros(shape, nudged.inputs[1].dtype)
    images = keras.ops.convert_to_tensor(pixels.astype(np.float32))

    def chosen_scores(nudge: Tensor) -> tuple[Tensor, Tensor]:
        activations, scores = nudged([images, nudge], training=False)
        # Rows do not depend on each other, so that the gradient of the sum is that of each.
        chosen = keras.ops.one_hot(outputs, scores.shape[-1], dtype=scores.dtype)
        return keras.ops.sum(scores * chosen), activations

    gradients, activations = gradient_at(chosen_scores, zeros)
    return _numbers(activations), _numbers(gradients)


def _numbers(tensor: Tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))


def _nudged(model: keras.Model, layer: str) -> keras.Model:
    """Return a model from pixels and a nudge to the layer's activations and the scores."""
    pixels = keras.Input(model.inputs[0].shape[1:], name="seen_pixels")
    last, wanted = nodes_in_order(model)[-1].operation, model.get_layer(layer)
    found: dict[str, Tensor] = {}

    def replaced(operation: keras.Operation) -> Operation:
        if operation is last:
            return _scores(last)
        return nudged if operation is wanted else operation

    def nudged(*args: object, **kwargs: object) -> Tensor:
        found["activations"] = activations = wanted(*args, **kwargs)
        found["nudge"] = keras.Input(activations.shape[1:], dtype=activations.dtype, name="nudge")
        return keras.layers.Add(name="nudged")([activations, found["nudge"]])

    (scores,) = replay(model, [pixels], replaced)
    return keras.Model([pixels, found["nudge"]], [found["activations"], scores])


def _scores(layer: Any) -> Any:
    """Return this layer without its activation; scores before a softmax have the mean zero."""
    scores = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    scores.build(tuple(layer.kernel.shape[:1]))
    weights = layer.get_weights()
    if layer.activation is keras.activations.softmax:
        weights = [weight - weight.mean(axis=-1, keepdims=True) for weight in weights]
    scores.set_weights(weights)
    return scores


def _is_after_convolution(node: Node, after_convolution: set[int]) -> bool:
    weights = getattr(node.operation, "weights", ())
    is_convolution = any(len(weight.shape) == CONVOLUTION_RANK for weight in weights)
    return is_convolution or any(id(tensor) in after_convolution for tensor in node.input_tensors)


def _is_map(node: Node) -> bool:
    shape = node.outputs[0].shape
    is_model = isinstance(node.operation, keras.Model)  # whose own layers are called in its place
    return len(node.outputs) == 1 and len(shape) == 4 and None not in shape[1:] and not is_model
