"""The penalty of the linear head, chosen by cross-validation on the training samples.

No constant suits all data: photographs of many kinds want a weak penalty, cells that look alike
a strong one. Each candidate is fitted to all folds but one and judged by that one.

- The path goes from strong to weak penalties, each fit starting where the last one ended, and
  ends where the held-out loss has risen twice in a row.
- All fits are in the principal axes of the features, scaled by how much the objective curves
  along each, so that a handful of L-BFGS steps is enough.
- Folds are dealt by the content of the samples, not by their places or by chance: whatever their
  order, a sample of weight 2 is the sample twice, and one of weight 0 is none. Few samples are
  dealt several times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from transferclf._printing import say
from transferclf.exceptions import InvalidParameterError
from transferclf.features.row_file import Rows
from transferclf.heads.blocks import (
    BlockRows,
    StandardRows,
    are_in_blocks,
    mean_squares,
    parts_of,
    row_digests,
    squares_of_features,
    standardised,
)
from transferclf.heads.linear import LinearProblem, few_threads
from transferclf.heads.scaling import Moments
from transferclf.objectives import Objective

# Half decades. Below them the tolerance of L-BFGS decides, not the penalty.
CANDIDATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# The penalty where the samples cannot say: fewer than two classes, or mostly one sample of each.
DEFAULT_L2 = 0.01

N_FOLDS = 5

# No more folds are held out after so many distinct samples: more would cost and not tell more.
ENOUGH_HELD_OUT = 4000

# Fewer samples than this are dealt anew, up to so many times: chance decides which are together,
# and for some hundred samples the choice would depend on it.
FEW_HELD_OUT, N_DEALS = 1000, 5

# So many candidates in a row no better than the best one end the path.
PATIENCE = 2

# Losses within this part of each other are a tie. The stronger penalty, which is tried first, wins:
# the difference is noise, and its coefficients are smaller.
TIE = 0.002

# To choose, no optimum is needed: L-BFGS stops where a step gains less than this.
LOSS_TOLERANCE = 1e-5
MAX_ITER = 100

# Finding more principal axes than this takes longer than it saves.
MAX_AXES = 2048


def choose_l2(
    features: Rows,
    targets: np.ndarray,
    objective: Objective,
    *,
    sample_weight: np.ndarray,
    groups: np.ndarray | None = None,
    verbose: int = 0,
) -> float:
    """Choose the penalty of the linear head by cross-validation.

    Nothing is random: the same samples give the same choice, one of `CANDIDATES`. It is
    `DEFAULT_L2` if there are fewer than two strata (for classes: classes), or most distinct samples
    are the only ones of theirs.

    Samples of one group, as views of one image, are held out together. Identical samples of one
    target always are. `verbose` prints the choice. InvalidParameterError is raised if the arrays do
    not fit together or have invalid values.
    """
    n_broken = sum(np.count_nonzero(~np.isfinite(part)) for _, part in parts_of(features))
    if features.ndim != 2 or n_broken:
        raise InvalidParameterError(
            "features must be finite numbers of shape (n, d). "
            f"Got shape {features.shape}, {n_broken} of them not finite, instead."
        )
    objective.check_encoded(targets, len(features))
    for name, values in {"sample_weight": sample_weight, "groups": groups}.items():
        if values is not None and values.shape != (len(features),):
            raise InvalidParameterError(
                f"{name} must have shape ({len(features)},). Got {values.shape} instead."
            )
    if not (np.isfinite(sample_weight) & (sample_weight >= 0)).all():
        raise InvalidParameterError(
            "sample_weight must be finite and not negative. "
            f"Got {sample_weight.min()} to {sample_weight.max()} instead."
        )
    samples = _distinct(features, targets, objective, sample_weight, groups)
    if not samples.can_be_split():
        if verbose:
            print(f"l2: {DEFAULT_L2:.2g}, as most classes have one image")
        return DEFAULT_L2
    with few_threads(math.prod(features.shape) * objective.n_outputs):
        l2, loss, measure = _best(_folds(samples, objective), objective.penalty_scale)
    if verbose:
        found = f"held-out loss {loss:.4f}, {objective.measure} {measure:.4f}"
        say(f"l2: {l2:.2g} by cross-validation, {found}")
    return l2


@dataclass(frozen=True)
class _Samples:
    """Distinct samples with weights above zero, ordered by stratum and content.

    Samples of one unit are held out together. Units are numbered from 0 in order of appearance. The
    strata of classes are the classes. Where features are used in blocks, `chosen` are the samples
    among them, shape (n,) of bool, and all arrays are in the order of the features.
    """

    features: Rows
    targets: np.ndarray
    strata: np.ndarray
    weights: np.ndarray
    units: np.ndarray
    chosen: np.ndarray | None = None

    def can_be_split(self) -> bool:
        """Return whether the other folds know most strata of a fold."""
        # A held-out sample of a class that the other folds lack says only that the head should not
        # be sure of any class. If these were more than half, they would choose the penalty.
        strata, _ = np.unique(np.stack([self.strata, self.units]), axis=1)
        counts = np.unique(strata, return_counts=True)[1]
        n_known = counts[counts > 1].sum()
        has_units = len(np.unique(self.units)) > len(counts) >= 2
        return has_units and 2 * n_known >= counts.sum()


def _distinct(
    features: Rows,
    targets: np.ndarray,
    objective: Objective,
    weights: np.ndarray,
    groups: np.ndarray | None,
) -> _Samples:
    """Return the samples of nonzero weight, each once, by stratum and then by digest."""
    kept, strata = np.flatnonzero(weights), objective.strata(targets)
    digests = row_digests(features, kept)
    # Weights are in the order too, so that even the rounding of their sums is always the same, and
    # targets, so that equal samples of equal targets are neighbours.
    columns = targets[kept].reshape(len(kept), int(np.prod(targets.shape[1:]))).T
    order = np.lexsort((weights[kept], *columns, digests, strata[kept]))
    kept, digests = kept[order], digests[order]
    is_new = np.ones(len(kept), dtype=bool)
    differ = targets[kept[1:]] != targets[kept[:-1]]
    is_new[1:] = (digests[1:] != digests[:-1]) | differ.any(axis=tuple(range(1, differ.ndim)))
    starts = np.flatnonzero(is_new)
    units = np.arange(len(starts))
    if groups is not None:
        units = linked(np.cumsum(is_new) - 1, groups[kept])
    sums = np.add.reduceat(weights[kept], starts) if len(starts) else weights[:0]
    kept = kept[starts]
    if not are_in_blocks(features):
        return _Samples(features[kept], targets[kept], strata[kept], sums.astype(float), units)
    order, chosen = np.argsort(kept), np.zeros(len(features), bool)
    kept = kept[order]
    chosen[kept] = True
    sums, units = sums[order].astype(float), units[order]
    return _Samples(features, targets[kept], strata[kept], sums, units, chosen)


def linked(samples: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the number of the unit of each distinct sample: groups that share a sample are one."""
    if not len(samples):
        return samples
    n_samples = samples[-1] + 1
    names, group = np.unique(groups, return_inverse=True)
    size = n_samples + len(names)
    links = coo_matrix((np.ones(len(samples)), (samples, n_samples + group)), shape=(size, size))
    parts = connected_components(links, directed=False)[1][:n_samples]
    _, first, part = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[part]


def _folds(samples: _Samples, objective: Objective) -> list[Fold]:
    """Return folds to hold out: units are dealt in turn, and so, in their order, are strata."""
    # All folds share the mean, deviation and axes of all samples; they know nothing of targets.
    rows = principal_rows(samples.features, samples.weights, samples.chosen)
    folds: list[Fold] = []
    n_held_out, enough = 0, ENOUGH_HELD_OUT
    for deal in range(N_DEALS):
        # Each round of units begins `deal` places further on than the round before.
        fold_of = (samples.units + deal * (samples.units // N_FOLDS)) % N_FOLDS
        for number in range(fold_of.max() + 1):
            if n_held_out < enough:
                out = fold_of == number
                folds.append(Fold(rows, samples.targets, samples.weights, out, objective))
                n_held_out += int(out.sum())
        enough = min(enough, FEW_HELD_OUT)
    return folds


def principal_rows(
    features: Rows, weights: np.ndarray, chosen: np.ndarray | None = None
) -> StandardRows:
    """Return standardised features in their principal axes, in single precision; shape (m, r).

    `chosen`, shape (n,), are the m samples among features that are used in blocks, which `weights`
    are of; None is all.
    """
    if are_in_blocks(features):
        return _principal_blocks(features, weights, chosen)
    moments = Moments.of(features, weights)
    rows = standardised(features, moments.mean, moments.scale())
    assert isinstance(rows, np.ndarray)
    if not 1 < min(rows.shape) <= MAX_AXES:
        return rows.astype(np.float32)
    is_wide = rows.shape[0] < rows.shape[1]
    squares, axes = eigh(rows @ rows.T if is_wide else rows.T @ rows, driver="evd")
    kept = squares > len(axes) * np.finfo(float).eps * max(squares[-1], 0)
    squares, axes = squares[kept], axes[:, kept]
    return (axes * np.sqrt(squares) if is_wide else rows @ axes).astype(np.float32)


def _principal_blocks(features: Rows, weights: np.ndarray, chosen: np.ndarray | None) -> BlockRows:
    """Return the same of features that are used in blocks; wide ones stay in their own axes."""
    everywhere = weights
    if chosen is not None:
        everywhere = np.zeros(len(features))
        everywhere[chosen] = weights
    moments = Moments.of(features, everywhere)
    rows = BlockRows(features, moments.mean, moments.scale(), chosen)
    n_rows, n_features = rows.shape
    if not 1 < n_features <= min(MAX_AXES, n_rows):
        return rows
    squares, axes = eigh(squares_of_features(rows), driver="evd")
    kept = squares > len(axes) * np.finfo(np.float32).eps * max(squares[-1], 0)
    return replace(rows, axes=axes[:, kept], squares=squares[kept] / n_rows)


def _best(folds: list[Fold], scale: float) -> tuple[float, float, float]:
    """Return the best candidate times `scale`, its held-out loss and measure."""
    best, since = (DEFAULT_L2, np.inf, np.nan), 0
    for l2 in [scale * candidate for candidate in CANDIDATES[::-1]]:
        scores = np.sum([fold.scores(l2) for fold in folds], axis=0)
        loss, measure = scores / sum(fold.held_out_weight for fold in folds)
        if loss < (1 - TIE) * best[1]:
            best, since = (l2, float(loss), float(measure)), 0
        else:
            since += 1
        if since == PATIENCE:
            break
    return best


class Fold:
    """A fold held out, and the head that was fitted to the other folds so far."""

    def __init__(
        self,
        rows: StandardRows,
        targets: np.ndarray,
        weights: np.ndarray,
        is_held_out: np.ndarray,
        objective: Objective,
    ):
        self._training = (rows[~is_held_out], targets[~is_held_out])
        self._weights = weights[~is_held_out]
        self._held_out = (rows[is_held_out], targets[is_held_out], weights[is_held_out])
        self._objective = objective
        self._variances = mean_squares(self._training[0], self._weights)
        self._parameters = np.zeros((rows.shape[1] + 1, objective.n_outputs))
        self._curvature = objective.first_curvature
        self.held_out_weight = weights[is_held_out].sum()

    def scores(self, l2: float) -> tuple[float, float]:
        """Fit, and return weighted sums of the losses and measures of the held-out samples."""
        _, targets, weights = self._held_out
        judged = self._objective.judge(self.held_out_scores(l2), targets)
        self._curvature = judged.curvature
        return float(weights @ judged.losses), float(weights @ judged.measures)

    def held_out_scores(self, l2: float) -> np.ndarray:
        """Fit, and return the scores of the held-out samples, shape (n, n_outputs)."""
        self._fit(l2)
        rows = self._held_out[0]
        found: np.ndarray = rows @ self._parameters[:-1].astype(rows.dtype) + self._parameters[-1]
        return found

    def _fit(self, l2: float) -> None:
        # The sum over samples should weigh as much against the penalty as it will in all folds.
        total = self._weights.sum() + self.held_out_weight
        l2 *= total / self._weights.sum()
        problem = LinearProblem(*self._training, self._objective, l2, self._weights)
        # Steps along each axis that make the objective curve alike along all.
        curvature = max(self._curvature, 1e-3)
        of_axes = np.append(curvature * self._variances + 2 * l2, curvature)
        steps = np.repeat(1 / np.sqrt(of_axes), self._objective.n_outputs)

        def scaled(point: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = problem.loss_and_gradient(steps * point)
            return loss, steps * gradient

        result = minimize(
            scaled,
            self._parameters.ravel() / steps,
            method="L-BFGS-B",
            jac=True,
            options={"maxiter": MAX_ITER, "ftol": LOSS_TOLERANCE},
        )
        self._parameters = (steps * result.x).reshape(self._parameters.shape)
