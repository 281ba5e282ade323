"""The base of engines: objects that run frozen networks, and say whether they can here.

Imports neither Keras nor any engine, so that parameters can be checked before anything heavy is.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from transferclf.exceptions import InvalidParameterError

Function = Callable[[np.ndarray], np.ndarray]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CPU_FACTS = Path("/proc/cpuinfo")
# AVX512-BF16 and AMX as Linux names them on x86, and its name for both on ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


class Engine(ABC):
    """Base of the engines.

    A subclass sets the attributes and writes :meth:`compile`; an object of it is handed to
    :func:`transferclf.engines.registry.register_engine`.

    Attributes
    ----------
    name : str
        Its name in `engine=` of the estimators.
    rank : int
        How fast it is known to be. "auto" takes the engine of the highest rank.
    packages : tuple of str, default=()
        Modules that it imports besides the dependencies of this package.
    backends : tuple of str or None, default=None
        Backends of Keras on which it runs; None is all.
    networks : tuple of str, default=("keras",)
        Kinds of networks that it runs: "keras" is a functional keras.Model, "function" a function
        of arrays.
    precisions : tuple of str, default=("float32",)
        The precisions it can compute in.
    is_for_auto : bool, default=False
        Whether "auto" may take it. Not one that needs packages: the same program would give other
        features where they are installed.
    is_offered : bool, default=True
        Whether `engine=` may name it.
    """

    name: str
    rank: int
    packages: tuple[str, ...] = ()
    backends: tuple[str, ...] | None = None
    networks: tuple[str, ...] = ("keras",)
    precisions: tuple[str, ...] = ("float32",)
    is_for_auto: bool = False
    is_offered: bool = True

    @abstractmethod
    def compile(self, network: Any, precision: str) -> Function:
        """Return a function that runs a network, and may be called by several threads.

        Parameters
        ----------
        network : keras.Model or object
            Of one of the kinds in `networks`. A Keras model has one input and one output, and its
            batch normalisation is folded already; it is dropped afterwards.
        precision : str
            One of `precisions`.

        Returns
        -------
        callable
            From a float32 array (n, h, w, 3) to activations (n, ...). A row must not depend on
            the other rows, and must agree with other engines to the rounding of float32, because
            they share stored features.

        Raises
        ------
        NetworkError
            If the network has an operation that the engine does not know.
        """

    @property
    def fits_backend(self) -> bool:
        """Whether it runs on the backend that Keras has, or will have."""
        return self.backends is None or keras_backend() in self.backends

    def check(self) -> None:
        """Raise InvalidParameterError if this engine cannot run here, and say what to do."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise InvalidParameterError(
                f"engine={self.name!r} needs {' and '.join(missing)}, which cannot be imported. "
                f"Run: pip install transferclf[{self.name}]"
            )
        if not self.fits_backend:
            raise InvalidParameterError(
                f"engine={self.name!r} needs Keras on TensorFlow; it runs on {keras_backend()}. "
                "Take engine='keras', or set KERAS_BACKEND=tensorflow."
            )


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True where the system does not say."""
    try:
        facts = _CPU_FACTS.read_text()
    except OSError:
        return True
    return not _BFLOAT16_FLAGS.isdisjoint(facts.split())


def keras_backend() -> str:
    """Keras' backend, or what it will be: Keras' own rules, without importing it."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):  # imported, and not just being imported
        return str(keras.backend.backend())
    return os.environ.get("KERAS_BACKEND") or _configured_backend()


def _configured_backend() -> str:
    # A user without a home folder is no error: the name stays as it is, and no file is found.
    folder = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        return str(json.loads((Path(folder) / "keras.json").read_text())["backend"])
    except (OSError, ValueError, LookupError, TypeError):
        return "tensorflow"
