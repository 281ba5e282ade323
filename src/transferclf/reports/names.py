"""Names of classes and files as one short line of text, whatever is in them."""

from __future__ import annotations

from typing import Any


def short_name(name: Any, width: int = 28) -> str:
    """A name on one line of at most `width` characters.

    Line breaks, control characters and marks that turn the direction of text become spaces, and
    the middle of long names three dots, since names that are alike often differ at the end.
    """
    text = "".join(letter if letter.isprintable() else " " for letter in str(name))
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    tail = (width - 1) // 3
    return f"{text[: width - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def count_text(number: float, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "1,200 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
