"""Convolutional networks and perceptrons that are trained from random weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from transferclf._checks import check_activation, check_rates, check_widths, is_number
from transferclf._parameters import ParameterSet
from transferclf.backbones.record import Backbone
from transferclf.exceptions import NetworkError

if TYPE_CHECKING:
    import keras

# These give zero, or nearly so, for inputs below zero, which halves the variance.
RELU_LIKE = ("celu", "elu", "gelu", "leaky_relu", "mish", "relu", "relu6", "silu", "swish")

# The statistics start from zeros and ones. With Keras' 0.99 they would need hundreds of steps to
# forget these; small data sets are trained for fewer.
BATCH_NORM_MOMENTUM = 0.9

# The default side of images in pixels.
IMAGE_SIZE = 64

# Two gigabytes of float32. Adam keeps two more numbers for each.
MAX_PARAMETERS = 2**29


@dataclass
class ConvNet(ParameterSet):
    """A plain network as in textbooks, to be trained from random weights.

    Blocks of convolutions, each with a 2 x 2 maximum at its end, then dense layers. The outputs are
    features. The classifier adds the layer of class scores, and resizes images to 64 x 64 pixels
    unless `image_size` says otherwise.

    Parameters
    ----------
    filters : sequence of int, default=(32, 64, 128, 128)
        Number of filters in the convolutions of each block. ``()`` is a multilayer perceptron on
        the pixels themselves.
    convs_per_block : int, default=1
        Number of convolutions in each block.
    kernel_size : int, default=3
        Height and width of their kernels. The maps keep their size, by padding with zeros.
    batch_norm : {None, "before", "after"}, default=None
        Whether batches are normalised before or after the activation of every layer.
    dropout : float or sequence of float, default=0.0
        Share of values that are dropped in training. A single rate applies after each dense layer,
        or after the pooling if there is none. A sequence has one for each block and then one for
        each dense layer.
    dense_units : int or sequence of int, default=(512,)
        Widths of the dense layers on the flattened maps. With ``()`` the mean of each map is the
        output (global average pooling).
    activation : str, default="relu"
        Activation of all layers, one of Keras' names. Weights start as He et al. (2015) advise
        for activations like relu, and as Glorot and Bengio (2010) do for others.

    See Also
    --------
    transferclf.TransferClassifier : Trains it.

    Examples
    --------
    >>> from transferclf.backbones.convnet import ConvNet
    >>> network = ConvNet(filters=(32, 64), convs_per_block=2, dropout=(0.25, 0.25, 0.5))
    >>> network.build((32, 32, 3)).output_shape
    (None, 512)
    >>> perceptron = ConvNet(filters=(), dense_units=(256, 128), dropout=0.4)
    >>> perceptron.build((28, 28, 3)).count_params()
    635264
    """

    filters: Sequence[int] = (32, 64, 128, 128)
    convs_per_block: int = 1
    kernel_size: int = 3
    batch_norm: Literal["before", "after"] | None = None
    dropout: float | Sequence[float] = 0.0
    dense_units: int | Sequence[int] = (512,)
    activation: str = "relu"

    @property
    def min_image_size(self) -> int:
        """Smallest height and width that leave a pixel after the last block."""
        return 2 ** len(self.filters)

    @property
    def n_kernels(self) -> int:
        """Number of convolutions and dense layers."""
        return len(self.filters) * int(self.convs_per_block) + len(self._units)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int([*self.filters, *self._units][-1])

    @property
    def _units(self) -> Sequence[int]:
        is_one = is_number(self.dense_units, whole=True)
        return cast("Sequence[int]", (self.dense_units,) if is_one else self.dense_units)

    def check(self) -> None:
        """Raise InvalidParameterError unless these parameters describe a network."""
        check_widths(self._full("filters"), self.filters)
        check_widths(self._full("dense_units"), self._units)
        n_blocks, n_dense = len(self.filters), len(self._units)
        if n_blocks + n_dense == 0:
            self._refuse("dense_units", "at least one width where filters=() has no block")
        self._check_number("convs_per_block", 1, whole=True)
        self._check_number("kernel_size", 1, whole=True)
        is_text = isinstance(self.batch_norm, str)
        if self.batch_norm is not None and not (is_text and self.batch_norm in ("before", "after")):
            self._refuse("batch_norm", "None, 'before' or 'after' (the activation)")
        layers = f"one for each of {n_blocks} blocks, then one for each of {n_dense} dense layers"
        check_rates(self._full("dropout"), self.dropout, n_blocks + n_dense, layers)
        check_activation(self._full("activation"), self.activation)

    def record(self) -> Backbone:
        """Return the record of this network, as it is now; raises where `check` does."""
        self.check()
        return Backbone(
            f"convnet_{self.digest[:16]}",
            copy.deepcopy(self).build,
            image_size=max(IMAGE_SIZE, self.min_image_size),
            min_image_size=self.min_image_size,
            preprocessing="rescale",
            ends_in="vector",
        )

    def build(self, input_shape: tuple[int, int, int]) -> keras.Model:
        """Return a new Keras model from scaled pixels to features (n, d).

        Its weights are drawn from Keras' own seeds.

        Parameters
        ----------
        input_shape : tuple of int
            Height, width and channels of the images.

        Returns
        -------
        keras.Model
            A flat functional model.

        Raises
        ------
        NetworkError
            If the images are too small for the blocks, or the network would be too large.
        """
        import keras

        self.check()
        shape = self._checked_shape(input_shape)
        inputs = keras.Input(shape, name="input")
        return keras.Model(inputs, self._features(inputs), name="convnet")

    def _features(self, x: keras.KerasTensor) -> keras.KerasTensor:
        from keras import layers

        block_rates, dense_rates, pooled_rate = self._rates()
        for number, (width, rate) in enumerate(zip(self.filters, block_rates, strict=True), 1):
            x = _dropped(self._block(x, int(width), f"block{number}"), rate, f"block{number}")
        if not dense_rates:
            x = layers.GlobalAveragePooling2D(name="pool")(x)
            return _dropped(x, pooled_rate, "pool")
        x = layers.Flatten(name="flatten")(x)
        for number, (width, rate) in enumerate(zip(self._units, dense_rates, strict=True), 1):
            name = f"dense{number}"
            arguments = self._arguments() | {"units": int(width), "name": name}
            x = self._normed(x, layers.Dense(**arguments), name + "_{}")
            x = _dropped(x, rate, name)
        return x

    def _block(self, x: keras.KerasTensor, width: int, block: str) -> keras.KerasTensor:
        from keras import layers

        for number in range(1, self.convs_per_block + 1):
            names = f"{block}_{{}}{number}"
            arguments = self._arguments() | {"padding": "same", "name": names.format("conv")}
            convolution = layers.Conv2D(width, int(self.kernel_size), **arguments)
            x = self._normed(x, convolution, names)
        return layers.MaxPooling2D(2, name=f"{block}_pool")(x)

    def _arguments(self) -> dict[str, object]:
        """Return the arguments that dense layers and convolutions have in common."""
        # Names, not initialisers: each layer must draw its own weights.
        start = "he_normal" if self.activation in RELU_LIKE else "glorot_uniform"
        if self.batch_norm == "before":  # it has a bias
            return {"kernel_initializer": start, "use_bias": False}
        return {"kernel_initializer": start, "activation": self.activation}

    def _normed(self, x: keras.KerasTensor, layer: keras.Layer, names: str) -> keras.KerasTensor:
        from keras import layers

        x = layer(x)
        if self.batch_norm is not None:
            name = names.format("bn")
            x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=name)(x)
        if self.batch_norm == "before":
            x = layers.Activation(self.activation, name=names.format("activation"))(x)
        return x

    def _rates(self) -> tuple[list[float], list[float], float]:
        """Return the dropout of each block, of each dense layer, or else after pooling."""
        n_blocks, n_dense = len(self.filters), len(self._units)
        if isinstance(self.dropout, Sequence | np.ndarray):
            rates = [float(rate) for rate in self.dropout]
            return rates[:n_blocks], rates[n_blocks:], 0.0
        rate = float(self.dropout)
        return [0.0] * n_blocks, [rate] * n_dense, rate

    def _checked_shape(self, input_shape: object) -> tuple[int, int, int]:
        is_scalar = isinstance(input_shape, np.ndarray) and input_shape.ndim == 0
        is_sequence = isinstance(input_shape, Sequence | np.ndarray) and not is_scalar
        sides = cast(Sequence[int], input_shape) if is_sequence else ()
        if len(sides) != 3 or not all(is_number(n, whole=True) and n >= 1 for n in sides):
            raise NetworkError(
                "input_shape must be three whole numbers of at least 1: height, width and "
                f"channels. Got {input_shape!r} instead."
            )
        height, width, channels = map(int, sides)
        if min(height, width) < self.min_image_size:
            raise NetworkError(
                f"Each of {len(self.filters)} blocks halves the image, so that it must be at "
                f"least {self.min_image_size} x {self.min_image_size}. Got {height} x {width} "
                "instead. Use a larger image_size or fewer filters."
            )
        total = self.n_kernel_weights(height, width, channels)
        if total > MAX_PARAMETERS:  # more than memory holds
            raise NetworkError(
                f"ConvNet must have at most {MAX_PARAMETERS:,} weights. Got {total:,} instead. "
                "Use a smaller image_size, more blocks, fewer dense_units, or dense_units=()."
            )
        return height, width, channels

    def n_kernel_weights(self, height: int, width: int, channels: int) -> int:
        """Return the number of weights of all kernels for this shape, without building."""
        total = 0
        for filters in map(int, self.filters):
            more = filters * (int(self.convs_per_block) - 1)
            total += int(self.kernel_size) ** 2 * filters * (channels + more)
            height, width, channels = height // 2, width // 2, filters
        inputs = height * width * channels
        for units in map(int, self._units):
            total += inputs * units
            inputs = units
        return total


def _dropped(x: keras.KerasTensor, rate: float, name: str) -> keras.KerasTensor:
    from keras import layers

    return layers.Dropout(rate, name=f"{name}_dropout")(x) if rate else x
