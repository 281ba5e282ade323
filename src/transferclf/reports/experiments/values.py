"""Parameters by value: the key of a run, so that changed parameters make another run.

===========================  ===============================================================
plain values, containers     themselves; the order of a dict or set does not matter
arrays                       the SHA-256 of their values
estimators and the like      class and parameters, those inside them too; what fit learned is
                             left out, because every fold fits a clone
`FrozenEstimator`            also what the frozen estimator learned
`weights=` a file            the SHA-256 of its bytes
ONNX files                   the SHA-256 of their bytes, and the choices of an `OnnxBackbone`
networks of one's own        architecture and weights, those of registered builders too
other Keras objects          class and config
other objects                `joblib.hash`: what pickle would write
===========================  ===============================================================

Functions and classes of installed packages count by their names. A function of the user's own is
refused, also inside of another object, since its code may change under its name. So is an object
that cannot be pickled.

`verbose`, `n_jobs`, the `memory` of a pipeline, and `cache` change no result and are left out.
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

from transferclf.backbones.onnx import onnx_backbone
from transferclf.backbones.registry import get_backbone
from transferclf.estimators.base import BackboneEstimator
from transferclf.exceptions import InvalidParameterError, NetworkError, UnknownBackboneError
from transferclf.graphs.digests import file_digest, model_digest

# A value as JSON has it.
Facts = dict[str, Any] | list[Any] | str | float | None


def described(value: object, name: str) -> Facts:
    """Return a value as JSON has it; equal values are described equally, in every process.

    A value that a later process could not recognize is an InvalidParameterError about `name`.
    """
    try:
        return _described(value, name)
    except RecursionError:
        raise _refused(name, value, "it contains itself") from None


def digest_of(facts: Facts) -> str:
    """Return the SHA-256 of JSON values; the order of keys does not matter."""
    return hashlib.sha256(_canonical(facts).encode()).hexdigest()


def _described(value: Any, name: str) -> Facts:
    if value is None or isinstance(value, bool | str | int | float | complex | bytes | np.generic):
        return _plain(value)
    if isinstance(value, list | tuple | set | frozenset | dict):
        return _container(value, name)
    if isinstance(value, np.ndarray):
        facts = {"array": list(value.shape), "dtype": str(value.dtype)}
        if value.dtype.hasobject:
            return facts | {"values": _described(value.ravel().tolist(), name)}
        return facts | {"sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, type):
        return {"class": _name(value)}
    if hasattr(value, "get_params"):
        return _estimator(value, name)
    # If Keras was never imported, no class comes from it.
    modules = {base.__module__.split(".")[0] for base in type(value).__mro__}
    if "keras" in sys.modules and "keras" in modules and hasattr(value, "get_config"):
        return _keras_object(value, name)
    return _hashed(value, name)


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


def _estimator(value: Any, name: str) -> Facts:
    if isinstance(value, FrozenEstimator):
        return {"frozen": _hashed(value.estimator, name)}
    params = value.get_params(deep=False)
    left_out = {"verbose", "n_jobs"}
    found: dict[str, Facts] = {}
    if isinstance(value, BackboneEstimator):
        left_out.add("cache")
        found = _read_from_elsewhere(params["weights"], params["backbone"])
    if isinstance(value, Pipeline | FeatureUnion):
        left_out.add("memory")
    for each in sorted(set(params) - left_out - set(found)):
        found[each] = _described(params[each], f"{name}, parameter {each!r}")
    return {"class": _name(type(value)), "parameters": dict(sorted(found.items()))}


def _read_from_elsewhere(weights: object, backbone: object) -> dict[str, Facts]:
    """Return the contents that parameters only name, of files and of registered networks."""
    found: dict[str, Facts] = {}
    if isinstance(weights, str | os.PathLike) and os.path.isfile(weights):
        found["weights"] = {"file": file_digest(Path(weights))}
    if (network := onnx_backbone(backbone)) is not None:
        others = {k: v for k, v in network.get_params().items() if k != "path"}
        digest = network.content_digest()
        return found | {"backbone": {"file": digest, "parameters": _described(others, "backbone")}}
    try:
        record = get_backbone(backbone) if isinstance(backbone, str) else None
    except UnknownBackboneError:  # fit will say so
        record = None
    if record is not None and not isinstance(record.builder, str):
        from transferclf.graphs.isolation import undisturbed

        # Digest of the network at its own size, always from the same seed.
        with undisturbed():
            side = record.image_size
            digest = model_digest(record.build(input_shape=(side, side, 3)))
        found["backbone"] = [record.name, record.preprocessing, digest]
    return found


def _keras_object(value: Any, name: str) -> Facts:
    import keras

    try:
        if isinstance(value, keras.Model):
            return {"model": model_digest(value)}
        config = value.get_config()
    except (NetworkError, NotImplementedError, TypeError, ValueError) as error:
        raise _refused(name, value, str(error)) from None
    config.pop("name", None)  # Keras gives each object another name
    return {"keras": _name(type(value)), "config": _described(config, name)}


def _hashed(value: object, name: str) -> Facts:
    """Return joblib's hash of an object that holds no function of the user's own."""
    try:
        _OwnFunctions(io.BytesIO()).dump(value)
        return {"object": _name(type(value)), "hash": joblib.hash(value, hash_name="sha1")}
    except Exception as error:  # pickling may fail with any error
        raise _refused(name, value, str(error)) from None


class _OwnFunctions(pickle.Pickler):
    """Refuses functions that are in no installed package: their code may change."""

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, FunctionType):
            module = value.__module__ or ""
            file = getattr(sys.modules.get(module), "__file__", None) or ""
            is_ours = module.partition(".")[0] == "transferclf"
            is_installed = "site-packages" in file or file.startswith(sys.base_prefix)
            if not is_ours and not is_installed:
                raise pickle.PicklingError(
                    f"the code of the function {value.__qualname__!r} may change under its name"
                )
        return NotImplemented


def _refused(name: str, value: object, reason: str) -> InvalidParameterError:
    return InvalidParameterError(
        f"{name}: expected a value that can be told from others in a later process. "
        f"Got {value!r:.100}: {reason}. Use an object of a class with get_params, such as a "
        "subclass of sklearn.base.BaseEstimator with a method __call__, or a function of an "
        "installed package."
    )


def _name(value: object) -> str:
    module = getattr(value, "__module__", None) or "builtins"
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _canonical(facts: Facts | Iterable[Facts]) -> str:
    return json.dumps(facts, sort_keys=True)
