"""Parameters by value: what a run is known by, so that a changed one is never taken for the old.

===========================  ===============================================================
plain values, containers     themselves; the order of a dict or set does not matter
arrays                       the SHA-256 of their values
estimators and the like      class and parameters, those inside them too; what fit learned is
                             left out, because every fold fits a clone
`FrozenEstimator`            what the frozen estimator learned, too
`weights=` a file            the SHA-256 of its bytes
Keras objects                their config, and the weights of a model
functions                    module and name, code, defaults, what they enclose, and the global
                             values and functions that they name; not what is behind a name of an
                             attribute, nor the code of libraries
other objects                what pickle would write, told in the same way
===========================  ===============================================================

Left out is what changes no result: `verbose`, `n_jobs`, the `memory` of a pipeline, and `cache`.
What none of these rules can tell (an open file, a lock, a generator) equals nothing but the very
same object, so that a later process does such a run again.
"""

from __future__ import annotations

import copyreg
import hashlib
import itertools
import json
import math
import os
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from sklearn.pipeline import FeatureUnion, Pipeline

from transferclf.backbones.record import Backbone
from transferclf.backbones.registry import get_backbone
from transferclf.estimators.base import BackboneEstimator
from transferclf.exceptions import UnknownBackboneError
from transferclf.graphs.definitions import code_facts, enclosed_value, global_values
from transferclf.graphs.digests import file_digest, model_digest

# Deeper than this nothing is told: it may be a circle.
MAX_DEPTH = 30

UNTOLD = "not told by value"

_WITHOUT_EFFECT = {"verbose", "n_jobs"}

_serial = itertools.count()
_tokens: dict[int, tuple[Any, str]] = {}


def described(value: Any) -> Any:
    """A parameter as JSON has it; equal values are described equally.

    Parameters
    ----------
    value : object
        An estimator, or any value that one of its parameters may have.

    Returns
    -------
    dict, list, str, int, float, bool or None

    Examples
    --------
    >>> described({"b": (1, 2.5), "a": None})
    {'dict': [['a', None], ['b', {'tuple': [1, 2.5]}]]}
    >>> from sklearn.naive_bayes import GaussianNB
    >>> described(GaussianNB(priors=None))["parameters"]
    {'priors': None, 'var_smoothing': 1e-09}
    """
    return _described(value, 0)


def is_told(facts: Any) -> bool:
    """Whether a description holds in other processes too.

    Examples
    --------
    >>> import threading
    >>> is_told(described([1, "a"])), is_told(described([threading.Lock()]))
    (True, False)
    """
    if isinstance(facts, dict):
        return UNTOLD not in facts and all(map(is_told, facts.values()))
    return all(map(is_told, facts)) if isinstance(facts, list) else True


def digest_of(facts: Any) -> str:
    """SHA-256 of what JSON can hold, whatever the order of its keys.

    Examples
    --------
    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _described(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return _untold(value)
    if value is None or isinstance(value, bool | str | int | float | np.generic):
        return _plain(value)
    for kind, describe in _KINDS:
        if isinstance(value, kind):
            return describe(value, depth + 1)
    if isinstance(value, type):
        return {"class": _name(value)}
    if hasattr(value, "get_params"):
        return _estimator(value, depth + 1)
    if _is_keras(value):
        return _keras_object(value, depth + 1)
    return _as_pickled(value, depth + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, complex | bytes):
        return {type(value).__name__: repr(value)}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, str, int, float):
        return value
    return {_name(type(value)): repr(value)}  # an Enum that is a number, a datetime64


def _sequence(value: Any, depth: int) -> Any:
    items = [_described(item, depth) for item in value]
    return items if type(value) is list else {_container(value): items}


def _set(value: Any, depth: int) -> Any:
    return {"set": sorted((_described(item, depth) for item in value), key=_canonical)}


def _dict(value: Any, depth: int) -> Any:
    pairs = [[_described(key, depth), _described(each, depth)] for key, each in value.items()]
    return {_container(value): sorted(pairs, key=_canonical)}


def _container(value: Any) -> str:
    plain = type(value) in (tuple, dict)
    return type(value).__name__ if plain else _name(type(value))


def _array(value: np.ndarray, depth: int) -> Any:
    facts = {"array": list(value.shape), "dtype": str(value.dtype)}
    if value.dtype.hasobject:
        return facts | {"values": _described(value.ravel().tolist(), depth)}
    return facts | {"sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}


def _path(value: PurePath, depth: int) -> Any:
    return {"path": str(value)}


def _function(value: FunctionType, depth: int) -> Any:
    enclosed = [enclosed_value(cell) for cell in value.__closure__ or ()]
    return {
        "function": _name(value),
        "code": digest_of(code_facts(value.__code__)),
        "values": _described([value.__defaults__, value.__kwdefaults__, enclosed], depth),
        "reads": _reads(value, depth),
    }


def _reads(value: FunctionType, depth: int) -> Any:
    """The global values that a function names, and those of the functions among them."""
    told = _told.get()
    if told is not None:
        return _read_globally(value, told, depth)
    token = _told.set(set())
    try:
        return _reads(value, depth)
    finally:
        _told.reset(token)


def _read_globally(value: FunctionType, told: set[FunctionType], depth: int) -> Any:
    told.add(value)
    found = {}
    for name, read in global_values(value):
        # Functions may call each other in circles, and by many ways: each is told once.
        is_named = isinstance(read, FunctionType) and (
            read in told or _is_installed(read.__module__)
        )
        found[name] = {"function": _name(read)} if is_named else _described(read, depth)
    return found


# The functions that have been told of, while one is.
_told: ContextVar[set[FunctionType] | None] = ContextVar("told", default=None)


def _is_installed(module: str | None) -> bool:
    """Whether a module belongs to a library, whose version tells what its functions do."""
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return "site-packages" in file or file.startswith(sys.base_prefix)


def _method(value: MethodType, depth: int) -> Any:
    return {"method": value.__func__.__qualname__, "of": _described(value.__self__, depth)}


def _builtin(value: Any, depth: int) -> Any:
    owner = getattr(value, "__self__", None)
    facts = {"function": _name(value)}
    is_bound = owner is not None and not isinstance(owner, ModuleType)
    return facts | {"of": _described(owner, depth)} if is_bound else facts


def _module(value: ModuleType, depth: int) -> Any:
    return {"module": value.__name__}


_KINDS: list[tuple[Any, Callable[[Any, int], Any]]] = [
    ((list, tuple), _sequence),
    ((set, frozenset), _set),
    (dict, _dict),
    (np.ndarray, _array),
    (PurePath, _path),
    (FunctionType, _function),
    (MethodType, _method),
    (BuiltinFunctionType, _builtin),
    (ModuleType, _module),
]


def _estimator(value: Any, depth: int) -> Any:
    params = value.get_params(deep=False)
    if type(value).__name__ == "FrozenEstimator" and "estimator" in params:
        return {"frozen": _as_pickled(params["estimator"], depth)}
    left_out = set(_WITHOUT_EFFECT)
    if isinstance(value, BackboneEstimator):
        left_out.add("cache")
        params = params | _read_from_elsewhere(params)
    if isinstance(value, Pipeline | FeatureUnion):
        left_out.add("memory")
    parameters = {name: _described(params[name], depth) for name in sorted(set(params) - left_out)}
    return {"class": _name(type(value)), "parameters": parameters}


def _read_from_elsewhere(params: dict[str, Any]) -> dict[str, Any]:
    """What a parameter of ours only names: the bytes of a weights file, a registered builder."""
    found: dict[str, Any] = {}
    weights, backbone = params["weights"], params["backbone"]
    if isinstance(weights, str | os.PathLike) and os.path.isfile(weights):
        found["weights"] = {"file": file_digest(Path(weights))}
    if isinstance(backbone, str) and (record := _own_record(backbone)) is not None:
        found["backbone"] = [record.name, record.builder, record.options, record.preprocessing]
    return found


def _own_record(name: str) -> Backbone | None:
    try:
        record = get_backbone(name)
    except UnknownBackboneError:  # fit will say so
        return None
    return None if isinstance(record.builder, str) else record


def _is_keras(value: Any) -> bool:
    """Whether the class comes from Keras; where it was never imported, nothing does."""
    if "keras" not in sys.modules:
        return False
    modules = {base.__module__.split(".")[0] for base in type(value).__mro__}
    return "keras" in modules and hasattr(value, "get_config")


def _keras_object(value: Any, depth: int) -> Any:
    import keras

    try:
        if isinstance(value, keras.Model):
            return {"model": model_digest(value)}
        config = value.get_config()
        config.pop("name", None)  # counted on: another one each time
        return {"keras": _name(type(value)), "config": _described(config, depth)}
    except Exception:  # whatever somebody's get_config raises
        return _untold(value)


def _as_pickled(value: Any, depth: int) -> Any:
    """Told by what pickle would write of the object: its class or maker, arguments and state."""
    if _is_keras(value):
        return _keras_object(value, depth)
    try:
        reducer = copyreg.dispatch_table.get(type(value))
        reduced: Any = reducer(value) if reducer else value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return {
                "object": reduced,
                "of": getattr(value, "__module__", None) or _name(type(value)),
            }
        maker, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        facts = [arguments, state, list(items or ()), list(pairs or ())]
    except Exception:  # what cannot be pickled says so by any error
        return _untold(value)
    return {"object": _name(type(value)), "made_by": _name(maker), "of": _described(facts, depth)}


def _untold(value: Any) -> Any:
    """A token that this one object has and no other ever had."""
    known = _tokens.get(id(value))
    if known is None or known[0]() is not value:
        token = f"{os.getpid()}-{os.urandom(8).hex()}-{next(_serial)}"
        known = _tokens[id(value)] = (_reference(value), token)
    return {UNTOLD: _name(type(value)), "token": known[1]}


def _reference(value: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(value)
    except TypeError:  # kept alive, so that nothing else gets its number
        return lambda: value


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None) or "builtins"
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _canonical(facts: Any) -> str:
    return json.dumps(facts, sort_keys=True)
