"""Networks from scratch: their layers, their weights, and that they learn."""

import random
import subprocess
import sys

import keras
import numpy as np
import pytest
from exactness import outputs_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.datasets import load_digits

from transferclf.backbones.convnet import MAX_PARAMETERS, ConvNet
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.graphs.isolation import undisturbed

SHAPE = (16, 16, 3)


def built(network, shape=SHAPE, seed=0):
    with undisturbed(seed):
        return network.build(shape)


def names(model):
    return [layer.name for layer in model.layers[1:]]


def kinds(model):
    return [type(layer).__name__ for layer in model.layers[1:]]


# --- the layers


def test_four_blocks_and_a_dense_layer():
    network = ConvNet(filters=(32, 64, 128, 128), dense_units=512, dropout=0.4)
    model = built(network, (32, 32, 3))
    assert names(model) == [
        *("block1_conv1", "block1_pool", "block2_conv1", "block2_pool"),
        *("block3_conv1", "block3_pool", "block4_conv1", "block4_pool"),
        *("flatten", "dense1", "dense1_dropout"),
    ]
    assert model.output_shape == (None, 512)
    assert model.get_layer("block4_pool").output.shape == (None, 2, 2, 128)
    assert model.get_layer("dense1_dropout").rate == 0.4
    kernels = 3 * 3 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 128) + 2 * 2 * 128 * 512
    assert model.count_params() == kernels + 32 + 64 + 128 + 128 + 512


@pytest.mark.parametrize("batch_norm", ["before", "after"])
def test_two_blocks_of_two_convolutions(batch_norm):
    network = ConvNet((32, 64), 2, batch_norm=batch_norm, dropout=(0.25, 0.2, 0.5))
    model = built(network, (32, 32, 3))
    unit = ["Conv2D", "BatchNormalization", "Activation"]
    dense = ["Dense", "BatchNormalization", "Activation"]
    if batch_norm == "after":
        unit, dense = unit[:2], dense[:2]
    block = [*unit, *unit, "MaxPooling2D", "Dropout"]
    assert kinds(model) == [*block, *block, "Flatten", *dense, "Dropout"]
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert rates == [0.25, 0.2, 0.5]
    for name in ("block1_conv2", "block2_conv1", "dense1"):
        layer = model.get_layer(name)
        assert layer.use_bias == (batch_norm == "after")
        assert layer.activation.__name__ == ("linear" if batch_norm == "before" else "relu")


def test_names_of_normalised_layers():
    model = built(ConvNet((4,), 2, batch_norm="before", dropout=(0.1, 0.2), dense_units=(5,)))
    assert names(model) == [
        *("block1_conv1", "block1_bn1", "block1_activation1"),
        *("block1_conv2", "block1_bn2", "block1_activation2", "block1_pool", "block1_dropout"),
        *("flatten", "dense1", "dense1_bn", "dense1_activation", "dense1_dropout"),
    ]


def test_perceptron_on_pixels():
    model = built(ConvNet(filters=(), dense_units=(256, 128)))
    assert names(model) == ["flatten", "dense1", "dense2"]
    assert model.output_shape == (None, 128)


@pytest.mark.parametrize(("dropout", "last"), [(0.3, "pool_dropout"), ((0.3,), "pool")])
def test_global_pooling_without_dense_layers(dropout, last):
    model = built(ConvNet(filters=(8,), dense_units=(), dropout=dropout))
    assert names(model)[-1] == last
    assert "pool" in names(model)
    assert model.output_shape == (None, 8)


def test_one_dropout_rate_applies_to_dense_layers_only():
    model = built(ConvNet((4, 4), dense_units=(5, 6), dropout=0.5))
    assert [name for name in names(model) if "dropout" in name] == [
        "dense1_dropout",
        "dense2_dropout",
    ]


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [("relu", "HeNormal"), ("gelu", "HeNormal"), ("tanh", "GlorotUniform")],
)
@pytest.mark.parametrize("batch_norm", [None, "before"])
def test_the_activation_sets_the_weight_initializer(activation, initializer, batch_norm):
    model = built(ConvNet((4,), activation=activation, batch_norm=batch_norm))
    for name in ("block1_conv1", "dense1"):
        assert type(model.get_layer(name).kernel_initializer).__name__ == initializer


def test_batch_norm_sets_the_place_of_normalisation(rng):
    pixels = rng.normal(size=(64, *SHAPE)).astype("float32")
    for batch_norm in ("before", "after"):
        model = built(ConvNet((), dense_units=(32,), batch_norm=batch_norm))
        features = np.asarray(model(pixels, training=True))
        if batch_norm == "before":
            assert features.min() == 0
        else:
            np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-4)


# --- sizes


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 4), st.integers(0, 3), st.integers(1, 5))
def test_min_image_size_is_the_smallest_that_works(n_blocks, n_more, kernel_size):
    network = ConvNet([2] * n_blocks, kernel_size=kernel_size, dense_units=3)
    size = network.min_image_size
    assert built(network, (size, size + n_more, 3)).output_shape == (None, 3)
    if size > 1:
        with pytest.raises(NetworkError, match=f"at least {size} x {size}. Got {size - 1} x "):
            network.build((size - 1, size + n_more, 3))


@pytest.mark.parametrize(
    "shape",
    [
        *((), (16, 16), (16, 16, 3, 1), 16, "abc", None, {16, 17, 3}),
        *((None, None, 3), (16, 16, 0), (16, 16.0, 3), (True, 16, 3), (-16, 16, 3)),
        *((16, np.nan, 3), (16, 16, "3"), np.array(5), np.ones((3, 1), int)),
    ],
)
def test_invalid_shapes_are_refused(shape):
    with pytest.raises(NetworkError, match="input_shape must be three whole numbers"):
        ConvNet(filters=(4,)).build(shape)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ConvNet(filters=(32,)), (1024, 1024, 3)),
        (ConvNet(filters=(10**9,)), SHAPE),
        (ConvNet(dense_units=(10**6, 10**6)), SHAPE),
        (ConvNet(kernel_size=10**5), SHAPE),
        (ConvNet(convs_per_block=10**9), SHAPE),
    ],
)
def test_networks_too_large_for_memory_are_refused_at_once(network, shape):
    with pytest.raises(NetworkError, match=f"at most {MAX_PARAMETERS:,} weights. Got"):
        network.build(shape)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(1, 5), max_size=3),
    st.integers(1, 3),
    st.integers(1, 4),
    st.lists(st.integers(1, 5), min_size=1, max_size=2),
)
def test_size_is_known_beforehand(filters, convs, kernel_size, dense_units):
    from transferclf.backbones import convnet

    network = ConvNet(filters, convs, kernel_size, dense_units=dense_units)
    weights = built(network, (11, 9, 3)).trainable_weights
    kernels = sum(int(np.prod(each.shape)) for each in weights if each.name == "kernel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convnet, "MAX_PARAMETERS", kernels)
        network.build((11, 9, 3))
        patch.setattr(convnet, "MAX_PARAMETERS", kernels - 1)
        with pytest.raises(NetworkError, match=f"Got {kernels:,} instead"):
            network.build((11, 9, 3))


# --- weights

WEIGHTS = """
import hashlib
from transferclf.backbones.convnet import ConvNet
from transferclf.graphs.isolation import undisturbed
with undisturbed(7):
    model = ConvNet((4, 4), 2, dropout=0.5, dense_units=8).build((16, 16, 3))
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest())
"""


def test_the_seed_determines_the_weights():
    network = ConvNet((4, 4), 2, dense_units=8)
    first, again, other = (built(network, seed=seed).get_weights() for seed in (7, 7, 8))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or not np.array_equal(a, c)


def test_layers_of_equal_shape_start_differently():
    model = built(ConvNet((4, 4, 4), dense_units=()))
    one, other = (model.get_layer(f"block{number}_conv1").get_weights()[0] for number in (2, 3))
    assert not np.array_equal(one, other)


def test_weights_are_the_same_in_another_process(capsys, in_another_process):
    exec(WEIGHTS, {})
    assert capsys.readouterr().out == in_another_process(WEIGHTS)


def test_building_and_checking_change_no_global_state():
    name, state = keras.layers.Dense(1).name, random.getstate()
    built(ConvNet((4,), batch_norm="before"))
    ConvNet(activation="gelu").check()
    assert random.getstate() == state
    number = int(name.split("_")[1]) + 1 if "_" in name else 1
    assert keras.layers.Dense(1).name == f"dense_{number}"


# --- parameters


def test_cloned_by_scikit_learn():
    network = ConvNet(filters=[4, 8], dense_units=np.array([3]), dropout=0.1)
    copy = clone(network)
    assert copy is not network
    assert copy.digest == network.digest
    assert copy.set_params(kernel_size=5).digest != network.digest
    assert network.kernel_size == 3


def test_init_checks_no_parameters():
    units = [-1]
    assert ConvNet(dense_units=units).dense_units is units


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("filters", value) for value in (None, 32, "32", (0,), (-4,), (4.0,), (True,), [[4]])),
        *(("filters", value) for value in ({4}, {4: 4}, (np.nan,), np.ones((2, 2), int), ("4",))),
        *(("dense_units", value) for value in (None, 0, -1, 2.5, True, "512", (0,), (1e3,))),
        *(("convs_per_block", value) for value in (0, -1, 1.0, True, None, "1", np.nan, (1,))),
        *(("kernel_size", value) for value in (0, -3, 3.0, True, None, "3", (3, 3))),
        *(("batch_norm", value) for value in (True, False, "Before", "", 1, ("before",), np.nan)),
        *(("dropout", value) for value in (None, -0.1, 1, 1.0, True, "0.5", np.nan, np.inf)),
        *(("dropout", value) for value in ((0.5, True), (0.5, None), (1.5,) * 5, {0.5})),
        *(("dropout", value) for value in ((), (0.5,), (0.5,) * 4, (0.5,) * 6)),
        *(("activation", value) for value in (None, "", "Relu", "nonsense", 1, ["relu"], max)),
        *(("activation", value) for value in ("glu", "threshold")),
    ],
)
def test_invalid_values_are_refused(parameter, value):
    network = ConvNet(**{parameter: value})
    with pytest.raises(InvalidParameterError, match=rf"(?s){parameter} .*must be .*Got .* instead"):
        network.check()
    with pytest.raises(InvalidParameterError):
        network.build(SHAPE)


def test_a_network_without_layers_is_refused():
    with pytest.raises(InvalidParameterError, match="at least one width where filters=()"):
        ConvNet(filters=(), dense_units=()).check()


def test_error_names_the_number_of_dropout_rates():
    with pytest.raises(
        InvalidParameterError, match="one number or 3: one for each of 2 blocks, then one for each"
    ):
        ConvNet(filters=(4, 4), dropout=(0.1, 0.2)).check()


def test_numbers_of_numpy_are_accepted():
    network = ConvNet(
        np.array([4, 8]), np.int64(2), np.int32(5), dropout=np.float32(0.5), dense_units=np.int8(3)
    )
    network.check()
    plain = ConvNet((4, 8), 2, 5, dropout=0.5, dense_units=3)
    for a, b in zip(built(network).get_weights(), built(plain).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_importing_convnet_imports_no_tensorflow():
    code = "import sys, transferclf.backbones.convnet; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# --- learning


def loss_and_accuracy(model, pixels, labels):
    probabilities = outputs_of(model, pixels)
    losses = -np.log(probabilities[np.arange(len(labels)), labels])
    return losses.mean(), (probabilities.argmax(axis=1) == labels).mean()


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [None, "before"])
def test_it_learns_digits(batch_norm, rng):
    images, labels = load_digits(return_X_y=True)
    pixels = np.repeat(images.reshape(-1, 8, 8, 1).repeat(2, 1).repeat(2, 2), 3, 3) / 16 - 0.5
    with undisturbed(0):
        network = ConvNet((16, 32), dense_units=(64,), batch_norm=batch_norm, dropout=0.1)
        features = network.build(SHAPE)
        scores = keras.layers.Dense(10, activation="softmax")(features.output)
        model = keras.Model(features.input, scores)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    before = loss_and_accuracy(model, pixels, labels)[0]
    model.train_on_batch(pixels[:256], labels[:256])
    if batch_norm is None:  # with it, the moving statistics need more steps
        assert loss_and_accuracy(model, pixels, labels)[0] < before
    for _ in range(3):
        for batch in np.array_split(rng.permutation(len(pixels)), 28):
            model.train_on_batch(pixels[batch], labels[batch])
    loss, accuracy = loss_and_accuracy(model, pixels, labels)
    assert loss < before / 2
    assert accuracy >= 0.9
