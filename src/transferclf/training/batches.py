"""Batches: in which order the samples come, determined by a seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def epoch_orders(n_samples: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Yield one order of all samples for each epoch.

    Parameters
    ----------
    n_samples, epochs : int
        How many there are.
    seed : int
        Determines all orders; those of fewer epochs are the first of those of more.

    Yields
    ------
    ndarray of int32, shape (n_samples,)
        Batches are consecutive parts of it, the last one as short as it comes.

    Examples
    --------
    >>> [sorted(order.tolist()) for order in epoch_orders(3, 2, seed=0)]
    [[0, 1, 2], [0, 1, 2]]
    """
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        yield rng.permutation(n_samples).astype(np.int32)
