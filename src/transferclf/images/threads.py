"""The number of threads that this process may use: its cores, limited by OMP_NUM_THREADS.

joblib sets OMP_NUM_THREADS in its worker processes, so that together they fill the machine once.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import joblib

# Pixels that are decoded at once by all threads of this process; a larger image waits until it is
# alone. At 12 bytes a pixel these are 400 MB.
PIXELS_AT_ONCE = 2**25


def thread_limit() -> int | None:
    """Return the (first) number in OMP_NUM_THREADS, at least 1, or None where there is none.

    >>> os.environ["OMP_NUM_THREADS"] = "3,1"
    >>> thread_limit()
    3
    >>> del os.environ["OMP_NUM_THREADS"]
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(first), 1) if first.isdecimal() else None


def thread_count(physical: bool = False) -> int:
    """Return how many threads of this process should compute at a time.

    Affinity, containers and OMP_NUM_THREADS count. With `physical`, two hyperthreads count as one:
    right for kernels that keep a core busy alone.
    """
    with warnings.catch_warnings():
        # Where the cores cannot be counted, joblib says so and counts hyperthreads.
        warnings.simplefilter("ignore")
        available = joblib.cpu_count(only_physical_cores=physical)
    return min(available, thread_limit() or available)


_changed = threading.Condition()
_taken = 0


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """Wait until an image of so many pixels can be decoded beside others: large ones take turns."""
    global _taken
    changed = _changed
    with changed:
        while _taken and _taken + pixels > PIXELS_AT_ONCE:
            changed.wait()
        _taken += pixels
    try:
        yield
    finally:
        with changed:
            _taken -= pixels
            changed.notify_all()


def _forget() -> None:
    # A child that was forked while a thread decoded would wait for it for ever.
    global _changed, _taken
    _changed, _taken = threading.Condition(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
