"""Arrays that are not in memory are read in blocks, and give what the array in memory gives."""

import pickle
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_val_score, train_test_split
from sklearn.utils import _safe_indexing

from transferclf import CNNFeatureExtractor, FeatureStore, TransferClassifier
from transferclf.exceptions import ImageError, TransferclfWarning
from transferclf.images import check_images, lazy_arrays
from transferclf.images.loading import content_digests

N, SHAPE = 40, (12, 10, 3)


def images(dtype=np.uint8, shape=SHAPE):
    return np.random.default_rng(0).integers(0, 256, (N, *shape)).astype(dtype)


class Counted:
    """An array with chunks that counts what is read of it; it has no buffer in memory."""

    def __init__(self, array, chunks=(4,)):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, chunks
        self.reads = []

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        self.reads.append(key)
        return self.array[key]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")

    @property
    def largest(self):
        return max(key.stop - key.start for key in self.reads)


@pytest.fixture(params=["memmap", "view of memmap", "h5py", "zarr", "dask", "tensorstore"])
def on_disk(request, tmp_path):
    """Return a function that puts an array on disk in one of the kinds."""
    kind = request.param

    def put(array):
        chunks = (7, *array.shape[1:])
        if "memmap" in kind:
            np.save(tmp_path / "images.npy", array)
            mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
            return mapped if kind == "memmap" else np.asarray(mapped)
        if kind == "h5py":
            file = h5py.File(tmp_path / "images.h5", "w")
            request.addfinalizer(file.close)
            return file.create_dataset("images", data=array, chunks=chunks)
        if kind == "dask":
            return pytest.importorskip("dask.array").from_array(array, chunks=chunks)
        zarr = pytest.importorskip("zarr")
        path = str(tmp_path / "images.zarr")
        stored = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=chunks)
        stored[:] = array
        if kind == "zarr":
            return stored
        tensorstore = pytest.importorskip("tensorstore")
        place = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
        return tensorstore.open(place).result()

    return put


@pytest.mark.parametrize(
    ("dtype", "shape"), [(np.uint8, SHAPE), (">f4", SHAPE), (np.uint16, (12, 10)), (bool, (8, 8))]
)
def test_content_and_range_are_those_of_the_array_in_memory(on_disk, dtype, shape):
    expected = images(dtype, shape)
    source = check_images(on_disk(expected))
    assert source.is_lazy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferclfWarning)  # 16 bits that look dark
        assert source.decided_range() == check_images(expected).decided_range()
    order = np.random.default_rng(1).permutation(N)[:30]
    digests = content_digests(check_images(expected[order]))
    assert content_digests(source[order]) == digests
    assert content_digests(pickle.loads(pickle.dumps(source[order]))) == digests
    assert (
        source[order].load(3, (6, 6)).tolist()
        == check_images(expected).load(order[3], (6, 6)).tolist()
    )


def test_rows_on_disk_are_images_with_image_shape(on_disk):
    rows = images().reshape(N, -1)
    lazy = on_disk(rows)
    source = check_images(lazy, image_shape=SHAPE)
    assert content_digests(source) == content_digests(check_images(images()))
    with pytest.raises(ImageError, match="rows are images only with image_shape"):
        check_images(lazy)


def test_each_chunk_is_read_once_for_a_look_in_any_order():
    array = Counted(images(), chunks=(8,))
    source = check_images(array)
    assert array.reads == []
    order = np.random.default_rng(0).permutation(N)
    content_digests(source[order])
    starts = [key.start for key in array.reads]
    assert starts == [0]  # all of it is smaller than a block
    array.reads.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_arrays, "BLOCK_BYTES", 1000)  # less than a chunk
        content_digests(check_images(array)[order])
    assert [(key.start, key.stop) for key in array.reads] == [(i, i + 8) for i in range(0, N, 8)]


def test_blocks_are_of_whole_chunks_of_unequal_lengths(monkeypatch):
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 10 * images()[0].nbytes)
    array = Counted(images(), chunks=((2, 5, 4, 20, 9), SHAPE))
    content_digests(check_images(array))
    assert [(key.start, key.stop) for key in array.reads] == [(0, 7), (7, 11), (11, 31), (31, 40)]


def test_values_are_checked_in_blocks_and_faults_are_named(monkeypatch):
    pixels = images(np.float32)
    pixels[[5, 31]] = np.nan
    array = Counted(pixels)
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 4 * pixels[0].nbytes)
    with pytest.raises(ImageError, match="expected finite pixel values") as caught:
        check_images(array)
    assert caught.value.indices == [5, 31]
    assert array.largest == 4


def test_estimators_share_features_with_the_array_in_memory(on_disk):
    X, y = images(shape=(32, 32, 3)), np.arange(N) % 2
    store = FeatureStore()
    classifier = TransferClassifier(l2=0.1, cache=store).fit(X, y)
    n_entries = store.info().entries
    lazy = on_disk(X)
    again = TransferClassifier(l2=0.1, cache=store).fit(lazy, y)
    np.testing.assert_array_equal(again.predict_proba(lazy), classifier.predict_proba(X))
    assert store.info().entries == n_entries


def test_folds_of_a_source_stay_lazy():
    X, y = images(shape=(32, 32, 3)), np.arange(N) % 2
    array = Counted(X)
    source = check_images(array)
    train, test = train_test_split(source, random_state=0)
    assert train.is_lazy
    assert train.items is source.items
    assert (len(train), len(test)) == (30, 10)
    assert len(_safe_indexing(source, np.arange(N) < 7)) == 7
    model = TransferClassifier(l2=0.1, cache=None)
    scores = [cross_val_score(model, images_of, y, cv=KFold(2)) for images_of in (source, X)]
    np.testing.assert_array_equal(*scores)


def test_a_source_is_read_with_the_range_of_fit():
    # On their own, the darker images would be on the scale 0 to 1.
    X = images(np.float32, (32, 32, 3))
    extractor = CNNFeatureExtractor(cache=None).fit(X)
    dark = X[:5] / 256
    with pytest.warns(TransferclfWarning, match="the brightest pixel of X is"):
        expected = extractor.transform(dark)
    with pytest.warns(TransferclfWarning, match="the brightest pixel of X is"):
        np.testing.assert_array_equal(extractor.transform(check_images(dark)), expected)


def test_content_that_changes_is_stored_under_its_own_digest():
    # As of a dataset that is written while it is read, or a random transform.
    first, second = images(shape=(32, 32, 3)), images(shape=(32, 32, 3))[::-1].copy()

    class Changing(Counted):
        def __getitem__(self, key):
            was_read = len(self.reads) > 0
            super().__getitem__(key)
            return (second if was_read else first)[key]

    store = FeatureStore()
    extractor = CNNFeatureExtractor(cache=store).fit(first[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lazy_arrays, "BLOCKS_HELD", 1)
        patch.setattr(lazy_arrays, "BLOCK_BYTES", 20 * first[0].nbytes)
        found = extractor.transform(Changing(first))
    computed = CNNFeatureExtractor(cache=None).fit(first[:1])
    np.testing.assert_array_equal(extractor.transform(first), computed.transform(first))
    np.testing.assert_array_equal(found[20:], computed.transform(second)[20:])


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="shows pages on Linux only")
def test_pages_of_a_mapped_file_are_given_back(tmp_path):
    np.save(tmp_path / "large.npy", np.zeros((2000, 64, 64, 3), np.uint8))
    mapped = np.load(tmp_path / "large.npy", mmap_mode="r")

    def resident():
        with open("/proc/self/smaps") as file:
            text = file.read().partition("large.npy")[2]
        return int(text.partition("Rss:")[2].split()[0]) * 1024

    assert mapped.sum() == 0
    assert resident() > mapped.nbytes / 2
    content_digests(check_images(mapped, pixel_range=(0, 255)))
    assert resident() < mapped.nbytes / 10


def test_changes_in_a_private_mapping_are_not_lost(tmp_path):
    np.save(tmp_path / "images.npy", images())
    private = np.load(tmp_path / "images.npy", mmap_mode="c")
    private[:] = 7
    content_digests(check_images(private))
    assert (private == 7).all()


def test_large_selections_are_pickled_as_the_file(tmp_path, monkeypatch):
    np.save(tmp_path / "images.npy", images())
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    source = check_images(mapped[::-2])[3:]
    monkeypatch.setattr(lazy_arrays, "PICKLED_BYTES", 1000)
    pickled = pickle.dumps(source)
    assert len(pickled) < 2000
    copy = pickle.loads(pickled)
    assert copy.is_lazy
    assert content_digests(copy) == content_digests(source)
    assert copy.places.tolist() == source.places.tolist()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images()[:0], "X is empty"),
        (images(complex), "Complex data not supported"),
        (images()[0], "looks like one image"),
        (images()[..., 0, 0], "rows are images only with image_shape"),
        (np.moveaxis(images(), -1, 1), "with 10 channels; channels come last here"),
        (images(float) - 300, "Negative values in data"),
    ],
)
def test_arrays_that_are_no_images_are_named_without_reading_them_whole(array, message):
    with pytest.raises(ImageError, match=message):
        check_images(Counted(array))


def test_a_dask_array_of_unknown_chunks_is_refused_before_anything_runs():
    class Unknown(Counted):
        def __init__(self):
            super().__init__(images())
            self.shape = (float("nan"), *SHAPE)

    with pytest.raises(ImageError, match=r"X.compute_chunk_sizes\(\)"):
        TransferClassifier().fit(Unknown(), np.zeros(N))
