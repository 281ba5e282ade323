"""Parameters by value: the key of a run, so that a changed one is never taken for the old one.

===========================  ===============================================================
plain values, containers     themselves; the order of a dict or set does not matter
arrays                       the SHA-256 of their values
estimators and the like      class and parameters, those inside them too; what fit learned is
                             left out, because every fold fits a clone
`FrozenEstimator`            also what the frozen estimator learned
`weights=` a file            the SHA-256 of its bytes
networks of one's own        architecture and weights, those of registered builders too
other Keras objects          class and config
other objects                `joblib.hash`: what pickle would write
===========================  ===============================================================

Functions and classes of installed packages count by their names. A function of the user's own is
refused, also inside of another object: its name does not tell what it does. So is an object that
cannot be pickled.

Left out is what changes no result: `verbose`, `n_jobs`, the `memory` of a pipeline, and `cache`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import pickle
import sys
from collections.abc import Iterable
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

import joblib
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline

from transferclf.backbones.record import Backbone
from transferclf.backbones.registry import get_backbone
from transferclf.estimators.base import BackboneEstimator
from transferclf.exceptions import InvalidParameterError, NetworkError, UnknownBackboneError
from transferclf.graphs.digests import file_digest, model_digest

# A value as JSON has it.
Facts = dict[str, Any] | list[Any] | str | float | None

_WITHOUT_EFFECT = {"verbose", "n_jobs"}


def described(value: Any, name: str) -> Facts:
    """A value as JSON has it; equal values are described equally, in every process.

    `name` says whose value it is, for the InvalidParameterError about one that cannot be told.
    """
    try:
        return _described(value, name)
    except RecursionError:
        raise _refused(name, value, "it contains itself") from None


def digest_of(facts: Facts) -> str:
    """SHA-256 of what JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(_canonical(facts).encode()).hexdigest()


def _described(value: Any, name: str) -> Facts:
    if value is None or isinstance(value, bool | str | int | float | complex | bytes | np.generic):
        return _plain(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return _container(value, name)
    if isinstance(value, np.ndarray):
        return _array(value, name)
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, type):
        return {"class": _name(value)}
    if hasattr(value, "get_params"):
        return _estimator(value, name)
    return _keras_object(value, name) if _is_keras(value) else _hashed(value, name)


def _plain(value: Any) -> Facts:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, str, int, float):
        return value
    return {_name(type(value)): repr(value)}  # bytes, an Enum that is a number, a datetime64


def _container(value: Any, name: str) -> Facts:
    kind = type(value)
    if isinstance(value, dict):
        pairs = [[_described(key, name), _described(each, name)] for key, each in value.items()]
        return {kind.__name__ if kind is dict else _name(kind): sorted(pairs, key=_canonical)}
    items = [_described(item, name) for item in value]
    if isinstance(value, set | frozenset):
        return {"set": sorted(items, key=_canonical)}
    return items if kind is list else {"tuple" if kind is tuple else _name(kind): items}


def _array(value: np.ndarray, name: str) -> Facts:
    facts = {"array": list(value.shape), "dtype": str(value.dtype)}
    if value.dtype.hasobject:
        return facts | {"values": _described(value.ravel().tolist(), name)}
    return facts | {"sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}


def _estimator(value: Any, name: str) -> Facts:
    params = value.get_params(deep=False)
    if isinstance(value, FrozenEstimator):
        return {"frozen": _hashed(value.estimator, name)}
    left_out = set(_WITHOUT_EFFECT)
    found: dict[str, Facts] = {}
    if isinstance(value, BackboneEstimator):
        left_out.add("cache")
        found = _read_from_elsewhere(params)
    if isinstance(value, Pipeline | FeatureUnion):
        left_out.add("memory")
    for each in sorted(set(params) - left_out - set(found)):
        found[each] = _described(params[each], f"{name}, parameter {each!r}")
    return {"class": _name(type(value)), "parameters": dict(sorted(found.items()))}


def _read_from_elsewhere(params: dict[str, Any]) -> dict[str, Facts]:
    """What parameters of ours only name: the bytes of a weights file, a registered network."""
    found: dict[str, Facts] = {}
    weights, backbone = params["weights"], params["backbone"]
    if isinstance(weights, str | os.PathLike) and os.path.isfile(weights):
        found["weights"] = {"file": file_digest(Path(weights))}
    if isinstance(backbone, str) and (record := _own_record(backbone)) is not None:
        found["backbone"] = [record.name, record.preprocessing, _network_digest(record)]
    return found


def _own_record(name: str) -> Backbone | None:
    """The record of a network that the user registered."""
    try:
        record = get_backbone(name)
    except UnknownBackboneError:  # fit will say so
        return None
    return None if isinstance(record.builder, str) else record


def _network_digest(record: Backbone) -> str:
    """Digest of the network that a builder builds at its own size, always from the same seed."""
    from transferclf.graphs.isolation import undisturbed

    with undisturbed():
        return model_digest(record.build(input_shape=(record.image_size, record.image_size, 3)))


def _is_keras(value: Any) -> bool:
    """Whether the class comes from Keras; where it was never imported, nothing does."""
    if "keras" not in sys.modules:
        return False
    modules = {base.__module__.split(".")[0] for base in type(value).__mro__}
    return "keras" in modules and hasattr(value, "get_config")


def _keras_object(value: Any, name: str) -> Facts:
    import keras

    try:
        if isinstance(value, keras.Model):
            return {"model": model_digest(value)}
        config = value.get_config()
    except (NetworkError, NotImplementedError, TypeError, ValueError) as error:
        raise _refused(name, value, str(error)) from None
    config.pop("name", None)  # counted on: another one each time
    return {"keras": _name(type(value)), "config": _described(config, name)}


def _hashed(value: Any, name: str) -> Facts:
    """What joblib makes of an object that holds no function of the user's own."""
    try:
        _OwnFunctions(io.BytesIO()).dump(value)
        return {"object": _name(type(value)), "hash": joblib.hash(value, hash_name="sha1")}
    except Exception as error:  # what cannot be pickled says so by any error
        raise _refused(name, value, str(error)) from None


class _OwnFunctions(pickle.Pickler):
    """Refuses functions whose code no installed version tells."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, FunctionType) and not _is_installed(value.__module__):
            raise pickle.PicklingError(
                f"the code of the function {value.__qualname__!r} may change under its name"
            )
        return NotImplemented


def _is_installed(module: str | None) -> bool:
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    own = (module or "").partition(".")[0] == "transferclf"
    return own or "site-packages" in file or file.startswith(sys.base_prefix)


def _refused(name: str, value: Any, reason: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"{name}: expected a value that can be told from others in a later process. "
        f"Got {value!r:.100}: {reason}. Use an object of a class with get_params, such as a "
        "subclass of sklearn.base.BaseEstimator with a method __call__, or a function of an "
        "installed package."
    )


def _name(value: Any) -> str:
    module = getattr(value, "__module__", None) or "builtins"
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _canonical(facts: Facts | Iterable[Facts]) -> str:
    return json.dumps(facts, sort_keys=True)
