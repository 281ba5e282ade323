"""Networks whose hyperparameters are variables, so that changing one compiles nothing anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import layers, ops

from transferclf.engines.backend import sum_of_squares
from transferclf.heads.whitening import PixelScaler, PixelScaling

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor


class Standardize(layers.Layer):
    """Subtract a mean and divide by a scale that are set from outside."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the statistics; they change nothing until they are set."""
        width = (input_shape[-1],)
        self.mean = self.add_weight(width, initializer="zeros", trainable=False, name="mean")
        self.scale = self.add_weight(width, initializer="ones", trainable=False, name="scale")

    def call(self, features: Tensor) -> Tensor:
        """Return standardised features."""
        return (features - self.mean) / self.scale


class TunableDropout(layers.Layer):
    """Dropout at a rate that is a variable; in inference it does nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the rate, zero until it is set."""
        self.rate = self.add_weight((), initializer="zeros", trainable=False, name="rate")

    def call(self, features: Tensor, training: bool = False) -> Tensor:
        """Return the features, some of them zero and the rest larger while training."""
        if not training:
            return features
        kept = keras.random.uniform(ops.shape(features), seed=self.seed_generator) >= self.rate
        return features * ops.cast(kept, features.dtype) / (1 - self.rate)


class _Penalty(keras.regularizers.Regularizer):
    """Sums of absolute values and of squares, weighted by variables."""

    def __init__(self, l1: keras.Variable | None, l2: keras.Variable | None):
        self.l1 = l1
        self.l2 = l2

    def __call__(self, kernel: Tensor) -> Tensor | float:
        penalty: Tensor | float = 0.0
        if self.l1 is not None:
            penalty += self.l1 * ops.sum(ops.abs(kernel))
        if self.l2 is not None:
            penalty += self.l2 * sum_of_squares(kernel)
        return penalty


class TunableDense(layers.Dense):
    """A dense layer whose penalties on the kernel are variables."""

    def __init__(self, units: int, *, l1: bool, l2: bool):
        super().__init__(units)
        self.has_penalties = (l1, l2)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make kernel, bias and the weights of the penalties, zero until they are set."""
        super().build(input_shape)
        has_l1, has_l2 = self.has_penalties
        self.l1 = self._variable("l1") if has_l1 else None
        self.l2 = self._variable("l2") if has_l2 else None
        if has_l1 or has_l2:
            self.kernel.regularizer = _Penalty(self.l1, self.l2)

    def _variable(self, name: str) -> keras.Variable:
        return self.add_weight((), initializer="zeros", trainable=False, name=name)


class Network:
    """A built suffix, with its tunable parts to be read and set.

    `model` is from rows to scores. `tail` are its layers before the head. `weights` are all
    variables of the model, except for the fitted pixel scaling, which is large.
    """

    def __init__(self, model: keras.Model, tail: Sequence[keras.Layer]):
        self.model = model
        own = {id(layer) for layer in tail}
        self._tail = [layer for layer in tail if layer.weights]
        self._standardize = _of_kind(model, Standardize)[0]
        self._scalers = _of_kind(model, PixelScaler)
        self._dropouts = _of_kind(model, TunableDropout)
        self._dense = _of_kind(model, TunableDense)
        fitted = {id(variable) for layer in self._scalers for variable in layer.weights}
        self.weights = [variable for variable in model.weights if id(variable) not in fitted]
        settings = {id(layer) for layer in [self._standardize, *self._scalers, *self._dropouts]}
        others = [layer for layer in model.layers if id(layer) not in own | settings]
        self._head = [variable for layer in others for variable in _learned(layer)]

    def set_statistics(self, mean: np.ndarray, scale: np.ndarray) -> None:
        """Set the mean and scale that standardise features."""
        width = self._standardize.mean.shape
        self._standardize.mean.assign(np.broadcast_to(mean, width))
        self._standardize.scale.assign(np.broadcast_to(scale, width))

    def carry_statistics(
        self, mean: np.ndarray, scale: np.ndarray, new_mean: np.ndarray, new_scale: np.ndarray
    ) -> None:
        """Change the first dense layer so that scores stay as they are with other statistics.

        It was trained with features standardised by `mean` and `scale`, shape (d,), and is to get
        those standardised by the new ones.
        """
        first = self._dense[0]
        by_feature = ops.convert_to_numpy(first.kernel) / scale[:, None]
        bias = ops.convert_to_numpy(first.bias) + (new_mean - mean) @ by_feature
        first.kernel.assign(by_feature * new_scale[:, None])
        first.bias.assign(bias)

    def divide_scores(self, by: float) -> None:
        """Change the last dense layer so that all scores are divided by this number.

        The layers of a head of the user's own stay as they are.
        """
        for last in self._dense[-1:]:
            for variable in (last.kernel, last.bias):
                variable.assign(variable / by)

    def set_pixel_scaling(self, scaling: PixelScaling | None) -> None:
        """Set the fitted pixel scaling, if there is one."""
        if scaling is not None:
            for layer in self._scalers:
                layer.set(scaling)

    def set_hyperparameters(self, l1: float, l2: float, dropout: Sequence[float]) -> None:
        """Set the weights of the penalties of all kernels, and the rate of each dropout."""
        for layer in self._dense:
            if layer.l1 is not None:
                layer.l1.assign(l1)
            if layer.l2 is not None:
                layer.l2.assign(l2)
        if self._dropouts:
            for layer, rate in zip(self._dropouts, dropout, strict=True):
                layer.rate.assign(rate)

    def kernels(self) -> list[keras.Variable]:
        """Return the kernels of the head's dense layers."""
        return [layer.kernel for layer in self._dense]

    def head_weights(self) -> list[np.ndarray]:
        """Return copies of all learned weights of the head."""
        return [ops.convert_to_numpy(variable).copy() for variable in self._head]

    def set_head_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set all learned weights of the head."""
        for variable, value in zip(self._head, weights, strict=True):
            variable.assign(value)

    def below_head(self) -> keras.Model:
        """Return the same layers as far as the features that the head standardises, (n, d)."""
        return keras.Model(self.model.inputs[0], layers.Flatten()(self._standardize.input))

    def tail_weights(self) -> dict[str, list[np.ndarray]]:
        """Return copies of the weights of the trained layers before the head by name."""
        trained = (layer for layer in self._tail if layer.trainable_variables)
        return {layer.name: [np.array(each) for each in layer.get_weights()] for layer in trained}

    def set_tail_weights(self, weights: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Set the weights of layers before the head by name; others stay as they are."""
        layers = {layer.name: layer for layer in self._tail}
        for name, values in weights.items():
            layers[name].set_weights(values)

    def seed_generators(self) -> list[keras.random.SeedGenerator]:
        """Return the random generators of all dropouts."""
        found = (getattr(layer, "seed_generator", None) for layer in _all_layers(self.model))
        return [generator for generator in found if generator is not None]

    def depths(self) -> list[int]:
        """Return how many layers each trainable variable is below the head; 0 is in the head."""
        trained = [layer for layer in self._tail if layer.trainable_variables]
        depth = {
            id(variable): len(trained) - number
            for number, layer in enumerate(trained)
            for variable in layer.trainable_variables
        }
        return [depth.get(id(variable), 0) for variable in self.model.trainable_variables]


def _learned(layer: keras.Layer) -> list[keras.Variable]:
    """Return the weights of a layer of the head, without its hyperparameters."""
    if isinstance(layer, TunableDense):
        return [layer.kernel, layer.bias]
    return list(layer.weights)


def _all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)


def _of_kind(model: keras.Model, kind: type[keras.Layer]) -> list[keras.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]
