"""Facts: what the JSON of an archive says, asked for value by value and never believed."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Sequence
from typing import Any

from transferclf.exceptions import ArchiveError

MAX_WHOLE = 2**63 - 1

# Longer than any name there is; labels of classes may be longer.
MAX_TEXT = 1000

# A history may end in a loss that overflowed, which JSON has no number for.
_NOT_FINITE = ("nan", "inf", "-inf")


def facts_text(facts: dict[str, Any]) -> bytes:
    """Facts as JSON: the same bytes for the same facts."""
    try:
        return json.dumps(facts, allow_nan=False, ensure_ascii=False, indent=1).encode()
    except ValueError as error:
        raise ArchiveError(f"expected texts and finite numbers: {error}") from error


def parsed_facts(content: bytes) -> Facts:
    """What a JSON text says.

    Raises
    ------
    ArchiveError
        If it is no JSON, or what Python would read beyond JSON: NaN, huge numbers, the same key
        twice.
    """
    try:
        values = json.loads(
            content.decode(),
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_refused,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise ArchiveError("its JSON is nested too deeply.") from error
    except ValueError as error:
        raise ArchiveError(f"its JSON cannot be read: {error}") from error
    return Facts(values, "the JSON")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ArchiveError(f"expected numbers of at most 20 digits, got {len(digits)}")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refused(digits[:20])


def _refused(constant: str) -> Any:
    raise ArchiveError(f"expected finite numbers, got {constant}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ArchiveError("a key stands twice")
    return values


class Facts:
    """The values of a JSON object; what is not as asked for is an ArchiveError.

    Parameters
    ----------
    values : dict
        What was parsed.
    where : str
        What errors call it.
    """

    def __init__(self, values: Any, where: str):
        self.where = where
        if not isinstance(values, dict):
            raise self.wrong("an object", values)
        self._rest = dict(values)

    def wrong(self, expected: str, value: Any, name: str = "") -> ArchiveError:
        """The error that says so."""
        where = f"{name[:MAX_TEXT]!r} of {self.where}" if name else self.where
        return ArchiveError(f"{where} must be {expected}. Got {reprlib.repr(value)} instead.")

    def names(self) -> list[str]:
        """The names that have not been asked for yet."""
        return list(self._rest)

    def take(self, name: str) -> Any:
        """A value of any type."""
        if name not in self._rest:
            raise ArchiveError(f"{self.where} has no {name!r}.")
        return self._rest.pop(name)

    def take_all(self) -> dict[str, Any]:
        """Return all values that have not been asked for yet."""
        values, self._rest = self._rest, {}
        return values

    def part(self, name: str) -> Facts:
        """An object within this one."""
        return Facts(self.take(name), f"{name[:MAX_TEXT]!r} of {self.where}")

    def part_or_none(self, name: str) -> Facts | None:
        """An object within this one, or null."""
        value = self.take(name)
        return None if value is None else Facts(value, f"{name!r} of {self.where}")

    def parts(self, name: str) -> list[Facts]:
        """A list of objects within this one."""
        where = f"{name[:MAX_TEXT]!r} of {self.where}"
        return [Facts(value, where) for value in self._list(name)]

    def text(self, name: str, choices: Sequence[str] | None = None) -> str:
        """A text; one of the choices, if there are any."""
        value = self.take(name)
        if not is_text(value) or len(value) > MAX_TEXT:
            raise self.wrong(f"a text of at most {MAX_TEXT} characters", value, name)
        if choices is not None and value not in choices:
            raise self.wrong(f"one of {', '.join(choices)}", value, name)
        return value

    def text_or_none(self, name: str, choices: Sequence[str] | None = None) -> str | None:
        """A text, or null."""
        if name in self._rest and self._rest[name] is None:
            return self.take(name)
        return self.text(name, choices)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self._list(name)
        if not all(is_text(value) and len(value) <= MAX_TEXT for value in values):
            raise self.wrong(f"texts of at most {MAX_TEXT} characters", values, name)
        return tuple(values)

    def whole(self, name: str, low: int, high: int = MAX_WHOLE) -> int:
        """A whole number between two others."""
        value = self.take(name)
        if not _is_whole(value, low, high):
            raise self.wrong(f"a whole number from {low} to {high}", value, name)
        return value

    def wholes(self, name: str, low: int, high: int = MAX_WHOLE) -> tuple[int, ...]:
        """A list of whole numbers."""
        values = self._list(name)
        if not all(_is_whole(value, low, high) for value in values):
            raise self.wrong(f"whole numbers from {low} to {high}", values, name)
        return tuple(values)

    def number(self, name: str) -> float:
        """A number."""
        value = self.take(name)
        if not is_number(value):
            raise self.wrong("a number", value, name)
        return value

    def rates(self, name: str) -> tuple[float, ...]:
        """A list of numbers from 0 to below 1."""
        values = self._list(name)
        if not all(is_number(value) and 0 <= value < 1 for value in values):
            raise self.wrong("numbers from 0 to below 1", values, name)
        return tuple(map(float, values))

    def measured(self, name: str) -> list[float]:
        """A list of floats, some of which may not be finite."""
        values = self._list(name)
        if not all(is_number(value) or value in _NOT_FINITE for value in values):
            raise self.wrong("numbers", values, name)
        return [float(value) for value in values]

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.wrong("true or false", value, name)
        return value

    def finish(self) -> None:
        """Raise ArchiveError if something was said that nobody asked for."""
        if self._rest:
            raise ArchiveError(f"{self.where} must not have {min(self._rest)[:MAX_TEXT]!r}.")

    def _list(self, name: str) -> list[Any]:
        values = self.take(name)
        if not isinstance(values, list):
            raise self.wrong("a list", values, name)
        return values


def measured_text(values: Sequence[float]) -> list[float | str]:
    """What :meth:`Facts.measured` reads."""
    return [float(value) if math.isfinite(value) else repr(float(value)) for value in values]


def is_text(value: Any) -> bool:
    """Whether it is a text that can be written: JSON has escapes for halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_number(value: Any) -> bool:
    """Whether it is a number as JSON has them."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
