"""Tests of interrupts of a store between any two lines, by Ctrl-C and by a lack of memory.

After every interrupt, reads give the right values or a miss, no file stays open, no lock stays
held, and all counts are right.
"""

import os
import shutil
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from counting import open_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_helpers import (
    FOLDER,
    assert_right,
    assert_whole,
    child,
    finished,
    segment_files,
    taken,
)

from transferclf.exceptions import TransferclfWarning
from transferclf.features import FeatureStore, disk, memory, segments
from transferclf.features import store as store_module

TRACED = {module.__file__ for module in (disk, memory, segments, store_module)}
DAMAGED = "00000000000000000000-damaged.features"
MAX_BYTES = 12 * 4096
ROW = 300  # features: about 1.2 KB


def rows(*numbers):
    return {b"%d" % number: np.full(ROW, number, np.float32) for number in numbers}


def keys(*numbers):
    return [b"%d" % number for number in numbers]


ALL = keys(*range(120))


class Interrupter:
    """Raise an error at chosen lines of the store's modules, counted from the first traced line."""

    def __init__(self, at=(), error=KeyboardInterrupt):
        self.at, self.error = set(at), error
        self.lines = []

    def __enter__(self):
        self.before = sys.gettrace()  # the tracer of coverage, if there is one
        sys.settrace(self._enter)
        return self

    def __exit__(self, *exception):
        sys.settrace(self.before)

    def _enter(self, frame, event, argument):
        return self._line if frame.f_code.co_filename in TRACED else None

    def _line(self, frame, event, argument):
        if event == "line":
            self.lines.append((frame.f_code.co_name, frame.f_lineno))
            if len(self.lines) - 1 in self.at:
                raise self.error
        return self._line


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    """Limit open files and merge files at once, so that every method of the store has work."""
    monkeypatch.setattr(disk, "_MAX_OPEN", 2)
    monkeypatch.setattr(disk, "_IDLE", -10.0)
    monkeypatch.setattr(disk, "_SMALL", 1)
    monkeypatch.setattr(disk, "_TOO_MANY_SMALL", 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of four small files, one with a damaged record, and a file that is no segment."""
    path = tmp_path_factory.mktemp("folder")
    for number in range(4):
        FeatureStore(path, max_bytes=MAX_BYTES).put_many(rows(number))
    file = segment_files(path)[1]
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    (path / FOLDER / DAMAGED).write_bytes(b"not a block " * 10)
    return path


def work_on_disk(store):
    """Use a store on disk: read, add, merge, remove, drop damaged records, clear."""
    store.get_many(keys(0, 1, 2, 99))
    for start in range(100, 120, 4):
        store.put_many(rows(*range(start, start + 4)))
        store.get_many(keys(start, start - 1, 3))
    os.unlink(segment_files(Path(store.path))[0])
    store.get_many(keys(100, 119, 77))
    store.info()
    store.clear()
    store.put_many(rows(5, 6))
    store.get_many(keys(5, 6))


def work_in_memory(store):
    for start in range(0, 100, 20):
        store.put_many(rows(*range(start, start + 20)))
        store.get_many(keys(start, start + 19, 999))
        store.put_many(rows(start + 19))
    store.put_many({b"7": np.zeros(MAX_BYTES, np.float32)})
    store.info()
    store.clear()
    store.put_many(rows(5, 6))


def new_store(path, folder):
    if path is None:
        return FeatureStore(max_bytes=MAX_BYTES)
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder, path)
    return FeatureStore(path, max_bytes=MAX_BYTES)


def interrupted(store, at, error):
    """Work until the last of the errors comes; return the lines that were run."""
    work = work_in_memory if store.path is None else work_on_disk
    with Interrupter(at, error) as interrupter:
        for _ in at or [0]:
            with suppress(error):
                work(store)
                break
    return interrupter.lines


def assert_sound(store):
    """Check that rows and counts are right and that the store still works."""
    before = store.info()
    found = store.get_many(ALL)
    assert_right(found, ROW)
    info = store.info()
    assert info.entries == len(found)
    assert info.hits == before.hits + len(found)
    assert info.misses == before.misses + len(ALL) - len(found)
    assert info.nbytes <= MAX_BYTES
    if store.path is None:
        assert info.nbytes == len(found) * 4 * ROW
    else:
        assert info.nbytes == taken(Path(store.path))
    store.put_many(rows(5, 101, 102))
    again = store.get_many(keys(5, 101, 102))
    assert len(again) == 3
    assert_right(again, ROW)


def assert_whole_on_disk(store):
    """Check that the next store on the folder finds the same rows."""
    assert_whole(Path(store.path))
    others = FeatureStore(store.path, max_bytes=MAX_BYTES).get_many(ALL)
    assert_right(others, ROW)
    assert sorted(others) == sorted(store.get_many(ALL))


def assert_survives(path, folder, at, error):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # An interrupt can lose an open file; Python closes it.
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.filterwarnings("ignore", ".*is damaged", TransferclfWarning)
        store = new_store(path, folder)
        lines = interrupted(store, at, error)
        assert store._lock.acquire(timeout=1)
        store._lock.release()
        assert_sound(store)
        if path is not None:
            assert_whole_on_disk(store)
        del store
    assert path is None or open_files(path) == []
    return lines


@pytest.fixture(params=["memory", "disk"])
def path(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "store"


REACHED = {
    "memory": {"_put", "_shrink", "discard", "clear"},
    "disk": {"_append", "_merge_small", "_records_in", "_remove", "_forget", "_drop", "_opened",
             "_read_places", "_make_room", "_segment_for", "_left_by_disk", "clear", "close"},
}  # fmt: skip


def test_an_interrupt_at_every_line(path, folder):
    lines = assert_survives(path, folder, (), KeyboardInterrupt)
    reached = REACHED["memory" if path is None else "disk"]
    assert reached | {"__enter__", "__exit__", "_warn_once"} <= {name for name, _ in lines}
    for number in {line: number for number, line in reversed(list(enumerate(lines)))}.values():
        assert_survives(path, folder, [number], KeyboardInterrupt)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), error=st.sampled_from([KeyboardInterrupt, MemoryError]))
def test_one_interrupt_after_the_other(path, folder, data, error):
    """The second may come while the first is being handled, or in the repair of what it left."""
    first = data.draw(st.integers(0, 2300 if path is None else 6900))
    more = data.draw(st.lists(st.integers(1, 30), max_size=3))
    at = np.cumsum([first, *more]).tolist()
    assert_survives(path, folder, at, error)


STORM = """
import signal, warnings
from store_helpers import assert_right
warnings.simplefilter("ignore", ResourceWarning)  # an interrupt may come right after an open()
generator = random.Random(5)
armed, interrupted = False, 0

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

def rows(numbers):
    return {str(n).encode(): np.full(64, n, np.float32) for n in numbers}

def work(store):
    global armed, interrupted
    numbers = [generator.randrange(3000) for _ in range(64)]
    found = {}
    signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-5, 1e-3))
    try:
        armed = True
        store.put_many(rows(numbers[:32]))
        found = store.get_many(rows(numbers))
        armed = False
    except KeyboardInterrupt:
        armed = False
        interrupted += 1
    assert not store._lock.locked()
    assert_right(found, 64)
    assert_right(store.get_many(rows(numbers)), 64)

def check_counts(store):
    store.put_many(rows(range(50)))
    before = store.info()
    found = store.get_many(rows(range(3000)))
    assert_right(found, 64)
    assert found.keys() >= rows(range(50)).keys()
    info = store.info()
    assert info.entries == len(found) == info.hits - before.hits
    assert info.nbytes <= 600_000
    assert store.path or info.nbytes == len(found) * 256

stores = [FeatureStore(path, max_bytes=600_000), FeatureStore(max_bytes=600_000)]
signal.signal(signal.SIGALRM, interrupt)
stop = time.monotonic() + 1.5
while time.monotonic() < stop:
    for store in stores:
        work(store)
signal.setitimer(signal.ITIMER_REAL, 0)
assert interrupted > 20, interrupted
for store in stores:
    check_counts(store)
if os.path.isdir("/proc/self/fd"):
    held = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    files = [name for name in held if name.endswith(".features")]
    assert len(files) == len(set(files)) <= len(os.listdir(stores[0]._disk.folder)), files
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_a_storm_of_interrupts(tmp_path, monkeypatch):
    """Interrupt between any two instructions, as Ctrl-C does."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path]))
    finished(child(STORM, tmp_path))
    assert_whole(tmp_path)
    assert taken(tmp_path) <= 600_000
    found = FeatureStore(tmp_path).get_many(keys(*range(3000)))
    assert_right(found, 64)
    assert len(found) > 50
