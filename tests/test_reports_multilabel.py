"""Tests of evaluate for several labels: its measures equal those of scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
from report_helpers import HOSTILE
from scipy import sparse
from sklearn import metrics
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from transferclf.exceptions import InvalidParameterError
from transferclf.reports import Evaluation, MultilabelEvaluation, evaluate

NAMES = ["bee", "cat", "dog", "eel"]


@pytest.fixture(scope="module")
def data():
    X, Y = make_multilabel_classification(120, 10, n_classes=4, random_state=0)
    return X, Y


@pytest.fixture(scope="module")
def network(data):
    X, Y = data
    return MLPClassifier((8,), max_iter=500, solver="lbfgs", random_state=0).fit(X[:80], Y[:80])


@pytest.fixture
def tables(rng):
    true = (rng.random((60, 4)) < 0.4).astype(int)
    proba = np.clip(0.35 * true + 0.65 * rng.random((60, 4)), 0, 1)
    return true, proba


def sets_of(table, names=NAMES):
    return [{names[number] for number in np.flatnonzero(row)} for row in table]


# Measures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_measures_equal_those_of_scikit_learn(tables, rng, weighted):
    true, proba = tables
    weights = rng.integers(1, 4, len(true)) if weighted else None
    found = MultilabelEvaluation.from_predictions(true, y_proba=proba, sample_weight=weights)
    predicted = (proba > 0.5).astype(int)
    option = {"sample_weight": weights}
    assert found.n_samples == 60
    assert found.mean_average_precision == pytest.approx(
        metrics.average_precision_score(true, proba, average="macro", **option)
    )
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(true, proba, **option))
    for average in ("micro", "macro", "samples"):
        expected = metrics.f1_score(true, predicted, average=average, zero_division=0, **option)
        assert found[f"f1_{average}"] == pytest.approx(expected)
    assert found.hamming_loss == pytest.approx(metrics.hamming_loss(true, predicted, **option))
    expected = metrics.accuracy_score(true, predicted, **option)
    assert found.subset_accuracy == pytest.approx(expected)
    table = metrics.precision_recall_fscore_support(true, predicted, **option)
    for name, values in zip(("precision", "recall", "f1", "support"), table, strict=True):
        np.testing.assert_allclose(found.per_label[name], values)
    np.testing.assert_allclose(
        found.per_label["average_precision"],
        metrics.average_precision_score(true, proba, average=None, **option),
    )


def test_labels_without_positive_images_do_not_count(tables):
    true, proba = tables
    true = true.copy()
    true[:, 1], true[:, 2] = 0, 1
    found = MultilabelEvaluation.from_predictions(true, y_proba=proba)
    there = [0, 2, 3]
    expected = metrics.average_precision_score(true[:, there], proba[:, there], average="macro")
    assert found.mean_average_precision == pytest.approx(expected)
    assert found.roc_auc == pytest.approx(metrics.roc_auc_score(true[:, [0, 3]], proba[:, [0, 3]]))
    assert np.isnan(found.per_label["recall"][1])
    assert np.isnan(found.per_label["average_precision"][1])
    assert found.to_dict()["per_label"]["average_precision"][1] is None


def test_a_single_label_is_measured_as_two_classes_are(tables):
    true, proba = (table[:, :1] for table in tables)
    found = MultilabelEvaluation.from_predictions(true, y_proba=proba)
    predicted = (proba > 0.5).astype(int)
    assert found.per_label["f1"].tolist() == [metrics.f1_score(true, predicted)]
    assert found.f1_macro == found.f1_micro == metrics.f1_score(true, predicted)
    assert found.subset_accuracy == pytest.approx(metrics.accuracy_score(true, predicted))
    assert found.hamming_loss == pytest.approx(1 - found.subset_accuracy)


@pytest.mark.parametrize(
    "form",
    [
        lambda table: table.tolist(),
        lambda table: table.astype(bool),
        sparse.csr_matrix,
        lambda table: sparse.coo_array(table),
        lambda table: pd.DataFrame(table[:, ::-1], columns=NAMES[::-1]),
        sets_of,
        lambda table: [sorted(labels) for labels in sets_of(table)],
        lambda table: pd.Series([tuple(labels) for labels in sets_of(table)]),
        lambda table: np.array(sets_of(table), dtype=object),
    ],
)
def test_y_has_any_form(tables, form):
    true, proba = tables
    plain = MultilabelEvaluation.from_predictions(true, y_proba=proba, classes=NAMES)
    other = MultilabelEvaluation.from_predictions(form(true), y_proba=proba, classes=NAMES)
    assert other.to_dict(per_sample=True) == plain.to_dict(per_sample=True)


def test_names_come_from_columns_and_sets(tables):
    true, proba = tables
    frame = pd.DataFrame(true, columns=NAMES[::-1])
    found = MultilabelEvaluation.from_predictions(frame, y_proba=proba)
    assert found.classes.tolist() == NAMES[::-1]
    np.testing.assert_array_equal(found.y_true, true)
    assert MultilabelEvaluation.from_predictions(sets_of(true), sets_of(true)).classes.tolist() == (
        NAMES
    )
    assert MultilabelEvaluation.from_predictions(true, true).classes.tolist() == [0, 1, 2, 3]


# Estimators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        KNeighborsClassifier(3),
        MultiOutputClassifier(LogisticRegression()),
        OneVsRestClassifier(LogisticRegression()),
        make_pipeline(StandardScaler(), KNeighborsClassifier(3)),
        GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [3]}, cv=2),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_classifier_of_several_labels_is_measured(data, estimator):
    X, Y = data
    fitted = estimator.fit(X[:80], Y[:80])
    found = evaluate(fitted, X[80:], Y[80:])
    assert isinstance(found, MultilabelEvaluation)
    np.testing.assert_array_equal(found.y_pred, fitted.predict(X[80:]))
    said = fitted.predict_proba(X[80:])
    if isinstance(said, list):
        said = np.column_stack([proba[:, 1] for proba in said])
    np.testing.assert_array_equal(found.y_proba, said)
    assert found.f1_micro == metrics.f1_score(Y[80:], fitted.predict(X[80:]), average="micro")


def test_scores_rank_where_there_are_no_probabilities(data):
    X, Y = data
    for estimator in (RidgeClassifier(), OneVsRestClassifier(LinearSVC())):
        fitted = estimator.fit(X[:80], Y[:80])
        found = evaluate(fitted, X[80:], Y[80:])
        assert found.y_proba is None
        assert found.mean_average_precision == pytest.approx(
            metrics.average_precision_score(Y[80:], fitted.decision_function(X[80:]))
        )


def test_a_label_that_the_estimator_never_saw_has_the_probability_zero(data):
    X, Y = data
    Y = Y.copy()
    Y[:, 2] = 0
    found = evaluate(KNeighborsClassifier(3).fit(X, Y), X, Y)
    assert not found.y_proba[:, 2].any()
    assert found.mean_average_precision is not None


def test_the_estimator_decides_the_kind_before_y(data, network):
    X, Y = data
    assert isinstance(evaluate(network, X, Y), MultilabelEvaluation)
    y = Y.sum(axis=1)
    assert isinstance(evaluate(KNeighborsClassifier().fit(X, y), X, y), Evaluation)
    with pytest.raises(ValueError, match=r"y must be one label for each image"):
        evaluate(GaussianNB().fit(X, y), X, Y)
    with pytest.raises(ValueError, match="a set of labels for each image"):
        evaluate(network, X, y)


def test_columns_of_a_data_frame_name_the_labels_of_estimators_without_names(data, network):
    X, Y = data
    found = evaluate(network, X, pd.DataFrame(Y, columns=NAMES))
    assert found.classes.tolist() == NAMES
    np.testing.assert_array_equal(found.y_pred, network.predict(X))
    neighbours = KNeighborsClassifier().fit(X, Y)
    assert evaluate(neighbours, X, pd.DataFrame(Y, columns=NAMES)).classes.tolist() == NAMES


# Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda Y: None, "Got None"),
        (lambda Y: Y[1:], "120 images and 119 sets or rows"),
        (lambda Y: Y[:, :3], "one column for each of 4 labels"),
        (lambda Y: np.where(Y == 1, np.nan, Y), "no label for 101 of 120 images"),
        (lambda Y: Y * 2, "with 2 in row 0, column 0"),
        (lambda Y: Y.astype(str), "Got shape .* of <U"),
        (lambda Y: Y[:, 0], "expected a set of labels"),
        (lambda Y: [], "120 images and 0 sets"),
        (lambda Y: [{"a"}] * 120, "Got 'a' too"),
        (lambda Y: [{0, 9}] * 120, "Got 9 too"),
        (lambda Y: ["a"] * 120, "Got 'a' at index 0"),
        (lambda Y: [[(0, 1), {2}]] * 120, "y must|inhomogeneous"),
        (lambda Y: Y[..., None], "a set of labels for each image"),
        (lambda Y: pd.DataFrame(Y).astype(str).replace("0", "x"), "Got shape .* of"),
    ],
)
def test_wrong_targets_raise_an_error_before_prediction(
    data, network, monkeypatch, change, message
):
    X, Y = data
    monkeypatch.setattr(MLPClassifier, "predict_proba", None)
    with pytest.raises(ValueError, match=message):
        evaluate(network, X, change(Y))


def test_columns_with_other_names_raise_an_error():
    true = np.eye(4, dtype=int)
    frame = pd.DataFrame(true, columns=["bee", "cat", "dog", "Eel"])
    with pytest.raises(ValueError, match="Got 'Eel' too. Did you mean 'eel'"):
        MultilabelEvaluation.from_predictions(frame, true, classes=NAMES)


def test_wrong_predictions_raise_an_error(tables):
    true, proba = tables
    of = MultilabelEvaluation.from_predictions
    for wrong, message in (
        (proba + 1, "from 0 to 1"),
        (proba[:, :3], r"shape \(n, 4\)"),
        (proba * np.nan, "60 of 60 rows"),
        (proba.astype(str), "must be numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            of(true, y_proba=wrong)
    with pytest.raises(ValueError, match="one row per image"):
        of(true, y_proba=proba[:59])
    with pytest.raises(ValueError, match="60 images and 59 sets or rows"):
        of(true, true[:59])
    with pytest.raises(ValueError, match="Got NaN"):
        of(true, true, y_score=proba * np.nan)
    with pytest.raises(InvalidParameterError, match="Got neither"):
        of(true)
    with pytest.raises(ValueError, match="Got None"):
        of(None, true)
    with pytest.raises(InvalidParameterError, match="different names"):
        of(true, true, classes=["a", "a", "b", "c"])
    with pytest.raises(ValueError, match="Got the label None at index 1"):
        of([{"a"}, {None}], [{"a"}, {"a"}])
    with pytest.raises(InvalidParameterError, match="sample_weight must have shape"):
        of(true, true, sample_weight=[1.0])


def test_an_estimator_that_predicts_no_indicator_raises_an_error(data):
    class Contrary(ClassifierMixin, BaseEstimator):
        multilabel_ = True
        classes_ = np.arange(4)

        def fit(self, X, y):
            return self

        def predict(self, X):
            return np.zeros(len(X))

    X, Y = data
    with pytest.raises(InvalidParameterError, match=r"indicator of shape \(n, 4\)"):
        evaluate(Contrary().fit(X, Y), X, Y)


# Forms of the result --------------------------------------------------------------------------


def test_json_keeps_the_content(tables):
    true, proba = tables
    found = MultilabelEvaluation.from_predictions(true, y_proba=proba)
    for per_sample in (False, True):
        content = found.to_dict(per_sample=per_sample)
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        assert ("y_proba" in content) == per_sample


def test_the_text_has_every_label_on_one_line():
    true = np.eye(5, dtype=int)
    found = MultilabelEvaluation.from_predictions(true, true[::-1], classes=HOSTILE)
    lines = str(found).splitlines()
    assert lines[0] == "5 samples, 5 labels"
    assert max(map(len, lines)) < 80
    assert len(lines) == 4 + 1 + 6
    assert [line.split()[-1] for line in lines[-5:]] == ["1"] * 5
    assert "\x00" not in str(found)
    assert lines[3] == "Hamming loss 0.320   subset accuracy 0.200"
    assert repr(found) == "<MultilabelEvaluation of 5 samples, mAP ->"


def test_one_label_is_evaluated_as_two_classes(tables):
    true, proba = tables
    found = MultilabelEvaluation.from_predictions(true, y_proba=proba, classes=NAMES)
    of_cat = found.of_label("cat")
    assert isinstance(of_cat, Evaluation)
    assert of_cat.classes.tolist() == ["not cat", "cat"]
    predicted = proba[:, 1] > 0.5
    np.testing.assert_array_equal(
        of_cat.confusion_matrix, metrics.confusion_matrix(true[:, 1], predicted)
    )
    assert of_cat.roc_auc == pytest.approx(metrics.roc_auc_score(true[:, 1], proba[:, 1]))
    assert of_cat.loss == pytest.approx(metrics.log_loss(true[:, 1], proba[:, 1]))
    assert MultilabelEvaluation.from_predictions(true, true).of_label(2).accuracy == 1


@pytest.mark.parametrize("label", ["Cat", None, 1, ["cat"], {"cat"}, np.nan, "", b"cat"])
def test_a_label_that_is_not_there_raises_an_error(tables, label):
    true, _ = tables
    found = MultilabelEvaluation.from_predictions(true, true, classes=NAMES)
    with pytest.raises(InvalidParameterError, match="label must be one of"):
        found.of_label(label)
