"""The trainer: one compiled training function for all suffixes of one shape.

Building and tracing a Keras network takes far longer than training a head on stored features.
What differs from fit to fit (weights, learning rate, penalties, dropout rates, sample weights) is
therefore a variable or an input of the compiled function, and the trainer is kept for the next.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.networks.isolation import undisturbed
from transferclf.networks.suffix import Suffix

if TYPE_CHECKING:
    import keras

# Trainers kept for other fits: a grid over shapes of heads and optimizers visits them in turn.
TRAINERS_KEPT = 8

Parameters = list[np.ndarray]


class Trainer:
    """A built suffix with its optimizer; whoever uses it holds its `lock`.

    Parameters
    ----------
    suffix : Suffix
        What is trained.
    optimizer : str
        One of Keras' names.

    Attributes
    ----------
    lock : threading.RLock
        The weights belong to whoever holds it.
    head : transferclf.networks.tunable.Head
        The hyperparameters and the dense layers.
    """

    def __init__(self, suffix: Suffix, optimizer: str):
        import keras

        from transferclf.networks.inference import streamline
        from transferclf.networks.tunable import Head

        self.lock = threading.RLock()
        with undisturbed():
            self._model = suffix.build()
            self._model.compile(
                optimizer,
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
                jit_compile=False,
            )
            streamline(self._model.optimizer)
            self._model.optimizer.build(self._model.trainable_variables)
        self.head = Head(self._model)
        self._at_first = self.parameters()
        self._slots_at_first = [_nonzero(slot) for slot in self._model.optimizer.variables]
        self._epoch: Callable[..., dict[str, Any]] | None = None
        self._scores: Callable[[np.ndarray], np.ndarray] | None = None

    def restart(self, learning_rate: float, seed: int) -> None:
        """Forget all that was learned: weights as built, optimizer and random seeds as new."""
        if self._epoch is None:
            self._epoch = _compiled_epoch(self._model)
        self.set_parameters(self._at_first)
        optimizer = self._model.optimizer
        for slot, value in zip(optimizer.variables, self._slots_at_first, strict=True):
            slot.assign(np.zeros(slot.shape, slot.dtype) if value is None else value)
        optimizer.learning_rate = learning_rate
        for number, generator in enumerate(_seed_generators(self._model)):
            generator.state.assign(np.array([seed, number], np.uint32))

    def parameters(self) -> Parameters:
        """Copies of all that is trained."""
        import keras

        return [keras.ops.convert_to_numpy(v).copy() for v in self._model.trainable_variables]

    def set_parameters(self, parameters: Sequence[np.ndarray]) -> None:
        """Set all that is trained."""
        for variable, value in zip(self._model.trainable_variables, parameters, strict=True):
            variable.assign(value)

    def tail_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights of the layers that come before the head, by name."""
        own = {id(layer) for layer in self.head.layers}
        tail = [layer for layer in self._model.layers if layer.weights and id(layer) not in own]
        return {layer.name: layer.get_weights() for layer in tail}

    def epoch(
        self, rows: Any, labels: Any, weights: Any, order: np.ndarray, batch_size: int
    ) -> dict[str, float]:
        """Train on all samples once, and return "loss" and "accuracy" as Keras reports them.

        Parameters
        ----------
        rows, labels, weights : tensors of shape (n, d), (n,) and (n,)
            float32, int32 and float32.
        order : ndarray of int32, shape (n,)
            In which order they come.
        batch_size : int
            How many at a time.
        """
        if self._epoch is None:
            raise RuntimeError("expected restart() before the first epoch()")
        self._model.reset_metrics()
        logs = self._epoch(rows, labels, weights, order, np.int32(batch_size))
        return {name: float(value) for name, value in logs.items()}

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Class scores of shape (n, n_classes) with the weights as they are."""
        if self._scores is None:
            self._scores = _compiled_scores(self._model)
        return self._scores(rows)


def _compiled_scores(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    from transferclf.networks.inference import Forward, compiled

    function = compiled(lambda rows: model(rows, training=False), *model.inputs)
    return Forward(lambda rows: keras.ops.convert_to_numpy(function(rows)))


def _compiled_epoch(model: keras.Model) -> Callable[..., dict[str, Any]]:
    """One pass over the data as one call, which returns the means over it."""
    import keras
    from keras import ops

    from transferclf.networks.inference import compiled

    if keras.backend.backend() == "jax":  # whose train_step is a function of all state
        return lambda *data: _epoch_by_batches(model, *data)
    # Keras makes its metrics at the first step, and that must not be inside a compiled loop.
    width = model.inputs[0].shape[1]
    model.train_step((ops.zeros((1, width)), ops.zeros((1,), "int32"), ops.ones((1,))))

    def epoch(rows: Any, labels: Any, weights: Any, order: Any, batch_size: Any) -> dict[str, Any]:
        n_samples = ops.shape(order)[0]

        def step(number: Any, _: Any) -> Any:
            stop = ops.minimum((number + 1) * batch_size, n_samples)
            batch = order[number * batch_size : stop]
            model.train_step(tuple(ops.take(x, batch, axis=0) for x in (rows, labels, weights)))
            return _

        ops.fori_loop(0, (n_samples + batch_size - 1) // batch_size, step, 0)
        return model.get_metrics_result()

    indices = keras.KerasTensor((None,), "int32")
    return compiled(
        epoch,
        keras.KerasTensor((None, width), "float32"),
        indices,
        keras.KerasTensor((None,), "float32"),
        indices,
        keras.KerasTensor((), "int32"),
    )


def _epoch_by_batches(
    model: keras.Model, rows: Any, labels: Any, weights: Any, order: np.ndarray, batch_size: int
) -> dict[str, Any]:
    logs: dict[str, Any] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        data = (np.asarray(values)[batch] for values in (rows, labels, weights))
        logs = model.train_on_batch(*data, return_dict=True)
    return logs


def _nonzero(variable: Any) -> np.ndarray | None:
    import keras

    value = keras.ops.convert_to_numpy(variable)
    return value.copy() if value.any() else None


def _seed_generators(model: keras.Model) -> list[Any]:
    found = (getattr(layer, "seed_generator", None) for layer in model.layers)
    return [generator for generator in found if generator is not None]


_trainers: OrderedDict[tuple[Any, ...], Trainer] = OrderedDict()
_trainers_lock = threading.Lock()


def trainer_for(suffix: Suffix, optimizer: str) -> Trainer:
    """The trainer of all suffixes of this shape; the ones used last are kept."""
    from transferclf.networks.inference import release_kernels

    key = (suffix.shape, optimizer)
    with _trainers_lock:
        if key not in _trainers:
            _trainers[key] = Trainer(suffix, optimizer)
        _trainers.move_to_end(key)
        if len(_trainers) > TRAINERS_KEPT:
            _trainers.popitem(last=False)
            gc.collect()  # a Keras model is full of cycles, and large for the few objects it has
            release_kernels()
        return _trainers[key]
