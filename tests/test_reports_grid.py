"""Tests of ImageGridDisplay: choice of images, their order and their titles."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from image_helpers import in_kind
from matplotlib import pyplot as plt
from PIL import Image
from report_helpers import HOSTILE
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images import check_images
from transferclf.reports import ImageGridDisplay
from transferclf.reports.displays.figures import COLOURS

mpl.use("Agg")

# Six images of three classes; the predictions are wrong at 1, 2, 4 and 5.
TRUE = np.array(["a", "a", "b", "b", "c", "c"])
PROBA = np.array(
    [
        [0.9, 0.06, 0.04],
        [0.3, 0.6, 0.1],
        [0.55, 0.05, 0.4],
        [0.3, 0.36, 0.34],
        [0.95, 0.04, 0.01],
        [0.02, 0.495, 0.485],
    ]
)


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture
def images():
    """Six images of different sizes, whose gray is their number."""
    return [np.full((8 + n, 20 - n, 3), 40 * n, np.uint8) for n in range(6)]


def drawn(display):
    """Return the number of each image drawn, read from its gray."""
    return [int(axes.images[0].get_array()[0, 0, 0]) // 40 for axes in display.axes_]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("worst", [4, 2, 1, 5]),
        ("confident", [4, 1, 2, 5]),
        ("uncertain", [5, 3, 2, 1, 0, 4]),
        ("random", [0, 1, 2, 3, 4, 5]),
    ],
)
def test_kind_chooses_the_images_and_their_order(images, kind, expected):
    display = ImageGridDisplay.from_predictions(images, TRUE, y_proba=PROBA, kind=kind)
    assert display.indices_.tolist() == expected
    assert drawn(display) == expected
    few = ImageGridDisplay.from_predictions(images, TRUE, y_proba=PROBA, kind=kind, n_images=2)
    assert len(few.axes_) == 2
    if kind != "random":
        assert few.indices_.tolist() == expected[:2]


def test_titles_show_the_true_and_the_predicted_class(images):
    display = ImageGridDisplay.from_predictions(images, TRUE, y_proba=PROBA, kind="uncertain")
    titles = dict(zip(display.indices_.tolist(), display.axes_, strict=True))
    assert titles[4].get_title(loc="left") == "true c 0.01\npred. a 0.95"
    assert titles[3].get_title(loc="left") == "true b 0.36\npred. b 0.36"
    colours = {index: axes.spines["left"].get_edgecolor() for index, axes in titles.items()}
    assert colours[4] == mpl.colors.to_rgba(COLOURS[1])
    assert colours[3] == mpl.colors.to_rgba(COLOURS[2])


def test_random_images_depend_on_the_seed(images):
    def chosen(seed):
        options = {"kind": "random", "n_images": 3, "random_state": seed}
        return ImageGridDisplay.from_predictions(images, TRUE, TRUE, **options).indices_.tolist()

    assert chosen(1) == chosen(1)
    assert len({tuple(chosen(seed)) for seed in range(10)}) > 1


@pytest.mark.parametrize("kind", ["arrays", "PIL", "paths"])
def test_only_the_images_shown_are_decoded(kind, tmp_path, monkeypatch, rng):
    pixels = rng.integers(0, 256, (6, 300, 400, 3), dtype=np.uint8)
    X, loaded = in_kind(pixels, kind, tmp_path), []
    source = check_images(X)
    load = type(source).load
    monkeypatch.setattr(
        type(source), "load", lambda self, i, *rest: loaded.append(i) or load(self, i, *rest)
    )
    display = ImageGridDisplay.from_predictions(X, TRUE, y_proba=PROBA, n_images=2)
    assert loaded == [4, 2]
    shown = display.axes_[0].images[0].get_array()
    assert shown.shape == (192, 256, 3)  # at most 256 pixels, undistorted
    expected = np.asarray(Image.fromarray(pixels[4]).resize((256, 192), Image.Resampling.BILINEAR))
    assert np.abs(shown.astype(int) - expected).max() <= 2


def test_one_image_without_errors_is_shown():
    image = np.zeros((1, 8, 6), np.uint8)
    display = ImageGridDisplay.from_predictions(image, [1], y_proba=[[0, 1]], classes=[0, 1])
    assert display.indices_.size == display.axes_.size == 0
    assert [text.get_text() for axes in display.figure_.axes for text in axes.texts] == [
        "no errors"
    ]
    one = ImageGridDisplay.from_predictions(
        image, [1], y_proba=[[0, 1]], classes=[0, 1], kind="uncertain"
    )
    assert one.indices_.tolist() == [0]


def test_a_transfer_classifier_and_a_pipeline_are_shown():
    rng = np.random.default_rng(0)
    X, y = rng.random((12, 8, 8)), np.arange(12) % 2
    classifier = TransferClassifier("tiny", image_size=32, l2=0.1).fit(X, y)
    pipeline = make_pipeline(CNNFeatureExtractor("tiny", image_size=32), LogisticRegression())
    for estimator in (classifier, pipeline.fit(X, y)):
        display = ImageGridDisplay.from_estimator(estimator, X, y, kind="uncertain", n_images=3)
        margins = np.abs(estimator.predict_proba(X) @ [1, -1])
        assert display.indices_.tolist() == np.argsort(margins, kind="stable")[:3].tolist()
        shown = display.axes_[0].images[0].get_array()
        expected = np.rint(X[display.indices_[0]] * 255)  # fit found a range from 0 to 1
        np.testing.assert_array_equal(shown, np.repeat(expected[..., None], 3, axis=2))


def test_a_classifier_of_numbers_needs_images_to_show(rng):
    X, y = rng.random((12, 5)), np.arange(12) % 2
    images = rng.integers(0, 256, (12, 8, 6), dtype=np.uint8)
    classifier = make_pipeline(FunctionTransformer(), LogisticRegression()).fit(X, y)
    with pytest.raises(ImageError, match="Pass the images to be shown as images="):
        ImageGridDisplay.from_estimator(classifier, X, y)
    display = ImageGridDisplay.from_estimator(classifier, X, y, images=images, kind="random")
    np.testing.assert_array_equal(display.axes_[3].images[0].get_array()[..., 0], images[3])
    with pytest.raises(ValueError, match="one image per label, 12. Got 11"):
        ImageGridDisplay.from_estimator(classifier, X, y, images=images[1:])


def test_names_are_shown_as_they_are(images):
    y = np.array([*HOSTILE, "plain"])
    display = ImageGridDisplay.from_predictions(images, y, np.roll(y, 1), kind="random")
    display.figure_.canvas.draw()
    titles = [axes.get_title(loc="left").replace(r"\$", "$") for axes in display.axes_]
    assert titles[2] == "true _hidden\npred. $x$ or $\\…{1}{"
    assert titles[3] == "true two lines\npred. _hidden"
    assert max(len(line) for title in titles for line in title.splitlines()) <= 6 + 14


def test_titles_of_long_names_do_not_run_into_each_other(rng):
    classes = np.array([f"animal species number {n}" for n in range(30)])
    images = rng.integers(0, 256, (30, 8, 12, 3), dtype=np.uint8)
    proba = rng.dirichlet(np.ones(30), 30)
    display = ImageGridDisplay.from_predictions(
        images, classes, y_proba=proba, classes=classes, n_images=24
    )
    assert len(display.axes_) == 24
    display.figure_.draw_without_rendering()
    boxes = [axes._left_title.get_window_extent() for axes in display.axes_]
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


def test_it_draws_into_given_axes(images):
    figure, axes = plt.subplots()
    display = ImageGridDisplay.from_predictions(images, TRUE, y_proba=PROBA, ax=axes)
    assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]
    figure.draw_without_rendering()
    whole = axes.get_window_extent()
    for cell in display.axes_:
        box = cell.get_window_extent()
        assert whole.contains(*box.min)
        assert whole.contains(*box.max)


def test_wrong_parameters_raise_an_error(images):
    with pytest.raises(InvalidParameterError, match="kind must be one of 'worst'"):
        ImageGridDisplay.from_predictions(images, TRUE, TRUE, kind="best")
    with pytest.raises(InvalidParameterError, match="n_images must be a whole number"):
        ImageGridDisplay.from_predictions(images, TRUE, TRUE, n_images=0)
    with pytest.raises(InvalidParameterError, match="'worst' needs probabilities"):
        ImageGridDisplay.from_predictions(images, TRUE, TRUE)
    X = np.zeros((6, 8, 6), np.uint8)
    classifier = RidgeClassifier().fit(X.reshape(6, -1), TRUE)
    with pytest.raises(InvalidParameterError, match="'confident' needs probabilities"):
        ImageGridDisplay.from_estimator(
            classifier, X.reshape(6, -1), TRUE, images=X, kind="confident"
        )


# Several labels ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_labels():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    Y = (X[:, :2] + 0.8 * rng.normal(size=(40, 2)) > 0).astype(int)
    return KNeighborsClassifier(7).fit(X, Y), X, Y


def test_the_most_wrong_images_of_a_label_come_first(of_labels):
    classifier, X, Y = of_labels
    frame = pd.DataFrame(Y, columns=["sea", "sun"])
    images = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    options = {"images": images, "n_images": 5}
    display = ImageGridDisplay.from_estimator(classifier, X, frame, label="sun", **options)
    proba = classifier.predict_proba(X)[1][:, 1]
    of_true = np.where(Y[:, 1] == 1, proba, 1 - proba)
    wrong = np.flatnonzero(classifier.predict(X)[:, 1] != Y[:, 1])
    expected = wrong[np.argsort(of_true[wrong], kind="stable")][:5]
    assert display.indices_.tolist() == expected.tolist()
    first = expected[0]
    words = ["not sun", "sun"] if Y[first, 1] else ["sun", "not sun"]
    title = f"true {words[1]} {of_true[first]:.2f}\npred. {words[0]} {1 - of_true[first]:.2f}"
    assert display.axes_[0].get_title(loc="left") == title


@pytest.mark.parametrize("label", [None, "Sun", 0, ["sea"], np.nan, b"sun"])
def test_a_label_that_the_classifier_lacks_raises_an_error(of_labels, label):
    classifier, X, Y = of_labels
    frame = pd.DataFrame(Y, columns=["sea", "sun"])
    with pytest.raises(InvalidParameterError, match=r"label must be one of \['sea', 'sun'\]"):
        ImageGridDisplay.from_estimator(classifier, X, frame, label=label)


def test_a_classifier_of_one_label_takes_no_label(of_labels):
    _, X, Y = of_labels
    classifier = LogisticRegression().fit(X, Y[:, 0])
    with pytest.raises(InvalidParameterError, match="label must be None"):
        ImageGridDisplay.from_estimator(classifier, X, Y[:, 0], label=1)
