"""What features are standardised by: the mean and deviation of the training images."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import StandardScaler


def mean_and_scale(features: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each feature; 1 where a feature is constant.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Training features.
    weights : ndarray of shape (n,)
        Weight of each sample.

    Returns
    -------
    mean, scale : ndarray of shape (d,), float64
    """
    scaler = StandardScaler().fit(features, sample_weight=weights)
    # What varies by no more than the rounding of its mean is constant; 1 leaves it so.
    rounding = np.finfo(np.result_type(features, np.float32)).eps
    noise = 10 * rounding * np.abs(scaler.mean_)
    return scaler.mean_, np.where(scaler.scale_ <= noise, 1.0, scaler.scale_)
