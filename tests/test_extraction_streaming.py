"""Extraction as a stream: bounded memory, no threads for few images, rows of one shape only."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from extraction_helpers import extract
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transferclf.exceptions import NetworkError, TransferclfWarning
from transferclf.features import FeatureStore
from transferclf.features.extraction import CHUNK
from transferclf.features.work import activation_keys
from transferclf.images import check_images, loading
from transferclf.images.geometry import Sampling
from transferclf.images.loading import looks_at


class Network:
    """Stand-in for a prefix: `width` numbers that differ between images."""

    sampling = Sampling()

    def __init__(self, width=3, size=(4, 4)):
        self.digest, self.width, self.size, self.is_cut = "network", width, size, False
        self.seen = 0

    def forward(self):
        return self

    def __call__(self, images):
        self.seen += len(images)
        pixels = images.reshape(len(images), np.prod(images.shape[1:]))
        one = pixels @ np.linspace(0, 0.5, pixels.shape[1], dtype=np.float32)
        return (one[:, None] + np.arange(self.width, dtype=np.float32)).astype(np.float32)


def pictures(numbers):
    """Return one picture for each number; equal numbers give equal pictures."""
    numbers = np.asarray(numbers, np.uint16)
    bits = np.unpackbits(numbers.view(np.uint8).reshape(len(numbers), 2), axis=1)
    return np.repeat(bits.reshape(-1, 4, 4, 1), 3, axis=-1) * np.uint8(200)


def expected(network, X):
    return Network(network.width)(X.astype(np.float32))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=150), st.sets(st.integers(0, 60)))
@settings(max_examples=40, deadline=None)
def test_each_image_without_stored_features_is_computed_once(numbers, stored):
    X, network, store = pictures(numbers), Network(), FeatureStore()
    if stored:
        extract(check_images(pictures(sorted(stored))), Network(), store)
    result = extract(check_images(X), network, store)
    np.testing.assert_allclose(result, expected(network, X), rtol=1e-6)
    assert network.seen == len(set(numbers) - stored)
    assert store.info().entries == len(set(numbers) | stored)


@pytest.mark.parametrize("use_store", [False, True])
def test_images_repeated_in_another_chunk_are_computed_once(use_store):
    numbers = np.arange(3 * CHUNK) % (2 * CHUNK)
    X, network = pictures(numbers), Network()
    store = FeatureStore() if use_store else None
    for _ in range(2):
        result = extract(check_images(X), network, store)
        np.testing.assert_allclose(result, expected(network, X), rtol=1e-6)
    assert network.seen == (2 if use_store else 4) * CHUNK


def test_keys_are_looked_up_in_chunks(monkeypatch):
    store, asked = FeatureStore(), []
    get_many = store.get_many
    monkeypatch.setattr(store, "get_many", lambda keys: asked.append(len(keys)) or get_many(keys))
    X = pictures(np.arange(3000))
    extract(check_images(X), Network(), store)
    assert sum(asked) == 3000
    asked.clear()
    extract(check_images(X), Network(), store)
    assert sum(asked) == 3000
    assert max(asked) == CHUNK


def test_wide_rows_are_looked_up_few_at_a_time(monkeypatch):
    store, asked = FeatureStore(), []
    get_many = store.get_many
    monkeypatch.setattr(store, "get_many", lambda keys: asked.append(len(keys)) or get_many(keys))
    X = check_images(pictures(np.arange(200)))
    extract(X, Network(width=2**18), store)  # 1 MiB a row
    asked.clear()
    extract(X, Network(width=2**18), store)
    assert sum(asked) == 200
    assert max(asked) <= 32


@pytest.mark.parametrize("use_store", [False, True])
def test_memory_beyond_the_result_does_not_grow_with_the_rows(use_store):
    X, width = pictures(np.arange(4000)), 4096
    # The store has almost no room, so its content does not count.
    store = FeatureStore(max_bytes=2**20) if use_store else None
    source = check_images(X)
    tracemalloc.start()
    try:
        result = extract(source, Network(width), store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.nbytes > 60e6
    assert peak - result.nbytes < 10e6


class TestFewImages:
    """Few images are loaded without threads, because starting threads would take longer."""

    @pytest.fixture
    def no_threads(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise AssertionError("started threads")

        monkeypatch.setattr(loading, "ThreadPoolExecutor", refuse)

    @pytest.mark.parametrize("count", [1, 4])
    def test_few_arrays_start_no_threads(self, no_threads, count):
        X = pictures(np.arange(count))
        extract(check_images(X), Network(), FeatureStore())

    @pytest.mark.parametrize("count", [1, 4])
    def test_few_files_start_no_threads(self, no_threads, count, tmp_path):
        paths = [tmp_path / f"{number}.png" for number in range(count)]
        for path, pixels in zip(paths, pictures(np.arange(count)), strict=True):
            Image.fromarray(pixels).save(path)
        result = extract(check_images(paths), Network(), None)
        np.testing.assert_allclose(result, expected(Network(), pictures(np.arange(count))))

    def test_digests_of_small_arrays_start_no_threads(self, no_threads):
        source = check_images(pictures(np.arange(500)))
        assert len(set(activation_keys(looks_at(source), Network(), "crop"))) == 500

    def test_many_files_start_threads(self, no_threads, tmp_path):
        Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
        with pytest.raises(AssertionError, match="started threads"):
            extract(check_images([tmp_path / "a.png"] * 5), Network(), None)

    def test_no_images_give_an_empty_result(self):
        assert extract(check_images(pictures([1]))[:0], Network(), FeatureStore()).shape == (0, 3)


class TestRowsOfOtherShapes:
    """Rows of two widths are never mixed, whatever rows the store holds."""

    X = pictures(np.arange(70))

    @pytest.fixture
    def keys(self):
        return list(activation_keys(looks_at(check_images(self.X)), Network(), "crop"))

    @pytest.mark.parametrize("shape", [(4,), (1,), (), (1, 3), (0,)])
    @pytest.mark.parametrize("position", [0, 40])
    def test_one_stored_row_of_another_shape_is_computed_again(self, keys, shape, position):
        store, network = FeatureStore(), Network()
        extract(check_images(self.X), Network(), store)
        store.put_many({keys[position]: np.zeros(shape, np.float32)})
        with pytest.warns(TransferclfWarning, match="stored activations are not used: expected"):
            result = extract(check_images(self.X), network, store)
        np.testing.assert_allclose(result, expected(network, self.X), rtol=1e-6)
        np.testing.assert_array_equal(extract(check_images(self.X), Network(), store), result)

    @pytest.mark.parametrize("shape", [(4,), (1,)])
    def test_stored_rows_of_another_shape_are_not_mixed_with_computed_rows(self, keys, shape):
        store = FeatureStore()
        store.put_many({key: np.zeros(shape, np.float32) for key in keys[:50]})
        with pytest.warns(TransferclfWarning, match="not used"):
            result = extract(check_images(self.X), Network(), store)
        np.testing.assert_allclose(result, expected(Network(), self.X), rtol=1e-6)

    @pytest.mark.parametrize("store", [None, FeatureStore()])
    @pytest.mark.filterwarnings("ignore:stored activations are not used")
    def test_a_network_with_output_of_changing_shape_is_an_error(self, store):
        class Fickle(Network):
            def __call__(self, images):
                self.width += 1
                return super().__call__(images)

        with pytest.raises(NetworkError, match=r"expected rows of shape \(\d,\) .* got \(\d,\)"):
            extract(check_images(self.X), Fickle(), store)


def test_a_store_that_rounds_gives_the_same_rows_cold_and_warm():
    X, store = pictures(np.arange(100)), FeatureStore(dtype="float16")
    cold = extract(check_images(X), Network(), store)
    warm = extract(check_images(X), Network(), store)
    np.testing.assert_array_equal(cold, warm)
    exact = expected(Network(), X)
    assert not np.array_equal(cold, exact)
    np.testing.assert_allclose(cold, exact, rtol=1e-3)


def test_an_interruption_keeps_computed_features_and_ends_the_line(capsys):
    class Interrupted(Network):
        def __call__(self, images):
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(images)

    store = FeatureStore()
    with pytest.raises(KeyboardInterrupt):
        extract(check_images(pictures(np.arange(200))), Interrupted(), store, verbose=1)
    shown = capsys.readouterr().out
    assert "32/200" in shown
    assert shown.endswith("\n")
    assert store.info().entries == 32


WARM = """
import sys
import numpy as np
from transferclf.features import FeatureStore
from transferclf.features.extraction import Extractor
from transferclf.images import check_images
from transferclf.features.choosing import choose_prefix

prefix = choose_prefix(
    "tiny", weights="pretrained", image_size=32, preprocessing="auto", pooling="avg", layers=(),
    seed=0,
)
source = check_images(np.arange(40 * 48, dtype=np.uint8).reshape(40, 4, 4, 3))
store = FeatureStore()
from transferclf.features.work import activation_keys
from transferclf.images.loading import looks_at
keys = activation_keys(looks_at(source), prefix, "crop")
store.put_many({key: np.ones(5, np.float32) for key in keys})
assert Extractor(store, "crop", verbose=1).rows(source, prefix).shape == (40, 5)
assert not {"keras", "tensorflow", "sklearn"} & set(sys.modules)
"""


def test_a_warm_store_shows_progress_without_keras():
    done = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
