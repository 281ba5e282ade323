"""Checks of a rejector before it is fitted: its classifier, the known classes and their label."""

from __future__ import annotations

from typing import Protocol, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from transferclf._checks import check_number, check_random_state, refuse
from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.in_parts import trains_backbone
from transferclf.estimators.reading import check_parameters
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.objectives import Classes, Objective
from transferclf.objectives.registry import kind_of


class Rejecting(Protocol):
    """The parameters of a rejector."""

    estimator: BaseEstimator
    coverage: float
    n_splits: int
    random_state: int | np.random.RandomState | None


def checked_classifier(rejector: Rejecting) -> tuple[TransferClassifier, bool]:
    """Check the parameters; return the classifier that `estimator` ends in, and if it is frozen."""
    check_number("coverage", rejector.coverage, 0, 1, above=True, below=True)
    check_number("n_splits", rejector.n_splits, 2, whole=True)
    check_random_state(rejector.random_state)
    last, is_frozen = _last(rejector.estimator)
    if not isinstance(last, TransferClassifier):
        expected = "a TransferClassifier, or a pipeline or search that ends in one"
        refuse("estimator", expected, rejector.estimator)
    if is_frozen:
        check_is_fitted(last)
    else:
        check_parameters(last)
    return last, is_frozen


def checked_label(unknown_label: object, classes: np.ndarray) -> str | int:
    """Return the label of unknown images; raise InvalidParameterError if it is of no use.

    It has to be of the type of the classes, and none of them.
    """
    are_texts = isinstance(classes.tolist()[0], str)
    label = unknown_label
    if label is None:
        label = "unknown" if are_texts else -1
    elif isinstance(label, np.generic):
        label = label.item()
    if isinstance(label, bool) or not isinstance(label, str if are_texts else int):
        expected = "a text" if are_texts else "a whole number"
        refuse("unknown_label", f"{expected}, as the classes are, or None", unknown_label)
    if label in classes.tolist():
        refuse("unknown_label", f"none of the classes {classes.tolist()}", label)
    return label


def _last(estimator: BaseEstimator) -> tuple[object, bool]:
    """Return the estimator that a pipeline or a search ends in, and whether it is frozen."""
    is_frozen = False
    while True:
        if isinstance(estimator, FrozenEstimator):
            is_frozen, estimator = True, estimator.estimator
        elif isinstance(estimator, Pipeline) and estimator.steps:
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "refit"):  # a search
            is_done = is_frozen and hasattr(estimator, "best_estimator_")
            estimator = estimator.best_estimator_ if is_done else estimator.estimator
        else:
            return estimator, is_frozen


def check_is_constant(classifier: TransferClassifier) -> None:
    """Raise InvalidParameterError if a search has chosen to train layers of the backbone."""
    if trains_backbone(classifier):
        raise InvalidParameterError(
            "the search in estimator chose to train layers of the backbone, for which images have "
            "to be held out before. Fit the search on some images, and UnknownRejector on others "
            "with estimator=FrozenEstimator(search)."
        )


def known_classes(
    y: object, n_samples: int, classifier: TransferClassifier, is_frozen: bool
) -> tuple[Classes, np.ndarray]:
    """Return the classes of y, and the number of the class of each image.

    A frozen classifier knows the classes; those of others come from y.
    """
    if n_samples == 0:
        raise ImageError("X must have images of at least two classes. Got an empty X instead.")
    if is_frozen:
        known = classifier.head_.suffix.objective
        _check_is_of_classes(type(known))
        objective, targets = cast(Classes, known), known.encode_known(y, n_samples)
    else:
        _check_is_of_classes(kind_of(y))
        objective, targets = Classes.encode(y, n_samples)
    if len(np.unique(targets)) == len(targets):
        raise ValueError(
            "UnknownRejector needs two images of a class, one of them to be held out. "
            f"Got {len(targets)} images of as many classes."
        )
    return objective, targets


def _check_is_of_classes(kind: type[Objective]) -> None:
    if not issubclass(kind, Classes):
        raise InvalidParameterError(
            "UnknownRejector returns one class or unknown_label for each image: expected one class "
            f"for each image. Got targets of the kind {kind.kind!r} instead."
        )


def check_held_out(held_out: np.ndarray, n_images: int) -> None:
    """Raise ValueError if no image could be held out."""
    if not len(held_out):
        raise ValueError(
            "UnknownRejector needs two different images of a class, one of them to be held out. "
            f"Got {n_images} images, all images of a class the same."
        )
