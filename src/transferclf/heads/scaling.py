"""The mean and scale that standardise features, also of images that come in parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.preprocessing import StandardScaler

from transferclf.features.row_file import Rows
from transferclf.heads.blocks import are_in_blocks, parts_of

# The deviation of a feature in fewer images than this says little about that in others: a unit
# that is all but dead in some may be alive in the next.
FEW_IMAGES = 128

# For n of so few, scales are larger by the factor 1 + CAUTION / n: the deviation within two or four
# images is mostly below that of all.
CAUTION = 8


@dataclass(frozen=True)
class Moments:
    """Weighted mean and variance of the features of some images, shape (d,), float64.

    `count` is the sum of the weights of all rows, and `rounding` the relative precision of the
    features.
    """

    mean: np.ndarray
    variance: np.ndarray
    count: float
    n_images: int
    rounding: float

    @classmethod
    def of(cls, features: Rows, weights: np.ndarray, n_images: int | None = None) -> Moments:
        """Return the moments of weighted rows of `n_images` images; None is a row for each."""
        if are_in_blocks(features):
            mean, variance = _in_blocks(features, weights)
        else:
            scaler = StandardScaler().fit(features, sample_weight=weights)
            mean, variance = scaler.mean_, scaler.var_
        rounding = float(np.finfo(np.result_type(features.dtype, np.float32)).eps)
        count = len(features) if n_images is None else n_images
        return cls(mean, variance, float(weights.sum()), count, rounding)

    def merged(self, others: Moments) -> Moments:
        """Return the moments of these and other rows together.

        The same rows again change neither mean nor variance, not even in the last bit.

        Source: Chan, Golub and LeVeque, "Algorithms for computing the sample variance: analysis
        and recommendations", The American Statistician 37 (1983).
        """
        count = self.count + others.count
        share = others.count / count
        step = others.mean - self.mean
        variance = self.variance + share * (others.variance - self.variance)
        return Moments(
            self.mean + share * step,
            variance + share * (1 - share) * step**2,
            count,
            self.n_images + others.n_images,
            max(self.rounding, others.rounding),
        )

    def scale(self, least: float = 0.0) -> np.ndarray:
        """Return the standard deviation of each feature; 1 where a feature is constant.

        `least` is the smallest one to return, as a share of the median of the features that vary.
        """
        deviation, varies = self._deviation()
        if least and varies.any():
            deviation = np.maximum(deviation, least * np.median(deviation[varies]))
        return np.where(varies, deviation, 1.0)

    def scale_so_far(self, least: float) -> np.ndarray:
        """Return the scale of features while more images are to come; larger for few images."""
        # Later images correct too large a scale. With too small a scale, random weights would give
        # later images extreme scores, and training would take long to undo them.
        if self.n_images >= FEW_IMAGES:
            return self.scale(least)
        deviation, varies = self._deviation()
        if varies.any():
            typical = np.median(deviation[varies])
        else:  # a single image: deviations of features are mostly like their means
            typical = np.sqrt(np.mean(self.mean**2)) or 1.0
        return np.maximum(deviation, typical) * (1 + CAUTION / self.n_images)

    def _deviation(self) -> tuple[np.ndarray, np.ndarray]:
        """Return standard deviations, and which are more than the rounding of the mean."""
        deviation = np.sqrt(self.variance)
        relative = max(10 * self.rounding, self.n_images * np.finfo(float).eps)
        return deviation, deviation > relative * np.abs(self.mean)


def _in_blocks(features: Rows, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean and variance in two passes over blocks."""
    total = weights.sum()
    mean = sum((weights[part] @ rows for part, rows in parts_of(features)), 0.0) / total
    squares = (weights[part] @ (rows - mean) ** 2 for part, rows in parts_of(features))
    return np.asarray(mean), np.asarray(sum(squares, 0.0) / total)
