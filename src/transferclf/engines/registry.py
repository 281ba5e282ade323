"""The registry of engines: their names, which can run here, and which is "auto".

Imports neither Keras nor the packages of an engine.
"""

from __future__ import annotations

from transferclf._checks import check_choice
from transferclf.engines.engine import PRECISIONS, Engine, has_bfloat16
from transferclf.engines.function import FunctionEngine
from transferclf.engines.keras import KerasEngine
from transferclf.engines.onnxruntime import OnnxRuntimeEngine
from transferclf.engines.openvino import OpenVinoEngine
from transferclf.engines.tensorflow import TensorFlowEngine
from transferclf.exceptions import InvalidParameterError

AUTO = "auto"

_ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        TensorFlowEngine(),
        OnnxRuntimeEngine(),
        OpenVinoEngine(),
        KerasEngine(),
        FunctionEngine(),
    )
}


def register_engine(engine: Engine) -> None:
    """Add an engine, which `engine=` of the estimators can then name.

    Parameters
    ----------
    engine : Engine
        An engine with a new name.

    Raises
    ------
    InvalidParameterError
        If there is an engine of this name.
    """
    if engine.name in (AUTO, *_ENGINES):
        raise InvalidParameterError(f"There is an engine {engine.name!r} already.")
    _ENGINES[engine.name] = engine


def engine_names() -> tuple[str, ...]:
    """Return all values of `engine=`, "auto" first."""
    return (AUTO, *(name for name, engine in _ENGINES.items() if engine.is_offered))


def check_engine(name: str, precision: str = "float32", network: str = "keras") -> None:
    """Raise InvalidParameterError unless an engine runs this kind of network at this precision."""
    check_choice("engine", name, engine_names())
    check_choice("precision", precision, PRECISIONS)
    engine = engine_for(name, network)
    if network not in engine.networks:
        raise InvalidParameterError(
            f"engine={name!r} cannot run a backbone that is a {network}. Leave engine='auto'."
        )
    engine.check(network)
    if precision not in engine.precisions:
        others = [
            repr(other.name)
            for other in _ENGINES.values()
            if precision in other.precisions and network in other.networks
        ]
        hint = f"A backbone that is a {network} needs precision='float32'."
        if others:
            hint = f"For precision={precision!r} take engine={' or '.join(others)}."
        raise InvalidParameterError(f"engine={engine.name!r} computes in float32 only. {hint}")
    if precision == "bfloat16" and not has_bfloat16():
        # It would run, but slower than in float32.
        raise InvalidParameterError(
            "precision='bfloat16' needs a CPU with AVX512-BF16 or AMX (on ARM, BF16); this one has "
            "none of these and would be slower with it. Take precision='float32'."
        )


def engine_for(name: str, network: str = "keras") -> Engine:
    """Return the engine that a value of `engine=` stands for, for a network of this kind."""
    if name != AUTO:
        return _ENGINES[name]
    if network == "onnx":
        return _fastest_installed(network)
    candidates = [
        engine
        for engine in _ENGINES.values()
        if engine.is_for_auto and network in engine.networks and engine.fits_backend
    ]
    return max(candidates, key=lambda engine: engine.rank)


def _fastest_installed(network: str) -> Engine:
    """Return the fastest engine whose packages are here, for networks that need such packages."""
    known = [engine for engine in _ENGINES.values() if network in engine.networks]
    found = [engine for engine in known if not engine.missing(network)]
    if not found:
        names = " or ".join(engine.name for engine in known)
        raise InvalidParameterError(
            f"a backbone that is an {network} network needs {names}, and none of these can be "
            f"imported. Run: pip install {known[-1].name}"
        )
    return max(found, key=lambda engine: engine.rank)
