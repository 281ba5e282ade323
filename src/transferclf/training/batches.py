"""Samples, and the random order in which each epoch takes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from transferclf.features.row_file import RowFile, Rows

# The largest size in bytes of a part of the rows.
PART_BYTES = 2**25


@dataclass(frozen=True)
class Samples:
    """Samples to train on or to measure.

    `rows`, shape (n_views * n, ...), are features, activations or pixels of n images: first those
    of one view of all images, then those of the next. Many rows may be in a file. `targets` (n,
    ...) and `weights` (n,) are of the images. `positions` are the images that are samples, repeated
    where classes are oversampled.
    """

    rows: Rows
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(
        cls,
        rows: Rows,
        targets: np.ndarray,
        weights: np.ndarray,
        positions: np.ndarray | None = None,
    ) -> Samples:
        """Return samples of the images at these positions; None takes each image once."""
        chosen = np.arange(len(targets)) if positions is None else positions
        return cls(rows, targets, weights, chosen)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def n_views(self) -> int:
        """Number of rows of each image."""
        return len(self.rows) // len(self.targets)

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all rows in parts of a limited size."""
        size = max(PART_BYTES // self.rows[:1].nbytes, 1)
        for start in range(0, len(self.rows), size):
            yield self.rows[start : start + size]

    def unrolled(self) -> tuple[Rows, np.ndarray, np.ndarray]:
        """Return rows, targets and weights of all views of all samples.

        Rows in a file are those of the images: a repeated sample has a larger weight, and one that
        is none has no weight.
        """
        targets, weights = self.targets, self.weights
        if isinstance(self.rows, RowFile):
            weights = weights * np.bincount(self.positions, minlength=len(targets))
            return self.rows, tiled(targets, self.n_views), np.tile(weights, self.n_views)
        starts = len(targets) * np.arange(self.n_views)
        chosen = (starts[:, None] + self.positions).ravel()
        is_all = len(chosen) == len(self.rows) and (chosen == np.arange(len(chosen))).all()
        rows = self.rows if is_all else self.rows[chosen]
        targets, weights = targets[self.positions], weights[self.positions]
        return rows, tiled(targets, self.n_views), np.tile(weights, self.n_views)

    @property
    def unrolled_images(self) -> np.ndarray:
        """The position of the image of each unrolled row."""
        is_in_file = isinstance(self.rows, RowFile)
        positions = np.arange(len(self.targets)) if is_in_file else self.positions
        return np.tile(positions, self.n_views)


def tiled(targets: np.ndarray, times: int) -> np.ndarray:
    """Return targets of shape (n, ...), repeated as a whole; the same array for once."""
    return np.concatenate([targets] * times) if times != 1 else targets


def epoch_orders(samples: Samples, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the row numbers of each epoch, int32: one view of every sample, in random order.

    Batches are consecutive parts of it. `seed` determines all orders; fewer epochs have the same
    first orders.
    """
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = samples.positions[rng.permutation(len(samples))]
        if samples.n_views > 1:
            views = rng.integers(samples.n_views, size=len(order))
            order = order + views * len(samples.targets)
        yield order.astype(np.int32)
