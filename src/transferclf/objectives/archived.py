"""Labels as facts of an archive, in the types of JSON, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from transferclf.exceptions import InvalidParameterError

# An array of texts has room for the longest in each place.
MAX_LABEL_BYTES = 2**26

_DTYPE = re.compile(r"<U[1-9][0-9]{0,6}|<[iu][248]|\|[iu]1|\|b1|<f[248]|\|O")


def label_facts(labels: np.ndarray, name: str = "classes") -> dict[str, object]:
    """Return labels in the types of JSON; raise InvalidParameterError if that cannot be."""
    dtype = labels.dtype.newbyteorder("<").str
    values = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if not _DTYPE.fullmatch(dtype) or not all(map(_is_label, values)):
        raise InvalidParameterError(
            f"{name} must be texts, whole numbers or truth values to be saved. "
            f"Got {labels.dtype} such as {values[0]!r} instead."
        )
    if labels.nbytes > MAX_LABEL_BYTES:
        raise InvalidParameterError(
            f"{name} must take at most {MAX_LABEL_BYTES:,} bytes. Got {labels.nbytes:,} instead."
        )
    return {"dtype": dtype, "labels": values}


def labels_from(facts: Mapping[str, object], *, are_sorted: bool = True) -> np.ndarray:
    """Return the labels of `label_facts`; raise InvalidParameterError if `facts` are wrong."""
    if set(facts) != {"dtype", "labels"}:
        raise InvalidParameterError(
            f"must have dtype and labels. Got {sorted(facts)!r:.80} instead."
        )
    dtype, values = facts["dtype"], facts["labels"]
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise InvalidParameterError(f"must be labels of a known type. Got {dtype!r:.80} instead.")
    if not isinstance(values, list) or len(values) < 2 or not all(map(_is_label, values)):
        raise InvalidParameterError(
            "must be at least two texts, whole numbers or truth values. "
            f"Got {values!r:.80} instead."
        )
    if np.dtype(dtype).itemsize * len(values) > MAX_LABEL_BYTES:
        raise InvalidParameterError(
            f"must be of at most {MAX_LABEL_BYTES:,} bytes. Got {dtype} instead."
        )
    try:
        labels = np.array(values, dtype)
        different = np.unique(labels)
        is_valid = labels.tolist() == values and len(different) == len(values)
        is_valid = is_valid and (not are_sorted or np.array_equal(different, labels))
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameterError(f"must be {dtype}: {error}") from error
    if not is_valid:
        order = ", sorted" if are_sorted else ""
        raise InvalidParameterError(
            f"must be different labels of {dtype}{order}. Got {values!r:.80}."
        )
    return labels


def _is_label(label: object) -> bool:
    if isinstance(label, str):
        # JSON has escapes for halves of characters, which no file can hold.
        return not any("\ud800" <= character <= "\udfff" for character in label)
    # Labels that are whole numbers may be written as floats.
    return isinstance(label, bool | int) or (isinstance(label, float) and label.is_integer())
