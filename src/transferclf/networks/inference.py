"""The fast constant function: a network that will never change, compiled for inference.

The only room that knows TensorFlow. With another Keras backend the network runs as Keras does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import keras
import numpy as np

from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.networks.folding import fold_batch_norm

Engine = Literal["auto", "keras", "tensorflow"]
ENGINES: tuple[Engine, ...] = ("auto", "keras", "tensorflow")

# The only shapes a batch ever has: kernels may sum in another order for another shape, and a
# row's result must not depend on the rows around it.
BATCH_SIZE = 32
FEW = 4

Function = Callable[[np.ndarray], np.ndarray]


class Forward:
    """A compiled network: pixels in, activations out; made by :func:`compile_forward`.

    Attributes
    ----------
    images_seen : int
        Images that have been through the network so far, padding not counted.
    """

    def __init__(self, function: Function):
        self._function = function
        self.images_seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run the network.

        Parameters
        ----------
        images : ndarray of shape (n, h, w, 3)
            RGB pixels between 0 and 255.

        Returns
        -------
        ndarray of shape (n, ...), float32
        """
        self.images_seen += len(images)
        step = 1 if len(images) <= FEW else BATCH_SIZE
        # No images are one part too, so that the result has its width.
        starts = range(0, max(len(images), 1), step)
        parts = [images[start : start + step] for start in starts]
        rows = [self._function(_padded(part, step))[: len(part)] for part in parts]
        return np.concatenate(rows).astype(np.float32, copy=False)


def compile_forward(model: keras.Model, engine: Engine = "auto") -> Forward:
    """Compile a network for inference; the model itself can be dropped afterwards.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input (n, h, w, c) and one output; batch normalisation is
        folded into the layers before it.
    engine : {"auto", "tensorflow", "keras"}, default="auto"
        "tensorflow" freezes the weights into one graph; "keras" calls the model; "auto" takes
        the former where TensorFlow is Keras' backend.

    Returns
    -------
    Forward

    Raises
    ------
    InvalidParameterError
        If the engine is unknown, or is "tensorflow" while Keras runs on another backend.
    NetworkError
        If the model has several outputs.
    """
    if engine not in ENGINES:
        raise InvalidParameterError(f"engine must be one of {ENGINES}. Got {engine!r} instead.")
    has_tensorflow = keras.backend.backend() == "tensorflow"
    if engine == "tensorflow" and not has_tensorflow:
        raise InvalidParameterError(
            f"engine='tensorflow' needs Keras on TensorFlow; it runs on {keras.backend.backend()}."
        )
    if len(model.outputs) != 1:
        raise NetworkError(f"expected a model with one output, got {len(model.outputs)}")
    folded = fold_batch_norm(model)
    if engine == "keras" or not has_tensorflow:
        return Forward(_called(folded))
    return Forward(_frozen(folded))


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(images)
    images = np.ascontiguousarray(images, dtype=np.float32)
    return np.pad(images, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else images


def _called(model: keras.Model) -> Function:
    return lambda images: keras.ops.convert_to_numpy(model(images, training=False))


def _frozen(model: keras.Model) -> Function:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    signature = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    traced = tf.function(lambda images: model(images, training=False))
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function(signature))
    return lambda images: frozen(tf.constant(images))[0].numpy()
