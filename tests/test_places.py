"""Encoded images in memory: bytes, dicts of them, and what sources do with them."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from transferclf import CNNFeatureExtractor, FeatureStore, TransferClassifier
from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images import check_images
from transferclf.images.loading import content_digests, load_all
from transferclf.reports import audit


@pytest.fixture
def files(rng):
    """Return images as arrays, and each as the bytes of a PNG file."""
    pixels = rng.integers(0, 256, (6, 9, 8, 3), dtype=np.uint8)
    encoded = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        encoded.append(file.getvalue())
    return pixels, encoded


def objects(items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


KINDS = {
    "bytes": list,
    "bytearray": lambda data: [bytearray(each) for each in data],
    "memoryview": lambda data: [memoryview(each) for each in data],
    "object array": objects,
    "dicts": lambda data: [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(data)],
    "dicts of bytes": lambda data: [{"bytes": each} for each in data],
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_bytes_have_the_pixels_and_digests_of_their_files(kind, files, tmp_path):
    pixels, encoded = files
    paths = [tmp_path / f"{number}.png" for number in range(len(encoded))]
    for path, data in zip(paths, encoded, strict=True):
        path.write_bytes(data)
    source = check_images(kind(encoded))
    assert len(source) == len(pixels)
    for index, image in enumerate(pixels):
        np.testing.assert_array_equal(source.load(index), image)
    assert content_digests(source) == content_digests(check_images(paths))


def test_a_series_of_bytes_is_accepted(files):
    pd = pytest.importorskip("pandas")
    pixels, encoded = files
    source = check_images(pd.Series(encoded, index=list("fedcba")))
    np.testing.assert_array_equal(source.load(5), pixels[5])


def test_a_dict_without_bytes_is_read_from_its_path(files, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(files[1][2])
    source = check_images([{"bytes": None, "path": str(path)}])
    np.testing.assert_array_equal(source.load(0), files[0][2])
    with pytest.raises(MissingImageError, match=r"image 0 \(.*b\.png\)"):
        check_images([{"bytes": None, "path": str(tmp_path / "b.png")}])


def test_faults_name_the_path_of_a_dict(files):
    cut = files[1][0][:100]
    good = {"bytes": files[1][1], "path": "good.png"}
    X = [good, {"bytes": cut, "path": "cut.png"}, b"", {"bytes": b""}, b"<html></html>"]
    with pytest.raises(ImageReadError) as raised:
        check_images(X)
    # Those that are found only by decoding are named with the others.
    assert raised.value.indices == [1, 2, 3, 4]
    assert raised.value.problems[0].startswith("image 1 (cut.png): expected a whole image")
    assert "image 2: expected an image file, got no bytes" in raised.value.problems
    assert "an HTML page" in raised.value.problems[3]


def test_pairs_of_bytes_and_a_label_get_advice(files):
    with pytest.raises(ImageError, match="pass images and labels apart"):
        check_images([(files[1][0], "cat")] * 3)


def test_formats_that_start_programs_stay_refused():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    with pytest.raises(ImageReadError, match="EPS"):
        load_all(check_images([eps]), (8, 8), "crop")


def test_a_pickled_source_keeps_bytes_names_and_positions(files):
    _, encoded = files
    X = [{"bytes": memoryview(each), "path": f"{i}.png"} for i, each in enumerate(encoded)]
    source = check_images(X)[2:4]
    copy = pickle.loads(pickle.dumps(source))
    assert content_digests(copy) == content_digests(source)
    assert copy.problem(1, ImageReadError("bad")).place == "3 (3.png)"
    assert len(pickle.dumps(source)) < sum(map(len, encoded))


def test_estimators_share_a_store_between_bytes_and_arrays_of_paths(files, tmp_path):
    _, encoded = files
    store = FeatureStore()
    extractor = CNNFeatureExtractor("tiny", image_size=32, cache=store)
    features = extractor.fit_transform(encoded)
    paths = [tmp_path / f"{number}.png" for number in range(len(encoded))]
    for path, data in zip(paths, encoded, strict=True):
        path.write_bytes(data)
    before = store.info().entries
    np.testing.assert_array_equal(extractor.transform(paths), features)
    assert store.info().entries == before == len(encoded)
    y = np.arange(len(encoded)) % 2
    named = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(encoded)]
    classifier = TransferClassifier("tiny", image_size=32, cache=store).fit(named, y)
    np.testing.assert_array_equal(classifier.predict(encoded), classifier.predict(paths))


def test_an_audit_names_the_files_of_dicts(files):
    named = [{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(files[1])]
    found = audit([*named, {"bytes": files[1][0][:90], "path": "cut.png"}], [0, 1] * 3 + [0])
    assert found.unreadable["file"].tolist() == ["cut.png"]
    assert found.unreadable["problem"][0].startswith("expected a whole image")
