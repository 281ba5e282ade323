"""Batch norms folded into the layers before them: the same function, fewer layers."""

import random

import keras
import numpy as np
import pytest
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.folding import fold_batch_norm

SHAPE = (6, 7, 3)


def conv(**options):
    return layers.Conv2D(4, 3, **options)


def randomised(model, seed=0):
    """Replace the initial statistics of the batch norms and the biases, and return the model."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        value = {
            "gamma": rng.uniform(0.5, 1.5, variable.shape),
            "beta": rng.normal(size=variable.shape),
            "moving_mean": rng.normal(size=variable.shape),
            "moving_variance": rng.uniform(0.3, 2.0, variable.shape),
            "bias": rng.normal(size=variable.shape),
        }.get(variable.name)
        if value is not None:
            variable.assign(value)
    return model


def chain(*operations, shape=SHAPE):
    x = inputs = keras.Input(shape)
    for operation in operations:
        x = operation(x)
    return randomised(keras.Model(inputs, x))


def pixels(shape=SHAPE, count=3):
    return np.random.default_rng(1).normal(size=(count, *shape)).astype("float32")


def norms(model):
    return sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers)


def assert_same(model, folded, tolerance=1e-5):
    x = pixels(model.input_shape[1:])
    expected = np.asarray(model(x, training=False))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(
        folded(x, training=False), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


# --- folded layers


@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("flags", [{}, {"center": False}, {"scale": False}])
@pytest.mark.parametrize(
    "make",
    [
        conv,
        lambda **options: conv(strides=2, dilation_rate=1, padding="same", **options),
        lambda **options: layers.Conv2D(6, 3, groups=3, **options),
        lambda **options: layers.DepthwiseConv2D(3, **options),
        lambda **options: layers.DepthwiseConv2D(3, depth_multiplier=2, **options),
        lambda **options: layers.Dense(5, **options),
    ],
    ids=["conv", "strides", "groups", "depthwise", "depthwise 2", "dense"],
)
def test_a_norm_after_each_foldable_layer_is_folded(make, flags, use_bias):
    norm = layers.BatchNormalization(epsilon=0.1, **flags)
    model = chain(make(use_bias=use_bias), norm, layers.ReLU())
    folded = fold_batch_norm(model)
    assert norms(folded) == 0
    assert len(folded.layers) == len(model.layers) - 1
    assert_same(model, folded)


def test_norms_after_dense_layers_are_folded():
    model = chain(layers.Flatten(), layers.Dense(5), layers.BatchNormalization())
    assert norms(fold_batch_norm(model)) == 0
    assert_same(model, fold_batch_norm(model))


def test_each_norm_in_a_chain_is_folded():
    model = chain(
        conv(), layers.BatchNormalization(), layers.ReLU(), conv(), layers.BatchNormalization()
    )
    assert norms(fold_batch_norm(model)) == 0
    assert_same(model, fold_batch_norm(model))


def test_only_one_of_two_adjacent_norms_is_folded():
    model = chain(conv(), layers.BatchNormalization(), layers.BatchNormalization())
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_nested_models_give_the_same_output_after_folding():
    inner = chain(conv(), layers.BatchNormalization())
    model = chain(layers.ReLU(), inner)
    assert_same(model, fold_batch_norm(model))


def test_a_nested_layer_with_the_name_of_an_input_is_accepted():
    inputs = keras.Input(SHAPE, name="images")
    inner = keras.Sequential([keras.Input(SHAPE), layers.ReLU(name="images")])
    model = randomised(keras.Model(inputs, conv()(inner(inputs))))
    assert_same(model, fold_batch_norm(model))


def test_sequential_models_are_folded():
    model = keras.Sequential([keras.Input(SHAPE), conv(), layers.BatchNormalization()])
    randomised(model)
    assert norms(fold_batch_norm(model)) == 0
    assert_same(model, fold_batch_norm(model))


# --- layers that are not folded


@pytest.mark.parametrize(
    "operations",
    [
        (layers.BatchNormalization, conv),
        (lambda: conv(activation="relu"), layers.BatchNormalization),
        (lambda: layers.SeparableConv2D(4, 3), layers.BatchNormalization),
        (lambda: layers.Conv2DTranspose(4, 3), layers.BatchNormalization),
        (conv, layers.ReLU, layers.BatchNormalization),
        (conv, lambda: layers.BatchNormalization(axis=1)),
        (lambda: layers.Conv2D(4, 3, padding="same"), lambda: layers.BatchNormalization(axis=2)),
    ],
    ids=["first", "activation", "separable", "transpose", "relu between", "rows", "columns"],
)
def test_norms_after_other_operations_are_left_alone(operations):
    model = chain(*(make() for make in operations))
    folded = fold_batch_norm(model)
    assert norms(folded) == 1
    assert len(folded.layers) == len(model.layers)
    assert_same(model, folded)


def test_a_norm_over_rows_is_not_folded_if_rows_equal_channels():
    model = chain(conv(), layers.BatchNormalization(axis=1), shape=(6, 6, 3))
    assert model.output_shape == (None, 4, 4, 4)
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_a_convolution_with_another_consumer_is_left_alone():
    inputs = keras.Input(SHAPE)
    x = conv()(inputs)
    model = randomised(keras.Model(inputs, layers.Add()([x, layers.BatchNormalization()(x)])))
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_a_convolution_that_is_an_output_is_left_alone():
    inputs = keras.Input(SHAPE)
    x = conv()(inputs)
    model = randomised(keras.Model(inputs, [x, layers.BatchNormalization()(x)]))
    folded = fold_batch_norm(model)
    assert norms(folded) == 1
    for a, b in zip(model(pixels()), folded(pixels()), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_convolution_called_twice_is_left_alone():
    shared = layers.Conv2D(3, 3, padding="same")
    first, second = layers.BatchNormalization(), layers.BatchNormalization()
    model = chain(shared, first, shared, second)
    assert norms(fold_batch_norm(model)) == 2
    assert_same(model, fold_batch_norm(model))


def test_a_norm_called_twice_is_left_alone():
    shared = layers.BatchNormalization()
    model = chain(layers.Conv2D(3, 3), shared, layers.Conv2D(3, 3), shared)
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_a_norm_called_with_training_is_left_alone():
    inputs = keras.Input(SHAPE)
    model = keras.Model(inputs, layers.BatchNormalization()(conv()(inputs), training=True))
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_a_norm_called_without_training_is_folded():
    inputs = keras.Input(SHAPE)
    norm = layers.BatchNormalization()
    model = randomised(keras.Model(inputs, norm(conv()(inputs), training=False)))
    assert norms(fold_batch_norm(model)) == 0
    assert_same(model, fold_batch_norm(model))


def test_adapted_layers_are_left_alone():
    model = chain(layers.Dense(5), layers.BatchNormalization())
    model.layers[1].enable_lora(2)
    model.layers[1].lora_kernel_b.assign(np.ones((2, 5)))
    assert norms(fold_batch_norm(model)) == 1
    assert_same(model, fold_batch_norm(model))


def test_subclassed_models_cannot_be_folded():
    class Mine(keras.Model):
        pass

    with pytest.raises(NetworkError, match="Mine"):
        fold_batch_norm(Mine())


# --- real networks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "options", "left"),
    [("MobileNetV2", {"alpha": 0.35}, 0), ("ResNet50V2", {}, 17), ("DenseNet121", {}, 62)],
)
def test_real_networks_give_the_same_output_after_folding(function, options, left):
    network = getattr(keras.applications, function)
    model = network(weights=None, include_top=False, input_shape=(32, 32, 3), **options)
    randomised(model)
    before = [weight.copy() for weight in model.get_weights()]
    folded = fold_batch_norm(model)
    assert norms(folded) == left
    assert len(folded.layers) == len(model.layers) - norms(model) + left
    assert_same(model, folded, tolerance=1e-4)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- no change of the model


def test_the_model_and_the_random_state_are_not_changed():
    model = chain(conv(), layers.BatchNormalization(), layers.DepthwiseConv2D(3), layers.ReLU())
    x = pixels()
    before, config, weights = np.asarray(model(x)), model.get_config(), model.get_weights()
    state = random.getstate()
    fold_batch_norm(model)
    assert random.getstate() == state
    assert model.get_config() == config
    np.testing.assert_array_equal(model(x), before)
    for a, b in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_later_changes_of_the_model_do_not_change_folded_layers():
    model = chain(conv(), layers.BatchNormalization())
    folded = fold_batch_norm(model)
    before = np.asarray(folded(pixels()))
    model.layers[1].kernel.assign(0 * model.layers[1].kernel)
    np.testing.assert_array_equal(folded(pixels()), before)
