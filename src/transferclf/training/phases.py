"""One phase of training: a suffix, trained by a Keras optimizer for some epochs.

Training a head on features, training it together with layers of the backbone, and training a whole
network from its pixels are the same function, called with suffixes of different cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from transferclf.exceptions import DivergenceError
from transferclf.heads.history import UNITS, History, Phase, Phases
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.training.batches import Samples
from transferclf.training.recipe import Recipe
from transferclf.training.running import Run
from transferclf.training.trainer import Checkpoint, Parameters, Trainer, trainer_for

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling


@dataclass(frozen=True)
class TrainedSuffix:
    """A suffix and the weights it was trained to.

    Attributes
    ----------
    suffix : Suffix
        The function.
    mean, scale : ndarray of shape (d,)
        What features are standardised by.
    parameters : list of ndarray
        All weights.
    weights : list of ndarray
        Those of the head among them.
    scaling : PixelScaling or None
        What was fitted to the pixels.
    dropout : tuple of float
        The rates it was trained with.
    history : dict of str to list of float
        "loss", "accuracy" and "learning_rate" for each epoch, as Keras reports them, and
        "val_loss" and "val_accuracy" where there were validation images.
    checkpoint : Checkpoint or None
        Where training stood, to go on from there.
    epochs_done : int
        Epochs of this phase until then.
    l2 : float
        The penalty in use.
    n_head_iter : int
        How much of the history came before this phase.
    phases : tuple of Phase
        What the history is made of.
    moments : Moments or None
        Of the features that it was trained on so far, where `partial_fit` can go on from them.
    """

    suffix: Suffix
    mean: np.ndarray
    scale: np.ndarray
    parameters: Parameters
    weights: list[np.ndarray]
    scaling: PixelScaling | None = None
    dropout: tuple[float, ...] = ()
    history: History = field(default_factory=dict, compare=False)
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)
    epochs_done: int = 0
    l2: float = 0.0
    n_head_iter: int = 0
    phases: Phases = field(default=(), compare=False)
    moments: Moments | None = field(default=None, compare=False, repr=False)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Scores of shape (n, n_classes), whose softmax is the probabilities."""
        with self._loaded() as trainer:
            return trainer.scores(rows)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """Probabilities of shape (n, n_classes); each row sums to one."""
        return softmax(self.logits(rows).astype(float), axis=1)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """What the head sees of these rows, before it standardises them: (n, d)."""
        if self.suffix.prefix is None:
            return rows
        with self._loaded() as trainer:
            return trainer.features(rows)

    def tuned(self) -> dict[str, list[np.ndarray]]:
        """Weights of the backbone's layers above the cut, by their names."""
        with self._loaded() as trainer:
            return trainer.network.tail_weights()

    @property
    def is_tuned(self) -> bool:
        """Whether a pretrained network was trained together with a head fitted before."""
        prefix = self.suffix.prefix
        return prefix is not None and not prefix.is_scratch

    def without_checkpoint(self) -> TrainedSuffix:
        """The same, without what is only needed to go on training."""
        return replace(self, checkpoint=None)

    @contextmanager
    def _loaded(self) -> Iterator[Trainer]:
        trainer = trainer_for(self.suffix)
        with trainer.lock:
            trainer.set_parameters(self.parameters)
            trainer.network.set_statistics(self.mean, self.scale)
            if self.scaling is not None:
                trainer.network.set_pixel_scaling(self.scaling)
            yield trainer


@dataclass(frozen=True)
class Start:
    """What a phase starts from.

    Parameters
    ----------
    mean, scale : ndarray of shape (d,)
        What features are standardised by.
    scaling : PixelScaling or None, default=None
        What was fitted to the pixels.
    weights : list of ndarray or None, default=None
        Of the head; None draws them from the seed.
    trained : TrainedSuffix or None, default=None
        The same suffix, trained before: its weights are the start, and where it has a
        checkpoint, so is that.
    history : dict of str to list of float
        What came before.
    phases : tuple of Phase, default=()
        What the history is made of.
    moments : Moments or None, default=None
        Of the features that are trained on or were before.
    carried_from : (mean, scale) or None, default=None
        What features were standardised by in what was learned before, where it is another mean
        or scale now: the head's first layer is changed so that its scores stay as they are.
    """

    mean: np.ndarray
    scale: np.ndarray
    scaling: PixelScaling | None = None
    weights: Sequence[np.ndarray] | None = None
    trained: TrainedSuffix | None = None
    history: History = field(default_factory=dict)
    phases: Phases = ()
    moments: Moments | None = None
    carried_from: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def epochs_done(self) -> int:
        """Epochs of this phase that are done, where it goes on."""
        trained = self.trained
        return 0 if trained is None or trained.checkpoint is None else trained.epochs_done


def going_on(head: Any, suffix: Suffix) -> Start:
    """The start from what was learned before: this suffix, or a head for it."""
    is_same = isinstance(head, TrainedSuffix) and head.suffix.shape == suffix.shape
    start = Start(
        head.mean,
        head.scale,
        weights=head.weights,
        history=head.history,
        phases=head.phases,
        moments=head.moments,
    )
    return replace(start, scaling=head.scaling, trained=head) if is_same else start


def fit_phase(
    suffix: Suffix,
    recipe: Recipe,
    samples: Samples,
    start: Start,
    *,
    validation: Samples | None = None,
    keep: Callable[[TrainedSuffix], None] | None = None,
    verbose: int = 0,
) -> TrainedSuffix:
    """Train a suffix on stored rows, or on pixels.

    Parameters
    ----------
    suffix : Suffix
        What is trained.
    recipe : Recipe
        How.
    samples : Samples
        On what.
    start : Start
        From where.
    validation : Samples or None, default=None
        What the loss is measured on after each epoch, beside the training samples.
    keep : callable or None, default=None
        Given what was reached if training is interrupted.
    verbose : int, default=0
        1 shows a line for each epoch.

    Returns
    -------
    TrainedSuffix
        With the best weights where the recipe has patience, else the last.

    Raises
    ------
    DivergenceError
        If the loss, weights or scores are no longer finite.
    """
    trainer = trainer_for(suffix, recipe.method)
    with trainer.lock:
        _begin(trainer, suffix, recipe, start)
        run = Run(trainer, recipe, samples, validation, start.history, start.epochs_done)
        try:
            run.train(verbose)
            return _result(run, suffix, start)
        except BaseException as error:
            if isinstance(error, DivergenceError):
                run.fall_back()
            # Without any epoch there is nothing but what was drawn at random.
            if keep is not None and run.reached.history["loss"]:
                keep(_result(run, suffix, start))
            raise


def _begin(trainer: Trainer, suffix: Suffix, recipe: Recipe, start: Start) -> None:
    """Set all weights, hyperparameters and random states."""
    network = trainer.network
    trainer.restart(recipe.seed, recipe.learning_rate)
    if start.weights is not None:
        network.set_head_weights(start.weights)
    elif suffix.head is None:
        kernels = network.kernels()
        drawn = _initial_kernels([tuple(kernel.shape) for kernel in kernels], recipe.seed)
        for kernel, value in zip(kernels, drawn, strict=True):
            kernel.assign(value)
    if start.trained is not None:
        trainer.set_parameters(start.trained.parameters)
        checkpoint = start.trained.checkpoint
        # What one optimizer remembers means nothing to another.
        if checkpoint is not None and checkpoint.method == recipe.method.key:
            trainer.restore(checkpoint.values)
            if recipe.schedule is None and recipe.learning_rate is not None:
                trainer.model.optimizer.learning_rate = recipe.learning_rate
    if start.carried_from is not None:
        network.carry_statistics(*start.carried_from, start.mean, start.scale)
    network.set_statistics(start.mean, start.scale)
    network.set_penalties(recipe.l1, recipe.l2)
    if suffix.dropout:
        network.set_dropout(recipe.dropout)
    if start.scaling is not None:
        network.set_pixel_scaling(start.scaling)


def _result(run: Run, suffix: Suffix, start: Start) -> TrainedSuffix:
    """What was reached by the end of the last epoch."""
    reached, trained = run.reached, start.trained
    run.trainer.restore(reached.snapshot)
    checkpoint = run.trainer.checkpoint(reached.snapshot)
    n_before = len(start.history.get("loss", ()))
    return TrainedSuffix(
        suffix,
        start.mean,
        start.scale,
        checkpoint.parameters,
        run.trainer.network.head_weights(),
        start.scaling,
        run.recipe.dropout,
        reached.history,
        checkpoint,
        reached.epochs_done,
        run.recipe.l2,
        n_before if trained is None else trained.n_head_iter,
        _phases(run, start),
        start.moments,
    )


def _phases(run: Run, start: Start) -> Phases:
    """The phases until now: the last one goes on where training went on from a checkpoint."""
    part, reached, before = run.recipe.part, run.reached, start.phases
    earlier = 0
    if start.epochs_done and before:
        before, earlier = before[:-1], before[-1].length - start.epochs_done
    length, kept = earlier + reached.epochs_done, earlier + reached.kept
    if not length:
        return before
    return (*before, Phase(part, UNITS[1], length, kept, reached.stopped_early))


def _initial_kernels(shapes: Sequence[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Kernels as Keras draws them for dense layers.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    rng = np.random.default_rng(seed)
    limits = [np.sqrt(6 / (inputs + outputs)) for inputs, outputs in shapes]
    return [
        rng.uniform(-limit, limit, shape).astype(np.float32)
        for shape, limit in zip(shapes, limits, strict=True)
    ]
