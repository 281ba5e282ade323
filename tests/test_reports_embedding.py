"""Tests of EmbeddingDisplay: features, positions, and the look of classes."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.offsetbox import AnnotationBbox
from report_helpers import HOSTILE, covers, is_inside, small_backbone, text_of
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from transferclf import CNNFeatureExtractor, ConvNet, FeatureStore, TransferClassifier
from transferclf.engines.forward import Forward
from transferclf.exceptions import InvalidParameterError
from transferclf.reports import EmbeddingDisplay
from transferclf.reports.displays.embedding import seen_features

mpl.use("Agg")

N = 24


@pytest.fixture(autouse=True)
def _no_figures_left():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    y = np.array(["dark", "light"])[np.arange(N) % 2]
    X = rng.integers(0, 120, (N, 16, 16, 3))
    return (X + 100 * (y == "light")[:, None, None, None]).astype(np.uint8), y


@pytest.fixture
def clusters(rng):
    """Thirty distant groups of three points in ten dimensions."""
    centres = rng.normal(size=(30, 10)) * 30
    return np.repeat(centres, 3, axis=0) + rng.normal(size=(90, 10)), np.repeat(np.arange(30), 3)


def offsets(display, label):
    return np.asarray(display.scatters_[label].get_offsets())


# Features -------------------------------------------------------------------------------------


def test_features_of_a_classifier_come_from_the_store(images, monkeypatch):
    X, y = images
    store, backbone = FeatureStore(), small_backbone()
    classifier = TransferClassifier(backbone, l2=1e-2, cache=store).fit(X, y)
    before = store.info()
    monkeypatch.setattr(Forward, "__call__", lambda *_: pytest.fail("ran a network"))
    display = EmbeddingDisplay.from_estimator(classifier, X, y, method="pca")
    after = store.info()
    assert (after.misses, after.entries) == (before.misses, before.entries)
    assert after.hits == before.hits + N
    features = CNNFeatureExtractor(backbone, cache=store).fit(X[:2]).transform(X)
    expected = PCA(2, random_state=0).fit_transform(features.astype(float))
    np.testing.assert_allclose(display.embedding, expected, atol=1e-4)
    np.testing.assert_array_equal(offsets(display, "dark"), display.embedding[y == "dark"])
    np.testing.assert_array_equal(offsets(display, "light"), display.embedding[y == "light"])


@pytest.mark.parametrize("kind", ["hidden", "fine-tuned", "from nothing"])
def test_features_are_the_input_of_the_head(kind, images):
    X, y = images
    options = {
        "hidden": {"hidden_units": (3,), "epochs": 1},
        "fine-tuned": {
            "trainable_layers": "second_conv",
            "fine_tune_learning_rate": 0.01,
            "fine_tune_epochs": 1,
        },
        "from nothing": {"epochs": 1},
    }[kind]
    backbone = ConvNet((4,)) if kind == "from nothing" else small_backbone()
    classifier = TransferClassifier(
        backbone, image_size=16, l2=1e-2, random_state=0, **options
    ).fit(X, y)
    features = seen_features(classifier, X)
    head = classifier.head_
    standardised = (features - head.mean) / head.scale
    if kind == "hidden":
        kernel, bias, *last = head.weights
        standardised = np.maximum(standardised @ kernel + bias, 0)
    else:
        last = head.weights
    scores = standardised @ last[0] + last[1]
    np.testing.assert_allclose(
        scores[:, 1] - scores[:, 0], classifier.decision_function(X), atol=1e-3
    )


def test_a_pipeline_shows_the_input_of_its_last_step(images):
    X, y = images
    extractor = CNNFeatureExtractor(small_backbone(), cache=FeatureStore())
    pipeline = make_pipeline(extractor, StandardScaler(), LogisticRegression()).fit(X, y)
    np.testing.assert_array_equal(seen_features(pipeline, X), pipeline[:-1].transform(X))
    np.testing.assert_array_equal(seen_features(pipeline[:1], X), extractor.transform(X))
    turned = make_pipeline(FunctionTransformer(np.fliplr), extractor)
    np.testing.assert_array_equal(seen_features(turned, X), extractor.transform(np.fliplr(X)))
    with pytest.raises(InvalidParameterError, match="Got LogisticRegression; from_features"):
        EmbeddingDisplay.from_estimator(pipeline[-1], X, y)


# Positions ------------------------------------------------------------------------------------


def test_tsne_keeps_neighbours_and_depends_on_the_seed(clusters):
    features, y = clusters
    display = EmbeddingDisplay.from_features(features, y)
    assert display.embedding.shape == (90, 2)
    distances = np.linalg.norm(display.embedding[:, None] - display.embedding, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(y[distances.argmin(axis=1)] == y) > 0.9
    again = EmbeddingDisplay.from_features(features, y)
    np.testing.assert_array_equal(again.embedding, display.embedding)
    other = EmbeddingDisplay.from_features(features, y, random_state=1, perplexity=5)
    assert not np.allclose(other.embedding, display.embedding)


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("n", [1, 2, 4, 5, 7])
def test_few_images(method, n, rng):
    display = EmbeddingDisplay.from_features(rng.random((n, 3)), np.arange(n), method=method)
    assert display.embedding.shape == (n, 2)
    assert np.isfinite(display.embedding).all()


@pytest.mark.parametrize("features", [np.ones((9, 3)), np.arange(9.0)[:, None]])
def test_constant_and_single_features_are_drawn(features):
    for method in ("tsne", "pca"):
        display = EmbeddingDisplay.from_features(features, method=method)
        assert np.isfinite(display.embedding).all()
        assert list(display.scatters_) == [None]


def test_pca_shows_the_explained_variance():
    features = np.array([[0, 0, 0], [6, 0, 0], [0, 2, 0], [6, 2, 0.0]])
    display = EmbeddingDisplay.from_features(features, method="pca")
    assert display.ax_.get_xlabel() == "component 1 (90%)"
    assert display.ax_.get_ylabel() == "component 2 (10%)"


# Look -----------------------------------------------------------------------------------------


def test_thirty_classes_differ_and_the_legend_is_beside_the_data(clusters):
    features, y = clusters
    names = np.array([f"a kind of animal, number {label:02}" for label in y])
    display = EmbeddingDisplay.from_features(features, names, method="pca")
    styles = {
        (tuple(points.get_facecolor()[0]), len(points.get_paths()[0].vertices), marker_key(points))
        for points in display.scatters_.values()
    }
    assert len(styles) == 30
    legend = display.ax_.get_legend()
    assert text_of(legend) == sorted(set(names))
    assert not covers(legend, display.ax_)
    assert is_inside(legend, display.figure_)


def marker_key(points):
    return points.get_paths()[0].vertices.round(3).tobytes()


def test_names_are_shown_as_they_are(rng):
    display = EmbeddingDisplay.from_features(rng.random((5, 2)), HOSTILE, method="pca")
    display.figure_.canvas.draw()
    shown = dict(zip(display.scatters_, text_of(display.ax_.get_legend()), strict=True))
    assert [shown[name] for name in HOSTILE[:4]] == [*HOSTILE[:3], "two lines"]
    assert len(shown[HOSTILE[4]]) == 28


def test_thumbnails_show_images_without_overlap(images):
    X, y = images
    places = np.random.default_rng(0).random((N, 2)) * 50
    places[1] = places[0] + 0.1
    display = EmbeddingDisplay.from_features(places, y, method="pca", images=X, thumbnails=True)
    boxes = [child for child in display.ax_.get_children() if isinstance(child, AnnotationBbox)]
    assert len(boxes) == len(display.thumbnail_indices_) < N
    assert 0 in display.thumbnail_indices_
    assert 1 not in display.thumbnail_indices_
    for box, index in zip(boxes, display.thumbnail_indices_, strict=True):
        assert tuple(box.xy) == tuple(display.embedding[index])
        np.testing.assert_array_equal(box.offsetbox.get_data(), X[index])
    display.figure_.draw_without_rendering()
    extents = [box.get_window_extent() for box in boxes]
    assert not any(
        one.overlaps(other) for n, one in enumerate(extents) for other in extents[n + 1 :]
    )


def test_thumbnails_use_the_pixel_range_of_the_estimator(images):
    X, y = images
    scaled = X / 255.0
    extractor = CNNFeatureExtractor(small_backbone(), cache=FeatureStore()).fit(scaled)
    display = EmbeddingDisplay.from_estimator(extractor, scaled, y, method="pca", thumbnails=True)
    boxes = [child for child in display.ax_.get_children() if isinstance(child, AnnotationBbox)]
    for box, index in zip(boxes, display.thumbnail_indices_, strict=True):
        np.testing.assert_array_equal(box.offsetbox.get_data(), X[index])


def test_it_draws_into_given_axes(rng):
    figure, axes = plt.subplots()
    display = EmbeddingDisplay.from_features(
        rng.random((4, 2)), [0, 0, 1, 1], ax=axes, legend=False, s=9
    )
    assert (display.figure_, display.ax_) == (figure, axes)
    assert axes.get_legend() is None
    assert display.scatters_[1].get_sizes().tolist() == [9]
    assert plt.get_fignums() == [figure.number]


def test_wrong_arguments_raise_an_error(rng):
    features = rng.random((4, 2))
    with pytest.raises(InvalidParameterError, match="method must be one of 'tsne', 'pca'"):
        EmbeddingDisplay.from_features(features, method="umap")
    with pytest.raises(InvalidParameterError, match="perplexity must be None or"):
        EmbeddingDisplay.from_features(features, perplexity=0)
    with pytest.raises(ValueError, match=r"finite numbers of shape \(n, d\). Got shape \(4,\)"):
        EmbeddingDisplay.from_features(features[:, 0])
    with pytest.raises(ValueError, match="finite numbers"):
        EmbeddingDisplay.from_features([[np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"shape \(4,\). Got \(3,\)"):
        EmbeddingDisplay.from_features(features, [0, 1, 2])
    with pytest.raises(InvalidParameterError, match="thumbnails=True needs images"):
        EmbeddingDisplay.from_features(features, thumbnails=True)
    with pytest.raises(ValueError, match="Expected 4 images, as X has. Got 3"):
        EmbeddingDisplay.from_features(features, images=np.zeros((3, 8, 6), np.uint8))
