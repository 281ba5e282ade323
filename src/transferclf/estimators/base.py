"""What TransferClassifier and CNNFeatureExtractor share: from X to features of a frozen network."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from transferclf.backbones.preprocessing import PREPROCESSINGS
from transferclf.estimators.parameters import BackboneParameters
from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError
from transferclf.features import store_for
from transferclf.features.choosing import check_own_model, choose_prefix
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.images import ImageSource, check_images
from transferclf.images.checking import inferred_shape, row_length
from transferclf.images.pixels import check_pixel_range
from transferclf.images.remarks import (
    remark_on_other_images,
    remark_on_proportions,
    remark_on_training_images,
    sample,
)


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

    # Where the diagram of an estimator links to, as scikit-learn asks for it.
    _doc_link_module = "transferclf"

    @property
    def _doc_link_template(self) -> str:
        page = _documentation()
        return f"{page}#{{estimator_module}}.{{estimator_name}}" if page else ""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # Sequences of paths are one-dimensional, but `one_d_array` would mean that all X are.
        tags.input_tags.two_d_array = True  # rows, with image_shape
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        tags.input_tags.positive_only = not _takes_negatives(self.pixel_range)
        return tags

    def _fit_source(self, X: Any) -> ImageSource:
        """Check the training images and keep what they decide: the pixel range, the row length."""
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range)
        self.pixel_range_ = source.decided_range()
        length = row_length(X)
        if length is None:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        else:
            validate_data(self, X, skip_check_array=True)
        self.resize_ = "stretch" if self._is_inferred_strip(length) else self.resize
        return self._with_range(source)

    def _is_same_network(self, before: Prefix | None) -> bool:
        """Return whether the whole network is the one that it was before."""
        return before is not None and self.prefix_.whole().digest == before.whole().digest

    def _remark_on(self, source: ImageSource) -> None:
        """Warn of training images that can be used, but perhaps not as they are meant."""
        seen = sample(source)
        remark_on_training_images(source, seen)
        remark_on_proportions(seen, self.prefix_.size, self.resize_)

    def _is_inferred_strip(self, length: int | None) -> bool:
        """Whether a row of this length is taken for a strip; its largest square is one pixel."""
        if length is None or not isinstance(self.image_shape, str):
            return False
        return inferred_shape(length) == (1, length)

    def _check_columns(self, X: Any) -> None:
        """Raise ImageError if X and the training images are rows of different columns."""
        if not hasattr(self, "n_features_in_") or row_length(X) is None:
            return
        try:
            validate_data(self, X, reset=False, skip_check_array=True)
        except ValueError as error:
            raise ImageError(str(error)) from None

    def _fit_prefix(self, parameters: BackboneParameters, seed: int, **cut: Any) -> None:
        is_given = parameters.preprocessing in ("auto", *PREPROCESSINGS)
        options = {
            "weights": parameters.weights,
            "image_size": parameters.image_size,
            "preprocessing": parameters.preprocessing if is_given else "none",
            "pooling": parameters.pooling,
            "layers": (),
            "seed": seed,
            "engine": parameters.engine,
            "precision": parameters.precision,
        }
        self.prefix_ = choose_prefix(parameters.backbone, **(options | cut))
        check_own_model(self.prefix_)

    def __sklearn_clone__(self) -> Any:
        # Keras copies a model by its description. What that does not say, code of the user's own,
        # would be lost or cannot be copied at all, so that such a model is shared by clones.
        if not _is_undescribed(self.backbone):
            return super().__sklearn_clone__()
        plain = object.__new__(type(self))
        plain.__dict__.update(self.__dict__, backbone=None)
        copy = BaseEstimator.__sklearn_clone__(plain)
        copy.backbone = self.backbone
        return copy

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if not _is_model(self.backbone):
            return state
        from transferclf.graphs.copying import travelling

        return state | {"backbone": travelling(self.backbone)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not _is_plain(state.get("backbone")):
            from transferclf.graphs.copying import arrived

            state = state | {"backbone": arrived(state["backbone"])}
        super().__setstate__(state)

    def _used_of_backbone(self) -> set[str]:
        """Names of the parameters of this class on which the features depend, after a fit."""
        prefix = self.prefix_
        used = {"backbone", "cache", "engine", "image_size", "pixel_range", "preprocessing"}
        used |= {"random_state", "verbose"}
        # The record of a registered builder does not know what its model ends in.
        ends_in_rows = prefix.backbone.ends_in == "vector" or (
            prefix.model is not None and len(prefix.model.outputs[0].shape) == 2
        )
        conditions = {
            "image_shape": hasattr(self, "n_features_in_"),
            "pooling": prefix.pooling == self.pooling and (prefix.layers or not ends_in_rows),
            "precision": not prefix.is_scratch,
            "resize": self.resize_ == self.resize,
            "weights": prefix.model is None and prefix.is_keras,
        }
        return used | {name for name, is_met in conditions.items() if is_met}

    def _extractor(self, resize: Any = None) -> Extractor:
        return Extractor(store_for(self.cache), resize or self.resize_, int(self.verbose))

    def _features(self, source: ImageSource) -> np.ndarray:
        """Rows of shape (len(source), d), each distinct image computed at most once."""
        return self._extractor().rows(source, self.prefix_)

    def _source_of(self, X: Any) -> ImageSource:
        check_is_fitted(self)
        self._check_columns(X)
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range_)
        remark_on_other_images(source)
        return source

    def _with_range(self, source: ImageSource) -> ImageSource:
        return ImageSource(source.items, self.pixel_range_, source.positions)


def _is_plain(backbone: Any) -> bool:
    return backbone is None or isinstance(backbone, str)


def _is_model(backbone: Any) -> bool:
    # Keras is imported already wherever there is a Keras model.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(backbone, keras.Model)


def _is_undescribed(backbone: Any) -> bool:
    """Whether this is a model of which Keras' description does not say all."""
    if not _is_model(backbone):
        return False
    from transferclf.graphs.digests import describe

    try:
        return describe(backbone).has_unknown_code
    except NetworkError:  # not even a description: fit will say so
        return True


def _documentation() -> str:
    """The address that the installed package gives for its documentation, if it does."""
    try:
        addresses = metadata("transferclf").get_all("Project-URL") or []
    except PackageNotFoundError:
        return ""
    return dict(address.split(", ", 1) for address in addresses).get("Documentation", "")


def _takes_negatives(pixel_range: Any) -> bool:
    """Whether black may be below zero."""
    try:
        limits = check_pixel_range(pixel_range)
    except InvalidParameterError:
        return False  # fit will say so
    return limits == "minmax" or (isinstance(limits, tuple) and limits[0] < 0)
