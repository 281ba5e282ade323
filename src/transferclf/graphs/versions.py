"""Versions of packages, also of those that are on the path without being installed."""

from __future__ import annotations

import importlib
import importlib.metadata

# The modules of packages that have another name.
_MODULES = {"scikit-learn": "sklearn"}


def version_of(package: str) -> str:
    """Return the version of a package by its name at the package index, or "unknown".

    Examples
    --------
    >>> version_of("there is no such package")
    'unknown'
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        pass
    try:
        module = importlib.import_module(_MODULES.get(package, package))
    except ImportError:
        return "unknown"
    return str(getattr(module, "__version__", "unknown"))
