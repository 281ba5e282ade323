"""A phase while it runs: its epochs, the measures after each, and the end."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import DivergenceError
from transferclf.heads.history import History, entries
from transferclf.objectives import Objective
from transferclf.training.batches import Samples, epoch_orders, tiled
from transferclf.training.callbacks import told_callbacks
from transferclf.training.feeding import Data, data_of
from transferclf.training.recipe import Recipe
from transferclf.training.schedules import rates
from transferclf.training.soup import USUAL, choose_soup, mixed
from transferclf.training.steps import as_arrays
from transferclf.training.trainer import Trainer

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor
    from keras.callbacks import CallbackList

# Where layers of a pretrained network are trained, the loss begins below that of zero scores. In an
# epoch, it is so many times as high only if the steps are far too large.
EXPLODED = 100.0

# So many samples show after training whether scores are finite: one batch of the compiled network.
CHECKED = 32


@dataclass(frozen=True)
class Reached:
    """State of training at the end of an epoch; replaced as a whole, never changed.

    `snapshot` has the values of all that training changes, and `kept` is the epoch of its weights.
    `history` also has the epochs before this phase, `epochs_done` only counts those of the phase.
    `soup` is the share of these weights in the result, whose scores are divided by `temperature`.
    """

    snapshot: list[Tensor]
    history: History
    epochs_done: int
    kept: int
    stopped_early: bool = False
    soup: float = 1.0
    temperature: float = 1.0


@dataclass(eq=False)
class Run:
    """A phase while it runs. Hold the lock of its trainer.

    `reached` is the state at the end of the last epoch. An interruption at any moment leaves it
    whole.
    """

    trainer: Trainer
    objective: Objective  # that of the trainer may be another one of the same key
    recipe: Recipe
    samples: Samples
    validation: Samples | None
    history: InitVar[History]
    epochs_done: InitVar[int] = 0
    # The weights before the phase, where its result is mixed with them.
    began: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self, history: History, epochs_done: int) -> None:
        self._epochs = self.recipe.epochs_for(len(self.samples))
        self._n_batches = -(-len(self.samples) // self.recipe.batch_size)
        # The entries are there even if no epoch ends.
        before: History = {"loss": [], self.objective.measure: []}
        before |= {name: list(values) for name, values in history.items()}
        snapshot, _ = self.trainer.state.read()
        if self.recipe.soup != 1 and not self.began:
            self.began = as_arrays(snapshot[: len(self.trainer.network.weights)])
        self._began = self.reached = Reached(snapshot, before, epochs_done, epochs_done)

    def train(self, verbose: int) -> None:
        """Run the epochs that are left, and leave the trainer with the best or the last weights.

        DivergenceError is raised if the loss, weights or scores are no longer finite.
        """
        recipe, model, first = self.recipe, self.trainer.model, self.reached.epochs_done
        data, steps = self._data(), self._scheduled_rates()
        with told_callbacks(
            recipe, model, self._measured, (self._epochs, self._n_batches), first
        ) as callbacks:
            for epoch, order in enumerate(epoch_orders(self.samples, self._epochs, recipe.seed)):
                if epoch < first:
                    continue
                began = perf_counter()
                callbacks.on_epoch_begin(epoch)
                logs = self._epoch(data, order, steps, epoch, callbacks)
                self._check_epoch(epoch, logs)
                callbacks.on_epoch_end(epoch, logs)
                self._record(epoch, logs)
                if verbose:
                    seconds = perf_counter() - began
                    numbers = " - ".join(f"{name}: {value:.4g}" for name, value in logs.items())
                    step = f"{recipe.part}, epoch {epoch + 1} of {self._epochs}"
                    say(f"{step} - {seconds:.1f}s - {numbers}")
                if model.stop_training:
                    break
        self._end(callbacks, verbose)

    def fall_back(self) -> None:
        """After training diverged: go back to the last epoch, or to the start if that is better.

        The last epoch may already have been on the way to divergence. Fine-tuning starts from a
        fitted head, and goes back to it.
        """
        if self.recipe.part == "fine-tuning":
            self.reached = self._began
            return
        losses = []
        for state in (self.reached, self._began):
            self.trainer.state.write(state.snapshot)
            losses.append(self._loss_and_measure(self._some())[0])
        if not losses[0] <= losses[1]:  # also if it is no number
            self.reached = self._began

    def _soup(self, snapshot: list[Tensor], verbose: int) -> tuple[float, float]:
        """Return the share of these weights in the result, and the temperature of its scores."""
        validation, objective = self.validation, self.objective
        if self.recipe.soup != "auto":
            return float(self.recipe.soup), 1.0
        if validation is None:
            return USUAL, 1.0
        after = as_arrays(snapshot[: len(self.began)])
        weights = validation.weights / validation.weights.sum()

        def scores_at(share: float) -> np.ndarray:
            self.trainer.set_parameters(mixed(self.began, after, share))
            return self.trainer.scores(validation.rows).astype(float)

        soup = choose_soup(scores_at, objective, validation.targets, weights)
        if verbose:
            shown = ", ".join(f"{each:g}: {loss:.4g}" for each, loss in soup.losses.items())
            say(
                f"soup: {soup.share:g} of the trained weights, temperature {soup.temperature:g}; "
                f"validation losses {shown}"
            )
        return soup.share, soup.temperature

    def _end(self, callbacks: CallbackList, verbose: int) -> None:
        """Keep the weights that the callbacks have left, which may be those of an earlier epoch."""
        done = self.reached.epochs_done
        # Finite weights can give scores that are not. With validation samples, the check of their
        # loss after each epoch has found it already.
        if self.validation is None:
            scores = self.trainer.scores(self._some().rows)
            if not np.isfinite(scores).all():
                raise self._diverged(f"after epoch {done}", self.trainer.learning_rate)
        snapshot, _ = self.trainer.state.read()
        kept = callbacks.kept_epoch(done)
        is_early = bool(self.trainer.model.stop_training) and done < self._epochs
        soup, temperature = self._soup(snapshot, verbose)
        self.reached = replace(
            self.reached,
            snapshot=snapshot,
            kept=kept,
            stopped_early=is_early,
            soup=soup,
            temperature=temperature,
        )
        if verbose and (is_early or kept < done):
            end = (
                f"early stopping after epoch {done}" if is_early else f"all {done} epochs are done"
            )
            weights = (
                f"the weights of epoch {kept}" if kept else "the weights before the first epoch"
            )
            say(
                f"{self.recipe.part}, {end}; {weights} {'came back' if kept < done else 'are kept'}"
            )

    def _epoch(
        self,
        data: Data,
        order: np.ndarray,
        steps: np.ndarray | None,
        epoch: int,
        callbacks: CallbackList,
    ) -> dict[str, float]:
        count = self._n_batches
        now = None if steps is None else steps[epoch * count : (epoch + 1) * count]
        rate = self.trainer.learning_rate if now is None else float(now[0])
        on_batch = callbacks if callbacks.watches_batches else None
        logs = self.trainer.epoch(data, order, self.recipe.batch_size, now, on_batch)
        return logs | {"learning_rate": rate} | self._measured()

    def _measured(self) -> dict[str, float]:
        """Return loss, with penalties as Keras reports it, and measure on validation samples."""
        if self.validation is None:
            return {}
        loss, measure = self._loss_and_measure(self.validation)
        return {"val_loss": loss, f"val_{self.objective.measure}": measure}

    def _loss_and_measure(self, samples: Samples) -> tuple[float, float]:
        scores = self.trainer.scores(samples.rows).astype(float)
        with np.errstate(all="ignore"):  # scores that are not finite are an error of their own
            shares = samples.weights / samples.weights.sum()
            losses, measures = self.objective.losses(scores, samples.targets)
            penalty = float(sum(as_arrays(self.trainer.model.losses)))
            return float(shares @ losses) + penalty, float(shares @ measures)

    def _some(self) -> Samples:
        """Return a few of the training samples."""
        samples, some = self.samples, self.samples.positions[:CHECKED]
        rows = self.trainer.at_cut(samples.rows[some])
        return Samples.of(rows, samples.targets[some], samples.weights[some])

    def _record(self, epoch: int, logs: dict[str, float]) -> None:
        """Add an epoch: all of it in one assignment, or nothing if that is interrupted."""
        snapshot, _ = self.trainer.state.read()
        history = dict(self.reached.history)
        for name in entries(self.objective.measure):
            if name in logs:
                history[name] = [*history.get(name, ()), logs[name]]
        self.reached = Reached(snapshot, history, epoch + 1, epoch + 1)

    def _check_epoch(self, epoch: int, logs: dict[str, float]) -> None:
        losses = [logs[name] for name in ("loss", "val_loss") if name in logs]
        if not np.isfinite(losses).all() or not self.trainer.state.read()[1]:
            raise self._diverged(f"in epoch {epoch + 1}", logs["learning_rate"])
        if self.recipe.part == "fine-tuning" and logs["loss"] > EXPLODED * self._loss_of_zeros():
            what = f"the loss is {logs['loss']:.3g}, far above that of equal scores"
            raise self._diverged(f"in epoch {epoch + 1}", logs["learning_rate"], what)

    def _loss_of_zeros(self) -> float:
        samples = self.samples
        zeros = np.zeros((len(samples.targets), self.objective.n_outputs))
        losses, _ = self.objective.losses(zeros, samples.targets)
        return float(np.average(losses, weights=samples.weights))

    def _diverged(
        self,
        when: str,
        rate: float,
        what: str = "the loss, the weights or the scores are no longer finite numbers",
    ) -> DivergenceError:
        is_tuning = self.recipe.part == "fine-tuning"
        name = "fine_tune_learning_rate" if is_tuning else "learning_rate"
        if is_tuning and self.recipe.learning_rate is not None:
            rate = self.recipe.learning_rate  # that of the epoch may be one of the warm-up
        return DivergenceError(
            f"training diverged: {when} at a learning rate of {rate:g} {what}. "
            f"Set {name} to a tenth of that or less."
        )

    def _data(self) -> Data:
        samples = self.samples
        targets = tiled(samples.targets, samples.n_views)
        targets = targets.astype(self.objective.no_targets(1).dtype)
        weights = samples.weights / samples.weights[samples.positions].mean()
        return data_of(samples.rows, targets, np.tile(weights, samples.n_views))

    def _scheduled_rates(self) -> np.ndarray | None:
        recipe, first = self.recipe, self.recipe.learning_rate
        schedule = recipe.schedule
        if schedule is None or schedule == "plateau":
            return None
        if first is None and isinstance(schedule, str):
            first = self.trainer.first_rate  # the present one may be of an interrupted epoch
        return rates(schedule, first, self._n_batches * self._epochs, recipe.warmup)
