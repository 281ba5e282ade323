"""The base of engines: objects that run frozen networks, and know whether they can run here.

Imports neither Keras nor an engine, so that parameters are checked before heavy imports.
"""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from transferclf.exceptions import InvalidParameterError, how_to_install

if TYPE_CHECKING:
    import keras

Function = Callable[[np.ndarray], np.ndarray]
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# Batches have this size or 1. Kernels may sum in another order for another size. With fixed sizes a
# row does not depend on how many images the caller passes.
BATCH_SIZE = 32

# TensorFlow can use the memory of an array that begins at a multiple of so many bytes.
ALIGNMENT = 64

_CPU_FACTS = Path("/proc/cpuinfo")
# Linux' names of AVX512-BF16 and AMX on x86, and of bfloat16 on ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# Linux has one of these where a driver of a GPU is loaded: of Nvidia, of Windows below, of AMD.
_GPU_DRIVERS = (Path("/proc/driver/nvidia"), Path("/dev/dxg"), Path("/dev/kfd"))


class Engine(ABC):
    """Base of the engines.

    A subclass sets the attributes and writes :meth:`compile`. Its object is registered by
    :func:`transferclf.engines.registry.register_engine`.

    Attributes
    ----------
    name : str
        Its name in `engine=` of the estimators.
    rank : int
        How fast it was measured to be on a few hundred images, with the time to compile counted: a
        faster engine has a higher rank.
        :func:`transferclf.engines.registry.engines_for` has the rule of "auto".
    packages : tuple of str, default=()
        Modules that it imports.
    converters : tuple of str, default=()
        Modules that it also imports for Keras models.
    backends : tuple of str or None, default=None
        Backends of Keras on which it runs Keras models; None is all.
    networks : tuple of str, default=("keras",)
        Kinds of networks that it runs, each the `kind` of a backbone: "keras" is a functional
        keras.Model, "function" a function of arrays, "onnx" an :class:`OnnxNetwork`,
        "torch" a torch.nn.Module.
    precisions : tuple of str, default=("float32",)
        The precisions it can compute in.
    is_for_auto : bool, default=False
        Whether "auto" may take it.
    least_values : int, default=0
        Number of input values of an image. Networks with fewer cost so little that a few hundred
        images do not make up for the time to compile: "auto" takes other engines first.
    is_offered : bool, default=True
        Whether `engine=` may name it.
    """

    name: str
    rank: int
    packages: tuple[str, ...] = ()
    converters: tuple[str, ...] = ()
    backends: tuple[str, ...] | None = None
    networks: tuple[str, ...] = ("keras",)
    precisions: tuple[str, ...] = ("float32",)
    is_for_auto: bool = False
    least_values: int = 0
    is_offered: bool = True

    @abstractmethod
    def compile(self, network: keras.Model | Function, precision: str) -> Function:
        """Return a function that runs a network, and may be called by several threads.

        Parameters
        ----------
        network : keras.Model or callable
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

    def missing(self, network: str = "keras") -> list[str]:
        """Return the modules that cannot be imported, of those needed for a kind of network."""
        needed = self.packages + (self.converters if network == "keras" else ())
        return [package for package in needed if find_spec(package) is None]

    @property
    def fits_backend(self) -> bool:
        """Whether it runs Keras models on Keras' backend."""
        return self.backends is None or keras_backend() in self.backends

    def can_run(self, network: str = "keras") -> bool:
        """Whether it can run this kind of network here."""
        fits = network != "keras" or self.fits_backend
        return network in self.networks and fits and not self.missing(network)

    def has_gpu(self) -> bool:
        """Whether it would compute on a GPU here."""
        return False

    def has_bfloat16(self) -> bool:
        """Whether the processor on which it computes has instructions for bfloat16."""
        return cpu_has_bfloat16() or self.has_gpu()

    def check(self, network: str = "keras") -> None:
        """Raise InvalidParameterError if it cannot run this kind of network, and say what to do."""
        missing = self.missing(network)
        if missing:
            raise InvalidParameterError(
                f"engine={self.name!r} needs {' and '.join(missing)}, which cannot be imported. "
                + how_to_install(self.name, missing)
            )
        if network == "keras" and not self.fits_backend:
            raise InvalidParameterError(
                f"engine={self.name!r} needs Keras on TensorFlow; it runs on {keras_backend()}. "
                "Take engine='keras', or set KERAS_BACKEND=tensorflow."
            )


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, or Keras' backend sees a GPU.

    True if the system does not tell the instructions of its CPU.
    """
    return cpu_has_bfloat16() or sees_gpu(keras_backend())


def cpu_has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16; True if the system does not say."""
    try:
        facts = _CPU_FACTS.read_text()
    except OSError:
        return True
    return not _BFLOAT16_FLAGS.isdisjoint(facts.split())


def sees_gpu(library: str) -> bool:
    """Whether TensorFlow, PyTorch or JAX computes on a GPU.

    Imports the library only on Linux with the driver of a GPU. On other systems it asks a library
    that is imported already.
    """
    if sys.platform == "linux":
        if not any(driver.exists() for driver in _GPU_DRIVERS):
            return False
    elif library not in sys.modules:
        return False
    try:
        module = import_module(library)
    except ImportError:
        return False
    if library == "tensorflow":
        return bool(module.config.list_physical_devices("GPU"))
    if library == "torch":
        return bool(module.cuda.is_available())
    return library == "jax" and module.default_backend() in ("gpu", "cuda", "rocm")


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
