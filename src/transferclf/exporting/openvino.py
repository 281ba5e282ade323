"""Exports to OpenVINO's own format: a file .xml with the graph, and one .bin with the weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.exceptions import ArchiveError
from transferclf.exporting.facts import Facts
from transferclf.exporting.formats import Format, Run

if TYPE_CHECKING:
    import keras

KEY = "transferclf"  # of the facts in the runtime information of the file


class OpenVinoFormat(Format):
    """A graph that OpenVINO runs on processors of Intel, AMD and Arm."""

    name: ClassVar[str] = "openvino"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    quantizations: ClassVar[tuple[str, ...]] = ("float16",)

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
        openvino.save_model(model, path, compress_to_fp16=facts.quantize == "float16")

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
