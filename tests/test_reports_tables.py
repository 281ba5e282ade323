"""Tests of prediction_table: one row for each image, for every kind of target."""

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.reports import prediction_table

NAMES = np.array(["setosa", "versicolor", "=1+1"])


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, NAMES[y]


@pytest.fixture(scope="module")
def bayes(iris):
    return GaussianNB().fit(*iris)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        low = 0 if number % 2 else 120
        pixels = rng.integers(low, low + 136, (32, 32, 3), dtype=np.uint8)
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths, np.array(["dark" if number % 2 else "bright" for number in range(12)])


@pytest.fixture(scope="module")
def classifier(photos):
    paths, y = photos
    return TransferClassifier("tiny", image_size=32, l2=0.01, random_state=0).fit(paths, y)


# Classes -------------------------------------------------------------------------------------


def test_labels_and_probabilities_are_those_of_the_estimator(iris, bayes):
    X, _ = iris
    table = prediction_table(bayes, X)
    assert list(table.columns) == ["file", "label", "probability"]
    assert table["file"].tolist() == list(range(150))
    assert table["label"].tolist() == bayes.predict(X).tolist()
    np.testing.assert_array_equal(table["probability"], bayes.predict_proba(X).max(axis=1))


def test_the_best_classes_come_in_order(iris, bayes):
    X, _ = iris
    table = prediction_table(bayes, X, top_k=9)
    assert list(table.columns) == [
        "file", "label", "probability", "label_2", "probability_2", "label_3", "probability_3",
    ]  # fmt: skip
    proba = bayes.predict_proba(X)
    order = np.argsort(-proba, axis=1, kind="stable")
    for place, end in enumerate(("", "_2", "_3")):
        np.testing.assert_array_equal(table[f"label{end}"], bayes.classes_[order[:, place]])
        expected = proba[np.arange(150), order[:, place]]
        np.testing.assert_array_equal(table[f"probability{end}"], expected)


def test_scores_rank_classes_where_there_are_no_probabilities(iris):
    X, y = iris
    ridge = RidgeClassifier().fit(X, y)
    table = prediction_table(ridge, X, top_k=2)
    assert list(table.columns) == ["file", "label", "score", "label_2", "score_2"]
    ranked = np.sort(ridge.decision_function(X), axis=1)
    np.testing.assert_array_equal(table["score"], ranked[:, -1])
    np.testing.assert_array_equal(table["score_2"], ranked[:, -2])


class Rejector(ClassifierMixin, BaseEstimator):
    """A classifier that gives a label of its own to rows far from zero."""

    def fit(self, X, y):
        self.inner_ = GaussianNB().fit(X, y)
        self.classes_ = self.inner_.classes_
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)

    def score_samples(self, X):
        return -np.abs(X).sum(axis=1)

    def predict(self, X):
        known = self.inner_.predict(X).astype(object)
        return np.where(self.score_samples(X) > -12, known, None)


def test_an_unknown_label_has_no_probability_and_the_best_class_comes_next(iris):
    X, y = iris
    rejector = Rejector().fit(X, y)
    table = prediction_table(rejector, X, top_k=2)
    is_unknown = rejector.score_samples(X) <= -12
    assert 0 < is_unknown.sum() < 150
    assert (table["label"].isna() == is_unknown).all()
    assert (table["probability"].isna() == is_unknown).all()
    np.testing.assert_array_equal(table["normality"], rejector.score_samples(X))
    best = rejector.inner_.predict(X)
    np.testing.assert_array_equal(table["label_2"][is_unknown], best[is_unknown])
    np.testing.assert_array_equal(table["label"][~is_unknown], best[~is_unknown])


# Images and files -----------------------------------------------------------------------------


def test_rows_are_named_by_files_and_the_network_runs_once(photos, classifier, monkeypatch):
    paths, _ = photos
    asked = make_pipeline(classifier)
    passes, scores = [], TransferClassifier._scores
    monkeypatch.setattr(
        TransferClassifier, "_scores", lambda *args: passes.append(1) or scores(*args)
    )
    table = prediction_table(asked, [Path(path) for path in paths], top_k=2)
    assert passes == [1]
    assert table["file"].tolist() == paths
    proba = classifier.predict_proba(paths)
    np.testing.assert_allclose(table["probability"], proba.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(table["probability_2"], proba.min(axis=1), rtol=1e-5)


def test_opened_images_have_the_names_of_their_files(photos, classifier):
    paths, _ = photos
    with Image.open(paths[0]) as one, Image.open(paths[1]) as other:
        mixed = [one, other, np.asarray(one)]
        assert prediction_table(classifier, mixed)["file"].tolist() == [*paths[:2], 2]


def test_the_index_is_that_of_a_series(photos, classifier):
    paths, _ = photos
    series = pd.Series(paths, index=[f"photo {n}" for n in range(12)])
    table = prediction_table(classifier, series)
    assert table.index.tolist() == series.index.tolist()
    assert table["file"].tolist() == paths
    assert prediction_table(classifier, paths).index.tolist() == list(range(12))


# Labels and numbers ---------------------------------------------------------------------------


def test_several_labels_have_a_column_each(iris):
    X, _ = iris
    Y = np.column_stack([X[:, 0] > 6, X[:, 1] > 3, X[:, 2] > 2]).astype(int)
    neighbours = KNeighborsClassifier(3).fit(X, Y)
    table = prediction_table(neighbours, X)
    assert list(table.columns) == [
        "file", "labels", "probability_0", "probability_1", "probability_2",
    ]  # fmt: skip
    for label, proba in enumerate(neighbours.predict_proba(X)):
        np.testing.assert_array_equal(table[f"probability_{label}"], proba[:, 1])
    joined = [", ".join(map(str, np.flatnonzero(row))) for row in neighbours.predict(X)]
    assert table["labels"].tolist() == joined


def test_numbers_have_a_column_for_each_output(iris):
    X, _ = iris
    one = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])
    table = prediction_table(one, pd.DataFrame(X, index=np.arange(150) + 7))
    assert list(table.columns) == ["file", "prediction"]
    assert table.index[0] == 7
    np.testing.assert_allclose(table["prediction"], one.predict(X))
    two = Ridge().fit(X, X[:, :2])
    table = prediction_table(two, X)
    assert list(table.columns) == ["file", "prediction_0", "prediction_1"]
    np.testing.assert_allclose(table[["prediction_0", "prediction_1"]], two.predict(X))


# Files and errors -----------------------------------------------------------------------------


def test_a_written_table_has_the_names_as_they_are(iris, bayes):
    X, _ = iris
    file = io.StringIO()
    prediction_table(bayes, X).to_csv(file, index=False)
    rows = list(csv.reader(io.StringIO(file.getvalue())))
    assert {row[1] for row in rows[1:]} == set(NAMES)
    assert prediction_table.__doc__.count("spreadsheet") == 1


@pytest.mark.parametrize("top_k", [0, -1, 1.5, None, "all", True, (1, 2)])
def test_a_wrong_top_k_raises_an_error(iris, bayes, top_k):
    with pytest.raises(InvalidParameterError, match="top_k must be a whole number"):
        prediction_table(bayes, iris[0], top_k=top_k)


def test_what_cannot_be_ranked_raises_an_error(iris):
    X = iris[0]
    with pytest.raises(InvalidParameterError, match="Ridge predicts none"):
        prediction_table(Ridge().fit(X, X[:, 0]), X, top_k=2)
    with pytest.raises(InvalidParameterError, match="KNeighborsClassifier predicts none"):
        prediction_table(KNeighborsClassifier().fit(X, X[:, :2] > 4), X, top_k=2)

    class Plain(ClassifierMixin, BaseEstimator):
        classes_ = NAMES

        def predict(self, X):
            return np.repeat(NAMES[:1], len(X))

    assert list(prediction_table(Plain(), X).columns) == ["file", "label"]
    with pytest.raises(InvalidParameterError, match="to rank the classes by"):
        prediction_table(Plain(), X, top_k=2)


def test_wrong_estimators_and_images_raise_an_error(iris, bayes, classifier):
    X, _ = iris
    with pytest.raises(InvalidParameterError, match="Got KMeans"):
        prediction_table(KMeans(2, n_init=1).fit(X), X)
    with pytest.raises(NotFittedError):
        prediction_table(LogisticRegression(), X)
    with pytest.raises(NotFittedError):
        prediction_table(TransferClassifier(), X)
    with pytest.raises(ImageError, match="X must be a sequence"):
        prediction_table(bayes, None)
    with pytest.raises(ImageError, match="X must be a sequence"):
        prediction_table(classifier, "photo.jpg")
    with pytest.raises(ImageError):
        prediction_table(classifier, ["no such file.jpg"])
    with pytest.raises(ValueError, match="0 sample|empty"):
        prediction_table(bayes, X[:0])
