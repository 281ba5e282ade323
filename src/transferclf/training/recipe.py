"""How a suffix is trained, in the words of Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transferclf.training.trainer import Method

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """How a suffix is trained, in the words of Keras.

    `l1` and `l2` are the weights of the sums of absolute values and of squares of the kernels of
    dense layers. `dropout` has a rate for each dropout of the suffix. `callbacks` are the user's
    own objects, not copies. `seed` determines initial weights, orders, dropout and augmentation.
    """

    method: Method
    learning_rate: float | None  # None is the optimizer's own
    epochs: int
    batch_size: int
    l1: float = 0.0
    l2: float = 0.0
    dropout: tuple[float, ...] = ()
    schedule: str | keras.optimizers.schedules.LearningRateSchedule | None = None
    # Epochs without a lower validation loss before training stops; None trains to the end.
    patience: int | None = None
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    seed: int = 0
    part: str = "head"  # one of heads.history.PARTS
