"""Class labels as JSON: texts, whole numbers and truth values, in the type they had."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.persistence.facts import Facts, is_text

# Each place of an array of texts takes the room of the longest.
MAX_LABEL_BYTES = 2**26

_DTYPE = re.compile(r"<U[1-9][0-9]{0,6}|<[iu][248]|\|[iu]1|\|b1|<f[248]|\|O")


def class_facts(classes: np.ndarray) -> dict[str, Any]:
    """Return labels for `restored_classes`; others than JSON has are an InvalidParameterError."""
    dtype = classes.dtype.newbyteorder("<").str
    labels = [label.item() if isinstance(label, np.generic) else label for label in classes]
    if not _DTYPE.fullmatch(dtype) or not all(map(_is_label, labels)):
        raise InvalidParameterError(
            "classes must be texts, whole numbers or truth values to be saved. "
            f"Got {classes.dtype} such as {labels[0]!r} instead."
        )
    if classes.nbytes > MAX_LABEL_BYTES:
        raise InvalidParameterError(
            f"classes must take at most {MAX_LABEL_BYTES:,} bytes. Got {classes.nbytes:,} instead."
        )
    return {"dtype": dtype, "labels": labels}


def restored_classes(facts: Facts) -> np.ndarray:
    """Return the labels: at least two, different and sorted."""
    dtype, labels = facts.text("dtype"), facts.take("labels")
    facts.finish()
    if not _DTYPE.fullmatch(dtype) or not isinstance(labels, list):
        raise facts.wrong("labels of a known type", dtype)
    if len(labels) < 2 or not all(map(_is_label, labels)):
        raise facts.wrong("at least two texts, whole numbers or truth values", labels)
    if np.dtype(dtype).itemsize * len(labels) > MAX_LABEL_BYTES:
        raise facts.wrong(f"of at most {MAX_LABEL_BYTES:,} bytes", dtype)
    try:
        classes = np.array(labels, dtype)
        is_same = classes.tolist() == labels
        is_sorted = is_same and np.array_equal(np.unique(classes), classes)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArchiveError(f"{facts.where} must be {dtype}: {error}") from error
    if not is_sorted:
        raise facts.wrong(f"different labels of {dtype}, sorted", labels)
    return classes


def _is_label(label: Any) -> bool:
    # Labels that are whole numbers may be written as floats.
    is_whole = isinstance(label, bool | int) or (isinstance(label, float) and label.is_integer())
    return is_whole or is_text(label)
