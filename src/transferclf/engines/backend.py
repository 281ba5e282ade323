"""Compile, differentiate and free memory on each backend of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from transferclf.graphs._private import forget_kernels, take_gradients_as_they_are

# Whatever a backend computes with.
Tensor = Any
Function = Callable[..., Tensor]


def _is_on_tensorflow() -> bool:
    return keras.backend.backend() == "tensorflow"


def compiled(function: Function, *arguments: keras.KerasTensor) -> Function:
    """Compile a function that reads variables, and may set them, such as a step of training.

    `arguments` are the shapes and types of its arguments. A backend that traces nothing gets the
    function back unchanged.
    """
    if not _is_on_tensorflow():
        return function
    import tensorflow as tf

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in arguments]
    traced = tf.function(function, autograph=False).get_concrete_function(*specs)
    return lambda *values: traced(*map(tf.convert_to_tensor, values))


def gradient_at(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], point: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradient of a function at a point, and the second value of the function.

    `function` returns a single number and anything else. Keras has no gradient for all backends.
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


def sum_of_squares(tensor: Tensor) -> Tensor:
    """Return the sum of the squares; TensorFlow has one operation for it and its gradient."""
    if _is_on_tensorflow():
        import tensorflow as tf

        return 2 * tf.nn.l2_loss(tensor)
    return keras.ops.sum(keras.ops.square(tensor))


def prevent_leak(optimizer: keras.optimizers.Optimizer) -> None:
    """Change an optimizer so that TensorFlow does not keep the training steps that contain it."""
    if _is_on_tensorflow():
        take_gradients_as_they_are(optimizer)


def release_kernels() -> None:
    """Drop the kernels that TensorFlow keeps for each shape of a variable, tens of kilobytes each.

    To be called when networks of many shapes are dropped. No result changes: TensorFlow makes new
    kernels in microseconds.
    """
    if _is_on_tensorflow():
        forget_kernels()
