"""Tests of Grad-CAM: known maps are exact, and the heat is at the deciding object."""

import keras
import matplotlib
import numpy as np
import pytest
from exactness import assert_rows_agree
from PIL import Image
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from transferclf import ConvNet, TransferClassifier
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.heads.gradients import layer_gradients, map_layers
from transferclf.reports import GradCAMDisplay

matplotlib.use("Agg")

SIDE, SQUARE = 96, 32


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    matplotlib.pyplot.close("all")


def pointwise_network():
    """Return two 1 x 1 convolutions with fixed weights, which are easy to compute by hand."""
    rng = np.random.default_rng(1)
    inputs = keras.Input((4, 5, 3))
    first = keras.layers.Conv2D(3, 1, activation="relu", name="first")
    second = keras.layers.Conv2D(2, 1, activation="relu", name="second")
    model = keras.Model(inputs, second(first(inputs)))
    first.set_weights([rng.normal(0, 0.02, (1, 1, 3, 3)), rng.uniform(0, 0.5, 3)])
    second.set_weights([rng.normal(0, 1, (1, 1, 3, 2)), np.full(2, 3.0)])
    return model


class ByHand:
    """Activations and gradients of `pointwise_network` and a head, in NumPy."""

    def __init__(self, model, classifier, pixels):
        (kernel1, bias1), (kernel2, bias2) = (
            [np.squeeze(weight) for weight in model.get_layer(name).get_weights()]
            for name in ("first", "second")
        )
        self.kernel2, self.classifier = kernel2, classifier
        self.first = np.maximum(pixels @ kernel1 + bias1, 0)
        self.second = np.maximum(self.first @ kernel2 + bias2, 0)

    def slopes(self, label):
        """Gradient of the score with respect to the pooled features, shape (n, d)."""
        head = self.classifier.head_
        *hidden, kernel, _ = head.weights
        kernel = kernel - kernel.mean(axis=1, keepdims=True)
        if not hidden:
            return np.tile(kernel[:, label] / head.scale, (len(self.second), 1))
        features = self.second.mean(axis=(1, 2))
        units = ((features - head.mean) / head.scale) @ hidden[0] + hidden[1]
        return ((units > 0) * kernel[:, label]) @ hidden[0].T / head.scale

    def gradient_of_second(self, label, pooling):
        slopes, shape = self.slopes(label), self.second.shape
        if pooling == "flatten":
            return slopes.reshape(shape)
        if pooling == "avg":
            return np.broadcast_to(slopes[:, None, None, :] / (shape[1] * shape[2]), shape)
        is_largest = self.second == self.second.max(axis=(1, 2), keepdims=True)
        return is_largest * slopes[:, None, None, :]

    def heatmaps(self, label, pooling, layer):
        activations, gradient = self.second, self.gradient_of_second(label, pooling)
        if layer == "first":
            activations, gradient = self.first, ((self.second > 0) * gradient) @ self.kernel2.T
        weights = gradient.mean(axis=(1, 2), keepdims=True)
        maps = np.maximum((weights * activations).sum(axis=-1), 0)
        largest = maps.max(axis=(1, 2), keepdims=True)
        return np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)


HEADS = {
    "avg": {"pooling": "avg", "l2": 0.1},
    "max": {"pooling": "max", "l2": 0.1},
    "flatten": {"pooling": "flatten", "l2": 0.1},
    "hidden": {"pooling": "avg", "hidden_units": (6,), "epochs": 3, "random_state": 0},
}


@pytest.mark.parametrize("head", HEADS)
def test_maps_equal_those_computed_by_hand(head, rng):
    model, options = pointwise_network(), HEADS[head]
    X, y = rng.integers(0, 256, (6, 4, 5, 3)).astype(np.uint8), np.arange(6) % 3
    classifier = TransferClassifier(model, preprocessing="none", **options).fit(X, y)
    by_hand = ByHand(model, classifier, X.astype(float))
    seen = []
    for layer in (None, "first"):
        for label in (0, 2):
            display = GradCAMDisplay.from_estimator(classifier, X, class_=label, layer=layer)
            expected = by_hand.heatmaps(label, options["pooling"], layer)
            np.testing.assert_allclose(display.heatmaps, expected, atol=1e-4)
            seen.append(expected)
    assert 0 < np.mean(seen) < 1  # some pixels are cold and some are hot


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_the_gradient_starts_at_the_score_before_the_last_activation(activation, rng):
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(2, 1, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation=activation, name="out")(x))
    pixels = rng.integers(0, 256, (11, 2, 2, 3)).astype(np.uint8)
    classes = np.arange(11) % 3
    activations, gradients = layer_gradients(model, "conv", pixels, classes)
    kernel, _ = model.get_layer("out").get_weights()
    if activation == "softmax":  # a softmax ignores the mean of the scores
        kernel = kernel - kernel.mean(axis=1, keepdims=True)
    expected = np.broadcast_to(kernel.T[classes][:, None, None] / 4, (11, 2, 2, 2))
    assert_rows_agree(gradients, expected)
    by_model = keras.Model(inputs, model.get_layer("conv").output)(pixels.astype(np.float32))
    assert_rows_agree(activations, keras.ops.convert_to_numpy(by_model))


def test_the_gradient_follows_paths_through_the_layer_only():
    """At a skip connection, the gradient of a branch layer is that of the branch alone."""
    inputs = keras.Input((2, 2, 1))
    ones = {"kernel_initializer": "ones", "use_bias": False}
    first = keras.layers.Conv2D(1, 1, name="first", **ones)(inputs)
    branch = keras.layers.Conv2D(1, 1, name="branch", **ones)(first)
    x = keras.layers.Add()([first, branch])
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.layers.Dense(2, "softmax", use_bias=False)
    model = keras.Model(inputs, head(x))
    head.set_weights([np.array([[-1.0, 1.0]])])
    pixels = np.ones((1, 2, 2, 1), np.uint8)
    for layer, slope in (("branch", 0.25), ("first", 0.5)):
        _, gradients = layer_gradients(model, layer, pixels, np.array([1]))
        np.testing.assert_allclose(gradients, np.full((1, 2, 2, 1), slope))


def test_a_common_change_of_all_scores_keeps_the_gradient(rng):
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.Conv2D(2, 1, name="conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    head = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(inputs, head(x))
    pixels, classes = rng.integers(0, 256, (3, 2, 2, 3)).astype(np.uint8), np.arange(3)
    _, before = layer_gradients(model, "conv", pixels, classes)
    kernel, bias = head.get_weights()
    head.set_weights([kernel + np.array([[5.0], [-3.0]]), bias + 2])
    _, after = layer_gradients(model, "conv", pixels, classes)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_layers_after_a_convolution_have_a_map():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255, name="scaled")(inputs)
    shared = keras.layers.Conv2D(3, 3, padding="same", name="twice")
    x = keras.layers.Conv2D(4, 3, name="conv")(shared(shared(x)))
    x = keras.layers.MaxPooling2D(name="pool")(x)
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    assert map_layers(keras.Model(inputs, outputs)) == {"conv": (6, 6), "pool": (3, 3)}


def squares(n_images, rng):
    """Return noise images; those of class 1, every second one, have a bright square somewhere."""
    X = rng.integers(0, 120, (n_images, SIDE, SIDE, 3)).astype(np.uint8)
    y = np.arange(n_images) % 2
    corners = rng.integers(0, SIDE - SQUARE, (n_images, 2))
    for index in np.flatnonzero(y):
        top, left = corners[index]
        X[index, top : top + SQUARE, left : left + SQUARE] = 255
    return X, y, corners


@pytest.fixture(scope="module")
def drawn():
    return squares(80, np.random.default_rng(0))


NETWORKS = {
    "frozen": {"backbone": "tiny", "image_size": 96},
    "hidden": {
        "backbone": "tiny", "image_size": 96, "hidden_units": (16,), "epochs": 8,
    },
    "fine-tuned": {
        "backbone": "tiny", "image_size": 96, "trainable_layers": "block4",
        "fine_tune_epochs": 1, "fine_tune_learning_rate": 1e-4,
    },
    "scratch": {
        "backbone": ConvNet(filters=(8, 16, 16)), "image_size": 48, "epochs": 12,
        "learning_rate": 3e-3,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def frozen(drawn):
    return TransferClassifier(**NETWORKS["frozen"]).fit(*drawn[:2])


def heat_near_and_far(heatmaps, corners):
    """Mean heat within half a side around each square, and mean heat elsewhere."""
    near, far = [], []
    for heat, (top, left) in zip(heatmaps, corners, strict=True):
        large = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.BILINEAR)
        around = np.zeros((SIDE, SIDE), bool)
        margin = SQUARE // 2
        around[max(top - margin, 0) : top + SQUARE + margin,
               max(left - margin, 0) : left + SQUARE + margin] = True  # fmt: skip
        near.append(np.asarray(large)[around].mean())
        far.append(np.asarray(large)[~around].mean())
    return np.array(near), np.array(far)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_heat_is_high_at_the_deciding_square(name, drawn, request):
    X, y, corners = drawn
    if name == "frozen":
        classifier = request.getfixturevalue("frozen")
    else:
        classifier = TransferClassifier(**NETWORKS[name], random_state=0).fit(X, y)
    assert classifier.score(X, y) > 0.95
    shown = np.flatnonzero(y)[:20]
    display = GradCAMDisplay.from_estimator(classifier, X[shown], class_=1)
    near, far = heat_near_and_far(display.heatmaps, corners[shown])
    assert (near > 2 * far).mean() >= 0.9
    assert display.heatmaps.min() >= 0
    np.testing.assert_allclose(display.heatmaps.max(axis=(1, 2)), 1)


def test_the_predicted_class_is_shown_with_its_probability(frozen, drawn):
    X = drawn[0][:4]
    display = GradCAMDisplay.from_estimator(frozen, X)
    probabilities = frozen.predict_proba(X)
    np.testing.assert_array_equal(display.classes, frozen.predict(X))
    np.testing.assert_allclose(display.probabilities, probabilities.max(axis=1))
    assert display.layer == "top_levels"
    assert [axis.get_title() for axis in display.axes_] == [
        f"{label}\n{probability:.0%}"
        for label, probability in zip(display.classes, display.probabilities, strict=True)
    ]


def test_each_image_can_have_its_own_class(frozen, drawn):
    X = drawn[0][:3]
    display = GradCAMDisplay.from_estimator(frozen, X, class_=np.array([1, 0, 1]))
    np.testing.assert_array_equal(display.classes, [1, 0, 1])
    alone = GradCAMDisplay.from_estimator(frozen, X[1:2], class_=0)
    np.testing.assert_allclose(display.heatmaps[1:2], alone.heatmaps, atol=1e-4)
    np.testing.assert_allclose(display.probabilities[1], frozen.predict_proba(X)[1, 0])


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_the_image_shown_is_the_input_of_the_network(resize, rng):
    X = rng.integers(0, 256, (8, 40, 80, 3)).astype(np.uint8)
    classifier = TransferClassifier("tiny", image_size=(64, 64), resize=resize, l2=0.1)
    classifier.fit(X, np.arange(8) % 2)
    shown = GradCAMDisplay.from_estimator(classifier, X[:2]).images
    image = Image.fromarray(X[0])
    if resize == "pad":
        expected = np.zeros((64, 64, 3), np.uint8)
        expected[16:48] = image.resize((64, 32), Image.BILINEAR)
    else:
        box = (20, 0, 60, 40) if resize == "crop" else None
        expected = image.resize((64, 64), Image.BILINEAR, box=box)
    np.testing.assert_array_equal(shown[0], expected)


def test_the_map_lies_over_the_whole_image(frozen, drawn):
    display = GradCAMDisplay.from_estimator(frozen, drawn[0][:1])
    picture, overlay = display.axes_[0].get_images()
    assert picture.get_extent() == overlay.get_extent() == [0, SIDE, SIDE, 0]
    np.testing.assert_array_equal(overlay.get_array(), display.heatmaps[0])
    assert overlay.get_clim() == (0, 1)


def test_thirty_images_make_a_grid(frozen, drawn):
    display = GradCAMDisplay.from_estimator(frozen, drawn[0][:30])
    assert len(display.axes_) == len(display.heatmaps) == 30
    # One more for the colour bar.
    assert len(display.figure_.axes) == 31
    assert {axis.get_subplotspec().get_gridspec().ncols for axis in display.axes_} == {5}


def test_given_axes_are_used(frozen, drawn):
    figure, axes = matplotlib.pyplot.subplots(1, 2)
    display = GradCAMDisplay.from_estimator(frozen, drawn[0][:2], ax=axes)
    assert display.figure_ is figure
    assert list(display.axes_) == list(axes)
    with pytest.raises(InvalidParameterError, match="as many axes as there are images, 2. Got 1"):
        display.plot(ax=axes[0])


def test_names_are_drawn_as_text(drawn):
    X, y, _ = drawn
    names = np.array(["<b>$x$\n" + "long" * 50, "$\\frac{"])
    classifier = TransferClassifier(**NETWORKS["frozen"]).fit(X[:20], names[y[:20]])
    display = GradCAMDisplay.from_estimator(classifier, X[:2])
    display.figure_.canvas.draw()
    texts = [axis.title.get_text().split("\n")[0] for axis in display.axes_]
    assert len(texts) == 2
    assert all(len(text) < 40 for text in texts)


def half(X):
    return X // 2


@pytest.mark.parametrize("wrapper", ["pipeline", "search", "frozen"])
def test_the_classifier_is_found_in_pipelines_and_searches(wrapper, drawn):
    X, y, _ = drawn
    inner = TransferClassifier(**NETWORKS["frozen"], l2=0.1)
    if wrapper == "search":
        estimator = GridSearchCV(inner, {"l2": [0.1, 1.0]}, cv=2).fit(X[:20], y[:20])
        expected = GradCAMDisplay.from_estimator(estimator.best_estimator_, X[:2])
    elif wrapper == "frozen":
        estimator = FrozenEstimator(inner.fit(X[:20], y[:20]))
        expected = GradCAMDisplay.from_estimator(inner, X[:2])
    else:
        estimator = make_pipeline(FunctionTransformer(half), inner).fit(X[:20], y[:20])
        expected = GradCAMDisplay.from_estimator(estimator[-1], X[:2] // 2)
    display = GradCAMDisplay.from_estimator(estimator, X[:2])
    np.testing.assert_array_equal(display.images, expected.images)
    np.testing.assert_allclose(display.heatmaps, expected.heatmaps, atol=1e-6)


def test_zero_activations_give_an_empty_map():
    inputs = keras.Input((4, 4, 3))
    silent = keras.layers.Conv2D(2, 1, name="conv", kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, silent)
    X = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    classifier = TransferClassifier(model, preprocessing="none", l2=0.1).fit(X, [0, 1] * 3)
    assert not GradCAMDisplay.from_estimator(classifier, X).heatmaps.any()


def test_errors_list_the_possible_values(frozen, drawn):
    X = drawn[0][:2]
    with pytest.raises(InvalidParameterError, match=r"top_levels'. Got 'block9' instead"):
        GradCAMDisplay.from_estimator(frozen, X, layer="block9")
    with pytest.raises(InvalidParameterError, match="Got 'predictions' instead"):
        GradCAMDisplay.from_estimator(frozen, X, layer="predictions")
    with pytest.raises(InvalidParameterError, match=r"one of 0, 1. Got 7 instead"):
        GradCAMDisplay.from_estimator(frozen, X, class_=7)
    with pytest.raises(InvalidParameterError, match=r"one label or 2, .* Got 3 instead"):
        GradCAMDisplay.from_estimator(frozen, X, class_=[0, 1, 0])


def test_a_network_without_a_map_raises_an_error(rng):
    X, y = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8), np.arange(8) % 2
    perceptron = ConvNet(filters=(), dense_units=(4,))
    classifier = TransferClassifier(perceptron, image_size=8, epochs=1).fit(X, y)
    with pytest.raises(NetworkError, match="needs a layer with a map"):
        GradCAMDisplay.from_estimator(classifier, X)


def test_a_classifier_without_a_network_raises_an_error(rng):
    X, y = rng.random((8, 4)), np.arange(8) % 2
    with pytest.raises(InvalidParameterError, match="Got LogisticRegression instead"):
        GradCAMDisplay.from_estimator(LogisticRegression().fit(X, y), X)
