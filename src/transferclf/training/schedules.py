"""Learning rates of a whole phase, one for each step, known before it begins.

They are computed once, as a vector on the host: another schedule is other numbers, not another
graph to be traced.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule

# "plateau" depends on what the training shows, so that it is no function of the step.
SCHEDULES = ("plateau", "cosine", "exponential")

# What is left of the learning rate after an "exponential" phase.
EXPONENTIAL_END = 0.01


def check_schedule(value: Any) -> None:
    """Raise InvalidParameterError unless `value` is None, a name or a Keras schedule.

    Keras is not imported here: it is imported already wherever there is such an object.
    """
    is_name = isinstance(value, str) and value in SCHEDULES
    if value is not None and not is_name and not _is_keras_schedule(value):
        raise InvalidParameterError(
            f"lr_schedule must be None, {', '.join(map(repr, SCHEDULES))} or a "
            f"keras.optimizers.schedules.LearningRateSchedule. Got {value!r} instead."
        )


def rates(
    schedule: LearningRateSchedule | str | None, learning_rate: float | None, steps: int
) -> np.ndarray:
    """Return the learning rate of each step of a phase, float32 of shape (steps,).

    None is constant, and so is "plateau" as long as nothing lowers it. "cosine" is half a cosine
    down to 0 [1]_, "exponential" goes down to a hundredth; both reach their end with the step after
    the last one, as schedules of Keras do. A Keras schedule is scaled to begin at `learning_rate`,
    or left as it is where that is None.

    Raises
    ------
    InvalidParameterError
        If a Keras schedule gives rates that are negative or not finite, or begins at 0 and so
        cannot be scaled.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.

    Examples
    --------
    >>> rates("cosine", 0.1, steps=2).round(3).tolist()
    [0.10000000149011612, 0.05000000074505806]
    """
    check_schedule(schedule)
    _check_numbers(learning_rate, steps, may_be_none=_is_keras_schedule(schedule))
    if _is_keras_schedule(schedule):
        found = _scaled(_of_keras(schedule, steps), learning_rate)
    else:
        found = learning_rate * _fractions(schedule, steps)
    return found.astype(np.float32)


def _fractions(schedule: Any, steps: int) -> np.ndarray:
    """What each step has of the first step's rate."""
    done = np.arange(steps) / max(steps, 1)
    if schedule == "cosine":
        return (1 + np.cos(np.pi * done)) / 2
    if schedule == "exponential":
        return EXPONENTIAL_END**done
    return np.ones(steps)


def _of_keras(schedule: Any, steps: int) -> np.ndarray:
    import keras

    def values(step: Any) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(schedule(step)), dtype=np.float64)

    if _takes_vectors(schedule):
        found = np.broadcast_to(values(np.arange(steps)), (steps,))
    else:
        found = np.array([values(step).item() for step in range(steps)], dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise InvalidParameterError(
            f"expected learning rates that are finite and not negative. Got {found[wrong[0]]:g} at "
            f"step {wrong[0]} of {type(schedule).__name__} instead."
        )
    return found


def _takes_vectors(schedule: Any) -> bool:
    """Whether all steps can be asked for at once, a millisecond for all instead of for each.

    Somebody's own schedule may branch on the step, and so do those of Keras with a warm-up.
    """
    is_of_keras = type(schedule).__module__.split(".")[0] == "keras"
    return is_of_keras and getattr(schedule, "warmup_target", None) is None


def _scaled(found: np.ndarray, learning_rate: float | None) -> np.ndarray:
    if learning_rate is None or not len(found):
        return found
    if found[0] == 0:
        raise InvalidParameterError(
            f"a schedule that begins at 0 cannot be scaled to begin at {learning_rate:g}. Take "
            "None for the learning rate, which leaves the schedule as it is."
        )
    return found * (learning_rate / found[0])


def _is_keras_schedule(value: Any) -> bool:
    optimizers = getattr(sys.modules.get("keras"), "optimizers", None)
    return optimizers is not None and isinstance(value, optimizers.schedules.LearningRateSchedule)


def _check_numbers(learning_rate: Any, steps: Any, may_be_none: bool) -> None:
    if learning_rate is not None or not may_be_none:
        check_number("learning_rate", learning_rate, 0, above=True)
    check_number("steps", steps, 0, whole=True)
