"""Mixing the weights before and after a phase of training.

The mixed weights lie on the line from the one to the other. Some point of it is mostly better than
both ends, and its beginning is the head on the frozen network. Three quarters of the trained
weights are taken unless validation samples speak against it. So fine-tuning ends at most a standard
error worse than it began, as far as these samples can tell.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Shares of the trained weights that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

# This share is the most accurate on average. The lowest validation loss is mostly that of another
# one, by chance: few samples cannot tell neighbours apart (`benchmarks/fine_tuning_rules.py`).
USUAL = 0.75


def mixed(before: Sequence[np.ndarray], after: Sequence[np.ndarray], share: float) -> list:
    """Return weights with `share` of the ones after training; others than floats are those after.

    Examples
    --------
    >>> mixed([np.zeros(2)], [np.ones(2)], 0.25)
    [array([0.25, 0.25])]
    """
    if share == 1:
        return list(after)
    return [_mixed(old, new, share) for old, new in zip(before, after, strict=True)]


def choose_share(
    losses_at: Callable[[float], np.ndarray], weights: np.ndarray
) -> tuple[float, dict[float, float]]:
    """Return the share of the trained weights to take, and the mean losses of all shares.

    `losses_at` returns the losses of the validation samples at a share, shape (n,), and `weights`
    are those of the samples, which sum to one. Of the shares whose loss is at most a standard error
    above the lowest, it is the one nearest to the usual share. Losses that are not finite count as
    the highest.
    """
    losses = {share: losses_at(share) for share in SHARES}
    means = {share: mean_of(each, weights) for share, each in losses.items()}
    finite = [share for share in SHARES if np.isfinite(means[share])]
    if not finite:
        return 0.0, means
    best = min(finite, key=means.__getitem__)
    near = [share for share in finite if is_near(losses[share], losses[best], weights)]
    return min(near, key=lambda share: abs(share - USUAL)), means


def mean_of(losses: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean of the losses of samples that have a weight; `weights` sum to one."""
    counted = weights > 0
    return float(weights[counted] @ losses[counted])


def is_near(
    losses: np.ndarray, lowest: np.ndarray, weights: np.ndarray, errors: float = 1.0
) -> bool:
    """Return whether losses are at most `errors` standard errors above the lowest ones.

    Both are of the same samples, whose `weights` sum to one. One sample tells nothing.

    Examples
    --------
    >>> third = np.full(3, 1 / 3)
    >>> is_near(np.array([0.5, 0.9, 0.4]), np.array([0.6, 0.4, 0.5]), third)
    True
    >>> is_near(np.array([0.9, 0.8, 0.9]), np.array([0.6, 0.4, 0.5]), third)
    False
    """
    counted = weights > 0
    weights, difference = weights[counted], (losses - lowest)[counted]
    if len(weights) < 2:
        return True
    mean, unevenness = weights @ difference, weights @ weights
    variance = weights @ (difference - mean) ** 2 * unevenness / (1 - unevenness)
    return bool(mean <= errors * np.sqrt(variance))


def _mixed(old: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
    # bfloat16 is a float, too, of a kind that NumPy does not know.
    if "float" not in new.dtype.name:
        return new
    # The difference may overflow, which must not reach the weights before.
    return old if share == 0 else old + (new - old) * new.dtype.type(share)
