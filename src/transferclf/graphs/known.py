"""Known code: classes and functions of Keras and of installed distributions.

A distribution that pip, uv or conda has installed records the digests of its files. So the name of
a class and the digest of its distribution say what the class computes. Code of a notebook, a script
or an editable project may change under its name.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import sys
from types import FunctionType

# Classes of Keras whose description does not determine their result, because it names a path or
# code.
UNTOLD = {
    "__lambda__", "FlaxLayer", "IntegerLookup", "JaxLayer", "Lambda", "StringLookup", "TFSMLayer",
    "TextVectorization", "TorchModuleWrapper",
}  # fmt: skip


def is_of_keras(module: str | None) -> bool:
    """Whether a module belongs to Keras itself."""
    return module is not None and module.split(".")[0] == "keras"


def known_code(value: object) -> list[str] | None:
    """Return facts that identify a class or function with its code, or None if nothing does."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return None
    if is_of_keras(module):
        return [module, name]
    # A function that another one made has values that its name does not tell.
    if not isinstance(value, type | FunctionType) or named(module, name) is not value:
        return None
    distribution = _distribution_of(module, getattr(sys.modules[module], "__file__", None))
    return None if distribution is None else [module, name, *distribution]


def named(module: str, name: str) -> object:
    """Return what an imported module has under a name such as "Class.method", or None."""
    return functools.reduce(
        lambda value, part: getattr(value, part, None), name.split("."), sys.modules.get(module)
    )


@functools.lru_cache(maxsize=1024)
def _distribution_of(module: str, file: str | None) -> tuple[str, str, str] | None:
    """Return name, version and digest of the installed distribution that recorded a module's file.

    A module of an editable project has a file that no distribution recorded.
    """
    if file is None:
        return None
    path, package = os.path.realpath(file), module.split(".")[0]
    # Most distributions have the name of their package. Asking for all names takes a second.
    for names in (lambda: [package], lambda: _names_of(package)):
        for name in names():
            facts, paths = _recorded(name)
            if path in paths:
                return facts
    return None


def _names_of(package: str) -> list[str]:
    return list(importlib.metadata.packages_distributions().get(package, ()))


@functools.lru_cache(maxsize=64)
def _recorded(name: str) -> tuple[tuple[str, str, str], frozenset[str]]:
    """Return name, version and digest of a distribution, and the paths of its Python files."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return (name, "", ""), frozenset()
    files = [
        file for file in distribution.files or () if file.suffix == ".py" and file.hash is not None
    ]
    hashes = sorted((file.as_posix(), file.hash.value) for file in files if file.hash is not None)
    digest = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
    paths = frozenset(os.path.realpath(str(file.locate())) for file in files)
    return (distribution.name, distribution.version, digest), paths
