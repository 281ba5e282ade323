"""Write a fitted UnknownRejector as facts and arrays, and read it back."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator

from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.known import checked_classifier, checked_label
from transferclf.estimators.strangeness import Normality
from transferclf.estimators.unknown import UnknownRejector
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.objectives import Classes
from transferclf.persistence.archive import Arrays, StoredArrays
from transferclf.persistence.facts import Facts, Written, as_archive_error, is_text, is_whole

REJECTOR = "UnknownRejector"


def classifier_in(rejector: UnknownRejector) -> TransferClassifier:
    """Return the fitted classifier; raise InvalidParameterError if a pipeline or search has it."""
    found = _thawed(rejector.estimator_)
    plain = _thawed(rejector.estimator)
    if type(found) is not TransferClassifier or type(plain) is not TransferClassifier:
        raise InvalidParameterError(
            "an archive holds an UnknownRejector around a TransferClassifier only. Got "
            f"{type(plain).__name__} as its estimator: fit one with FrozenEstimator of the "
            "classifier in it, or pickle the rejector."
        )
    return found


def _thawed(estimator: BaseEstimator) -> BaseEstimator:
    return estimator.estimator if isinstance(estimator, FrozenEstimator) else estimator


def rejector_facts(rejector: UnknownRejector, classifier: Written, arrays: Arrays) -> Written:
    """Return facts for :func:`restored_rejector`, and add arrays to `arrays`.

    `classifier` are the facts of the classifier.
    """
    normality, seed = rejector.normality_, rejector.random_state
    if isinstance(seed, np.random.RandomState):
        raise InvalidParameterError(
            "random_state must be a number or None to be saved. It is not needed to predict: "
            "set_params(random_state=NUMBER) first."
        )
    names = ("known", "centres", "typical", "coef", "intercept", "mean", "scale")
    arrays |= {f"normality/{name}": getattr(normality, name) for name in names}
    if normality.axes is not None:
        arrays["normality/axes"] = normality.axes
    arrays["normality/held_out"] = rejector.held_out_scores_
    label = rejector.unknown_label
    return {
        "kind": REJECTOR,
        "parameters": {
            "coverage": float(rejector.coverage),
            "unknown_label": label.item() if isinstance(label, np.generic) else label,
            "n_splits": int(rejector.n_splits),
            "random_state": None if seed is None else int(seed),
            "is_frozen": isinstance(rejector.estimator, FrozenEstimator),
        },
        "fitted": {"offset": float(rejector.offset_), "estimator": classifier},
    }


def restored_rejector(
    parameters: Facts, fitted: Facts, arrays: StoredArrays, classifier: TransferClassifier
) -> UnknownRejector:
    """Return the rejector; raise ArchiveError if facts or arrays contradict each other."""
    is_frozen = parameters.flag("is_frozen")
    rejector = UnknownRejector(
        FrozenEstimator(classifier) if is_frozen else clone(classifier),
        coverage=parameters.number("coverage"),
        unknown_label=_label(parameters),
        n_splits=parameters.whole("n_splits", 2),
        random_state=parameters.or_none(parameters.whole, "random_state", 0, 2**32 - 1),
    )
    parameters.finish()
    objective = classifier.head_.suffix.objective
    if not isinstance(objective, Classes):
        raise ArchiveError("the classifier of an UnknownRejector must be of classes.")
    with as_archive_error():
        checked_classifier(rejector)
        rejector.unknown_label_ = checked_label(rejector.unknown_label, objective.labels)
    rejector.offset_ = float(fitted.number("offset"))
    rejector.estimator_ = FrozenEstimator(classifier) if is_frozen else classifier
    rejector.classes_ = objective.labels
    n_features = len(classifier.head_.mean)
    rejector.normality_ = _normality(arrays, n_features, len(objective.labels))
    rejector.held_out_scores_ = arrays.take("normality/held_out", (None,))
    return rejector


def _label(parameters: Facts) -> str | int | None:
    label = parameters.take("unknown_label")
    if label is None or is_whole(label) or is_text(label):
        return label
    raise parameters.wrong("a text, a whole number or null", label, "unknown_label")


def _normality(arrays: StoredArrays, n_features: int, n_classes: int) -> Normality:
    has_axes = "normality/axes" in arrays
    known = arrays.take("normality/known", (None, n_features))
    axes = arrays.take("normality/axes", (n_features, n_features)) if has_axes else None
    coef = arrays.take("normality/coef", (n_features, None))
    # Images of some classes may be missing.
    if not 1 <= coef.shape[1] <= min(n_classes, len(known)):
        raise ArchiveError(
            f"normality/coef must have 1 to {n_classes} columns, and no more than normality/known "
            f"has rows. Got {coef.shape[1]}, and {len(known)}."
        )
    normality = Normality(
        known=known,
        centres=arrays.take("normality/centres", (coef.shape[1], n_features)),
        typical=arrays.take("normality/typical", (coef.shape[1],)),
        axes=axes,
        coef=coef,
        intercept=arrays.take("normality/intercept", (coef.shape[1],)),
        mean=arrays.take("normality/mean", (2,)),
        scale=arrays.take("normality/scale", (2,)),
    )
    if not (normality.scale > 0).all():
        raise ArchiveError("normality/scale must be above zero.")
    return normality
