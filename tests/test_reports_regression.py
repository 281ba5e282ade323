"""Tests of evaluate for numbers: its measures equal those of scikit-learn."""

import json

import numpy as np
import pandas as pd
import pytest
from report_helpers import HOSTILE
from sklearn import metrics
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.reports import RegressionEvaluation, evaluate


@pytest.fixture(scope="module")
def data():
    return make_regression(60, 5, n_targets=2, noise=20.0, random_state=0)


@pytest.fixture(scope="module")
def line(data):
    X, Y = data
    return LinearRegression().fit(X[:30], Y[:30, 0])


# Measures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [0, slice(None)], ids=["one", "two"])
def test_measures_equal_those_of_scikit_learn(data, rng, columns, weighted):
    X, Y = data
    y = Y[:, columns]
    fitted = Ridge().fit(X[:30], y[:30])
    X, y = X[30:], y[30:]
    weights = rng.integers(1, 4, len(y)) if weighted else None
    found = evaluate(fitted, X, y, sample_weight=weights)
    assert isinstance(found, RegressionEvaluation)
    predicted = fitted.predict(X)
    np.testing.assert_allclose(found.y_pred, predicted)
    assert found.y_true.shape == y.shape
    for name, function in (
        ("mae", metrics.mean_absolute_error),
        ("rmse", metrics.root_mean_squared_error),
        ("r2", metrics.r2_score),
    ):
        assert found[name] == pytest.approx(function(y, predicted, sample_weight=weights))
        each = function(y, predicted, sample_weight=weights, multioutput="raw_values")
        np.testing.assert_allclose(found.per_output[name], each)


def test_the_worst_samples_come_first(data, line):
    X, Y = data
    found = evaluate(line, X, Y[:, 0])
    errors = Y[:, 0] - line.predict(X)
    order = np.argsort(-np.abs(errors))
    assert [row["index"] for row in found.worst] == order.tolist()
    first = found.worst[0]
    assert first["error"] == pytest.approx(errors[order[0]])
    assert first["true"] - first["predicted"] == pytest.approx(first["error"])


def test_errors_of_several_outputs_are_compared_in_their_deviations():
    true = np.array([[0, 0], [1, 1000], [2, 2000], [3, 3000.0]])
    predicted = true + np.array([[0, 0], [0, 900], [2, 0], [0, 0]])
    found = RegressionEvaluation.from_predictions(true, predicted, outputs=["age", "height"])
    assert [(row["index"], row["output"]) for row in found.worst[:2]] == [(2, "age"), (1, "height")]


def test_a_single_sample_has_no_r2():
    found = RegressionEvaluation.from_predictions([3.0], [2.0])
    assert (found.mae, found.rmse, found.r2) == (1, 1, None)
    assert "R2 -" in str(found)


# Estimators ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), Ridge()),
        GridSearchCV(Ridge(), {"alpha": [1.0]}, cv=2),
        PLSRegression(1),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_any_regressor_is_measured(data, estimator):
    X, Y = data
    fitted = estimator.fit(X, Y[:, 0])
    found = evaluate(fitted, X, Y[:, 0])
    assert found.r2 == pytest.approx(metrics.r2_score(Y[:, 0], np.ravel(fitted.predict(X))))


def test_outputs_have_the_names_of_columns(data):
    X, Y = data
    frame = pd.DataFrame(Y, columns=["age", "weight"])
    found = evaluate(Ridge().fit(X, Y), X, frame)
    assert found.outputs.tolist() == ["age", "weight"]
    assert evaluate(Ridge().fit(X, Y), X, Y).outputs.tolist() == [0, 1]
    assert evaluate(Ridge().fit(X, Y[:, 1]), X, frame["weight"]).outputs.tolist() == ["weight"]


# Errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: None, "Got None"),
        (lambda y: y[1:], "60 images and 59 targets"),
        (lambda y: np.where(np.arange(60) == 7, np.nan, y), "NaN: .* 1 of 60 .* first at index 7"),
        (lambda y: np.where(np.arange(60) == 3, np.inf, y), "infinity .* first at index 3"),
        (lambda y: [None] * 60, "60 of 60"),
        (lambda y: ["a"] * 60, "must be numbers"),
        (lambda y: [{1}] * 60, "must be numbers"),
        (lambda y: y[:, None, None], r"shape \(n,\) or \(n, n_outputs\)"),
        (lambda y: 3.0, "Got one float"),
        (lambda y: y.astype(str), "must be numbers"),
        (lambda y: y + 1j, "must be numbers"),
        (lambda y: [], "60 images and 0 targets"),
        (lambda y: [[1, 2], [3]], "rows of different lengths"),
    ],
)
def test_wrong_targets_raise_an_error_before_prediction(data, line, monkeypatch, change, message):
    X, Y = data
    monkeypatch.setattr(LinearRegression, "predict", None)
    with pytest.raises(ValueError, match=message):
        evaluate(line, X, change(Y[:, 0]))


def test_other_shapes_raise_an_error(data, line):
    X, Y = data
    with pytest.raises(ValueError, match=r"shape of y, \(60, 2\). Got \(60, 1\)"):
        evaluate(line, X, Y)
    with pytest.raises(InvalidParameterError, match="sample_weight must have shape"):
        evaluate(line, X, Y[:, 0], sample_weight=[1.0])
    with pytest.raises(InvalidParameterError, match="2 names, one for each output"):
        RegressionEvaluation.from_predictions(Y, Y, outputs=["a"])
    with pytest.raises(ValueError, match=r"Got \(59, 2\)"):
        RegressionEvaluation.from_predictions(Y, Y[1:])
    with pytest.raises(ValueError, match="y_pred: Input y contains NaN"):
        RegressionEvaluation.from_predictions(Y, Y * np.nan)
    with pytest.raises(ValueError, match="at least one number"):
        RegressionEvaluation.from_predictions([], [])
    with pytest.raises(NotFittedError):
        evaluate(Ridge(), X, Y)
    with pytest.raises(ImageError, match="X must be a sequence"):
        evaluate(line, "photo.jpg", [1.0])


# Forms of the result --------------------------------------------------------------------------


def test_json_keeps_the_content(data, line):
    X, Y = data
    found = evaluate(line, X, Y[:, 0])
    for per_sample in (False, True):
        content = found.to_dict(per_sample=per_sample)
        assert json.loads(json.dumps(content, allow_nan=False)) == content
        assert ("y_pred" in content) == per_sample


def test_the_text_has_every_output_on_one_line():
    true = np.arange(20.0).reshape(4, 5) ** 2
    found = RegressionEvaluation.from_predictions(true, true + 1, outputs=HOSTILE)
    lines = str(found).splitlines()
    assert lines[:2] == ["4 samples, 5 outputs", "MAE 1   RMSE 1   R2 0.9999"]
    assert len(lines) == 2 + 1 + 6 + 1 + 5
    assert max(map(len, lines)) < 80
    assert "\x00" not in str(found)
    assert repr(found) == "<RegressionEvaluation of 4 samples, R2 0.9999>"


@pytest.mark.parametrize(
    ("true", "predicted", "options", "message"),
    [
        ([1, 2], [1], {}, r"shape of y, \(2, 1\). Got \(1, 1\)"),
        ([1, 2], None, {}, "Expected y_pred .* Got None"),
        (None, [1, 2], {}, "Expected y_true .* Got None"),
        ([1, None], [1, 2], {}, "y_true: Input y contains NaN"),
        ([1, 2], [1, np.inf], {}, "y_pred: Input y contains infinity"),
        ([1, 2], ["1", "2"], {}, "y_pred: y must be numbers"),
        (["a", "b"], [1, 2], {}, "y_true: y must be numbers"),
        ([], [], {}, "at least one number"),
        (3, 3, {}, "Got one int"),
        ([{1}, {2}], [1, 2], {}, "y_true: y must be numbers"),
        ([1, 2], [1, 2], {"sample_weight": [1, -1]}, "nowhere negative"),
        ([1, 2], [1, 2], {"sample_weight": [0, 0]}, "not zero everywhere"),
        ([1, 2], [1, 2], {"outputs": ["a", "b"]}, "1 names, one for each output"),
        ([1, 2], [1, 2], {"outputs": "a"}, "1 names, one for each output"),
    ],
)
def test_wrong_predictions_raise_an_error(true, predicted, options, message):
    with pytest.raises(ValueError, match=message):
        RegressionEvaluation.from_predictions(true, predicted, **options)
