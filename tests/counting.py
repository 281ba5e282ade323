"""Costs that are counted, not timed: calls made, and files held open. Other tests, and other
programs on the machine, change neither."""

import os
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

DESCRIPTORS = "/proc/self/fd"


@contextmanager
def counted_calls():
    """Yield a Counter of the functions called in this thread, by name, built-in ones included."""
    calls: Counter = Counter()

    def note(frame, event, argument):
        if event == "call":
            calls[frame.f_code.co_name] += 1
        elif event == "c_call":
            calls[argument.__name__] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def open_files(folder):
    """The open files of this process that are at `folder` or in it; none where it cannot be told.

    Counting all descriptors would count those of other tests too, whose garbage Python may
    collect at any time.
    """
    if not os.path.isdir(DESCRIPTORS):
        return []
    top, found = str(Path(folder).resolve()), []
    for name in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(f"{DESCRIPTORS}/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target == top or target.startswith(top + os.sep):
            found.append(target)
    return found
