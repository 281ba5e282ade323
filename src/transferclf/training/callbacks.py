"""Keras' callbacks during a phase: the user's, early stopping, and lowering the learning rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    from transferclf.training.recipe import Recipe

# On a plateau the learning rate becomes a fifth, after half the patience of early stopping.
PLATEAU_FACTOR = 0.2
PLATEAU_PATIENCE = 3

_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


@contextmanager
def told_callbacks(
    recipe: Recipe,
    model: keras.Model,
    measured: Callable[[], dict[str, float]],
    length: tuple[int, int],
    first_epoch: int,
) -> Iterator[keras.callbacks.CallbackList]:
    """Tell the callbacks of a phase that training begins, and at its end or failure that it ends.

    The user's callbacks are called themselves, not copies, so that they keep their records.
    Afterwards they hold neither the model, which other fits go on to train, nor files that they
    have closed, so that the estimator can be copied and pickled.

    `length` is the number of epochs, and of batches in each. `measured` returns the measures of the
    present weights on validation samples, or an empty dict. Call the yielded list at epochs and, if
    `watches_batches`, at batches. After the ``with`` block its `kept_epoch(done)` returns the epoch
    whose weights the model has.
    """
    import keras

    before = measured()
    stopping, on_plateau = _of_recipe(recipe, has_validation=bool(before))
    callbacks = [*recipe.callbacks, *stopping, *on_plateau]
    # Given the model here, Keras' list would tie a History among the callbacks to it.
    epochs, steps = length
    told = keras.callbacks.CallbackList(callbacks, epochs=epochs, steps=steps, verbose=0)
    told.watches_batches = any(map(_watches_batches, callbacks))
    told.kept_epoch = lambda done: _kept_epoch(callbacks, done)
    try:
        for callback in callbacks:
            callback.set_model(model)
        told.on_train_begin()
        for callback in stopping:
            # The initial weights may be the best, such as those of a head at its optimum.
            callback.on_epoch_end(first_epoch - 1, before)
        yield told
    except BaseException:
        with suppress(Exception):  # the caller has to see the first error
            told.on_train_end()
        raise
    else:
        told.on_train_end()
    finally:
        _detach(callbacks, model)


def _kept_epoch(callbacks: Sequence[keras.callbacks.Callback], done: int) -> int:
    """Return the epoch whose weights `on_train_end` has left."""
    import keras

    kept = done
    for callback in callbacks:
        is_stopping = isinstance(callback, keras.callbacks.EarlyStopping)
        if is_stopping and callback.restore_best_weights and callback.best_weights is not None:
            kept = callback.best_epoch + 1
    return kept


def _detach(callbacks: Sequence[keras.callbacks.Callback], model: keras.Model) -> None:
    """Take the model and closed files from the callbacks, and a History from the model.

    `set_model(None)` would not do: callbacks override it to do more than to keep the model.
    """
    for callback in callbacks:
        for name, value in list(vars(callback).items()):
            is_closed = isinstance(value, io.IOBase) and value.closed
            if value is model or is_closed:
                setattr(callback, name, None)
    if hasattr(model, "history"):
        del model.history


def _of_recipe(
    recipe: Recipe, has_validation: bool
) -> tuple[list[keras.callbacks.Callback], list[keras.callbacks.Callback]]:
    """Return early stopping and lowering of the learning rate, where the recipe has them."""
    from keras.callbacks import EarlyStopping, ReduceLROnPlateau

    stopping, on_plateau, patience = [], [], recipe.patience
    if patience is not None:
        # The state before epoch 0 counts, too.
        options = {"restore_best_weights": True, "start_from_epoch": -1}
        stopping = [EarlyStopping("val_loss", patience=patience, **options)]
    if recipe.schedule == "plateau":
        monitor = "val_loss" if has_validation else "loss"
        wait = PLATEAU_PATIENCE if patience is None else max(patience // 2, 1)
        on_plateau = [ReduceLROnPlateau(monitor, PLATEAU_FACTOR, wait)]
    return stopping, on_plateau


def _watches_batches(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback overrides a hook for batches."""
    import keras

    plain = keras.callbacks.Callback
    # The object is asked, not its class: LambdaCallback has hooks that were given to it.
    found = {name: getattr(getattr(callback, name), "__func__", None) for name in _BATCH_HOOKS}
    return any(hook is not getattr(plain, name) for name, hook in found.items())
