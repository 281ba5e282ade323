"""A phase while it runs: its epochs, what is measured after each, and when it ends."""

from __future__ import annotations

import warnings
from time import perf_counter
from typing import Any

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning

from transferclf._printing import say
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.callbacks import callback_list
from transferclf.training.recipe import Recipe
from transferclf.training.schedules import rates
from transferclf.training.trainer import Trainer

History = dict[str, list[float]]

# What is kept of each epoch.
HISTORY = ("loss", "accuracy", "learning_rate", "val_loss", "val_accuracy")


class Run:
    """A phase while it runs; the trainer is its own."""

    def __init__(
        self,
        trainer: Trainer,
        recipe: Recipe,
        samples: Samples,
        validation: Samples | None,
        history: History,
    ):
        self.trainer = trainer
        self.recipe = recipe
        self.samples = samples
        self.validation = validation
        # Also where there is no epoch that counts.
        self.history: History = {"loss": [], "accuracy": []}
        self.history |= {name: list(values) for name, values in history.items()}
        self.good, _ = trainer.snapshot()
        self.epochs_done = 0

    def train(self, epochs: range, verbose: int) -> None:
        """Run these epochs, and leave the trainer with the best or the last finite weights."""
        self.epochs_done = epochs.start
        data, steps = self._tensors(), self._scheduled_rates()
        with callback_list(self.recipe, self.trainer.model, self._measured) as callbacks:
            orders = epoch_orders(self.samples, self.recipe.epochs, self.recipe.seed)
            for epoch, order in enumerate(orders):
                if epoch not in epochs:
                    continue
                began = perf_counter()
                callbacks.on_epoch_begin(epoch)
                logs = self._epoch(data, order, steps, epoch, callbacks)
                if not np.isfinite(logs["loss"]) or not self.trainer.snapshot()[1]:
                    self.trainer.restore(self.good)
                    _warn_overflow(epoch + 1, self.trainer.learning_rate)
                    break
                callbacks.on_epoch_end(epoch, logs)
                self._record(epoch, logs)
                if verbose:
                    _show(epoch, self.recipe.epochs, perf_counter() - began, logs)
                if self.trainer.model.stop_training:
                    break
        self.good, _ = self.trainer.snapshot()

    def _epoch(
        self, data: Any, order: np.ndarray, steps: np.ndarray | None, epoch: int, callbacks: Any
    ) -> dict[str, float]:
        count = self._n_batches
        now = None if steps is None else steps[epoch * count : (epoch + 1) * count]
        rate = self.trainer.learning_rate if now is None else float(now[0])
        on_batch = callbacks if callbacks.watches_batches else None
        logs = self.trainer.epoch(data, order, self.recipe.batch_size, now, on_batch)
        return logs | {"learning_rate": rate} | self._measured()

    def _measured(self) -> dict[str, float]:
        """Loss, with penalties as Keras reports it, and accuracy on the validation samples."""
        samples = self.validation
        if samples is None:
            return {}
        scores = self.trainer.scores(samples.rows).astype(float)
        shares = samples.weights / samples.weights.sum()
        losses = -log_softmax(scores, axis=1)[np.arange(len(scores)), samples.labels]
        right = scores.argmax(axis=1) == samples.labels
        loss = float(shares @ losses) + self.trainer.penalty()
        return {"val_loss": loss, "val_accuracy": float(shares @ right)}

    def _record(self, epoch: int, logs: dict[str, float]) -> None:
        self.good, _ = self.trainer.snapshot()
        self.epochs_done = epoch + 1
        for name in HISTORY:
            if name in logs:
                self.history.setdefault(name, []).append(logs[name])

    def _tensors(self) -> tuple[Any, Any, Any]:
        from keras import ops

        samples = self.samples
        dtype = "uint8" if samples.rows.dtype == np.uint8 else "float32"
        weights = samples.weights / samples.weights[samples.positions].mean()
        return (
            ops.convert_to_tensor(samples.rows, dtype),
            ops.convert_to_tensor(np.tile(samples.labels, samples.n_views), "int32"),
            ops.convert_to_tensor(np.tile(weights, samples.n_views), "float32"),
        )

    def _scheduled_rates(self) -> np.ndarray | None:
        schedule, first = self.recipe.schedule, self.recipe.learning_rate
        if schedule is None or schedule == "plateau":
            return None
        if first is None and isinstance(schedule, str):
            first = self.trainer.first_rate  # that of now may be of an epoch before an interruption
        return rates(schedule, first, self._n_batches * self.recipe.epochs)

    @property
    def _n_batches(self) -> int:
        return -(-len(self.samples) // self.recipe.batch_size)


def _warn_overflow(epoch: int, learning_rate: float) -> None:
    warnings.warn(
        f"the loss overflowed in epoch {epoch}, and training stopped with the weights before it; "
        f"lower the learning rate, {learning_rate:g}",
        ConvergenceWarning,
        stacklevel=5,
    )


def _show(epoch: int, epochs: int, seconds: float, logs: dict[str, float]) -> None:
    numbers = " - ".join(f"{name}: {value:.4g}" for name, value in logs.items())
    say(f"Epoch {epoch + 1}/{epochs} - {seconds:.1f}s - {numbers}")
