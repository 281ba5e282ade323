"""Tests of damaged files of a store: they cost time and one warning, but no result and no crash.

All tests run in this process, so a crash would be seen.
"""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_helpers import FOLDER, assert_right, entries, keys, segment_files, warned_by

from transferclf.exceptions import TransferclfWarning
from transferclf.features import FeatureStore, disk, segments

SMALL = 40  # features, so headers and rows both take a good part of the file
COUNT = 30


def written(path):
    """Put known entries in three batches; return their file."""
    store = FeatureStore(path)
    for start in range(0, COUNT, 10):
        store.put_many(entries(range(start, start + 10), SMALL))
    (file,) = segment_files(path)
    return file


def assert_survives(path):
    """Check that found rows are right, and that the next store finds all rows after a new put."""

    def work():
        store = FeatureStore(path)
        for _ in range(2):
            found = store.get_many(keys(range(COUNT)))
            assert_right(found, SMALL)
            missing = [n for n in range(COUNT) if str(n).encode() not in found]
            store.put_many(entries(missing, SMALL))
        again = store.get_many(keys(range(COUNT)))
        assert len(again) == COUNT
        assert_right(again, SMALL)
        store.info()

    _, texts = warned_by(work)
    assert len(texts) <= 1
    found, later = warned_by(lambda: FeatureStore(path).get_many(keys(range(COUNT))))
    assert len(found) == COUNT
    assert_right(found, SMALL)
    assert later == []
    return texts


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return written(tmp_path_factory.mktemp("good")).read_bytes()


def folder_with(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("damaged")
    (path / FOLDER).mkdir()
    (path / FOLDER / "00000000000000000001-a.features").write_bytes(content)
    return path


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_rotted_bytes_anywhere(tmp_path_factory, good, data):
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(good) - 1))
        content[position] ^= data.draw(st.integers(1, 255))
    assert_survives(folder_with(tmp_path_factory, bytes(content)))


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_stretches_that_became_something_else(tmp_path_factory, good, data):
    start = data.draw(st.integers(0, len(good) - 1))
    new = data.draw(st.binary(max_size=300) | st.integers(1, 600).map(bytes))
    content = good[:start] + new + good[start + len(new) :]
    assert_survives(folder_with(tmp_path_factory, content))


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_a_file_cut_off_anywhere(tmp_path_factory, good, data):
    length = data.draw(st.integers(0, len(good)))
    path = folder_with(tmp_path_factory, good[:length])
    assert assert_survives(path) == []


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=200) | st.text(max_size=50).map(str.encode))
def test_a_foreign_file_of_that_name(tmp_path_factory, content):
    assert_survives(folder_with(tmp_path_factory, content))


def test_every_changed_byte_is_detected(tmp_path):
    """Change each byte: checksums cover all of the file, and damaged rows are not returned."""
    store = FeatureStore(tmp_path)
    store.put_many(entries([1, 2], 5))
    store.put_many(entries([3], 5))
    (file,) = segment_files(tmp_path)
    content = file.read_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1
        file.write_bytes(changed)
        reader = FeatureStore(tmp_path)
        found, texts = warned_by(lambda reader=reader: reader.get_many(keys([1, 2, 3])))
        assert_right(found, 5)
        assert len(found) < 3
        assert len(texts) <= 1


def test_one_damaged_entry_alone_is_lost_with_one_warning(tmp_path):
    file = written(tmp_path)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # a byte of the values of the last entry
    file.write_bytes(content)
    store = FeatureStore(tmp_path)
    found, texts = warned_by(lambda: store.get_many(keys(range(COUNT))))
    assert len(found) == COUNT - 1
    assert len(texts) == 1
    assert "an entry is damaged and will be computed again" in texts[0]
    assert "Results are not affected" in texts[0]
    missing = keys(set(range(COUNT)))[-1:]
    assert warned_by(lambda: store.get_many(missing)) == ({}, [])
    assert_survives(tmp_path)


def test_swapped_records_are_not_read(tmp_path):
    """Swap the places of two valid records of one size."""
    rows = entries([1, 2], SMALL)
    digests = {key: segments.key_digest(key, "float32") for key in rows}
    records = {key: segments.record_of(digests[key], row) for key, row in rows.items()}
    block = segments.block_of([(digests[b"1"], records[b"2"]), (digests[b"2"], records[b"1"])])
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "1-a.features").write_bytes(block)
    with pytest.warns(TransferclfWarning, match="damaged"):
        assert FeatureStore(tmp_path).get_many([b"1", b"2"]) == {}


@pytest.mark.parametrize("length", [0, 1, 27, 28, 29, 1000, 3000])
def test_an_open_file_can_be_truncated(tmp_path, length):
    file = written(tmp_path)
    store = FeatureStore(tmp_path)
    assert len(store.get_many(keys(range(COUNT)))) == COUNT
    os.truncate(file, length)

    def work():
        found = store.get_many(keys(range(COUNT)))
        assert len(found) < COUNT
        assert_right(found, SMALL)
        store.put_many(entries(range(COUNT), SMALL))
        return store.get_many(keys(range(COUNT)))

    found, texts = warned_by(work)
    assert len(found) == COUNT
    assert len(texts) <= 1
    assert_survives(tmp_path)


def test_a_file_can_be_removed_and_written_again(tmp_path):
    file = written(tmp_path)
    content = file.read_bytes()
    store = FeatureStore(tmp_path)
    assert len(store.get_many(keys(range(COUNT)))) == COUNT
    file.unlink()
    file.write_bytes(content[: len(content) // 3] * 2)
    assert_right(store.get_many(keys(range(COUNT + 1))), SMALL)
    assert_survives(tmp_path)


def test_a_file_under_the_name_of_the_folder_is_set_aside(tmp_path):
    (tmp_path / FOLDER).write_text("what is this")
    (text,) = assert_survives(tmp_path)
    assert FOLDER in text
    (aside,) = tmp_path.glob("*.aside")
    assert aside.read_text() == "what is this"


def test_nan_and_infinity_are_returned(tmp_path):
    row = np.float32([np.nan, np.inf, -np.inf, -0.0, 1e-45])
    FeatureStore(tmp_path).put_many({b"a": row})
    found = FeatureStore(tmp_path).get_many([b"a"])[b"a"]
    assert found.tobytes() == row.tobytes()


def test_a_file_can_be_replaced_by_another(tmp_path):
    file = written(tmp_path)
    store = FeatureStore(tmp_path)
    store.get_many(keys([1]))
    FeatureStore(tmp_path / "other").put_many(entries(range(100, 200), SMALL))
    os.replace(segment_files(tmp_path / "other")[0], file)
    found, texts = warned_by(lambda: store.get_many(keys(range(100, 201))))
    assert sorted(found) == sorted(keys(range(100, 200)))
    assert_right(found, SMALL)
    assert texts == []


def test_a_file_can_be_removed_right_before_a_write(tmp_path, monkeypatch):
    file = written(tmp_path)
    store = FeatureStore(tmp_path)
    store.put_many(entries([1], SMALL))
    own = next(other for other in segment_files(tmp_path) if other != file)
    monkeypatch.setattr(disk.DiskEntries, "_make_room", lambda self, nbytes: own.unlink())
    store.put_many(entries([2, 3], SMALL))
    monkeypatch.undo()
    assert len(store.get_many(keys([2, 3]))) == 2
    assert_survives(tmp_path)


def test_the_next_store_finds_the_replacement_of_a_damaged_entry(tmp_path):
    early, late = FeatureStore(tmp_path), FeatureStore(tmp_path)
    early.put_many(entries([0], SMALL))
    late.put_many(entries([1], SMALL))
    file = segment_files(tmp_path)[-1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.warns(TransferclfWarning, match="damaged"):
        assert early.get_many(keys([1])) == {}
    early.put_many(entries([1], SMALL))
    assert len(FeatureStore(tmp_path).get_many(keys([0, 1]))) == 2
