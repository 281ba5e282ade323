"""Most layers of a network in bfloat16: which ones; the model itself is not changed."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from transferclf.graphs.folding import fold_batch_norm, lower_precision

SHAPE = (12, 12, 3)


def chain(*operations, shape=SHAPE):
    x = inputs = keras.Input(shape)
    for operation in operations:
        x = operation(x)
    return keras.Model(inputs, x)


def dtypes(model):
    return {layer.name: layer.compute_dtype for layer in model.layers[1:]}


@pytest.fixture
def model():
    # In a few of a hundred random networks the scores nearly cancel, and only rounding is left.
    keras.utils.set_random_seed(0)
    return chain(
        layers.Rescaling(1 / 255, name="scale"),
        layers.Conv2D(8, 3, name="conv"),
        layers.ReLU(name="relu"),
        layers.DepthwiseConv2D(3, name="depthwise"),
        layers.BatchNormalization(name="norm"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(5, name="hidden"),
        layers.Dense(4, name="scores"),
    )


def pixels():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype("float32")


def test_inner_layers_are_lowered(model):
    low = {name for name, dtype in dtypes(lower_precision(model)).items() if dtype == "bfloat16"}
    assert low == {"conv", "relu", "depthwise", "hidden"}


def test_layers_to_train_keep_weights_of_float32_and_cheap_gradients(model):
    lowered = lower_precision(model, is_trained=True)
    low = {name for name, dtype in dtypes(lowered).items() if dtype == "bfloat16"}
    assert low == {"conv", "relu", "hidden"}
    assert {variable.dtype for variable in lowered.weights} == {"float32"}
    full, found = (np.asarray(one(pixels())) for one in (model, lowered))
    assert not np.array_equal(found, full)
    np.testing.assert_allclose(found, full, atol=0.02 * np.abs(full).max())


def test_the_result_is_close_and_float32(model):
    full, low = (np.asarray(one(pixels())) for one in (model, lower_precision(model)))
    assert low.dtype == np.float32
    assert not np.array_equal(low, full)
    np.testing.assert_allclose(low, full, atol=0.02 * np.abs(full).max())


def test_the_model_and_the_random_state_are_not_changed(model):
    config, weights, state = model.get_config(), model.get_weights(), random.getstate()
    lower_precision(model)
    assert random.getstate() == state
    assert model.get_config() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_that_make_an_output_stay_in_float32():
    model = chain(layers.Conv2D(4, 3, name="first"), layers.Conv2D(4, 3, name="last"))
    assert dtypes(lower_precision(model)) == {"first": "bfloat16", "last": "float32"}


def test_layers_used_twice_are_lowered_once():
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    lowered = lower_precision(chain(shared, shared, layers.GlobalMaxPooling2D(name="end")))
    assert dtypes(lowered) == {"shared": "bfloat16", "end": "float32"}


def test_flattened_nested_models_are_lowered():
    inner = chain(layers.Conv2D(4, 3, name="inside"), layers.Flatten(name="flat"))
    flat = fold_batch_norm(chain(inner, layers.Dense(2, name="end")))
    lowered = lower_precision(flat)
    assert dtypes(lowered) == {"inside": "bfloat16", "flat": "float32", "end": "float32"}


def test_custom_layers_and_layers_with_lora_stay_in_float32():
    class Mine(layers.Dense):
        pass

    adapted = layers.Dense(4, name="adapted")
    model = chain(Mine(4, name="mine"), adapted, layers.Dense(3, name="end"))
    adapted.enable_lora(2)
    assert set(dtypes(lower_precision(model)).values()) == {"float32"}
