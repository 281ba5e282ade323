"""One class for each sample: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives import labels as checks
from transferclf.objectives.archived import label_facts, labels_from
from transferclf.objectives.balancing import oversampled_indices, validation_split
from transferclf.objectives.base import Evaluated, Judged, Objective, Split
from transferclf.objectives.weights import class_weights

if TYPE_CHECKING:
    import keras

# While a penalty is chosen, the held-out loss is the cross-entropy of probabilities mixed with so
# much chance. This bounds the loss of one sample, such as one of a class that the other folds lack,
# so that it follows accuracy better than plain cross-entropy does. It is smoother than accuracy,
# which chance decides where samples are few, and it depends on the probabilities.
CHANCE = 0.15


class Classes(Objective):
    """One class for each sample; targets are encoded as indices into the sorted `labels`."""

    kind: ClassVar[str] = "classes"
    measure: ClassVar[str] = "accuracy"
    outputs: ClassVar[str] = "classes"
    activation: ClassVar[str] = "softmax"
    temperatures: ClassVar[tuple[float, ...]] = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)

    def __init__(self, labels: np.ndarray):
        self.labels = labels
        self.n_outputs = len(labels)

    @classmethod
    def numbered(cls, n_classes: int) -> Self:
        """Return the objective of classes whose labels are their numbers."""
        return cls(np.arange(n_classes))

    @classmethod
    def takes(cls, y: object) -> bool:
        return True

    @classmethod
    def encode(cls, y: object, n_samples: int) -> tuple[Self, np.ndarray]:
        labels, indices = checks.encode_targets(y, n_samples)
        return cls(labels), indices

    @classmethod
    def announced(cls, classes: object) -> Self:
        return cls(checks.first_classes(classes))

    def encode_known(self, y: object, n_samples: int) -> np.ndarray:
        return checks.known_targets(y, n_samples, self.labels)

    def check_encoded(self, targets: np.ndarray, n_samples: int) -> None:
        if targets.shape != (n_samples,):
            raise InvalidParameterError(
                f"labels must have shape ({n_samples},). Got {targets.shape} instead."
            )
        is_known = np.isin(targets, np.arange(self.n_outputs)).all()
        if targets.dtype.kind not in "iu" or not is_known:
            raise InvalidParameterError(
                f"labels must be integers from 0 to {self.n_outputs - 1}. "
                f"Got {np.unique(targets)} of type {targets.dtype} instead."
            )

    def is_same(self, other: Objective) -> bool:
        return isinstance(other, Classes) and np.array_equal(self.labels, other.labels)

    def description(self) -> str:
        return str(self.labels.tolist())

    def output_names(self) -> np.ndarray:
        return self.labels

    def attributes(self) -> dict[str, object]:
        return {"classes_": self.labels}

    def class_factors(
        self, class_weight: str | Mapping | None, targets: np.ndarray
    ) -> np.ndarray | None:
        factors = class_weights(class_weight, self.labels, targets)
        return None if factors is None else factors[targets]

    def oversampled(self, targets: np.ndarray, seed: int) -> np.ndarray:
        return oversampled_indices(targets, seed)

    def validation_split(
        self, targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Hashable]
    ) -> Split:
        return validation_split(targets, fraction, seed, groups)

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return targets

    def evaluate(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> Evaluated:
        rows = np.arange(len(targets))
        scores -= scores.max(axis=1, keepdims=True)
        probabilities = np.exp(scores)
        total = probabilities.sum(axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - scores[rows, targets]
        is_right = scores.argmax(axis=1) == targets
        gradient = np.divide(probabilities, total, out=probabilities)
        gradient[rows, targets] -= 1.0
        gradient *= shares[:, None]
        return Evaluated(float(shares @ losses), float(shares @ is_right), gradient)

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        losses = -log_softmax(scores, axis=1)[np.arange(len(targets)), targets]
        return losses, scores.argmax(axis=1) == targets

    def judge(self, scores: np.ndarray, targets: np.ndarray) -> Judged:
        probabilities = softmax(scores, axis=1)
        of_label = probabilities[np.arange(len(targets)), targets]
        losses = -np.log((1 - CHANCE) * of_label + CHANCE / self.n_outputs)
        curvature = float((probabilities * (1 - probabilities)).mean())
        return Judged(losses, scores.argmax(axis=1) == targets, curvature)

    @property
    def first_curvature(self) -> float:
        return (1 - 1 / self.n_outputs) / self.n_outputs

    def keras_loss(self, are_mixed: bool) -> keras.losses.Loss:
        from keras import losses

        kind = losses.CategoricalCrossentropy if are_mixed else losses.SparseCategoricalCrossentropy
        return kind(from_logits=True)

    def keras_metric(self, are_mixed: bool) -> keras.metrics.Metric:
        from keras import metrics

        kind = metrics.CategoricalAccuracy if are_mixed else metrics.SparseCategoricalAccuracy
        return kind(name=self.measure)

    def no_targets(self, n_samples: int) -> np.ndarray:
        return np.zeros(n_samples, np.int32)

    def spread(self, targets: np.ndarray | keras.KerasTensor) -> keras.KerasTensor:
        from keras import ops

        return ops.one_hot(targets, self.n_outputs)

    def link(self, scores: np.ndarray) -> np.ndarray:
        return softmax(scores.astype(float), axis=1)

    def mean_scores(self, several: Sequence[np.ndarray]) -> np.ndarray:
        logs = [log_softmax(scores.astype(float), axis=1) for scores in several]
        return logsumexp(logs, axis=0) - np.log(len(logs))

    def decision(self, scores: np.ndarray) -> np.ndarray:
        return scores[:, 1] - scores[:, 0] if self.n_outputs == 2 else scores

    def decide(self, linked: np.ndarray) -> np.ndarray:
        return self.labels[linked.argmax(axis=1)]

    def remark_on(self, y: object) -> str:
        return checks.look_alike_remark(y, self.labels)

    def to_json(self) -> dict[str, object]:
        return label_facts(self.labels)

    @classmethod
    def from_json(cls, facts: Mapping[str, object]) -> Self:
        return cls(labels_from(facts))
