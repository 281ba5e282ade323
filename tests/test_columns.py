"""Columns of Arrow, pandas over Arrow, and datasets of Hugging Face, with encoded images."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import cross_val_score

from transferclf import CNNFeatureExtractor, FeatureStore, TransferClassifier
from transferclf.exceptions import ImageError, ImageReadError, TransferclfWarning
from transferclf.images import check_images
from transferclf.images.inputs import look_over
from transferclf.images.loading import content_digests
from transferclf.reports import audit

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def png(number):
    file = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 99, (9, 8, 3), dtype=np.uint8)
    # Images of odd numbers are brighter.
    Image.fromarray(pixels + 150 * (number % 2)).save(file, "PNG")
    return file.getvalue()


FILES = [png(number) for number in range(12)]
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def structs(files):
    return pa.array([{"bytes": each, "path": f"{i}.png"} for i, each in enumerate(files)], STRUCT)


def in_pandas(files):
    pd = pytest.importorskip("pandas")
    return pd.Series(structs(files), dtype=pd.ArrowDtype(STRUCT), index=range(len(files), 0, -1))


def in_dataset(files):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = {"image": [None, *files], "label": [0] * (1 + len(files))}
    features = {"image": datasets.Image(), "label": datasets.Value("int64")}
    dataset = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    # A selection is a table with positions in it.
    return dataset.select(range(1, 1 + len(files)))["image"]


KINDS = {
    "bytes": lambda files: pa.array(files),
    "large bytes": lambda files: pa.array(files, pa.large_binary()),
    "chunks": lambda files: pa.chunked_array([files[:5], files[5:]]),
    "structs": structs,
    "pandas": in_pandas,
    "dataset": in_dataset,
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def column(request):
    return request.param(FILES)


def test_cells_have_the_digests_of_their_files(column):
    source = check_images(column)
    assert content_digests(source) == content_digests(check_images(FILES))
    part = pickle.loads(pickle.dumps(source[np.array([7, 3])]))
    assert content_digests(part) == content_digests(check_images([FILES[7], FILES[3]]))
    assert part.problem(0, ImageError("bad")).position == 7


def test_a_classifier_is_fitted_and_validated_on_a_column():
    column = in_dataset(FILES)
    store = FeatureStore()
    classifier = TransferClassifier("tiny", image_size=32, l2=0.01, cache=store)
    y = np.arange(12) % 2
    classifier.fit(column, y)
    assert classifier.score(column, y) == 1.0
    assert store.info().entries == 12
    # Folds are slices of one source, and no image is computed again.
    scores = cross_val_score(classifier, check_images(column), y, cv=2)
    assert scores.mean() == 1.0
    assert store.info().entries == 12


def test_rows_are_read_one_at_a_time(monkeypatch):
    from transferclf.images.columns.arrow import ArrowColumn

    read, cell = [], ArrowColumn.cell

    def noted(column, position):
        read.append(position)
        return cell(column, position)

    monkeypatch.setattr(ArrowColumn, "cell", noted)
    source = check_images(structs(FILES))
    assert read == []
    source[4:].load(2)
    assert set(read) == {6}


def test_cells_of_paths_and_urls_are_read(tmp_path):
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    fsspec.filesystem("memory").pipe("/a.png", FILES[0])
    (tmp_path / "b.png").write_bytes(FILES[1])
    texts = pa.array(["memory://a.png", str(tmp_path / "b.png")])
    source = check_images(texts)
    assert source.is_far
    assert content_digests(source) == content_digests(check_images(FILES[:2]))
    table = pa.array([{"bytes": None, "path": path} for path in texts.to_pylist()], STRUCT)
    assert content_digests(check_images(table)) == content_digests(source)


def test_missing_cells_are_named_at_once():
    rows = [{"bytes": FILES[0]}, None, {"bytes": FILES[1]}, None]
    with pytest.raises(ImageError, match="2 images: 1, 3: expected an image in this row, got None"):
        check_images(pa.array(rows, STRUCT))


def test_faults_of_cells_are_named_before_the_network(monkeypatch):
    from transferclf.features.frozen import Prefix

    def never(prefix):
        raise AssertionError("a network was built")

    monkeypatch.setattr(Prefix, "forward", never)
    rows = [{"bytes": FILES[0]}, {}, {"path": "no/such.png"}, {"bytes": b""}, {"bytes": b"GIF89a"}]
    with pytest.raises(ImageReadError) as raised:
        TransferClassifier("tiny", image_size=32).fit(pa.array(rows, STRUCT), [0, 1, 0, 1, 0])
    assert raised.value.indices == [1, 2, 3, 4]
    texts = raised.value.problems
    assert texts[0] == "image 1: expected a dict with 'bytes' or 'path', got one with neither"
    assert texts[1].startswith("image 2 (no/such.png): expected a file")
    assert texts[2] == "image 3: expected an image file, got no bytes"
    assert "the beginning of a GIF file" in texts[3]


@pytest.mark.parametrize("kind", ["chunks", "structs", "dataset"])
def test_cells_without_an_image_are_skipped(kind):
    files, labels = list(FILES), np.arange(12) % 2
    files[4], files[9] = None, b"no image"
    X = KINDS[kind](files)
    classifier = TransferClassifier("tiny", image_size=32, l2=0.1, cache=None, on_error="skip")
    with pytest.warns(TransferclfWarning, match="2 of 12 images of X are left out"):
        classifier.fit(X, labels)
    assert classifier.skipped_indices_.tolist() == [4, 9]
    copy = pickle.loads(pickle.dumps(look_over(X)))
    with pytest.warns(TransferclfWarning, match="2 of 12 images cannot be used"):
        told = classifier.predict_proba(copy.given_as(None, None))
    assert np.flatnonzero(np.isnan(told).any(axis=1)).tolist() == [4, 9]


def test_missing_cells_of_a_dataset_are_named():
    column = in_dataset([FILES[0], None])
    with pytest.raises(ImageError, match="image 1: expected"):
        content_digests(check_images(column))


HOSTILE = {
    "table": (lambda: pa.table({"a": FILES}), r"a table with the columns \['a'\]; pass the column"),
    "numbers": (lambda: pa.array([1, 2]), "one of type int64"),
    "empty": (lambda: pa.array([], pa.binary()), "X is empty"),
    "dataset": (lambda: in_dataset(FILES).source, r"pass images and labels apart: X = data\["),
    "labels": (lambda: in_dataset(FILES).source["label"], "one of type int64"),
}


@pytest.mark.parametrize(("make", "text"), HOSTILE.values(), ids=HOSTILE)
def test_other_tables_and_columns_get_a_clear_message(make, text):
    with pytest.raises(ImageError, match=text):
        check_images(make())


def test_a_dataset_with_a_transform_is_read_through_it():
    dataset = in_dataset(FILES[:2]).source
    black = np.zeros((4, 5, 3), np.uint8)
    dataset.set_transform(lambda rows: {"image": [black] * len(rows["image"])})
    assert check_images(dataset["image"]).load(0).shape == (4, 5, 3)


def test_lists_of_decoded_images_of_a_dataset_are_accepted():
    # scikit-learn slices columns so. Such images are decoded already.
    column = in_dataset(FILES)
    source = check_images([column[index] for index in (3, 1)])
    np.testing.assert_array_equal(source.load(0), check_images(FILES).load(3))


def test_an_audit_names_the_rows_of_a_column():
    pytest.importorskip("pandas")
    extractor = CNNFeatureExtractor("tiny", image_size=32)
    found = audit(structs([*FILES[:3], FILES[3][:90], None]), [0, 1, 0, 1, 0], extractor=extractor)
    assert found.unreadable["index"].tolist() == [3, 4]
    assert found.unreadable["file"].tolist() == ["3.png", "4.png"]
