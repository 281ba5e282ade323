"""Tests of the store on disk with several processes: killed, stopped, interrupted and forked."""

import os
import random
import signal
import threading
import time

import pytest
from store_helpers import (
    assert_right,
    assert_whole,
    child,
    entries,
    finished,
    keys,
    segment_files,
    sizes,
)

from transferclf.features import FeatureStore


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timer on this system")
def test_interrupts_at_any_moment_do_no_damage(tmp_path):
    code = """
import signal, warnings
warnings.simplefilter("ignore", ResourceWarning)  # an interrupt may come right after an open()
armed, interrupted = False, 0

def interrupt(*_):
    if armed:
        raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
generator = random.Random(0)
for number in range(100):
    signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-5, 3e-3))
    try:
        armed = True
        store.put_many(entries(range(number * 100, number * 100 + 100)))
        check(store.get_many([str(n).encode() for n in range(number * 100)][-200:]))
        armed = False
    except KeyboardInterrupt:
        armed = False
        interrupted += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert interrupted > 10
print(len(os.listdir(store._disk.folder)))
store.put_many(entries(range(9_000, 10_000)))
found = store.get_many([str(n).encode() for n in range(9_000, 10_000)])
check(found)
assert len(found) == 1000
"""
    assert int(finished(child(code, tmp_path))) < 100
    assert_whole(tmp_path)
    assert_right(FeatureStore(tmp_path).get_many(keys(range(10_000))))


def test_a_kill_during_writes_loses_at_most_the_last_batch(tmp_path):
    code = """
store = FeatureStore(path)
for start in range(worker * 10**6, 10**9, 200):
    store.put_many(entries(range(start, start + 200)))
    print(start, flush=True)
"""
    writers = [child(code, tmp_path, worker) for worker in range(3)]
    acknowledged = []
    for writer, wanted in zip(writers, (3, 10, 30), strict=True):
        starts = [int(writer.stdout.readline()) for _ in range(wanted)]
        time.sleep(random.Random(wanted).uniform(0, 0.01))
        writer.kill()
        starts += [int(line) for line in writer.communicate()[0].split()]
        acknowledged.append(starts[-1])
    store = FeatureStore(tmp_path)
    for start in acknowledged:
        found = store.get_many(keys(range(start, start + 200)))
        assert len(found) == 200
        assert_right(found)
    store.put_many(entries([-1]))
    assert len(FeatureStore(tmp_path).get_many(keys([-1]))) == 1


def test_four_processes_can_write_at_once(tmp_path):
    code = """
for start in range(0, 400, 20):
    check(store.get_many([str(n).encode() for n in range(400)]))
    store.put_many(entries(range(start, start + 20)))
    store.put_many(entries(range(worker * 10000 + start, worker * 10000 + start + 20)))
assert len(store.get_many([str(n).encode() for n in range(400)])) == 400
"""
    for process in [child(code, tmp_path, worker) for worker in range(1, 5)]:
        finished(process)
    store = FeatureStore(tmp_path)
    numbers = [*range(400), *(w * 10000 + n for w in range(1, 5) for n in range(400))]
    found = store.get_many(keys(numbers))
    assert len(found) == store.info().entries == 2000
    assert_right(found)
    assert_whole(tmp_path)


def test_four_processes_stay_within_the_bound(tmp_path):
    code = """
store = FeatureStore(path, max_bytes=2**20)
for start in range(0, 1000, 20):
    store.put_many(entries(range(worker * 10000 + start, worker * 10000 + start + 20)))
    check(store.get_many([str(n).encode() for n in range(worker * 10000, worker * 10000 + start)]))
"""
    writers = [child(code, tmp_path, worker) for worker in range(4)]
    most = 0
    while any(writer.poll() is None for writer in writers):
        try:
            before, now = sizes(tmp_path), sizes(tmp_path)
        except FileNotFoundError:
            continue  # a file was removed after the listing
        # A file that is removed while the sizes of others are read would be counted beside the
        # files that took its place: only what stays the same for two readings was there at once.
        if before == now:
            most = max(most, sum(now.values()))
    for writer in writers:
        finished(writer)
    assert 2**19 < most <= 2**20 + 4 * 2**16  # each process can exceed the limit by a segment


def test_clear_by_one_process_while_others_read_and_write(tmp_path):
    code = """
print("ready", flush=True)
stop = time.monotonic() + 1.5
while time.monotonic() < stop:
    start = random.randrange(0, 1000, 20)
    store.put_many(entries(range(start, start + 20)))
    check(store.get_many([str(n).encode() for n in range(1000)]))
store.put_many(entries([worker * 10000]))
assert len(store.get_many([str(worker * 10000).encode()])) == 1
"""
    others = [child(code, tmp_path, worker) for worker in (1, 2)]
    for other in others:
        other.stdout.readline()
    store = FeatureStore(tmp_path)
    while any(other.poll() is None for other in others):
        store.clear()
        time.sleep(0.01)
    for other in others:
        finished(other)
    store.clear()
    assert segment_files(tmp_path) == []
    assert store.info() == (0, 0, 0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_read_and_write(tmp_path):
    code = """
import threading
store.put_many(entries(range(100)))
memory = FeatureStore()
held = threading.Event()

def hold():
    with store._lock, memory._lock:
        held.set()
        time.sleep(0.5)

threading.Thread(target=hold).start()
held.wait()
pid = os.fork()
mine = 1000 if pid else 2000
for number in range(50):
    found = store.get_many([str(n).encode() for n in random.sample(range(100), 100)])
    check(found)
    assert len(found) == 100
    store.put_many(entries([mine + number]))
memory.put_many(entries([1]))
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    found = store.get_many([str(n + k).encode() for n in range(50) for k in (1000, 2000)])
    check(found)
    assert len(found) == 100
else:
    os._exit(0)
"""
    process = child("import warnings\nwarnings.simplefilter('ignore')\n" + code, tmp_path)
    finished(process)
    assert_whole(tmp_path)
    assert len(segment_files(tmp_path)) == 2


def test_a_stopped_process_does_not_block_others(tmp_path):
    code = """
import signal
store.put_many(entries(range(10)))
print("written", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""
    if not hasattr(signal, "SIGSTOP"):
        pytest.skip("no SIGSTOP on this system")
    stopped = child(code, tmp_path)
    stopped.stdout.readline()
    done = threading.Event()

    def work():
        store = FeatureStore(tmp_path)
        store.put_many(entries(range(10, 20)))
        assert len(store.get_many(keys(range(20)))) == 20
        store.clear()
        done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        assert done.wait(30)
    finally:
        stopped.kill()
        stopped.communicate()
