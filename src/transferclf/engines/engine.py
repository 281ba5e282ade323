"""The base of engines: objects that run frozen networks, and know whether they can run here.

Imports neither Keras nor an engine, so that parameters are checked before heavy imports.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import keras

Function = Callable[[np.ndarray], np.ndarray]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_CPU_FACTS = Path("/proc/cpuinfo")
# Linux' names of AVX512-BF16 and AMX on x86, and of bfloat16 on ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


class Engine(ABC):
    """Base of the engines.

    A subclass sets the attributes and writes :meth:`compile`. Its object is registered by
    :func:`transferclf.engines.registry.register_engine`.

    Attributes
    ----------
    name : str
        Its name in `engine=` of the estimators.
    rank : int
        A faster engine has a higher rank. "auto" takes the highest.
    packages : tuple of str, default=()
        Modules that it imports besides the dependencies of this package.
    backends : tuple of str or None, default=None
        Backends of Keras on which it runs Keras models; None is all.
    networks : tuple of str, default=("keras",)
        Kinds of networks that it runs: "keras" is a functional keras.Model, "function" a function
        of arrays, "onnx" an :class:`OnnxNetwork`, "torch" a torch.nn.Module.
    precisions : tuple of str, default=("float32",)
        The precisions it can compute in.
    is_for_auto : bool, default=False
        Whether "auto" may take it. False if it needs packages: otherwise their installation would
        change the features of a program.
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
    def compile(self, network: keras.Model | Function, precision: str) -> Function:
        """Return a function that runs a network, and may be called by several threads.

        Parameters
        ----------
        network : keras.Model, callable, OnnxNetwork or torch.nn.Module
            A network of one of the kinds in `networks`. A Keras model has one input and one output.
            Its batch normalisation is folded already.
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
    def has_bfloat16(self) -> bool:
        """Whether the processor on which it runs has instructions for bfloat16."""
        return has_bfloat16()

    def packages_for(self, network: str) -> tuple[str, ...]:
        """Return the modules that it imports for networks of a kind."""
        return self.packages

    def missing_for(self, network: str) -> list[str]:
        """Return those of `packages_for` that are not installed."""
        return [package for package in self.packages_for(network) if find_spec(package) is None]

    @property
    def fits_backend(self) -> bool:
        """Whether it runs Keras models on Keras' backend."""
        return self.backends is None or keras_backend() in self.backends

    def check(self, network: str = "keras") -> None:
        """Raise InvalidParameterError if it cannot run such networks here, and say what to do."""
        if missing := self.missing_for(network):
            raise InvalidParameterError(
                f"engine={self.name!r} needs {' and '.join(missing)}, which cannot be imported. "
                f"Run: pip install transferclf[{self.name}]"
            )
        if network == "keras" and not self.fits_backend:
            raise InvalidParameterError(
                f"engine={self.name!r} needs Keras on TensorFlow; it runs on {keras_backend()}. "
                "Take engine='keras', or set KERAS_BACKEND=tensorflow."
            )


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True if the system does not say."""
    try:
        facts = _CPU_FACTS.read_text()
    except OSError:
        return True
    return not _BFLOAT16_FLAGS.isdisjoint(facts.split())


def keras_backend() -> str:
    """Return Keras' backend, by Keras' own rules if it has not been imported."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "backend"):  # the import has been completed
        return str(keras.backend.backend())
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    # Without a home folder, the name keeps its ~, and no file is found.
    folder = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    try:
        return str(json.loads((Path(folder) / "keras.json").read_text())["backend"])
    except (OSError, ValueError, LookupError, TypeError):
        return "tensorflow"
