"""The interface of a kind of target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:
    import keras

Split = tuple[np.ndarray, np.ndarray]


class Evaluated(NamedTuple):
    """Weighted mean loss and measure, and the derivative of the loss by the scores."""

    loss: float
    measure: float
    gradient: np.ndarray  # shape (n, n_outputs)


class Judged(NamedTuple):
    """Losses and measures of held-out samples, shape (n,), as cross-validation judges them."""

    losses: np.ndarray  # bounded, so that a single sample cannot outweigh all others
    measures: np.ndarray
    curvature: float  # mean second derivative of the loss by a score; scales the next fit's steps


class Objective(ABC):
    """A kind of target, with all that `encode` found out about it.

    A network gives scores of shape (n, n_outputs). The objective defines the encoded targets, the
    loss of scores, and their meaning. A kind is a subclass in a file of its own that is passed to
    `register_objective`. Objects are immutable and can be pickled.

    Attributes
    ----------
    kind : str
        Name of the kind, also in archives.
    measure : str
        Name in the history of the measure beside the loss.
    outputs : str
        Name for the outputs in error messages, such as "classes".
    activation : str
        Activation of the last layer of `model_`: Keras' name of the function `link`.
    temperatures : tuple of float
        Numbers by which scores may be divided before heads are compared by their losses, so that
        scores that are only too large do not count; (1.0,) where scores have units.
    n_outputs : int
        Number of scores for each sample.
    """

    kind: ClassVar[str]
    measure: ClassVar[str]
    outputs: ClassVar[str]
    activation: ClassVar[str]
    temperatures: ClassVar[tuple[float, ...]] = (1.0,)
    n_outputs: int

    # --- checks and encoding of y

    @classmethod
    @abstractmethod
    def takes(cls, y: object) -> bool:
        """Return whether y is of this kind; errors are left to `encode`."""

    @classmethod
    @abstractmethod
    def encode(cls, y: object, n_samples: int) -> tuple[Self, np.ndarray]:
        """Check y, and return the objective and the encoded targets, shape (n_samples, ...).

        ValueError is raised if y is not one target for each sample, or cannot be learned from.
        """

    @classmethod
    @abstractmethod
    def announced(cls, classes: object) -> Self:
        """Return the objective of the `classes` that are passed to the first `partial_fit`."""

    @abstractmethod
    def encode_known(self, y: object, n_samples: int) -> np.ndarray:
        """Encode other targets of this objective; raise ValueError for those it does not know."""

    @abstractmethod
    def check_encoded(self, targets: np.ndarray, n_samples: int) -> None:
        """Raise InvalidParameterError unless these are encoded targets of so many samples."""

    @abstractmethod
    def is_same(self, other: Objective) -> bool:
        """Return whether the outputs of both mean the same, so that one head serves both."""

    @abstractmethod
    def description(self) -> str:
        """Return the outputs as text for error messages, such as "['cat', 'dog']"."""

    def output_names(self) -> np.ndarray:
        """Return the names of the outputs, shape (n_outputs,): their numbers, or labels."""
        return np.arange(self.n_outputs)

    @abstractmethod
    def attributes(self) -> dict[str, object]:
        """Return fitted attributes of the estimator, such as `classes_`."""

    @property
    def key(self) -> tuple[str, int]:
        """Equal for objectives that can share one compiled training function."""
        return (self.kind, self.n_outputs)

    @property
    def loss_key(self) -> Hashable:
        """Equal for objectives of equal `key` whose losses are the same function."""
        return None

    @property
    def penalty_scale(self) -> float:
        """Factor of the penalties that cross-validation tries; 1 suits a loss of one target."""
        return 1.0

    # --- samples

    @abstractmethod
    def class_factors(
        self, class_weight: str | Mapping | None, targets: np.ndarray
    ) -> np.ndarray | None:
        """Return a factor for the weight of each sample by scikit-learn's `class_weight`."""

    def with_class_weight(self, class_weight: str | Mapping | None, targets: np.ndarray) -> Self:
        """Return the objective whose loss has weights within a sample by `class_weight`.

        Most kinds weigh whole samples alone, by `class_factors`, and return themselves.
        """
        return self

    @abstractmethod
    def oversampled(self, targets: np.ndarray, seed: int) -> np.ndarray:
        """Return positions of samples, repeated where `oversample=True` asks for it."""

    @abstractmethod
    def validation_split(
        self, targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Hashable]
    ) -> Split:
        """Return the positions to train on and to hold out; equal groups stay together."""

    @abstractmethod
    def strata(self, targets: np.ndarray) -> np.ndarray:
        """Return the stratum of each sample, int (n,); each fold gets its share of each stratum."""

    # --- the loss, for L-BFGS and for measures

    @abstractmethod
    def evaluate(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> Evaluated:
        """Return the weighted loss, measure and gradient; `shares` sum to one.

        May overwrite `scores`.
        """

    @abstractmethod
    def losses(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the loss and the measure of each sample, shape (n,) each."""

    def calibrated_losses(
        self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray
    ) -> np.ndarray:
        """Return the loss of each sample at the best temperature; `shares` sum to one.

        Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
        """
        return self.losses(scores / self.temperature(scores, targets, shares), targets)[0]

    def guess(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
        """Return the mean loss if each sample had the mean scores of all, at the best temperature.

        Samples whose share is 0 do not count.
        """
        counted = shares > 0
        scores, targets, shares = scores[counted], targets[counted], shares[counted]
        same = np.broadcast_to(shares @ scores, scores.shape)
        return float(shares @ self.calibrated_losses(same, targets, shares))

    def temperature(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
        """Return that of `temperatures` by which scores are divided for the lowest mean loss."""
        means = [shares @ self.losses(scores / t, targets)[0] for t in self.temperatures]
        return self.temperatures[int(np.argmin(means))]

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

    def prepare_metric(self, metric: keras.metrics.Metric) -> None:
        """Set what differs between objectives of one `key` in a metric that they share."""
        return

    @abstractmethod
    def no_targets(self, n_samples: int) -> np.ndarray:
        """Return encoded targets of some value, of the type and shape that `encode` gives."""

    @abstractmethod
    def spread(self, targets: np.ndarray | keras.KerasTensor) -> keras.KerasTensor:
        """Return targets as float tensors (n, n_outputs), which mixup and cutmix can mix."""

    # --- the meaning of scores

    @abstractmethod
    def link(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities or values, float64 of shape (n, n_outputs)."""

    def restored(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return a last layer for `model_`, given the one whose outputs are scores."""
        return kernel, bias

    @abstractmethod
    def mean_scores(self, several: Sequence[np.ndarray]) -> np.ndarray:
        """Return scores whose `link` is the mean of the links of several scores."""

    @abstractmethod
    def decision(self, scores: np.ndarray) -> np.ndarray:
        """Return the result of `decision_function`."""

    @abstractmethod
    def decide(self, linked: np.ndarray) -> np.ndarray:
        """Return predictions from the result of `link`."""

    def comparable(self, y: object) -> object:
        """Return y as `score` compares it with predictions."""
        return y

    def remark_on(self, y: object) -> str:
        """Return a warning about y that `score` compares with predictions; empty if none."""
        return ""

    # --- archives

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """Return all of it in the types of JSON; raise InvalidParameterError if that cannot be."""

    @classmethod
    @abstractmethod
    def from_json(cls, facts: Mapping[str, object]) -> Self:
        """Return the objective of `to_json`; raise InvalidParameterError if `facts` are wrong."""
