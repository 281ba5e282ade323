"""Samples, and in which order they come, determined by a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Samples:
    """What is trained on, or measured on.

    Parameters
    ----------
    rows : ndarray of shape (n_views * n, ...)
        Rows of n images: features, activations or pixels; those of each view one after the other,
        in the order of the images.
    targets : ndarray of shape (n, ...)
        Encoded targets of the images.
    weights : ndarray of shape (n,)
        Weight of each image.
    positions : ndarray of int, shape (n_samples,)
        The images that are samples: each once, or more often where classes are oversampled.
    """

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(
        cls,
        rows: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        positions: np.ndarray | None = None,
    ) -> Samples:
        """Samples of which each image is one, unless it is said which."""
        return cls(
            rows, targets, weights, np.arange(len(targets)) if positions is None else positions
        )

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_views(self) -> int:
        """How many rows there are of each image."""
        return len(self.rows) // len(self.targets)

    def unrolled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, targets and weights of all views of all samples."""
        starts = len(self.targets) * np.arange(self.n_views)
        chosen = (starts[:, None] + self.positions).ravel()
        is_all = len(chosen) == len(self.rows) and (chosen == np.arange(len(chosen))).all()
        rows = self.rows if is_all else self.rows[chosen]
        targets, weights = self.targets[self.positions], self.weights[self.positions]
        return rows, tiled(targets, self.n_views), np.tile(weights, self.n_views)


def tiled(targets: np.ndarray, times: int) -> np.ndarray:
    """Return targets of shape (n, ...) so many times, one after the other."""
    return np.concatenate([targets] * times) if times != 1 else targets


def epoch_orders(samples: Samples, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of each epoch: every sample once, in one of its views, in random order.

    Parameters
    ----------
    samples : Samples
        What there is.
    epochs : int
        How many epochs.
    seed : int
        Determines all orders; those of fewer epochs are the first of those of more.

    Yields
    ------
    ndarray of int32, shape (n_samples,)
        Batches are consecutive parts of it, the last one as short as it comes.

    Examples
    --------
    >>> samples = Samples.of(np.eye(3), np.array([0, 1, 1]), np.ones(3))
    >>> [sorted(order.tolist()) for order in epoch_orders(samples, 2, seed=0)]
    [[0, 1, 2], [0, 1, 2]]
    """
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = samples.positions[rng.permutation(len(samples))]
        if samples.n_views > 1:
            views = rng.integers(samples.n_views, size=len(order))
            order = order + views * len(samples.targets)
        yield order.astype(np.int32)
