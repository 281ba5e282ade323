"""Exports to LiteRT (.tflite), with the facts and the names of the classes packed in."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf._quiet import import_keras
from transferclf.exceptions import ArchiveError
from transferclf.exporting.facts import MEMBER, Facts, facts_in_zip
from transferclf.exporting.formats import LEAST_VALUES, Format, Run

if TYPE_CHECKING:
    import keras

# A zip follows the model, where LiteRT's tools look for associated files. This is one of them.
LABELS = "labels.txt"

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class LiteRtFormat(Format):
    """A file for phones and small devices."""

    name: ClassVar[str] = "litert"
    suffixes: ClassVar[tuple[str, ...]] = (".tflite",)
    quantizations: ClassVar[tuple[str, ...]] = ("float16", "int8")
    takes_any_size: ClassVar[bool] = False

    def beside(self, path: Path) -> list[Path]:
        """Return the path of the names and that of the model."""
        return [path.with_name(LABELS), path]

    def check_beside(self, path: Path, facts: Facts) -> None:
        """Raise FileExistsError if the names of another model are beside the path."""
        file = path.with_name(LABELS)
        if file.exists() and file.read_bytes() != _lines(facts).encode():
            raise FileExistsError(
                f"expected no {LABELS} beside {path}, or one with the same names, got one with "
                "others. Choose another folder, or remove it."
            )

    def write(
        self, graph: keras.Model, path: Path, facts: Facts, images: np.ndarray | None
    ) -> None:
        """Write the model, and the names of its outputs, one in a line, beside it."""
        from transferclf.engines.litert import converted

        names = _lines(facts)
        associated = io.BytesIO()
        with zipfile.ZipFile(associated, "w") as file:
            file.writestr(MEMBER, facts.text())
            file.writestr(LABELS, names)
        content = converted(graph, facts.quantize, images, LEAST_VALUES)
        path.write_bytes(content + associated.getvalue())
        path.with_name(LABELS).write_text(names, encoding="utf-8", newline="\n")

    def opened(self, path: Path) -> tuple[Facts, Run]:
        """Return the facts of a file, and a function that runs it."""
        import_keras()
        from transferclf.engines.litert import interpreted

        content = path.read_bytes()
        facts = facts_in_zip(io.BytesIO(content), path.name)
        try:
            return facts, interpreted(content)
        except (ValueError, RuntimeError) as error:
            raise ArchiveError(f"{path.name} is no file of LiteRT: {error!s:.200}") from None


def _lines(facts: Facts) -> str:
    """Return the names of the outputs, each in one line, with escapes for control characters."""
    lines = [_CONTROL.sub(_escaped, str(name)) + "\n" for name in facts.names]
    return "".join(lines).encode("utf-8", "backslashreplace").decode()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
