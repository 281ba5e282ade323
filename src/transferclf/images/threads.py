"""Threads: how many this process uses, and what they must not do at the same time.

joblib sets OMP_NUM_THREADS in its worker processes, so that together they use each core once.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import joblib

# Pixels that all threads of this process decode at once. A larger image waits until it is alone.
# At 12 bytes a pixel this is 400 MB.
PIXELS_AT_ONCE = 2**25


def thread_limit() -> int | None:
    """Return the first number in OMP_NUM_THREADS, at least 1, or None without a number."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(first), 1) if first.isdecimal() else None


def thread_count(physical: bool = False) -> int:
    """Return the number of cores for this process, limited by OMP_NUM_THREADS.

    With `physical`, two hyperthreads count as one: right for kernels that keep a core busy alone.
    """
    available = _physical_count() if physical else joblib.cpu_count(only_physical_cores=False)
    return min(available, thread_limit() or available)


def _physical_count() -> int:
    # The filters of warnings are those of all threads: two at once would leave warnings ignored.
    with _counting, warnings.catch_warnings():
        # joblib warns where it cannot count the cores, and counts hyperthreads.
        warnings.simplefilter("ignore")
        return joblib.cpu_count(only_physical_cores=True)


_counting = threading.Lock()


_changed = threading.Condition()
_taken = 0
_loading = threading.Lock()


def loading() -> threading.Lock:
    """Return the lock to hold while an image of the caller is read or loaded.

    Pillow does that in place, so that two threads must not use the same object at once.
    """
    return _loading


@contextmanager
def room_for(pixels: int) -> Iterator[None]:
    """Wait until an image of so many pixels can be decoded beside others."""
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
    global _changed, _taken, _loading
    _changed, _taken, _loading = threading.Condition(), 0, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
