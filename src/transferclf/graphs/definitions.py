"""Compare functions by their definition."""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MethodType


def same_definition(one: object, other: object) -> bool:
    """Whether two callables have the same code and hold the same values.

    True for a function that is defined again, as by running a notebook cell twice. Global values
    that a function reads are not compared.
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
        # Only functions of classes are compared: `__weakref__` and the like always differ.
        functions = [
            {name: value for name, value in vars(kind).items() if isinstance(value, FunctionType)}
            for kind in (type(one), type(other))
        ]
        is_same_class = type(one) is type(other) or _alike(*functions)
        return is_same_class and _alike(vars(one), vars(other))
    return _equal(one, other)


def _name(value: object) -> tuple[object, object]:
    return (getattr(value, "__module__", None), getattr(value, "__qualname__", None))


def _values(function: FunctionType) -> list[object]:
    enclosed = []
    for cell in function.__closure__ or ():
        try:
            enclosed.append(cell.cell_contents)
        except ValueError:  # not assigned yet
            enclosed.append(None)
    code = _code_facts(function.__code__)
    return [code, function.__defaults__, function.__kwdefaults__, enclosed]


def _code_facts(code: CodeType) -> list[object]:
    """Return what a code object does, without its file and line numbers."""
    constants = [
        _code_facts(constant)
        if isinstance(constant, CodeType)
        # The order of a set is random. 1, 1.0 and True are equal, but not the same constant.
        else sorted(map(repr, constant))
        if isinstance(constant, frozenset)
        else repr(constant)
        for constant in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def _alike(one: object, other: object) -> bool:
    """Whether containers hold the same definitions and equal values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_alike, one, other))
    return same_definition(one, other) if callable(one) else _equal(one, other)


def _equal(one: object, other: object) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # arrays have no single truth value, and other classes may raise anything
        return False
