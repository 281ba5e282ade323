"""The recipe of a phase of training, in the words of Keras."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transferclf.augmentation.recipe import Augmentation
from transferclf.graphs.known import is_of_keras

if TYPE_CHECKING:
    import keras

Key = tuple[object, ...]

# Samples in a step, by default: of a head or a new network, and of fine-tuning.
BATCH_SIZE, TUNING_BATCH_SIZE = 32, 16

# Steps of fine-tuning, and passes over the images, at least.
STEPS = 400
LEAST_EPOCHS = 5


@dataclass(frozen=True)
class Method:
    """How a suffix is trained, as far as it is compiled into the training function.

    `optimizer` is one of Keras' names, or an optimizer that is copied without its state.
    `augmentation` varies the pixels or activations of every batch afresh. `layer_decay` is a factor
    on the steps of each layer below the head, once for each layer it is below. `weight_decay` and
    `global_clipnorm` are arguments of an optimizer by name; None is its own default. With
    `runs_prefix` rows are pixels, and each step runs the frozen part below the cut on them.
    """

    optimizer: str | keras.optimizers.Optimizer = "sgd"
    augmentation: Augmentation | None = None
    layer_decay: float = 1.0
    weight_decay: float | None = None
    global_clipnorm: float | None = None
    runs_prefix: bool = False

    @property
    def key(self) -> Key:
        """Equal for methods that are compiled to the same function."""
        optimizer: object = self.optimizer
        if not isinstance(self.optimizer, str):
            config = json.dumps(self.optimizer.get_config(), sort_keys=True, default=repr)
            optimizer = (type(self.optimizer), config)
        digest = None if self.augmentation is None else self.augmentation.digest
        factors = (self.layer_decay, self.weight_decay, self.global_clipnorm)
        return (optimizer, digest, *factors, self.runs_prefix)

    @property
    def has_unknown_code(self) -> bool:
        """Whether the optimizer has code of the user's own, which may read changing values."""
        kind = type(self.optimizer)
        return kind is not str and not is_of_keras(kind.__module__)

    def new_optimizer(self) -> keras.optimizers.Optimizer:
        """Return a new optimizer with a learning rate that can be set."""
        import keras

        if isinstance(self.optimizer, str):
            given = {"weight_decay": self.weight_decay, "global_clipnorm": self.global_clipnorm}
            config = {name: value for name, value in given.items() if value is not None}
            return keras.optimizers.get({"class_name": self.optimizer, "config": config})
        config = self.optimizer.get_config()
        if not isinstance(config["learning_rate"], float | int):
            config["learning_rate"] = 1e-3  # in the place of a schedule, which the recipe follows
        return type(self.optimizer).from_config(config)


@dataclass(frozen=True)
class Recipe:
    """How a suffix is trained, in the words of Keras.

    `l1` and `l2` are the weights of the sums of absolute values and of squares of the kernels of
    dense layers. `dropout` has a rate for each dropout of the suffix. `callbacks` are the user's
    own objects, not copies. `seed` determines initial weights, orders, dropout and augmentation.
    The learning rate rises from near 0 in the first steps, `warmup` of them as a share of all.

    `soup` is the share of the trained weights in the result; the rest are the weights that the
    phase began with. "auto" chooses it by the losses on validation samples.
    """

    method: Method
    learning_rate: float | None  # None is the optimizer's own
    epochs: int | None  # None follows from the number of samples
    batch_size: int
    l1: float = 0.0
    l2: float = 0.0
    dropout: tuple[float, ...] = ()
    schedule: str | keras.optimizers.schedules.LearningRateSchedule | None = None
    warmup: float = 0.0
    soup: float | str = 1.0
    # Epochs without a lower validation loss before training stops; None trains to the end.
    patience: int | None = None
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    seed: int = 0
    part: str = "head"  # one of heads.history.PARTS

    def epochs_for(self, n_samples: int) -> int:
        """Return the number of epochs."""
        return n_epochs(n_samples, self.batch_size) if self.epochs is None else self.epochs


def n_epochs(n_samples: int, batch_size: int) -> int:
    """Return the number of epochs of fine-tuning that gives enough steps.

    The result of fine-tuning follows the number of steps, not that of epochs: a small set needs
    more epochs.

    Examples
    --------
    >>> n_epochs(1000, 32), n_epochs(100_000, 32)
    (13, 5)
    """
    return max(-(-STEPS // -(-n_samples // batch_size)), LEAST_EPOCHS)
