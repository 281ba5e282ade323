"""The engine ONNX Runtime, for ONNX files; tf2onnx converts a traced network for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import Engine, Function
from transferclf.engines.onnx_network import OnnxNetwork, engine_errors
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    import keras
    import onnx
    import onnxruntime
    from tf2onnx.graph import Graph, Node

    from transferclf.engines.tracing import Traced

# The converter keeps the state of a conversion in its modules.
_converting = threading.Lock()


class OnnxRuntimeEngine(Engine):
    """Runs the network as an ONNX graph."""

    name = "onnxruntime"
    rank = 1  # the conversion of a Keras model takes two to ten seconds
    packages = ("onnxruntime",)
    converters = ("tf2onnx",)
    backends = ("tensorflow",)
    networks = ("keras", "onnx")
    is_for_auto = True

    def compile(self, network: keras.Model | OnnxNetwork, precision: str) -> Function:
        """Return a session of ONNX Runtime on the CPU."""
        if isinstance(network, OnnxNetwork):
            return self._of_file(network)
        from transferclf.engines.tracing import runtime_errors, traced

        graph = traced(network)
        with runtime_errors(self.name):
            session = session_of(onnx_model(graph).SerializeToString())
        pixels, output = graph.pixels, graph.output
        return lambda images: session.run([output], {pixels: images})[0]

    def _of_file(self, network: OnnxNetwork) -> Function:
        with engine_errors(self.name, network):
            session = session_of(_with_output(network), network.source)
        element = np.dtype(network.element)

        def run(images: np.ndarray) -> np.ndarray:
            # Conversion first: it copies fewer bytes in the second step.
            images = images.astype(element, copy=False)
            if network.layout == "NCHW":
                images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
            return session.run([network.output], {network.input: images})[0]

        return network.function(run, self.name)


def session_of(source: str | bytes, file: Path | bytes = b"") -> onnxruntime.InferenceSession:
    """Return a session of a path, or of a content whose external data are beside `file`."""
    # ONNX Runtime would report each session to its makers and leave a file in the temporary
    # folder. It reads this variable when it is imported; a user may set it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(physical=True)
    # Waiting threads would keep cores busy that decode images or run other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # fatal errors; others are raised
    if isinstance(source, bytes) and isinstance(file, Path):
        key = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(key, str(file.parent))
    return onnxruntime.InferenceSession(source, options, ["CPUExecutionProvider"])


def _with_output(network: OnnxNetwork) -> str | bytes:
    """Return the path or the content of a network whose output is an output of the file."""
    source = network.source
    if not network.is_inner:
        return str(source) if isinstance(source, Path) else source
    content = source.read_bytes() if isinstance(source, Path) else source
    # A reader of the format joins messages that stand one after the other. This one has a graph (7)
    # with one more output (12) of this name (1).
    message = network.output.encode()
    for number in (1, 12, 7):
        message = bytes([number << 3 | 2]) + _varint(len(message)) + message
    return content + message


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def onnx_model(traced: Traced) -> onnx.ModelProto:
    """Return a traced network as an ONNX model with open batch size."""
    import onnx
    from tf2onnx import optimizer, tfonnx

    with _converting, quiet("tf2onnx"):
        graph = tfonnx.process_tf_graph(
            traced.graph,
            input_names=[traced.pixels, *traced.weights],
            output_names=[traced.output],
            custom_op_handlers={"Erfc": (_one_minus_erf, [])},
        )
        model = optimizer.optimize_graph(graph).make_model("transferclf")
    inputs = {entry.name: entry for entry in model.graph.input}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name)
        for name, value in traced.weights.items()
        if name in inputs
    )
    del model.graph.input[:]
    model.graph.input.append(inputs[traced.pixels])
    return model


def _one_minus_erf(graph: Graph, node: Node, *_: object) -> None:
    """Write the Erfc of TensorFlow's GELU as 1 - Erf; ONNX has no Erfc."""
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.array(1.0, np.float32))
    erf = graph.make_node("Erf", node.input)
    operands = [one.output[0], erf.output[0]]
    graph.make_node("Sub", operands, name=node.name, outputs=node.output)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Silence the log of a library, which also raises its errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
