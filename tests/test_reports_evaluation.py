"""Tests of evaluate: its measures equal those of scikit-learn, also with missing classes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_helpers import HOSTILE, small_backbone
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from transferclf import FeatureStore, TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.reports import Evaluation, evaluate

CLASSES = np.array(["bee", "cat", "dog", "eel"])


@pytest.fixture
def y_true(rng):
    return rng.choice(CLASSES, 200)


@pytest.fixture
def y_proba(rng, y_true):
    closer = 1.0 + 2.0 * (y_true[:, None] == CLASSES)
    return np.stack([rng.dirichlet(row) for row in closer])


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


class Constant(ClassifierMixin, BaseEstimator):
    """A classifier of the first class, without probabilities and scores."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))


class Claims(Constant):
    """A classifier with fixed probabilities."""

    def __init__(self, proba=None):
        self.proba = proba

    def predict_proba(self, X):
        return self.proba


# Measures ------------------------------------------------------------------------------------


def test_measures_equal_those_of_scikit_learn(y_true, y_proba):
    found = Evaluation.from_predictions(y_true, y_proba=y_proba, top_k=(1, 2, 3))
    y_pred = CLASSES[y_proba.argmax(axis=1)]
    assert found.y_pred.tolist() == y_pred.tolist()
    assert found.n_samples == 200
    assert found.accuracy == metrics.accuracy_score(y_true, y_pred)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y_true, y_pred))
    assert found.f1_macro == pytest.approx(metrics.f1_score(y_true, y_pred, average="macro"))
    assert found.f1_weighted == pytest.approx(metrics.f1_score(y_true, y_pred, average="weighted"))
    assert found.loss == pytest.approx(metrics.log_loss(y_true, y_proba))
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(y_true, y_proba, multi_class="ovr"))
    assert list(found.top_k) == [1, 2, 3]
    for k, share in found.top_k.items():
        assert share == pytest.approx(metrics.top_k_accuracy_score(y_true, y_proba, k=k))
    np.testing.assert_array_equal(found.confusion_matrix, metrics.confusion_matrix(y_true, y_pred))
    by_class = metrics.precision_recall_fscore_support(y_true, y_pred)
    for name, values in zip(("precision", "recall", "f1", "support"), by_class, strict=True):
        np.testing.assert_allclose(found.per_class[name], values)
    assert found.per_class["class"].tolist() == CLASSES.tolist()


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=12), st.integers(0, 99))
def test_a_weight_is_that_many_images(rows, seed):
    true, predicted, weights = np.array(rows).T
    if weights.sum() == 0:
        weights = weights + 1
    y_proba = np.random.default_rng(seed).dirichlet(np.ones(4), len(rows))
    repeated = np.repeat(np.arange(len(rows)), weights)
    options = {"classes": range(4), "top_k": (1, 2, 3)}
    weighted = Evaluation.from_predictions(
        true, predicted, y_proba, sample_weight=weights, **options
    ).to_dict()
    plain = Evaluation.from_predictions(
        true[repeated], predicted[repeated], y_proba[repeated], **options
    ).to_dict()
    for name in set(plain) - {"n_samples", "confused"}:
        for one, other in zip(flat(weighted[name]), flat(plain[name]), strict=True):
            assert one == pytest.approx(other, abs=1e-12), name
    pairs = {(pair["true"], pair["predicted"]): pair["count"] for pair in plain["confused"]}
    assert pairs == {
        (pair["true"], pair["predicted"]): pair["count"] for pair in weighted["confused"]
    }


def flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for part in value for leaf in flat(part)]
    return [value]


@pytest.mark.parametrize("labels", [("a", "b"), (0, 1), (False, True), (7, -3), (1.0, 2.0)])
def test_two_classes_can_have_any_labels(labels, rng):
    y = np.array(labels)[rng.integers(2, size=60)]
    positive = rng.random(60)
    found = Evaluation.from_predictions(y, y_proba=positive)
    second = np.unique(y)[1]
    assert found.classes.tolist() == sorted(labels)
    assert found.top_k == {1: found.accuracy}
    assert found.accuracy == np.mean((positive > 0.5) == (y == second))
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(y == second, positive))
    assert found.y_true.dtype == y.dtype
    assert json.loads(json.dumps(found.to_dict()))["classes"] == sorted(labels)


def test_the_calibration_error_equals_one_by_hand():
    # Two bins: confidence 0.55 with half of the answers right, confidence 0.95 with all right.
    y_proba = [[0.55, 0.45], [0.45, 0.55], [0.95, 0.05], [0.05, 0.95]]
    found = Evaluation.from_predictions([0, 0, 0, 1], y_proba=y_proba)
    assert found.calibration_error == pytest.approx(0.5 * 0.05 + 0.5 * 0.05)


def test_bins_of_the_calibration_error_include_their_upper_edge():
    # 0.6 is the upper edge of the ninth of 15 bins, so 0.61 is in another bin. In one bin, their
    # distances to the accuracy would cancel.
    y_proba = [[0.6, 0.4], [0.61, 0.39]]
    found = Evaluation.from_predictions([0, 1], y_proba=y_proba)
    assert found.calibration_error == pytest.approx((0.4 + 0.61) / 2)
    both = Evaluation.from_predictions([0, 1], y_proba=[[0.61, 0.39], [0.62, 0.38]])
    assert both.calibration_error == pytest.approx(abs(0.61 + 0.62 - 1) / 2)


def test_confused_pairs_are_sorted_by_count():
    true = ["a"] * 4 + ["b"] * 3 + ["c"] * 3
    predicted = ["a", "b", "c", "c", "b", "a", "a", "a", "a", "a"]
    found = Evaluation.from_predictions(true, predicted)
    assert [(pair["true"], pair["predicted"], pair["count"]) for pair in found.confused] == [
        ("c", "a", 3),
        ("a", "c", 2),
        ("b", "a", 2),
        ("a", "b", 1),
    ]
    assert [pair["share"] for pair in found.confused] == pytest.approx([1, 1 / 2, 2 / 3, 1 / 4])


def test_the_first_of_equally_probable_classes_is_predicted():
    found = Evaluation.from_predictions([0, 1, 2], y_proba=np.full((3, 3), 1 / 3))
    assert found.accuracy == found.top_k[1] == pytest.approx(1 / 3)


# Missing classes and scores -------------------------------------------------------------------


def test_classes_can_be_missing_from_y(y_true, y_proba):
    there = y_true != "eel"
    found = Evaluation.from_predictions(
        y_true[there], y_proba=y_proba[there], classes=CLASSES, top_k=(1, 3)
    )
    areas = [
        metrics.roc_auc_score(y_true[there] == name, y_proba[there, column])
        for column, name in enumerate(CLASSES[:3])
    ]
    assert found.roc_auc == pytest.approx(np.mean(areas))
    recalls = [np.mean(found.y_pred[found.y_true == name] == name) for name in CLASSES[:3]]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert found.per_class["support"][3] == 0
    assert np.isnan(found.per_class["recall"][3])
    assert found.to_dict()["per_class"]["recall"][3] is None
    assert found.confusion_matrix.shape == (4, 4)


def test_y_can_have_one_class_only(y_proba):
    found = Evaluation.from_predictions(["cat"] * 200, y_proba=y_proba, classes=CLASSES)
    assert found.roc_auc is None
    assert found.loss == pytest.approx(-np.log(y_proba[:, 1]).mean())
    assert found.balanced_accuracy == found.accuracy


def test_an_estimator_can_have_one_class():
    X = np.zeros((3, 1))
    found = evaluate(DummyClassifier().fit(X, ["a"] * 3), X, ["a"] * 3)
    assert (found.accuracy, found.loss, found.roc_auc, found.top_k) == (1.0, 0.0, None, {})


def test_scores_replace_missing_probabilities_in_rankings(iris):
    X, y = iris
    classifier = RidgeClassifier().fit(X[::2], y[::2])
    found = evaluate(classifier, X, y, top_k=(1, 2))
    scores = classifier.decision_function(X)
    assert (found.loss, found.calibration_error, found.y_proba) == (None, None, None)
    assert found.roc_auc == pytest.approx(
        np.mean([metrics.roc_auc_score(y == label, scores[:, label]) for label in range(3)])
    )
    assert found.top_k[2] == pytest.approx(metrics.top_k_accuracy_score(y, scores, k=2))
    two = RidgeClassifier().fit(X[:100], y[:100])
    assert evaluate(two, X[50:], np.ones(100)).roc_auc is None
    noisy = evaluate(two, X[:100, ::-1], y[:100])
    assert noisy.roc_auc == pytest.approx(
        metrics.roc_auc_score(y[:100], two.decision_function(X[:100, ::-1]))
    )


def test_labels_alone_give_the_measures_of_labels(iris):
    X, y = iris
    for classifier in (Constant(), SVC(decision_function_shape="ovo")):
        found = evaluate(classifier.fit(X, y), X, y)
        assert (found.loss, found.roc_auc, found.top_k) == (None, None, {})
        assert found.accuracy == metrics.accuracy_score(y, classifier.predict(X))
        assert "ROC AUC -" in str(found)


# Estimators ----------------------------------------------------------------------------------


def test_predictions_come_from_predict_not_from_probabilities(iris):
    X, y = (part[:120] for part in iris)
    classifier = Claims(np.tile([0.1, 0.2, 0.7], (len(y), 1))).fit(X, y)
    found = evaluate(classifier, X, y)
    assert found.y_pred.tolist() == classifier.predict(X).tolist()
    assert found.accuracy != found.top_k[1]


@pytest.fixture(scope="module")
def striped():
    rng = np.random.default_rng(0)
    y = np.array(["across", "down", "noise"])[np.arange(30) % 3]
    images = rng.integers(0, 90, (30, 16, 16, 3)).astype(np.uint8)
    images[y == "across", ::2] += 150
    images[y == "down", :, ::2] += 150
    return images, y


@pytest.fixture(scope="module")
def fitted(striped):
    store = FeatureStore()
    return TransferClassifier(small_backbone(), cache=store, l2=1e-3).fit(*striped)


@pytest.mark.parametrize("kind", ["alone", "pipeline", "search", "frozen", "all"])
def test_a_transfer_classifier_reads_the_images_once(kind, striped, fitted, monkeypatch):
    X, y = striped
    estimator = fitted
    if kind in ("pipeline", "all"):
        estimator = make_pipeline(FunctionTransformer(), FrozenEstimator(fitted))
        estimator.fit(X, y)
    if kind in ("search", "all"):
        inner = TransferClassifier(small_backbone(), cache=FeatureStore())
        estimator = GridSearchCV(inner, {"l2": [1e-2]}, cv=2).fit(X, y)
    if kind in ("frozen", "all"):
        estimator = FrozenEstimator(estimator)
    predicted = estimator.predict(X).tolist()
    passes = []
    scores = TransferClassifier._scores
    monkeypatch.setattr(
        TransferClassifier, "_scores", lambda *args: passes.append(1) or scores(*args)
    )
    found = evaluate(estimator, X, y)
    assert passes == [1]
    assert found.y_pred.tolist() == predicted
    np.testing.assert_array_equal(found.y_proba, estimator.predict_proba(X))


def test_predict_of_a_subclass_is_called(striped):
    class Contrary(TransferClassifier):
        def predict(self, X):
            return np.repeat(self.classes_[-1:], len(X))

    X, y = striped
    found = evaluate(Contrary(small_backbone(), l2=1e-3).fit(X, y), X, y)
    assert set(found.y_pred) == {"noise"}


# Errors --------------------------------------------------------------------------------------


def test_wrong_arguments_raise_an_error_before_prediction(iris):
    X, y = iris
    classifier = Claims().fit(X, y)
    with pytest.raises(ValueError, match=r"known classes, \[0, 1, 2\]. Got \[7\] too"):
        evaluate(classifier, X, np.where(y == 0, 7, y))
    with pytest.raises(ValueError, match="150 images and 149 labels"):
        evaluate(classifier, X, y[1:])
    with pytest.raises(ValueError, match="sample_weight must have shape"):
        evaluate(classifier, X, y, sample_weight=[1.0])
    with pytest.raises(InvalidParameterError, match="one label per sample"):
        evaluate(classifier, X, None)
    with pytest.raises(ImageError, match="X must be a sequence"):
        evaluate(classifier, "photo.jpg", ["a"])


@pytest.mark.parametrize(
    ("proba", "message"),
    [
        ([[np.nan, 1.0]], r"1 of 1 rows that are not, the first at index 0: \[nan, 1.0\]"),
        ([[0.7, 0.7]], "sum up to one"),
        ([[1.5, -0.5]], "from 0 to 1"),
        ([[0.2, 0.3, 0.5]], r"shape \(n, 2\)"),
        ([["a", "b"]], "must be numbers"),
    ],
)
def test_invalid_probabilities_raise_an_error(proba, message):
    classifier = Claims(proba).fit(None, [0, 1])
    with pytest.raises(ValueError, match=message):
        evaluate(classifier, [[0]], [1])


def test_other_estimators_raise_an_error(iris):
    X, y = iris
    with pytest.raises(InvalidParameterError, match="Got KMeans"):
        evaluate(KMeans(2, n_init=1).fit(X), X, y)
    with pytest.raises(NotFittedError):
        evaluate(TransferClassifier(), X, y)
    with pytest.raises(NotFittedError):
        evaluate(GridSearchCV(LogisticRegression(), {"C": [1.0]}), X, y)
    many = MultiOutputClassifier(KNeighborsClassifier()).fit(X, np.column_stack([y, y]))
    with pytest.raises(InvalidParameterError, match="one label for each sample"):
        evaluate(many, X, y)


@pytest.mark.parametrize("top_k", [0, (1, 2.5), "all", None, (True,), -1])
def test_a_wrong_top_k_raises_an_error(top_k):
    with pytest.raises(InvalidParameterError, match="top_k must be whole numbers"):
        Evaluation.from_predictions([0, 1], [0, 1], top_k=top_k)


def test_inconsistent_predictions_raise_an_error():
    with pytest.raises(InvalidParameterError, match="Got neither"):
        Evaluation.from_predictions([0, 1])
    with pytest.raises(ValueError, match="one row per label. Got 1 rows and 2 labels"):
        Evaluation.from_predictions([0, 1], [0, 1], [[0.5, 0.5]])
    with pytest.raises(InvalidParameterError, match="different labels"):
        Evaluation.from_predictions([0, 1], [0, 1], classes=[0, 0])
    with pytest.raises(ValueError, match="of one type"):
        Evaluation.from_predictions(["a", None], ["a", "b"])
    with pytest.raises(ValueError, match="Scores must be numbers"):
        Evaluation.from_predictions([0, 1], [0, 1], y_score=[[np.nan, 1], [0, 1]])


# Forms of the result --------------------------------------------------------------------------


def test_columns_can_be_in_any_order(y_true, y_proba):
    turned = Evaluation.from_predictions(y_true, y_proba=y_proba[:, ::-1], classes=CLASSES[::-1])
    plain = Evaluation.from_predictions(y_true, y_proba=y_proba)
    assert turned.y_pred.tolist() == plain.y_pred.tolist()
    np.testing.assert_array_equal(turned.confusion_matrix, plain.confusion_matrix[::-1, ::-1])
    assert turned.roc_auc == pytest.approx(plain.roc_auc)


def test_many_classes_of_few_samples_give_no_warning():
    labels = np.arange(30) % 25
    found = Evaluation.from_predictions(labels, y_proba=np.eye(25)[labels])
    assert (found.accuracy, found.roc_auc, found.calibration_error) == (1, 1, 0)


def test_json_keeps_the_content(y_true, y_proba):
    found = Evaluation.from_predictions(y_true, y_proba=y_proba)
    for per_sample in (False, True):
        content = found.to_dict(per_sample=per_sample)
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        assert ("y_proba" in content) == per_sample
    assert content["top_k"]["3"] == found.top_k[3]
    assert content["y_true"] == y_true.tolist()


def test_the_text_has_every_class_on_one_line():
    y = np.array(HOSTILE)[[0, 0, 1, 2, 3, 4]]
    found = Evaluation.from_predictions(y, y[[2, 1, 2, 3, 4, 5]], classes=sorted(HOSTILE))
    text = str(found)
    lines = text.splitlines()
    assert lines[0] == "6 samples, 5 classes"
    assert max(map(len, lines)) < 80
    table = lines[lines.index(next(line for line in lines if line.startswith("class "))) :][1:6]
    assert [line.split()[-1] for line in table] == ["1", "2", "1", "1", "1"]
    assert "two lines" in text
    assert "\x00" not in text
    assert "$x$ or $\\frac{1}{ " in text
    assert "taken for $x$" in text
    assert repr(found) == "<Evaluation of 6 samples, accuracy 0.833>"
