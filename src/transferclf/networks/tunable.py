"""Layers whose hyperparameters are variables, so that changing one compiles nothing anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from transferclf.networks.inference import sum_of_squares


class Standardize(layers.Layer):
    """Subtract a mean and divide by a scale that are set from outside."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the statistics; they change nothing until they are set."""
        width = (input_shape[-1],)
        self.mean = self.add_weight(width, initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(width, initializer="ones", trainable=False, name="scale")

    def call(self, features: Any) -> Any:
        """Return standardised features."""
        return (features - self.mean) / self.scale


class TunableDropout(layers.Layer):
    """Dropout at a rate that is a variable; in inference it does nothing."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.seed_generator = keras.random.SeedGenerator(0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the rate, zero until it is set."""
        self.rate = self.add_weight((), initializer="zeros", trainable=False, name="rate")

    def call(self, features: Any, training: bool = False) -> Any:
        """Return the features, some of them zero and the rest larger while training."""
        if not training:
            return features
        kept = keras.random.uniform(ops.shape(features), seed=self.seed_generator) >= self.rate
        return features * ops.cast(kept, features.dtype) / (1 - self.rate)


class _Penalty(keras.regularizers.Regularizer):
    """Sums of absolute values and of squares, weighted by variables."""

    def __init__(self, l1: Any, l2: Any):
        self.l1 = l1
        self.l2 = l2

    def __call__(self, kernel: Any) -> Any:
        penalty: Any = 0.0
        if self.l1 is not None:
            penalty += self.l1 * ops.sum(ops.abs(kernel))
        if self.l2 is not None:
            penalty += self.l2 * sum_of_squares(kernel)
        return penalty


class TunableDense(layers.Dense):
    """A dense layer whose penalties on the kernel are variables."""

    def __init__(self, units: int, *, l1: bool, l2: bool, **arguments: Any):
        super().__init__(units, **arguments)
        self.has_penalties = (l1, l2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make kernel, bias and the weights of the penalties, zero until they are set."""
        super().build(input_shape)
        has_l1, has_l2 = self.has_penalties
        self.l1 = self._variable("l1") if has_l1 else None
        self.l2 = self._variable("l2") if has_l2 else None
        if has_l1 or has_l2:
            self.kernel.regularizer = _Penalty(self.l1, self.l2)

    def _variable(self, name: str) -> Any:
        return self.add_weight((), initializer="zeros", trainable=False, name=name)


def tunable_head(
    features: keras.KerasTensor,
    n_classes: int,
    *,
    hidden_units: Sequence[int],
    activation: str,
    dropout: bool,
    l1: bool,
    l2: bool,
) -> keras.KerasTensor:
    """Class scores from features: standardised, dense layers with dropout, one more dense layer.

    Dropout follows each hidden layer, or the features where there is none.

    Parameters
    ----------
    features : keras.KerasTensor of shape (n, d)
        What a backbone gives.
    n_classes : int
        Number of classes.
    hidden_units : sequence of int
        Widths of the hidden layers.
    activation : str
        Their activation.
    dropout, l1, l2 : bool
        Whether there is any.

    Returns
    -------
    keras.KerasTensor of shape (n, n_classes)
        Scores before the softmax.
    """
    x = Standardize(name="transferclf_standardize")(features)
    if dropout and not hidden_units:
        x = TunableDropout()(x)
    for units in hidden_units:
        x = TunableDense(units, activation=activation, l1=l1, l2=l2)(x)
        x = TunableDropout()(x) if dropout else x
    return TunableDense(n_classes, l1=l1, l2=l2)(x)


class Head:
    """The tunable parts of a built suffix, to be read and set.

    Parameters
    ----------
    model : keras.Model
        A network that ends in :func:`tunable_head`.
    """

    def __init__(self, model: keras.Model):
        self._standardize = _of_kind(model, Standardize)[0]
        self._dropouts = _of_kind(model, TunableDropout)
        self._dense = _of_kind(model, TunableDense)

    @property
    def layers(self) -> list[Any]:
        """All layers of the head that have weights."""
        return [self._standardize, *self._dropouts, *self._dense]

    def set_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Set what features are standardised by."""
        self._standardize.mean.assign(mean)
        self._standardize.scale.assign(scale)

    def set_penalties(self, l1: float, l2: float) -> None:
        """Set the weights of the penalties of all kernels."""
        for layer in self._dense:
            if layer.l1 is not None:
                layer.l1.assign(l1)
            if layer.l2 is not None:
                layer.l2.assign(l2)

    def set_dropout(self, rates: Sequence[float]) -> None:
        """Set the rates, one for each dropout."""
        for layer, rate in zip(self._dropouts, rates, strict=True):
            layer.rate.assign(rate)

    def kernel_shapes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each dense layer."""
        return [tuple(layer.kernel.shape) for layer in self._dense]

    def set_dense(self, weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Set kernel and bias of each dense layer."""
        for layer, (kernel, bias) in zip(self._dense, weights, strict=True):
            layer.kernel.assign(kernel)
            layer.bias.assign(bias)

    def dense(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Kernel and bias of each dense layer."""
        to_numpy = keras.ops.convert_to_numpy
        return [(to_numpy(layer.kernel), to_numpy(layer.bias)) for layer in self._dense]


def _of_kind(model: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]
