"""One phase of training: a suffix, trained by a Keras optimizer for some epochs.

Training a head on features and training it together with layers of the backbone are the same
function, called with suffixes of two cuts.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning

from transferclf.networks.suffix import Suffix
from transferclf.training.batches import epoch_orders
from transferclf.training.trainer import Parameters, Trainer, trainer_for

History = dict[str, list[float]]
Dense = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Recipe:
    """How a suffix is trained, in the words of Keras.

    Parameters
    ----------
    optimizer : str
        One of Keras' names.
    learning_rate : float
        Its step size.
    epochs, batch_size : int
        How often and how many at a time.
    l1, l2 : float, default=0.0
        Penalties on the kernels of the dense layers: sums of absolute values and of squares.
    dropout : tuple of float, default=()
        A rate for each dropout of the suffix.
    seed : int, default=0
        Determines initial weights, orders and dropout.
    """

    optimizer: str
    learning_rate: float
    epochs: int
    batch_size: int
    l1: float = 0.0
    l2: float = 0.0
    dropout: tuple[float, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class TrainedSuffix:
    """A suffix and the weights it was trained to.

    Attributes
    ----------
    suffix : Suffix
        The function.
    optimizer : str
        What it was trained by; which compiled network can compute it.
    mean, scale : ndarray of shape (d,)
        What features are standardised by.
    parameters : list of ndarray
        All trained weights.
    dense : list of (ndarray, ndarray)
        Those of the dense layers among them: kernels and biases.
    dropout : tuple of float
        The rates it was trained with.
    history : dict of str to list of float
        "loss" and "accuracy" on the training data, as Keras reports them for each epoch.
    """

    suffix: Suffix
    optimizer: str
    mean: np.ndarray
    scale: np.ndarray
    parameters: Parameters
    dense: Dense
    dropout: tuple[float, ...] = ()
    history: History = field(default_factory=dict, compare=False)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Scores of shape (n, n_classes), whose softmax is the probabilities."""
        with self._loaded() as trainer:
            return trainer.scores(rows)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n, n_classes); each row sums to one."""
        return softmax(self.logits(rows).astype(float), axis=1)

    def tuned(self) -> dict[str, list[np.ndarray]]:
        """Weights of the backbone's layers above the cut, by their names."""
        with self._loaded() as trainer:
            return trainer.tail_weights()

    @contextmanager
    def _loaded(self) -> Iterator[Trainer]:
        trainer = trainer_for(self.suffix, self.optimizer)
        with trainer.lock:
            trainer.set_parameters(self.parameters)
            trainer.head.set_statistics(self.mean, self.scale)
            yield trainer


def fit_phase(
    suffix: Suffix,
    recipe: Recipe,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    mean: np.ndarray,
    scale: np.ndarray,
    dense: Dense | None = None,
    verbose: int = 0,
) -> TrainedSuffix:
    """Train a suffix on stored rows.

    Parameters
    ----------
    suffix : Suffix
        What is trained.
    recipe : Recipe
        How.
    rows : ndarray of shape (n, d), float32
        Features, or activations at the suffix's cut.
    labels : ndarray of int, shape (n,)
        Class indices.
    weights : ndarray of shape (n,)
        Weight of each sample; only their proportions matter.
    mean, scale : ndarray of shape (d,)
        What features are standardised by.
    dense : list of (ndarray, ndarray) or None, default=None
        Kernels and biases that the dense layers start from; None draws them from the seed.
    verbose : int, default=0
        1 shows a progress bar over the epochs.

    Returns
    -------
    TrainedSuffix

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If the loss overflowed; then the weights are those of the last epoch before.
    """
    trainer = trainer_for(suffix, recipe.optimizer)
    with trainer.lock:
        trainer.restart(recipe.learning_rate, recipe.seed)
        head = trainer.head
        head.set_statistics(mean, scale)
        head.set_penalties(recipe.l1, recipe.l2)
        if suffix.dropout:
            head.set_dropout(recipe.dropout)
        head.set_dense(dense or _initial_dense(head.kernel_shapes(), recipe.seed))
        history = _trained(trainer, recipe, rows, labels, weights / weights.mean(), verbose)
        return TrainedSuffix(
            suffix,
            recipe.optimizer,
            mean,
            scale,
            trainer.parameters(),
            head.dense(),
            recipe.dropout,
            history,
        )


def _trained(
    trainer: Trainer,
    recipe: Recipe,
    rows: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    verbose: int,
) -> History:
    """Run the epochs, and leave the trainer with the last weights that are finite."""
    from keras import ops

    data = (
        ops.convert_to_tensor(rows, "float32"),
        ops.convert_to_tensor(labels, "int32"),
        ops.convert_to_tensor(weights, "float32"),
    )
    history: History = {"loss": [], "accuracy": []}
    good = trainer.parameters()
    with _progress(recipe.epochs, verbose) as show:
        for order in epoch_orders(len(rows), recipe.epochs, recipe.seed):
            logs = trainer.epoch(*data, order, recipe.batch_size)
            before, good = good, trainer.parameters()
            if not _all_finite(logs, good):
                trainer.set_parameters(before)
                _warn_overflow(len(history["loss"]) + 1, recipe)
                break
            for name, values in history.items():
                values.append(logs[name])
            show(logs)
    return history


def _all_finite(logs: dict[str, float], parameters: Parameters) -> bool:
    return np.isfinite(logs["loss"]) and all(np.isfinite(values).all() for values in parameters)


def _warn_overflow(epoch: int, recipe: Recipe) -> None:
    warnings.warn(
        f"the loss overflowed in epoch {epoch}, and training stopped with the weights before it; "
        f"lower the learning rate, {recipe.learning_rate:g}",
        ConvergenceWarning,
        stacklevel=4,
    )


def _initial_dense(shapes: list[tuple[int, int]], seed: int) -> Dense:
    """Kernels as Keras draws them for dense layers, and biases of zero.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    rng = np.random.default_rng(seed)
    limits = [np.sqrt(6 / (inputs + outputs)) for inputs, outputs in shapes]
    return [
        (rng.uniform(-limit, limit, shape).astype(np.float32), np.zeros(shape[1], np.float32))
        for shape, limit in zip(shapes, limits, strict=True)
    ]


@contextmanager
def _progress(epochs: int, verbose: int) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that shows one more epoch and its logs."""
    if not verbose:
        yield lambda logs: None
        return
    import keras

    bar = keras.utils.Progbar(epochs, stateful_metrics=["loss", "accuracy"], unit_name="epoch")
    yield lambda logs: bar.add(1, list(logs.items()))
