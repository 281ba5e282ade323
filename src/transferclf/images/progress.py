"""A progress bar in the manner of Keras, which would have to be imported to show its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from transferclf._printing import is_terminal, say

WIDTH = 20
INTERVAL = 0.25  # seconds between two drawings

Advance = Callable[[int], None]


def unseen(done: int) -> None:
    """Take no notice of progress."""


@contextmanager
def progress_bar(total: int, note: str, delay: float = 0.0, title: str = "") -> Iterator[Advance]:
    """Show how far a piece of work is, while in the ``with`` block.

    Where the output is no terminal, only the last state is printed. The line ends with the block,
    also after an error. An output that cannot show the bar is no reason for an error.

    Parameters
    ----------
    total : int
        How many images there are.
    note : str
        What to say at the end of the line.
    delay : float, default=0.0
        Work that takes fewer seconds shows nothing.
    title : str, default=""
        What to say at the beginning of the line.

    Yields
    ------
    callable
        Takes how many images more are done.

    Examples
    --------
    >>> with progress_bar(8, "2 known") as advance:  # doctest: +ELLIPSIS
    ...     advance(8)
    8/8 ━━━━━━━━━━━━━━━━━━━━ ... images/s - 2 known
    """
    bar = _Bar(total, note, delay, f"{title}: " if title else "")
    try:
        yield bar.advance
    finally:
        bar.close()


def bar_if(
    verbose: int, total: int, note: str, delay: float = 0.0, title: str = ""
) -> AbstractContextManager[Advance]:
    """Return a :func:`progress_bar`, or where `verbose` is 0 a context that shows nothing."""
    return progress_bar(total, note, delay, title) if verbose else nullcontext(unseen)


class _Bar:
    def __init__(self, total: int, note: str, delay: float, start: str):
        # A line break or a control character would end the line or move the cursor.
        note = "".join(letter if letter.isprintable() else " " for letter in note)
        self.total, self.note, self.start = total, note, start
        self.done = self.drawn = 0
        self.begin = time.monotonic()
        self.next_drawing = self.begin + delay
        # A terminal and a notebook go back to the start of the line; a log file cannot.
        self.is_live = "ipykernel" in sys.modules or is_terminal()

    def advance(self, done: int) -> None:
        self.done += done
        if self.is_live and time.monotonic() >= self.next_drawing:
            self.draw()
            self.next_drawing = time.monotonic() + INTERVAL

    def draw(self) -> None:
        line = self.line(time.monotonic() - self.begin)
        start = "\r" if self.drawn else ""
        # What is left of a longer line is blotted out.
        say(start + line.ljust(self.drawn), end="")
        self.drawn = len(line)

    def line(self, seconds: float) -> str:
        filled = WIDTH * self.done // max(self.total, 1)
        bar = "━" * filled + " " * (WIDTH - filled)
        rate = self.done / max(seconds, 1e-9)
        count = f"{self.start}{self.done}/{self.total}"
        return f"{count} {bar} {self.when(seconds)} - {_shown(rate)} - {self.note}"

    def when(self, seconds: float) -> str:
        if not 0 < self.done < self.total:
            return f"{seconds:.0f}s"
        return f"{seconds / self.done * (self.total - self.done):.0f}s left"

    def close(self) -> None:
        if self.drawn or time.monotonic() >= self.next_drawing:
            self.draw()
            say("")


def _shown(rate: float) -> str:
    return f"{rate:.0f} images/s" if rate >= 10 else f"{rate:.2g} images/s"
