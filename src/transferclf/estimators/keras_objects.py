"""Checks of parameters that are objects of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import keras

    from transferclf.estimators.parameters import Parameters, Schedule

_SAVING = ("BackupAndRestore", "ModelCheckpoint", "OrbaxCheckpoint")


def schedule_of(optimizer: keras.optimizers.Optimizer) -> Schedule:
    """Return the learning rate schedule that an optimizer was made with, or None."""
    import keras

    config = optimizer.get_config()["learning_rate"]
    return keras.optimizers.schedules.deserialize(config) if isinstance(config, dict) else None


def check_callbacks(callbacks: object) -> None:
    """Raise InvalidParameterError unless these are callbacks that can watch a phase."""
    if not callbacks and isinstance(callbacks, tuple | list | None):
        return
    # Keras is imported already wherever there is a callback.
    import keras

    kind = keras.callbacks.Callback
    if not isinstance(callbacks, tuple | list) or not all(isinstance(c, kind) for c in callbacks):
        raise InvalidParameterError(
            "callbacks must be None or a sequence of keras.callbacks.Callback. "
            f"Got {callbacks!r} instead."
        )
    # They would write the part above the cut, in layers that Keras cannot load.
    saving = tuple(filter(None, (getattr(keras.callbacks, name, None) for name in _SAVING)))
    for callback in callbacks:
        if isinstance(callback, saving):
            raise InvalidParameterError(
                f"callbacks must not have a {type(callback).__name__}: it would save only the part "
                "of the network that is trained, which cannot be loaded. early_stopping=True "
                "brings the best weights back, and transferclf.save_model(classifier, path) saves "
                "the fitted classifier."
            )


def check_own_head(parameters: Parameters) -> None:
    """Raise InvalidParameterError unless `head` can be in the place of the hidden layers."""
    head = parameters.head
    if head is None:
        return
    if not callable(head) or isinstance(head, type):
        raise InvalidParameterError(
            "head must be None, a function from a Keras tensor of activations to one of features, "
            f"or a Keras layer or model that is one. Got {head!r} instead."
        )
    if parameters.units or np.any(parameters.dropout) or parameters.batch_norm:
        raise InvalidParameterError(
            "head is in the place of the hidden layers: leave hidden_units=(), dropout=0 and "
            "batch_norm=None, and put such layers into head."
        )
