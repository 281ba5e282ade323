"""TensorFlow without eager execution: networks cannot be run there, and one error says so."""

from __future__ import annotations

import sys

from transferclf.exceptions import NetworkError


def check_eager() -> None:
    """Raise NetworkError where TensorFlow would only note operations and not run them.

    Raises
    ------
    NetworkError
        After ``tf.compat.v1.disable_eager_execution()``, and inside of a ``tf.Graph`` or a
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
