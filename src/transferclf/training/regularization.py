"""The penalty of the linear head, chosen by the data: cross-validation on the training samples.

No constant suits all data: photographs of many kinds want a weak penalty, cells that look alike
a strong one. Each candidate is fitted to all folds but one and judged by that one.

- The path goes from strong to weak penalties, each fit starting where the last one ended, and
  ends where the held-out loss has risen twice in a row.
- All fits are in the principal axes of the features, scaled by how much the objective curves
  along each, so that a handful of L-BFGS steps is enough.
- Folds are dealt by what the samples are, not by where they stand or by chance: whatever their
  order, a sample of weight 2 is the sample twice, and one of weight 0 is none. Few samples are
  dealt several times.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.special import softmax

from transferclf._printing import say
from transferclf.exceptions import InvalidParameterError
from transferclf.heads.linear import SoftmaxProblem, few_threads
from transferclf.heads.scaling import mean_and_scale

# What is chosen among: half decades. Below them the tolerance of L-BFGS decides, not the penalty.
CANDIDATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

# The penalty where the samples cannot say: fewer than two classes, or mostly one sample of each.
DEFAULT_L2 = 0.01

N_FOLDS = 5

# Folds are held out until so many distinct samples have been: more would cost and not tell more.
ENOUGH_HELD_OUT = 4000

# Fewer samples than this are dealt anew, up to so many times: which are together is chance, and of
# some hundred samples the choice would hang on it.
FEW_HELD_OUT, N_DEALS = 1000, 5

# The held-out loss is the cross-entropy of probabilities mixed with so much chance. It bounds
# what one sample can cost, as one of a class that the other folds lack, and so follows accuracy
# better than plain cross-entropy does; and it is smoother than accuracy, which is a lottery
# where samples are few, and heeds the probabilities, which accuracy does not.
CHANCE = 0.15

# So many candidates in a row no better than the best one end the path.
PATIENCE = 2

# Losses within this part of each other are a tie, and the stronger penalty, which is tried first,
# wins: what it gives up is noise, and its coefficients are smaller.
TIE = 0.002

# To choose, no optimum is needed: L-BFGS stops where a step gains less than this.
LOSS_TOLERANCE = 1e-5
MAX_ITER = 100

# Finding more principal axes than this takes longer than it saves.
MAX_AXES = 2048


def choose_l2(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    sample_weight: np.ndarray,
    groups: np.ndarray | None = None,
    verbose: int = 0,
) -> float:
    """Choose the penalty of the linear head by cross-validation.

    Nothing is random: the same samples give the same choice.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Training features.
    labels : ndarray of int, shape (n,)
        Class indices from 0 to `n_classes` - 1.
    n_classes : int
        Number of classes.
    sample_weight : ndarray of shape (n,)
        Weight of each sample, in the fits and in what they are judged by.
    groups : ndarray of shape (n,) or None, default=None
        Samples of one group, as views of one image, are held out together. Identical samples
        of one class always are.
    verbose : int, default=0
        1 says what was chosen.

    Returns
    -------
    float
        The one of `CANDIDATES` of least held-out loss. 0.01 if there are fewer than two classes,
        or most distinct samples are the only ones of their class (with groups: most groups).

    Raises
    ------
    InvalidParameterError
        If the arrays do not fit together or have values that they cannot have.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0], [10.0], [11.0], [12.0], [13.0]])
    >>> y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> choose_l2(x, y, 2, sample_weight=np.ones(8))
    0.0001
    """
    _check(features, labels, n_classes, sample_weight, groups)
    samples = _distinct(features, labels, sample_weight, groups)
    if not samples.can_be_split():
        if verbose:
            print(f"l2: {DEFAULT_L2:.2g}, as most classes have one image")
        return DEFAULT_L2
    with few_threads(features.size * n_classes):
        l2, loss, accuracy = _best(_folds(samples, n_classes))
    if verbose:
        say(f"l2: {l2:.2g} by cross-validation, held-out loss {loss:.4f}, accuracy {accuracy:.4f}")
    return l2


@dataclass(frozen=True)
class _Samples:
    """Distinct samples, ordered by class and content.

    Attributes
    ----------
    features : ndarray of shape (m, d)
    labels : ndarray of int, shape (m,)
    weights : ndarray of shape (m,)
        All above zero.
    units : ndarray of int, shape (m,)
        Which are held out together, numbered from 0 in order of appearance.
    """

    features: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    units: np.ndarray

    def can_be_split(self) -> bool:
        """Whether folds can be held out of which the others know most classes.

        A held-out sample of a class that the other folds lack says only that no class should be
        sure of itself. Where these are more than half, they would choose the penalty.
        """
        labels, _ = np.unique(np.stack([self.labels, self.units]), axis=1)
        counts = np.unique(labels, return_counts=True)[1]
        n_known = counts[counts > 1].sum()
        has_units = len(np.unique(self.units)) > len(counts) >= 2
        return has_units and 2 * n_known >= counts.sum()


def _distinct(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, groups: np.ndarray | None
) -> _Samples:
    """The samples that count, each once, by class and then by digest."""
    kept = np.flatnonzero(weights)
    rows = np.ascontiguousarray(features[kept])
    digests = np.array([hashlib.sha256(row).hexdigest() for row in rows], dtype="S64")
    # Weights are in the order too, so that even the rounding of their sums is always the same.
    order = np.lexsort((weights[kept], digests, labels[kept]))
    kept, digests = kept[order], digests[order]
    is_new = np.ones(len(kept), dtype=bool)
    is_new[1:] = (digests[1:] != digests[:-1]) | (np.diff(labels[kept]) != 0)
    starts = np.flatnonzero(is_new)
    units = np.arange(len(starts))
    if groups is not None:
        units = _linked(np.cumsum(is_new) - 1, groups[kept])
    sums = np.add.reduceat(weights[kept], starts) if len(starts) else weights[:0]
    kept = kept[starts]
    return _Samples(features[kept], labels[kept], sums.astype(float), units)


def _linked(samples: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Number of the unit of each distinct sample: groups that share a sample are one."""
    if not len(samples):
        return samples
    n_samples = samples[-1] + 1
    names, group = np.unique(groups, return_inverse=True)
    size = n_samples + len(names)
    links = coo_matrix((np.ones(len(samples)), (samples, n_samples + group)), shape=(size, size))
    parts = connected_components(links, directed=False)[1][:n_samples]
    _, first, part = np.unique(parts, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[part]


def _folds(samples: _Samples, n_classes: int) -> list[Fold]:
    """Folds to hold out: units are dealt in turn, and so, by their order, is each class."""
    # All folds share the mean, deviation and axes of all samples; they know nothing of labels.
    rows = principal_rows(samples.features, samples.weights)
    folds: list[Fold] = []
    n_held_out, enough = 0, ENOUGH_HELD_OUT
    for deal in range(N_DEALS):
        # Each round of units begins `deal` places further on than the round before.
        fold_of = (samples.units + deal * (samples.units // N_FOLDS)) % N_FOLDS
        for number in range(fold_of.max() + 1):
            if n_held_out < enough:
                out = fold_of == number
                folds.append(Fold(rows, samples.labels, samples.weights, out, n_classes))
                n_held_out += int(out.sum())
        enough = min(enough, FEW_HELD_OUT)
    return folds


def principal_rows(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standardised features in their principal axes, in single precision; shape (m, r)."""
    mean, scale = mean_and_scale(features, weights)
    rows = (features - mean) / scale
    if not 1 < min(rows.shape) <= MAX_AXES:
        return rows.astype(np.float32)
    is_wide = rows.shape[0] < rows.shape[1]
    squares, axes = eigh(rows @ rows.T if is_wide else rows.T @ rows, driver="evd")
    kept = squares > len(axes) * np.finfo(float).eps * max(squares[-1], 0)
    squares, axes = squares[kept], axes[:, kept]
    return (axes * np.sqrt(squares) if is_wide else rows @ axes).astype(np.float32)


def _best(folds: list[Fold]) -> tuple[float, float, float]:
    """The best candidate, its held-out loss and accuracy."""
    best, since = (DEFAULT_L2, np.inf, np.nan), 0
    for l2 in CANDIDATES[::-1]:
        scores = np.sum([fold.scores(l2) for fold in folds], axis=0)
        loss, accuracy = scores / sum(fold.held_out_weight for fold in folds)
        if loss < (1 - TIE) * best[1]:
            best, since = (l2, float(loss), float(accuracy)), 0
        else:
            since += 1
        if since == PATIENCE:
            break
    return best


class Fold:
    """A fold held out, and the head that the other folds have come to so far."""

    def __init__(
        self,
        rows: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        is_held_out: np.ndarray,
        n_classes: int,
    ):
        self._training = (rows[~is_held_out], labels[~is_held_out])
        self._weights = weights[~is_held_out]
        self._held_out = (rows[is_held_out], labels[is_held_out], weights[is_held_out])
        self._n_classes = n_classes
        self._variances = self._weights @ self._training[0] ** 2 / self._weights.sum()
        self._parameters = np.zeros((rows.shape[1] + 1, n_classes))
        self._curvature = (1 - 1 / n_classes) / n_classes
        self.held_out_weight = weights[is_held_out].sum()

    def scores(self, l2: float) -> tuple[float, float]:
        """Fit; sums of the held-out samples' losses and of the weights of those right."""
        self._fit(l2)
        _, labels, weights = self._held_out
        logits = self._logits()
        probabilities = softmax(logits, axis=1)
        self._curvature = float((probabilities * (1 - probabilities)).mean())
        of_label = probabilities[np.arange(len(labels)), labels]
        losses = -np.log((1 - CHANCE) * of_label + CHANCE / self._n_classes)
        return float(weights @ losses), float(weights @ (logits.argmax(axis=1) == labels))

    def probabilities(self, l2: float) -> np.ndarray:
        """Fit; probabilities of the samples that are held out."""
        self._fit(l2)
        return softmax(self._logits(), axis=1)

    def _logits(self) -> np.ndarray:
        rows = self._held_out[0]
        return rows @ self._parameters[:-1].astype(rows.dtype) + self._parameters[-1]

    def _fit(self, l2: float) -> None:
        # The sum over samples should weigh as much against the penalty as it will in all folds.
        total = self._weights.sum() + self.held_out_weight
        l2 *= total / self._weights.sum()
        problem = SoftmaxProblem(*self._training, self._n_classes, l2, self._weights)
        steps = self._steps(l2)

        def scaled(point: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = problem.loss_and_gradient(steps * point)
            return loss, steps * gradient

        options: dict[str, Any] = {"maxiter": MAX_ITER, "ftol": LOSS_TOLERANCE}
        start = self._parameters.ravel() / steps
        result = minimize(scaled, start, method="L-BFGS-B", jac=True, options=options)
        self._parameters = (steps * result.x).reshape(self._parameters.shape)

    def _steps(self, l2: float) -> np.ndarray:
        """How far to go along each axis for the objective to curve alike along all."""
        curvature = max(self._curvature, 1e-3)
        of_axes = np.append(curvature * self._variances + 2 * l2, curvature)
        return np.repeat(1 / np.sqrt(of_axes), self._n_classes)


def _check(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    weights: np.ndarray,
    groups: np.ndarray | None,
) -> None:
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InvalidParameterError(
            "features must be finite numbers of shape (n, d). "
            f"Got shape {features.shape}, {np.count_nonzero(~np.isfinite(features))} of them not "
            "finite, instead."
        )
    for name, values in {"labels": labels, "sample_weight": weights, "groups": groups}.items():
        if values is not None and values.shape != (len(features),):
            raise InvalidParameterError(
                f"{name} must have shape ({len(features)},). Got {values.shape} instead."
            )
    if labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(n_classes)).all():
        raise InvalidParameterError(
            f"labels must be integers from 0 to {n_classes - 1}. "
            f"Got {np.unique(labels)} of type {labels.dtype} instead."
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise InvalidParameterError(
            "sample_weight must be finite and not negative. "
            f"Got {weights.min()} to {weights.max()} instead."
        )
