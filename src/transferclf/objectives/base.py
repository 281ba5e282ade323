"""The interface of a kind of target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import keras

Split = tuple[np.ndarray, np.ndarray]


class Evaluated(NamedTuple):
    """An objective at some scores.

    Attributes
    ----------
    loss, measure : float
        Weighted means over the samples.
    gradient : ndarray of shape (n, n_outputs)
        Derivative of the loss by the scores.
    """

    loss: float
    measure: float
    gradient: np.ndarray


class Judged(NamedTuple):
    """Held-out samples as cross-validation judges them.

    Attributes
    ----------
    losses, measures : ndarray of shape (n,)
        Of each sample. A single sample must not be able to outweigh all others.
    curvature : float
        Mean second derivative of the loss by a score, which scales the steps of the next fit.
    """

    losses: np.ndarray
    measures: np.ndarray
    curvature: float


class Objective(ABC):
    """A kind of target, with what is known of it after `encode`.

    A network gives scores of shape (n, n_outputs). The objective says what they are compared with,
    by which loss, and what they mean. A kind is a subclass in a file of its own that is passed to
    `register_objective`. Objects are immutable and can be pickled.

    Attributes
    ----------
    kind : str
        Name of the kind, also in archives.
    measure : str
        Name in the history of what is measured beside the loss.
    outputs : str
        Name for the outputs in error messages, such as "classes".
    activation : str
        Activation of the last layer of `model_`: Keras' name of the function of `link`.
    n_outputs : int
        Number of scores for each sample.
    """

    kind: ClassVar[str]
    measure: ClassVar[str]
    outputs: ClassVar[str]
    activation: ClassVar[str]
    n_outputs: int

    # --- what y may be

    @classmethod
    @abstractmethod
    def takes(cls, y: Any) -> bool:
        """Return whether y is of this kind; errors are left to `encode`."""

    @classmethod
    @abstractmethod
    def encode(cls, y: Any, n_samples: int) -> tuple[Self, np.ndarray]:
        """Check y, and return the objective and the encoded targets, shape (n_samples, ...).

        Raises
        ------
        ValueError
            If y is not one target for each sample, or nothing can be learned from it.
        """

    @classmethod
    @abstractmethod
    def announced(cls, classes: Any) -> Self:
        """Return the objective of the `classes` that are passed to the first `partial_fit`."""

    @abstractmethod
    def encode_known(self, y: Any, n_samples: int) -> np.ndarray:
        """Encode other targets of this objective; raise ValueError for those it does not know."""

    @abstractmethod
    def check_encoded(self, targets: np.ndarray, n_samples: int) -> None:
        """Raise InvalidParameterError unless these are encoded targets of so many samples."""

    @abstractmethod
    def is_same(self, other: Objective) -> bool:
        """Return whether a head for one serves the other: the same outputs mean the same."""

    @abstractmethod
    def description(self) -> str:
        """Return what the outputs are as text for error messages, such as "['cat', 'dog']"."""

    def output_names(self) -> np.ndarray:
        """Return what the outputs are called, shape (n_outputs,): their numbers, or labels."""
        return np.arange(self.n_outputs)

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Return fitted attributes of the estimator, such as `classes_`."""

    @property
    def key(self) -> tuple[str, int]:
        """What two objectives share that one compiled training function serves."""
        return (self.kind, self.n_outputs)

    # --- samples

    @abstractmethod
    def class_factors(self, class_weight: Any, targets: np.ndarray) -> np.ndarray | None:
        """Return a factor for the weight of each sample by scikit-learn's `class_weight`."""

    @abstractmethod
    def oversampled(self, targets: np.ndarray, seed: int) -> np.ndarray:
        """Return positions of samples, repeated where `oversample=True` asks for it."""

    @abstractmethod
    def validation_split(
        self, targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Any]
    ) -> Split:
        """Return the positions to train on and to hold out; equal groups stay together."""

    @abstractmethod
    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the stratum of each sample, by which folds are dealt; int, shape (n,)."""

    # --- the loss, for L-BFGS and for what is measured

    @abstractmethod
    def evaluate(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> Evaluated:
        """Return the weighted loss, measure and gradient; `shares` sum to one.

        May overwrite `scores`.
        """

    @abstractmethod
    def losses(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss and the measure of each sample, shape (n,) each."""

    @abstractmethod
    def judge(self, scores: np.ndarray, targets: np.ndarray) -> Judged:
        """Judge samples that were held out while a penalty is chosen."""

    @property
    @abstractmethod
    def first_curvature(self) -> float:
        """Mean second derivative of the loss by a score where all scores are zero."""

    # --- the loss, for Keras

    @abstractmethod
    def keras_loss(self, are_mixed: bool) -> keras.losses.Loss:
        """Return Keras' loss of scores; `are_mixed` says that targets come from `spread`."""

    @abstractmethod
    def keras_metric(self, are_mixed: bool) -> keras.metrics.Metric:
        """Return Keras' metric of scores, named by `measure`."""

    @abstractmethod
    def no_targets(self, n_samples: int) -> np.ndarray:
        """Return encoded targets of some value, of the type and shape that `encode` gives."""

    @abstractmethod
    def spread(self, targets: Any) -> Any:
        """Return targets as float tensors (n, n_outputs), which mixup and cutmix can mix."""

    # --- what scores mean

    @abstractmethod
    def link(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities or values, float64 of shape (n, n_outputs)."""

    @abstractmethod
    def mean_scores(self, several: Sequence[np.ndarray]) -> np.ndarray:
        """Return scores whose `link` is the mean of the links of several scores."""

    @abstractmethod
    def decision(self, scores: np.ndarray) -> np.ndarray:
        """Return what `decision_function` gives."""

    @abstractmethod
    def decide(self, linked: np.ndarray) -> np.ndarray:
        """Return predictions, given what `link` returned."""

    def remark_on(self, y: Any) -> str:
        """Return a warning about y that is compared with predictions; empty if there is none."""
        return ""

    # --- archives

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return all of it in the types of JSON.

        Raises
        ------
        InvalidParameterError
            If JSON cannot hold it.
        """

    @classmethod
    @abstractmethod
    def from_json(cls, facts: Mapping[str, Any]) -> Self:
        """Return the objective of `to_json`; raise InvalidParameterError for what cannot be one."""
