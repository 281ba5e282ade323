"""The trainer: one compiled training function for all suffixes of one shape.

Building and tracing a Keras network takes far longer than training a head on stored features.
What differs from fit to fit (weights, learning rates, penalties, dropout rates, sample weights) is
therefore a variable or an input of the compiled function, and the trainer is kept for the next.
"""

from __future__ import annotations

import gc
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.graphs.digests import is_of_keras
from transferclf.graphs.isolation import check_eager, check_not_forked, undisturbed
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Objective
from transferclf.training.state import State, as_arrays
from transferclf.training.steps import compiled_epoch, training_step

if TYPE_CHECKING:
    import keras

# Trainers kept for other fits: a grid over shapes of heads and optimizers visits them in turn.
TRAINERS_KEPT = 8

# Batches trained on in one call of the compiled function. Python hears of Ctrl-C only between
# calls; batches of images take long, and of features so little that the calls would show.
BATCHES_PER_CALL = 512
IMAGE_BATCHES_PER_CALL = 4

Parameters = list[np.ndarray]


@dataclass(frozen=True)
class Method:
    """How a suffix is trained, as far as it is compiled into the training function.

    Parameters
    ----------
    optimizer : str or keras.optimizers.Optimizer, default="sgd"
        One of Keras' names, or an optimizer that is copied, its state left out.
    augmentation : Augmentation or None, default=None
        What happens to pixels afresh in every batch; only for a suffix on pixels.
    layer_decay : float, default=1.0
        Factor on the steps of each layer below the head, once for each layer it is below.
    """

    optimizer: str | keras.optimizers.Optimizer = "sgd"
    augmentation: Augmentation | None = None
    layer_decay: float = 1.0

    @property
    def key(self) -> tuple[Any, ...]:
        """What two methods have in common that are compiled to the same function."""
        optimizer: Any = self.optimizer
        if not isinstance(optimizer, str):
            config = json.dumps(optimizer.get_config(), sort_keys=True, default=repr)
            optimizer = (type(optimizer), config)
        digest = None if self.augmentation is None else self.augmentation.digest
        return (optimizer, digest, self.layer_decay)

    @property
    def has_unknown_code(self) -> bool:
        """Whether the optimizer has code of the user's own, which may read what changes."""
        kind = type(self.optimizer)
        return kind is not str and not is_of_keras(kind.__module__)

    def new_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer as new, with a learning rate that can be set."""
        import keras

        if isinstance(self.optimizer, str):
            return keras.optimizers.get(self.optimizer)
        config = self.optimizer.get_config()
        if not isinstance(config["learning_rate"], float | int):
            config["learning_rate"] = 1e-3  # of a schedule, which is followed from outside
        return type(self.optimizer).from_config(config)


@dataclass(frozen=True)
class Checkpoint:
    """Where training stands at the end of an epoch.

    Attributes
    ----------
    values : list of ndarray
        All that training changes: weights, what the optimizer remembers, states of the random
        generators.
    n_weights : int
        How many of them are weights.
    method : tuple
        The key of the method that it is of.
    """

    values: Parameters
    n_weights: int
    method: tuple[Any, ...]

    @property
    def parameters(self) -> Parameters:
        """The weights."""
        return self.values[: self.n_weights]


class Trainer:
    """A built suffix with its optimizer; whoever uses it holds its `lock`.

    Parameters
    ----------
    suffix : Suffix
        What is trained.
    method : Method or None, default=None
        How; None can only be asked for scores.

    Attributes
    ----------
    lock : threading.RLock
        The weights belong to whoever holds it.
    network : transferclf.heads.tunable.Network
        The hyperparameters and the weights of the head.
    model : keras.Model
        The Keras model of it.
    objective : Objective
        Loss and measure.
    first_rate : float
        The optimizer's own learning rate; only with a method.
    """

    def __init__(self, suffix: Suffix, method: Method | None = None):
        from transferclf.heads.building import build_suffix

        self.lock = threading.RLock()
        self._on_pixels = suffix.is_on_pixels
        self._method = method
        self.objective = suffix.objective
        with undisturbed(suffix.seed):
            self.network = build_suffix(suffix)
            self.model = self.network.model
            self._augmenter = _augmenter(method)
            if method is not None:
                _compile(self.model, method, suffix.objective)
                self.first_rate = self.learning_rate
                self._state = State(self._variables(), len(self.network.weights))
                self._at_first, _ = self._state.read()
        self._epochs: dict[str, Callable[..., dict[str, Any]]] = {}
        self._scores: Callable[[np.ndarray], np.ndarray] | None = None
        self._features: Callable[[np.ndarray], np.ndarray] | None = None

    def restart(self, seed: int, learning_rate: float | None = None) -> None:
        """Forget all that was learned: weights as built, optimizer and random seeds as new."""
        states = [generator.state for generator in self._generators()]
        seeds = [np.array([seed, number], state.dtype) for number, state in enumerate(states)]
        self._state.write([*self._at_first[: len(self._at_first) - len(seeds)], *seeds])
        if learning_rate is not None:
            self.model.optimizer.learning_rate = learning_rate
        self.model.stop_training = False

    def snapshot(self) -> tuple[list[Any], bool]:
        """All that training changes as it is now, and whether all weights are finite."""
        return self._state.read()

    def restore(self, snapshot: Sequence[Any]) -> None:
        """Go back to where training stood."""
        self._state.write(snapshot)

    def checkpoint(self, snapshot: Sequence[Any]) -> Checkpoint:
        """A snapshot as arrays that outlive this trainer."""
        method = () if self._method is None else self._method.key
        return Checkpoint(as_arrays(snapshot), len(self.network.weights), method)

    def set_parameters(self, parameters: Sequence[np.ndarray]) -> None:
        """Set all weights."""
        for variable, value in zip(self.network.weights, parameters, strict=True):
            variable.assign(value)

    @property
    def learning_rate(self) -> float:
        """What the optimizer's step size is now."""
        import keras

        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def epoch(
        self,
        data: tuple[Any, Any, Any],
        order: np.ndarray,
        batch_size: int,
        rates: np.ndarray | None = None,
        on_batch: Any = None,
    ) -> dict[str, float]:
        """Train on samples once each, and return the loss and the measure as Keras reports them.

        `data` are tensors of rows (float32, or uint8 where they are pixels), encoded targets and
        weights. `order` is which rows come, in which order. `rates` has a learning rate for each
        batch; None leaves the optimizer's. `on_batch` is a `keras.callbacks.CallbackList` that is
        told of every batch.
        """
        train = self._compiled_epoch(data)
        n_batches = -(-len(order) // batch_size)
        per_call = 1 if on_batch else self._batches_per_call()
        self.model.reset_metrics()
        logs: dict[str, float] = {}
        for first in range(0, n_batches, per_call):
            if on_batch:
                on_batch.on_train_batch_begin(first)
            last = min(first + per_call, n_batches)
            part = order[first * batch_size : last * batch_size]
            result = train(*data, part, np.int32(batch_size), self._rates(rates, first, last))
            if on_batch or last == n_batches:
                logs = {name: float(value) for name, value in result.items()}
            if on_batch:
                on_batch.on_train_batch_end(first, logs)
        return logs

    def _rates(self, rates: np.ndarray | None, first: int, last: int) -> np.ndarray:
        if rates is not None:
            return rates[first:last]
        return np.full(last - first, self.learning_rate, np.float32)

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return scores of shape (n, n_outputs) with the weights as they are."""
        if self._scores is None:
            self._scores = _compiled_forward(self.model, self._on_pixels)
        return self._scores(rows)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What the head sees, not yet standardised, with the weights as they are: (n, d)."""
        if self._features is None:
            self._features = _compiled_forward(self.network.below_head(), self._on_pixels)
        return self._features(rows)

    def penalty(self) -> float:
        """The penalties in the loss, with the weights as they are."""
        return float(sum(map(float, self.model.losses)))

    def _batches_per_call(self) -> int:
        return IMAGE_BATCHES_PER_CALL if self._on_pixels else BATCHES_PER_CALL

    def _compiled_epoch(self, data: tuple[Any, Any, Any]) -> Callable[..., dict[str, Any]]:
        import keras

        dtype = keras.backend.standardize_dtype(data[0].dtype)
        if dtype not in self._epochs:
            kinds = [keras.KerasTensor((None, *x.shape[1:]), x.dtype) for x in data]
            decay = self._method.layer_decay if self._method else 1.0
            factors = [decay**depth for depth in self.network.depths()]
            step = training_step(self.model, self._augmenter, factors, self.objective)
            self._epochs[dtype] = compiled_epoch(self.model, kinds, step)
        return self._epochs[dtype]

    def _variables(self) -> list[Any]:
        """All that training changes: weights, the optimizer's, seeds."""
        seeds = [generator.state for generator in self._generators()]
        return [*self.network.weights, *self.model.optimizer.variables, *seeds]

    def _generators(self) -> list[Any]:
        own = [] if self._augmenter is None else [self._augmenter.seed_generator]
        return [*self.network.seed_generators(), *own]


def _augmenter(method: Method | None) -> Any:
    if method is None or method.augmentation is None:
        return None
    from transferclf.augmentation.afresh import Augmenter

    return Augmenter(method.augmentation)


def _compile(model: keras.Model, method: Method, objective: Objective) -> None:
    from transferclf.engines.backend import prevent_leak

    are_mixed = method.augmentation is not None  # which may mix targets
    loss, metric = objective.keras_loss(are_mixed), objective.keras_metric(are_mixed)
    model.compile(method.new_optimizer(), loss=loss, weighted_metrics=[metric], jit_compile=False)
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


def _compiled_forward(model: keras.Model, on_pixels: bool) -> Callable[[np.ndarray], np.ndarray]:
    import keras

    from transferclf.engines.backend import compiled
    from transferclf.engines.forward import FEW, Forward

    function = compiled(lambda rows: model(rows, training=False), *model.inputs)
    # Layers above stored activations cost little: one batch size is enough, and many kernels then
    # give a row the same bits in any company. Whole networks are too slow for that.
    few = FEW if on_pixels else 0
    return Forward(lambda rows: keras.ops.convert_to_numpy(function(rows)), few=few)


_trainers: OrderedDict[tuple[Any, ...], Trainer] = OrderedDict()
_trainers_lock = threading.Lock()


def trainer_for(suffix: Suffix, method: Method | None = None) -> Trainer:
    """The trainer of all suffixes of this shape; the ones used last are kept.

    Parameters
    ----------
    suffix : Suffix
        What is trained.
    method : Method or None, default=None
        How; None is for scores alone, which any trainer of this shape can compute.
    """
    from transferclf.engines.backend import release_kernels

    check_not_forked()
    check_eager()
    with _trainers_lock:
        key = _known_key(suffix.key) if method is None else (suffix.key, method.key)
        if method is not None and method.has_unknown_code:
            _trainers.pop(key, None)
        if key not in _trainers:
            _trainers[key] = Trainer(suffix, method)
        _trainers.move_to_end(key)
        if len(_trainers) > TRAINERS_KEPT:
            _trainers.popitem(last=False)
            gc.collect()  # a Keras model is full of cycles, and large for the few objects it has
            release_kernels()
        return _trainers[key]


def _known_key(suffix: tuple[Any, ...]) -> tuple[Any, ...]:
    """The key of a trainer of this suffix: of the one used last, or else one without a method."""
    return next((key for key in reversed(_trainers) if key[0] == suffix), (suffix, None))
