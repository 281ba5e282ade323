"""The compiled network: the same function as the model, whatever the batch."""

import keras
import numpy as np
import pytest
from keras import layers

from transferclf.exceptions import InvalidParameterError
from transferclf.networks.inference import BATCH_SIZE, ENGINES, FEW, Forward, compile_forward

SIDE = 16


def network(output="pooled"):
    """A small network with a residual, batch norms, dropout and a strided convolution."""
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2)(x)))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.Dropout(0.5)(layers.Add()([x, y]))
    if output == "pooled":
        x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("moving_mean", "moving_variance"):
            variable.assign(rng.uniform(0.2, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (70, SIDE, SIDE, 3)).astype("uint8")


@pytest.fixture(scope="module", params=ENGINES)
def forward(request, model):
    return compile_forward(model, request.param)


def expected(model, images):
    return np.asarray(model(images.astype("float32"), training=False))


def test_engine_computes_what_the_model_does(forward, model, images):
    result = forward(images)
    assert result.dtype == np.float32
    assert result.shape == (70, 8)
    assert np.ptp(result) > 0
    np.testing.assert_allclose(result, expected(model, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, FEW, FEW + 1, BATCH_SIZE, BATCH_SIZE + 1])
def test_a_row_does_not_depend_on_its_batch(forward, images, count):
    np.testing.assert_array_equal(forward(images[:count]), forward(images)[:count])


def test_a_row_does_not_depend_on_its_place(forward, images):
    order = np.random.default_rng(1).permutation(len(images))
    np.testing.assert_array_equal(forward(images[order]), forward(images)[order])


@pytest.mark.parametrize("count", range(0, 70, 3))
def test_batches_only_ever_have_two_sizes(images, count):
    """Kernels may add up in another order for another size; not all machines show it."""
    sizes = []

    def function(batch):
        sizes.append(len(batch))
        return batch.sum(axis=(1, 2, 3), keepdims=True)

    result = Forward(function)(images[:count])
    assert set(sizes) == {BATCH_SIZE if count > FEW else 1}
    assert sum(sizes) < count + BATCH_SIZE
    np.testing.assert_array_equal(result, function(images[:count].astype("float32")))


def test_maps_keep_their_shape(images):
    model = network("map")
    result = compile_forward(model)(images[:5])
    assert result.shape == (5, 7, 7, 8)
    np.testing.assert_allclose(result, expected(model, images[:5]), rtol=1e-5, atol=1e-5)


def test_no_images_are_no_rows(forward):
    result = forward(np.empty((0, SIDE, SIDE, 3), "uint8"))
    assert result.shape == (0, 8)
    assert result.dtype == np.float32


def test_images_seen_counts_images_and_no_padding(model, images):
    forward = compile_forward(model)
    assert forward.images_seen == 0
    for count in (1, 33, 0, 5):
        forward(images[:count])
    assert forward.images_seen == 39


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_kinds_of_pixels(forward, images, dtype):
    np.testing.assert_array_equal(forward(images[:5].astype(dtype)), forward(images[:5]))


def test_input_is_read_only_and_stays_as_it_is(forward, images):
    kept = images[:40].astype("float32")
    kept.setflags(write=False)
    forward(kept)
    np.testing.assert_array_equal(kept, images[:40])


def test_input_need_not_be_contiguous(forward, images):
    np.testing.assert_array_equal(forward(images[::-2]), forward(images[::-2].copy()))


def test_result_outlives_later_calls(forward, images):
    first = forward(images[:5])
    kept = first.copy()
    forward(images[5:10])
    np.testing.assert_array_equal(first, kept)


def test_the_frozen_network_keeps_its_weights(images):
    model = network()
    forward = compile_forward(model, "tensorflow")
    before = forward(images[:2])
    for variable in model.weights:
        variable.assign(0 * variable)
    np.testing.assert_array_equal(forward(images[:2]), before)


@pytest.mark.parametrize("engine", ["torch", "Keras", None])
def test_unknown_engine(model, engine):
    with pytest.raises(InvalidParameterError, match=f"engine must be one of .* Got {engine!r}"):
        compile_forward(model, engine)


def test_engine_of_another_keras_backend(model, monkeypatch, images):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(InvalidParameterError, match="it runs on jax"):
        compile_forward(model, "tensorflow")
    np.testing.assert_allclose(
        compile_forward(model, "auto")(images), expected(model, images), rtol=1e-5, atol=1e-5
    )
