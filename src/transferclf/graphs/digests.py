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

if TYPE_CHECKING:
    import keras

# Seconds. A file that was changed more recently may change again with the same time stamp.
SETTLED = 2.0

# Names of modules that differ from the name of the package.
_MODULES = {"scikit-learn": "sklearn"}

# Classes of Keras whose description does not determine their result, because it names a path or
# code.
_UNTOLD = {
    "__lambda__", "FlaxLayer", "IntegerLookup", "JaxLayer", "Lambda", "StringLookup", "TFSMLayer",
    "TextVectorization", "TorchModuleWrapper",
}  # fmt: skip


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
    """The layers of a model, as far as Keras describes them.

    `digest` is SHA-256 of the description, with the names of the layers. `has_unknown_code` is True
    if the description only names some code or file, which may compute something else later. Such
    are Lambda layers, the user's own layers and functions, and models of another library.
    """

    digest: str
    has_unknown_code: bool


def describe(model: keras.Model, *, with_training: bool = False) -> Description:
    """Describe a model. `with_training` includes which layers are frozen.

    Raises NetworkError if a layer of the user's own cannot be described.
    """
    check_not_forked()
    try:
        config = model.to_json()
    except Exception as error:  # the get_config of somebody's layer may raise anything
        raise NetworkError(
            f"expected a model whose layers can all be described; {model.name!r} has one that "
            f"cannot: {error} Give it a get_config()."
        ) from error
    left_out = {"compile_config"} if with_training else {"compile_config", "trainable"}
    facts = json.loads(
        config, object_hook=lambda facts: {k: v for k, v in facts.items() if k not in left_out}
    )
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    # Keras describes a function that a layer holds by its name alone.
    has_functions = any(own_functions(part) for part in parts_of(model))
    return Description(digest, has_functions or _has_unknown_code(facts))


def architecture_digest(model: keras.Model) -> str:
    """SHA-256 of a model's description, plus a text of this object alone if it has unknown code."""
    digest, has_unknown_code = describe(model)
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


def _has_unknown_code(facts: object) -> bool:
    """Whether a description names something without its code or files."""
    if isinstance(facts, list):
        return any(map(_has_unknown_code, facts))
    if not isinstance(facts, dict):
        return False
    if "class_name" in facts:
        name, module = facts["class_name"], facts.get("module")
        # Plain data, such as a __tuple__, has no module.
        is_known = name.startswith("__") if module is None else is_of_keras(module)
        if name in _UNTOLD or not is_known:
            return True
    return any(map(_has_unknown_code, facts.values()))


def is_of_keras(module: str | None) -> bool:
    """Whether a module belongs to Keras itself."""
    return module is not None and module.split(".")[0] == "keras"


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
