"""Networks that end in a classification layer give a warning; others do not."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

from transferclf import CNNFeatureExtractor, TransferClassifier, load_model, save_model
from transferclf.exceptions import TransferclfWarning
from transferclf.graphs.cutting import classification_layer

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


def network(*ends):
    x = inputs = keras.Input((32, 32, 3), name="pixels")
    x = layers.Conv2D(4, 3, name="conv")(layers.Rescaling(1 / 255)(x))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    for end in ends:
        x = end(x)
    return keras.Model(inputs, x, name="own")


CLASSES = {
    "softmax": [layers.Dense(7, "softmax", name="scores")],
    "sigmoid": [layers.Dense(7, "sigmoid", name="scores")],
    "dropout": [layers.Dropout(0.2), layers.Dense(7, "softmax", name="scores")],
    "activation": [layers.Dense(7), layers.Activation("softmax", name="scores")],
    "layer": [layers.Dense(7), layers.Softmax(name="scores")],
    "operation": [layers.Dense(7), keras.ops.softmax],
    "logits": [layers.Dense(1000, name="scores")],
    "more logits": [layers.Dropout(0.2), layers.Dense(21843, name="scores")],
    "predictions": [layers.Dense(12, name="predictions")],
}
FEATURES = {
    "pooled": [],
    "relu": [layers.Dense(128, "relu")],
    "linear": [layers.Dense(128)],
    "tanh": [layers.Dense(512, "tanh")],
    "a thousand, relu": [layers.Dense(1000, "relu")],
    "normalised": [layers.Dense(64), layers.UnitNormalization()],
    "dropout": [layers.Dense(64), layers.Dropout(0.1)],
}


@pytest.mark.parametrize("ends", CLASSES.values(), ids=CLASSES)
def test_class_probabilities_are_recognised(ends):
    name, n_classes, before = classification_layer(network(*ends))
    assert before == "pool"
    assert n_classes in (7, 12, 1000, 21843)
    assert name in ("scores", "predictions") or name.startswith("softmax")


@pytest.mark.parametrize("ends", FEATURES.values(), ids=FEATURES)
def test_features_are_not_taken_for_classes(ends):
    assert classification_layer(network(*ends)) is None


def test_maps_of_probabilities_are_features():
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(3, 3, activation="sigmoid")(inputs)
    assert classification_layer(keras.Model(inputs, x)) is None


@pytest.mark.parametrize(
    ("function", "arguments", "last", "before"),
    [
        ("MobileNetV2", {"alpha": 0.35}, "predictions", "global_average_pooling2d"),
        ("MobileNetV3Small", {}, "predictions", "activation"),
        ("MobileNet", {"alpha": 0.25}, "predictions", "global_average_pooling2d"),
        ("EfficientNetB0", {}, "predictions", "avg_pool"),
        ("EfficientNetB0", {"classifier_activation": None}, "predictions", "avg_pool"),
    ],
)
def test_keras_networks_with_and_without_top_are_told_apart(function, arguments, last, before):
    arguments = {"input_shape": (32, 32, 3), "weights": None} | arguments
    whole = getattr(keras.applications, function)(**arguments)
    arguments.pop("classifier_activation", None)
    none = getattr(keras.applications, function)(**arguments, include_top=False, pooling="avg")
    name, n_classes, cut = classification_layer(whole)
    assert (name.lower(), n_classes) == (last, 1000)
    assert cut.startswith(before)
    assert classification_layer(none) is None
    assert len(keras.Model(whole.input, whole.get_layer(cut).output).output_shape) in (2, 4)


@pytest.mark.parametrize("make", [TransferClassifier, CNNFeatureExtractor])
def test_fit_warns_once_and_names_the_layer_to_tap(make, tmp_path):
    model = network(*CLASSES["softmax"])
    with pytest.warns(TransferclfWarning) as caught:
        fitted = make(model).fit(IMAGES, [0, 1] * 3)
    (said,) = [str(warning.message) for warning in caught]
    assert "'own' ends in its classification layer 'scores'" in said
    assert "7 classes" in said
    assert "keras.Model(model.input, model.get_layer('pool').output)" in said
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_model(fitted, tmp_path / "a.model")
        load_model(tmp_path / "a.model", backbone=model)  # fit has already warned
        cut = keras.Model(model.input, model.get_layer("pool").output)
        make(cut).fit(IMAGES, [0, 1] * 3)
        CNNFeatureExtractor(model, layer="pool").fit(IMAGES)


def test_a_classification_layer_in_a_nested_model_is_recognised():
    inner = network(*CLASSES["softmax"])
    inputs = keras.Input((32, 32, 3))
    outer = keras.Model(inputs, inner(layers.Rescaling(1.0)(inputs)))
    assert classification_layer(outer) == ("scores", 7, None)
    with pytest.warns(TransferclfWarning, match="Cut it below that layer"):
        CNNFeatureExtractor(outer, preprocessing="none").fit(IMAGES)
