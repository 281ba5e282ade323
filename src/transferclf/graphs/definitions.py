"""Compare functions by their definition."""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MethodType
from typing import Any


def same_definition(one: Any, other: Any) -> bool:
    """Whether two callables have the same code and hold the same values.

    True for a function that is defined again, as by running a notebook cell twice. Global values
    that a function reads are not compared.


    Examples
    --------
    >>> def adding(number):
    ...     return lambda x: x + number
    >>> same_definition(adding(1), adding(1)), same_definition(adding(1), adding(2))
    (True, False)
    """
    if one is other:
        return True
    if isinstance(one, FunctionType) and isinstance(other, FunctionType):
        return _name(one) == _name(other) and _alike(_values(one), _values(other))
    if isinstance(one, MethodType) and isinstance(other, MethodType):
        parts = ((one.__func__, other.__func__), (one.__self__, other.__self__))
        return all(same_definition(*pair) for pair in parts)
    if isinstance(one, functools.partial) and isinstance(other, functools.partial):
        values = [(each.args, each.keywords) for each in (one, other)]
        return same_definition(one.func, other.func) and _alike(*values)
    if _name(type(one)) == _name(type(other)) and hasattr(one, "__dict__"):
        is_same_class = type(one) is type(other) or _same_class(type(one), type(other))
        return is_same_class and _alike(vars(one), vars(other))
    return _equal(one, other)


def _same_class(one: type, other: type) -> bool:
    """Whether two classes have the same functions; `__weakref__` and the like always differ."""
    functions = [
        {name: value for name, value in vars(kind).items() if isinstance(value, FunctionType)}
        for kind in (one, other)
    ]
    return _alike(*functions)


def _name(value: Any) -> tuple[Any, Any]:
    return (getattr(value, "__module__", None), getattr(value, "__qualname__", None))


def _values(function: FunctionType) -> list[Any]:
    enclosed = [enclosed_value(cell) for cell in function.__closure__ or ()]
    code = code_facts(function.__code__)
    return [code, function.__defaults__, function.__kwdefaults__, enclosed]


def enclosed_value(cell: Any) -> Any:
    """Return the value of a closure's cell, or None before it is assigned."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def code_facts(code: CodeType) -> list[Any]:
    """Return what a code object does, without its file and line numbers."""
    constants = [
        code_facts(constant)
        if isinstance(constant, CodeType)
        # The order of a set is by chance, and 1 == 1.0 == True.
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _alike(one: Any, other: Any) -> bool:
    """Whether containers hold the same definitions and equal values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    if callable(one):
        return same_definition(one, other)
    return _equal(one, other)


def _equal(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # arrays have no single truth value, and others raise whatever they like
        return False
