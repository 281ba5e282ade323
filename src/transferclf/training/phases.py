"""One phase of training: a suffix, trained by a Keras optimizer for some epochs.

Training a head on features, training it together with layers of the backbone, and training a whole
network from its pixels are the same function, called with suffixes of different cuts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.exceptions import DivergenceError
from transferclf.heads.fitted import Checkpoint, FittedHead
from transferclf.heads.history import UNITS, History, Phase, Phases
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.training.batches import Samples
from transferclf.training.recipe import Recipe
from transferclf.training.running import Run
from transferclf.training.soup import mixed
from transferclf.training.steps import as_arrays
from transferclf.training.trainer import Trainer, trainer_for

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling


@dataclass(frozen=True, kw_only=True)
class TrainedSuffix(FittedHead):
    """A suffix that a Keras optimizer trained.

    `parameters` are all weights of the built suffix; those of the head among them are `weights`.
    `checkpoint` is the state of training, to go on from there, after `epochs_done` epochs of this
    phase. `n_head_iter` is the length of the history before this phase. `dropout` has the rates of
    training.
    """

    kind: ClassVar[str] = "trained"

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of rows, shape (n, n_outputs)."""
        with self._loaded() as trainer:
            return trainer.scores(rows)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return the features that the head standardises, shape (n, d)."""
        if not self.is_at_cut:
            return rows
        with self._loaded() as trainer:
            return trainer.features(rows)

    def can_resume(self, suffix: Suffix) -> bool:
        """Return whether it is this suffix that was trained."""
        return self.suffix.shape == suffix.shape

    def is_head_of(self, suffix: Suffix, is_linear: bool) -> bool:
        """Return whether training of the head ended and its layers are those of the suffix."""
        is_finished = self.checkpoint is None or self.is_at_cut
        return is_finished and self.suffix.has_layers_of(suffix)

    @property
    def n_iter_of_head(self) -> int:
        """Number of iterations and epochs before layers of the backbone were trained."""
        prefix = self.suffix.prefix
        is_tuned = prefix is not None and not prefix.is_scratch
        return self.n_head_iter if is_tuned else self.n_iter

    def tuned(self) -> dict[str, list[np.ndarray]]:
        """Return the weights of the backbone's layers above the cut by name."""
        with self._loaded() as trainer:
            return trainer.network.tail_weights()

    def with_head(self, head: FittedHead) -> TrainedSuffix:
        """Return the same layers with the statistics and the weights of another head."""
        with self._loaded() as trainer:
            trainer.network.set_head_weights(head.weights)
            trainer.network.set_statistics(head.mean, head.scale)
            tuned = self._from(trainer)
        return replace(tuned, mean=head.mean, scale=head.scale, moments=head.moments)

    def mean_with(self, other: TrainedSuffix) -> TrainedSuffix | None:
        """Return the same layers with the means of their weights and those of another suffix.

        The other one trained fewer layers and has the same kind of head. Where it has no layer, its
        weights are those before the training of this one. None is returned if these are not known,
        or if a layer of the other one began with other weights here: batch normalisation may be
        part of a layer in the one and not in the other.
        """
        if not self._began or not other._began:
            return None
        with other._loaded() as trainer:
            network = trainer.network
            network.carry_statistics(other.mean, other.scale, self.mean, self.scale)
            tail, head = network.tail_weights(), network.head_weights()
            trainer.set_parameters(other._began)
            tail_before = network.tail_weights()
        with self._loaded() as trainer:
            trainer.set_parameters(self._began)
            if not _are_part(tail_before, trainer.network.tail_weights()):
                return None
            trainer.network.set_tail_weights(tail)
            trainer.network.set_head_weights(head)
            others = as_arrays(trainer.network.weights)
            trainer.set_parameters(mixed(others, self.parameters, 0.5))
            return self._from(trainer)

    def at(self, share: float) -> TrainedSuffix:
        """Return the same layers with this share of the trained weights, at a temperature of 1."""
        checkpoint = self.checkpoint
        assert checkpoint is not None
        after = checkpoint.values[: len(self.parameters)]
        with self._loaded() as trainer:
            trainer.set_parameters(mixed(self._began, after, share))
            return replace(self._from(trainer), soup=share)

    def with_scores_divided(self, by: float) -> TrainedSuffix:
        """Return the same layers with a head whose scores are divided by a temperature."""
        with self._loaded() as trainer:
            trainer.network.divide_scores(by)
            return self._from(trainer)

    def without_checkpoint(self) -> TrainedSuffix:
        """Return the same head without the checkpoint that only further training needs."""
        return replace(self, checkpoint=None)

    @property
    def _began(self) -> list[np.ndarray]:
        """The weights before the training, where they are known."""
        return [] if self.checkpoint is None else self.checkpoint.began

    def _from(self, trainer: Trainer) -> TrainedSuffix:
        """Return the same layers with the weights of a trainer."""
        network = trainer.network
        parameters, weights = as_arrays(network.weights), network.head_weights()
        return replace(self, parameters=parameters, weights=weights)

    @contextmanager
    def _loaded(self) -> Iterator[Trainer]:
        trainer = trainer_for(self.suffix)
        with trainer.lock:
            trainer.set_parameters(self.parameters)
            trainer.network.set_statistics(self.mean, self.scale)
            trainer.network.set_pixel_scaling(self.scaling)
            yield trainer


def _are_part(
    weights: Mapping[str, Sequence[np.ndarray]], others: Mapping[str, Sequence[np.ndarray]]
) -> bool:
    """Return whether all of these weights are among others by name, and equal."""
    return all(
        len(values) == len(others.get(name, ())) and all(map(np.array_equal, values, others[name]))
        for name, values in weights.items()
    )


@dataclass(frozen=True)
class Start:
    """The start of a phase.

    `mean` and `scale`, shape (d,), standardise the features, whose moments so far are `moments`.
    """

    mean: np.ndarray
    scale: np.ndarray
    scaling: PixelScaling | None = None
    weights: Sequence[np.ndarray] | None = None  # of the head; None draws them from the seed
    trained: FittedHead | None = None  # the same suffix, whose training goes on
    history: History = field(default_factory=dict)
    phases: Phases = ()
    moments: Moments | None = None
    # The former mean and scale, if others standardise from now on: the head's first layer is then
    # changed so that its scores stay as they are.
    carried_from: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def epochs_done(self) -> int:
        """Epochs of this phase that are done, where it goes on."""
        trained = self.trained
        return 0 if trained is None or trained.checkpoint is None else trained.epochs_done

    @property
    def began(self) -> list[np.ndarray]:
        """Weights before this phase, where it goes on."""
        trained = self.trained
        return [] if trained is None or trained.checkpoint is None else trained.checkpoint.began


def going_on(head: FittedHead, suffix: Suffix) -> Start:
    """Return the start of a suffix from a learned head, or from its own former training."""
    is_resumed = head.can_resume(suffix)
    return Start(
        head.mean,
        head.scale,
        scaling=head.scaling if is_resumed else None,
        weights=head.weights,
        trained=head if is_resumed else None,
        history=head.history,
        phases=head.phases,
        moments=head.moments,
    )


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
    """Train a suffix on stored rows, or on pixels, and return it.

    It ends with the best weights where the recipe has patience, else with the last. `validation`
    are samples whose loss is measured after each epoch. If training is interrupted, `keep` is
    called with the result so far. DivergenceError is raised if the loss, weights or scores are no
    longer finite.
    """
    trainer = trainer_for(suffix, recipe.method)
    with trainer.lock:
        _begin(trainer, suffix, recipe, start)
        trainer.measure(samples)
        run = Run(
            trainer,
            suffix.objective,
            recipe,
            samples,
            validation,
            start.history,
            start.epochs_done,
            start.began,
        )
        try:
            run.train(verbose)
            return _result(run, suffix, start)
        except BaseException as error:
            if isinstance(error, DivergenceError):
                run.fall_back()
            # Before the first epoch ends there are only random weights.
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
        # The state of one optimizer means nothing to another.
        if checkpoint is not None and checkpoint.method == recipe.method.key:
            trainer.state.write(checkpoint.values)
            if recipe.schedule is None and recipe.learning_rate is not None:
                trainer.model.optimizer.learning_rate = recipe.learning_rate
    if start.carried_from is not None:
        network.carry_statistics(*start.carried_from, start.mean, start.scale)
    network.set_statistics(start.mean, start.scale)
    network.set_hyperparameters(recipe.l1, recipe.l2, recipe.dropout)
    network.set_pixel_scaling(start.scaling)
    suffix.objective.prepare_metric(trainer.metric)


def _result(run: Run, suffix: Suffix, start: Start) -> TrainedSuffix:
    """Return the suffix as it was at the end of the last epoch."""
    reached, trained, network = run.reached, start.trained, run.trainer.network
    values = as_arrays(reached.snapshot)
    n_weights = len(network.weights)
    parameters = mixed(run.began, values[:n_weights], reached.soup)
    run.trainer.set_parameters(parameters)
    if reached.temperature != 1:
        network.divide_scores(reached.temperature)
        parameters = as_arrays(network.weights)
    n_before = len(start.history.get("loss", ()))
    return TrainedSuffix(
        suffix=suffix,
        mean=start.mean,
        scale=start.scale,
        weights=network.head_weights(),
        l2=run.recipe.l2,
        history=reached.history,
        phases=_phases(run, start),
        moments=start.moments,
        parameters=parameters,
        scaling=start.scaling,
        dropout=run.recipe.dropout,
        checkpoint=Checkpoint(values, run.recipe.method.key, run.began),
        epochs_done=reached.epochs_done,
        soup=reached.soup,
        n_head_iter=n_before if trained is None else trained.n_head_iter,
    )


def _phases(run: Run, start: Start) -> Phases:
    """Return the phases so far. Training from a checkpoint prolongs the last one."""
    part, reached, before = run.recipe.part, run.reached, start.phases
    earlier = 0
    if start.epochs_done and before:
        before, earlier = before[:-1], before[-1].length - start.epochs_done
    length, kept = earlier + reached.epochs_done, earlier + reached.kept
    if not length:
        return before
    return (*before, Phase(part, UNITS[1], length, kept, reached.stopped_early))


def _initial_kernels(shapes: Sequence[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Return kernels as Keras draws them for dense layers.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    rng = np.random.default_rng(seed)
    limits = [np.sqrt(6 / (inputs + outputs)) for inputs, outputs in shapes]
    return [
        rng.uniform(-limit, limit, shape).astype(np.float32)
        for shape, limit in zip(shapes, limits, strict=True)
    ]
