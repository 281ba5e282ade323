"""How a classifier learns and applies what it learned; its parameters and words are elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax, logsumexp

from transferclf._base import BackboneEstimator
from transferclf._recipes import (
    FITTED_SCALINGS,
    check_classifier,
    check_test_time,
    check_with_prefix,
    one_epoch_more,
    plan_for,
    stops_early,
)
from transferclf._validation import (
    check_sample_weight,
    class_weights,
    encode_targets,
    first_classes,
    known_targets,
    seed_from,
)
from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.images import ImageSource, check_images
from transferclf.images.loading import content_digests
from transferclf.images.remarks import remark_on_other_images
from transferclf.networks.augmentation import Augmentation, augmentation_from
from transferclf.networks.prefix import Prefix
from transferclf.networks.suffix import Suffix
from transferclf.networks.views import View
from transferclf.training.balancing import oversampled_indices, validation_split
from transferclf.training.learning import Images, Plan, learn, views_of
from transferclf.training.linear import LinearHead
from transferclf.training.phases import TrainedSuffix

if TYPE_CHECKING:
    import keras

# What the two extreme crops are called where images are resized.
EXTREME_CROPS = ("first", "last")


class ClassifierLearning(BackboneEstimator):
    """What is behind `fit`, `partial_fit` and the predictions."""

    head_: LinearHead | TrainedSuffix
    classes_: np.ndarray
    augmentation_: Augmentation | None
    l2_: float
    n_iter_: int
    _model: keras.Model | None
    _seed: int
    _is_partial = False

    _preprocessings = (*BackboneEstimator._preprocessings, *FITTED_SCALINGS)

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> None:
        before = dict(self.__dict__)
        try:
            self._fitted(X, y, sample_weight, validation_data)
        except BaseException:
            # What training had reached is worth keeping; what a fit that failed has left is not.
            if getattr(self, "head_", None) is before.get("head_"):
                self.__dict__ = before
            raise

    def _fitted(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> None:
        self._check_parameters()
        source = self._fit_source(X)
        classes, labels = encode_targets(y, len(source))
        weights = check_sample_weight(sample_weight, len(source))
        factors = class_weights(self.class_weight, classes, labels)
        if factors is not None:
            weights = weights * factors[labels]
        seed, previous = self._next_seed(), self._previous(classes)
        frozen = None if previous is None else self.prefix_.whole().digest
        self.classes_ = classes
        self._fit_network(seed, self.trainable_layers)
        self._remark_on(source)
        if previous is not None and self.prefix_.whole().digest != frozen:
            warnings.warn(
                "what was learned before is of another network, and training starts anew",
                TransferclfWarning,
                stacklevel=4,
            )
            previous = None
        images = Images(source, labels, weights)
        images, validation = self._split(images, validation_data, seed)
        plan = plan_for(self, self.prefix_, len(classes), seed)
        self._learn(plan, images, validation, previous)
        self._finish()

    def _finish(self) -> None:
        """Drop what is only needed to go on with training that was interrupted."""
        if isinstance(self.head_, TrainedSuffix):
            self.head_ = self.head_.without_checkpoint()
        self._is_partial = False

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        self._check_parameters()
        is_first = not hasattr(self, "head_")
        source = self._fit_source(X) if is_first else self._source_of(X)
        if is_first:
            self.classes_ = first_classes(classes)
            self._seed = seed_from(self.random_state)
            self._fit_network(self._seed, 0)
            self._remark_on(source)
        elif classes is not None and not np.array_equal(first_classes(classes), self.classes_):
            raise ValueError(
                f"classes must be those of the first call, {self.classes_.tolist()}. "
                f"Got {np.asarray(classes).tolist()} instead."
            )
        labels = known_targets(y, len(source), self.classes_)
        weights = check_sample_weight(sample_weight, len(source))
        factors = class_weights(self.class_weight, self.classes_, labels)
        images = Images(source, labels, weights if factors is None else weights * factors[labels])
        previous = None if is_first else self.head_
        plan = plan_for(self, self.prefix_, len(self.classes_), self._seed)
        self._learn(one_epoch_more(plan, previous), images, None, previous)
        self._is_partial = True

    def _fit_network(self, seed: int, trainable_layers: Any) -> None:
        """The network, where it is cut, and what else can be checked once it is known."""
        own_head = {} if self.head is None else {"pooling": "flatten"}
        self._fit_prefix(seed, trainable_layers=trainable_layers, **own_head)
        check_with_prefix(self, self.prefix_)
        self.augmentation_ = augmentation_from(self.augmentation)
        self._seed = seed

    def _learn(
        self,
        plan: Plan,
        images: Images,
        validation: Images | None,
        previous: LinearHead | TrainedSuffix | None,
    ) -> None:
        learned = learn(
            plan,
            images,
            self._extractor(),
            validation=validation,
            previous=previous,
            keep=self._keep,
            verbose=int(self.verbose),
        )
        self._keep(learned)

    def _keep(self, head: LinearHead | TrainedSuffix) -> None:
        """What was learned, and what follows from it."""
        self.head_ = head
        self._model = None
        self.l2_ = head.l2
        self.history_ = head.history
        self.n_iter_ = len(head.history["loss"])
        self.n_head_iter_ = self.n_iter_
        if isinstance(head, TrainedSuffix) and head.is_tuned:
            self.n_head_iter_ = head.n_head_iter

    def _split(
        self, images: Images, validation_data: Any, seed: int
    ) -> tuple[Images, Images | None]:
        """The images to learn from, and those to measure on, if any."""
        validation, chosen = None, np.arange(len(images.labels))
        if validation_data is not None:
            validation = self._validation_images(validation_data)
        elif stops_early(self, self.prefix_):
            digests = content_digests(images.source)
            split = validation_split(images.labels, self.validation_fraction, seed, digests)
            chosen, held_out = split
            validation = images.part(held_out)
        train = images.part(chosen) if validation_data is None else images
        if self.oversample:
            train = replace(train, positions=oversampled_indices(train.labels, seed))
            self.sample_indices_ = chosen[train.positions]
        else:
            self.sample_indices_ = chosen
        return train, validation

    def _validation_images(self, validation_data: Any) -> Images:
        is_pair = isinstance(validation_data, tuple | list) and len(validation_data) == 2
        if not is_pair:
            raise InvalidParameterError(
                f"validation_data must be a pair (X, y). Got {type(validation_data).__name__}."
            )
        X, y = validation_data
        self._check_columns(X)
        source = check_images(X, image_shape=self.image_shape, pixel_range=self.pixel_range_)
        remark_on_other_images(source)
        labels = known_targets(y, len(source), self.classes_)
        return Images(source, labels, np.ones(len(labels)))

    def _next_seed(self) -> int:
        is_known = self.warm_start and hasattr(self, "_seed")
        return self._seed if is_known else seed_from(self.random_state)

    def _previous(self, classes: np.ndarray) -> LinearHead | TrainedSuffix | None:
        """What the last fit learned, if this one is to go on from there."""
        if not self.warm_start or not hasattr(self, "head_"):
            return None
        if self._is_partial:  # which had no end to be interrupted before
            self._finish()
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on with the classes of the last fit, "
                f"{self.classes_.tolist()}. Got {classes.tolist()} instead."
            )
        return self.head_

    def _logits(self, source: ImageSource) -> np.ndarray:
        """Class scores of shape (n, n_classes); of means over several looks, their logarithms."""
        check_test_time(self.test_time_augmentation, self.augmentation_)
        looks = [self._seen(source, *look) for look in self._looks()]
        if len(looks) == 1:
            return looks[0]
        logs = [log_softmax(look.astype(float), axis=1) for look in looks]
        return logsumexp(logs, axis=0) - np.log(len(logs))

    def _looks(self) -> list[tuple[Any, View | None]]:
        """How each image is resized and varied, for each look at it."""
        wanted = self.test_time_augmentation
        looks: list[tuple[Any, View | None]] = []
        if wanted != "crops":
            looks.append((self.resize_, None))
        if wanted in ("views", "both") and self.augmentation_ is not None:
            looks += [(self.resize_, view) for view in views_of(self.augmentation_)]
        if wanted in ("crops", "both"):
            looks += [(crop, None) for crop in EXTREME_CROPS]
        return looks

    def _seen(self, source: ImageSource, resize: Any, view: View | None) -> np.ndarray:
        return self._applied(self.head_.logits, source, resize, view)

    def _head_features(self, source: ImageSource) -> np.ndarray:
        """What the head sees, before it standardises it: (n, d)."""
        return self._applied(self.head_.features, source, self.resize_)

    def _applied(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        source: ImageSource,
        resize: Any,
        view: View | None = None,
    ) -> np.ndarray:
        """A function of the rows below the head; of pixels, batch by batch."""
        read, prefix = self._extractor(resize), self._below_head()
        if not prefix.is_empty:
            return function(read.rows(source, prefix, view))
        batches = read.batches(source, prefix.size, view)
        return np.concatenate([function(pixels) for pixels in batches])

    def _below_head(self) -> Prefix:
        """What gives the rows: the prefix, or all of the network before it is fine-tuned."""
        head = self.head_
        is_at_cut = isinstance(head, TrainedSuffix) and head.suffix.prefix is not None
        # Training that was interrupted in its first phase has left a head on frozen features.
        return self.prefix_ if is_at_cut or not self.prefix_.is_cut else self.prefix_.whole()

    def _assembled_model(self) -> keras.Model:
        from transferclf.networks.heads import with_head

        head, whole = self.head_, self.prefix_.whole().build()
        if isinstance(head, LinearHead):
            suffix = Suffix(len(self.classes_))
            return with_head(whole, suffix, head.mean, head.scale, head.weights)
        return with_head(
            whole,
            head.suffix,
            head.mean,
            head.scale,
            head.weights,
            dropout=head.dropout,
            tuned=head.tuned(),
            scaling=head.scaling,
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        # The Keras model is rebuilt from the rest when it is asked for again.
        return state | {"_model": None} if "_model" in state else state

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_classifier(self)
