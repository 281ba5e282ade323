"""CNNFeatureExtractor(output=...): features in files, which are never overwritten."""

import shutil

import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from transferclf import CNNFeatureExtractor, FeatureStore, load_model, save_model
from transferclf._npy import NpyFile
from transferclf.exceptions import DiskSpaceError, InvalidParameterError
from transferclf.features import work
from transferclf.features.extraction import Extractor

N = 70
IMAGES = striped_images(N, np.random.default_rng(0))
LABELS = np.arange(N) % 3


@pytest.fixture(scope="module")
def store():
    return FeatureStore()


@pytest.fixture(scope="module")
def expected(store):
    return CNNFeatureExtractor(image_size=32, cache=store).fit_transform(IMAGES)


@pytest.fixture
def extractor(tmp_path, store):
    """Return a function that makes an extractor with an output in the folder of the test."""

    def make(name, cache=store):
        return CNNFeatureExtractor(image_size=32, cache=cache, output=tmp_path / name)

    return make


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("cached", [True, False])
def test_features_are_a_read_only_file(cached, extractor, store, expected, tmp_path):
    found = extractor("features.npy", store if cached else None).fit_transform(IMAGES)
    assert isinstance(found, np.memmap)
    assert not found.flags.writeable
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), expected)
    assert names(tmp_path) == ["features.npy"]


def test_a_file_is_never_overwritten(extractor, tmp_path):
    (tmp_path / "features.npy").write_bytes(b"of someone else")
    fitted = extractor("features.npy").fit(IMAGES)
    with pytest.raises(InvalidParameterError, match=r"features\.npy' exists.*or a folder"):
        fitted.transform(IMAGES)
    assert (tmp_path / "features.npy").read_bytes() == b"of someone else"


def test_a_folder_has_a_file_for_each_x(extractor, expected, tmp_path):
    fitted = extractor("of all").fit(IMAGES)
    first = fitted.transform(IMAGES)
    second = fitted.transform(IMAGES[::-1])
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(second, expected[::-1])
    again = fitted.transform(IMAGES)
    assert again.filename == first.filename
    assert first.filename != second.filename
    assert len(names(tmp_path / "of all")) == 2


def test_pipelines_and_searches_write_into_a_folder(extractor, store, expected):
    head = LogisticRegression()
    in_files = cross_val_score(make_pipeline(extractor("folds"), head), IMAGES, LABELS, cv=2)
    np.testing.assert_array_equal(in_files, cross_val_score(head, expected, LABELS, cv=2))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_leaves_no_file(error, extractor, tmp_path, monkeypatch):
    fitted = extractor("features.npy", None).fit(IMAGES)

    def interrupted(units):
        results = work.in_process(units)
        yield next(results)
        assert any(name.endswith(".part") for name in names(tmp_path))
        raise error

    read = Extractor(None, fitted.resize_, run=interrupted)
    monkeypatch.setattr(CNNFeatureExtractor, "_extractor", lambda self: read)
    with pytest.raises(error):
        fitted.transform(IMAGES)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (3, "output must be None"),
        (b"bytes.npy", "output must be None"),
        ("nowhere/features.npy", "is in .*nowhere', which is no folder"),
        ("text.txt", "is a file that does not end in .npy"),
        ("folder.npy", "is a folder, and the name ends in .npy"),
    ],
)
def test_a_wrong_output_is_an_error_of_fit(output, message, tmp_path):
    (tmp_path / "text.txt").touch()
    (tmp_path / "folder.npy").mkdir()
    output = tmp_path / output if isinstance(output, str) else output
    with pytest.raises(InvalidParameterError, match=message):
        CNNFeatureExtractor(output=output).fit(IMAGES)


def test_a_folder_without_permission_is_named(extractor, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    fitted = extractor("features.npy").fit(IMAGES)
    monkeypatch.setattr("builtins.open", refused)
    with pytest.raises(InvalidParameterError, match="no file can be made in .*Permission denied"):
        fitted.transform(IMAGES)


def test_a_disk_without_room_is_an_error_and_leaves_no_file(extractor, tmp_path, monkeypatch):
    fitted = extractor("features.npy").fit(IMAGES)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DiskSpaceError, match=r"features.npy' does not fit on the disk: 0 MB"):
        fitted.transform(IMAGES)
    assert names(tmp_path) == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "rows.npy"

    def written():
        with NpyFile(path, "output") as file:
            file.begin((2,), np.float32)
            file.append(np.ones((3, 2)))
            path.write_text("of someone else")

    with pytest.raises(InvalidParameterError, match="exists"):
        written()
    assert path.read_text() == "of someone else"
    assert names(tmp_path) == ["rows.npy"]


def test_an_archive_does_not_name_the_output(extractor, expected, tmp_path):
    fitted = extractor("features.npy").fit(IMAGES)
    save_model(fitted, tmp_path / "saved.transferclf")
    loaded = load_model(tmp_path / "saved.transferclf")
    assert loaded.output is None
    np.testing.assert_allclose(loaded.transform(IMAGES), expected, atol=1e-5)
