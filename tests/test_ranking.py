"""top_k, and single images where several are expected, for estimators and reports."""

from pathlib import Path

import numpy as np
import pytest
from image_helpers import striped_images
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from transferclf import (
    CNNFeatureExtractor,
    TransferClassifier,
    TransferRegressor,
    UnknownRejector,
    top_k,
)
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.reports import audit, evaluate, prediction_table

IMAGES = striped_images(12, np.random.default_rng(3))
LABELS = np.array(["ant", "bee", "cat"])[np.arange(12) % 3]


@pytest.fixture(scope="module")
def classifier():
    return TransferClassifier(image_size=32, l2=0.1, random_state=0).fit(IMAGES, LABELS)


class Stub:
    """A classifier with given probabilities."""

    classes_ = np.array(["a", "b", "c"])

    def __init__(self, *rows):
        self.rows = np.array(rows)

    def predict_proba(self, X):
        return self.rows


def test_the_most_probable_classes_by_name(classifier):
    labels, probabilities = top_k(classifier, IMAGES, 2)
    expected = classifier.predict_proba(IMAGES)
    assert labels.shape == probabilities.shape == (12, 2)
    assert labels[:, 0].tolist() == classifier.predict(IMAGES).tolist()
    np.testing.assert_array_equal(probabilities, np.sort(expected, axis=1)[:, :0:-1])
    piped = make_pipeline(FunctionTransformer(), classifier)
    np.testing.assert_array_equal(top_k(piped, IMAGES, 2)[0], labels)


def test_equal_probabilities_are_in_the_order_of_the_classes():
    labels, probabilities = top_k(Stub([0.2, 0.4, 0.4], [0.3, 0.3, 0.4]), None, k=3)
    assert labels.tolist() == [["b", "c", "a"], ["c", "a", "b"]]
    assert probabilities.tolist() == [[0.4, 0.4, 0.2], [0.4, 0.3, 0.3]]


@pytest.mark.parametrize("k", [0, 4, 1.5, True, None])
def test_other_numbers_of_classes_are_refused_before_any_work(classifier, k):
    with pytest.raises(InvalidParameterError, match="k must be .* from 1 to 3. Got"):
        top_k(classifier, ["no/such.png"], k)


def test_estimators_that_cannot_rank_are_refused():
    with pytest.raises(InvalidParameterError, match="Got LinearSVC without it"):
        top_k(LinearSVC(), IMAGES)
    with pytest.raises(NotFittedError):
        top_k(TransferClassifier(), IMAGES)
    with pytest.raises(InvalidParameterError, match=r"Got probabilities of shape \(1, 2\)"):
        top_k(Stub([0.5, 0.5]), IMAGES, 1)


def test_images_that_were_skipped_have_no_classes():
    with pytest.raises(ImageError) as raised:
        top_k(Stub([0.2, 0.4, 0.4], [np.nan] * 3), None, k=1)
    assert raised.value.indices == [1]


SINGLE = {
    "text": "one.jpg",
    "path": Path("one.jpg"),
    "URL": "https://example.org/one.jpg",
    "bytes": b"abc",
    "PIL image": Image.new("RGB", (8, 8)),
    "dict": {"bytes": b"abc", "path": None},
}


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.every_parameter
def test_a_single_image_is_one_line_for_every_function(classifier, kind):
    X = SINGLE[kind]
    calls = [
        lambda: classifier.predict(X),
        lambda: classifier.score(X, ["ant"]),
        lambda: classifier.fit(X, ["ant", "bee"]),
        lambda: TransferRegressor().fit(X, [1.0, 2.0]),
        lambda: CNNFeatureExtractor().fit(X),
        lambda: UnknownRejector(TransferClassifier()).fit(X, ["ant", "bee"]),
        lambda: top_k(classifier, X, 1),
        lambda: evaluate(classifier, X, ["ant"]),
        lambda: prediction_table(classifier, X),
        lambda: audit(X),
    ]
    for call in calls:
        with pytest.raises(ImageError, match=r"^X must be a sequence .*\[image\]\.$") as raised:
            call()
        assert len(str(raised.value)) < 120


def test_a_folder_names_its_function(classifier, tmp_path):
    for call in (classifier.predict, CNNFeatureExtractor().fit, audit):
        with pytest.raises(ImageError, match="transferclf.load_image_folder reads a folder"):
            call(tmp_path)
    with pytest.raises(ImageError, match="load_image_folder.*bunch.data and bunch.target"):
        TransferClassifier().fit(tmp_path, ["ant"])
