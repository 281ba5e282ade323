"""Networks whose hyperparameters are variables, so that changing one compiles nothing anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from transferclf.engines.backend import sum_of_squares
from transferclf.heads.whitening import PixelScaler, PixelScaling


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


class Network:
    """A built suffix, with its tunable parts to be read and set.

    Parameters
    ----------
    model : keras.Model
        From rows to scores.
    tail : list of keras.Layer
        The layers of the model that come before its head.

    Attributes
    ----------
    weights : list of keras.Variable
        All variables of the model, without what is fitted to the pixels, which is large.
    """

    def __init__(self, model: keras.Model, tail: Sequence[Any]):
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
        """Set what features are standardised by."""
        width = self._standardize.mean.shape
        self._standardize.mean.assign(np.broadcast_to(mean, width))
        self._standardize.scale.assign(np.broadcast_to(scale, width))

    def carry_statistics(
        self, mean: np.ndarray, scale: np.ndarray, new_mean: np.ndarray, new_scale: np.ndarray
    ) -> None:
        """Change the first dense layer so that scores stay as they are with other statistics.

        Parameters
        ----------
        mean, scale : ndarray of shape (d,)
            What features were standardised by while it was trained.
        new_mean, new_scale : ndarray of shape (d,)
            What they are standardised by from now on.
        """
        first = self._dense[0]
        by_feature = keras.ops.convert_to_numpy(first.kernel) / scale[:, None]
        bias = keras.ops.convert_to_numpy(first.bias) + (new_mean - mean) @ by_feature
        first.kernel.assign(by_feature * new_scale[:, None])
        first.bias.assign(bias)

    def set_pixel_scaling(self, scaling: PixelScaling) -> None:
        """Set what was fitted to the pixels."""
        for layer in self._scalers:
            layer.set(scaling)

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

    def kernels(self) -> list[Any]:
        """The kernels of the head's dense layers."""
        return [layer.kernel for layer in self._dense]

    def head_weights(self) -> list[np.ndarray]:
        """Copies of all that the head has learned."""
        return [keras.ops.convert_to_numpy(variable).copy() for variable in self._head]

    def set_head_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set all that the head has learned."""
        for variable, value in zip(self._head, weights, strict=True):
            variable.assign(value)

    def below_head(self) -> keras.Model:
        """The same layers as far as the features that the head standardises, (n, d)."""
        return keras.Model(self.model.inputs[0], layers.Flatten()(self._standardize.input))

    def tail_weights(self) -> dict[str, list[np.ndarray]]:
        """Weights of the layers before the head, by their names."""
        return {layer.name: layer.get_weights() for layer in self._tail}

    def seed_generators(self) -> list[Any]:
        """What dropout is drawn from, wherever there is any."""
        found = (getattr(layer, "seed_generator", None) for layer in _all_layers(self.model))
        return [generator for generator in found if generator is not None]

    def depths(self) -> list[int]:
        """For each trainable variable, how many layers it is below the head; 0 is in the head."""
        trained = [layer for layer in self._tail if layer.trainable_variables]
        depth = {
            id(variable): len(trained) - number
            for number, layer in enumerate(trained)
            for variable in layer.trainable_variables
        }
        return [depth.get(id(variable), 0) for variable in self.model.trainable_variables]


def _learned(layer: Any) -> list[Any]:
    """The weights of a layer of the head, without its hyperparameters."""
    if isinstance(layer, TunableDense):
        return [layer.kernel, layer.bias]
    return list(layer.weights)


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)


def _of_kind(model: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, kind)]
