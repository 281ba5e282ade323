"""Tests of reports about TransferClassifier with several labels and TransferRegressor."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from sklearn import metrics
from sklearn.pipeline import make_pipeline

from transferclf import TransferClassifier, TransferRegressor
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import (
    EmbeddingDisplay,
    GradCAMDisplay,
    ImageGridDisplay,
    MultilabelEvaluation,
    NetworkInputDisplay,
    RegressionErrorDisplay,
    TrainingHistoryDisplay,
    evaluate,
    prediction_table,
    report,
)

mpl.use("Agg")

N = 40


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (N, 32, 32, 3), dtype=np.uint8)
    images[::2, :, :16] += np.uint8(120)
    images[:20, 16:, :, 0] += np.uint8(60)
    return images


@pytest.fixture(scope="module")
def frame(images):
    rng = np.random.default_rng(1)
    left, red = np.arange(N) % 2 == 0, np.arange(N) < 20
    table = {"left": left, "red": red, "odd": rng.random(N) < 0.5}
    return pd.DataFrame(table).astype(int)


@pytest.fixture(scope="module")
def classifier(images, frame):
    return TransferClassifier("tiny", image_size=32, l2=0.01, random_state=0).fit(images, frame)


@pytest.fixture(scope="module")
def numbers(images):
    mean = images.reshape(N, -1).mean(axis=1)
    return pd.DataFrame({"brightness": mean / 10, "darkness": 25 - mean / 10})


@pytest.fixture(scope="module")
def regressor(images, numbers):
    return TransferRegressor("tiny", image_size=32, random_state=0).fit(images[:30], numbers[:30])


@pytest.fixture
def passes(monkeypatch):
    """Collect the number of images of every pass through a head."""
    found = []
    for kind in (TransferClassifier, TransferRegressor):
        scores = kind._scores
        monkeypatch.setattr(
            kind, "_scores", lambda self, X, scores=scores: found.append(len(X)) or scores(self, X)
        )
    return found


# Several labels ------------------------------------------------------------------------------


def test_labels_are_measured_in_one_pass(classifier, images, frame, passes):
    found = evaluate(make_pipeline(classifier), images, frame[["odd", "left", "red"]])
    assert passes == [N]
    assert isinstance(found, MultilabelEvaluation)
    assert found.classes.tolist() == ["left", "red", "odd"]
    np.testing.assert_array_equal(found.y_true, frame)
    np.testing.assert_array_equal(found.y_pred, classifier.predict(images))
    np.testing.assert_array_equal(found.y_proba, classifier.predict_proba(images))
    expected = metrics.average_precision_score(frame, classifier.predict_proba(images))
    assert found.mean_average_precision == pytest.approx(expected)
    sets = [set(frame.columns[row == 1]) for row in frame.to_numpy()]
    assert evaluate(classifier, images, sets).to_dict() == found.to_dict()


def test_predict_of_a_subclass_is_called(images, frame, classifier):
    class Contrary(TransferClassifier):
        def predict(self, X):
            return 1 - super().predict(X)

    contrary = Contrary("tiny", image_size=32, l2=0.01, random_state=0).fit(images, frame)
    np.testing.assert_array_equal(
        evaluate(contrary, images, frame).y_pred, 1 - classifier.predict(images)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.rename(columns={"odd": "Odd"}), "Got 'Odd' too"),
        (lambda frame: frame[["left", "red"]], "none for 'odd'"),
        (lambda frame: frame[:-1], "40 images and 39"),
        (lambda frame: frame["left"], "expected a set of labels"),
        (lambda frame: [{"left", "blue"}] * N, "Got 'blue' too"),
        (lambda frame: None, "Got None"),
    ],
)
def test_other_labels_raise_an_error_before_prediction(
    classifier, images, frame, passes, change, message
):
    for ask in (evaluate, ImageGridDisplay.from_estimator):
        options = {} if ask is evaluate else {"label": "left"}
        with pytest.raises(ValueError, match=message):
            ask(classifier, images, change(frame), **options)
        if ask is evaluate:
            assert passes == []


def test_a_table_of_labels_has_the_names(classifier, images, passes):
    table = prediction_table(classifier, images)
    assert passes == [N]
    names = [f"probability_{name}" for name in ("left", "red", "odd")]
    assert list(table.columns) == ["file", "labels", *names]
    np.testing.assert_array_equal(table[names], classifier.predict_proba(images))
    predicted = classifier.predict(images)
    joined = [", ".join(classifier.classes_[row == 1]) for row in predicted]
    assert table["labels"].tolist() == joined


def test_heat_maps_are_about_one_label(classifier, images):
    display = GradCAMDisplay.from_estimator(classifier, images[:3], class_="red")
    assert list(display.classes) == ["red"] * 3
    proba = classifier.predict_proba(images[:3])[:, 1]
    np.testing.assert_allclose(display.probabilities, proba)
    assert display.axes_[0].get_title() == f"red\n{proba[0]:.0%}"
    with pytest.raises(InvalidParameterError, match="class_ must be one of 'left', 'red', 'odd'"):
        GradCAMDisplay.from_estimator(classifier, images[:3], class_="blue")


def test_a_page_about_labels_takes_one_pass(classifier, images, frame, tmp_path, passes):
    path = tmp_path / "page.html"
    report(classifier, images, frame, path, n_images=4, audit=False)
    assert passes == [N]
    text = path.read_text()
    assert "Heat map for" in text
    assert "Course of the binary_accuracy in training" in text
    assert "by the label" in text
    assert "finds what speaks for a label." in text
    ids = re.findall(r'<section id="(\w+)">', text)
    assert ids[:3] == ["summary", "labels", "errors"]
    assert len(ids) == len(set(ids)) == 9


# Numbers -------------------------------------------------------------------------------------


def test_numbers_are_measured_in_one_pass(regressor, images, numbers, passes):
    found = evaluate(make_pipeline(regressor), images[30:], numbers[30:])
    assert passes == [10]
    predicted = regressor.predict(images[30:])
    np.testing.assert_array_equal(found.y_pred, predicted)
    assert found.outputs.tolist() == ["brightness", "darkness"]
    expected = metrics.r2_score(numbers[30:], predicted, multioutput="raw_values")
    np.testing.assert_allclose(found.per_output["r2"], expected)


def test_a_table_of_numbers_has_the_names_of_the_outputs(regressor, images, passes):
    table = prediction_table(regressor, images[:5])
    assert passes == [5]
    names = ["prediction_brightness", "prediction_darkness"]
    assert list(table.columns) == ["file", *names]
    np.testing.assert_array_equal(table[names], regressor.predict(images[:5]))


def test_displays_show_a_regressor(regressor, images, numbers):
    heat = GradCAMDisplay.from_estimator(regressor, images[:3], class_="darkness")
    values = regressor.predict(images[:3])[:, 1]
    np.testing.assert_allclose(heat.probabilities, values, rtol=1e-6)
    assert heat.axes_[0].get_title() == f"darkness\n{values[0]:.3g}"
    assert EmbeddingDisplay.from_estimator(regressor, images, method="pca").embedding.shape[0] == N
    assert NetworkInputDisplay.from_estimator(regressor, images[:2]).inputs.shape[0] == 2
    drawn = RegressionErrorDisplay.from_estimator(regressor, images, numbers)
    assert drawn.axes_.shape == (2, 2)


def test_the_training_of_a_regressor_is_shown(images, numbers):
    options = {"optimizer": "adam", "epochs": 2, "random_state": 0}
    fitted = TransferRegressor("tiny", image_size=32, **options).fit(images, numbers["darkness"])
    display = TrainingHistoryDisplay.from_estimator(fitted)
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "mae"]


def test_classes_are_no_numbers(regressor, images):
    with pytest.raises(ValueError, match="y must be numbers"):
        evaluate(regressor, images, ["a"] * N)
    with pytest.raises(InvalidParameterError, match="fitted classifier with one label"):
        ImageGridDisplay.from_estimator(regressor, images, ["a"] * N)
