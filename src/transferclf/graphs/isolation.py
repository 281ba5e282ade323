"""Build networks without using or changing the caller's state of Keras.

Without this, the names of layers would count on from the caller's, the numbers would have the
caller's precision, and random weights would use the caller's random state.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from transferclf.graphs._private import exchange_keras_state, fresh_keras_state
from transferclf.graphs.eager import check_eager
from transferclf.graphs.forking import check_not_forked
from transferclf.graphs.threads import limit_threads

# Python's random numbers and Keras' default precision belong to the process, not to a thread.
_building = threading.RLock()
_depth = 0


@contextmanager
def undisturbed(seed: int = 0) -> Iterator[None]:
    """Build in a fresh Keras: float32, layer names from the start, weights drawn from `seed`.

    May be nested; names go on within the outermost.
    """
    global _depth
    check_not_forked()  # before any lock, which another thread may have held in the parent
    with _building:
        state = random.getstate()
        limit_threads()
        import keras  # noqa: F401  # which draws random numbers when it is imported first

        check_eager()
        random.seed(seed)
        _depth += 1
        try:
            if _depth > 1:
                yield
            else:
                with _fresh_keras():
                    yield
        finally:
            _depth -= 1
            random.setstate(state)


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
