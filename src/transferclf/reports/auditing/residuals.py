"""Numbers that are far from their prediction by a ridge regression that has not seen the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import median_abs_deviation
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

N_FOLDS = 5
PENALTIES = np.logspace(-1, 5, 13)

# With fewer images a fold has too few to learn from.
FEWEST = 10


class Residuals(NamedTuple):
    """Out-of-fold predictions, and how many robust deviations the residuals are from the median.

    Both are of shape (n, n_outputs), and NaN where there are too few images.
    """

    predicted: np.ndarray
    deviations: np.ndarray


def residuals_of(features: np.ndarray, table: np.ndarray, groups: np.ndarray) -> Residuals:
    """Predict numbers out of fold; images of one group are in one fold.

    A ridge regression on standardised features is fitted to four fifths of the images, its penalty
    chosen by leave-one-out, and predicts the others. Deviations are those of Iglewicz and Hoaglin
    (1993), as for odd images.
    """
    predicted = np.full(table.shape, np.nan)
    n_folds = min(N_FOLDS, len(np.unique(groups)))
    if len(table) < FEWEST or n_folds < 2:
        return Residuals(predicted, predicted.copy())
    for train, test in GroupKFold(n_folds).split(features, groups=groups):
        ridge = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
        ridge.fit(features[train], table[train])
        predicted[test] = ridge.predict(features[test]).reshape(len(test), -1)
    residuals = table - predicted
    above = residuals - np.median(residuals, axis=0)
    usual = median_abs_deviation(above, axis=0, scale="normal")
    # Rounding of constant targets is no deviation.
    smallest = 1e-6 * np.maximum(np.abs(table).max(axis=0), 1e-12)
    return Residuals(predicted, above / np.maximum(usual, smallest))
