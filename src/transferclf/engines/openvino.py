"""The engine OpenVINO, which reads a traced network itself."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import BATCH_SIZE, Engine, Function
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    import keras
    import openvino

    from transferclf.engines.tracing import Traced


class OpenVinoEngine(Engine):
    """Runs the network as OpenVINO compiles it, one request for each batch size."""

    name = "openvino"
    rank = 3
    packages = ("openvino",)
    backends = ("tensorflow",)
    precisions = ("float32", "bfloat16")
    is_for_auto = True
    least_values = 96 * 96 * 3

    def compile(self, network: keras.Model, precision: str) -> Function:
        """Return a function of the compiled network; threads that call it take turns."""
        from transferclf.engines.tracing import runtime_errors, traced

        graph = traced(network)
        with runtime_errors(self.name, precision):
            import openvino  # fails for a user without a home folder

            model = _openvino_model(graph)
            core = openvino.Core()
            options = {
                "PERFORMANCE_HINT": "LATENCY",
                # If the CPU has bfloat16, OpenVINO would use it by default.
                "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
                "INFERENCE_NUM_THREADS": thread_count(physical=True),
                # Worker processes would all be pinned to the same first cores.
                "ENABLE_CPU_PINNING": False,
            }

            def compiled(size: int) -> openvino.CompiledModel:
                shape = model.inputs[0].get_partial_shape()
                shape[0] = size
                model.reshape(shape)
                return core.compile_model(model, "CPU", options)

            # Here OpenVINO raises errors for operations that it cannot run.
            by_size = {BATCH_SIZE: compiled(BATCH_SIZE)}
        requests: dict[int, openvino.InferRequest] = {}
        lock = threading.Lock()

        def run(images: np.ndarray) -> np.ndarray:
            size = len(images)
            with lock:
                # Fixed shapes run faster than open ones. Each new shape is compiled in a fraction
                # of a second.
                if size not in requests:
                    ready = by_size.get(size) or compiled(size)
                    requests[size] = ready.create_infer_request()
                return requests[size].infer([images], share_inputs=True)[0]

        return run


def _openvino_model(traced: Traced) -> openvino.Model:
    """Return the network as an OpenVINO model with open batch size.

    `openvino.convert_model` would do it too, but it reports each use to its makers, makes an output
    of each tensor that nothing reads, and is several times slower.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.tensorflow.graph_iterator import GraphIteratorTFGraph

    frontend = FrontEndManager().load_by_framework("tf")
    # The loaded graph reads from the iterator and does not keep it alive.
    # It would share the weights of the graph, which is dropped before all batch sizes are compiled.
    iterator = GraphIteratorTFGraph(traced.graph, share_weights=False)
    loaded = frontend.load(iterator)
    converted = frontend.convert(loaded)
    for parameter in converted.get_parameters():
        for name in parameter.output(0).get_names() & traced.weights.keys():
            constant = openvino.op.Constant(traced.weights[name])
            parameter.output(0).replace(constant.output(0))
    pixels = [one for one in converted.inputs if traced.pixels in one.get_names()]
    output = next(one for one in converted.outputs if traced.output in one.get_names())
    return openvino.Model([output.get_node()], [one.get_node() for one in pixels], "transferclf")
