"""Exports to ONNX, written by tf2onnx and read by ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from transferclf.engines.convolutions import Step, after_convolutions, before_convolutions
from transferclf.exceptions import ArchiveError
from transferclf.exporting.facts import Facts
from transferclf.exporting.formats import LEAST_VALUES, Format, Run

if TYPE_CHECKING:
    import keras
    import onnx

KEY = "transferclf"  # of the facts among the metadata of the file
INPUT = "images"

# Activations that only cut off values.
ACTIVATIONS = ("Clip", "Relu")

# Images of which ONNX Runtime holds activations at once while it looks for their ranges.
CALIBRATION_BATCH = 8


class OnnxFormat(Format):
    """A graph that ONNX Runtime runs in Python, C++, C#, Java, browsers and phones."""

    name: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "tf2onnx")
    extra: ClassVar[str] = "onnxruntime"
    quantizations: ClassVar[tuple[str, ...]] = ("float16", "int8")

    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write the graph; its facts are metadata of the model."""
        import onnx

        from transferclf.engines.onnxruntime import onnx_model
        from transferclf.engines.tracing import traced

        model = _with_folded_constants(onnx_model(traced(graph)))
        _rename(model, facts)
        if facts.quantize == "float16":
            _store_as_float16(model)
        if facts.quantize == "int8" and images is not None:
            model = _quantized(model, images)
        onnx.helper.set_model_props(model, {KEY: facts.text()})
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())

    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a file, and a function that runs it on the CPU."""
        from transferclf.engines.onnxruntime import session_of

        try:
            session = session_of(str(path))
        except Exception as error:  # ONNX Runtime has errors of its own
            raise ArchiveError(f"{path.name} is no ONNX file that runs: {error!s:.200}") from None
        facts = Facts.from_text(session.get_modelmeta().custom_metadata_map.get(KEY))
        return facts, lambda images: session.run([facts.output], {INPUT: images})[0]


def _with_folded_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without nodes that only compute constants, such as transposed weights."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Higher levels choose kernels of this processor.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        folded = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in folded.graph.node}
    imports = [entry for entry in folded.opset_import if entry.domain in used]
    del folded.opset_import[:]
    folded.opset_import.extend(imports)
    return folded


def _rename(model: onnx.ModelProto, facts: Facts) -> None:
    """Give the input, the output and the open sizes names that a reader understands."""
    entry, result = model.graph.input[0], model.graph.output[0]
    new = {entry.name: INPUT, result.name: facts.output}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    entry.name, result.name = INPUT, facts.output
    sizes = zip(entry.type.tensor_type.shape.dim, ("n", "height", "width", "channels"), strict=True)
    for size, name in sizes:
        if size.dim_value == 0:
            size.dim_param = name
    result.type.tensor_type.shape.dim[0].dim_param = "n"


def _store_as_float16(model: onnx.ModelProto) -> None:
    """Store large constants with 16 bits. They are cast to float32 when the file is opened."""
    import onnx

    constants, casts = [], []
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if values.dtype != np.float32 or values.size < LEAST_VALUES:
            constants.append(constant)
            continue
        name = f"{constant.name}_float16"
        constants.append(onnx.numpy_helper.from_array(values.astype(np.float16), name))
        to = onnx.TensorProto.FLOAT
        cast = onnx.helper.make_node("Cast", [name], [constant.name], f"{name}_cast", to=to)
        casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(constants)
    model.graph.node.extend(nodes)


def _quantized(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Return the model with weights and activations of 8 bits between convolutions."""
    import onnx
    from onnxruntime import quantization

    from transferclf.engines.onnxruntime import quiet

    with quiet(""), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(model.SerializeToString())
        quantization.quantize_static(
            str(source),
            str(target),
            _calibration(images),
            per_channel=True,
            nodes_to_quantize=_between_convolutions(model),
        )
        return onnx.load(str(target))


def _between_convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions after the first, and of what lies between them.

    Elsewhere, in the resize, the scaling of pixels and the head, eight bits are too few.
    """
    nodes = list(model.graph.node)
    steps = [Step(node.op_type == "Conv", tuple(node.input), tuple(node.output)) for node in nodes]
    after, before = after_convolutions(steps), before_convolutions(steps)
    convolutions = [node.name for node in nodes if node.op_type == "Conv"]
    # An activation gets the range of the convolution before it.
    activations = [nodes[i].name for i in sorted(after) if nodes[i].op_type in ACTIVATIONS]
    sums = [nodes[i].name for i in sorted(after & before) if nodes[i].op_type == "Add"]
    return [*convolutions[1:], *activations, *sums]


def _calibration(images: np.ndarray) -> Any:
    """Return a reader of images for ONNX Runtime's search for the ranges of activations."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Gives batches of images."""

        def __init__(self) -> None:
            starts = range(0, len(images), CALIBRATION_BATCH)
            self._batches: Iterator = (images[at : at + CALIBRATION_BATCH] for at in starts)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next batch, or None at the end."""
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: batch}

    return Reader()
