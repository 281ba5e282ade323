"""Repair of a store's state in this process, after a call that was interrupted."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Repairable(Protocol):
    """State that several lines change together."""

    def repair(self) -> None:
        """Make the state consistent, wherever the last change stopped."""


class Guard:
    """A context that repairs its parts before a call, if the last call was interrupted.

    Ctrl-C and a MemoryError may come between any two lines, also while an earlier one is being
    handled. So nothing is done at that moment: a call marks the state as unfinished when it begins
    and as whole when it ends, and the next call repairs what is still marked.

    Use it inside the lock of the state, in the same `with` statement. Both are then left in one
    step, and no interrupt finds the lock held outside of the statement.
    """

    def __init__(self, *parts: Repairable):
        self._parts = parts
        self._is_whole = True

    def __enter__(self) -> None:
        if not self._is_whole:
            for part in self._parts:
                part.repair()
        self._is_whole = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_whole = kind is None
