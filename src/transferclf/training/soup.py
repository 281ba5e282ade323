"""Mixing the weights before and after a phase of training.

The mixed weights lie on the line from the one to the other. Some point of it is mostly better than
both ends, and its beginning is the head on the frozen network. The more training gains on
validation samples, the larger is the share of the trained weights that is best on average: three
quarters where it gains much, and a quarter where it gains nothing. Validation samples may speak for
another share. So fine-tuning ends at most a standard error worse than it began, as far as these
samples can tell.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from transferclf.objectives import Objective

# Shares of the trained weights that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

# Little is gained where the validation loss falls by less than this part of that of a guess.
LITTLE = 0.1

# The usual shares where nothing, little and much is gained, which are the most accurate on average
# or hardly behind (`benchmarks/fine_tuning_rules.py`). The lowest validation loss is mostly that of
# another share, by chance: few samples cannot tell neighbours apart. If the loss is no lower at
# three quarters than at the beginning, and bends evenly, it is lowest near a quarter.
OF_NOTHING, OF_LITTLE, USUAL = 0.25, 0.5, 0.75


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


class Soup(NamedTuple):
    """The share of the trained weights to take, the temperature, and the mean losses of shares."""

    share: float
    temperature: float
    losses: dict[float, float]


def choose_soup(
    scores_at: Callable[[float], np.ndarray],
    objective: Objective,
    targets: np.ndarray,
    weights: np.ndarray,
) -> Soup:
    """Return the share of the trained weights to take, and the temperature of its scores.

    `scores_at` returns the scores of the validation samples at a share, and `weights` are those of
    the samples, which sum to one.
    """
    scores_at = functools.cache(scores_at)

    def losses_at(share: float) -> np.ndarray:
        return objective.calibrated_losses(scores_at(share), targets, weights)

    with np.errstate(all="ignore"):  # losses that are not finite are not taken
        guess = objective.guess(scores_at(0.0), targets, weights)
        share, losses = choose_share(losses_at, weights, guess)
    temperature = 1.0
    if share > 0:  # few images cannot tell that scores should be larger
        temperature = max(temperature, objective.temperature(scores_at(share), targets, weights))
    return Soup(share, temperature, losses)


def choose_share(
    losses_at: Callable[[float], np.ndarray], weights: np.ndarray, guess: float
) -> tuple[float, dict[float, float]]:
    """Return the share of the trained weights to take, and the mean losses of all shares.

    `losses_at` returns the losses of the validation samples at a share, shape (n,), and `weights`
    are those of the samples, which sum to one. `guess` is the mean loss if each sample had the mean
    scores of all. Of the shares whose loss is at most a standard error above the lowest, it is the
    one nearest to the usual share; of two such, the smaller. Losses that are not finite count as
    the highest.
    """
    losses = {share: losses_at(share) for share in SHARES}
    means = {share: mean_of(each, weights) for share, each in losses.items()}
    finite = [share for share in SHARES if np.isfinite(means[share])]
    if not finite:
        return 0.0, means
    best = min(finite, key=means.__getitem__)
    near = [share for share in finite if is_near(losses[share], losses[best], weights)]
    usual = usual_share(means[0] - means[USUAL], guess)
    return min(near, key=lambda share: abs(share - usual)), means


def usual_share(gain: float, guess: float) -> float:
    """Return the usual share where so much loss is gained. Nothing is if it is not a number.

    Examples
    --------
    >>> [usual_share(gain, 2.0) for gain in (-0.3, 0.1, 0.3)]
    [0.25, 0.5, 0.75]
    """
    if not gain > 0:
        return OF_NOTHING
    return OF_LITTLE if gain < LITTLE * guess else USUAL


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
