"""Handing a traced network to ONNX Runtime or OpenVINO.

Both get the graph with its weights as inputs, and then the weights: small graphs are converted in
a second, where graphs that hold a hundred megabytes of weights take ten.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from transferclf.exceptions import NetworkError
from transferclf.images.threads import thread_count

Function = Callable[[np.ndarray], np.ndarray]

# The converters keep the state of a conversion in their modules.
_converting = threading.Lock()


class Traced(NamedTuple):
    """A TensorFlow graph whose weights are inputs.

    Attributes
    ----------
    graph : tf.Graph
        What computes.
    pixels, output : str
        Names of the tensor that goes in, and of the one that comes out.
    weights : dict of str to ndarray
        The value of each other input.
    """

    graph: Any
    pixels: str
    output: str
    weights: dict[str, np.ndarray]


def onnxruntime_function(traced: Traced) -> Function:
    """Return the network as ONNX Runtime runs it, converted by tf2onnx.

    Parameters
    ----------
    traced : Traced
        The network.

    Returns
    -------
    callable
        From a batch to its activations; may be called by several threads.

    Raises
    ------
    NetworkError
        If there is an operation that has no counterpart in ONNX.
    """
    # It would report each session to its makers, and leave a file in the temporary folder; to be
    # said before it is imported. Who wants that may set it to 0.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    with _or_network_error("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(
            _onnx_model(traced).SerializeToString(),
            _session_options(onnxruntime),
            providers=["CPUExecutionProvider"],
        )
    return lambda images: session.run([traced.output], {traced.pixels: images})[0]


def openvino_function(traced: Traced, precision: str) -> Function:
    """Return the network as OpenVINO runs it.

    Parameters
    ----------
    traced : Traced
        The network.
    precision : {"float32", "bfloat16"}
        What to compute in.

    Returns
    -------
    callable
        From a batch to its activations; may be called by several threads, which take turns.

    Raises
    ------
    NetworkError
        If there is an operation that OpenVINO does not know.
    """
    with _or_network_error("openvino"):
        import openvino  # fails for a user without a home folder

        model = _openvino_model(traced)
        core = openvino.Core()
        options = _openvino_options(precision)
        # What OpenVINO knows of the graph but cannot run, it says here.
        requests = {1: _request(core, model, 1, options)}
    lock = threading.Lock()

    def run(images: np.ndarray) -> np.ndarray:
        with lock:
            # Fixed shapes run faster than open ones, and each is compiled in a fraction of a
            # second when it first comes.
            if len(images) not in requests:
                requests[len(images)] = _request(core, model, len(images), options)
            return requests[len(images)].infer([images], share_inputs=True)[0]

    return run


def _onnx_model(traced: Traced) -> Any:
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


def _one_minus_erf(graph: Any, node: Any, *_: Any) -> None:
    """Spell the Erfc of TensorFlow's GELU as ONNX, which has none, can."""
    graph.remove_node(node.name)
    one = graph.make_const(f"{node.name}_one", np.array(1.0, np.float32))
    erf = graph.make_node("Erf", node.input)
    operands = [one.output[0], erf.output[0]]
    graph.make_node("Sub", operands, name=node.name, outputs=node.output)


def _session_options(onnxruntime: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = thread_count(physical=True)
    # Threads that wait would keep their cores busy, from decoding images and from other workers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors, which are raised too
    return options


def _openvino_model(traced: Traced) -> Any:
    """The network as an OpenVINO model with open batch size.

    `openvino.convert_model` would do it too, but reports each use to its makers, keeps every
    tensor that nothing reads as an output, and is several times slower.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.tensorflow.graph_iterator import GraphIteratorTFGraph

    frontend = FrontEndManager().load_by_framework("tf")
    # The loaded graph reads from the iterator and does not keep it alive.
    iterator = GraphIteratorTFGraph(traced.graph, True)
    loaded = frontend.load(iterator)
    converted = frontend.convert(loaded)
    for parameter in converted.get_parameters():
        for name in parameter.output(0).get_names() & traced.weights.keys():
            constant = openvino.op.Constant(traced.weights[name])
            parameter.output(0).replace(constant.output(0))
    pixels = [one for one in converted.inputs if traced.pixels in one.get_names()]
    output = next(one for one in converted.outputs if traced.output in one.get_names())
    return openvino.Model([output.get_node()], [one.get_node() for one in pixels], "transferclf")


def _openvino_options(precision: str) -> dict[str, Any]:
    return {
        "PERFORMANCE_HINT": "LATENCY",
        # Where the CPU has bfloat16, OpenVINO would take it without being asked.
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": thread_count(physical=True),
        # Worker processes would all be pinned to the same first cores.
        "ENABLE_CPU_PINNING": False,
    }


def _request(core: Any, model: Any, size: int, options: dict[str, Any]) -> Any:
    shape = model.inputs[0].get_partial_shape()
    shape[0] = size
    model.reshape(shape)
    return core.compile_model(model, "CPU", options).create_infer_request()


@contextmanager
def _or_network_error(engine: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # converters and runtimes raise whatever they like
        raise NetworkError(
            f"engine={engine!r} cannot run this network: {error}\nTake engine='auto', which runs "
            "every network."
        ) from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Let a library log nothing; what went wrong it raises too."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
