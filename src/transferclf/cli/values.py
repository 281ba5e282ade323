"""Values of parameters from text, by the type that the estimator gives for each parameter."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import click

NONE = "none"
_NUMBERS = {"int": int, "float": float}
# Types of one number, or of several. Everything else in an annotation can be a text.
_OTHER_THAN_TEXT = {*_NUMBERS, "None", "tuple", "Sequence"}
_BETWEEN_NUMBERS = re.compile("[,x]")


class Given(NamedTuple):
    """A value from the command line, which may be None."""

    value: object


class ParameterType(click.ParamType):
    """The type of an option, by the annotation of the estimator's parameter.

    "none" is None. Several numbers have commas or the letter x between them.
    """

    name = "value"

    def __init__(self, annotation: str):
        self._words = re.findall(r"\w+", annotation)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Given:
        """Return the value of a text; fail if the type allows none such."""
        try:
            return value if isinstance(value, Given) else Given(self.parsed(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def parsed(self, text: str) -> object:
        """Return the value of a text; raise ValueError if the type allows none such."""
        if text.lower() == NONE and {"None", "PixelRange", "Schedule"} & {*self._words}:
            return None
        kinds = [_NUMBERS[word] for word in _NUMBERS if word in self._words or self._is_range]
        if (number := _number(text, kinds)) is not None:
            return number
        if self._is_range or {"tuple", "Sequence"} & {*self._words}:
            parts = [_number(part, kinds) for part in _BETWEEN_NUMBERS.split(text)]
            if len(parts) > 1 and None not in parts:
                return tuple(parts)
        if {*self._words} <= _OTHER_THAN_TEXT:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ValueError(f"expected {expected}. Got {text!r} instead.")
        return text

    @property
    def _is_range(self) -> bool:
        return "PixelRange" in self._words


def _number(text: str, kinds: list[type[int] | type[float]]) -> float | None:
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return None
