"""State of estimators that archives write and set besides parameters and fitted attributes."""

from __future__ import annotations

from transferclf.estimators.base import BackboneEstimator
from transferclf.estimators.parameters import BackboneParameters, Parameters
from transferclf.estimators.transfer import TransferEstimator
from transferclf.heads.fitted import FittedHead


def check_parameters(estimator: BackboneEstimator) -> None:
    """Raise InvalidParameterError unless the parameters are valid, singly and in combination."""
    kind = Parameters if isinstance(estimator, TransferEstimator) else BackboneParameters
    kind.of(estimator)


def seed_of_fit(estimator: TransferEstimator) -> int:
    """Return the seed that `warm_start` and `partial_fit` go on with."""
    return int(estimator._seed)


def set_learned(estimator: TransferEstimator, head: FittedHead, seed: int) -> None:
    """Set the head and all fitted attributes that follow from it."""
    estimator._seed = seed
    estimator._keep(head)
