"""Heads: pooling, and the whole classifier as one flat Keras model."""

import random

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from keras import layers
from scipy.special import softmax

from transferclf.features.choosing import choose_prefix
from transferclf.graphs.rows import pool
from transferclf.heads.flat import with_head
from transferclf.heads.linear import linear_head
from transferclf.objectives import Classes

CLASSES = 3


def pooled(maps, pooling):
    inputs = keras.Input(maps.shape[1:])
    return np.asarray(keras.Model(inputs, pool(inputs, pooling))(maps))


def features_of(backbone="tiny", preprocessing="auto"):
    prefix = choose_prefix(
        backbone,
        weights=None,
        image_size=32,
        preprocessing=preprocessing,
        pooling="avg",
        layers=(),
        seed=0,
    )
    return prefix.build()


def head_for(model, seed=0):
    rng = np.random.default_rng(seed)
    width = model.output_shape[-1]
    return {
        "mean": rng.normal(size=width),
        "scale": rng.uniform(0.5, 2, width),
        "coef": rng.normal(size=(width, CLASSES)) / np.sqrt(width),
        "intercept": rng.normal(size=CLASSES),
    }


def with_linear_head(model, coef, intercept, **statistics):
    classes, history = Classes.numbered(CLASSES), {"loss": []}
    head = linear_head(
        classes,
        coef=coef,
        intercept=intercept,
        l2=0.0,
        history=history,
        moments=None,
        **statistics,
    )
    return with_head(model, head)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (4, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module", params=["tf", "caffe", "torch", "none"])
def features(request):
    return features_of(preprocessing=request.param)


# --- pooling


def test_maps_are_pooled(rng):
    maps = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    np.testing.assert_allclose(pooled(maps, "avg"), maps.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(pooled(maps, "max"), maps.max(axis=(1, 2)))
    np.testing.assert_array_equal(pooled(maps, "flatten"), maps.reshape(2, -1))


def test_tokens_are_pooled(rng):
    tokens = rng.normal(size=(2, 7, 5)).astype("float32")
    np.testing.assert_allclose(pooled(tokens, "avg"), tokens.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(pooled(tokens, "max"), tokens.max(axis=1))
    np.testing.assert_array_equal(pooled(tokens, "flatten"), tokens.reshape(2, -1))


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten"])
def test_vectors_are_returned_unchanged(pooling):
    vectors = keras.Input((5,))
    assert pool(vectors, pooling) is vectors


# --- the classifier


def test_the_flat_model_gives_the_probabilities_of_the_head(features, pixels):
    head = head_for(features)
    model = with_linear_head(features, **head)
    standardised = (np.asarray(features(pixels)) - head["mean"]) / head["scale"]
    expected = softmax(standardised @ head["coef"] + head["intercept"], axis=1)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(model(pixels), expected, rtol=1e-3, atol=1e-5)


def test_features_with_unit_scale_give_finite_probabilities(pixels):
    features = features_of()
    head = head_for(features) | {"scale": np.ones(features.output_shape[-1])}
    assert np.isfinite(with_linear_head(features, **head)(pixels)).all()


def test_the_classifier_is_flat_and_each_layer_has_one_output(features, pixels):
    model = with_linear_head(features, **head_for(features))
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    for layer in model.layers:
        assert layer.output is not None  # raises an error if a layer is part of several graphs
    for name in ("stem_conv", "block2_unit1_add", "top_relu", "predictions"):
        tapped = keras.Model(model.inputs, model.get_layer(name).output)
        assert np.isfinite(tapped([pixels])).all()


def test_gradients_reach_the_last_map(features, pixels):
    import tensorflow as tf

    head = head_for(features)
    head["scale"] *= 1000  # otherwise some probabilities are exactly 0 or 1
    model = with_linear_head(features, **head)
    maps_and_scores = keras.Model(model.inputs, [model.get_layer("top_relu").output, model.output])
    with tf.GradientTape() as tape:
        maps, scores = maps_and_scores([pixels])
        score = scores[:, 1]
    gradient = tape.gradient(score, maps)
    assert gradient.shape == maps.shape
    assert np.abs(gradient).max() > 0


def test_only_the_predictions_are_trainable(features):
    model = with_linear_head(features, **head_for(features))
    assert [layer.name for layer in model.layers if layer.trainable] == ["predictions"]
    assert {variable.path for variable in model.trainable_variables} == {
        "predictions/kernel",
        "predictions/bias",
    }


@pytest.mark.parametrize(
    ("backbone", "preprocessing"),
    [("tiny", "auto"), ("tiny", "caffe"), ("tiny", "torch"), ("mobilenet_v2_035", "auto")],
)
def test_the_loaded_classifier_gives_the_same_output(backbone, preprocessing, pixels, tmp_path):
    features = features_of(backbone, preprocessing)
    model = with_linear_head(features, **head_for(features))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_rows_agree(loaded(pixels), model(pixels))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


def test_the_features_are_not_changed(pixels):
    features = features_of()
    before, weights = np.asarray(features(pixels)), features.get_weights()
    model = with_linear_head(features, **head_for(features))
    assert all(layer.trainable for layer in features.layers)
    for variable in model.weights:
        variable.assign(0 * variable)
    np.testing.assert_array_equal(features(pixels), before)
    for a, b in zip(weights, features.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_random_state_is_not_changed():
    features = features_of("mobilenet_v2_035")
    state = random.getstate()
    with_linear_head(features, **head_for(features))
    assert random.getstate() == state


def test_a_backbone_with_its_own_predictions_layer_is_accepted(pixels):
    x = inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.GlobalAveragePooling2D(name="standardize")(layers.Rescaling(1 / 255)(x))
    features = keras.Model(inputs, layers.Dense(6, name="predictions")(x))
    head = head_for(features)
    model = with_linear_head(features, **head)
    standardised = (np.asarray(features(pixels)) - head["mean"]) / head["scale"]
    expected = softmax(standardised @ head["coef"] + head["intercept"], axis=1)
    assert_rows_agree(model(pixels), expected)
    assert [layer.name for layer in model.layers if layer.trainable] == ["predictions_"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet"])
def test_nearly_constant_features_are_standardised_as_by_the_head(name, rng):
    from transferclf import TransferClassifier
    from transferclf.images import resize_image

    images = rng.integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)
    classifier = TransferClassifier(name, weights=None, random_state=0, image_size=32, l2=1e-3)
    classifier.fit(images, np.arange(12) % 3)
    pixels = np.stack([resize_image(image, (32, 32)) for image in images]).astype(np.float32)
    np.testing.assert_allclose(
        outputs_of(classifier.model_, pixels), classifier.predict_proba(images), atol=1e-4
    )


def test_a_model_with_a_lambda_becomes_a_flat_classifier(rng):
    import keras

    from transferclf import TransferClassifier

    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Lambda(lambda pixels: pixels / 255.0)(inputs)
    own = keras.Model(inputs, keras.layers.Conv2D(4, 3)(x))
    images = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    classifier = TransferClassifier(own, preprocessing="none").fit(images, [0, 1] * 3)
    np.testing.assert_allclose(
        outputs_of(classifier.model_, images),
        classifier.predict_proba(images),
        atol=1e-5,
    )
