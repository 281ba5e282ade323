"""What TransferClassifier and CNNFeatureExtractor share: from X to features of a frozen network."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from transferclf._validation import (
    check_choice,
    check_number,
    check_random_state,
    seed_from,
)
from transferclf.features import FeatureStore, extract, shared_store
from transferclf.images import ImageSource, check_images
from transferclf.images.geometry import RESIZE_MODES
from transferclf.networks.backbones import PREPROCESSINGS
from transferclf.networks.choosing import choose_prefix
from transferclf.networks.prefix import Prefix

POOLINGS = ("avg", "max", "flatten")
CACHES = ("memory", None)


class BackboneEstimator(BaseEstimator):
    """Base of the estimators that put images through a frozen backbone.

    Subclasses name all parameters in their own `__init__`, as scikit-learn asks.
    """

    backbone: Any
    weights: Any
    image_size: Any
    resize: Any
    preprocessing: Any
    pooling: Any
    image_shape: Any
    pixel_range: Any
    cache: Any
    random_state: Any
    verbose: Any

    pixel_range_: Any
    prefix_: Prefix
    resize_: Any

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True  # rows, with image_shape
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        tags.input_tags.positive_only = True
        return tags

    def _check_parameters(self) -> None:
        check_choice("resize", self.resize, RESIZE_MODES)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("cache", self.cache, CACHES)
        check_choice("preprocessing", self.preprocessing, ("auto", *PREPROCESSINGS))
        if not isinstance(self.verbose, bool):
            check_number("verbose", self.verbose, 0, whole=True)
        check_random_state(self.random_state)

    def _fit_source(self, X: Any) -> ImageSource:
        """Check the training images and keep what they decide: the pixel range, the row length."""
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range)
        self.pixel_range_ = source.decided_range()
        if _is_rows(X):
            self.n_features_in_ = np.shape(X)[1]
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_
        return self._with_range(source)

    def _fit_prefix(self, layers: tuple[str, ...] = ()) -> None:
        self.resize_ = self.resize
        self.prefix_ = choose_prefix(
            self.backbone,
            weights=self.weights,
            image_size=self.image_size,
            preprocessing=self.preprocessing,
            pooling=self.pooling,
            layers=layers,
            seed=seed_from(self.random_state) if self.weights is None else 0,
        )

    def _features(self, source: ImageSource) -> np.ndarray:
        """Features of shape (len(source), d), each distinct image computed at most once."""
        return extract(source, self.prefix_, self._store(), self.resize_, int(self.verbose))

    def _features_of(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range_)
        source.warn_if_scaled()
        return self._features(source)

    def _with_range(self, source: ImageSource) -> ImageSource:
        return ImageSource(source.items, self.pixel_range_, source.positions)

    def _store(self) -> FeatureStore | None:
        return shared_store() if self.cache == "memory" else None


def _is_rows(X: Any) -> bool:
    """Whether X is a table of pixels, one image a row."""
    shape = np.shape(X) if hasattr(X, "__array__") else ()
    return len(shape) == 2 and shape != (len(X), 1)  # one column may be one of paths
