"""Learning rates of a whole phase, one for each step, known before it begins.

They are computed once, as a vector on the host: another schedule is other numbers, not another
graph to be traced.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from keras.optimizers.schedules import LearningRateSchedule

# "plateau" depends on the course of the training, so that it is no function of the step.
SCHEDULES = ("auto", "plateau", "cosine", "exponential")

# Share of the learning rate that is left after an "exponential" phase.
EXPONENTIAL_END = 0.01


def check_schedule(value: object) -> None:
    """Raise InvalidParameterError unless `value` is None, a name or a Keras schedule."""
    is_name = isinstance(value, str) and value in SCHEDULES
    if value is not None and not is_name and not _is_keras_schedule(value):
        raise InvalidParameterError(
            f"lr_schedule must be None, {', '.join(map(repr, SCHEDULES))} or a "
            f"keras.optimizers.schedules.LearningRateSchedule. Got {value!r} instead."
        )


def rates(
    schedule: LearningRateSchedule | str | None,
    learning_rate: float | None,
    steps: int,
    warmup: float = 0.0,
) -> np.ndarray:
    """Return the learning rate of each step of a phase, float32 of shape (steps,).

    None is constant, and so is "plateau" as long as nothing lowers it. "cosine" is half a cosine
    down to 0, "exponential" goes down to a hundredth; both reach their end with the step after the
    last one, as schedules of Keras do. Before that, the rate rises linearly during `warmup`, a
    share of the steps. A Keras schedule is scaled to begin at `learning_rate`, or
    left as it is where that is None. InvalidParameterError is raised if it gives rates that are
    negative or not finite, or begins at 0 and so cannot be scaled.

    Source for "cosine": Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", ICLR 2017.
    """
    check_schedule(schedule)
    is_keras = _is_keras_schedule(schedule)
    if learning_rate is not None or not is_keras:
        check_number("learning_rate", learning_rate, 0, above=True)
    check_number("steps", steps, 0, whole=True)
    if is_keras:
        found = _of_keras(schedule, learning_rate, steps)
    else:
        rising = int(warmup * steps)
        rise = np.arange(1, rising + 1) / (rising + 1)
        found = learning_rate * np.concatenate([rise, _fractions(schedule, steps - rising)])
    return found.astype(np.float32)


def _fractions(schedule: object, steps: int) -> np.ndarray:
    """Return the share that each step has of the first step's rate."""
    done = np.arange(steps) / max(steps, 1)
    if schedule == "cosine":
        return (1 + np.cos(np.pi * done)) / 2
    if schedule == "exponential":
        return EXPONENTIAL_END**done
    return np.ones(steps)


def _of_keras(
    schedule: LearningRateSchedule, learning_rate: float | None, steps: int
) -> np.ndarray:
    import keras

    def values(step: int | np.ndarray) -> np.ndarray:
        return np.asarray(keras.ops.convert_to_numpy(schedule(step)), dtype=np.float64)

    # All steps at once take a millisecond, and so does each single one. But somebody's own schedule
    # may branch on the step, and so do those of Keras with a warm-up.
    is_of_keras = type(schedule).__module__.split(".")[0] == "keras"
    if is_of_keras and getattr(schedule, "warmup_target", None) is None:
        found = np.broadcast_to(values(np.arange(steps)), (steps,))
    else:
        found = np.array([values(step).item() for step in range(steps)], dtype=np.float64)
    wrong = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(wrong):
        raise InvalidParameterError(
            f"expected learning rates that are finite and not negative. Got {found[wrong[0]]:g} at "
            f"step {wrong[0]} of {type(schedule).__name__} instead."
        )
    if learning_rate is None or not len(found):
        return found
    if found[0] == 0:
        raise InvalidParameterError(
            f"a schedule that begins at 0 cannot be scaled to begin at {learning_rate:g}. Take "
            "None for the learning rate, which leaves the schedule as it is."
        )
    return found * (learning_rate / found[0])


def _is_keras_schedule(value: object) -> bool:
    # Keras is imported already wherever there is such an object.
    optimizers = getattr(sys.modules.get("keras"), "optimizers", None)
    return optimizers is not None and isinstance(value, optimizers.schedules.LearningRateSchedule)
