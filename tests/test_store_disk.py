"""Tests of the store on disk: shared by stores and runs, limited in size, never half-written."""

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from counting import counted_calls
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import SIZE, assert_right, assert_whole, entries, keys, segment_files, taken

from transferclf.exceptions import TransferclfWarning
from transferclf.features import FeatureStore, disk


def test_the_next_store_on_a_path_has_all_rows(tmp_path):
    FeatureStore(tmp_path).put_many(entries(range(100)))
    store = FeatureStore(tmp_path)
    found = store.get_many(keys(range(110)))
    assert len(found) == 100
    assert_right(found)
    info = store.info()
    assert (info.entries, info.hits, info.misses) == (100, 100, 10)
    assert info.nbytes == taken(tmp_path) >= 100 * SIZE * 4


def test_stores_see_rows_of_other_stores(tmp_path):
    one, two = FeatureStore(tmp_path), FeatureStore(tmp_path)
    for number in range(5):
        one.put_many(entries([number]))
        assert len(two.get_many(keys([number]))) == 1
        two.put_many(entries([number + 100]))
        assert len(one.get_many(keys([number + 100]))) == 1
    assert len(segment_files(tmp_path)) == 2


def test_files_are_made_by_the_first_put(tmp_path):
    store = FeatureStore(tmp_path / "a" / "b")
    assert store.get_many([b"x"]) == {}
    assert store.info() == (0, 0, 0, 1)
    store.clear()
    assert list(tmp_path.iterdir()) == []
    store.put_many(entries([1]))
    assert len(store.get_many(keys([1]))) == 1


def test_two_dtypes_on_one_path_do_not_share_rows(tmp_path):
    exact, half = FeatureStore(tmp_path), FeatureStore(tmp_path, dtype="float16")
    third, large = np.full(4, 1 / 3, np.float32), np.float32([1 / 3, 1e6])
    half.put_many({b"a": third, b"b": large})
    assert exact.get_many([b"a", b"b"]) == {}
    exact.put_many({b"a": third})
    np.testing.assert_array_equal(exact.get_many([b"a"])[b"a"], third)
    found = FeatureStore(tmp_path, dtype="float16").get_many([b"a", b"b"])
    np.testing.assert_array_equal(found[b"a"], half.rounded(third[None])[0])
    np.testing.assert_array_equal(found[b"b"], large)


def test_files_of_another_format_are_kept(tmp_path, monkeypatch):
    FeatureStore(tmp_path).put_many(entries([1]))
    monkeypatch.setattr(disk, "_FOLDER", "transferclf-features-99")
    newer = FeatureStore(tmp_path)
    assert newer.get_many(keys([1])) == {}
    newer.put_many(entries([2]))
    newer.clear()
    monkeypatch.undo()
    assert_right(FeatureStore(tmp_path).get_many(keys([1])))
    assert len(segment_files(tmp_path)) == 1


@settings(deadline=None, max_examples=25)
@given(
    max_bytes=st.integers(1, 300_000),
    batches=st.lists(st.lists(st.integers(1, 20_000), max_size=8), max_size=8),
)
def test_the_files_never_take_more_than_they_may(tmp_path_factory, max_bytes, batches):
    path = tmp_path_factory.mktemp("bounded")
    store = FeatureStore(path, max_bytes=max_bytes)
    for number, sizes in enumerate(batches):
        new = {f"{number} {i}".encode(): np.full(n, i, np.float32) for i, n in enumerate(sizes)}
        store.put_many(new)
        assert taken(path) <= max_bytes
        for key, activation in store.get_many(list(new)).items():
            np.testing.assert_array_equal(activation, new[key])
    assert store.info().nbytes == taken(path)


def test_a_full_store_is_nearly_full_and_has_the_newest_rows(tmp_path):
    store = FeatureStore(tmp_path, max_bytes=2**21)
    for start in range(0, 1000, 10):
        store.put_many(entries(range(start, start + 10)))
    assert store.info().nbytes > 0.85 * 2**21
    assert len(store.get_many(keys(range(900, 1000)))) == 100


def test_rows_in_use_are_kept(tmp_path):
    store = FeatureStore(tmp_path, max_bytes=2**21)
    store.put_many(entries(range(20)))
    for start in range(20, 1000, 10):
        for file in segment_files(tmp_path):  # all files were last used long ago
            os.utime(file, (time.time() - 100 + start / 100,) * 2)
        reader = FeatureStore(tmp_path, max_bytes=2**21)
        assert len(reader.get_many(keys(range(10)))) == 10
        store.put_many(entries(range(start, start + 10)))
    assert len(store.get_many(keys(range(30, 500)))) == 0


def test_rows_larger_than_the_store_are_not_kept(tmp_path):
    store = FeatureStore(tmp_path, max_bytes=8 * 4096)
    store.put_many({b"small": np.ones(10), b"large": np.ones(9 * 1024)})
    assert sorted(store.get_many([b"small", b"large"])) == [b"small"]


def test_many_short_runs_do_not_leave_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_IDLE", -10.0)
    for number in range(60):
        FeatureStore(tmp_path).put_many(entries([number]))
    assert len(segment_files(tmp_path)) <= 24
    store = FeatureStore(tmp_path)
    found = store.get_many(keys(range(60)))
    assert len(found) == store.info().entries == 60
    assert_right(found)


def test_files_still_in_use_are_not_merged(tmp_path):
    stores = [FeatureStore(tmp_path) for _ in range(12)]
    for number, store in enumerate(stores):
        store.put_many(entries([number]))
    assert len(segment_files(tmp_path)) == 12


def test_the_number_of_open_files_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "_MAX_OPEN", 4)
    for number in range(10):
        FeatureStore(tmp_path).put_many(entries([number]))
    store = FeatureStore(tmp_path)
    for _ in range(3):
        found = store.get_many(keys(range(10)))
        assert len(found) == 10
        assert_right(found)
    assert sum(segment.file is not None for segment in store._disk._segments.values()) <= 4


def test_threads_share_a_store(tmp_path):
    store = FeatureStore(tmp_path, max_bytes=2**22)

    def work(worker):
        for number in range(worker * 1000, worker * 1000 + 50):
            store.put_many(entries([number], 50))
            assert len(store.get_many(keys([number]))) == 1
            assert_right(store.get_many(keys(range(0, 4000, 50))), 50)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert store.info().entries == 200


def test_an_interrupt_in_a_write_leaves_no_half_written_file(tmp_path, monkeypatch):
    class Interrupted:
        def __init__(self, *args, **kwargs):
            self.file = open(*args, **kwargs)  # noqa: SIM115

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, block):
            self.file.write(block[: len(block) // 2])
            raise KeyboardInterrupt

    store = FeatureStore(tmp_path)
    store.put_many(entries(range(5)))
    monkeypatch.setattr(disk, "open", Interrupted, raising=False)
    with pytest.raises(KeyboardInterrupt):
        store.put_many(entries(range(5, 10)))
    monkeypatch.undo()
    assert_whole(tmp_path)
    store.put_many(entries(range(10, 15)))
    assert sorted(FeatureStore(tmp_path).get_many(keys(range(15)))) == sorted(
        keys([*range(5), *range(10, 15)])
    )


def test_reads_and_writes_are_quick(tmp_path):
    """Count calls: a read or a write takes 29 calls, and none opens, lists or looks up a file."""
    store = FeatureStore(tmp_path)
    names = [hashlib.sha256(str(n).encode()).digest() for n in range(1000)]
    rows = np.random.default_rng(0).normal(size=(1000, SIZE)).astype(np.float32)
    with counted_calls() as writing:
        store.put_many(dict(zip(names, rows, strict=True)))
    with counted_calls() as reading:
        for name in names:
            assert len(store.get_many([name])) == 1
    for calls in (writing, reading):
        assert sum(calls.values()) < 1000 * 40
        of_files = ("open", "listdir", "scandir", "stat", "fstat", "fsync", "flush", "utime")
        assert sum(calls[name] for name in of_files) < 30


def test_a_deleted_store_closes_its_files(tmp_path):
    store = FeatureStore(tmp_path)
    store.put_many(entries([1]))
    files = [segment.file for segment in store._disk._segments.values()]
    assert [file.closed for file in files] == [False]
    del store
    assert [file.closed for file in files] == [True]


def test_a_warning_made_an_error_does_not_break_the_store(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    store = FeatureStore(tmp_path / "file")
    with pytest.raises(TransferclfWarning):
        store.put_many(entries([1]))
    assert len(store.get_many(keys([1]))) == 1
