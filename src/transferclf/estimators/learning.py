"""How a classifier learns and applies what it learned; its parameters and words are elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._checks import seed_from
from transferclf.augmentation.recipe import Augmentation, augmentation_from
from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.effects import Asked, warn_without_effect
from transferclf.estimators.planning import check_memory, partial_plan, plan_for
from transferclf.estimators.recipes import (
    FITTED_SCALINGS,
    check_classifier,
    check_with_prefix,
)
from transferclf.estimators.targets import (
    check_apart,
    check_sample_weight,
    class_weights,
    encode_targets,
    first_classes,
    known_targets,
)
from transferclf.exceptions import DivergenceError, InvalidParameterError, TransferclfWarning
from transferclf.heads.linear import LinearHead
from transferclf.heads.suffix import Suffix
from transferclf.images import check_images
from transferclf.images.loading import content_digests
from transferclf.images.remarks import remark_on_other_images
from transferclf.training.balancing import oversampled_indices, validation_split
from transferclf.training.learning import learn
from transferclf.training.phases import TrainedSuffix
from transferclf.training.plan import Images, Plan

if TYPE_CHECKING:
    import keras

# `partial_fit` warns if it begins with fewer images.
FIRST_IMAGES = 32


class ClassifierLearning(BackboneEstimator):
    """What is behind `fit` and `partial_fit`."""

    head_: LinearHead | TrainedSuffix
    classes_: np.ndarray
    augmentation_: Augmentation | None
    l2_: float
    n_iter_: int
    n_head_iter_: int
    phases_: list[dict[str, Any]]
    _model: keras.Model | None
    _seed: int
    _is_partial = False

    _preprocessings = (*BackboneEstimator._preprocessings, *FITTED_SCALINGS)

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> None:
        with self._as_before_if_it_fails():
            self._fitted(X, y, sample_weight, validation_data)

    @contextmanager
    def _as_before_if_it_fails(self) -> Iterator[None]:
        """Put everything back if a fit fails, unless training had reached something by then.

        What had been learned before is not given up for what diverges.
        """
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            has_reached = getattr(self, "head_", None) is not before.get("head_")
            if not has_reached or (isinstance(error, DivergenceError) and "head_" in before):
                self.__dict__ = before
            raise

    def _fitted(self, X: Any, y: Any, sample_weight: Any, validation_data: Any) -> None:
        self._check_parameters()
        check_apart(X, y)
        source = self._fit_source(X)
        classes, labels = encode_targets(y, len(source))
        weights = self._weights(sample_weight, classes, labels)
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
        plan = self._plan(seed, has_validation=validation_data is not None)
        images, validation = Images(source, labels, weights), None
        if validation_data is not None:
            validation = self._validation_images(validation_data)
        train, held_out, indices = self._split(images, plan, seed)
        keep = partial(self._keep, sample_indices_=indices)
        head = self._learned(plan, train, validation or held_out, previous, keep)
        keep(head, is_finished=True)

    def _plan(self, seed: int, has_validation: bool) -> Plan:
        """The plan of a fit; says which parameters it does not need."""
        asked = Asked(self)
        n_classes = len(self.classes_)
        plan = plan_for(asked, self.prefix_, n_classes, seed, has_validation=has_validation)
        used = asked.names | self._used_of_backbone()
        used |= {"class_weight", "oversample", "trainable_layers", "warm_start"}
        if len(self._looks()) > 1:
            used.add("test_time_augmentation")
        warn_without_effect(self, used, stacklevel=5)
        check_memory(self, self.prefix_, n_classes)
        return plan

    def _weights(self, sample_weight: Any, classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The weight of each image, with that of its class."""
        weights = check_sample_weight(sample_weight, len(labels))
        factors = class_weights(self.class_weight, classes, labels)
        if factors is None:
            return weights
        weights = weights * factors[labels]
        if not weights.any():
            raise ValueError(
                "class_weight and sample_weight leave no image with a weight above zero: there is "
                "nothing to learn from."
            )
        return weights

    def _partial_fit(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        with self._as_before_if_it_fails():
            self._partially_fitted(X, y, classes, sample_weight)

    def _partially_fitted(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> None:
        self._check_parameters()
        check_apart(X, y)
        is_first = not hasattr(self, "head_")
        source = self._fit_source(X) if is_first else self._source_of(X)
        if is_first:
            self.classes_ = first_classes(classes)
            self._fit_network(seed_from(self.random_state), 0)
            check_memory(self, self.prefix_, len(self.classes_))
            self._remark_on(source)
        elif classes is not None and not np.array_equal(first_classes(classes), self.classes_):
            raise ValueError(
                f"classes must be those of the first call, {self.classes_.tolist()}. "
                f"Got {np.asarray(classes).tolist()} instead."
            )
        labels = known_targets(y, len(source), self.classes_)
        images = Images(source, labels, self._weights(sample_weight, self.classes_, labels))
        if is_first:
            _warn_unlike_the_rest(images)
        previous = None if is_first else self.head_
        plan = partial_plan(self, self.prefix_, len(self.classes_), self._seed, previous)
        # One epoch is all or nothing: if it is interrupted, the classifier is as it was.
        self._keep(self._learned(plan, images, None, previous, keep=None), is_partial=True)

    def _fit_network(self, seed: int, trainable_layers: Any) -> None:
        """The network, where it is cut, and what else can be checked once it is known."""
        own_head = {} if self.head is None else {"pooling": "flatten"}
        self._fit_prefix(seed, trainable_layers=trainable_layers, **own_head)
        check_with_prefix(self, self.prefix_)
        self.augmentation_ = augmentation_from(self.augmentation)
        self._seed = seed

    def _learned(
        self,
        plan: Plan,
        images: Images,
        validation: Images | None,
        previous: LinearHead | TrainedSuffix | None,
        keep: Callable[[TrainedSuffix], None] | None,
    ) -> LinearHead | TrainedSuffix:
        return learn(
            plan,
            images,
            self._extractor(),
            validation=validation,
            previous=previous,
            keep=keep,
            verbose=int(self.verbose),
        )

    def _keep(
        self,
        head: LinearHead | TrainedSuffix,
        *,
        is_finished: bool = False,
        is_partial: bool = False,
        **others: Any,
    ) -> None:
        """Set what was learned and all that follows from it at once, whatever interrupts.

        Parameters
        ----------
        head : LinearHead or TrainedSuffix
            What was learned.
        is_finished : bool, default=False
            Whether nothing is left to go on with, so that the checkpoint is dropped.
        is_partial : bool, default=False
            Whether it is of `partial_fit`, which goes on but was not interrupted.
        **others
            Further attributes.
        """
        n_iter = n_head_iter = len(head.history["loss"])
        if isinstance(head, TrainedSuffix):
            head = head.without_checkpoint() if is_finished else head
            n_head_iter = head.n_head_iter if head.is_tuned else n_iter
        self.__dict__.update(
            head_=head,
            l2_=head.l2,
            history_=head.history,
            phases_=[asdict(phase) for phase in head.phases],
            n_iter_=n_iter,
            n_head_iter_=n_head_iter,
            _model=None,
            _is_partial=is_partial,
            **others,
        )

    def _split(
        self, images: Images, plan: Plan, seed: int
    ) -> tuple[Images, Images | None, np.ndarray]:
        """The images to learn from, those held out, if any, and the positions of the former."""
        held_out, train, chosen = None, images, np.arange(len(images.labels))
        if plan.validation_fraction is not None:
            digests = content_digests(images.source)
            split = validation_split(images.labels, plan.validation_fraction, seed, digests)
            chosen, others = split
            train, held_out = images.part(chosen), images.part(others)
        if self.oversample:
            train = replace(train, positions=oversampled_indices(train.labels, seed))
            chosen = chosen[train.positions]
        return train, held_out, chosen

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
        if not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"warm_start=True goes on with the classes of the last fit, "
                f"{self.classes_.tolist()}. Got {classes.tolist()} instead."
            )
        head = self.head_
        if self._is_partial and isinstance(head, TrainedSuffix):
            return head.without_checkpoint()  # partial_fit has no end to be interrupted before
        return head

    def _assembled_model(self) -> keras.Model:
        from transferclf.heads.flat import with_head

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


def _warn_unlike_the_rest(images: Images) -> None:
    """Say so if the first images that `partial_fit` gets are few, or of one class."""
    n_images, n_classes = len(images.labels), len(np.unique(images.labels))
    found = [f"{n_images} images"] if n_images < FIRST_IMAGES else []
    found += ["one class"] if n_classes == 1 else []
    if found:
        warnings.warn(
            f"the first call of partial_fit got only {' of '.join(found)}, by which features are "
            "standardised until later calls have shown more. Begin with at least "
            f"{FIRST_IMAGES} images of several classes where you can.",
            TransferclfWarning,
            stacklevel=5,
        )
