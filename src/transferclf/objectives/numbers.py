"""One or several numbers for each sample: squared error, or Huber's loss."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.balancing import held_out_groups
from transferclf.objectives.base import Evaluated, Judged, Objective, Split
from transferclf.objectives.quantities import (
    checked_numbers,
    mean_and_scale,
    warn_of_constants,
)

if TYPE_CHECKING:
    import keras

LOSSES = ("squared_error", "huber")

# Where Huber's loss turns from squared to absolute errors, in deviations of the target: the default
# of Keras. Source: Huber, "Robust estimation of a location parameter", Annals of Mathematical
# Statistics 35 (1964).
DELTA = 1.0

# Quintiles of a normal distribution. They are fixed, so that the stratum of a sample does not
# depend on how often other samples come.
STRATA = (-0.84, -0.25, 0.25, 0.84)

MAX_OUTPUTS = 2**16
MAX_NAME = 1000


@dataclass(frozen=True, eq=False)
class Numbers(Objective):
    """Numbers whose encoded targets are standardised, float64 of shape (n, n_outputs).

    Parameters
    ----------
    mean, scale : ndarray of shape (n_outputs,)
        Weighted mean and standard deviation of the training targets; a scale of 0 says that an
        output is constant.
    loss : {"squared_error", "huber"}
        Loss of standardised targets, summed over the outputs, so that several outputs are learned
        as each of them would be alone. Huber's is Keras' with delta=1.
    names : tuple of str or None
        Names of the outputs, where y had any.
    is_flat : bool
        Whether y was one-dimensional, so that predictions are, too.
    """

    mean: np.ndarray
    scale: np.ndarray
    loss: str = "squared_error"
    names: tuple[str, ...] | None = None
    is_flat: bool = True

    kind: ClassVar[str] = "numbers"
    measure: ClassVar[str] = "mae"
    outputs: ClassVar[str] = "numbers"
    activation: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_outputs", len(self.mean))

    @classmethod
    def takes(cls, y: object) -> bool:
        """Return False: a regressor names this kind itself, since classes may be numbers too."""
        return False

    @classmethod
    def encode(
        cls,
        y: object,
        n_samples: int,
        *,
        loss: str = "squared_error",
        sample_weight: np.ndarray | None = None,
        known: Numbers | None = None,
    ) -> tuple[Self, np.ndarray]:
        """Check y, and return the objective and the encoded targets.

        Targets are standardised by `known`, if it is given and has as many outputs.
        """
        table, names, is_flat = checked_numbers(y, n_samples)
        if known is not None and known.n_outputs == table.shape[1]:
            mean, scale = known.mean, known.scale
        else:
            weights = np.ones(n_samples) if sample_weight is None else sample_weight
            mean, scale = mean_and_scale(table, weights)
            warn_of_constants(scale, names)
        objective = cls(mean, scale, loss, names, is_flat)
        return objective, objective._standardised(table)

    @classmethod
    def announced(cls, classes: object) -> Self:
        raise InvalidParameterError("Numbers have no classes that could be announced.")

    def encode_known(self, y: object, n_samples: int) -> np.ndarray:
        table, names, _ = checked_numbers(y, n_samples)
        if table.shape[1] != self.n_outputs:
            raise ValueError(
                f"y must have {self.n_outputs} numbers for each image, as in fit. "
                f"Got {table.shape[1]} instead."
            )
        if names is not None and self.names is not None and names != self.names:
            raise ValueError(
                f"y must have the columns of fit, {list(self.names)}. Got {list(names)} instead."
            )
        return self._standardised(table)

    def check_encoded(self, targets: np.ndarray, n_samples: int) -> None:
        expected = (n_samples, self.n_outputs)
        if targets.shape != expected or not np.isfinite(targets).all():
            raise InvalidParameterError(
                f"targets must be finite numbers of shape {expected}. Got {targets.shape} instead."
            )

    def is_same(self, other: Objective) -> bool:
        if not isinstance(other, Numbers) or self.key != other.key:
            return False
        return self.names == other.names or self.names is None or other.names is None

    def description(self) -> str:
        named = "" if self.names is None else f" ({', '.join(self.names)})"
        return f"{self.n_outputs} for each image{named} with loss={self.loss!r}"

    def output_names(self) -> np.ndarray:
        return np.arange(self.n_outputs) if self.names is None else np.array(self.names)

    def attributes(self) -> dict[str, object]:
        return {"n_outputs_": self.n_outputs, "output_names_": self.output_names()}

    @property
    def key(self) -> tuple[str, int]:
        return (f"{self.kind} by {self.loss}", self.n_outputs)

    def class_factors(
        self, class_weight: str | Mapping | None, targets: np.ndarray
    ) -> np.ndarray | None:
        if class_weight is None:
            return None
        raise InvalidParameterError("class_weight is about classes. Got numbers as targets.")

    def oversampled(self, targets: np.ndarray, seed: int) -> np.ndarray:
        raise InvalidParameterError("oversample is about classes. Got numbers as targets.")

    def validation_split(
        self, targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Hashable]
    ) -> Split:
        return held_out_groups(len(targets), fraction, seed, groups)

    def strata(self, targets: np.ndarray) -> np.ndarray:
        return np.searchsorted(STRATA, targets.mean(axis=1))

    def evaluate(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> Evaluated:
        losses, errors = self.losses(scores, targets)
        gradient = self._slopes(scores - targets) * shares[:, None]
        return Evaluated(float(shares @ losses), float(shares @ errors), gradient)

    def guess(self, scores: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> float:
        """Return 0, so that any gain is much: no other limit was measured for numbers."""
        return 0.0

    def losses(self, scores: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        errors = np.abs(scores - targets)
        if self.loss == "huber":
            near = np.minimum(errors, DELTA)
            losses = near * (errors - near / 2)
        else:
            losses = errors**2
        # Of a constant output this constant is predicted, whatever the scores are.
        in_y = np.abs(scores * self.scale - targets * self._unit)
        return losses.sum(axis=1), in_y.mean(axis=1)

    def _slopes(self, errors: np.ndarray) -> np.ndarray:
        """Return the derivatives of the loss by the errors."""
        return np.clip(errors, -DELTA, DELTA) if self.loss == "huber" else 2 * errors

    def judge(self, scores: np.ndarray, targets: np.ndarray) -> Judged:
        losses, errors = self.losses(scores, targets)
        if self.loss == "huber":
            return Judged(losses, errors, float(np.mean(np.abs(scores - targets) <= DELTA)))
        return Judged(losses, errors, self.first_curvature)

    @property
    def first_curvature(self) -> float:
        return 1.0 if self.loss == "huber" else 2.0

    def keras_loss(self, are_mixed: bool) -> keras.losses.Loss:
        from keras import losses

        is_huber, n_outputs = self.loss == "huber", self.n_outputs
        mean = losses.Huber(DELTA, None) if is_huber else losses.MeanSquaredError(None)

        class Sum(losses.Loss):
            def call(
                self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor
            ) -> keras.KerasTensor:
                return n_outputs * mean.call(y_true, y_pred)

        return Sum()

    def keras_metric(self, are_mixed: bool) -> keras.metrics.Metric:
        from keras import metrics, ops

        n_outputs = self.n_outputs

        class MeanError(metrics.Mean):
            def __init__(self, name: str):
                super().__init__(name=name)
                self.unit = self.add_variable((n_outputs,), initializer="ones", name="unit")

            def update_state(
                self,
                y_true: keras.KerasTensor,
                y_pred: keras.KerasTensor,
                sample_weight: keras.KerasTensor | None = None,
            ) -> None:
                # PyTorch warns where a tensor meets an array in an operator.
                errors = ops.abs(ops.subtract(ops.cast(y_true, y_pred.dtype), y_pred)) * self.unit
                super().update_state(ops.mean(errors, axis=-1), sample_weight)

        return MeanError(self.measure)

    def prepare_metric(self, metric: Any) -> None:
        metric.unit.assign(self.scale)

    def no_targets(self, n_samples: int) -> np.ndarray:
        return np.zeros((n_samples, self.n_outputs), np.float32)

    def spread(self, targets: np.ndarray | keras.KerasTensor) -> keras.KerasTensor:
        return targets

    def link(self, scores: np.ndarray) -> np.ndarray:
        return scores.astype(float) * self.scale + self.mean

    def restored(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return kernel * self.scale, bias * self.scale + self.mean

    def mean_scores(self, several: Sequence[np.ndarray]) -> np.ndarray:
        return np.mean([scores.astype(float) for scores in several], axis=0)

    def decision(self, scores: np.ndarray) -> np.ndarray:
        return self.link(scores)

    def decide(self, linked: np.ndarray) -> np.ndarray:
        return linked[:, 0] if self.is_flat else linked

    def to_json(self) -> dict[str, object]:
        return {
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "loss": self.loss,
            "names": None if self.names is None else list(self.names),
            "is_flat": self.is_flat,
        }

    @classmethod
    def from_json(cls, facts: Mapping[str, object]) -> Self:
        expected = {"mean", "scale", "loss", "names", "is_flat"}
        if set(facts) != expected:
            raise InvalidParameterError(
                f"must have {sorted(expected)}. Got {sorted(facts)!r:.80} instead."
            )
        mean, scale, loss = _floats(facts, "mean"), _floats(facts, "scale"), facts["loss"]
        if len(mean) != len(scale) or (scale < 0).any():
            raise InvalidParameterError("scale must have one number of at least 0 for each mean.")
        if not isinstance(loss, str) or loss not in LOSSES:
            raise InvalidParameterError(f"loss must be one of {LOSSES}. Got {loss!r:.80} instead.")
        names, is_flat = _names(facts["names"], len(mean)), facts["is_flat"]
        if not isinstance(is_flat, bool) or (is_flat and len(mean) > 1):
            raise InvalidParameterError(f"is_flat must fit the means. Got {is_flat!r:.80} instead.")
        return cls(mean, scale, loss, names, is_flat)

    @property
    def _unit(self) -> np.ndarray:
        """Divisor that standardises targets: the scale, and 1 where that is 0."""
        return np.where(self.scale > 0, self.scale, 1.0)

    def _standardised(self, table: np.ndarray) -> np.ndarray:
        return (table - self.mean) / self._unit


def _floats(facts: Mapping[str, object], name: str) -> np.ndarray:
    values = facts[name]
    are_numbers = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
    if not are_numbers or not 0 < len(values) <= MAX_OUTPUTS:  # type: ignore[arg-type]
        raise InvalidParameterError(f"{name} must be numbers. Got {values!r:.80} instead.")
    try:
        floats = np.array(values, float)
    except OverflowError:
        floats = np.array([np.inf])
    if not np.isfinite(floats).all():
        raise InvalidParameterError(f"{name} must be finite numbers.")
    return floats


def _names(names: object, n_outputs: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    texts = tuple(names) if isinstance(names, list) else ()
    are_texts = all(isinstance(name, str) and len(name) <= MAX_NAME for name in texts)
    if not are_texts or len(texts) != n_outputs:
        raise InvalidParameterError(f"names must be null or texts. Got {names!r:.80} instead.")
    return texts
