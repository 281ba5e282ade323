"""Tests of RegressionErrorDisplay: its points are the true, predicted and residual numbers."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from report_helpers import HOSTILE
from sklearn.datasets import make_regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge

from transferclf.exceptions import InvalidParameterError
from transferclf.reports import RegressionErrorDisplay

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    return make_regression(30, 4, n_targets=2, noise=10.0, random_state=0)


def points(axes):
    return np.sort(axes.collections[0].get_offsets().data, axis=0)


def test_both_panels_show_every_sample_of_every_output(data):
    X, Y = data
    ridge = Ridge().fit(X, Y)
    display = RegressionErrorDisplay.from_estimator(
        ridge, X, pd.DataFrame(Y, columns=["age", "height"])
    )
    predicted = ridge.predict(X)
    assert display.axes_.shape == (2, 2)
    for output in range(2):
        left, right = display.axes_[output]
        shown = np.column_stack([predicted[:, output], Y[:, output]])
        np.testing.assert_allclose(points(left), np.sort(shown, axis=0))
        shown[:, 1] -= predicted[:, output]
        np.testing.assert_allclose(points(right), np.sort(shown, axis=0))
        assert (left.get_xlabel(), left.get_ylabel()) == ("predicted", "true")
        assert right.get_ylabel() == "residual (true - predicted)"
    mae = display.evaluation.per_output["mae"][1]
    r2 = display.evaluation.per_output["r2"][1]
    assert display.axes_[1, 0].get_title() == f"height: MAE {mae:.3g}, R2 {r2:.3f}"
    assert display.axes_[1, 1].get_title() == "height"


def test_given_axes_are_used_and_options_reach_the_points(data):
    X, Y = data
    figure, axes = plt.subplots(1, 2)
    ridge = Ridge().fit(X, Y[:, 0])
    display = RegressionErrorDisplay.from_estimator(ridge, X, Y[:, 0], ax=axes, s=7)
    assert display.figure_ is figure
    assert display.axes_.ravel().tolist() == axes.tolist()
    assert axes[0].collections[0].get_sizes().tolist() == [7]


def test_names_are_shown_as_they_are():
    Y = np.arange(20.0).reshape(4, 5)
    display = RegressionErrorDisplay.from_predictions(Y, Y + 1, outputs=HOSTILE)
    display.figure_.draw_without_rendering()
    assert display.axes_[0, 1].get_title() == "<script>alert(1)</script>"
    assert display.axes_[3, 1].get_title() == "two lines"


def test_wrong_arguments_raise_an_error(data):
    X, Y = data
    ridge = Ridge().fit(X, Y[:, 0])
    of = RegressionErrorDisplay.from_estimator
    classes = (Y[:, 0] > 0).astype(int)
    for wrong, message in (
        (None, "Got None"),
        (Y[1:, 0], "30 images and 29 targets"),
        (Y[:, 0] * np.nan, "30 of 30"),
        (["a"] * 30, "must be numbers"),
        (Y, "shape of y"),
    ):
        with pytest.raises(ValueError, match=message):
            of(ridge, X, wrong)
    with pytest.raises(InvalidParameterError, match="must be a regressor. Got LogisticRegression"):
        of(LogisticRegression().fit(X, classes), X, classes)
    with pytest.raises(NotFittedError):
        of(Ridge(), X, Y[:, 0])
    with pytest.raises(InvalidParameterError, match="2 axes, two for each output. Got 1"):
        of(ridge, X, Y[:, 0], ax=plt.gca())
    with pytest.raises(InvalidParameterError, match="axes of matplotlib"):
        of(ridge, X, Y[:, 0], ax=["a", "b"])
    with pytest.raises(ValueError, match="one target per image|shape"):
        RegressionErrorDisplay.from_predictions([1, 2], [1])
