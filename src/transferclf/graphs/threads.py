"""Limit the threads of TensorFlow.

TensorFlow does not read OMP_NUM_THREADS for the threads that it starts itself. In each of n worker
processes it would take the whole machine.
"""

from __future__ import annotations

import os

from transferclf.images.threads import thread_limit

# Within one operation, and operations side by side.
VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def limit_threads() -> None:
    """Limit TensorFlow to OMP_NUM_THREADS, if that is set; to be called before importing Keras.

    It changes neither variables that the user has set for TensorFlow nor pools that have started.


    Examples
    --------
    >>> import os
    >>> os.environ["OMP_NUM_THREADS"] = "1"
    >>> limit_threads()
    >>> [os.environ.pop(name) for name in ("OMP_NUM_THREADS", *VARIABLES)]
    ['1', '1', '1']
    """
    limit = thread_limit()
    if limit is not None:
        for variable in VARIABLES:
            os.environ.setdefault(variable, str(limit))
