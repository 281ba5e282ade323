"""The engine that calls a Keras model as it is, on every backend of Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferclf.engines.engine import PRECISIONS, Engine, Function, keras_backend, sees_gpu

if TYPE_CHECKING:
    import keras


class KerasEngine(Engine):
    """Calls the model in inference mode."""

    name = "keras"
    rank = 0
    is_for_auto = True

    @property
    def precisions(self) -> tuple[str, ...]:  # type: ignore[override]
        """Both where no other engine has bfloat16, which those of TensorFlow have."""
        return ("float32",) if keras_backend() == "tensorflow" else PRECISIONS

    def has_gpu(self) -> bool:
        """Whether Keras' backend sees a GPU."""
        return sees_gpu(keras_backend())

    def compile(self, network: keras.Model, precision: str) -> Function:
        """Return a call of the model, which does most of its work in the given precision."""
        import keras

        from transferclf.engines.backend import call_of, for_inference
        from transferclf.graphs.folding import lower_precision

        lowered = lower_precision(network) if precision == "bfloat16" else network
        call = for_inference(call_of(lowered))
        return lambda images: keras.ops.convert_to_numpy(call(images))
