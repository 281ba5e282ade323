"""What can run a frozen network: the engines by name, and what each of them needs.

Imports neither Keras nor any engine, so that parameters can be checked before anything heavy is.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from transferclf._checks import check_choice
from transferclf.exceptions import InvalidParameterError

Engine = Literal["auto", "tensorflow", "onnxruntime", "openvino", "keras"]
Precision = Literal["float32", "bfloat16"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

# What each optional engine imports; the extra of this package that brings it has its name.
_PACKAGES = {"onnxruntime": ("onnxruntime", "tf2onnx"), "openvino": ("openvino",)}
# All others start from the graph that TensorFlow traces.
_WITHOUT_TENSORFLOW = ("keras",)
_WITH_BFLOAT16 = ("tensorflow", "openvino")

_CPU_FACTS = Path("/proc/cpuinfo")
# AVX512-BF16 and AMX as Linux names them on x86, and what it names them on ARM.
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


def check_engine(engine: str, precision: str = "float32") -> None:
    """Raise where this engine cannot run, or not with this precision, here.

    Parameters
    ----------
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}
        What is to run the network.
    precision : {"float32", "bfloat16"}, default="float32"
        What it is to compute in.

    Raises
    ------
    InvalidParameterError
        If a name is unknown, a package is missing, Keras runs on another backend than
        TensorFlow, or the engine or the CPU cannot compute in bfloat16.

    Examples
    --------
    >>> check_engine("keras", "bfloat16")
    Traceback (most recent call last):
      ...
    transferclf.exceptions.InvalidParameterError: engine='keras' computes in float32 only. For \
precision='bfloat16' take engine='tensorflow' or 'openvino'.
    """
    check_choice("engine", engine, ENGINES)
    check_choice("precision", precision, PRECISIONS)
    _check_packages(engine)
    _check_backend(engine)
    if precision == "bfloat16":
        _check_bfloat16(resolved_engine(engine))


def resolved_engine(engine: str = "auto") -> str:
    """The engine that a name stands for here; imports no engine.

    Parameters
    ----------
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        "auto" is "tensorflow" where that is Keras' backend, else "keras": never a package that
        happens to be installed, so that the same program gives the same features everywhere.

    Returns
    -------
    {"tensorflow", "onnxruntime", "openvino", "keras"}

    Examples
    --------
    >>> resolved_engine("openvino")
    'openvino'
    """
    if engine != "auto":
        return engine
    return "tensorflow" if _keras_backend() == "tensorflow" else "keras"


def has_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, as far as can be told.

    Returns
    -------
    bool
        True also where the system does not say what its CPU has (Windows, macOS).

    Examples
    --------
    >>> has_bfloat16() in (True, False)
    True
    """
    try:
        facts = _CPU_FACTS.read_text()
    except OSError:
        return True
    return not _BFLOAT16_FLAGS.isdisjoint(facts.split())


def _check_packages(engine: str) -> None:
    missing = [name for name in _PACKAGES.get(engine, ()) if find_spec(name) is None]
    if missing:
        raise InvalidParameterError(
            f"engine={engine!r} needs {' and '.join(missing)}, which cannot be imported. "
            f"Run: pip install transferclf[{engine}]"
        )


def _check_backend(engine: str) -> None:
    backend = _keras_backend()
    if backend != "tensorflow" and engine not in ("auto", *_WITHOUT_TENSORFLOW):
        raise InvalidParameterError(
            f"engine={engine!r} needs Keras on TensorFlow; it runs on {backend}. "
            "Take engine='keras', or set KERAS_BACKEND=tensorflow."
        )


def _check_bfloat16(engine: str) -> None:
    if engine not in _WITH_BFLOAT16:
        raise InvalidParameterError(
            f"engine={engine!r} computes in float32 only. For precision='bfloat16' take "
            f"engine={' or '.join(map(repr, _WITH_BFLOAT16))}."
        )
    if not has_bfloat16():
        # It would be computed, and slower than float32, which nobody asks for.
        raise InvalidParameterError(
            "precision='bfloat16' needs a CPU with AVX512-BF16 or AMX (on ARM, BF16); this one has "
            "none of these and would be slower with it. Take precision='float32'."
        )


def _keras_backend() -> str:
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
