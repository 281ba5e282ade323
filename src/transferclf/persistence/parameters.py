"""Parameters of estimators as JSON: plain values, and a few objects of this package."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from transferclf._parameters import ParameterSet
from transferclf.augmentation import steps
from transferclf.augmentation.recipe import Augmentation
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.onnx import onnx_backbone
from transferclf.backbones.preprocessing import PREPROCESSINGS, Preprocessing
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.persistence.facts import Facts, Written, as_archive_error, is_number, is_text

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator

Set = TypeVar("Set", bound=ParameterSet)

# Deeper than any parameter is.
MAX_DEPTH = 8
MAX_WHOLE = 2**64


def _parameter_sets() -> dict[str, type[ParameterSet]]:
    """Return the classes that an archive may name. No other objects are made when it is read."""
    return steps.STEPS | {"Augmentation": Augmentation, "ConvNet": ConvNet}


# Keras also knows functions that users have registered. An archive cannot hold those.
# fmt: off
ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu",
    "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink",
    "threshold",
)
# fmt: on

_UNNEEDED = "It is not needed to predict: set_params({}) first."
_HINTS = {
    "head": "It is code of your own; pickle the estimator instead.",
    "optimizer": _UNNEEDED.format("optimizer=NAME, learning_rate=NUMBER"),
    "lr_schedule": _UNNEEDED.format("lr_schedule=None"),
    "callbacks": _UNNEEDED.format("callbacks=None"),
    "random_state": _UNNEEDED.format("random_state=NUMBER"),
}


# Parameters that are of a machine, and have their defaults after loading. A file must not decide
# how many processes are started.
_NOT_SAVED = {"n_jobs", "output"}

# Parameters that came with a format. In older archives they have values that change nothing of how
# training went then.
_NEW_IN: dict[int, dict[str, object]] = {
    3: {
        "global_clipnorm": None,
        "max_memory": "auto",
        "soup": 1.0,
        "warmup_fraction": 0.0,
        "weight_decay": 0.0,
    },
    4: {"on_error": "raise"},
}


def parameter_facts(estimator: BaseEstimator) -> Written:
    """Return the parameters of an estimator as values for JSON.

    Paths of caches and outputs and `n_jobs` are machine-specific and not saved.
    InvalidParameterError is raised for an object that an archive cannot hold, such as a Keras
    optimizer.
    """
    check_activation(estimator)
    params = estimator.get_params(deep=False)
    params["cache"] = None if params["cache"] is None else "memory"
    network = params["backbone"]
    # The path of an ONNX file would say little on another machine.
    is_own = not isinstance(network, str | ConvNet) or onnx_backbone(network) is not None
    backbone = {"model": None} if is_own else _written("backbone", params["backbone"])
    for name in ("backbone", *_NOT_SAVED):
        params.pop(name, None)
    return {"backbone": backbone} | {name: _written(name, value) for name, value in params.items()}


def _written(name: str, value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool) or is_text(value):
        return value
    if is_number(value) and math.isfinite(value) and abs(value) < MAX_WHOLE:
        return value
    if isinstance(value, list):
        return [_written(name, each) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_written(name, each) for each in value]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if type(value) is dict:
        return {"dict": [[_written(name, each) for each in pair] for pair in value.items()]}
    if isinstance(value, Preprocessing):
        return preprocessing_facts(value)
    if isinstance(value, ParameterSet) and type(value) in _parameter_sets().values():
        return {type(value).__name__: fields_of(value)}
    hint = _HINTS.get(name, "Pickle the estimator instead.")
    message = f"{name} must be of plain values to be saved. Got {value!r} instead. {hint}"
    raise InvalidParameterError(message)


def preprocessing_facts(value: str | Preprocessing) -> object:
    """Return a preprocessing as a value for JSON."""
    if isinstance(value, str):
        return value
    fields = {name: _written(name, field) for name, field in value.facts().items()}
    return {"Preprocessing": fields}


def restored_preprocessing(value: object) -> str | Preprocessing:
    """Return a preprocessing that :func:`preprocessing_facts` has written."""
    restored = _read(value, "preprocessing", 0)
    if isinstance(restored, Preprocessing):
        return restored
    if isinstance(restored, str) and restored in PREPROCESSINGS:
        return restored
    raise ArchiveError(
        f"preprocessing must be one of {PREPROCESSINGS}, or a Preprocessing. Got "
        f"{reprlib.repr(value)} instead."
    )


def fields_of(value: ParameterSet) -> Written:
    """Return the fields of a set of parameters as values for JSON."""
    check_activation(value)
    return {name: _written(name, field) for name, field in value.stored_params().items()}


def check_activation(value: object) -> None:
    """Raise InvalidParameterError unless the activation, if there is one, is one of Keras."""
    name = getattr(value, "activation", "relu")
    if name not in ACTIVATIONS:
        raise InvalidParameterError(f"an archive holds only Keras' own activations. Got {name!r}.")


def restored_parameters(facts: Facts, known: set[str], version: int) -> dict[str, Any]:
    """Return parameters from JSON; `backbone` is None if the user has to pass the network.

    `version` is the format of the archive. Raises ArchiveError unless they are exactly the known
    ones, with values of known kinds.
    """
    known = known - _NOT_SAVED
    params = _values(facts, known, f"one of {', '.join(sorted(known))}", 0)
    for number, added in _NEW_IN.items():
        if version < number:
            params = {name: value for name, value in added.items() if name in known} | params
    if missing := known - set(params):
        raise ArchiveError(f"there is no parameter {min(missing)!r}.")
    if params["cache"] not in (None, "memory"):
        raise ArchiveError("cache must be 'memory' or null.")
    return params


def _values(facts: Facts, known: set[str], expected: str, depth: int) -> dict[str, Any]:
    values = {}
    for name in facts.names():
        if name not in known:
            raise facts.wrong(expected, name)
        values[name] = _read(facts.take(name), name, depth)
    if values.get("activation", "relu") not in ACTIVATIONS:
        raise ArchiveError(f"{values['activation']!r:.100} is no activation of Keras' own.")
    return values


def _read(value: object, name: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise ArchiveError(f"{name} is nested too deeply.")
    if isinstance(value, str) and not is_text(value):
        raise ArchiveError(f"{name} must be a whole text.")
    if isinstance(value, list):
        return [_read(each, name, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    return _read_object(value, name, depth + 1)


def _read_object(value: dict[str, object], name: str, depth: int) -> object:
    kind, content = next(iter(value.items())) if len(value) == 1 else ("", None)
    if kind in _parameter_sets():
        return restored_fields(_parameter_sets()[kind], Facts(content, name), depth)
    if kind == "Preprocessing":
        known = {field.name for field in dataclasses.fields(Preprocessing)}
        expected = "a field of Preprocessing"
        with as_archive_error():
            return Preprocessing(**_values(Facts(content, name), known, expected, depth))
    if kind == "model" and name == "backbone" and content is None:
        return None
    if kind == "path" and is_text(content):
        return Path(content)
    if kind in ("tuple", "dict") and isinstance(content, list):
        values = [_read(each, name, depth) for each in content]
        if kind == "tuple":
            return tuple(values)
        pairs = [pair for pair in values if isinstance(pair, list) and len(pair) == 2]
        made = {key: each for key, each in pairs if isinstance(key, str | int | float)}
        if len(made) == len(values):
            return made
    raise ArchiveError(
        f"{name} must be an object of a known kind with a value of that kind. Got "
        f"{reprlib.repr(value)} instead."
    )


def restored_fields(kind: type[Set], facts: Facts, depth: int = 1) -> Set:
    """Return a set of parameters from its fields."""
    known = {field.name for field in dataclasses.fields(kind)}
    restored = kind(**_values(facts, known, f"a field of {kind.__name__}", depth))
    with as_archive_error():
        restored.check()
    return restored
