"""State of estimators that other rooms read and set, besides parameters and fitted attributes."""

from __future__ import annotations

import numpy as np

from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.skipping import rows_of_sound, warn_of_skipped
from transferclf.estimators.transfer import TransferEstimator
from transferclf.heads.fitted import FittedHead
from transferclf.images import ImageSource


def images_of(estimator: BackboneEstimator, X: object) -> ImageSource:
    """Return the images in X, checked and read as this fitted estimator reads them."""
    return estimator._source_of(X)


def head_features(classifier: TransferEstimator, X: object) -> np.ndarray:
    """Return the features of X that the head of a fitted classifier standardises, shape (n, d)."""
    return classifier._head_features(images_of(classifier, X))


def sound_head_features(
    classifier: TransferEstimator, X: object, is_quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the features of the images that are not skipped, and their positions in X.

    A warning names the others, unless `is_quiet`.
    """
    features, sound = rows_of_sound(classifier, classifier._head_features, X)
    if not is_quiet:
        warn_of_skipped(("X", sound))
    return features, sound.positions


def scores_and_features(classifier: TransferEstimator, X: object) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of X, and the features that the head standardises, in one pass."""
    return classifier._scores_and_features(images_of(classifier, X))


def check_parameters(estimator: BackboneEstimator) -> None:
    """Raise InvalidParameterError unless the parameters are valid, singly and in combination."""
    estimator._record.of(estimator)


def seed_of_fit(estimator: TransferEstimator) -> int:
    """Return the seed that `warm_start` and `partial_fit` go on with."""
    return int(estimator._seed)


def set_learned(estimator: TransferEstimator, head: FittedHead, seed: int) -> None:
    """Set the head and all fitted attributes that follow from it."""
    estimator._seed = seed
    estimator._keep(head)
