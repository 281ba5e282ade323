"""Convolutions on the smallest maps, with a third of the multiplications.

At the end of a network maps are two to four positions a side and hundreds of channels deep. A
3 x 3 convolution there is mostly padding, and slower than one of as many products on a larger map.
Winograd's minimal filtering makes it a batch of matrix products instead: 25 for a map of 3 x 3
positions, where the convolution has 81.

S. Winograd, Arithmetic Complexity of Computations, SIAM, 1980; A. Lavin and S. Gray, Fast
Algorithms for Convolutional Neural Networks, CVPR 2016, https://arxiv.org/abs/1509.09308.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from transferclf.networks.folding import has_plain_weights
from transferclf.networks.graphs import functional, nodes_in_order, with_replaced

# Where polynomials are evaluated. A side of s positions takes the first s + 1, and infinity; the
# further from one they lie, the more digits are lost.
_POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
_SIDES = (2, 3, 4)
# With fewer channels, moving the numbers around costs more than multiplying them.
_LEAST_CHANNELS = 128


def with_fast_small_maps(model: keras.Model) -> keras.Model:
    """Return a model that computes 3 x 3 convolutions on small maps as matrix products.

    Those on maps of 2 to 4 positions a side, with padding and without strides, and of 128 channels
    or more. On 32 maps of 3 x 3 and 256 channels it takes TensorFlow less than half the time.

    Parameters
    ----------
    model : keras.Model
        A functional model; not modified.

    Returns
    -------
    keras.Model
        The same function but for the last digits of float32; shares the layers that stay as they
        are.
    """
    model = functional(model)
    made = {
        id(node.operation): SmallMapConv2D(node.operation, _map_shape(node))
        for node in _called_once(model)
        if _is_small_convolution(node)
    }
    if not made:
        return model
    return with_replaced(model, lambda operation: made.get(id(operation), operation))


class SmallMapConv2D(layers.Layer):
    """A 3 x 3 convolution with padding, on maps of one small size.

    Parameters
    ----------
    convolution : keras.layers.Conv2D
        What to compute; its weights are taken as they are now.
    map_shape : (int, int)
        Rows and columns of the maps, 2 to 4 each.
    """

    def __init__(self, convolution: layers.Conv2D, map_shape: tuple[int, int]):
        super().__init__(dtype=convolution.dtype_policy)
        self.map_shape = map_shape
        self.filters = convolution.filters
        self.activation = convolution.activation
        (spread_y, filter_y, gather_y), (spread_x, filter_x, gather_x) = map(_matrices, map_shape)
        self.spread = np.kron(spread_y, spread_x).astype(np.float32)
        self.gather = np.kron(gather_y, gather_x).astype(np.float32)
        kernel = ops.convert_to_numpy(convolution.kernel).astype(np.float64)
        factors = np.einsum("ai,bj,ijcd->abcd", filter_y, filter_x, kernel)
        self.kernel = self._constant(factors.reshape(-1, *kernel.shape[2:]))
        self.bias = self._constant(convolution.bias) if convolution.use_bias else None

    def call(self, maps: Any) -> Any:
        """Compute the convolution."""
        rows, columns = self.map_shape
        # Positions first: what is done to them is one small matrix, and each product is a slice.
        x = ops.transpose(maps, (1, 2, 0, 3))
        x = ops.matmul(self.spread, ops.reshape(x, (rows * columns, -1)))
        x = ops.reshape(x, (len(self.spread), -1, self.kernel.shape[1]))
        x = ops.reshape(ops.matmul(x, self.kernel), (len(self.spread), -1))
        x = ops.reshape(ops.matmul(self.gather, x), (rows, columns, -1, self.filters))
        x = ops.transpose(x, (2, 0, 1, 3))
        return self.activation(x if self.bias is None else x + self.bias)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the maps that come out."""
        return (*input_shape[:-1], self.filters)

    def _constant(self, values: Any) -> Any:
        weight = self.add_weight(shape=values.shape, initializer="zeros", trainable=False)
        weight.assign(values)
        return weight


def _called_once(model: keras.Model) -> list[Any]:
    """The calls of operations that have no other, on maps that may be of another size."""
    nodes = nodes_in_order(model)
    calls = Counter(id(node.operation) for node in nodes)
    return [node for node in nodes if calls[id(node.operation)] == 1]


def _is_small_convolution(node: Any) -> bool:
    operation = node.operation
    return (
        type(operation) is layers.Conv2D
        and operation.kernel_size == (3, 3)
        and operation.strides == operation.dilation_rate == (1, 1)
        and operation.padding == "same"
        and operation.groups == 1
        and operation.data_format == "channels_last"
        and operation.compute_dtype == "float32"
        and min(operation.kernel.shape[2:]) >= _LEAST_CHANNELS
        and has_plain_weights(operation)
        and all(side in _SIDES for side in _map_shape(node))
    )


def _map_shape(node: Any) -> tuple[int, int]:
    rows, columns = node.input_tensors[0].shape[1:3]
    return rows, columns


def _matrices(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For one axis: from positions to products, from taps to products, and from products back.

    ``gather @ ((filters @ taps) * (spread @ positions))`` is the correlation of `side` positions
    with three taps, a zero beyond each end.
    """
    n_products = side + 2
    powers = np.vander(_POINTS[: n_products - 1], n_products, increasing=True)
    at_infinity = np.eye(n_products)[-1:]
    evaluate = np.concatenate([powers, at_infinity])

    def polynomials(degree: int) -> np.ndarray:
        return np.concatenate([powers[:, :degree], at_infinity[:, -degree:]])

    # A product of polynomials is evaluating, multiplying, interpolating; transposed, so that the
    # longest of the three is what goes in, it is a correlation.
    spread = np.linalg.inv(evaluate).T[:, 1:-1]
    return spread, polynomials(3), polynomials(side).T
