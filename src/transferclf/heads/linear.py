"""The linear head by L-BFGS: for classes, softmax regression on standardised features.

It minimises the objective of a Keras `Dense` layer with an L2 kernel regulariser,

    sum_i w_i * loss_i / sum_i w_i  +  l2 * ||W||^2,

where the loss is that of the `Objective`, for classes the cross-entropy. It is convex, so that both
reach the same optimum; L-BFGS does so in a few dozen passes. Features are standardised by the mean
and deviation of the training images first, so that one `l2` suits every backbone.

Source: Liu and Nocedal, "On the limited memory BFGS method for large scale optimization",
Mathematical Programming 45 (1989), as implemented in SciPy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import InitVar, dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from transferclf.exceptions import warn
from transferclf.features.row_file import Rows
from transferclf.heads.blocks import (
    BlockRows,
    StandardRows,
    are_in_blocks,
    blocks_of,
    squares_of_samples,
    standardised,
    transposed_product,
)
from transferclf.heads.fitted import FittedHead
from transferclf.heads.history import History, Phase
from transferclf.heads.kept import Kept
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Objective
from transferclf.objectives.base import Evaluated

# Below this many multiplications a pass, BLAS threads cost more than they save: each of many small
# products waits for the slowest thread.
SMALL_PROBLEM = 2**30

# Fewer samples than this are rotated into as many axes; with more that takes longer than it saves.
MAX_ROTATED = 1024

BLOCK = 32  # rows that are scored at a time
SCORED_BYTES = 2**24  # of the blocks that are standardised at a time, in double precision

# Steps that L-BFGS remembers: twice SciPy's default halves the iterations of hard problems.
CORRECTIONS = 20

# L-BFGS stops where all partial derivatives of the objective are this small.
GRADIENT_TOLERANCE = 1e-5


@dataclass(frozen=True, kw_only=True)
class LinearHead(FittedHead):
    """A linear head at its optimum; its weights are a kernel (d, n_outputs) and a bias."""

    kind: ClassVar[str] = "linear"

    @property
    def coef(self) -> np.ndarray:
        """Weights of the standardised features, shape (d, n_outputs)."""
        return self.weights[0]

    @property
    def intercept(self) -> np.ndarray:
        """Biases, shape (n_outputs,)."""
        return self.weights[1]

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of features, shape (n, n_outputs)."""
        step = BLOCK * max(1, SCORED_BYTES // (BLOCK * len(self.coef) * 8))
        parts = [self._scores(rows[i : i + step]) for i in range(0, max(len(rows), 1), step)]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        # BLAS may sum in another order for another number of rows. All blocks have the same.
        n_blocks = -(-len(rows) // BLOCK)
        dtype = np.result_type(rows, self.mean, self.scale)
        blocks = np.zeros((n_blocks, BLOCK, len(self.coef)), dtype)
        standardised = blocks.reshape(-1, len(self.coef))[: len(rows)]
        np.subtract(rows, self.mean, out=standardised)
        standardised /= self.scale
        scores = (blocks @ self.coef).reshape(-1, len(self.intercept))
        return scores[: len(rows)] + self.intercept

    def can_start(self, suffix: Suffix) -> bool:
        """Return whether the suffix has no layers but the last."""
        return not suffix.has_layers

    def is_head_of(self, suffix: Suffix, is_linear: bool) -> bool:
        """Return whether a linear head is wanted."""
        return is_linear


def linear_head(
    objective: Objective,
    *,
    mean: np.ndarray,
    scale: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    l2: float,
    history: History,
    moments: Moments | None,
) -> LinearHead:
    """Return a linear head with its suffix and phases."""
    n_iter = len(history["loss"])
    return LinearHead(
        suffix=Suffix(objective),
        mean=mean,
        scale=scale,
        weights=[coef, intercept],
        l2=l2,
        history=history,
        phases=(Phase("head", "iteration", n_iter, n_iter),),
        moments=moments,
    )


def fit_linear(
    features: Rows,
    targets: np.ndarray,
    objective: Objective,
    *,
    l2: float,
    sample_weight: np.ndarray,
    max_iter: int = 1000,
    validation: tuple[Rows, np.ndarray, np.ndarray] | None = None,
) -> LinearHead:
    """Fit a linear head to its optimum; warn if `max_iter` iterations were not enough.

    `features` have shape (n, d). Those in a file, and many of them, are read in blocks in each
    iteration. `targets` (n, ...) are as the objective encodes them. A sample of weight 2 is the
    sample twice, also in the mean and deviation of the features. `validation` are features, targets
    and weights that are only measured: their loss and measure after each iteration are in the
    history.
    """
    with few_threads(math.prod(features.shape) * objective.n_outputs):
        axes = _known_axes(features, sample_weight)
        problem = LinearProblem(axes.rows, targets, objective, l2, sample_weight)
        if validation is not None:
            watched, *its_targets_and_weights = validation
            problem.watch(axes.rows_of(watched, features), *its_targets_and_weights)
        coef, intercept = problem.split(_minimum(problem, max_iter))
        return linear_head(
            objective,
            mean=axes.moments.mean,
            scale=axes.scale,
            coef=axes.back(coef, features),
            intercept=intercept,
            history=problem.history,
            l2=l2,
            moments=axes.moments,
        )


@dataclass(frozen=True)
class _Axes:
    """Standardised features in the axes of the fit: `rows`, shape (n, r).

    `by_samples`, shape (n, r), are the axes as combinations of the standardised samples; None are
    the axes of the features themselves.
    """

    moments: Moments
    scale: np.ndarray
    rows: StandardRows
    by_samples: np.ndarray | None = None

    def standardised(self, features: Rows) -> StandardRows:
        """Return these or other features less the mean, divided by the scale."""
        return standardised(features, self.moments.mean, self.scale)

    def back(self, coef: np.ndarray, features: Rows) -> np.ndarray:
        """Return coefficients of the standardised features, from those of the axes."""
        if self.by_samples is None:
            return coef
        return transposed_product(self.standardised(features), self.by_samples @ coef)

    def rows_of(self, others: Rows, features: Rows) -> StandardRows:
        """Return features of other samples in these axes, which were made of `features`."""
        rows = self.standardised(others)
        if isinstance(rows, np.ndarray):
            rows = rows.astype(self.rows.dtype, copy=False)
        if self.by_samples is None:
            return rows
        samples = self.standardised(features)
        assert isinstance(samples, np.ndarray)
        return rows @ samples.T @ self.by_samples


def _known_axes(features: Rows, weights: np.ndarray) -> _Axes:
    """Return the axes of these features."""
    return (_axes.of if _is_rotated(features) else _axes_of)(features, weights)


def _axes_of(features: Rows, weights: np.ndarray) -> _Axes:
    """Return as many axes as there are samples, where these are fewer than features."""
    moments = Moments.of(features, weights)
    scale = moments.scale()
    rows = standardised(features, moments.mean, scale)
    if not _is_rotated(features):
        return _Axes(moments, scale, rows)
    # With a penalty on their squares the best coefficients are combinations of the samples, and
    # neither the objective nor the path of L-BFGS changes when the axes are rotated. There is only
    # less to multiply.
    squares, axes = eigh(squares_of_samples(rows), driver="evd")
    kept = squares > len(axes) * np.finfo(axes.dtype).eps * max(squares[-1], 0)
    lengths, axes = np.sqrt(squares[kept]), axes[:, kept]
    return _Axes(moments, scale, axes * lengths, axes / lengths)


_axes = Kept(_axes_of)


def _is_rotated(features: Rows) -> bool:
    n_samples, n_features = features.shape
    return 1 < n_samples < min(n_features, MAX_ROTATED) and not are_in_blocks(features)


def _minimum(problem: LinearProblem, max_iter: int) -> np.ndarray:
    result = minimize(
        problem.loss_and_gradient,
        np.zeros((problem.features.shape[1] + 1) * problem.objective.n_outputs),
        method="L-BFGS-B",
        jac=True,
        callback=problem.record,
        options={
            "maxiter": max_iter,
            "maxfun": 2 * max_iter,
            "gtol": GRADIENT_TOLERANCE,
            "maxcor": CORRECTIONS,
            "ftol": 64 * np.finfo(float).eps,
        },
    )
    if result.nit == 0:  # zero was the optimum: nothing can be learned from these features
        problem.record(result.x)
    if result.status == 1:
        warn(
            f"L-BFGS did not converge in {max_iter} iterations; raise max_iter or l2.",
            ConvergenceWarning,
        )
    return result.x


@dataclass(eq=False)
class LinearProblem:
    """The objective and its gradient over the coefficients and intercepts in one vector."""

    features: StandardRows
    targets: np.ndarray
    objective: Objective
    l2: float
    weights: InitVar[np.ndarray]

    def __post_init__(self, weights: np.ndarray) -> None:
        self.shares = weights / weights.sum()
        self.history: History = {"loss": [], self.objective.measure: []}
        self._last = (np.nan, np.nan)
        self._watched: LinearProblem | None = None

    def watch(self, rows: StandardRows, targets: np.ndarray, weights: np.ndarray) -> None:
        """Record the objective on these samples too, with features in the same axes."""
        self._watched = LinearProblem(rows, targets, self.objective, self.l2, weights)
        self.history |= {"val_loss": [], f"val_{self.objective.measure}": []}

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (d, n_outputs) and intercepts (n_outputs,)."""
        table = parameters.reshape(-1, self.objective.n_outputs)
        return table[:-1], table[-1]

    def loss_and_gradient(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the objective and its derivatives by all parameters."""
        coef, intercept = self.split(parameters)
        by_kernel = np.zeros((self._n_features, len(intercept)))
        by_intercept = np.zeros(len(intercept))
        loss, measure = self.l2 * np.vdot(coef, coef), 0.0
        for block, found in self._evaluated(coef, intercept):
            loss, measure = found.loss + loss, found.measure + measure
            by_kernel += block.T @ found.gradient.astype(block.dtype)
            by_intercept += found.gradient.sum(axis=0)
        self._last = (float(loss), measure)
        rows = self.features
        by_coef = rows.along_axes(by_kernel) if isinstance(rows, BlockRows) else by_kernel
        return float(loss), np.vstack([by_coef + 2 * self.l2 * coef, by_intercept]).ravel()

    def record(self, parameters: np.ndarray) -> None:
        """Record the end of an iteration, which is the point that was evaluated last."""
        names = iter(self.history.values())
        found = list(self._last)
        if self._watched is not None:
            found += self._watched.loss_and_measure(parameters)
        for values, value in zip(names, found, strict=True):
            values.append(value)

    def loss_and_measure(self, parameters: np.ndarray) -> tuple[float, float]:
        """Return the loss with the penalty, and the measure."""
        coef, intercept = self.split(parameters)
        founds = [found for _, found in self._evaluated(coef, intercept)]
        loss = sum(found.loss for found in founds) + self.l2 * np.vdot(coef, coef)
        return float(loss), sum(found.measure for found in founds)

    @property
    def _n_features(self) -> int:
        rows = self.features
        return len(rows.mean) if isinstance(rows, BlockRows) else rows.shape[1]

    def _evaluated(
        self, coef: np.ndarray, intercept: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Evaluated]]:
        """Yield each block of features with its loss, measure and gradient by the scores."""
        rows = self.features
        kernel = rows.kernel(coef) if isinstance(rows, BlockRows) else coef
        kernel = kernel.astype(rows.dtype)
        for part, block in blocks_of(rows):
            scores = (block @ kernel).astype(float) + intercept
            yield block, self.objective.evaluate(scores, self.targets[part], self.shares[part])


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


def few_threads(multiplications: int) -> AbstractContextManager[object]:
    """Return a context in which BLAS uses one thread if the problem is small."""
    limit = 1 if multiplications <= SMALL_PROBLEM else None
    return _controller().limit(limits=limit, user_api="blas")
