"""on_error="skip" with images that are read when they are needed, features in files, and warm."""

import pickle
import warnings

import numpy as np
import pytest
from image_helpers import striped_images
from joblib import parallel_config
from PIL import Image
from sklearn.model_selection import cross_val_score

from transferclf import (
    CNNFeatureExtractor,
    FeatureStore,
    TransferClassifier,
    load_image_dataset,
    warm,
)
from transferclf.exceptions import ImageError, ImageReadError, TransferclfWarning
from transferclf.features import output as output_module
from transferclf.features import parallel, work
from transferclf.images import check_images, lazy_arrays
from transferclf.images.inputs import look_over
from transferclf.images.loading import content_digests

N = 24
IMAGES = striped_images(N, np.random.default_rng(5))
LABELS = np.arange(N) % 3
STORE = FeatureStore()
BAD = [0, 7, 20]
SOUND = np.setdiff1d(np.arange(N), BAD)


def classifier(**parameters):
    parameters = {"image_size": 32, "l2": 0.1, "cache": STORE, "on_error": "skip"} | parameters
    return TransferClassifier(**parameters)


def extractor(**parameters):
    return CNNFeatureExtractor(
        **{"image_size": 32, "cache": STORE, "on_error": "skip"} | parameters
    )


class OnDisk:
    """An array that is not in memory."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, (5,)

    def __len__(self):
        return len(self.array)

    def __getitem__(self, key):
        return self.array[key]

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("read as a whole")


class Pairs:
    """A dataset of pairs that cannot read some of its images, as of files that are damaged."""

    def __init__(self):
        self.bad = dict.fromkeys(BAD)

    def __len__(self):
        return N

    def __getitem__(self, number):
        if number in self.bad:
            if number % 2:
                return "no image", 0
            raise OSError("image file is truncated")
        return IMAGES[number], int(LABELS[number])


def dataset():
    return load_image_dataset(Pairs(), target=LABELS).data


@pytest.fixture
def files(tmp_path):
    """Return paths, of which some are damaged after their headers."""
    paths = [str(tmp_path / f"{number}.png") for number in range(N)]
    for number, image in enumerate(IMAGES):
        Image.fromarray(image).save(paths[number])
    for number in BAD:
        with open(paths[number], "r+b") as file:
            file.truncate(600)
    return paths


def warned(function, *arguments):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments)
    (text,) = [str(each.message) for each in caught if each.category is TransferclfWarning]
    return result, text


def floats(bad=BAD):
    X = IMAGES.astype(np.float32)
    X[bad] = np.nan
    return X


@pytest.mark.parametrize("make", [lambda: OnDisk(floats()), lambda: dataset()])
def test_a_fit_and_its_results_are_those_of_the_other_images(make):
    X, alone = make(), classifier(on_error="raise")
    alone.fit(IMAGES[SOUND] if not isinstance(X, OnDisk) else floats()[SOUND], LABELS[SOUND])
    fitted, text = warned(classifier().fit, X, LABELS)
    assert text.startswith("3 of 24 images of X are left out:")
    np.testing.assert_array_equal(fitted.skipped_indices_, BAD)
    assert fitted.pixel_range_ == alone.pixel_range_
    told, text = warned(fitted.predict_proba, X)
    assert text.startswith("3 of 24 images cannot be used, and get NaN:")
    assert np.isnan(told[BAD]).all()
    np.testing.assert_array_equal(told[SOUND], alone.predict_proba(IMAGES[SOUND]))
    score, _ = warned(fitted.score, X, LABELS)
    assert score == alone.score(IMAGES[SOUND], LABELS[SOUND])
    with pytest.raises(ImageError, match="3 of 24 images cannot be used") as caught:
        fitted.predict(X)
    assert caught.value.indices == BAD


def test_without_skipping_all_images_at_fault_are_named():
    with pytest.raises(ImageError, match="the dataset cannot read it: image file is") as caught:
        classifier(on_error="raise").fit(dataset(), LABELS)
    assert caught.value.indices == BAD
    with pytest.raises(ImageReadError, match="element 0: .* With its labels as target, it is not"):
        load_image_dataset(Pairs())


def test_without_any_image_fit_fails():
    none = dataset()
    none.items.dataset.bad = dict.fromkeys(range(N))
    for X in (none, OnDisk(floats(range(N)))):
        with pytest.raises(ImageError, match="24 of 24 images cannot be used"):
            classifier().fit(X, LABELS)


def test_arrays_on_disk_stay_there(monkeypatch):
    monkeypatch.setattr(lazy_arrays, "BLOCK_BYTES", 1)
    source = look_over(OnDisk(floats()))
    assert source[source.sound()].items is source.items
    np.testing.assert_array_equal(source.sound(), SOUND)
    expected = content_digests(check_images(floats()[SOUND]))
    assert content_digests(source[source.sound()]) == expected


def test_a_dataset_that_is_repaired_is_used_again():
    X = dataset()
    fitted, _ = warned(classifier().fit, X, LABELS)
    X.items.dataset.bad.clear()
    assert X.faults is None
    assert fitted.fit(X, LABELS).skipped_indices_.size == 0
    assert np.isfinite(fitted.predict_proba(X)).all()


@pytest.mark.parametrize("make", [lambda paths: dataset(), lambda paths: check_images(paths)])
def test_positions_are_those_in_the_slice_that_was_passed(make, files):
    part, y = make(files)[5:22], LABELS[5:22]
    fitted, text = warned(classifier().fit, part, y)
    assert fitted.skipped_indices_.tolist() == [2, 15]
    assert " 15" in text
    np.testing.assert_array_equal(fitted.sample_indices_, np.delete(np.arange(17), [2, 15]))
    for model in (fitted, classifier(on_error="raise")):
        with pytest.raises(ImageError) as caught:
            (model.predict if model is fitted else model.fit)(*[part, y][: 2 - (model is fitted)])
        assert caught.value.indices == [2, 15]


@pytest.mark.parametrize(
    "make", [lambda paths: dataset(), lambda paths: floats(), lambda paths: [*paths[:-1], None]]
)
def test_pickles_of_slices_keep_what_is_known(make, files):
    source = look_over(make(files))
    source.note({7: ImageError("found to be damaged")})
    part = source[[3, 7, 23, 20]]
    copy = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(copy.sound(), part.sound())
    assert [problem.position for problem in copy.problems()] == part.places[
        np.setdiff1d(range(4), part.sound())
    ].tolist()
    assert copy.places.tolist() == [3, 7, 23, 20]
    np.testing.assert_array_equal(copy.load(0), source.load(3))


def test_folds_of_a_dataset_have_images_at_fault():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferclfWarning)
        scores = cross_val_score(classifier(), dataset(), LABELS, cv=2)
    assert np.isfinite(scores).all()


# --- features in files


@pytest.mark.parametrize("name", ["features.npy", "folder"])
def test_rows_of_skipped_images_are_nan_in_the_file(name, files, tmp_path, monkeypatch):
    monkeypatch.setattr(output_module, "NAN_ROWS", 2)
    fitted = extractor(output=tmp_path / name).fit(IMAGES)
    expected = extractor().fit(IMAGES).transform(IMAGES[SOUND])
    found, text = warned(fitted.transform, files)
    assert text.startswith("3 of 24 images cannot be used, and get NaN:")
    assert isinstance(found, np.memmap)
    assert np.isnan(found[BAD]).all()
    np.testing.assert_array_equal(found[SOUND], expected)
    assert not list(tmp_path.rglob("*.part"))


def test_files_in_a_folder_are_of_the_same_rows(files, tmp_path):
    fitted = extractor(output=tmp_path / "folder").fit(IMAGES)
    order = [*range(1, N), 0]
    first, again, moved = (
        warned(fitted.transform, X)[0] for X in (files, files, [files[i] for i in order])
    )
    assert first.filename == again.filename != moved.filename
    np.testing.assert_array_equal(moved, first[order])
    whole = fitted.transform([files[i] for i in SOUND])
    np.testing.assert_array_equal(whole, first[SOUND])
    assert len(list((tmp_path / "folder").iterdir())) == 3


@pytest.mark.parametrize("name", ["features.npy", "folder"])
def test_a_file_without_any_image_is_all_nan(name, files, tmp_path):
    fitted = extractor(output=tmp_path / name).fit(IMAGES)
    found, _ = warned(fitted.transform, [files[i] for i in BAD])
    assert found.shape == (3, fitted.n_features_out_)
    assert np.isnan(found).all()


# --- warm


def test_warm_leaves_out_what_a_fit_leaves_out(files, tmp_path):
    store = FeatureStore(tmp_path / "store")
    model = classifier(cache=store)
    report, text = warned(warm, [*files, None], model)
    assert text.startswith("4 of 25 images of X are left out:")
    assert (report.images, report.skipped, report.distinct) == (25, 4, len(SOUND))
    assert (report.computed, report.known) == (len(SOUND), 0)
    before = store.info().entries
    fitted, _ = warned(model.fit, files, LABELS)
    np.testing.assert_array_equal(fitted.skipped_indices_, BAD)
    assert store.info().entries == before
    again, _ = warned(warm, files, model)
    assert (again.skipped, again.computed, again.known) == (3, 0, len(SOUND))
    with pytest.raises(ImageError, match="3 of 3 images cannot be used"):
        warm([files[i] for i in BAD], model)


# --- workers


def test_images_at_fault_in_workers_are_skipped(files, monkeypatch):
    monkeypatch.setattr(parallel, "worker_count", lambda n_jobs: n_jobs or 0)
    monkeypatch.setattr(work, "BATCH_SIZE", 4)
    model = classifier(cache=None, n_jobs=2)
    with parallel_config("threading", n_jobs=2):
        for X in (files, dataset()):
            fitted, _ = warned(model.fit, X, LABELS)
            np.testing.assert_array_equal(fitted.skipped_indices_, BAD)
            told, _ = warned(fitted.predict_proba, X)
            assert np.flatnonzero(np.isnan(told).any(axis=1)).tolist() == BAD
