"""Tests of the page about several labels and about numbers."""

import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from PIL import Image
from sklearn.linear_model import LinearRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_reports_html import HOSTILE, Outline, written

from transferclf import TransferRegressor
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import evaluate, report
from transferclf.reports.page.rendering import name_text

mpl.use("Agg")

# matplotlib warns of letters that the font lacks.
pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from")

N = 40


def means(X):
    """Return the mean of each colour of images."""
    return np.asarray(X).reshape(len(X), -1, 3).mean(axis=1)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 200, (N, 1, 1, 3))
    return (base + rng.integers(0, 56, (N, 32, 32, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def labelled(images):
    """A classifier of labels with hostile names, and the labels of its images."""
    noise = np.random.default_rng(1).normal(0, 60, (N, len(HOSTILE)))
    table = means(images)[:, np.arange(len(HOSTILE)) % 3] + noise > 120
    frame = pd.DataFrame(table.astype(int), columns=HOSTILE)
    pipeline = make_pipeline(FunctionTransformer(means), KNeighborsClassifier(3))
    return pipeline.fit(images, table.astype(int)), frame


@pytest.fixture(scope="module")
def of_labels(images, labelled, tmp_path_factory):
    classifier, frame = labelled
    folder = tmp_path_factory.mktemp("labels")
    return Outline(written(folder, classifier, images, frame, n_images=3, audit=True).read_text())


@pytest.fixture(scope="module")
def of_numbers(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    y = means(images)[:, 0] / 10
    paths = [str(folder / f"<script>{index}.png") for index in range(N)]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    estimator = TransferRegressor("tiny", image_size=32, random_state=0).fit(paths[:30], y[:30])
    target = tmp_path_factory.mktemp("page")
    page = written(target, estimator, paths[10:], y[10:], n_images=4, audit=True)
    return Outline(page.read_text()), evaluate(estimator, paths[10:], y[10:])


# Several labels ------------------------------------------------------------------------------


def test_a_page_about_labels_has_their_sections(of_labels):
    headings = [text for level, text in of_labels.headings if level == 2]
    assert headings == [
        "Summary", "Label by label", "Images to look at", "Where the network looks", "Training",
        "How the network sees the images", "The data themselves", "Parameters", "Versions",
    ]  # fmt: skip
    assert f"{N} images, {len(HOSTILE)} labels." in of_labels.text


def test_the_measures_of_labels_equal_those_of_evaluate(of_labels, images, labelled):
    expected = evaluate(labelled[0], images, labelled[1])
    text = of_labels.text
    assert f"mean average precision {expected.mean_average_precision:.3f}" in text
    assert f"Hamming loss {expected.hamming_loss:.3f}" in text
    row = [expected.per_label[name][4] for name in ("precision", "recall", "f1")]
    shown = " ".join(f"{value:.3f}" for value in row)
    average = expected.per_label["average_precision"][4]
    support, predicted = expected.per_label["support"][4], expected.y_pred[:, 4].sum()
    assert f"$x_{{1}}$ $\\frac{{ {shown} {average:.3f} {support} {predicted}" in text


def test_missed_and_claimed_labels_are_shown_with_their_probability(of_labels, images, labelled):
    expected = evaluate(labelled[0], images, labelled[1])
    missed = (expected.y_true == 1) & (expected.y_pred == 0)
    lowest = expected.y_proba[missed].min()
    alts = [image["alt"] for image in of_labels.all("img")]
    shown = [alt for alt in alts if ", with the label" in alt]
    assert len(shown) == min(3, missed.sum())
    assert shown[0].endswith(f"whose probability is {lowest:.0%}")
    index, column = (int(one[0]) for one in np.nonzero(missed & (expected.y_proba == lowest)))
    assert shown[0].startswith(f"Image {index}, with the label")
    assert name_text(expected.classes[column]) in shown[0]
    claimed = [alt for alt in alts if ", without the label" in alt]
    assert len(claimed) == min(3, ((expected.y_true == 0) & (expected.y_pred == 1)).sum())


def test_hostile_names_of_labels_are_texts(of_labels):
    assert of_labels.all("script") == []
    assert not [key for _, found in of_labels.elements for key in found if key[:2] == "on"]
    assert "<script>document.title='hacked'</script>" in of_labels.text
    assert not re.search("[\x00-\x08\x1b\u202a-\u202e\ud800-\udfff]", of_labels.text)


def test_parts_that_need_a_network_or_probabilities_give_a_reason(of_labels, images, tmp_path):
    assert "a heat map needs a TransferClassifier, and Pipeline is or has none" in of_labels.text
    X = means(images)
    table = (X > 120).astype(int)
    page = written(tmp_path, RidgeClassifier().fit(X, table), X, table, audit=False)
    text = Outline(page.read_text()).text
    assert "X is no images, so that none can be shown." in text
    assert "Left out, as audit=False says" not in text  # X is no images is said instead


# Numbers -------------------------------------------------------------------------------------


def test_a_page_about_numbers_has_their_sections(of_numbers):
    outline, expected = of_numbers
    headings = [text for level, text in outline.headings if level == 2]
    assert headings == [
        "Summary", "Output by output", "True and predicted numbers", "Images to look at",
        "Where the network looks", "Training", "How the network sees the images",
        "The data themselves", "Parameters", "Versions",
    ]  # fmt: skip
    assert f"mean absolute error {expected.mae:.4g}" in outline.text
    assert f"R2 {expected.r2:.4g}" in outline.text
    assert "30 images, 1 output." in outline.text
    assert "finds what speaks for a larger number." in outline.text
    # Ridge regression in closed form has no iterations.
    assert "Left out: training took a single step, which has no course." in outline.text


def test_the_largest_errors_are_shown_with_heat_maps(of_numbers):
    outline, expected = of_numbers
    alts = [image["alt"] for image in outline.all("img")]
    first = expected.worst[0]
    start = f"Image {first['index']}, whose number is {first['true']:.4g}"
    assert sum(alt.startswith(start) for alt in alts) == 2  # the picture, and beside its heat map
    assert sum("Heat map for" in alt or "Nothing in it" in alt for alt in alts) == 4
    assert any("30 images by their true number" in alt for alt in alts)
    assert outline.all("script") == []
    assert pyplot.get_fignums() == []


def test_a_regressor_without_images_gets_a_page(images, tmp_path):
    X = means(images)
    y = pd.DataFrame(X[:, :2], columns=["<b>red</b>", "green"])
    line = LinearRegression().fit(X, y.to_numpy())
    text = Outline(written(tmp_path, line, X, y, audit=False).read_text()).text
    assert "a heat map needs a TransferRegressor, and LinearRegression is or has none" in text
    assert "<b>red</b>" in text
    assert "X is no images, so that none can be shown." in text
    assert f"{N} images, 2 outputs." in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y[1:], "40 images and 39 targets"),
        (lambda y: None, "Got None"),
        (lambda y: y * np.nan, "contains NaN"),
        (lambda y: y.astype(str), "y must be numbers"),
        (lambda y: [], "40 images and 0 targets"),
    ],
)
def test_wrong_numbers_raise_an_error_and_write_no_page(images, tmp_path, change, message):
    X = means(images)
    line = LinearRegression().fit(X, X[:, 0])
    with pytest.raises(ValueError, match=message):
        report(line, X, change(X[:, 0]), tmp_path / "page.html")
    with pytest.raises(InvalidParameterError, match="title must be"):
        report(line, X, X[:, 0], tmp_path / "page.html", title=3)
    assert list(tmp_path.iterdir()) == []
