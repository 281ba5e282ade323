"""Tests of user-defined engines and backbones, which are added by the registries alone."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from transferclf import (
    CNNFeatureExtractor,
    FeatureStore,
    TransferClassifier,
    get_backbone,
    load_model,
    register_backbone,
    save_model,
)
from transferclf.backbones import registry as backbones
from transferclf.engines import registry as engines
from transferclf.engines.engine import Engine
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.features.choosing import choose_prefix
from transferclf.reports import evaluate

SIDE = 8
LABELS = np.repeat(["dark", "green", "red"], 8)


@pytest.fixture(scope="module")
def images():
    """Dark, green and red images, with noise."""
    colours = np.repeat([[30, 30, 30], [30, 200, 30], [200, 30, 30]], 8, axis=0)
    noise = np.random.default_rng(0).integers(0, 40, (len(LABELS), SIDE, SIDE, 3))
    return (colours[:, None, None] + noise).astype(np.uint8)


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """Restore both registries after each test."""
    monkeypatch.setattr(engines, "_ENGINES", dict(engines._ENGINES))
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))


def assert_works(classifier, images, path):
    """Fit, predict, evaluate, save and load; return the loaded classifier."""
    classifier.fit(images[::2], LABELS[::2])
    assert classifier.predict(images[1::2]).tolist() == LABELS[1::2].tolist()
    assert evaluate(classifier, images[1::2], LABELS[1::2])["accuracy"] == 1.0
    save_model(classifier, path)
    loaded = load_model(path)
    np.testing.assert_allclose(
        loaded.predict_proba(images), classifier.predict_proba(images), atol=1e-6
    )
    return loaded


# --- an engine


class Eager(Engine):
    """Run the layers of a model one after the other, and count the batches."""

    name = "eager"
    rank = 5

    def __init__(self):
        self.batches = []

    def compile(self, network, precision):
        def run(images):
            self.batches.append(len(images))
            return np.asarray(network(images))

        return run


def test_a_registered_engine_runs_the_backbone(images, tmp_path):
    eager = Eager()
    engines.register_engine(eager)
    assert engines.engine_names()[-1] == "eager"
    assert engines.engine_for("auto").name != "eager"  # "auto" does not choose it
    classifier = TransferClassifier("tiny", image_size=32, l2=0.1, engine="eager", cache=None)
    loaded = assert_works(classifier, images, tmp_path / "model")
    assert (loaded.engine, loaded.engine_, classifier.engine_) == ("eager",) * 3
    assert set(eager.batches) == {32}
    usual = CNNFeatureExtractor("tiny", image_size=32, cache=None).fit(images)
    assert usual.engine_ == "tensorflow"
    assert not hasattr(clone(usual), "engine_")
    features = clone(usual).set_params(engine="eager").fit_transform(images)
    np.testing.assert_allclose(features, usual.transform(images), rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidParameterError, match=r"engine='eager' computes in float32 only"):
        classifier.set_params(precision="bfloat16").fit(images, LABELS)
    with pytest.raises(InvalidParameterError, match="There is an engine 'eager' already"):
        engines.register_engine(Eager())


# --- a backbone


calls = []


def quarters(pixels):
    """Mean colour of each quarter of an image, shape (n, 2, 2, 3)."""
    calls.append(len(pixels))
    n, side = len(pixels), pixels.shape[1] // 2
    return pixels.reshape(n, 2, side, 2, side, 3).mean(axis=(2, 4))


def registered(version="1", **options):
    return register_backbone(
        "quarters", function=quarters, version=version, image_size=SIDE, **options
    )


def test_an_extractor_uses_a_function(images):
    registered()
    features = CNNFeatureExtractor("quarters", pooling="flatten").fit_transform(images)
    expected = images.reshape(-1, 2, 4, 2, 4, 3).astype(float).mean(axis=(2, 4))
    np.testing.assert_allclose(features, expected.reshape(-1, 12), rtol=1e-6)
    means = CNNFeatureExtractor("quarters").fit(images)
    np.testing.assert_allclose(means.transform(images), images.mean(axis=(1, 2)), rtol=1e-5)
    assert means.get_feature_names_out().tolist() == [f"quarters_avg_{i}" for i in range(3)]
    largest = CNNFeatureExtractor("quarters", pooling="max").fit_transform(images)
    np.testing.assert_allclose(largest, expected.max(axis=(1, 2)), rtol=1e-6)
    scaled = CNNFeatureExtractor("quarters", preprocessing="tf").fit_transform(images)
    np.testing.assert_allclose(scaled, images.mean(axis=(1, 2)) / 127.5 - 1, atol=1e-5)


def test_a_classifier_uses_a_function(images, tmp_path):
    registered()
    classifier = TransferClassifier("quarters", pooling="flatten", l2=0.1)
    assert_works(classifier, images, tmp_path / "model")
    assert cross_val_score(clone(classifier), images, LABELS, cv=2).tolist() == [1.0, 1.0]
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))
    hidden = clone(classifier).set_params(
        hidden_units=(8,), epochs=40, learning_rate=0.05, random_state=0
    )
    assert hidden.fit(images, LABELS).score(images, LABELS) > 0.9
    registered("2", overwrite=True)
    with pytest.raises(InvalidParameterError, match="with other weights or other features"):
        load_model(tmp_path / "model")
    del backbones._REGISTRY["quarters"]
    with pytest.raises(InvalidParameterError, match="register_backbone it first"):
        load_model(tmp_path / "model")


def test_features_of_a_function_are_stored(images, tmp_path):
    registered()
    store = FeatureStore(tmp_path)
    extractor = CNNFeatureExtractor("quarters", cache=store).fit(images)
    first = extractor.transform(images)
    calls.clear()
    np.testing.assert_array_equal(extractor.transform(images), first)
    registered()
    again = CNNFeatureExtractor("quarters", cache=FeatureStore(tmp_path)).fit_transform(images)
    np.testing.assert_array_equal(again, first)
    assert calls == []
    registered("2", overwrite=True)
    CNNFeatureExtractor("quarters", cache=store).fit_transform(images)
    assert sum(calls) >= len(images)


def prefix():
    return choose_prefix(
        "quarters", weights="pretrained", image_size=None, preprocessing="auto", pooling="avg",
        layers=(), seed=0,
    )  # fmt: skip


def test_a_function_without_a_version_has_a_key_of_its_own():
    first = registered(None)
    one = prefix()
    assert prefix().digest == one.digest
    assert pickle.loads(pickle.dumps(one)).digest != one.digest
    assert registered(None) != first
    assert prefix().digest != one.digest
    registered("1", overwrite=True)
    with_version = prefix()
    assert pickle.loads(pickle.dumps(with_version)).digest == with_version.digest
    registered("2", overwrite=True)
    assert prefix().digest != with_version.digest


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainable_layers": 1}, "trainable_layers needs a backbone that is a Keras model"),
        ({"trainable_layers": "all"}, "'quarters' is a function, which cannot be cut"),
        ({"engine": "keras"}, "engine='keras' cannot run a backbone that is a function"),
        ({"weights": "file.h5"}, "'quarters' brings its own weights"),
        ({"image_size": 0}, "image_size must be"),
    ],
)
def test_training_a_function_raises_an_error(options, message, images):
    registered()
    calls.clear()
    with pytest.raises(InvalidParameterError, match=message):
        TransferClassifier("quarters", **options).fit(images, LABELS)
    assert calls == []


def test_a_function_has_no_layers_and_no_model(images):
    registered()
    with pytest.raises(InvalidParameterError, match="layer needs a backbone that is a Keras model"):
        CNNFeatureExtractor("quarters", layer="conv").fit(images)
    classifier = TransferClassifier("quarters", l2=0.1).fit(images, LABELS)
    with pytest.raises(NetworkError, match="'quarters' is a function and no Keras model"):
        classifier.model_  # noqa: B018


@pytest.mark.parametrize(
    "function", [lambda pixels: pixels.mean(), lambda pixels: pixels[:1].mean(axis=(1, 2))[[0, 0]]]
)
def test_a_wrong_return_value_raises_an_error(function, images):
    register_backbone("other", function=function, image_size=SIDE)
    with pytest.raises(NetworkError, match=r"must return rows \(n, d\) or maps .* Got"):
        CNNFeatureExtractor("other").fit(images)


def test_a_function_gets_a_copy_of_the_pixels(images):
    def scaling(pixels):
        pixels /= 255
        return pixels.mean(axis=(1, 2))

    register_backbone("scaling", function=scaling, image_size=SIDE)
    before = images.copy()
    features = CNNFeatureExtractor("scaling", cache=None).fit(images).transform(images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_allclose(features, images.mean(axis=(1, 2)) / 255, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either builder or function"),
        ({"builder": quarters, "function": quarters}, "either builder or function"),
        ({"function": 3}, "function must be callable. Got int"),
        ({"builder": quarters, "version": "1"}, "version must be a text, for a function"),
        ({"function": quarters, "version": 1}, "version must be a text.* Got 1"),
    ],
)
def test_wrong_registrations_raise_an_error(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        register_backbone("new", **arguments)


def test_the_record_of_a_function():
    record = registered()
    assert get_backbone("Quarters") is record
    assert (record.kind, record.can_be_cut, record.takes_weights) == ("function", False, False)
    assert get_backbone("tiny").can_be_cut


WITHOUT_KERAS = """
import sys
import numpy as np
from transferclf import CNNFeatureExtractor, register_backbone
register_backbone("means", function=lambda pixels: pixels.mean(axis=(1, 2)), image_size=4)
features = CNNFeatureExtractor("means").fit_transform(np.full((2, 4, 4, 3), 7, np.uint8))
print(features.tolist(), {"keras", "tensorflow"} & set(sys.modules))
"""


def test_a_function_needs_no_keras():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[[7.0, 7.0, 7.0], [7.0, 7.0, 7.0]] set()", done.stderr
