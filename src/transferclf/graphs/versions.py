"""Versions of packages, also where they were not installed but lie on the path as they are."""

from __future__ import annotations

import importlib
import importlib.metadata

# What is imported, where it has another name than the package.
_MODULES = {"scikit-learn": "sklearn"}


def version_of(package: str) -> str:
    """The version of a package, or "unknown".

    Parameters
    ----------
    package : str
        Its name at the package index.

    Returns
    -------
    str

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
