"""The engine that traces a Keras model into one TensorFlow graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transferclf.engines.engine import Engine, Function, sees_gpu

if TYPE_CHECKING:
    import keras


class TensorFlowEngine(Engine):
    """Runs the traced graph."""

    name = "tensorflow"
    rank = 2
    backends = ("tensorflow",)
    precisions = ("float32", "bfloat16")
    is_for_auto = True

    def has_gpu(self) -> bool:
        """Whether TensorFlow sees a GPU."""
        return sees_gpu("tensorflow")

    def compile(self, network: keras.Model, precision: str) -> Function:
        """Return the traced graph, which does most of its work in the given precision."""
        import tensorflow as tf

        from transferclf.engines.backend import for_inference
        from transferclf.engines.tracing import concrete_function
        from transferclf.graphs.folding import lower_precision

        lowered = lower_precision(network) if precision == "bfloat16" else network
        concrete = for_inference(concrete_function(lowered))
        return lambda images: concrete(tf.constant(images)).numpy()
