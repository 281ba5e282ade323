"""Compiled functions of a trainer: many batches in one call, and reading and setting all state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferclf.objectives import Objective

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor as Tensor

    from transferclf.augmentation.afresh import Augmenter

    Step = Callable[[Tensor, Tensor, Tensor], None]


def training_step(
    model: keras.Model, augmenter: Augmenter | None, factors: Sequence[float], objective: Objective
) -> Step:
    """Return one step of training on a batch of rows, targets and weights.

    `factors` are on the steps of the trainable variables.
    """
    import keras
    from keras import ops

    variables = zip(model.trainable_variables, factors, strict=True)
    slowed = [(variable, factor) for variable, factor in variables if factor != 1]

    def step(rows: Tensor, targets: Tensor, weights: Tensor) -> None:
        rows = ops.cast(rows, "float32")
        if augmenter is not None:
            rows, targets, weights = augmenter(rows, objective.spread(targets), weights)
        before = [ops.copy(variable) for variable, _ in slowed]
        if keras.backend.backend() == "jax":  # whose train_step is a function of all state
            model.train_on_batch(*map(np.asarray, (rows, targets, weights)))
        else:
            model.train_step((rows, targets, weights))
        # The step of any optimizer is in proportion to its learning rate.
        for (variable, factor), old in zip(slowed, before, strict=True):
            variable.assign(old + factor * (variable - old))

    return step


def compiled_epoch(
    model: keras.Model, kinds: Sequence[Tensor], step: Step
) -> Callable[..., dict[str, Tensor]]:
    """Return some batches of a pass over the data as one call, which returns the means so far.

    `kinds` are the shapes and types of rows, targets and weights.
    """
    import keras
    from keras import ops

    from transferclf.engines.backend import compiled

    def epoch(
        rows: Tensor, targets: Tensor, weights: Tensor, order: Tensor, size: Tensor, rates: Tensor
    ) -> dict[str, Tensor]:
        n_samples = ops.shape(order)[0]

        def one(number: Tensor, state: Tensor) -> Tensor:
            batch = order[number * size : ops.minimum((number + 1) * size, n_samples)]
            model.optimizer.learning_rate.assign(rates[number])
            step(*(ops.take(x, batch, axis=0) for x in (rows, targets, weights)))
            return state

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


class State:
    """The values of some variables: weights, optimizer state, states of random generators.

    The first `n_weights` variables are weights, which must stay finite. One compiled function reads
    all values and another sets them: a network has dozens of variables, and each call of TensorFlow
    from Python takes as long as some steps of training a head.
    """

    def __init__(self, variables: Sequence[keras.Variable], n_weights: int):
        import keras
        from keras import ops

        from transferclf.engines.backend import compiled

        def read() -> list[Tensor]:
            numbers = [v for v in variables[:n_weights] if "float" in str(v.dtype)]
            finite = [ops.all(ops.isfinite(variable)) for variable in numbers]
            return [ops.all(ops.stack(finite)), *(ops.copy(v) for v in variables)]

        def write(*values: Tensor) -> Tensor:
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return ops.zeros(())

        self._read = compiled(read)
        self._write = compiled(write, *(keras.KerasTensor(v.shape, v.dtype) for v in variables))

    def read(self) -> tuple[list[Tensor], bool]:
        """Return tensors of all values, and whether all the weights are finite."""
        is_finite, *values = self._read()
        return values, bool(is_finite)

    def write(self, values: Sequence[Tensor | np.ndarray]) -> None:
        """Set all values."""
        self._write(*values)


def as_arrays(values: Sequence[Tensor]) -> list[np.ndarray]:
    """Return copies of tensors as arrays."""
    import keras

    arrays = [keras.ops.convert_to_numpy(value) for value in values]
    # Some backends give a copy, others a view of memory that training goes on to change.
    return [array if array.flags.owndata else array.copy() for array in arrays]
