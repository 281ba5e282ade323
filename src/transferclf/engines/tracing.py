"""Trace a Keras model into a TensorFlow graph, also for another runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np

from transferclf.exceptions import NetworkError

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction


class Traced(NamedTuple):
    """A TensorFlow graph whose weights are inputs.

    Runtimes convert such a small graph in a second and get the weights afterwards. With a hundred
    megabytes of weights in the graph the conversion takes ten seconds. `pixels` and `output` are
    the names of the input for images and of the output. `weights` has the values of the other
    inputs by name.
    """

    graph: tf.Graph
    pixels: str
    output: str
    weights: dict[str, np.ndarray]


def traced(model: keras.Model) -> Traced:
    """Return the model as a graph whose weights are inputs."""
    concrete = concrete_function(model)
    pixels, *captured = concrete.inputs
    values = [value.numpy() for value in concrete.captured_inputs]
    weights = {tensor.name: value for tensor, value in zip(captured, values, strict=True)}
    return Traced(concrete.graph, pixels.name, concrete.outputs[0].name, weights)


def concrete_function(model: keras.Model) -> ConcreteFunction:
    """Return the model as one graph with open batch size and the present weights.

    The graph captures the weights. If it contained them, TensorFlow would copy it many times before
    the first run (four seconds for ResNet50), and batches would run no faster.
    """
    import tensorflow as tf

    trainable, others = model.trainable_variables, model.non_trainable_variables
    weights = [tf.convert_to_tensor(variable.value) for variable in [*trainable, *others]]

    def outputs(images: tf.Tensor) -> tf.Tensor:
        values = weights[: len(trainable)], weights[len(trainable) :]
        result, _ = model.stateless_call(*values, images, training=False)
        return keras.tree.flatten(result)[0]

    pixels = tf.TensorSpec((None, *model.inputs[0].shape[1:]), model.inputs[0].dtype)
    return tf.function(outputs, autograph=False).get_concrete_function(pixels)


@contextmanager
def runtime_errors(engine: str, precision: str = "float32") -> Iterator[None]:
    """Turn the errors of a converter or runtime into a NetworkError."""
    try:
        yield
    except Exception as error:
        hint = "engine='auto', which runs every network"
        if precision != "float32":
            hint = "engine='tensorflow', or precision='float32'"
        raise NetworkError(
            f"engine={engine!r} cannot run this network: {error}\nTake {hint}."
        ) from error
