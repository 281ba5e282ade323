"""How many threads this process may use: what the machine has and OMP_NUM_THREADS allows.

joblib sets OMP_NUM_THREADS in its worker processes, so that all of them together fill the machine
once. Libraries that do not know the variable are told by this package.
"""

from __future__ import annotations

import os
import threading
import warnings

import joblib

# Pixels that are decoded at once by all threads of this process; a larger image waits until it is
# alone. At 12 bytes a pixel these are 400 MB.
PIXELS_AT_ONCE = 2**25


def thread_limit() -> int | None:
    """The number in OMP_NUM_THREADS, or None where it says nothing that can be read.

    Returns
    -------
    int or None
        At least 1. Of a list, one number for each nested level, the first counts.

    Examples
    --------
    >>> import os
    >>> os.environ["OMP_NUM_THREADS"] = "3,1"
    >>> thread_limit()
    3
    >>> del os.environ["OMP_NUM_THREADS"]
    """
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(first), 1) if first.isdecimal() else None


def thread_count(physical: bool = False) -> int:
    """How many threads of this process should compute at a time.

    Parameters
    ----------
    physical : bool, default=False
        Whether to count two hyperthreads as one: right for kernels that keep a core busy alone.

    Returns
    -------
    int
        The processors that this process may use (affinity and containers counted), or
        OMP_NUM_THREADS where that is less.

    Examples
    --------
    >>> thread_count() >= thread_count(physical=True) >= 1
    True
    """
    with warnings.catch_warnings():
        # Where the cores cannot be counted, joblib says so and counts hyperthreads.
        warnings.simplefilter("ignore")
        available = joblib.cpu_count(only_physical_cores=physical)
    return min(available, thread_limit() or available)


_changed = threading.Condition()
_taken = 0


class room_for:  # noqa: N801, used as a function
    """Wait until an image can be decoded beside those that are, so that large ones take turns.

    Parameters
    ----------
    pixels : int
        Of the image.

    Examples
    --------
    >>> with room_for(12_000_000):
    ...     pass
    """

    def __init__(self, pixels: int):
        self.pixels = pixels

    def __enter__(self) -> None:
        global _taken
        self.changed = _changed
        with self.changed:
            while _taken and _taken + self.pixels > PIXELS_AT_ONCE:
                self.changed.wait()
            _taken += self.pixels

    def __exit__(self, *error: object) -> None:
        global _taken
        with self.changed:
            _taken -= self.pixels
            self.changed.notify_all()


def _forget() -> None:
    # A child that was forked while a thread decoded would wait for it for ever.
    global _changed, _taken
    _changed, _taken = threading.Condition(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
