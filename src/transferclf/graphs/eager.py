"""Refuse to run networks where TensorFlow's eager execution is off."""

from __future__ import annotations

import sys

from transferclf.exceptions import NetworkError


def check_eager() -> None:
    """Raise NetworkError where TensorFlow would record operations and not run them.

    That is after ``tf.compat.v1.disable_eager_execution()``, and inside of a ``tf.Graph`` or a
    ``tf.function``.
    """
    keras, tensorflow = sys.modules.get("keras"), sys.modules.get("tensorflow")
    if keras is None or tensorflow is None or keras.backend.backend() != "tensorflow":
        return
    if not tensorflow.executing_eagerly():
        raise NetworkError(
            "networks need TensorFlow's eager execution. Got a place where it is off: call this "
            "outside of tf.function and of tf.Graph().as_default(), and leave out "
            "tf.compat.v1.disable_eager_execution() and disable_v2_behavior()."
        )
