"""Forked processes: TensorFlow's threads are not in the child, which would wait for them for ever.

A child that is forked before TensorFlow has run anything is free to use it, and so is every
process that was started anew, such as those of joblib.
"""

from __future__ import annotations

import os
import sys

from transferclf.exceptions import ForkedProcessError

_was_running = False


def check_not_forked() -> None:
    """Raise ForkedProcessError where a network would never come to an end.

    Raises
    ------
    ForkedProcessError
        If this process was forked from one in which TensorFlow had run something.
    """
    if _was_running:
        raise ForkedProcessError(
            "TensorFlow was used before this process was forked, so that networks would hang in "
            "it. Start processes anew: multiprocessing.get_context('spawn') or 'forkserver', or "
            "joblib's default backend; or fork before the first fit."
        )


def _is_running() -> bool:
    """Whether TensorFlow has started its threads in this process."""
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    return bool(getattr(context, "_initialized", context is not None))


def _start_in_forked_child() -> None:
    global _was_running
    _was_running = _was_running or _is_running()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_in_forked_child)
