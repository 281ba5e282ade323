"""The registry of formats, by name and by suffix."""

from __future__ import annotations

import os
from pathlib import Path

from transferclf._checks import check_choice
from transferclf.exceptions import InvalidParameterError
from transferclf.exporting.formats import Format
from transferclf.exporting.keras_file import KerasFormat
from transferclf.exporting.litert import LiteRtFormat
from transferclf.exporting.onnx import OnnxFormat
from transferclf.exporting.openvino import OpenVinoFormat
from transferclf.exporting.saved_model import SavedModelFormat

FORMATS: dict[str, Format] = {
    each.name: each
    for each in (OnnxFormat(), OpenVinoFormat(), LiteRtFormat(), SavedModelFormat(), KerasFormat())
}


def format_of(path: str | os.PathLike[str], name: str | None = None) -> Format:
    """Return the format of this name, else that of the path's suffix.

    InvalidParameterError is raised for unknown ones.
    """
    if not isinstance(path, str | os.PathLike):
        raise InvalidParameterError(f"path must be a path. Got {type(path).__name__} instead.")
    if name is not None:
        check_choice("format", name, tuple(FORMATS))
        return FORMATS[name]
    suffix = Path(path).suffix.lower()
    for each in FORMATS.values():
        if suffix in each.suffixes:
            return each
    known = ", ".join(suffix for each in FORMATS.values() for suffix in each.suffixes if suffix)
    raise InvalidParameterError(
        f"the suffix of path must be one of {known}, or none for a SavedModel folder. Got "
        f"{suffix!r} instead; or pass format=."
    )
