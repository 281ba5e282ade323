"""Run a SavedModel of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def serving_function(folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function of a SavedModel from images to its one output."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    serve = loaded.signatures["serving_default"]
    name = next(iter(serve.structured_input_signature[1]))

    def run(images: np.ndarray) -> np.ndarray:
        return next(iter(serve(**{name: tf.constant(images)}).values())).numpy()

    run.loaded = loaded  # type: ignore[attr-defined]  # it owns the variables
    return run
