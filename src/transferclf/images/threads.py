"""How many threads this process may use: what the machine has and OMP_NUM_THREADS allows.

joblib sets OMP_NUM_THREADS in its worker processes, so that all of them together fill the machine
once. Libraries that do not know the variable are told by this package.
"""

from __future__ import annotations

import os
import warnings

import joblib


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
