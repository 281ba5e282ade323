"""Building networks beside the caller's Keras, not in it.

A network must not depend on what else the process did before: names of layers would count on
from the caller's, its numbers would have the caller's precision, its weights the caller's luck.
And building one must leave nothing of this changed.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

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

    Parameters
    ----------
    seed : int, default=0
        What Keras takes the seeds of initial weights from.
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
    from keras.src.backend.common import global_state

    floatx = keras.config.floatx()
    # Read as they are: Keras' own getters would set what is not set yet.
    names = global_state.get_global_attribute("object_name_uids")
    policy = global_state.get_global_attribute("dtype_policy")
    keras.config.set_floatx("float32")
    global_state.set_global_attribute("object_name_uids", defaultdict(int))
    global_state.set_global_attribute("dtype_policy", None)
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        global_state.set_global_attribute("object_name_uids", names)
        global_state.set_global_attribute("dtype_policy", policy)
