"""Names, numbers and other values as short text, and as JSON has them."""

from __future__ import annotations

import math

import numpy as np


def short_name(name: object, width: int = 28) -> str:
    """Return a name on one line of at most `width` characters.

    Line breaks, control characters and marks that turn the direction of text become spaces.
    Surrogates, which are not valid text, become the replacement character. Long names lose their
    middle, since similar names often differ at the end.
    """
    text = "".join(map(_shown, str(name)))
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def _shown(letter: str) -> str:
    if letter.isprintable():
        return letter
    return "\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else " "


def count_text(number: float, noun: str, plural: str = "") -> str:
    """Return a number with its noun: "1 image", "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def number_text(value: float | None) -> str:
    """Return a number with three digits, or a dash where it is not defined."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def jsonable(value: object) -> object:
    """Return a value as JSON can hold it.

    Numbers that are not finite become None, and other objects become their text.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    # File names may hold surrogates, which cannot be written to a file.
    return str(value).encode("utf-8", "replace").decode()
