"""Compile, differentiate and free memory on each backend of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from transferclf.graphs._private import forget_kernels, take_gradients_as_they_are


def compiled(function: Callable[..., Any], *arguments: keras.KerasTensor) -> Callable[..., Any]:
    """Compile a function that reads variables, and may set them, such as a step of training.

    `arguments` are the shapes and types of its arguments. A backend that traces nothing gets the
    function back as it is.

    Examples
    --------
    >>> import keras, numpy as np
    >>> doubled = compiled(lambda x: 2 * x, keras.KerasTensor((None,), "float32"))
    >>> keras.ops.convert_to_numpy(doubled(np.ones(2, np.float32))).tolist()
    [2.0, 2.0]
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in arguments]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return lambda *values: traced(*map(tf.convert_to_tensor, values))


def gradient_at(function: Callable[[Any], tuple[Any, Any]], point: Any) -> tuple[Any, Any]:
    """Return the gradient of a function at a point, and what else the function returns.

    `function` returns a single number and anything else. Keras has no gradient for all backends.

    Examples
    --------
    >>> import keras
    >>> point = keras.ops.convert_to_tensor([1.0, 3.0])
    >>> slope, _ = gradient_at(lambda x: (keras.ops.sum(x**2), None), point)
    >>> keras.ops.convert_to_numpy(slope).tolist()
    [2.0, 6.0]
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.grad(function, has_aux=True)(point)
    if backend == "torch":
        import torch

        point = point.detach().requires_grad_()
        value, others = function(point)
        return torch.autograd.grad(value, point)[0], others
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(point)
        value, others = function(point)
    return tape.gradient(value, point), others


def sum_of_squares(tensor: Any) -> Any:
    """Return the sum of the squares; TensorFlow has one operation for it and its gradient."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return 2 * tf.nn.l2_loss(tensor)
    return keras.ops.sum(keras.ops.square(tensor))


def prevent_leak(optimizer: keras.optimizers.Optimizer) -> None:
    """Change an optimizer so that TensorFlow does not keep the training step it is compiled into.

    Without this, each compiled step stays in memory for ever, a few megabytes each.
    """
    if keras.backend.backend() == "tensorflow":
        take_gradients_as_they_are(optimizer)


def release_kernels() -> None:
    """Have TensorFlow drop what it keeps for each shape of a variable, tens of kilobytes each.

    To be called when networks of many shapes are dropped. It changes no result: kernels that are
    needed again are made again in microseconds.
    """
    if keras.backend.backend() == "tensorflow":
        forget_kernels()
