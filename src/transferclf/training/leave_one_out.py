"""The penalty of a ridge head, chosen by the exact errors of samples that are left out.

Each image is left out in turn, and the errors of the heads that are fitted to all others follow
from one decomposition without fitting them. Copies of an image, and its crops, are left out
together: else a copy would tell the target of the other, and the weakest penalty would win.

Source: Golub, Heath and Wahba, "Generalized cross-validation as a method for choosing a good ridge
parameter", Technometrics 21 (1979), and for groups of samples Cook and Weisberg, "Residuals and
influence in regression" (1982).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from transferclf._printing import say
from transferclf.heads.linear import few_threads
from transferclf.heads.ridge import ridge_axes
from transferclf.objectives import Objective
from transferclf.training.regularization import DEFAULT_L2, linked

# Quarter decades, from strong to weak: one decomposition serves them all.
CANDIDATES = np.logspace(3, -5, 33)

# Errors within this part of each other are a tie, which the stronger penalty wins.
TIE = 1e-9


def choose_ridge_l2(
    features: np.ndarray,
    targets: np.ndarray,
    objective: Objective,
    *,
    sample_weight: np.ndarray,
    groups: np.ndarray | None = None,
    verbose: int = 0,
) -> float:
    """Choose the penalty of a ridge head by the squared errors of samples that are left out.

    Nothing is random: the same samples give the same choice, one of `CANDIDATES`. It is
    `DEFAULT_L2` if all samples are of one image. Samples of one group, as crops of one image, are
    left out together. Identical samples always are, so that a weight of 2 is the sample twice. The
    mean and deviation of the features are those of all samples.
    """
    kept = np.flatnonzero(sample_weight)
    features, targets, weights = features[kept], targets[kept], sample_weight[kept]
    with few_threads(features.size * min(features.shape)):
        samples = distinct_samples(
            features, targets, weights, None if groups is None else groups[kept]
        )
        if samples.units.max() == 0:
            return DEFAULT_L2
        losses = samples.losses(CANDIDATES)
    l2 = float(CANDIDATES[np.flatnonzero(losses <= losses.min() * (1 + TIE))[0]])
    if verbose:
        say(f"l2: {l2:.2g} by leave-one-out, squared error {losses.min():.4f}")
    return l2


@dataclass(frozen=True)
class LeftOut:
    """Distinct samples in the axes of the features, multiplied by the roots of their shares.

    `axes` (n, r) are orthonormal and have the eigenvalues `squares`. `targets` (n, n_outputs) are
    means over copies, whose own squared distance from these means is `within`. Samples of one unit
    are left out together.
    """

    axes: np.ndarray
    squares: np.ndarray
    roots: np.ndarray
    targets: np.ndarray
    within: float
    units: np.ndarray

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        """Return the mean squared error of left-out samples for each l2."""
        # Without a penalty on the intercept, the fitted values are a projection on the roots and a
        # shrunk one on the axes, which are orthogonal to them.
        factors = self.squares / (self.squares + np.asarray(candidates)[:, None])
        along = self.axes.T @ self.targets
        rest = self.targets - np.outer(self.roots, self.roots @ self.targets)
        leverages = self.axes**2 @ factors.T + self.roots[:, None] ** 2
        blocks = self._blocks()
        losses = []
        for number, factor in enumerate(factors):
            residuals = rest - self.axes @ (factor[:, None] * along)
            errors = residuals / (1 - leverages[:, number, None])
            for block in blocks:
                errors[block] = self._solved(block, factor, residuals[block])
            losses.append(np.vdot(errors, errors) + self.within)
        return np.array(losses)

    def _blocks(self) -> list[np.ndarray]:
        """Return the positions of the samples of each unit that has more than one."""
        order = np.argsort(self.units, kind="stable")
        parts = np.split(order, np.cumsum(np.bincount(self.units))[:-1])
        return [part for part in parts if len(part) > 1]

    def _solved(self, block: np.ndarray, factor: np.ndarray, residuals: np.ndarray) -> np.ndarray:
        """Return the errors of samples that are left out together."""
        axes, roots = self.axes[block], self.roots[block]
        hat = (axes * factor) @ axes.T + np.outer(roots, roots)
        return np.linalg.solve(np.eye(len(block)) - hat, residuals)


def distinct_samples(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray | None
) -> LeftOut:
    """Return the samples, each once, in the order of their digests."""
    axes = ridge_axes(features, weights)
    rows = np.ascontiguousarray(features)
    digests = np.array([hashlib.sha256(row).hexdigest() for row in rows], dtype="S64")
    _, first, sample = np.unique(digests, return_index=True, return_inverse=True)
    shares = np.bincount(sample, axes.shares)
    parts = [np.bincount(sample, axes.shares * column) for column in targets.T]
    means = np.stack(parts, axis=1) / shares[:, None]
    within = float(axes.shares @ ((targets - means[sample]) ** 2).sum(axis=1))
    of_samples = axes.of_samples(axes.standardised(features))[first]
    units = np.arange(len(first))
    if groups is not None:
        order = np.argsort(sample, kind="stable")
        units = linked(sample[order], groups[order])
    # The axes of a sample that comes several times are those of one with the sum of the weights.
    factors = np.sqrt(shares / axes.shares[first])
    roots = np.sqrt(shares)
    return LeftOut(
        of_samples * factors[:, None],
        axes.squares,
        roots,
        means * roots[:, None],
        within,
        units,
    )
