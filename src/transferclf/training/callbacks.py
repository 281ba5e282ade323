"""Keras' callbacks during a phase: the user's, early stopping, and lowering the learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from transferclf.training.recipe import Recipe

# On a plateau the learning rate becomes a fifth, after half the patience of early stopping.
PLATEAU_FACTOR = 0.2
PLATEAU_PATIENCE = 3


class NoCallbacks:
    """Listens to nothing; so that training heads need not ask Keras."""

    watches_batches = False

    def on_epoch_begin(self, epoch: int) -> None:
        """Do nothing."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        """Do nothing."""


@contextmanager
def callback_list(
    recipe: Recipe, model: keras.Model, measured: Callable[[], dict[str, float]]
) -> Iterator[Any]:
    """What a phase tells of its epochs, from the beginning of training to its end.

    Parameters
    ----------
    recipe : Recipe
        Its callbacks are copied.
    model : keras.Model
        What is trained.
    measured : callable
        Gives "val_loss" and "val_accuracy" of the model as it is, or nothing.
    """
    import keras

    before = measured()
    stopping = _early_stopping(recipe)
    callbacks = [*copy.deepcopy(recipe.callbacks), *stopping, *_on_plateau(recipe, before)]
    if not callbacks:
        yield NoCallbacks()
        return
    parameters = {"epochs": recipe.epochs, "verbose": 0}
    told = keras.callbacks.CallbackList(callbacks, model=model, **parameters)
    told.watches_batches = any(map(_watches_batches, callbacks))
    told.on_train_begin()
    for callback in stopping:
        # What training starts from may be the best there is: a head at its optimum, say.
        callback.on_epoch_end(0, before)
    yield told
    told.on_train_end()


def _early_stopping(recipe: Recipe) -> list[Any]:
    import keras

    if recipe.patience is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            "val_loss", patience=recipe.patience, restore_best_weights=True
        )
    ]


def _on_plateau(recipe: Recipe, measured: dict[str, float]) -> list[Any]:
    import keras

    if recipe.schedule != "plateau":
        return []
    monitor = "val_loss" if measured else "loss"
    patience = PLATEAU_PATIENCE if recipe.patience is None else max(recipe.patience // 2, 1)
    return [keras.callbacks.ReduceLROnPlateau(monitor, PLATEAU_FACTOR, patience)]


def _watches_batches(callback: Any) -> bool:
    import keras

    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    plain = keras.callbacks.Callback
    # Of the object, not of its class: LambdaCallback has hooks that were given to it.
    found = [getattr(getattr(callback, hook), "__func__", None) for hook in hooks]
    return any(hook is not getattr(plain, name) for hook, name in zip(found, hooks, strict=True))
