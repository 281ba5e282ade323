"""One step of training, and many of them compiled into one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.objectives import Objective

if TYPE_CHECKING:
    import keras


def training_step(
    model: keras.Model, augmenter: Any, factors: Sequence[float], objective: Objective
) -> Callable[[Any, Any, Any], None]:
    """Return one step of training on a batch of rows, targets and weights."""
    import keras
    from keras import ops

    slowed = [
        (variable, factor)
        for variable, factor in zip(model.trainable_variables, factors, strict=True)
        if factor != 1
    ]

    def train(*batch: Any) -> None:
        if keras.backend.backend() == "jax":  # whose train_step is a function of all state
            model.train_on_batch(*map(np.asarray, batch))
        else:
            model.train_step(batch)

    def step(rows: Any, targets: Any, weights: Any) -> None:
        rows = ops.cast(rows, "float32")
        if augmenter is not None:
            rows, targets, weights = augmenter(rows, objective.spread(targets), weights)
        before = [ops.copy(variable) for variable, _ in slowed]
        train(rows, targets, weights)
        # The step of any optimizer is in proportion to its learning rate.
        for (variable, factor), old in zip(slowed, before, strict=True):
            variable.assign(old + factor * (variable - old))

    return step


def compiled_epoch(
    model: keras.Model, kinds: Sequence[keras.KerasTensor], step: Callable[[Any, Any, Any], None]
) -> Callable[..., dict[str, Any]]:
    """Return some batches of a pass over the data as one call, which returns the means so far.

    `kinds` are the shapes and types of rows, targets and weights.
    """
    import keras
    from keras import ops

    from transferclf.engines.backend import compiled

    def epoch(rows: Any, targets: Any, weights: Any, order: Any, size: Any, rates: Any) -> Any:
        n_samples = ops.shape(order)[0]

        def one(number: Any, _: Any) -> Any:
            batch = order[number * size : ops.minimum((number + 1) * size, n_samples)]
            model.optimizer.learning_rate.assign(rates[number])
            step(*(ops.take(x, batch, axis=0) for x in (rows, targets, weights)))
            return _

        n_batches = (n_samples + size - 1) // size
        if keras.backend.backend() == "jax":  # whose train_on_batch changes state between calls
            for number in range(n_batches):
                one(number, 0)
        else:
            ops.fori_loop(0, n_batches, one, 0)
        return model.get_metrics_result()

    indices, numbers = (keras.KerasTensor((None,), kind) for kind in ("int32", "float32"))
    size = keras.KerasTensor((), "int32")
    return compiled(epoch, *kinds, indices, size, numbers)
