"""The linear head by ridge regression in closed form, on standardised features.

It minimises what :mod:`transferclf.heads.linear` does, with the squared error for a loss:

    sum_i w_i * |z_i - x_i W - b|^2 / sum_i w_i  +  l2 * ||W||^2,

where z are standardised targets. scikit-learn's `Ridge` reaches the same with
alpha = l2 * sum_i w_i. One decomposition of the features serves all penalties and all outputs; it
is kept for the next fit to the same features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from transferclf.features.row_file import Rows
from transferclf.heads.blocks import (
    StandardRows,
    squares_of_features,
    squares_of_samples,
    standardised,
    transposed_product,
)
from transferclf.heads.fitted import FittedHead
from transferclf.heads.kept import Kept
from transferclf.heads.linear import LinearProblem, few_threads, linear_head
from transferclf.heads.scaling import Moments
from transferclf.objectives import Objective

# Larger decompositions are not kept for the next fit: that of 2,000 features is.
MAX_KEPT_BYTES = 2**25


@dataclass(frozen=True)
class RidgeAxes:
    """Principal axes of standardised features A, whose rows are scaled by the roots of `shares`.

    `squares`, shape (r,), are the eigenvalues above zero of A'A. `vectors` are the eigenvectors of
    A'A, shape (d, r), or those of AA', shape (n, r), where there are fewer samples than features.
    """

    moments: Moments
    scale: np.ndarray
    shares: np.ndarray
    squares: np.ndarray
    vectors: np.ndarray
    is_wide: bool

    def standardised(self, features: Rows) -> StandardRows:
        """Return these or other features less the mean, divided by the scale."""
        return standardised(features, self.moments.mean, self.scale)

    def of_samples(self, standardised: np.ndarray, samples: np.ndarray) -> np.ndarray:
        """Return the orthonormal axes of the samples, shape (n, r): eigenvectors of AA'.

        `samples` are the positions of the rows in `standardised` among all samples.
        """
        if self.is_wide:
            return self.vectors[samples]
        roots = np.sqrt(self.shares[samples])[:, None]
        axes: np.ndarray = (roots * standardised) @ (self.vectors / np.sqrt(self.squares))
        return axes

    def coef(self, standardised: StandardRows, targets: np.ndarray, l2: float) -> np.ndarray:
        """Return the coefficients of the standardised features, shape (d, n_outputs)."""
        factors = 1 / (self.squares + l2)
        if self.is_wide:
            roots = np.sqrt(self.shares)[:, None]
            by_axis = factors[:, None] * (self.vectors.T @ (roots * targets))
            return transposed_product(standardised, roots * (self.vectors @ by_axis))
        products = transposed_product(standardised, self.shares[:, None] * targets)
        return self.vectors @ (factors[:, None] * (self.vectors.T @ products))


def fit_ridge(
    features: Rows,
    targets: np.ndarray,
    objective: Objective,
    *,
    l2: float,
    sample_weight: np.ndarray,
    max_iter: int = 1,
    validation: tuple[Rows, np.ndarray, np.ndarray] | None = None,
) -> FittedHead:
    """Fit a linear head to the optimum of the squared error; there is one iteration.

    The arguments are those of `fit_linear`, with targets of shape (n, n_outputs).
    """
    with few_threads(math.prod(features.shape) * min(features.shape)):
        axes = ridge_axes(features, sample_weight)
        rows = axes.standardised(features)
        coef = axes.coef(rows, targets, l2)
        intercept = axes.shares @ targets
        problem = LinearProblem(rows, targets, objective, l2, sample_weight)
        if validation is not None:
            watched, *its_targets_and_weights = validation
            problem.watch(axes.standardised(watched), *its_targets_and_weights)
        optimum = np.vstack([coef, intercept]).ravel()
        problem.loss_and_gradient(optimum)
        problem.record(optimum)
    return linear_head(
        objective,
        mean=axes.moments.mean,
        scale=axes.scale,
        coef=coef,
        intercept=intercept,
        history=problem.history,
        l2=l2,
        moments=axes.moments,
    )


def ridge_axes(features: Rows, weights: np.ndarray) -> RidgeAxes:
    """Return the axes of these features. The choice of a penalty and a search ask repeatedly."""
    is_large = min(features.shape) * min(features.shape) * 8 > MAX_KEPT_BYTES
    return (_axes_of if is_large else _axes.of)(features, weights)


def _axes_of(features: Rows, weights: np.ndarray) -> RidgeAxes:
    moments = Moments.of(features, weights)
    is_wide = features.shape[0] < features.shape[1]
    shares, scale = weights / weights.sum(), moments.scale()
    rows = standardised(features, moments.mean, scale)
    products = (squares_of_samples if is_wide else squares_of_features)(rows, shares)
    # Older SciPy asks LAPACK for too little room where there is one number.
    driver = "evd" if len(products) > 1 else "ev"
    squares, vectors = eigh(products, driver=driver)
    kept = squares > len(squares) * np.finfo(rows.dtype).eps * max(squares[-1], 0)
    return RidgeAxes(moments, scale, shares, squares[kept], vectors[:, kept], is_wide)


_axes = Kept(_axes_of)
