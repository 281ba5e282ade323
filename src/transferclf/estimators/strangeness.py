"""How normal an image is: how near to known images, and how clearly of one class.

Each row of features is scaled to unit length, and directions in which images of one class differ
much are made shorter. Two numbers are measured. The closeness is the mean of two cosines: that to
the nearest known rows, and that to the centre of a class, less what rows of this class typically
have, for the class where this is largest. The contrast is the largest score of a linear
discriminant, less the mean of the scores of all classes. Closeness tells images of other worlds;
contrast helps with classes that are much like the known ones, where closeness says little.

Sources: Sun, Ming, Zhu and Li, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML
2022, for the nearest neighbours; Friedman, "Regularized Discriminant Analysis", Journal of the
American Statistical Association 84 (1989), for the covariance within classes, shrunk to a multiple
of the identity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from transferclf.exceptions import warn

# Nearest known images that are compared. With one, a single mislabelled image could vouch for all
# that are like it; with more, small classes would look strange.
NEIGHBOURS = 2

# A class of few images has no typical cosine of its own: that of all counts as so many images.
PRIOR_IMAGES = 5

# Shares of the identity in the covariance within classes, for closeness and for contrast.
SHRINKAGE = 0.9
SHRINKAGE_OF_CONTRAST = 0.5

# The most that contrast counts, in standard deviations of known images above their mean: an image
# that is like no known one is not normal because it is more like one class than like others.
CONTRAST_CAP = 0.0

# With more features, a covariance matrix would take longer and more memory than it is worth.
MAX_FEATURES = 4096

# Rows that are compared at a time, in double precision. BLAS may sum in another order for another
# number of rows, and in single precision for another place among them.
BLOCK = 32


@dataclass(frozen=True)
class Normality:
    """The known images, and how normal others are in comparison.

    Attributes
    ----------
    known : ndarray of shape (n, d), float64
        Transformed rows of the known images, of unit length.
    centres : ndarray of shape (n_classes, d), float64
        Directions of the means of the transformed rows of each class, of unit length.
    typical : ndarray of shape (n_classes,), float64
        Mean cosine of rows of each class to the centre of the others of this class.
    axes : ndarray of shape (d, d), float64, or None
        Rows of unit length are multiplied by this, and made of unit length again.
    coef : ndarray of shape (d, n_classes), float64
    intercept : ndarray of shape (n_classes,), float64
        The linear discriminant of rows of unit length; its scores have a mean of zero.
    mean, scale : ndarray of shape (2,), float64
        Mean and standard deviation of closeness and contrast in held-out known images.
    """

    known: np.ndarray
    centres: np.ndarray
    typical: np.ndarray
    axes: np.ndarray | None
    coef: np.ndarray
    intercept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, classes: np.ndarray) -> Normality:
        """Learn from the features of known images, shape (n, d), and the numbers of classes."""
        directions = unit_rows(features)
        means, covariance = _within(directions, classes)
        axes = _axes(covariance)
        known = _transformed(directions, axes)
        coef, intercept = _discriminant(means, covariance)
        return cls(
            known=known,
            centres=unit_rows(_means(known, classes)),
            typical=_typical(known, classes),
            axes=axes,
            coef=coef,
            intercept=intercept,
            mean=np.zeros(2),
            scale=np.ones(2),
        )

    def standardised(self, measures: np.ndarray) -> Normality:
        """Return the same with the mean and deviation of the measures of held-out images."""
        scale = measures.std(axis=0)
        return replace(self, mean=measures.mean(axis=0), scale=np.where(scale > 0, scale, 1.0))

    def measures(self, features: np.ndarray) -> np.ndarray:
        """Return closeness and contrast, float64 of shape (n, 2)."""
        found = np.empty((len(features), 2))
        for start in range(0, len(features), BLOCK):
            rows = features[start : start + BLOCK]
            block = np.zeros((BLOCK, features.shape[1]))
            block[: len(rows)] = unit_rows(rows)
            transformed = _transformed(block, self.axes)
            to_images = _largest(transformed @ self.known.T)
            to_centres = (transformed @ self.centres.T - self.typical).max(axis=1)
            found[start : start + BLOCK, 0] = ((to_images + to_centres) / 2)[: len(rows)]
            contrast = (block @ self.coef + self.intercept).max(axis=1)
            found[start : start + BLOCK, 1] = contrast[: len(rows)]
        return found

    def scores_of(self, measures: np.ndarray) -> np.ndarray:
        """Return the scores of measures, in standard deviations of held-out known images."""
        closeness, contrast = ((measures - self.mean) / self.scale).T
        return closeness + np.minimum(contrast, CONTRAST_CAP)

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores of rows, float64 of shape (n,); higher is more normal."""
        return self.scores_of(self.measures(features))


def held_out_measures(
    features: np.ndarray, classes: np.ndarray, n_folds: int, seed: int
) -> np.ndarray:
    """Return the measures of images by the images of the other folds, shape (m, 2).

    Images of the same features, which are copies, stay in one fold. Images whose class the other
    folds lack are left out.
    """
    found = np.full((len(features), 2), np.nan)
    for held_out in _folds(classes, _copies(features), n_folds, seed):
        judged = held_out & np.isin(classes, classes[~held_out])
        if judged.any():
            normality = Normality.of(features[~held_out], classes[~held_out])
            found[judged] = normality.measures(features[judged])
    return found[np.isfinite(found).all(axis=1)]


def offset_of(scores: np.ndarray, coverage: float) -> float:
    """Return the threshold that keeps a new known image with a probability of `coverage`.

    `scores` are those of held-out known images. Warn if there are too few of them.

    Source: Angelopoulos and Bates, "Conformal Prediction: A Gentle Introduction", Foundations and
    Trends in Machine Learning 16 (2023).
    """
    n = len(scores)
    # Rounding must not lose a place: 0.1 * 20 is 1.9999999999999996 as 1 - 0.9 gives it.
    rank = math.floor((1 - coverage) * (n + 1) + 1e-9)
    if rank < 1:
        warn(
            f"coverage={coverage:g} needs {math.ceil(coverage / (1 - coverage) - 1e-9)} held-out "
            f"images, and there are {n}: images below the lowest of their scores are rejected, "
            f"which keeps about {n / (n + 1):.3g} of the known images"
        )
    return float(np.sort(scores)[max(rank, 1) - 1])


def _copies(features: np.ndarray) -> np.ndarray:
    """Return one number for all rows of the same features, shape (n,)."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in features], int)


def _folds(
    classes: np.ndarray, copies: np.ndarray, n_folds: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield which images are held out in each fold; classes are dealt evenly over the folds."""
    first = np.unique(copies, return_index=True)[1]
    shuffled = first[np.random.default_rng(seed).permutation(len(first))]
    # Classes one after the other, dealt to the folds in turn.
    dealt = shuffled[np.argsort(classes[shuffled], kind="stable")]
    fold_of = np.empty(len(first), int)
    fold_of[copies[dealt]] = np.arange(len(dealt)) % n_folds
    for number in range(min(n_folds, len(dealt))):
        yield fold_of[copies] == number


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return rows of unit length, float64; rows of zeros stay zeros."""
    rows = np.asarray(features, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _transformed(directions: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    return directions if axes is None else unit_rows(directions @ axes)


def _within(directions: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the means of the classes, and the covariance within them, of a mean variance of one.

    The covariance is None if images of one class do not differ, or there are too many features.
    """
    means = _means(directions, classes)
    n_features = directions.shape[1]
    if len(directions) == len(means) or n_features > MAX_FEATURES:
        return means, None
    residuals = directions - means[np.unique(classes, return_inverse=True)[1]]
    covariance = residuals.T @ residuals
    typical = np.trace(covariance) / n_features
    # Features of copies differ by rounding, if at all.
    has_variance = typical > len(directions) * np.finfo(np.float32).eps ** 2
    return means, covariance / typical if has_variance else None


def _means(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the mean of the rows of each class, in the order of the classes."""
    return np.array([rows[classes == name].mean(axis=0) for name in np.unique(classes)])


def _typical(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the mean cosine of rows of each class to the centre of the others of the class."""
    numbers = np.unique(classes, return_inverse=True)[1]
    counts = np.bincount(numbers)
    sums = _means(rows, classes) * counts[:, None]
    has_others = counts[numbers] > 1
    others = unit_rows((sums[numbers] - rows)[has_others])
    cosines = (others * rows[has_others]).sum(axis=1)
    of_all = cosines.mean() if len(cosines) else 1.0
    totals = np.bincount(numbers[has_others], cosines, len(counts))
    return (totals + PRIOR_IMAGES * of_all) / (counts * (counts > 1) + PRIOR_IMAGES)


def _shrunk(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    shrunk = (1 - shrinkage) * covariance
    shrunk[np.diag_indices(len(shrunk))] += shrinkage
    return shrunk


def _axes(covariance: np.ndarray | None) -> np.ndarray | None:
    """Return axes in which the shrunk covariance is the identity."""
    if covariance is None:
        return None
    root = cholesky(_shrunk(covariance, SHRINKAGE), lower=True)
    return solve_triangular(root, np.eye(len(root)), lower=True).T


def _discriminant(
    means: np.ndarray, covariance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients and intercepts of the classes, whose means over classes are zero."""
    centred = means - means.mean(axis=0)
    if covariance is None:
        coef, squares = centred.T, (means**2).sum(axis=1)
    else:
        factor = cho_factor(_shrunk(covariance, SHRINKAGE_OF_CONTRAST))
        of_means = cho_solve(factor, means.T)
        coef = of_means - of_means.mean(axis=1, keepdims=True)
        squares = (means * of_means.T).sum(axis=1)
    return coef, (squares.mean() - squares) / 2


def _largest(cosines: np.ndarray) -> np.ndarray:
    """Return the mean of the largest values in each row."""
    count = min(NEIGHBOURS, cosines.shape[1])
    largest = np.partition(cosines, cosines.shape[1] - count, axis=1)[:, -count:]
    return np.sort(largest, axis=1).mean(axis=1)
