"""Tracing a Keras model into a TensorFlow graph, and handing that graph to another runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np

from transferclf.exceptions import NetworkError


class Traced(NamedTuple):
    """A TensorFlow graph whose weights are inputs.

    Runtimes convert such a small graph in a second and get the weights afterwards; a graph that
    holds a hundred megabytes of weights takes them ten.

    Attributes
    ----------
    graph : tf.Graph
        The traced graph.
    pixels, output : str
        Names of the input for images and of the output.
    weights : dict of str to ndarray
        The value of each other input.
    """

    graph: Any
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


def concrete_function(model: keras.Model) -> Any:
    """Return the model as one graph with open batch size, with the weights of this moment.

    The graph captures the weights. TensorFlow would copy a graph that contains them many times
    before it first runs (four seconds for ResNet50), and batches run no faster for it.
    """
    import tensorflow as tf

    trainable, others = model.trainable_variables, model.non_trainable_variables
    weights = [tf.convert_to_tensor(variable.value) for variable in [*trainable, *others]]

    def outputs(images: Any) -> Any:
        values = weights[: len(trainable)], weights[len(trainable) :]
        result, _ = model.stateless_call(*values, images, training=False)
        return keras.tree.flatten(result)[0]

    pixels = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    return tf.function(outputs, autograph=False).get_concrete_function(pixels)


@contextmanager
def runtime_errors(engine: str) -> Iterator[None]:
    """Turn whatever a converter or runtime raises into one NetworkError."""
    try:
        yield
    except Exception as error:
        raise NetworkError(
            f"engine={engine!r} cannot run this network: {error}\nTake engine='auto', which runs "
            "every network."
        ) from error
