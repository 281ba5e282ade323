"""The penalty of a ridge head, chosen by the exact errors of samples that are left out.

Each image is left out in turn, and the errors of the heads that are fitted to all others follow
from one decomposition without fitting them. Copies of an image, and its crops, are left out
together: else a copy would tell the target of the other, and the weakest penalty would win.

Source: Golub, Heath and Wahba, "Generalized cross-validation as a method for choosing a good ridge
parameter", Technometrics 21 (1979), and for groups of samples Cook and Weisberg, "Residuals and
influence in regression" (1982).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from transferclf._printing import say
from transferclf.features.row_file import Rows
from transferclf.heads.blocks import are_in_blocks, row_digests
from transferclf.heads.linear import few_threads
from transferclf.heads.ridge import RidgeAxes, ridge_axes
from transferclf.objectives import Objective
from transferclf.training.regularization import DEFAULT_L2, linked

# Quarter decades, from strong to weak: one decomposition serves them all.
CANDIDATES = np.logspace(3, -5, 33)

# The size in double precision of the samples of one part.
PART_BYTES = 2**25

# Errors within this part of each other are a tie, which the stronger penalty wins.
TIE = 1e-9


def choose_ridge_l2(
    features: Rows,
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
    with few_threads(math.prod(features.shape) * min(features.shape)):
        samples = distinct_samples(features, targets, sample_weight, groups)
        if samples.units.max() == 0:
            return DEFAULT_L2
        losses = samples.losses(CANDIDATES)
    l2 = float(CANDIDATES[np.flatnonzero(losses <= losses.min() * (1 + TIE))[0]])
    if verbose:
        say(f"l2: {l2:.2g} by leave-one-out, squared error {losses.min():.4f}")
    return l2


class SampleAxes:
    """Orthonormal axes of distinct samples (n, r), computed for some samples at a time.

    `first` are the positions of the samples in the features, and `factors` multiply their rows.
    """

    def __init__(self, axes: RidgeAxes, features: Rows, first: np.ndarray, factors: np.ndarray):
        self._axes, self._features = axes, features
        self._first, self._factors = first, factors

    def __getitem__(self, samples: np.ndarray) -> np.ndarray:
        positions = self._first[samples]
        order = np.argsort(positions)  # a file is read in its order
        rows = np.empty((len(samples), self._features.shape[1]), self._features.dtype)
        rows[order] = self._features[positions[order]]
        moments = self._axes.moments
        standardised = (rows - moments.mean) / self._axes.scale
        return self._axes.of_samples(standardised, positions) * self._factors[samples, None]


@dataclass(frozen=True)
class LeftOut:
    """Distinct samples in the axes of the features, multiplied by the roots of their shares.

    `axes` (n, r) are orthonormal and have the eigenvalues `squares`. `targets` (n, n_outputs) are
    means over copies, whose own squared distance from these means is `within`. Samples of one unit
    are left out together. At most about `part_length` samples are worked on at a time.
    """

    axes: np.ndarray | SampleAxes
    squares: np.ndarray
    roots: np.ndarray
    targets: np.ndarray
    within: float
    units: np.ndarray
    part_length: int

    def losses(self, candidates: np.ndarray) -> np.ndarray:
        """Return the mean squared error of left-out samples for each l2."""
        # Without a penalty on the intercept, the fitted values are a projection on the roots and a
        # shrunk one on the axes, which are orthogonal to them.
        factors = self.squares / (self.squares + np.asarray(candidates)[:, None])
        parts = self._parts()
        along = sum(self.axes[part].T @ self.targets[part] for part in parts)
        losses = np.full(len(factors), self.within)
        for part in parts:
            losses += self._losses(part, factors, np.asarray(along))
        return losses

    def _losses(self, part: np.ndarray, factors: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Return the squared errors of some samples, summed, for each row of factors."""
        axes, roots = self.axes[part], self.roots[part]
        rest = self.targets[part] - np.outer(roots, self.roots @ self.targets)
        leverages = axes**2 @ factors.T + roots[:, None] ** 2
        units = self._units_of(part)
        losses = []
        for number, factor in enumerate(factors):
            residuals = rest - axes @ (factor[:, None] * along)
            errors = residuals / (1 - leverages[:, number, None])
            for unit in units:
                errors[unit] = _solved(axes[unit], roots[unit], factor, residuals[unit])
            losses.append(np.vdot(errors, errors))
        return np.array(losses)

    def _parts(self) -> list[np.ndarray]:
        """Return the positions of samples part by part; a unit is in one part."""
        order = np.argsort(self.units, kind="stable")
        if len(order) <= self.part_length:
            return [np.arange(len(order))]
        ends = np.cumsum(np.bincount(self.units))
        wanted = np.arange(self.part_length, len(order), self.part_length)
        return np.split(order, np.unique(ends[np.searchsorted(ends, wanted)]))

    def _units_of(self, part: np.ndarray) -> list[np.ndarray]:
        """Return the places in a part of the samples of each unit that has more than one."""
        units = np.unique(self.units[part], return_inverse=True)[1]
        order = np.argsort(units, kind="stable")
        found = np.split(order, np.cumsum(np.bincount(units))[:-1])
        return [unit for unit in found if len(unit) > 1]


def _solved(
    axes: np.ndarray, roots: np.ndarray, factor: np.ndarray, residuals: np.ndarray
) -> np.ndarray:
    """Return the errors of samples that are left out together."""
    hat = (axes * factor) @ axes.T + np.outer(roots, roots)
    return np.linalg.solve(np.eye(len(axes)) - hat, residuals)


def distinct_samples(
    features: Rows, targets: np.ndarray, weights: np.ndarray, groups: np.ndarray | None
) -> LeftOut:
    """Return the samples with a weight, each once, in the order of their digests."""
    kept = np.flatnonzero(weights)
    if len(kept) < len(weights) and not are_in_blocks(features):
        features, targets, weights = features[kept], targets[kept], weights[kept]
        groups, kept = None if groups is None else groups[kept], np.arange(len(kept))
    axes = ridge_axes(features, weights)
    _, first, sample = np.unique(
        row_digests(features, kept), return_index=True, return_inverse=True
    )
    targets, of_rows = targets[kept], axes.shares[kept]
    shares = np.bincount(sample, of_rows)
    parts = [np.bincount(sample, of_rows * column) for column in targets.T]
    means = np.stack(parts, axis=1) / shares[:, None]
    within = float(of_rows @ ((targets - means[sample]) ** 2).sum(axis=1))
    units = np.arange(len(first))
    if groups is not None:
        order = np.argsort(sample, kind="stable")
        units = linked(sample[order], groups[kept][order])
    # The axes of a sample that comes several times are those of one with the sum of the weights.
    factors = np.sqrt(shares / of_rows[first])
    roots = np.sqrt(shares)
    of_samples = SampleAxes(axes, features, kept[first], factors)
    is_small = not are_in_blocks(features)
    length = max(PART_BYTES // (8 * features.shape[1]), 1)
    everything = np.arange(len(first))
    return LeftOut(
        of_samples[everything] if is_small else of_samples,
        axes.squares,
        roots,
        means * roots[:, None],
        within,
        units,
        len(first) if is_small else length,
    )
