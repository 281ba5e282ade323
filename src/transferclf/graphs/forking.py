"""Refuse to run networks in a forked process, which would wait for ever for TensorFlow's threads.

A child that was forked before TensorFlow ran anything may use it, and so may every process that
was started anew, such as those of joblib.
"""

from __future__ import annotations

import os

from transferclf.exceptions import ForkedProcessError
from transferclf.graphs._private import is_tensorflow_running

_was_running = False


def check_not_forked() -> None:
    """Raise ForkedProcessError if TensorFlow had run something before this process was forked."""
    if _was_running:
        raise ForkedProcessError(
            "TensorFlow was used before this process was forked, so that networks would hang in "
            "it. Start processes anew: multiprocessing.get_context('spawn') or 'forkserver', or "
            "joblib's default backend; or fork before the first fit."
        )


def _start_in_forked_child() -> None:
    global _was_running
    _was_running = _was_running or is_tensorflow_running()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_in_forked_child)
