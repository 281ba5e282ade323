"""How a suffix is trained, in the words of Keras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transferclf.training.trainer import Method

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Recipe:
    """How a suffix is trained, in the words of Keras.

    Parameters
    ----------
    method : Method
        Optimizer, augmentation and layer-wise decay.
    learning_rate : float or None
        Step size; None is the optimizer's own.
    epochs, batch_size : int
        How often and how many at a time.
    l1, l2 : float, default=0.0
        Penalties on the kernels of the dense layers: sums of absolute values and of squares.
    dropout : tuple of float, default=()
        A rate for each dropout of the suffix.
    schedule : str, keras.optimizers.schedules.LearningRateSchedule or None, default=None
        How the learning rate changes.
    patience : int or None, default=None
        Epochs without a lower loss on the validation images after which training stops, and the
        best weights come back; None goes on to the end.
    callbacks : tuple of keras.callbacks.Callback, default=()
        Told of each phase; the very objects, not copies.
    seed : int, default=0
        Determines initial weights, orders, dropout and augmentation.
    part : {"head", "fine-tuning", "network"}, default="head"
        What is trained: the head on the frozen network, the head and layers of a pretrained
        network, or a whole network from random weights.
    """

    method: Method
    learning_rate: float | None
    epochs: int
    batch_size: int
    l1: float = 0.0
    l2: float = 0.0
    dropout: tuple[float, ...] = ()
    schedule: str | keras.optimizers.schedules.LearningRateSchedule | None = None
    patience: int | None = None
    callbacks: tuple[Any, ...] = ()
    seed: int = 0
    part: str = "head"
