"""The engine ONNX Runtime. tf2onnx converts a traced network for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import Engine, Function
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    import keras
    import onnx
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
    is_for_auto = True

    def compile(self, network: keras.Model, precision: str) -> Function:
        """Return a session of ONNX Runtime on the CPU."""
        from transferclf.engines.tracing import runtime_errors, traced

        graph = traced(network)
        # ONNX Runtime would report each session to its makers and leave a file in the temporary
        # folder. It reads this variable when it is imported; a user may set it to 0.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        with runtime_errors(self.name):
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = thread_count(physical=True)
            # Waiting threads would keep cores busy that decode images or run other workers.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 3  # errors, which are also raised
            content = _onnx_model(graph).SerializeToString()
            session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        pixels, output = graph.pixels, graph.output
        return lambda images: session.run([output], {pixels: images})[0]


def _onnx_model(traced: Traced) -> onnx.ModelProto:
    import onnx
    from tf2onnx import optimizer, tfonnx

    with _converting, _quiet("tf2onnx"):
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
def _quiet(name: str) -> Iterator[None]:
    """Silence the log of a library, which also raises its errors."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
