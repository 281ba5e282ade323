"""Building networks does not change the caller's state of Keras, and the reverse."""

import random
import threading

import numpy as np
import pytest
from exactness import outputs_of

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import build_backbone
from transferclf.features import frozen as prefixes
from transferclf.features import shared_store
from transferclf.graphs.isolation import undisturbed


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def keras():
    """Return Keras, and restore its precision after the test."""
    import keras

    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    yield keras
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inception_v3", "mobilenet_v3_small"])
def test_layers_have_the_same_names_every_time(name):
    record = get_backbone(name)
    size = (record.min_image_size,) * 2
    first, second = (
        [layer.name for layer in build_backbone(record, None, size, 0).layers] for _ in range(2)
    )
    assert first == second


def test_the_callers_layer_names_continue_as_before(keras):
    first = keras.layers.Dense(1).name
    with undisturbed():
        assert keras.layers.Dense(1).name == "dense"
        with undisturbed():
            assert keras.layers.Dense(1).name == "dense_1"
    number = int(first.split("_")[1]) + 1 if "_" in first else 1
    assert keras.layers.Dense(1).name == f"dense_{number}"


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_features_do_not_depend_on_the_callers_precision(keras, images, policy):
    expected = CNNFeatureExtractor("tiny", image_size=32).fit_transform(images)
    shared_store().clear()
    prefixes._forwards.clear()
    keras.config.set_dtype_policy(policy)
    if policy == "float64":
        keras.config.set_floatx(policy)
    features = CNNFeatureExtractor("tiny", image_size=32).fit_transform(images)
    np.testing.assert_array_equal(features, expected)
    classifier = TransferClassifier("tiny", image_size=32).fit(images, np.arange(8) % 2)
    assert classifier.model_.output.dtype == "float32"
    assert keras.config.dtype_policy().name == policy
    assert keras.config.floatx() == ("float64" if policy == "float64" else "float32")


def test_an_unset_policy_stays_unset(keras):
    from keras.src.backend.common import global_state

    global_state.set_global_attribute("dtype_policy", None)
    with undisturbed():
        keras.layers.Dense(1)
    assert global_state.get_global_attribute("dtype_policy") is None


def test_an_error_inside_restores_the_state_of_keras(keras):
    state, floatx = random.getstate(), keras.config.floatx()

    def fail():
        with undisturbed(5):
            random.random()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert random.getstate() == state
    assert keras.config.floatx() == floatx


def test_random_weights_do_not_depend_on_what_other_threads_draw(keras):
    def weights(other):
        with undisturbed(3):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
            layer = keras.layers.Dense(2)
            layer.build((None, 2))
        return layer.get_weights()[0]

    expected = weights(lambda: None)
    for other in (random.random, lambda: keras.layers.Dense(2)):
        np.testing.assert_array_equal(weights(other), expected)


@pytest.mark.slow
def test_threads_restore_the_random_state(images):
    labels = np.arange(8) % 2
    classifiers = [
        TransferClassifier("tiny", image_size=32, weights=None, random_state=seed, cache=None).fit(
            images, labels
        )
        for seed in range(3)
    ]
    state = random.getstate()
    threads = [
        threading.Thread(target=lambda one=one: one.model_.summary(print_fn=str))
        for one in classifiers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert random.getstate() == state
    for classifier in classifiers:
        np.testing.assert_allclose(
            outputs_of(classifier.model_, images),
            classifier.predict_proba(images),
            atol=1e-5,
        )
