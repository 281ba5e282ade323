"""The base of all estimators: from X to features of a frozen network."""

from __future__ import annotations

import sys
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from transferclf.backbones.preprocessing import PREPROCESSINGS, Preprocessing, preprocessing_of
from transferclf.estimators.parameters import BackboneParameters
from transferclf.estimators.skipping import OnError, checked_images, is_noted, rows_of_all
from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError
from transferclf.features import store_for
from transferclf.features.choosing import check_own_model, choose_prefix
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.features.parallel import Workers
from transferclf.images import ImageSource
from transferclf.images.checking import inferred_shape, row_length
from transferclf.images.pixels import check_pixel_range
from transferclf.images.remarks import (
    remark_on_other_images,
    remark_on_proportions,
    remark_on_training_images,
    sample,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import keras
    import numpy as np

    from transferclf.backbones.convnet import ConvNet
    from transferclf.backbones.onnx import OnnxBackbone
    from transferclf.engines.engine import Precision
    from transferclf.features.store import FeatureStore
    from transferclf.graphs.pooling import Pooling
    from transferclf.images.checking import ImageShape
    from transferclf.images.geometry import ResizeMode
    from transferclf.images.pixels import PixelRange


@dataclass(eq=False, repr=False)
class BackboneEstimator(BaseEstimator):
    """Base of the estimators that put images through a frozen backbone.

    Each estimator is a dataclass whose fields are its parameters, so that `__init__` only assigns,
    as scikit-learn asks.
    """

    backbone: str | Path | ConvNet | OnnxBackbone | keras.Model = "tiny"
    _: KW_ONLY
    weights: str | Path | None = "pretrained"
    image_size: int | tuple[int, int] | None = None
    resize: ResizeMode | Literal["auto"] = "auto"
    pooling: Pooling | Literal["auto"] = "auto"
    preprocessing: str | Preprocessing = "auto"
    image_shape: ImageShape = None
    pixel_range: PixelRange = None
    cache: str | Path | FeatureStore | None = "memory"
    engine: str = "auto"
    precision: Precision = "float32"
    on_error: OnError = "raise"
    n_jobs: int | None = None
    random_state: int | np.random.RandomState | None = None
    verbose: int = 0

    pixel_range_: PixelRange = field(init=False)
    prefix_: Prefix = field(init=False)
    resize_: Any = field(init=False)  # a ResizeMode
    skipped_indices_: np.ndarray = field(init=False)

    # The record that holds and checks the parameters.
    _record: ClassVar[type[BackboneParameters]] = BackboneParameters

    # scikit-learn's diagram of an estimator links to this page.
    _doc_link_module = "transferclf"

    @property
    def _doc_link_template(self) -> str:
        try:
            addresses = metadata("transferclf").get_all("Project-URL") or []
        except PackageNotFoundError:
            return ""
        page = dict(address.split(", ", 1) for address in addresses).get("Documentation")
        return f"{page}#{{estimator_module}}.{{estimator_name}}" if page else ""

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Sequences of paths are one-dimensional, but `one_d_array` would mean that all X are.
        tags.input_tags.two_d_array = True  # rows, with image_shape
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        try:
            limits = check_pixel_range(self.pixel_range)
        except InvalidParameterError:
            limits = None  # fit will raise it
        has_negatives = limits == "minmax" or (isinstance(limits, tuple) and limits[0] < 0)
        tags.input_tags.positive_only = not has_negatives
        tags.input_tags.allow_nan = self.on_error == "skip"  # images with NaN are skipped
        return tags

    @property
    def engine_(self) -> str:
        """The engine that runs the frozen network, never "auto"; only after fitting."""
        return self.prefix_.engine_used

    def _fit_source(self, X: object) -> ImageSource:
        """Check the training images, and keep the pixel range and row length that they decide.

        The result has images to be skipped, too; their faults are noted in it.
        """
        source = checked_images(X, self.on_error, self.image_shape, self.pixel_range)
        self.pixel_range_ = source[source.sound()].decided_range()
        length = row_length(X)
        if length is None:
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
        else:
            validate_data(self, X, skip_check_array=True)
        is_inferred = isinstance(self.image_shape, str)
        shape = inferred_shape(length) if is_inferred and length is not None else None
        # The largest square of a strip would be one pixel.
        self.resize_ = "stretch" if shape == (1, length) else self.resize
        return source.read_with(self.pixel_range_)

    def _is_same_network(self, before: Prefix | None) -> bool:
        """Return whether the whole network is the same as before."""
        return before is not None and self.prefix_.whole().digest == before.whole().digest

    def _remark_on(self, source: ImageSource) -> None:
        """Warn of training images that are valid, but perhaps not meant so."""
        seen = sample(source)
        remark_on_training_images(source, seen)
        remark_on_proportions(seen, self.prefix_.size, self.resize_)

    def _check_columns(self, X: object) -> None:
        """Raise ImageError if X and the training images are rows of different columns."""
        if not hasattr(self, "n_features_in_") or row_length(X) is None:
            return
        try:
            validate_data(self, X, reset=False, skip_check_array=True)
        except ValueError as error:
            raise ImageError(str(error)) from None

    def _fit_prefix(
        self,
        parameters: BackboneParameters,
        seed: int,
        *,
        layers: tuple[str, ...] = (),
        trainable_layers: int | str = 0,
        pooling: Pooling | None = None,
    ) -> None:
        """Choose the network and its cut; `pooling` replaces that of the parameters."""
        given = parameters.preprocessing
        is_given = isinstance(given, Preprocessing) or given in ("auto", *PREPROCESSINGS)
        self.prefix_ = choose_prefix(
            parameters.backbone,
            weights=parameters.weights,
            image_size=parameters.image_size,
            preprocessing=given if is_given else "none",
            pooling=pooling or parameters.pooling,
            layers=layers,
            seed=seed,
            trainable_layers=trainable_layers,
            engine=parameters.engine,
            precision=parameters.precision,
        )
        check_own_model(self.prefix_)
        if self.resize_ == "auto":
            self.resize_ = preprocessing_of(self.prefix_.preprocessing).resize

    def __sklearn_clone__(self) -> Self:
        # Keras copies a model by its description, which lacks code of the user's own. That would be
        # lost or cannot be copied at all, so that clones share such a model.
        if not _is_undescribed(self.backbone):
            return super().__sklearn_clone__()
        plain = object.__new__(type(self))
        plain.__dict__.update(self.__dict__, backbone=None)
        copy = BaseEstimator.__sklearn_clone__(plain)
        copy.backbone = self.backbone
        return copy

    def __getstate__(self) -> dict[str, object]:
        state = super().__getstate__()
        if not _is_model(self.backbone):
            return state
        from transferclf.graphs.copying import travelling

        return state | {"backbone": travelling(self.backbone)}

    def __setstate__(self, state: dict[str, object]) -> None:
        # A model that was unpickled has imported this module.
        copying = sys.modules.get("transferclf.graphs.copying")
        if copying is not None:
            state = state | {"backbone": copying.arrived(state.get("backbone"))}
        super().__setstate__(state)

    def _used_of_backbone(self) -> set[str]:
        """Names of the parameters of this class on which the features depend, after a fit."""
        prefix = self.prefix_
        used = {"backbone", "cache", "engine", "image_size", "pixel_range", "preprocessing"}
        used |= {"on_error", "random_state", "verbose"}
        # The record of a registered builder does not know whether its model ends in a vector.
        ends_in_rows = prefix.backbone.ends_in == "vector" or (
            prefix.model is not None and len(prefix.model.outputs[0].shape) == 2
        )
        is_pooled = prefix.layers or not ends_in_rows
        conditions = {
            "image_shape": hasattr(self, "n_features_in_"),
            "n_jobs": not prefix.is_scratch,
            "pooling": self.pooling in ("auto", prefix.pooling) and is_pooled,
            "precision": not prefix.is_scratch,
            "resize": self.resize in ("auto", self.resize_),
            "weights": prefix.model is None and (prefix.is_keras or prefix.backbone.takes_weights),
        }
        return used | {name for name, is_met in conditions.items() if is_met}

    def _extractor(self, resize: ResizeMode | None = None) -> Extractor:
        resize, run = resize or self.resize_, Workers(self.n_jobs)
        return Extractor(store_for(self.cache), resize, int(self.verbose), run)

    def _source_of(self, X: object, on_error: OnError = "raise") -> ImageSource:
        """Return the checked images of a fitted estimator's method.

        With "skip", they have those at fault, too, which are noted.
        """
        check_is_fitted(self)
        return self._checked(X, on_error)

    def _checked(self, X: object, on_error: OnError) -> ImageSource:
        """Return images that are read as the training images were."""
        is_checked = is_noted(X)
        if not is_checked:
            self._check_columns(X)
        source = checked_images(X, on_error, self.image_shape, self.pixel_range_)
        if not is_checked:
            remark_on_other_images(source[source.sound()])
        return source

    def _rows_of(self, X: object, function: Callable[[ImageSource], np.ndarray]) -> np.ndarray:
        """Return what a function gives for each image in X, and NaN for those that are skipped."""
        return rows_of_all(self, function, X)


def _is_model(backbone: object) -> bool:
    # Keras is imported already wherever there is a Keras model.
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(backbone, keras.Model)


def _is_undescribed(backbone: object) -> bool:
    """Return whether this is a model with layers that Keras cannot copy for certain."""
    if not _is_model(backbone):
        return False
    from transferclf.graphs.digests import describe

    try:
        description = describe(backbone)
    except NetworkError:  # not even a description: fit will say so
        return True
    return description.has_unknown_code or not description.is_of_keras
