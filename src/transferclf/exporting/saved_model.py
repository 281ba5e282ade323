"""Exports to TensorFlow's SavedModel, a folder, by Keras' own export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.exceptions import ArchiveError
from transferclf.exporting.facts import Facts
from transferclf.exporting.formats import Format, Run

if TYPE_CHECKING:
    import keras

# TensorFlow keeps this folder for files that are not its own.
FACTS = Path("assets.extra", "transferclf.json")


class SavedModelFormat(Format):
    """A folder for TensorFlow, TF Serving and TensorFlow.js."""

    name: ClassVar[str] = "saved_model"
    suffixes: ClassVar[tuple[str, ...]] = ("",)

    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write the folder; its facts are an extra asset."""
        graph.export(path, format="tf_saved_model", verbose=False)
        (path / FACTS).parent.mkdir()
        (path / FACTS).write_text(facts.text(), encoding="utf-8")

    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a folder, and a function that runs it."""
        from transferclf.engines.saved_model import serving_function

        file = path / FACTS
        facts = Facts.from_text(file.read_text(encoding="utf-8") if file.is_file() else None)
        try:
            return facts, serving_function(path)
        except Exception as error:  # TensorFlow has errors of its own
            raise ArchiveError(f"{path.name} is no SavedModel: {error!s:.200}") from None
