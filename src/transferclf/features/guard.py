"""Repair the state of a store in this process after an interrupted call."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Repairable(Protocol):
    """State that several lines change together."""

    def repair(self) -> None:
        """Make the state consistent, wherever the last change stopped."""


class Guard:
    """A context that repairs its parts before a call, if the last call was interrupted.

    Ctrl-C and a MemoryError may come between any two lines, even while an earlier one is handled.
    Therefore nothing is repaired at that moment. A call marks the state as unfinished when it
    begins and as whole when it ends, and the next call repairs an unfinished state.

    Use it in the same `with` statement as the lock of the state, after the lock. Both are then left
    in one step, so that no interrupt leaves the lock held.
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
