"""Progress of long work: a bar in terminals and notebooks, one line at the end elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from threading import RLock
from typing import TYPE_CHECKING

from transferclf._printing import Output, is_terminal, say

if TYPE_CHECKING:
    from tqdm import tqdm

INTERVAL = 0.25  # seconds between two drawings

Advance = Callable[[int], None]


def unseen(done: int) -> None:
    """Show nothing."""


def bar_if(
    verbose: int, total: int, note: str = "", delay: float = 0.0, title: str = ""
) -> AbstractContextManager[Advance]:
    """Return a :func:`progress_bar`, or where `verbose` is 0 a context that shows nothing."""
    return progress_bar(total, note, delay, title) if verbose else nullcontext(unseen)


def progress_bar(
    total: int, note: str = "", delay: float = 0.0, title: str = ""
) -> AbstractContextManager[Advance]:
    """Show how many of `total` images are done. The context gives a function that counts them.

    Nothing is shown within the first `delay` seconds. Showing never raises an error.
    """
    # A control character would end the line or move the cursor.
    note = "".join(letter if letter.isprintable() else " " for letter in note)
    # A terminal and a notebook can redraw a bar; a log file cannot.
    is_live = "ipykernel" in sys.modules or is_terminal()
    return (_bar if is_live else _line)(total, note, delay, title)


@contextmanager
def _line(total: int, note: str, delay: float, title: str) -> Iterator[Advance]:
    """Print one line at the end of the block, also after an error."""
    counts: list[int] = []
    begin = time.monotonic()
    try:
        yield counts.append
    finally:
        seconds = time.monotonic() - begin
        if seconds >= delay:
            done, start = sum(counts), f"{title}: " if title else ""
            rate = done / max(seconds, 1e-9)
            shown = f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"
            end = f" - {note}" if note else ""
            say(f"{start}{done}/{total} in {seconds:.0f}s - {shown} images/s{end}")


@contextmanager
def _bar(total: int, note: str, delay: float, title: str) -> Iterator[Advance]:
    bar: tqdm | None = None
    with suppress(Exception):
        bar = _bar_class()(
            total=total,
            desc=title or None,
            postfix=note or None,
            unit=" images",
            delay=delay,
            mininterval=INTERVAL,
            miniters=1,
            dynamic_ncols=True,
            file=Output(),
        )

    def advance(done: int) -> None:
        with suppress(Exception):
            if bar is not None:
                bar.update(done)

    try:
        yield advance
    finally:
        with suppress(Exception):
            if bar is not None:
                bar.close()


@cache
def _bar_class() -> type[tqdm]:
    """Return tqdm's bar for this output, without its thread and its lock between processes.

    Both would disturb forked processes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets a bar of letters
        from tqdm.auto import tqdm

    class Bar(tqdm):
        monitor_interval = 0

    Bar.set_lock(RLock())
    return Bar
