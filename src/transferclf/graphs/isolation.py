"""Use Keras and TensorFlow without disturbing the caller, and only where they can run.

Networks are built in a fresh Keras. Otherwise the names of layers would count on from the caller's,
the numbers would have the caller's precision, and random weights would use the caller's random
state.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from transferclf._quiet import find_devices, import_keras
from transferclf.exceptions import ForkedProcessError, NetworkError
from transferclf.graphs._private import (
    exchange_keras_state,
    exchange_seeds,
    fresh_keras_state,
    is_tensorflow_running,
)

# Threads of TensorFlow within one operation, and for operations side by side.
VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

# Python's random numbers and Keras' default precision belong to the process, not to a thread.
_building = threading.RLock()
_depth = 0

_ran_before_fork = False


@contextmanager
def undisturbed(seed: int = 0) -> Iterator[None]:
    """Build in a fresh Keras: float32, layer names from the start, weights drawn from `seed`.

    May be nested. Names of layers go on within the outermost context.
    """
    global _depth
    check_not_forked()  # before the lock, which another thread of the parent may have held
    with _building:
        state = random.getstate()
        limit_threads()
        import_keras()  # the first import draws random numbers
        check_eager()
        find_devices()
        random.seed(seed)
        seeds = exchange_seeds(_SeedsOfThread(seed))
        _depth += 1
        try:
            with _fresh_keras() if _depth == 1 else nullcontext():
                yield
        finally:
            _depth -= 1
            exchange_seeds(seeds)
            random.setstate(state)


class _SeedsOfThread:
    """The seeds of layers that this thread builds. Others get theirs from Python, as usual.

    Other threads may draw from Python's random numbers too, such as those of a worker of Dask.
    """

    def __init__(self, seed: int):
        self._own, self._thread = random.Random(seed), threading.get_ident()

    def randint(self, a: int, b: int) -> int:
        """Return a whole number from a to b."""
        is_own = threading.get_ident() == self._thread
        return self._own.randint(a, b) if is_own else random.randint(a, b)


@contextmanager
def _fresh_keras() -> Iterator[None]:
    import keras

    floatx = keras.config.floatx()
    keras.config.set_floatx("float32")
    before = exchange_keras_state(fresh_keras_state())
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        exchange_keras_state(before)


def limit_threads() -> None:
    """Limit TensorFlow to OMP_NUM_THREADS, if that is set; to be called before importing Keras.

    TensorFlow does not read this variable for the threads that it starts itself. In each of n
    worker processes it would use the whole machine. Variables that the user has set for TensorFlow
    and pools that have started stay as they are.
    """
    from transferclf.images.threads import thread_limit

    limit = thread_limit()
    if limit is not None:
        for variable in VARIABLES:
            os.environ.setdefault(variable, str(limit))


def check_eager() -> None:
    """Raise NetworkError if TensorFlow would record operations instead of running them.

    It does so after ``tf.compat.v1.disable_eager_execution()``, and inside of a ``tf.Graph`` or a
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


def check_not_forked() -> None:
    """Raise ForkedProcessError if TensorFlow ran before this process was forked.

    A network would wait for TensorFlow's threads for ever. A child that was forked before
    TensorFlow ran may use it, and so may a process that was started anew, such as joblib's.
    """
    if _ran_before_fork:
        raise ForkedProcessError(
            "TensorFlow was used before this process was forked, so that networks would hang in "
            "it. Start processes anew: multiprocessing.get_context('spawn') or 'forkserver', or "
            "joblib's default backend; or fork before the first fit."
        )


def _start_in_forked_child() -> None:
    global _ran_before_fork
    _ran_before_fork = _ran_before_fork or is_tensorflow_running()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_in_forked_child)
