"""Compile, run, differentiate and free memory on each backend of Keras."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import keras
import numpy as np

from transferclf.engines.engine import ALIGNMENT
from transferclf.graphs._private import forget_kernels, take_gradients_as_they_are

# Whatever a backend computes with.
Tensor = Any
Function = Callable[..., Tensor]

# Settings of a GPU belong to the process, so that calls on it take turns.
_on_gpu = threading.RLock()


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


def tensor_of(array: np.ndarray) -> Tensor:
    """Return a tensor of an array, which must not change as long as the tensor is in use.

    On the CPU it shares the memory of the array where that is aligned. TensorFlow by itself would
    copy it, and hold three times the memory meanwhile.
    """
    is_aligned = array.ctypes.data % ALIGNMENT == 0 and min(array.shape, default=0) > 1
    if _is_on_tensorflow() and is_aligned and array.flags.c_contiguous and array.flags.writeable:
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return keras.ops.convert_to_tensor(array)


def call_of(model: keras.Model) -> Function:
    """Return a call of a model in inference mode.

    JAX compiles it: operation by operation, the first batch would take several times as long. The
    compiled call keeps the weights that the model has now.
    """
    if keras.backend.backend() != "jax":
        return lambda images: model(images, training=False)
    import jax

    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]
    compiled_call = jax.jit(
        lambda *values: keras.tree.flatten(model.stateless_call(*values, training=False)[0])[0]
    )
    return lambda images: compiled_call(trainable, others, images)


def for_inference(function: Function) -> Function:
    """Return a function that records no gradients, and uses all bits of float32 also on a GPU.

    By default, a GPU rounds the factors of products to eleven bits. Its features would differ from
    those of other engines, with which they share their keys.
    """
    exact = _exact_context()
    if exact is None:
        return function

    def run(*arguments: Tensor) -> Tensor:
        with exact():
            return function(*arguments)

    return run


def _exact_context() -> Callable[[], AbstractContextManager[object]] | None:
    """Return the context of exact inference for Keras' backend; None if it needs none."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return lambda: jax.default_matmul_precision("highest")
    if backend == "torch":
        return _exact_in_torch
    import tensorflow as tf

    return _exact_in_tensorflow if tf.config.list_physical_devices("GPU") else None


@contextmanager
def _exact_in_torch() -> Iterator[None]:
    import torch

    with torch.no_grad():
        if not torch.cuda.is_initialized():  # the weights are on the CPU
            yield
            return
        cudnn = torch.backends.cudnn
        kept = {"enabled": cudnn.enabled, "deterministic": cudnn.deterministic}
        with _on_gpu, cudnn.flags(**kept, benchmark=cudnn.benchmark, allow_tf32=False):
            yield


@contextmanager
def _exact_in_tensorflow() -> Iterator[None]:
    from tensorflow.config import experimental

    with _on_gpu:
        before = experimental.tensor_float_32_execution_enabled()
        experimental.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            experimental.enable_tensor_float_32_execution(before)


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
