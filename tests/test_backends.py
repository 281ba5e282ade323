"""Keras' backends: the same features, training and saved models on TensorFlow, PyTorch and JAX.

`tox -e torch` runs all of them. On JAX some are skipped, because it compiles each operation of a
network by itself. The other environments run the tests that no other file has.
"""

import backend_helpers as helpers
import keras
import numpy as np
import pytest
from exactness import outputs_of
from image_helpers import striped_images

from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    load_model,
    save_model,
)
from transferclf.engines.backend import call_of, for_inference
from transferclf.engines.keras import KerasEngine
from transferclf.exceptions import InvalidParameterError
from transferclf.graphs.folding import fold_batch_norm
from transferclf.images import resize_image

BACKEND = keras.backend.backend()
OTHERS = [name for name in ("tensorflow", "torch", "jax") if name != BACKEND]

# Backends sum in another order. Training adds up such differences.
ROUNDING, TRAINED = 1e-5, 1e-3

IMAGES, LABELS = helpers.drawn_images()
SIDE = helpers.SIDE

on_torch = pytest.mark.skipif(BACKEND != "torch", reason="needs Keras on PyTorch")
on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="needs Keras on TensorFlow")
on_others = pytest.mark.skipif(
    BACKEND == "tensorflow", reason="other files test the same on TensorFlow"
)
SLOW_ON_JAX = "JAX compiles each operation of a network by itself, which takes half a minute"
elsewhere = pytest.mark.skipif(
    BACKEND != "torch", reason=f"other files test the same on TensorFlow; {SLOW_ON_JAX}"
)
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="needs Keras on JAX")


def pixels_of(images):
    return np.stack([resize_image(image, (SIDE, SIDE)) for image in images]).astype(np.float32)


def learns_and_agrees_with_its_model(classifier):
    """Fit a classifier; check its accuracy on the images, and `model_`."""
    classifier.fit(IMAGES, LABELS)
    assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]
    assert classifier.score(IMAGES, LABELS) > 0.9
    whole = outputs_of(classifier.model_, pixels_of(IMAGES))
    np.testing.assert_allclose(whole, classifier.predict_proba(IMAGES), atol=1e-5)


@pytest.fixture(scope="module")
def linear():
    return TransferClassifier("tiny", image_size=SIDE).fit(IMAGES, LABELS)


@pytest.fixture(scope="module")
def last_layers():
    return helpers.tuned(IMAGES, LABELS, trainable_layers="top")


@pytest.fixture(scope="module")
def scratch():
    network = ConvNet(filters=(8, 16), batch_norm="before", dropout=0.1)
    options = {"image_size": SIDE, "epochs": 15, "batch_size": 8, "learning_rate": 3e-3}
    return TransferClassifier(network, **options, random_state=0)


@pytest.fixture(scope="module")
def saved(linear, last_layers, scratch, tmp_path_factory):
    """Return the folder of three saved models."""
    folder = tmp_path_factory.mktemp("models")
    save_model(linear, folder / "linear.model")
    save_model(last_layers, folder / "tuned.model")
    save_model(scratch.fit(IMAGES, LABELS), folder / "scratch.model")
    return folder


@pytest.fixture(scope="module")
def both(saved):
    """Return the values by this backend and those by TensorFlow."""
    return helpers.values(saved), helpers.values_by_tensorflow(saved)


# --- the same values as TensorFlow


@elsewhere
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("features", ROUNDING),
        ("view", ROUNDING),
        ("last layers", TRAINED),
        ("loaded linear", ROUNDING),
        ("loaded scratch", ROUNDING),
        ("loaded tuned", ROUNDING),
        ("heat scratch", TRAINED),
        ("heat tuned", TRAINED),
    ],
)
@pytest.mark.every_parameter
def test_values_are_those_of_tensorflow(both, name, tolerance):
    found, expected = (values[name] for values in both)
    assert np.ptp(expected) > 0.1
    atol = tolerance * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@elsewhere
def test_random_weights_of_another_backend_have_another_key(both):
    found, expected = (str(values["digest"]) for values in both)
    assert found != expected


@pytest.mark.skipif(BACKEND == "jax", reason=SLOW_ON_JAX)
@pytest.mark.parametrize("other", OTHERS)
def test_the_key_of_random_weights_names_the_backend(monkeypatch, other):
    expected = helpers.digest_of_random_weights()
    assert helpers.digest_of_random_weights() == expected
    monkeypatch.setattr("transferclf.backbones.record.keras_backend", lambda: other)
    assert helpers.digest_of_random_weights() != expected


# --- heads, training, saved models


@elsewhere
def test_features_are_those_of_the_network(linear):
    features = CNNFeatureExtractor("tiny", image_size=SIDE, engine="keras").fit_transform(IMAGES)
    network = linear.prefix_.network()
    maps = outputs_of(network, pixels_of(IMAGES) / 127.5 - 1)
    expected = maps.mean(axis=(1, 2))
    # The engine folds batch normalisation into convolutions.
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@on_others
def test_a_linear_head_is_in_the_whole_model(linear):
    assert linear.score(IMAGES, LABELS) == 1
    whole = outputs_of(linear.model_, pixels_of(IMAGES))
    np.testing.assert_allclose(whole, linear.predict_proba(IMAGES), atol=1e-5)


@elsewhere
def test_a_hidden_head_learns():
    options = {"hidden_units": (8,), "dropout": 0.1, "epochs": 15, "random_state": 0}
    learns_and_agrees_with_its_model(TransferClassifier("tiny", image_size=SIDE, **options))


@elsewhere
def test_last_layers_are_fine_tuned(linear, last_layers):
    losses = last_layers.history_["loss"]
    assert losses[-1] < losses[0]
    whole = outputs_of(last_layers.model_, pixels_of(IMAGES))
    np.testing.assert_allclose(whole, last_layers.predict_proba(IMAGES), atol=1e-5)
    # Where layers are trained, batch normalisation is part of the layers before it.
    before, after = (
        {layer.name: layer.get_weights() for layer in model.layers}
        for model in (fold_batch_norm(linear.model_), last_layers.model_)
    )
    changed = [
        name
        for name, weights in after.items()
        if weights and any((x != y).any() for x, y in zip(before[name], weights, strict=True))
    ]
    assert "predictions" in changed
    assert 2 <= len(changed) <= 4


@elsewhere
def test_all_layers_are_fine_tuned():
    fitted = helpers.tuned(IMAGES, LABELS, trainable_layers="all")
    assert fitted.history_["loss"][-1] < fitted.history_["loss"][0]
    whole = outputs_of(fitted.model_, pixels_of(IMAGES))
    np.testing.assert_allclose(whole, fitted.predict_proba(IMAGES), atol=1e-5)


@elsewhere
def test_a_network_learns_from_scratch_and_again_the_same(scratch):
    learns_and_agrees_with_its_model(scratch)
    before = scratch.predict_proba(IMAGES)
    # Kernels of PyTorch may sum in another order where memory is aligned in another way.
    again = scratch.fit(IMAGES, LABELS).predict_proba(IMAGES)
    np.testing.assert_allclose(again, before, atol=ROUNDING)


@elsewhere
def test_a_network_learns_from_images_that_are_varied_and_mixed():
    augmentation = Augmentation(shift=0.1, brightness=0.1, noise=3, mixup=0.2, cutmix=0.2)
    network = ConvNet(filters=(8, 16), batch_norm="before")
    options = {"image_size": SIDE, "epochs": 15, "batch_size": 8, "learning_rate": 3e-3}
    classifier = TransferClassifier(
        network, **options, augmentation=augmentation, random_state=0
    ).fit(IMAGES, LABELS)
    assert classifier.score(IMAGES, LABELS) > 0.9


@elsewhere
def test_numbers_and_several_labels_are_learned():
    numbers = LABELS.astype(float)
    options = {"image_size": SIDE, "hidden_units": (8,), "epochs": 30, "random_state": 0}
    regressor = TransferRegressor("tiny", **options).fit(IMAGES, numbers)
    assert regressor.score(IMAGES, numbers) > 0.8
    several = np.stack([LABELS == 0, LABELS < 2], axis=1).astype(int)
    classifier = TransferClassifier("tiny", **options).fit(IMAGES, several)
    assert (classifier.predict(IMAGES) == several).mean() > 0.9


@elsewhere
def test_saved_models_predict_the_same(saved, last_layers):
    loaded = load_model(saved / "tuned.model")
    new = striped_images(6, np.random.default_rng(1))
    np.testing.assert_allclose(loaded.predict_proba(new), last_layers.predict_proba(new), atol=1e-6)


# --- inference


@pytest.fixture(scope="module")
def network():
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(8, 3),
            keras.layers.ReLU(),
            keras.layers.Conv2D(8, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8),
        ]
    )
    return fold_batch_norm(model)


def test_bfloat16_by_the_engine_of_every_backend(network):
    pixels = pixels_of(IMAGES)
    low, full = (
        KerasEngine().compile(network, precision)(pixels) for precision in ("bfloat16", "float32")
    )
    np.testing.assert_allclose(full, outputs_of(network, pixels), atol=1e-5)
    cosines = (low * full).sum(1) / np.linalg.norm(low, axis=1) / np.linalg.norm(full, axis=1)
    assert cosines.min() > 0.999
    assert np.abs(low - full).max() > 1e-5
    assert low.dtype == full.dtype == np.float32


@pytest.mark.parametrize("engine", ["tensorflow", "openvino", "onnxruntime"])
def test_engines_that_read_graphs_of_tensorflow_say_so(engine, monkeypatch):
    monkeypatch.setattr("transferclf.engines.engine.find_spec", lambda name: name)
    monkeypatch.setattr("transferclf.engines.engine.keras_backend", lambda: OTHERS[-1])
    extractor = CNNFeatureExtractor("tiny", image_size=SIDE, engine=engine)
    with pytest.raises(InvalidParameterError, match=f"{engine!r} needs Keras on TensorFlow"):
        extractor.fit(IMAGES)


@on_torch
def test_torch_records_no_gradients(network):
    pixels = pixels_of(IMAGES[:2])
    assert call_of(network)(pixels).requires_grad
    assert not for_inference(call_of(network))(pixels).requires_grad


@on_torch
def test_torch_on_a_gpu_uses_all_bits(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert not for_inference(lambda: torch.backends.cudnn.allow_tf32)()
    assert torch.backends.cudnn.allow_tf32


@on_tensorflow
def test_tensorflow_on_a_gpu_uses_all_bits(monkeypatch):
    import tensorflow as tf

    uses_fewer_bits = tf.config.experimental.tensor_float_32_execution_enabled
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert not for_inference(uses_fewer_bits)()
    assert uses_fewer_bits()


@on_jax
def test_jax_uses_all_bits_and_compiles_once(network):
    import jax

    assert for_inference(lambda: jax.config.jax_default_matmul_precision)() == "highest"
    call = for_inference(call_of(network))
    pixels = pixels_of(IMAGES)
    before = keras.ops.convert_to_numpy(call(pixels))
    kernel = network.weights[-1]
    kernel.assign(kernel + 1)
    np.testing.assert_array_equal(call(pixels), before)
    kernel.assign(kernel - 1)
