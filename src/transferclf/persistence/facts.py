"""Facts: the JSON of an archive, read value by value. None of the values is trusted."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeGuard, TypeVar

from transferclf.exceptions import ArchiveError, InvalidParameterError, NetworkError

# The values of a JSON object.
Written = dict[str, object]

T = TypeVar("T")
Check = Callable[[object], TypeGuard[T]]
Fits = Callable[[T], bool]

MAX_WHOLE = 2**63 - 1

# Longer than any name there is; labels of classes may be longer.
MAX_TEXT = 1000

# A history may end in a loss that overflowed. JSON has no number for that.
_NOT_FINITE = ("nan", "inf", "-inf")


def facts_text(facts: Written) -> bytes:
    """Return facts as JSON, the same bytes for the same facts."""
    try:
        return json.dumps(facts, allow_nan=False, ensure_ascii=False, indent=1).encode()
    except ValueError as error:
        raise ArchiveError(f"expected texts and finite numbers: {error}") from error


def parsed_facts(content: bytes) -> Facts:
    """Read JSON.

    ArchiveError is also raised for things that Python's reader allows: NaN, huge numbers, and
    duplicate keys.
    """
    try:
        values = json.loads(
            content.decode(),
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_refuse_constant,
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
    return number if math.isfinite(number) else _refuse_constant(digits[:20])


def _refuse_constant(constant: str) -> NoReturn:
    raise ArchiveError(f"expected finite numbers, got {constant}")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ArchiveError("a key stands twice")
    return values


def _always(value: object) -> bool:
    return True


class Facts:
    """Values of a JSON object, each taken once; a value of another kind is an ArchiveError.

    `where` is the name of the object in errors.
    """

    def __init__(self, values: object, where: str):
        self.where = where
        if not isinstance(values, dict):
            raise self.wrong("an object", values)
        self._rest: dict[str, object] = dict(values)

    def wrong(self, expected: str, value: object, name: str = "") -> ArchiveError:
        """Return the error for a value that is not as expected."""
        where = f"{name[:MAX_TEXT]!r} of {self.where}" if name else self.where
        return ArchiveError(f"{where} must be {expected}. Got {reprlib.repr(value)} instead.")

    def names(self) -> list[str]:
        """Return the names of the values that have not been taken."""
        return list(self._rest)

    def take(self, name: str) -> object:
        """Return a value of any kind."""
        if name not in self._rest:
            raise ArchiveError(f"{self.where} has no {name!r}.")
        return self._rest.pop(name)

    def take_all(self) -> dict[str, object]:
        """Return all values that have not been taken."""
        values, self._rest = self._rest, {}
        return values

    def finish(self) -> None:
        """Raise ArchiveError if there are values that have not been taken."""
        if self._rest:
            raise ArchiveError(f"{self.where} must not have {min(self._rest)[:MAX_TEXT]!r}.")

    def _one(self, name: str, check: Check[T], expected: str, fits: Fits[T] = _always) -> T:
        value = self.take(name)
        if not check(value) or not fits(value):
            raise self.wrong(expected, value, name)
        return value

    def _all(self, name: str, check: Check[T], expected: str, fits: Fits[T] = _always) -> list[T]:
        values = self._one(name, _is_list, "a list")
        right = [value for value in values if check(value) and fits(value)]
        if len(right) < len(values):
            raise self.wrong(expected, values, name)
        return right

    def or_none(self, take: Callable[..., T], name: str, *arguments: object) -> T | None:
        """Return None for null, else `take(name, *arguments)`; `take` is a method of this."""
        if self._rest.get(name, 0) is None:
            del self._rest[name]
            return None
        return take(name, *arguments)

    def part(self, name: str) -> Facts:
        """Return an object within this one."""
        return Facts(self.take(name), f"{name[:MAX_TEXT]!r} of {self.where}")

    def parts(self, name: str) -> list[Facts]:
        """Return a list of objects."""
        where = f"{name[:MAX_TEXT]!r} of {self.where}"
        return [Facts(value, where) for value in self._one(name, _is_list, "a list")]

    def text(self, name: str, choices: Sequence[str] | None = None) -> str:
        """Return a text, one of the choices if there are any."""
        value = self._one(name, _is_short, f"a text of at most {MAX_TEXT} characters")
        if choices is not None and value not in choices:
            raise self.wrong(f"one of {', '.join(choices)}", value, name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(self._all(name, _is_short, f"texts of at most {MAX_TEXT} characters"))

    def whole(self, name: str, low: int, high: int = MAX_WHOLE) -> int:
        """Return a whole number between two others."""
        expected = f"a whole number from {low} to {high}"
        return self._one(name, is_whole, expected, lambda value: low <= value <= high)

    def wholes(self, name: str, low: int, high: int = MAX_WHOLE) -> tuple[int, ...]:
        """Return a list of whole numbers."""
        expected = f"whole numbers from {low} to {high}"
        return tuple(self._all(name, is_whole, expected, lambda value: low <= value <= high))

    def number(self, name: str) -> float:
        """Return a number."""
        return self._one(name, is_number, "a number")

    def rates(self, name: str) -> tuple[float, ...]:
        """Return a list of numbers from 0 to below 1."""
        expected = "numbers from 0 to below 1"
        return tuple(map(float, self._all(name, is_number, expected, lambda rate: 0 <= rate < 1)))

    def measured(self, name: str) -> list[float]:
        """Return a list of floats, some of which may not be finite."""
        return list(map(float, self._all(name, _is_measured, "numbers")))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return self._one(name, _is_flag, "true or false")


@contextmanager
def as_archive_error(message: str = "") -> Iterator[None]:
    """Turn errors of parameters and networks into an ArchiveError."""
    try:
        yield
    except (InvalidParameterError, NetworkError) as error:
        raise ArchiveError(f"{message}{error}") from error


def measured_text(values: Sequence[float]) -> list[float | str]:
    """Return floats as :meth:`Facts.measured` reads them."""
    return [float(value) if math.isfinite(value) else repr(float(value)) for value in values]


def is_text(value: object) -> TypeGuard[str]:
    """Whether it is a text that can be encoded. JSON can also escape halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_short(value: object) -> TypeGuard[str]:
    return is_text(value) and len(value) <= MAX_TEXT


def _is_measured(value: object) -> TypeGuard[float | str]:
    return is_number(value) or value in _NOT_FINITE


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_flag(value: object) -> TypeGuard[bool]:
    return isinstance(value, bool)
