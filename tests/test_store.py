"""The feature store: bounded, shared, least recently used out."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from transferclf.features import FeatureStore, shared_store


def vector(value, size=10):
    return np.full(size, value, np.float32)


def test_what_was_put_comes_back():
    store = FeatureStore()
    store.put_many({b"a": vector(1), b"b": vector(2)})
    found = store.get_many([b"b", b"c", b"a", b"b"])
    assert sorted(found) == [b"a", b"b"]
    np.testing.assert_array_equal(found[b"b"], vector(2))
    assert store.info() == (2, 80, 2, 1)


def test_it_keeps_a_copy_that_nobody_can_change():
    store = FeatureStore()
    mine = vector(1)
    store.put_many({b"a": mine})
    mine[:] = 9
    found = store.get_many([b"a"])[b"a"]
    assert found[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 5


def test_the_least_recently_used_goes_first():
    store = FeatureStore(max_bytes=3 * 40)
    for name in (b"a", b"b", b"c"):
        store.put_many({name: vector(0)})
    store.get_many([b"a"])
    store.put_many({b"d": vector(0)})
    assert sorted(store.get_many([b"a", b"b", b"c", b"d"])) == [b"a", b"c", b"d"]
    assert store.info().nbytes == 120


def test_what_is_larger_than_the_store_is_not_kept():
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
