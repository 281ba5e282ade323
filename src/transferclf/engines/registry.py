"""The registry of engines: their names, which can run here, and which is "auto".

Imports neither Keras nor the packages of an engine.
"""

from __future__ import annotations

import math

from transferclf._checks import check_choice
from transferclf.engines.engine import PRECISIONS, Engine
from transferclf.engines.function import FunctionEngine
from transferclf.engines.keras import KerasEngine
from transferclf.engines.onnxruntime import OnnxRuntimeEngine
from transferclf.engines.openvino import OpenVinoEngine
from transferclf.engines.tensorflow import TensorFlowEngine
from transferclf.engines.torch import TorchEngine
from transferclf.exceptions import InvalidParameterError

AUTO = "auto"

Shape = tuple[int | None, ...] | None

# The kinds of networks in words.
_KINDS = {
    "keras": "a Keras model",
    "function": "a function",
    "onnx": "an ONNX file",
    "torch": "a network of PyTorch",
}

_ENGINES: dict[str, Engine] = {
    engine.name: engine
    for engine in (
        TensorFlowEngine(),
        OnnxRuntimeEngine(),
        OpenVinoEngine(),
        TorchEngine(),
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


def engine_names(network: str | None = None) -> tuple[str, ...]:
    """Return all values of `engine=`, or those for a kind of network; "auto" first."""
    engines = (it for it in _ENGINES.values() if network is None or network in it.networks)
    return (AUTO, *(engine.name for engine in engines if engine.is_offered))


def check_engine(name: str, precision: str = "float32", network: str = "keras") -> None:
    """Raise InvalidParameterError unless an engine runs this kind of network at this precision."""
    check_choice("engine", name, engine_names())
    check_choice("precision", precision, PRECISIONS)
    engines = _candidates(name, network, precision)
    if not engines or network not in engines[0].networks:
        raise InvalidParameterError(
            f"engine={name!r} cannot run a backbone that is {_KINDS.get(network, network)}. Leave "
            "engine='auto'."
        )
    engine = engines[0]
    engine.check(network)
    if precision not in engine.precisions:
        others = [
            repr(other.name)
            for other in _ENGINES.values()
            if precision in other.precisions and network in other.networks
        ]
        hint = f"A backbone that is {_KINDS.get(network, network)} needs precision='float32'."
        if others:
            hint = f"For precision={precision!r} take engine={' or '.join(others)}."
        raise InvalidParameterError(f"engine={engine.name!r} computes in float32 only. {hint}")
    if precision == "bfloat16" and not any(candidate.has_bfloat16() for candidate in engines):
        # It would run, but slower than in float32.
        raise InvalidParameterError(
            "precision='bfloat16' needs a CPU with AVX512-BF16 or AMX (on ARM, BF16), or a GPU; "
            "this machine has none of these and would be slower with it. Take precision='float32'."
        )


def engine_for(
    name: str, network: str = "keras", precision: str = "float32", shape: Shape = None
) -> Engine:
    """Return the engine that a value of `engine=` stands for; see :func:`engines_for`."""
    return engines_for(name, network, precision, shape)[0]


def engines_for(
    name: str, network: str = "keras", precision: str = "float32", shape: Shape = None
) -> list[Engine]:
    """Return the engine of this name; for "auto", all that can run the network here, best first.

    `shape` is that of one input, such as (h, w, 3); None is a large one.

    The rule of "auto": an engine counts if its modules are installed, and if it runs this kind of
    network, on Keras' backend, at this precision. If one of them would compute on a GPU, it comes
    first. An engine whose `least_values` are more than the input has comes last. Else the `rank`
    decides, which says how fast an engine was measured to be.
    """
    sides = [side or math.inf for side in shape or [None]]
    size = math.prod(sides)

    def merit(engine: Engine) -> tuple[bool, bool, int]:
        return engine.has_gpu(), engine.least_values <= size, engine.rank

    return sorted(_candidates(name, network, precision), key=merit, reverse=True)


def _candidates(name: str, network: str, precision: str) -> list[Engine]:
    """Return the engines that may run the network; the first can, if any of them can."""
    if name != AUTO:
        return [_ENGINES[name]]
    known = [it for it in _ENGINES.values() if it.is_for_auto and network in it.networks]
    # If none can run, the check of the fastest says what is missing.
    known = sorted(known, key=lambda engine: engine.rank, reverse=True)
    usable = [engine for engine in known if engine.can_run(network)]
    exact = [engine for engine in usable if precision in engine.precisions]
    return exact or usable or known[:1]
