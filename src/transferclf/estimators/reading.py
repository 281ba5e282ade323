"""How other rooms get at the images and the features that a fitted estimator uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.images import ImageSource

if TYPE_CHECKING:
    from transferclf.estimators.base import BackboneEstimator
    from transferclf.estimators.classifier import TransferClassifier


def images_of(estimator: BackboneEstimator, X: Any) -> ImageSource:
    """The images in X, checked and read as this fitted estimator reads them."""
    return estimator._source_of(X)


def head_features(classifier: TransferClassifier, X: Any) -> np.ndarray:
    """The features of X that the head of a fitted classifier gets, before standardising: (n, d)."""
    return classifier._head_features(images_of(classifier, X))
