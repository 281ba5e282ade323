"""Several labels for each sample: a sigmoid for each label, and binary cross-entropy.

The loss of a sample is the mean over its labels, as that of Keras' `BinaryCrossentropy` is, so that
L-BFGS and Keras minimise the same function. With a penalty of l2 * ||W||^2, it has the same optimum
as an own logistic regression for each of k labels whose penalty is k * l2 times the square of its
weights: scikit-learn's C = 1 / (2 * k * l2 * n).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from scipy.special import expit, log_expit, logsumexp

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives import label_sets
from transferclf.objectives.archived import label_facts, labels_from
from transferclf.objectives.base import Evaluated, Judged, Objective, Split
from transferclf.objectives.stratifying import rarest_label, split_of_label_sets
from transferclf.objectives.weights import label_weights

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor as Tensor

# While a penalty is chosen, probabilities are mixed with so much chance, as for classes. This
# bounds the loss of one sample.
CHANCE = 0.15


class MultiLabel(Objective):
    """Several labels for each sample; targets are encoded as 0 and 1, float32 of shape (n, k).

    `factors`, shape (2, k), are the weights of samples without and with each label in the loss;
    None is 1 for all.
    """

    kind: ClassVar[str] = "multilabel"
    measure: ClassVar[str] = "binary_accuracy"
    outputs: ClassVar[str] = "labels"
    activation: ClassVar[str] = "sigmoid"
    temperatures: ClassVar[tuple[float, ...]] = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)

    def __init__(self, labels: np.ndarray, factors: np.ndarray | None = None):
        self.labels = labels
        self.factors = factors
        self.n_outputs = len(labels)

    @classmethod
    def takes(cls, y: object) -> bool:
        return label_sets.has_several(y)

    @classmethod
    def encode(cls, y: object, n_samples: int) -> tuple[Self, np.ndarray]:
        labels, targets = label_sets.encode_label_sets(y, n_samples)
        return cls(labels), targets

    @classmethod
    def announced(cls, classes: object) -> Self:
        return cls(label_sets.announced_labels(classes))

    def encode_known(self, y: object, n_samples: int) -> np.ndarray:
        return label_sets.known_label_sets(y, n_samples, self.labels)

    def check_encoded(self, targets: np.ndarray, n_samples: int) -> None:
        if targets.shape != (n_samples, self.n_outputs) or not np.isin(targets, (0, 1)).all():
            raise InvalidParameterError(
                f"labels must be 0 and 1 of shape ({n_samples}, {self.n_outputs}). "
                f"Got shape {targets.shape} of type {targets.dtype} instead."
            )

    def is_same(self, other: Objective) -> bool:
        return isinstance(other, MultiLabel) and np.array_equal(self.labels, other.labels)

    def description(self) -> str:
        return str(self.labels.tolist())

    def output_names(self) -> np.ndarray:
        return self.labels

    def attributes(self) -> dict[str, object]:
        return {"classes_": self.labels}

    @property
    def loss_key(self) -> Hashable:
        return None if self.factors is None else self.factors.tobytes()

    @property
    def penalty_scale(self) -> float:
        # A mean over labels leaves less of the loss to each of them.
        return 1 / self.n_outputs

    def class_factors(self, class_weight: str | Mapping | None, targets: np.ndarray) -> None:
        return None

    def with_class_weight(self, class_weight: str | Mapping | None, targets: np.ndarray) -> Self:
        return type(self)(self.labels, label_weights(class_weight, self.labels, targets))

    def oversampled(self, targets: np.ndarray, seed: int) -> np.ndarray:
        raise InvalidParameterError(
            "oversample=True repeats the images of smaller classes, and images of several labels "
            "are of no single class. Take class_weight='balanced'."
        )

    def validation_split(
        self, targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Hashable]
    ) -> Split:
        return split_of_label_sets(targets, fraction, seed, groups)

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return rarest_label(targets)

    def evaluate(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> Evaluated:
        measure = float(shares @ self._measures(scores, targets))
        probabilities, losses = _sigmoid_and_losses(scores, targets)
        gradient = np.subtract(probabilities, targets, out=probabilities)
        if self.factors is not None:
            factors = self._factors_of(targets)
            losses *= factors
            gradient *= factors
        gradient *= (shares / self.n_outputs)[:, None]
        return Evaluated(float(shares @ losses.mean(axis=1)), measure, gradient)

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        measures = self._measures(scores, targets)
        losses = _sigmoid_and_losses(scores, targets)[1]
        if self.factors is not None:
            losses *= self._factors_of(targets)
        return losses.mean(axis=1), measures

    def judge(self, scores: np.ndarray, targets: np.ndarray) -> Judged:
        probabilities = expit(scores.astype(float))
        of_target = np.where(targets == 1, probabilities, 1 - probabilities)
        losses = -np.log((1 - CHANCE) * of_target + CHANCE / 2)
        curvatures = probabilities * (1 - probabilities)
        if self.factors is not None:
            factors = self._factors_of(targets)
            losses *= factors
            curvatures *= factors
        curvature = float(curvatures.mean()) / self.n_outputs
        return Judged(losses.mean(axis=1), self._measures(scores, targets), curvature)

    @property
    def first_curvature(self) -> float:
        return 0.25 / self.n_outputs

    def _factors_of(self, targets: np.ndarray) -> np.ndarray:
        without, with_ = self.factors if self.factors is not None else np.ones((2, 1))
        return np.where(targets == 1, with_, without)

    @staticmethod
    def _measures(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return ((scores > 0) == (targets > 0.5)).mean(axis=1)

    def keras_loss(self, are_mixed: bool) -> keras.losses.Loss:
        from keras import losses, ops

        if self.factors is None:
            return losses.BinaryCrossentropy(from_logits=True)
        without, with_ = self.factors.astype(np.float32)

        class WeightedCrossentropy(losses.Loss):
            def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
                positive = with_ * y_true * ops.softplus(-y_pred)
                negative = without * (1 - y_true) * ops.softplus(y_pred)
                return ops.mean(positive + negative, axis=-1)

        return WeightedCrossentropy()

    def keras_metric(self, are_mixed: bool) -> keras.metrics.Metric:
        from keras import metrics, ops

        def binary_accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
            are_equal = ops.equal(y_true > 0.5, y_pred > 0)
            return ops.mean(ops.cast(are_equal, "float32"), axis=-1)

        return metrics.MeanMetricWrapper(binary_accuracy, name=self.measure)

    def no_targets(self, n_samples: int) -> np.ndarray:
        return np.zeros((n_samples, self.n_outputs), np.float32)

    def spread(self, targets: np.ndarray | keras.KerasTensor) -> keras.KerasTensor:
        from keras import ops

        return ops.convert_to_tensor(targets, "float32")

    def link(self, scores: np.ndarray) -> np.ndarray:
        return expit(scores.astype(float))

    def mean_scores(self, several: Sequence[np.ndarray]) -> np.ndarray:
        # The logit of a mean probability near 0 or 1, without its difference from 1.
        scores = np.stack([scores.astype(float) for scores in several])
        return logsumexp(log_expit(scores), axis=0) - logsumexp(log_expit(-scores), axis=0)

    def decision(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def decide(self, linked: np.ndarray) -> np.ndarray:
        return (linked > 0.5).astype(int)

    def comparable(self, y: object) -> np.ndarray:
        length = y.shape[0] if hasattr(y, "shape") else len(y) if hasattr(y, "__len__") else 0
        return self.encode_known(y, length).astype(int)

    def to_json(self) -> dict[str, object]:
        return label_facts(self.labels, self.outputs)

    @classmethod
    def from_json(cls, facts: Mapping[str, object]) -> Self:
        return cls(labels_from(facts, are_sorted=False))


def _sigmoid_and_losses(scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities, and the cross-entropy of each label, shape (n, k) each."""
    small = np.exp(-np.abs(scores))
    # log(1 + exp(score)) - target * score, without overflow.
    losses = np.log1p(small) + np.maximum(scores, 0) - targets * scores
    probabilities = np.where(scores >= 0, 1, small)
    probabilities /= 1 + small
    return probabilities, losses
