"""Tests of NetworkInputDisplay: each photograph beside the input of the network."""

import sys

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images.geometry import resize_image
from transferclf.reports import NetworkInputDisplay

mpl.use("Agg")

SHAPES = [(40, 100), (90, 30), (50, 50), (64, 48)]


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    mpl.pyplot.close("all")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in SHAPES]


@pytest.fixture(scope="module")
def fitted(images):
    return {
        mode: CNNFeatureExtractor(image_size=32, resize=mode).fit(images)
        for mode in ("crop", "pad", "stretch")
    }


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
def test_inputs_equal_the_input_of_the_network(images, fitted, mode):
    display = NetworkInputDisplay.from_estimator(fitted[mode], images)
    assert display.inputs.dtype == np.uint8
    for image, given in zip(images, display.inputs, strict=True):
        np.testing.assert_array_equal(given, resize_image(image, (32, 32), mode))
    shares = [0.4, 1 / 3, 1, 0.75] if mode == "crop" else [1] * 4
    np.testing.assert_allclose(display.seen_, shares)
    display.figure_.canvas.draw()
    assert display.axes_.shape == (4, 2)
    for number, (of_image, of_input) in enumerate(display.axes_):
        np.testing.assert_array_equal(of_image.images[0].get_array(), images[number])
        np.testing.assert_array_equal(of_input.images[0].get_array(), display.inputs[number])


def test_a_frame_shows_the_crop(images, fitted):
    display = NetworkInputDisplay.from_estimator(fitted["crop"], images)
    frames = [[patch.get_bbox().extents.tolist() for patch in axes.patches]
              for axes in display.axes_[:, 0]]  # fmt: skip
    assert frames == [[[30, 0, 70, 40]], [[0, 30, 30, 60]], [], [[0, 8, 48, 56]]]
    titles = [axes.get_title() for axes in display.axes_[:, 1]]
    assert titles[0] == "40% of it, 32 x 32 pixels"
    assert titles[2] == "all of it, 32 x 32 pixels"
    padded = NetworkInputDisplay.from_estimator(fitted["pad"], images)
    assert not any(axes.patches for axes in padded.axes_[:, 0])


def test_a_crop_by_one_pixel_is_shown(fitted):
    image = np.zeros((400, 401, 3), np.uint8)
    display = NetworkInputDisplay.from_estimator(fitted["crop"], [image])
    assert display.seen_[0] < 1
    assert display.axes_[0, 1].get_title().startswith("99% of it")
    assert len(display.axes_[0, 0].patches) == 1


def test_frames_of_large_files_are_in_displayed_pixels(tmp_path, rng, fitted):
    path = tmp_path / "wide.png"
    Image.fromarray(rng.integers(0, 256, (256, 1024, 3), dtype=np.uint8)).save(path)
    display = NetworkInputDisplay.from_estimator(fitted["crop"], [str(path)])
    assert display.images[0].shape == (64, 256, 3)
    assert display.boxes.tolist() == [[96, 0, 160, 64]]
    assert display.seen_.tolist() == [0.25]


def test_the_extractor_or_classifier_is_found_in_a_pipeline(images, fitted):
    y = [0, 1, 0, 1]
    extractor = CNNFeatureExtractor(image_size=48)
    pipeline = make_pipeline(extractor, StandardScaler(), LogisticRegression()).fit(images, y)
    assert NetworkInputDisplay.from_estimator(pipeline, images[:1]).inputs.shape[1:3] == (48, 48)
    classifier = TransferClassifier(image_size=(32, 48), l2=1.0).fit(images, y)
    halves = make_pipeline(
        FunctionTransformer(lambda X: [image[:20] for image in X]), FrozenEstimator(classifier)
    )
    display = NetworkInputDisplay.from_estimator(halves, images[:2])
    assert display.inputs.shape == (2, 32, 48, 3)
    assert display.images[0].shape == (20, 100, 3)


def test_the_pixel_range_of_fit_is_used(rng):
    images = rng.uniform(0, 1, (4, 32, 32, 3)).astype(np.float32)
    extractor = CNNFeatureExtractor(image_size=32, pixel_range=(0, 1)).fit(images)
    display = NetworkInputDisplay.from_estimator(extractor, images[:1] / 2)
    np.testing.assert_array_equal(display.inputs[0], np.rint(images[0] / 2 * 255))


def test_it_draws_into_given_axes(images, fitted):
    figure, axes = mpl.pyplot.subplots(2, 2)
    display = NetworkInputDisplay.from_estimator(fitted["crop"], images[:2], ax=axes)
    assert display.figure_ is figure
    assert display.axes_.tolist() == axes.tolist()
    assert mpl.pyplot.get_fignums() == [figure.number]
    wide = NetworkInputDisplay.from_estimator(fitted["crop"], images[:3], n_columns=3)
    assert len({axes.get_subplotspec().rowspan.start for axes in wide.axes_.flat}) == 1
    assert len(wide.figure_.axes) == 6


@pytest.mark.parametrize(
    ("estimator", "X", "options", "error", "message"),
    [
        (LogisticRegression(), 1, {}, InvalidParameterError, "Got LogisticRegression instead"),
        (None, 1, {}, InvalidParameterError, "Got NoneType instead"),
        (TransferClassifier(), 1, {}, NotFittedError, "not fitted"),
        (make_pipeline(CNNFeatureExtractor(), StandardScaler(), LogisticRegression()), 1, {},
         NotFittedError, "not fitted"),
        ("crop", 0, {}, ImageError, "X is empty"),
        ("crop", "photo.jpg", {}, ImageError, "Got one str, 'photo.jpg': pass it in a list"),
        ("crop", ["none.jpg"], {}, ImageError, "none.jpg"),
        ("crop", 1, {"ax": "axes"}, InvalidParameterError, "2 axes, two for each image. Got 1"),
        ("crop", 1, {"ax": ["a", "b"]}, InvalidParameterError, "axes of matplotlib. Got str"),
        ("crop", 1, {"n_columns": -1}, InvalidParameterError, "n_columns"),
        ("crop", 1, {"n_columns": 1.5}, InvalidParameterError, "n_columns"),
    ],
)  # fmt: skip
def test_wrong_arguments_raise_an_error(images, fitted, estimator, X, options, error, message):
    estimator = fitted.get(estimator, estimator) if isinstance(estimator, str) else estimator
    X = images[:X] if isinstance(X, int) else X
    with pytest.raises(error, match=message):
        NetworkInputDisplay.from_estimator(estimator, X, **options)


def test_a_missing_matplotlib_is_named(images, fitted, monkeypatch):
    display = NetworkInputDisplay.from_estimator(fitted["crop"], images[:1])
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=r"needs matplotlib.*pip install jinja2 matplotlib pandas"
    ):
        display.plot()
