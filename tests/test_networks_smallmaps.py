"""Convolutions on small maps as matrix products: the same function, other arithmetic."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from transferclf.networks.inference import compile_forward
from transferclf.networks.smallmaps import SmallMapConv2D, with_fast_small_maps
from transferclf.networks.tiny import build_tiny

SIDES = (2, 3, 4)


def network(*operations, shape=(3, 3, 128)):
    """A model of these layers one after the other, with biases that are not zero."""
    x = inputs = keras.Input(shape)
    for operation in operations:
        x = operation(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == "bias":
            variable.assign(rng.normal(size=variable.shape))
    return model


def convolution(filters=128, kernel_size=3, padding="same", **options):
    return layers.Conv2D(filters, kernel_size, padding=padding, **options)


def maps(model, count=3):
    return np.random.default_rng(1).normal(size=(count, *model.input_shape[1:])).astype("float32")


def n_replaced(model):
    return sum(isinstance(layer, SmallMapConv2D) for layer in model.layers)


def assert_same(model, fast):
    x = maps(model)
    expected, found = (np.asarray(it(x, training=False)) for it in (model, fast))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("shape", itertools.product(SIDES, SIDES), ids=str)
@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}], ids=str)
def test_same_function(shape, options):
    model = network(convolution(144, **options), shape=(*shape, 128))
    fast = with_fast_small_maps(model)
    assert n_replaced(fast) == 1
    assert fast.output_shape == model.output_shape
    assert_same(model, fast)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SIDES), st.sampled_from(SIDES), st.integers(0, 2**32 - 1))
def test_same_as_a_sum_over_taps(rows, columns, seed):
    rng = np.random.default_rng(seed)
    layer = convolution(128)
    layer.build((None, rows, columns, 128))
    kernel = rng.normal(size=layer.kernel.shape)
    layer.set_weights([kernel, rng.normal(size=128)])
    x = rng.normal(size=(2, rows, columns, 128)).astype("float32")

    padded = np.pad(x.astype(float), [(0, 0), (1, 1), (1, 1), (0, 0)])
    expected = np.asarray(layer.bias) + sum(
        padded[:, i : i + rows, j : j + columns] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    found = np.asarray(SmallMapConv2D(layer, (rows, columns))(x))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (convolution(), (5, 3, 128)),
        (convolution(), (3, 1, 128)),
        (convolution(), (None, None, 128)),
        (convolution(127), (3, 3, 128)),
        (convolution(), (3, 3, 127)),
        (convolution(kernel_size=(3, 1)), (3, 3, 128)),
        (convolution(kernel_size=5), (3, 3, 128)),
        (convolution(padding="valid"), (3, 3, 128)),
        (convolution(strides=2), (4, 4, 128)),
        (convolution(dilation_rate=2), (3, 3, 128)),
        (convolution(groups=2), (3, 3, 256)),
        (convolution(dtype="bfloat16"), (3, 3, 128)),
        (layers.Conv2DTranspose(128, 3, padding="same"), (3, 3, 128)),
        (layers.SeparableConv2D(128, 3, padding="same"), (3, 3, 128)),
    ],
    ids=str,
)
def test_left_alone(layer, shape):
    model = network(layer, shape=shape)
    assert with_fast_small_maps(model) is model


def test_layer_with_more_weights_than_it_shows_is_left_alone():
    layer = convolution()
    model = network(layer)
    layer.enable_lora(2)
    assert with_fast_small_maps(model) is model


def test_layer_called_on_maps_of_two_sizes():
    shared = convolution()
    x = inputs = keras.Input((4, 4, 128))
    x = shared(layers.AveragePooling2D(2)(shared(x)))
    model = keras.Model(inputs, x)
    assert with_fast_small_maps(model) is model


def test_inside_a_model_of_several_layers_and_a_shortcut():
    inputs = keras.Input((6, 6, 128))
    x = layers.MaxPooling2D()(convolution()(inputs))
    x = layers.Add()([convolution(activation="relu")(x), x])
    model = keras.Model(inputs, convolution(256)(x))
    fast = with_fast_small_maps(model)
    assert n_replaced(fast) == 2
    assert_same(model, fast)


def test_model_is_not_modified():
    model = network(convolution())
    before, weights = list(model.layers), model.get_weights()
    with_fast_small_maps(model)
    assert model.layers == before
    assert all(map(np.array_equal, model.get_weights(), weights))


def test_weights_are_those_of_the_moment():
    model = network(convolution())
    fast = with_fast_small_maps(model)
    x = maps(model)
    before = np.asarray(fast(x))
    model.layers[1].kernel.assign(np.zeros(model.layers[1].kernel.shape))
    assert np.array_equal(np.asarray(fast(x)), before)


def test_callers_precision_changes_nothing():
    model = network(convolution())
    expected = np.asarray(with_fast_small_maps(model)(maps(model)))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found = with_fast_small_maps(model)(maps(model))
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.array_equal(np.asarray(found), expected)


def test_compiled_networks_use_it_and_keep_rows_apart():
    """The bundled network ends in maps of 3 x 3 at its own size; company changes no bit."""
    built = build_tiny((96, 96, 3), seed=0)
    model = keras.Model(built.inputs[0], layers.GlobalAveragePooling2D()(built.outputs[0]))
    assert n_replaced(with_fast_small_maps(model)) == 1

    forward = compile_forward(model)
    x = maps(model, count=40)
    alone = forward(x)
    expected = np.asarray(model(x, training=False))
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    order = np.random.default_rng(2).permutation(40)
    assert np.array_equal(forward(x[order]), alone[order])
    assert np.array_equal(forward(x[7:20]), alone[7:20])
