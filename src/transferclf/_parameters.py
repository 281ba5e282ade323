"""Parameters of an estimator that have parameters of their own.

scikit-learn uses `get_params` and `set_params` of any object: `clone` copies such a parameter, and
`set_params(clf__augmentation__rotation=10)` reaches into it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, NoReturn, Self

import numpy as np

from transferclf._checks import check_flag, check_number, refuse
from transferclf.exceptions import InvalidParameterError


@dataclass
class ParameterSet:
    """Base of dataclasses that are parameters. Their `__init__` only assigns."""

    # The owner of a field in errors. Where this is empty, it is the name of the class.
    _shown_as: ClassVar[str] = ""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the fields by name. `deep` is there for scikit-learn."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def set_params(self, **params: object) -> Self:
        """Set fields by name. An unknown name is an error, and then no field is set."""
        known = self.get_params()
        if unknown := [name for name in params if name not in known]:
            raise InvalidParameterError(
                f"{type(self).__name__} has the parameters {', '.join(map(repr, known))}. "
                f"Got {unknown[0]!r} instead."
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def check(self) -> None:
        """Raise InvalidParameterError unless all fields have allowed values."""

    def stored_params(self) -> dict[str, Any]:
        """Return the fields that digests and archives contain.

        Fields marked by `metadata={"later": True}` were added later. They are left out where they
        are not set, so that older digests and archives stay valid.
        """
        later = [field.name for field in dataclasses.fields(self) if field.metadata.get("later")]
        params = self.get_params().items()
        return {name: value for name, value in params if name not in later or value}

    @property
    def digest(self) -> str:
        """SHA-256 of the class and the fields; equal numbers and sequences have equal digests."""
        return self._digest_with(type(self).__name__)

    def _digest_with(self, *names: str | int) -> str:
        facts = [*names, {name: _plain(value) for name, value in self.stored_params().items()}]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _check_number(
        self,
        name: str,
        low: float,
        high: float = math.inf,
        *,
        whole: bool = False,
        below: bool = False,
    ) -> None:
        """Apply :func:`check_number` to a field."""
        check_number(self._full(name), getattr(self, name), low, high, whole=whole, below=below)

    def _check_flag(self, name: str) -> None:
        check_flag(self._full(name), getattr(self, name))

    def _refuse(self, name: str, expected: str) -> NoReturn:
        refuse(self._full(name), expected, getattr(self, name))

    def _full(self, name: str) -> str:
        return f"{name} of {self._shown_as or type(self).__name__}"


def _plain(value: object) -> object:
    """Return a value for JSON. 1, 1.0 and a 1 of NumPy become the same, but True does not."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return int(number) if number.is_integer() else number
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, ParameterSet):
        return value.digest
    raise InvalidParameterError(
        "expected numbers, strings, None or sequences of them as parameters. "
        f"Got {value!r} instead."
    )
