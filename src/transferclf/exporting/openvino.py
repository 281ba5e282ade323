"""Exports to OpenVINO's own format: a file .xml with the graph, and one .bin with the weights."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.engines.convolutions import Step, not_between
from transferclf.exceptions import ArchiveError, InvalidParameterError, how_to_install
from transferclf.exporting.facts import Facts
from transferclf.exporting.formats import LEAST_VALUES, Format, Run, is_installed

if TYPE_CHECKING:
    import keras
    import openvino

KEY = "transferclf"  # of the facts in the runtime information of the file

INT8_PACKAGE = "nncf"
CONVOLUTIONS = ("Convolution", "GroupConvolution")


class OpenVinoFormat(Format):
    """A graph that OpenVINO runs on processors of Intel, AMD and Arm."""

    name: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    quantizations: ClassVar[tuple[str, ...]] = ("float16", "int8")

    def check_quantization(self, quantize: str | None) -> None:
        """Raise InvalidParameterError for others, and for "int8" without the package for it."""
        super().check_quantization(quantize)
        if quantize == "int8" and not is_installed(INT8_PACKAGE):
            raise InvalidParameterError(
                f"quantize='int8' of the format {self.name!r} needs {INT8_PACKAGE}, which is not "
                f"installed. {how_to_install('openvino-int8')}"
            )

    def beside(self, path: Path) -> list[Path]:
        """Return the path of the weights and that of the graph."""
        return [path.with_suffix(".bin"), path]

    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write the graph and its weights; its facts are runtime information."""
        import openvino

        from transferclf.engines.openvino import openvino_model
        from transferclf.engines.tracing import traced

        model = openvino_model(traced(graph))
        model.inputs[0].get_tensor().set_names({"images"})
        model.outputs[0].get_tensor().set_names({facts.output})
        model.set_rt_info(facts.text(), KEY)
        if facts.quantize == "float16":
            _store_as_float16(model)
        if facts.quantize == "int8" and images is not None:
            model = _quantized(model, images)
        # Its own compression would take small constants too.
        openvino.save_model(model, path, compress_to_fp16=False)

    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a file, and a function that runs it on the CPU."""
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
            text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
            compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        except RuntimeError as error:
            raise ArchiveError(
                f"{path.name} is no file of OpenVINO that runs: {error!s:.200}"
            ) from None
        return Facts.from_text(text), lambda images: compiled([images])[0]


def _store_as_float16(model: openvino.Model) -> None:
    """Store large constants with 16 bits. They are converted when the file is compiled."""
    import openvino
    from openvino import opset13

    for constant in model.get_ordered_ops():
        if not isinstance(constant, openvino.op.Constant):
            continue
        if constant.get_element_type() != openvino.Type.f32 or constant.data.size < LEAST_VALUES:
            continue
        half = openvino.op.Constant(constant.data.astype(np.float16))
        constant.output(0).replace(opset13.convert(half, "f32").output(0))


def _quantized(model: openvino.Model, images: np.ndarray) -> openvino.Model:
    """Return the model with weights and activations of 8 bits between convolutions."""
    nodes = model.get_ordered_ops()
    steps = [
        Step(
            node.get_type_name() in CONVOLUTIONS,
            tuple(entry.get_source_output().get_node().get_name() for entry in node.inputs()),
            (node.get_name(),),
        )
        for node in nodes
    ]
    kept = [nodes[index].get_friendly_name() for index in not_between(steps)]
    with _quiet_nncf():
        import nncf

        return nncf.quantize(
            model,
            nncf.Dataset([image[None] for image in images]),
            subset_size=len(images),
            ignored_scope=nncf.IgnoredScope(names=kept, validate=False),
            fast_bias_correction=False,
        )


@contextlib.contextmanager
def _quiet_nncf() -> Iterator[None]:
    """Import nncf so that it prints nothing, and reports nothing to its makers.

    It decides about reports once, when it is first imported; `NNCF_CI` is its own switch.
    """
    log = logging.getLogger("nncf")
    before, level = os.environ.get("NNCF_CI"), log.level
    os.environ["NNCF_CI"] = "1"
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            import nncf  # noqa: F401  sets the level of its log

            log.setLevel(logging.ERROR)
            yield
    finally:
        log.setLevel(level)
        if before is None:
            del os.environ["NNCF_CI"]
        else:
            os.environ["NNCF_CI"] = before
