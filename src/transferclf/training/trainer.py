"""The trainer: one compiled training function for all suffixes of one shape.

Building and tracing a Keras network takes far longer than training a head on stored features.
What differs from fit to fit (weights, learning rates, penalties, dropout rates, sample weights) is
therefore a variable or an input of the compiled function, and the trainer is kept for the next.
"""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from transferclf.engines.engine import keras_backend
from transferclf.graphs.isolation import check_eager, check_not_forked, undisturbed
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Objective
from transferclf.training.batches import Samples
from transferclf.training.feeding import Data, batches_per_call, fed
from transferclf.training.recipe import Method
from transferclf.training.steps import State, compiled_epoch, training_step

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor as Tensor

    from transferclf.engines.forward import Forward

# Trainers kept for other fits: a grid over shapes of heads and optimizers visits them in turn.
TRAINERS_KEPT = 8

# Batches trained on in one call of the compiled function. Python hears of Ctrl-C only between
# calls; batches of images take long, and of features so little that the calls would show.
BATCHES_PER_CALL = 512
IMAGE_BATCHES_PER_CALL = 4

Key = tuple[object, ...]


class Trainer:
    """A built suffix with its optimizer; use it only while you hold its `lock`.

    Without a method it computes scores and features alone. `network` has the hyperparameters and
    the weights of the head, and `model` is its Keras model. With a method, `state` is all that
    training changes, and `first_rate` is the optimizer's own learning rate.
    """

    def __init__(self, suffix: Suffix, method: Method | None = None):
        from transferclf.augmentation.afresh import Augmenter
        from transferclf.heads.building import below_cut, build_suffix

        self.lock = threading.RLock()
        self._on_pixels = suffix.is_on_pixels
        self._method = method
        self.objective = suffix.objective
        with undisturbed(suffix.seed):
            self.network = build_suffix(suffix)
            self.model = self.network.model
            self._below = below_cut(suffix) if method is not None and method.runs_prefix else None
            recipe = None if method is None else method.augmentation
            self._augmenter = None
            if recipe is not None:
                shapes = None if suffix.is_on_pixels else suffix.row_shapes()
                self._augmenter = Augmenter(recipe, shapes, self._below)
            own = [] if self._augmenter is None else [self._augmenter.seed_generator]
            self._seeds = [it.state for it in (*self.network.seed_generators(), *own)]
            if method is not None:
                self.metric = _compile(self.model, method, suffix.objective)
                self.first_rate = self.learning_rate
                weights = self.network.weights
                variables = [*weights, *self.model.optimizer.variables, *self._seeds]
                self.state = State(variables, len(weights))
                self._at_first, _ = self.state.read()
        self._epochs: dict[str, Callable[..., dict[str, Tensor]]] = {}

    def restart(self, seed: int, learning_rate: float | None = None) -> None:
        """Forget all that was learned: weights as built, optimizer and random seeds as new."""
        seeds = [np.array([seed, n], state.dtype) for n, state in enumerate(self._seeds)]
        self.state.write([*self._at_first[: len(self._at_first) - len(seeds)], *seeds])
        if learning_rate is not None:
            self.model.optimizer.learning_rate = learning_rate
        self.model.stop_training = False

    def measure(self, samples: Samples) -> None:
        """Measure the training rows as far as their variation depends on them."""
        if self._augmenter is not None:
            self._augmenter.measure(map(self.at_cut, samples.parts()))

    def set_parameters(self, parameters: Sequence[np.ndarray]) -> None:
        """Set all weights."""
        for variable, value in zip(self.network.weights, parameters, strict=True):
            variable.assign(value)

    @property
    def learning_rate(self) -> float:
        """The optimizer's present step size."""
        import keras

        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def epoch(
        self,
        data: Data,
        order: np.ndarray,
        batch_size: int,
        rates: np.ndarray | None = None,
        on_batch: keras.callbacks.CallbackList | None = None,
    ) -> dict[str, float]:
        """Train on samples once each, and return the loss and the measure as Keras reports them.

        `data` are rows (float32, or uint8 where they are pixels), encoded targets and weights, as
        tensors, or with rows in a file. `order` are the numbers of the rows to take. `rates` has a
        learning rate for each batch; None leaves the optimizer's. `on_batch` is told of every
        batch.
        """
        train = self._compiled_epoch(data)
        n_batches = -(-len(order) // batch_size)
        is_long = self._on_pixels or self._below is not None
        per_call = IMAGE_BATCHES_PER_CALL if is_long else BATCHES_PER_CALL
        per_call = 1 if on_batch else batches_per_call(data, batch_size, per_call)
        firsts = range(0, n_batches, per_call)
        orders = [order[first * batch_size :][: per_call * batch_size] for first in firsts]
        self.model.reset_metrics()
        logs: dict[str, float] = {}
        with closing(fed(data, orders)) as calls:
            for first, arguments in zip(firsts, calls, strict=True):
                if on_batch:
                    on_batch.on_train_batch_begin(first)
                last = min(first + per_call, n_batches)
                if rates is None:  # a callback may have changed it since the last batch
                    now = np.full(last - first, self.learning_rate, np.float32)
                else:
                    now = rates[first:last]
                result = train(*arguments, np.int32(batch_size), now)
                if on_batch or last == n_batches:
                    logs = {name: float(value) for name, value in result.items()}
                if on_batch:
                    on_batch.on_train_batch_end(first, logs)
        return logs

    def at_cut(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows at the cut, for pixels where each step runs the frozen part."""
        return rows if self._below is None else self._of_prefix(rows)

    @cached_property
    def _of_prefix(self) -> Forward:
        assert self._below is not None
        return self._forward(self._below)

    @cached_property
    def scores(self) -> Forward:
        """Function from rows to scores (n, n_outputs) with the weights as they are."""
        return self._forward(self.model)

    @cached_property
    def features(self) -> Forward:
        """Function from rows to the features (n, d) that the head standardises."""
        return self._forward(self.network.below_head())

    def _compiled_epoch(self, data: Data) -> Callable[..., dict[str, Tensor]]:
        import keras

        dtype = keras.backend.standardize_dtype(data[0].dtype)
        if dtype not in self._epochs:
            kinds = [keras.KerasTensor((None, *x.shape[1:]), x.dtype) for x in data]
            decay = self._method.layer_decay if self._method else 1.0
            factors = [decay**depth for depth in self.network.depths()]
            step = training_step(self.model, self._augmenter, factors, self.objective)
            self._epochs[dtype] = compiled_epoch(self.model, kinds, step)
        return self._epochs[dtype]

    def _forward(self, model: keras.Model) -> Forward:
        import keras

        from transferclf.engines.backend import compiled, for_inference
        from transferclf.engines.forward import FEW, Forward

        traced = compiled(lambda rows: model(rows, training=False), *model.inputs)
        function = for_inference(traced)
        # Layers above stored activations cost little: one batch size is enough, and many kernels
        # then give a row the same bits in any company. Whole networks are too slow for that.
        few = FEW if self._on_pixels else 0
        return Forward(lambda rows: keras.ops.convert_to_numpy(function(rows)), few=few)


def _compile(model: keras.Model, method: Method, objective: Objective) -> keras.metrics.Metric:
    """Compile the model, and return its metric."""
    from transferclf.engines.backend import prevent_leak

    are_mixed = method.augmentation is not None  # which may mix targets
    loss, metric = objective.keras_loss(are_mixed), objective.keras_metric(are_mixed)
    # On JAX, Keras would otherwise compile nothing. On TensorFlow, `compiled` does it.
    jit = keras_backend() == "jax"
    model.compile(method.new_optimizer(), loss=loss, weighted_metrics=[metric], jit_compile=jit)
    prevent_leak(model.optimizer)
    model.optimizer.build(model.trainable_variables)
    # Keras makes its metrics with the first batch it sees, and inside a compiled loop is too late.
    scores = np.zeros((1, objective.n_outputs), np.float32)
    targets = objective.no_targets(1)
    if are_mixed:
        targets = objective.spread(targets)
    weights = np.ones(1, np.float32)
    model.compute_loss(y=targets, y_pred=scores, sample_weight=weights)
    model.compute_metrics(None, targets, scores, sample_weight=weights)
    return metric


_trainers: OrderedDict[Key, Trainer] = OrderedDict()
_trainers_lock = threading.Lock()


def trainer_for(suffix: Suffix, method: Method | None = None) -> Trainer:
    """Return the trainer of all suffixes of this shape; the ones used last are kept.

    Without a method it is for scores alone, which any trainer of this shape can compute.
    """
    from transferclf.engines.backend import release_kernels

    check_not_forked()
    check_eager()
    with _trainers_lock:
        key: Key = (suffix.key, None if method is None else method.key)
        if method is None:
            key = next((known for known in reversed(_trainers) if known[0] == key[0]), key)
        elif method.has_unknown_code:
            _trainers.pop(key, None)
        if key not in _trainers:
            _trainers[key] = Trainer(suffix, method)
        _trainers.move_to_end(key)
        if len(_trainers) > TRAINERS_KEPT:
            _trainers.popitem(last=False)
            gc.collect()  # a Keras model is full of cycles, and large for the few objects it has
            release_kernels()
        return _trainers[key]
