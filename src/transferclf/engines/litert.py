"""Convert a Keras model for LiteRT (TensorFlow Lite), and run such a file."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.engines.tracing import concrete_function

# Operations of the pooling, the standardized features and the head, which need more than 8 bits.
OF_HEAD = ["MEAN", "SUB", "MUL", "DIV", "FULLY_CONNECTED", "SOFTMAX", "LOGISTIC"]

if TYPE_CHECKING:
    import keras


def converted(graph: keras.Model, quantize: str | None, images: np.ndarray | None) -> bytes:
    """Return a model from uint8 images as a file of LiteRT.

    With "float16" the weights have 16 bits. With "int8" the weights and activations below the head
    have 8; the ranges of the activations are those of `images`, uint8 (n, h, w, 3).
    """
    import tensorflow as tf

    functions = [concrete_function(graph)]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, graph)
    with contextlib.redirect_stdout(io.StringIO()), _without_warnings():
        if quantize == "int8" and images is not None:
            return _quantized(converter, images)
        if quantize is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        return converter.convert()


def _quantized(converter: Any, images: np.ndarray) -> bytes:
    """Return the file with weights and activations of 8 bits, except in the head."""
    import tensorflow as tf

    def one_by_one() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = one_by_one
    # The tool is made to find operations that need more bits, and writes the file without them.
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=one_by_one,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=OF_HEAD),
    )
    return quantizer.get_nondebug_quantized_model()


def interpreted(content: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that runs a file of LiteRT, by its own package or by TensorFlow's."""
    interpreter = _interpreter(content)
    pixels, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    interpreter.allocate_tensors()
    lock = threading.Lock()

    def run(images: np.ndarray) -> np.ndarray:
        with lock:
            interpreter.resize_tensor_input(pixels["index"], images.shape)
            interpreter.allocate_tensors()
            interpreter.set_tensor(pixels["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(output["index"])

    return run


def _interpreter(content: bytes) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        with _without_warnings():
            return tf.lite.Interpreter(model_content=content)
    return Interpreter(model_content=content)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide that TensorFlow's interpreter is to move to the other package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
