"""State of estimators that archives write and set besides parameters and fitted attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transferclf.estimators.base import BackboneEstimator
    from transferclf.estimators.classifier import TransferClassifier
    from transferclf.heads.linear import LinearHead
    from transferclf.training.phases import TrainedSuffix


def check_parameters(estimator: BackboneEstimator) -> None:
    """Raise InvalidParameterError unless the parameters are valid, singly and in combination."""
    estimator._check_parameters()


def seed_of_fit(classifier: TransferClassifier) -> int:
    """Return the seed that `warm_start` and `partial_fit` go on with."""
    return int(classifier._seed)


def set_learned(
    classifier: TransferClassifier, head: LinearHead | TrainedSuffix, seed: int
) -> None:
    """Set the head and all fitted attributes that follow from it."""
    classifier._seed = seed
    classifier._keep(head)
