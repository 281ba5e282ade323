"""Costs that are counted, not timed: function calls and open files. They do not depend on other
tests or on the load of the machine."""

import os
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

DESCRIPTORS = "/proc/self/fd"


@contextmanager
def counted_calls():
    """Yield a Counter of the calls in this thread by function name, built-in functions included."""
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


@contextmanager
def counted_images():
    """Yield a Counter of the images that networks on pixels were "trained" on and have "scored"."""
    from transferclf.training.trainer import Trainer

    counts: Counter = Counter()
    train, score = Trainer.epoch, Trainer.scores

    def counted_epoch(trainer, data, order, *rest):
        counts["trained"] += trainer._on_pixels * len(order)
        return train(trainer, data, order, *rest)

    class Scores:
        def __get__(self, trainer, kind):
            def scores(rows):
                counts["scored"] += trainer._on_pixels * len(rows)
                return score.__get__(trainer, kind)(rows)

            return scores

        def __set__(self, trainer, value):
            """Come before the functions that trainers keep."""
            raise AttributeError

    Trainer.epoch, Trainer.scores = counted_epoch, Scores()
    try:
        yield counts
    finally:
        Trainer.epoch, Trainer.scores = train, score


def open_files(folder):
    """Return the open files of this process at or below `folder`; none if the system does not tell.

    A count of all descriptors would include those of other tests, which Python may collect at any
    time.
    """
    if not os.path.isdir(DESCRIPTORS):
        return []
    top, found = str(Path(folder).resolve()), []
    for name in os.listdir(DESCRIPTORS):
        try:
            target = os.readlink(f"{DESCRIPTORS}/{name}")
        except FileNotFoundError:  # the descriptor of this listing
            continue
        if target == top or target.startswith(top + os.sep):
            found.append(target)
    return found
