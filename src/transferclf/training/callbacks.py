"""Keras' callbacks during a phase: the user's, early stopping, and lowering the learning rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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

    def kept_epoch(self, done: int) -> int:
        """Return the last epoch: no weights came back."""
        return done


@contextmanager
def told_callbacks(
    recipe: Recipe,
    model: keras.Model,
    measured: Callable[[], dict[str, float]],
    n_batches: int,
    first_epoch: int,
) -> Iterator[Any]:
    """Tell the callbacks of a phase that training begins, and at its end or failure that it ends.

    The user's callbacks are called themselves, not copies, so that they keep what they noted.
    Afterwards they hold neither the model, which other fits go on to train, nor files that they
    have closed, so that the estimator can be copied and pickled.

    `measured` gives the measures on validation samples of the model as it is, or nothing. Yields a
    `keras.callbacks.CallbackList`, or `NoCallbacks`, to be told of epochs and, if
    `watches_batches`, of batches. After the ``with`` block `kept_epoch(done)` returns after which
    epoch the weights were reached that the model has.
    """
    before = measured()
    stopping = _early_stopping(recipe)
    callbacks = [*recipe.callbacks, *stopping, *_on_plateau(recipe, before)]
    if not callbacks:
        yield NoCallbacks()
        return
    told = _list_of(callbacks, {"epochs": recipe.epochs, "steps": n_batches, "verbose": 0})
    try:
        for callback in callbacks:
            callback.set_model(model)
        told.on_train_begin()
        for callback in stopping:
            # What training starts from may be the best there is: a head at its optimum, say.
            callback.on_epoch_end(first_epoch - 1, before)
        yield told
    except BaseException:
        with suppress(Exception):  # what went wrong first is what the caller has to know
            told.on_train_end()
        raise
    else:
        told.on_train_end()
    finally:
        _detach(callbacks, model)


def _list_of(callbacks: list[Any], parameters: dict[str, Any]) -> Any:
    """Make Keras' list of callbacks, still without a model.

    Given the model, it would tie a History among the callbacks to it.
    """
    import keras

    told = keras.callbacks.CallbackList(callbacks, **parameters)
    told.watches_batches = any(map(_watches_batches, callbacks))
    told.kept_epoch = lambda done: _kept_epoch(callbacks, done)
    return told


def _kept_epoch(callbacks: Sequence[Any], done: int) -> int:
    """After which epoch the weights were reached that `on_train_end` has left."""
    import keras

    kept = done
    for callback in callbacks:
        is_stopping = isinstance(callback, keras.callbacks.EarlyStopping)
        if is_stopping and callback.restore_best_weights and callback.best_weights is not None:
            kept = callback.best_epoch + 1
    return kept


def _detach(callbacks: Sequence[Any], model: keras.Model) -> None:
    """Take the model, and files that are closed, from the callbacks, and a History from the model.

    Not by `set_model(None)`, which callbacks override to do more with the model than to keep it.
    """
    for callback in callbacks:
        for name, value in list(vars(callback).items()):
            is_closed = isinstance(value, io.IOBase) and value.closed
            if value is model or is_closed:
                setattr(callback, name, None)
    if hasattr(model, "history"):
        del model.history


def _early_stopping(recipe: Recipe) -> list[Any]:
    import keras

    if recipe.patience is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            "val_loss",
            patience=recipe.patience,
            restore_best_weights=True,
            start_from_epoch=-1,  # the state before epoch 0 counts, too
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
