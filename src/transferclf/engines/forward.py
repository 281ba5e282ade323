"""The fast constant function: a network that will never change, compiled for inference.

The only room that knows TensorFlow. With another Keras backend the network runs as Keras does it.
"""

from __future__ import annotations

import threading
from typing import Any

import keras
import numpy as np

from transferclf.engines.registry import Engine, Precision, check_engine, resolved_engine
from transferclf.engines.runtimes import (
    Function,
    Traced,
    onnxruntime_function,
    openvino_function,
)
from transferclf.exceptions import NetworkError
from transferclf.graphs.eager import check_eager
from transferclf.graphs.folding import fold_batch_norm
from transferclf.graphs.forking import check_not_forked
from transferclf.graphs.precision import lower_precision

# The only two sizes that a batch ever has. Kernels may sum in another order for another size, so
# that a row of a batch of fixed size never depends on how many images the caller happened to pass.
BATCH_SIZE = 32
FEW = 4


class Forward:
    """A compiled network: pixels in, activations out; made by :func:`compile_forward`.

    May be called by several threads. The values of one row never enter another row: a row at one
    place of a batch has the same bits whatever the other rows are. At another place, or in a batch
    of the other size, it agrees to the rounding of float32, because kernels may sum in another
    order there.

    Parameters
    ----------
    function : callable
        From a batch of fixed size to its activations.
    engine : str, default="keras"
        What runs it.
    few : int, default=4
        Up to so many images go through one by one, which is faster; more go 32 at a time.

    Attributes
    ----------
    engine : str
        What runs the network, never "auto".
    images_seen : int
        Images that have been through the network so far, padding not counted.
    """

    def __init__(self, function: Function, engine: str = "keras", few: int = FEW):
        self._function = function
        self._few = few
        self._counting = threading.Lock()
        self.engine = engine
        self.images_seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Run the network.

        Parameters
        ----------
        images : ndarray of shape (n, ...)
            RGB pixels between 0 and 255, or whatever the network takes.

        Returns
        -------
        ndarray of shape (n, ...), float32
        """
        check_not_forked()
        check_eager()
        with self._counting:
            self.images_seen += len(images)
        step = 1 if len(images) <= self._few else BATCH_SIZE
        # No images are one part too, so that the result has its width.
        starts = range(0, max(len(images), 1), step)
        parts = [images[start : start + step] for start in starts]
        rows = [self._function(_padded(part, step))[: len(part)] for part in parts]
        return np.concatenate(rows).astype(np.float32, copy=False)


def compile_forward(
    model: keras.Model, engine: Engine = "auto", precision: Precision = "float32"
) -> Forward:
    """Compile a network for inference; the model itself can be dropped afterwards.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input (n, ...) and one output; batch normalisation is
        folded into the layers before it.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        "tensorflow" traces the model into one graph; "onnxruntime" and "openvino" hand that
        graph to these runtimes, which are extras of this package; "keras" calls the model; "auto"
        is "tensorflow" where that is Keras' backend, else "keras".
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" is several times faster on CPUs with AVX512-BF16 or AMX, with features of three
        digits; for the engines "tensorflow" and "openvino".

    Returns
    -------
    Forward

    Raises
    ------
    InvalidParameterError
        If the engine or the precision is unknown or cannot be had here.
    NetworkError
        If the model has several outputs, or an operation that the engine does not know.

    Examples
    --------
    >>> import keras, numpy as np
    >>> inputs = keras.Input((8, 8, 3))
    >>> model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    >>> compile_forward(model)(np.full((2, 8, 8, 3), 7))
    array([[7., 7., 7.],
           [7., 7., 7.]], dtype=float32)
    """
    check_engine(engine, precision)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NetworkError(
            "expected a model with one input and one output, got "
            f"{len(model.inputs)} and {len(model.outputs)}"
        )
    folded = fold_batch_norm(model)
    chosen = resolved_engine(engine)
    return Forward(_function(folded, chosen, precision), chosen)


def _function(model: keras.Model, engine: str, precision: str) -> Function:
    if engine == "keras":
        return _called(model)
    if engine == "tensorflow":
        return _graph_function(lower_precision(model) if precision == "bfloat16" else model)
    traced = _weights_as_inputs(_concrete_function(model))
    if engine == "openvino":
        return openvino_function(traced, precision)
    return onnxruntime_function(traced)


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(images)
    images = np.ascontiguousarray(images, dtype=np.float32)
    return np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)) if missing else images


def _called(model: keras.Model) -> Function:
    return lambda images: keras.ops.convert_to_numpy(model(images, training=False))


def _graph_function(model: keras.Model) -> Function:
    import tensorflow as tf

    concrete = _concrete_function(model)
    return lambda images: concrete(tf.constant(images)).numpy()


def _concrete_function(model: keras.Model) -> Any:
    """The model as one graph with open batch size, which captures the weights of this moment.

    Captured and not written into the graph: TensorFlow would copy such a graph many times before
    it first runs (four seconds for ResNet50), and batches run no faster for it.
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


def _weights_as_inputs(concrete: Any) -> Traced:
    pixels, *captured = concrete.inputs
    values = [value.numpy() for value in concrete.captured_inputs]
    weights = {tensor.name: value for tensor, value in zip(captured, values, strict=True)}
    return Traced(concrete.graph, pixels.name, concrete.outputs[0].name, weights)
