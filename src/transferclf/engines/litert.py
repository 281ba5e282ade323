"""Convert a Keras model for LiteRT (TensorFlow Lite), and run such a file."""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.engines.litert_file import with_float16
from transferclf.engines.litert_int8 import quantized
from transferclf.engines.tracing import concrete_function

if TYPE_CHECKING:
    import keras


def converted(
    graph: keras.Model, quantize: str | None, images: np.ndarray | None, least_values: int
) -> bytes:
    """Return a model from uint8 images as a file of LiteRT.

    With "float16" constants of `least_values` or more have 16 bits. With "int8" the weights and
    activations between convolutions have 8; `images`, uint8 (n, h, w, 3), show the ranges of the
    activations.
    """
    import tensorflow as tf

    functions = [concrete_function(graph)]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, graph)
    with contextlib.redirect_stdout(io.StringIO()), _without_warnings():
        if quantize == "int8" and images is not None:
            return quantized(converter, images)
        content = converter.convert()
    return content if quantize is None else with_float16(content, least_values)


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
