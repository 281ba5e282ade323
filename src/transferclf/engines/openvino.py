"""The engine OpenVINO, which reads traced networks, ONNX files and modules of torch itself."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import BATCH_SIZE, Engine, Function
from transferclf.engines.onnx_network import OnnxNetwork, engine_errors
from transferclf.engines.torch_export import agreeing, is_module, model_of_module, module_errors
from transferclf.exceptions import NetworkError
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    import keras
    import openvino
    import torch

    from transferclf.engines.tracing import Traced


class OpenVinoEngine(Engine):
    """Runs the network as OpenVINO compiles it, one request for each batch size."""

    name = "openvino"
    rank = 3
    packages = ("openvino",)
    backends = ("tensorflow",)
    networks = ("keras", "onnx", "torch")
    precisions = ("float32", "bfloat16")
    is_for_auto = True
    least_values = 128 * 128 * 3

    def compile(
        self, network: keras.Model | OnnxNetwork | torch.nn.Module, precision: str
    ) -> Function:
        """Return a function of the compiled network; threads that call it take turns."""
        if is_module(network):
            with module_errors(self.name):
                run = self._compiled(model_of_module(network), precision, 1)
                return agreeing(run, network) if precision == "float32" else run
        if isinstance(network, OnnxNetwork):
            with engine_errors(self.name, network):
                run = self._compiled(
                    _model_of_file(network), precision, network.batch or BATCH_SIZE
                )
            return network.function(run, self.name)
        from transferclf.engines.tracing import runtime_errors, traced

        graph = traced(network)
        with runtime_errors(self.name, precision):
            return self._compiled(openvino_model(graph), precision, BATCH_SIZE)

    def _compiled(self, model: openvino.Model, precision: str, first: int) -> Function:
        import openvino  # fails for a user without a home folder

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
        by_size = {first: compiled(first)}
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


def openvino_model(traced: Traced) -> openvino.Model:
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


def _model_of_file(network: OnnxNetwork) -> openvino.Model:
    """Return the network of an ONNX file with the size of the images, from pixels (n, h, w, 3).

    Only the reader of ONNX files is used; `openvino.Core.read_model` would try other formats too.
    """
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.preprocess import PrePostProcessor

    frontend = FrontEndManager().load_by_framework("onnx")
    source = network.source
    loaded = frontend.load(str(source) if isinstance(source, Path) else io.BytesIO(source))
    whole = frontend.convert(loaded)
    made = [output for operation in whole.get_ordered_ops() for output in operation.outputs()]
    output = next((one for one in made if network.output in one.get_names()), None)
    if output is None:
        raise NetworkError(
            f"OpenVINO has no tensor {network.output!r} in {network} after its conversion: choose "
            "another output, or take engine='onnxruntime'"
        )
    model = openvino.Model([output], whole.get_parameters(), "transferclf")
    model.reshape(network.shape(network.batch or -1))
    images = PrePostProcessor(model)
    kind = {"uint8": openvino.Type.u8}.get(network.element, openvino.Type.f32)
    images.input().tensor().set_element_type(kind).set_layout(openvino.Layout("NHWC"))
    images.input().model().set_layout(openvino.Layout(network.layout))
    return images.build()
