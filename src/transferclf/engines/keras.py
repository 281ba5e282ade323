"""The engine that calls a Keras model as it is, on every backend of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferclf.engines.engine import Engine, Function, keras_backend, sees_gpu

if TYPE_CHECKING:
    import keras


class KerasEngine(Engine):
    """Calls the model in inference mode."""

    name = "keras"
    rank = 0
    is_for_auto = True

    def has_gpu(self) -> bool:
        """Whether Keras' backend sees a GPU."""
        return sees_gpu(keras_backend())

    def compile(self, network: keras.Model, precision: str) -> Function:
        """Return a call of the model."""
        import keras

        return lambda images: keras.ops.convert_to_numpy(network(images, training=False))
