"""Tests of the feature store in memory and on disk, and of the parameter cache."""

import copy
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transferclf.exceptions import InvalidParameterError
from transferclf.features import FeatureStore, shared_store, store_for

floats = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(width=32),
)


def vector(value, size=10):
    return np.full(size, value, np.float32)


def test_stored_rows_are_returned():
    store = FeatureStore()
    store.put_many({b"a": vector(1), b"b": vector(2)})
    found = store.get_many([b"b", b"c", b"a", b"b"])
    assert sorted(found) == [b"a", b"b"]
    np.testing.assert_array_equal(found[b"b"], vector(2))
    assert store.info() == (2, 80, 2, 1)


def test_it_keeps_a_read_only_copy():
    store = FeatureStore()
    mine = vector(1)
    store.put_many({b"a": mine})
    mine[:] = 9
    found = store.get_many([b"a"])[b"a"]
    assert found[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5


def test_the_least_recently_used_row_is_removed_first():
    store = FeatureStore(max_bytes=3 * 40)
    for name in (b"a", b"b", b"c"):
        store.put_many({name: vector(0)})
    store.get_many([b"a"])
    store.put_many({b"d": vector(0)})
    assert sorted(store.get_many([b"a", b"b", b"c", b"d"])) == [b"a", b"c", b"d"]
    assert store.info().nbytes == 120


def test_rows_larger_than_the_store_are_not_kept():
    store = FeatureStore(max_bytes=100)
    store.put_many({b"small": vector(0)})
    store.put_many({b"large": vector(0, 1000)})
    assert sorted(store.get_many([b"small", b"large"])) == [b"small"]


def test_putting_again_replaces_and_does_not_count_twice():
    store = FeatureStore()
    store.put_many({b"a": vector(1)})
    store.put_many({b"a": vector(2, 20)})
    assert store.info()[:2] == (1, 80)
    assert store.get_many([b"a"])[b"a"][0] == 2


def test_clear_forgets_everything():
    store = FeatureStore()
    store.put_many({b"a": vector(1)})
    store.get_many([b"a"])
    store.clear()
    assert store.info() == (0, 0, 0, 0)


def test_threads_do_not_lose_count():
    store = FeatureStore(max_bytes=50 * 40)

    def work(worker):
        for number in range(200):
            key = f"{worker} {number}".encode()
            store.put_many({key: vector(number)})
            store.get_many([key])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    info = store.info()
    assert (info.entries, info.nbytes) == (50, 50 * 40)
    assert info.hits + info.misses == 8 * 200


def test_there_is_one_shared_store():
    assert shared_store() is shared_store()


@pytest.fixture(params=["memory", "disk"])
def store_of(request, tmp_path):
    """Return a function that makes a store in memory or on disk."""
    path = None if request.param == "memory" else tmp_path / "store"
    return lambda **settings: FeatureStore(path, **settings)


@pytest.mark.parametrize("shape", [(), (0,), (7,), (2, 3), (1, 2, 3, 4)])
def test_shapes_are_kept(store_of, shape):
    store = store_of()
    activation = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    store.put_many({b"a": activation})
    found = store.get_many([b"a"])[b"a"]
    assert found.shape == shape
    assert found.dtype == np.float32
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, activation)


def test_strided_and_other_dtypes_come_back_as_float32(store_of):
    store = store_of()
    values = np.arange(12.0).reshape(3, 4)
    store.put_many({b"a": values.T, b"b": values[::2].astype(">f4")})
    found = store.get_many([b"a", b"b"])
    np.testing.assert_array_equal(found[b"a"], values.T)
    np.testing.assert_array_equal(found[b"b"], values[::2])
    assert {kept.dtype for kept in found.values()} == {np.dtype(np.float32)}


def test_putting_again_replaces(store_of):
    store = store_of()
    store.put_many({b"a": vector(1)})
    store.put_many({b"a": vector(2, 20)})
    np.testing.assert_array_equal(store.get_many([b"a"])[b"a"], vector(2, 20))
    assert store.info().entries == 1


def test_hits_and_misses_count_distinct_keys(store_of):
    store = store_of()
    store.put_many({b"a": vector(1)})
    store.get_many([b"a", b"a", b"b"])
    assert store.info()[2:] == (1, 1)
    store.clear()
    assert store.info() == (0, 0, 0, 0)


@given(rows=floats)
def test_float32_is_exact_and_rounding_changes_nothing(rows):
    np.testing.assert_array_equal(FeatureStore().rounded(rows), rows)


@given(rows=floats)
def test_a_result_does_not_depend_on_whether_it_was_stored(rows):
    store = FeatureStore(dtype="float16")
    store.put_many({bytes([index]): row for index, row in enumerate(rows)})
    found = store.get_many([bytes([index]) for index in range(len(rows))])
    rounded = store.rounded(rows)
    assert rounded.dtype == np.float32
    for index, row in enumerate(rounded):
        np.testing.assert_array_equal(found[bytes([index])], row)
        assert found[bytes([index])].dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(rounded), np.isfinite(rows))


def test_float16_rounds_rows_that_it_can_hold(store_of):
    store = store_of(dtype="float16")
    small, large = np.float32([1 / 3, 60000]), np.float32([1 / 3, 70000])
    store.put_many({b"small": small, b"large": large})
    found = store.get_many([b"small", b"large"])
    np.testing.assert_array_equal(found[b"small"], small.astype(np.float16).astype(np.float32))
    assert found[b"small"][0] != small[0]
    np.testing.assert_array_equal(found[b"large"], large)


def test_float16_takes_half_the_room():
    store = FeatureStore(dtype="float16")
    store.put_many({b"a": vector(1, 100)})
    assert store.info().nbytes == 200


def test_a_copy_of_a_store_is_the_same_store(store_of):
    store = store_of()
    assert copy.copy(store) is store
    assert copy.deepcopy({"cache": store})["cache"] is store


def test_a_memory_store_is_pickled_empty():
    store = FeatureStore(max_bytes=1000, dtype="float16")
    store.put_many({b"a": vector(1)})
    restored = pickle.loads(pickle.dumps(store))
    assert (restored.path, restored.max_bytes, restored.dtype) == (None, 1000, "float16")
    assert restored.info() == (0, 0, 0, 0)


def test_a_disk_store_is_pickled_as_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = FeatureStore("features", max_bytes=10**6, dtype="float16")
    store.put_many({b"a": vector(1)})
    pickled = pickle.dumps(store)
    monkeypatch.chdir("/")
    restored = pickle.loads(pickled)
    assert sorted(restored.get_many([b"a"])) == [b"a"]
    assert (restored.max_bytes, restored.dtype) == (10**6, "float16")
    assert pickle.loads(pickled) is restored


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_bytes": 0}, "expected max_bytes to be an integer above 0 or None, got 0"),
        ({"max_bytes": -1}, "got -1"),
        ({"max_bytes": 1e9}, "got 1000000000.0"),
        ({"max_bytes": True}, "got True"),
        ({"dtype": "float64"}, "expected dtype to be one of 'float32', 'float16', got 'float64'"),
        ({"dtype": None}, "got None"),
        ({"path": 3}, "expected path to be the name of a folder or None, got 3"),
        ({"path": ""}, "got ''"),
        ({"path": "a\0b"}, "got 'a"),
    ],
)
def test_wrong_parameters(settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        FeatureStore(**settings)


def test_defaults(tmp_path):
    assert (FeatureStore().max_bytes, FeatureStore(tmp_path).max_bytes) == (2**30, 2**32)
    assert FeatureStore(max_bytes=np.int64(5)).max_bytes == 5
    assert FeatureStore().path is None
    assert FeatureStore(tmp_path / "s").path == str(tmp_path / "s")
    assert FeatureStore("~/s").path == os.path.expanduser("~/s")
    assert repr(FeatureStore()) == "FeatureStore(None, max_bytes=1073741824, dtype='float32')"


def test_store_for_gives_the_store_of_each_cache(tmp_path, monkeypatch):
    mine = FeatureStore()
    assert store_for(mine) is mine
    assert store_for(None) is None
    assert store_for("memory") is shared_store()
    monkeypatch.chdir(tmp_path)
    store = store_for("features")
    assert store.path == "features"
    assert store_for(tmp_path / "features") is store
    assert store_for(f"{tmp_path}/./other/../features") is store
    assert store_for(tmp_path / "other") is not store


@pytest.mark.parametrize("cache", [3, True, ["memory"], "", object()])
def test_other_values_of_cache_raise_an_error(cache):
    with pytest.raises(InvalidParameterError, match='expected cache to be "memory", a folder, a'):
        store_for(cache)


def test_a_store_needs_no_heavy_library(tmp_path):
    code = (
        "import sys; from transferclf.features import store_for; import numpy as np\n"
        f"store = store_for({str(tmp_path)!r}); store.put_many({{b'a': np.ones(3)}})\n"
        "assert b'a' in store.get_many([b'a'])\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
