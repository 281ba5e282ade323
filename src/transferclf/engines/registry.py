"""The registry of engines: names, what can run here, and what "auto" is.

Imports neither Keras nor any engine's packages.
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
    """Add an engine, which `engine=` of the estimators can name from then on.

    Parameters
    ----------
    engine : Engine
        An engine of another name than those that are known.

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
    """Raise InvalidParameterError if an engine cannot run here a network of this kind so precisely.

    Examples
    --------
    >>> check_engine("keras", "bfloat16")
    Traceback (most recent call last):
      ...
    transferclf.exceptions.InvalidParameterError: engine='keras' computes in float32 only. For \
precision='bfloat16' take engine='tensorflow' or 'openvino'.
    """
    names = engine_names()
    check_choice("engine", name, names)
    check_choice("precision", precision, PRECISIONS)
    engine = engine_for(name, network)
    if network not in engine.networks:
        raise InvalidParameterError(
            f"engine={name!r} cannot run a backbone that is a {network}. Leave engine='auto'."
        )
    engine.check()
    if precision not in engine.precisions:
        _refuse_precision(engine, precision, network)
    if precision == "bfloat16" and not has_bfloat16():
        # It would be computed, and slower than float32, which nobody asks for.
        raise InvalidParameterError(
            "precision='bfloat16' needs a CPU with AVX512-BF16 or AMX (on ARM, BF16); this one has "
            "none of these and would be slower with it. Take precision='float32'."
        )


def engine_for(name: str, network: str = "keras") -> Engine:
    """Return the engine that a value of `engine=` stands for, for a network of this kind."""
    if name != AUTO:
        return _ENGINES[name]
    candidates = [
        engine
        for engine in _ENGINES.values()
        if engine.is_for_auto and network in engine.networks and engine.fits_backend
    ]
    return max(candidates, key=lambda engine: engine.rank)


def _refuse_precision(engine: Engine, precision: str, network: str) -> None:
    others = [
        repr(other.name)
        for other in _ENGINES.values()
        if precision in other.precisions and network in other.networks
    ]
    hint = (
        f"For precision={precision!r} take engine={' or '.join(others)}."
        if others
        else f"A backbone that is a {network} needs precision='float32'."
    )
    raise InvalidParameterError(f"engine={engine.name!r} computes in float32 only. {hint}")
