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
)
from transferclf.features import store_for
from transferclf.features.extraction import Extractor
from transferclf.images import ImageSource, check_images
from transferclf.images.geometry import RESIZE_MODES
from transferclf.networks.backbones import PREPROCESSINGS
from transferclf.networks.choosing import choose_prefix
from transferclf.networks.engines import check_engine
from transferclf.networks.prefix import Prefix

POOLINGS = ("avg", "max", "flatten")


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
    engine: Any
    precision: Any
    random_state: Any
    verbose: Any

    pixel_range_: Any
    prefix_: Prefix
    resize_: Any

    _preprocessings: tuple[str, ...] = ("auto", *PREPROCESSINGS)

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
        store_for(self.cache)
        check_engine(self.engine, self.precision)
        check_choice("preprocessing", self.preprocessing, self._preprocessings)
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

    def _fit_prefix(self, seed: int, **cut: Any) -> None:
        self.resize_ = self.resize
        fitted = self.preprocessing not in ("auto", *PREPROCESSINGS)
        options = {
            "weights": self.weights,
            "image_size": self.image_size,
            "preprocessing": "none" if fitted else self.preprocessing,
            "pooling": self.pooling,
            "layers": (),
            "seed": seed,
            "engine": self.engine,
            "precision": self.precision,
        }
        self.prefix_ = choose_prefix(self.backbone, **(options | cut))

    def _extractor(self, resize: Any = None) -> Extractor:
        return Extractor(store_for(self.cache), resize or self.resize_, int(self.verbose))

    def _features(self, source: ImageSource) -> np.ndarray:
        """Rows of shape (len(source), d), each distinct image computed at most once."""
        return self._extractor().rows(source, self.prefix_)

    def _source_of(self, X: Any) -> ImageSource:
        check_is_fitted(self)
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range_)
        source.warn_if_scaled()
        return source

    def _with_range(self, source: ImageSource) -> ImageSource:
        return ImageSource(source.items, self.pixel_range_, source.positions)


def _is_rows(X: Any) -> bool:
    """Whether X is a table of pixels, one image a row."""
    shape = np.shape(X) if hasattr(X, "__array__") else ()
    return len(shape) == 2 and shape != (len(X), 1)  # one column may be one of paths
