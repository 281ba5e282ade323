"""Digests of files and Keras models, and versions: everything that determines results."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import json
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, NamedTuple

from transferclf.exceptions import NetworkError, WeightsError
from transferclf.graphs.isolation import check_not_forked
from transferclf.graphs.known import UNTOLD, is_of_keras, known_code, named

if TYPE_CHECKING:
    import keras

# Seconds. A file that was changed more recently may change again with the same time stamp.
SETTLED = 2.0

# Names of modules that differ from the name of the package.
_MODULES = {"scikit-learn": "sklearn"}


def version_of(package: str) -> str:
    """Return the version of a package by its name at the package index, or "unknown"."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        pass
    try:
        module = importlib.import_module(_MODULES.get(package, package))
    except ImportError:
        return "unknown"
    return str(getattr(module, "__version__", "unknown"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered until the file changes; WeightsError if it cannot be read."""
    try:
        status = path.stat()
        changed = max(status.st_mtime, status.st_ctime)
        if abs(time.time() - changed) < SETTLED:
            return _sha256(path)
        # A copy may keep the modification time of the original, but st_ctime is then new.
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        return _settled_digest(path, stamp)
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error.strerror}. weights= takes "
            "'pretrained', 'imagenet', None or the path of a file."
        ) from error


@functools.lru_cache(maxsize=64)
def _settled_digest(path: Path, stamp: tuple[int, ...]) -> str:
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def values_digest(model: keras.Model) -> str:
    """SHA-256 of the values of a model's weights, without the names of its layers."""
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(f"{weights.dtype} {weights.shape}".encode())
        digest.update(weights.tobytes())
    return digest.hexdigest()


class Description(NamedTuple):
    """The layers of a model, as far as they can be described.

    `digest` is SHA-256 of the description, with the names of the layers. `has_unknown_code` is True
    if the description only names some code or file, which may compute something else later. Such
    are Lambda layers, the user's own layers and functions, and models of another framework.
    `is_of_keras` is True if all layers are Keras' own, so that Keras can copy them.
    """

    digest: str
    has_unknown_code: bool
    is_of_keras: bool


def describe(model: keras.Model, *, with_training: bool = False) -> Description:
    """Describe a model. `with_training` includes which layers are frozen.

    Raises NetworkError if a layer of the user's own cannot be described.
    """
    check_not_forked()
    parts = list(parts_of(model))
    is_all_keras = all(is_of_keras(type(part).__module__) for part in parts)
    facts = None if is_all_keras else _facts_of_parts(parts)
    is_unknown = facts is None and not is_all_keras
    if facts is None:
        facts = _config_of(model)
    # Keras describes a function that a layer holds by its name alone.
    functions = {
        f"{number} {name}": _code_of(part, name, function)
        for number, part in enumerate(parts)
        for name, function in own_functions(part).items()
    }
    left_out = {"compile_config"} if with_training else {"compile_config", "trainable"}
    facts = _without([facts, functions] if functions else facts, left_out)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    names = {code[1] for code in functions.values() if code is not None}
    is_unknown |= None in functions.values() or _has_unknown_code(facts, names)
    return Description(digest, is_unknown, is_all_keras)


def _code_of(part: keras.Layer, name: str, function: object) -> list[str] | None:
    """Return facts of the code of a function that a layer holds, or None if nothing tells it."""
    maker = getattr(function, "__globals__", {}).get("__name__")
    # Keras wraps the `build` of each layer.
    is_wrapper = is_of_keras(maker) and hasattr(type(part), name)
    return known_code(type(part) if is_wrapper else function)


def _config_of(model: keras.Model) -> object:
    """Return Keras' own description of a model, as JSON has it."""
    try:
        return json.loads(model.to_json())
    except Exception as error:  # the get_config of somebody's layer may raise anything
        raise NetworkError(
            f"expected a model whose layers can all be described; {model.name!r} has one that "
            f"cannot: {error} Give it a get_config()."
        ) from error


def _facts_of_parts(parts: list[keras.Layer]) -> object:
    """Return facts of all layers and their values, or None if some are code of the user's own."""
    from transferclf.graphs.parts import UnknownCode, facts_of_parts

    try:
        return facts_of_parts(parts)
    except UnknownCode:
        return None


def _without(facts: object, names: set[str]) -> object:
    """Return facts without the entries of some names."""
    if isinstance(facts, dict):
        return {key: _without(value, names) for key, value in facts.items() if key not in names}
    return [_without(item, names) for item in facts] if isinstance(facts, list | tuple) else facts


def architecture_digest(model: keras.Model) -> str:
    """SHA-256 of a model's description, plus a text of this object alone if it has unknown code."""
    digest, has_unknown_code, _ = describe(model)
    return f"{digest} {_tokens.setdefault(model, uuid.uuid4()).hex}" if has_unknown_code else digest


def model_digest(model: keras.Model) -> str:
    """SHA-256 of the architecture of a model, with the names of its layers, and of its weights.

    Compiled and frozen models have the same digest as others. A model with unknown code shares its
    digest with no other, not even with a copy.
    """
    facts = [architecture_digest(model), values_digest(model)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


# A text for each model with unknown code, which no other object ever had.
_tokens: weakref.WeakKeyDictionary[keras.Model, uuid.UUID] = weakref.WeakKeyDictionary()


def _has_unknown_code(facts: object, functions: set[str]) -> bool:
    """Whether a description names something without its code or files.

    `functions` are the names of functions whose code is known.
    """
    if isinstance(facts, list):
        return any(_has_unknown_code(item, functions) for item in facts)
    if not isinstance(facts, dict):
        return False
    if "class_name" in facts:
        name, module = facts["class_name"], facts.get("module")
        # Plain data, such as a __tuple__, has no module.
        is_known = name.startswith("__") if module is None else _is_known_class(module, name)
        is_known |= name == "function" and facts["config"] in functions
        if name in UNTOLD or not is_known:
            return True
    return any(_has_unknown_code(value, functions) for value in facts.values())


def _is_known_class(module: str, name: str) -> bool:
    return is_of_keras(module) or known_code(named(module, name)) is not None


def own_functions(layer: keras.Layer) -> dict[str, FunctionType | MethodType]:
    """Return the attributes of a layer that are functions and not Keras' own."""
    return {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, FunctionType | MethodType) and not is_of_keras(value.__module__)
    }


def parts_of(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yield a layer or model, and all layers and operations inside it."""
    import keras

    waiting, seen = [layer], {id(layer)}
    while waiting:
        part = waiting.pop()
        yield part
        for value in list(vars(part).values()):
            for item in _items(value):
                if isinstance(item, keras.Operation) and id(item) not in seen:
                    seen.add(id(item))
                    waiting.append(item)


def _items(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]
