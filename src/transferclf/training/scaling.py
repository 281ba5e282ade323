"""What features are standardised by: the mean and deviation of the training images."""

from __future__ import annotations

import numpy as np
from sklearn.preprocessing import StandardScaler


def mean_and_scale(
    features: np.ndarray, weights: np.ndarray, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each feature; 1 where a feature is constant.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Training features.
    weights : ndarray of shape (n,)
        Weight of each sample.
    least : float, default=0.0
        The smallest scale, as a share of the median deviation of the features that vary.

    Returns
    -------
    mean, scale : ndarray of shape (d,), float64
    """
    scaler = StandardScaler().fit(features, sample_weight=weights)
    # What varies by no more than the rounding of its mean is constant; 1 leaves it so.
    rounding = np.finfo(np.result_type(features, np.float32)).eps
    noise = 10 * rounding * np.abs(scaler.mean_)
    varies = (scaler.var_ > 0) & (scaler.scale_ > noise)
    if least and varies.any():
        smallest = least * np.median(scaler.scale_[varies])
        return scaler.mean_, np.where(varies, np.maximum(scaler.scale_, smallest), 1.0)
    return scaler.mean_, np.where(varies, scaler.scale_, 1.0)
