"""Exports to Keras' own files, of layers of Keras alone."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.exceptions import ArchiveError
from transferclf.exporting.facts import MEMBER, Facts, facts_in_zip
from transferclf.exporting.formats import Format, Run

if TYPE_CHECKING:
    import keras


class KerasFormat(Format):
    """A model to go on with in Keras, on any of its backends."""

    name: ClassVar[str] = "keras"
    suffixes: ClassVar[tuple[str, ...]] = (".keras",)
    takes_any_size: ClassVar[bool] = False
    backends: ClassVar[tuple[str, ...]] = ()
    is_final: ClassVar[bool] = False

    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write the model; its facts are a further file in the zip."""
        graph.save(path)
        with zipfile.ZipFile(path, "a") as file:
            file.writestr(MEMBER, facts.text())

    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a file, and a function that runs it; code in the file is refused."""
        import keras

        facts = facts_in_zip(path, path.name)
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises almost anything for a damaged file
            raise ArchiveError(f"{path.name} is no file of Keras: {error!s:.200}") from None
        return facts, lambda images: np.asarray(model.predict_on_batch(images))
