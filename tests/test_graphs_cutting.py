"""The cut: suffix(prefix(x)) equals model(x), and the suffix is as small as possible."""

import re

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.cutting import cut
from transferclf.graphs.walking import nodes_in_order

SIDE, CHANNELS = 5, 3


def make_layer(kind):
    if kind == "conv":
        return layers.Conv2D(CHANNELS, 3, padding="same", activation="tanh")
    if kind == "dense":
        return layers.Dense(CHANNELS)
    if kind == "norm":
        return layers.BatchNormalization(beta_initializer="ones")
    return layers.Activation("tanh")


KINDS = ["conv", "dense", "norm", "tanh", "add", "concat", "shared", "op"]
# Each step: the layer, the index of its input, of a second input, and of a layer to call again.
STEPS = st.tuples(st.sampled_from(KINDS), *[st.integers(0, 100)] * 3)


def build(steps, second_output):
    """Return a graph of convolutions, skips, branches and shared layers with one or two outputs."""
    inputs = keras.Input((SIDE, SIDE, CHANNELS))
    tensors, made = [inputs], []
    for kind, which, other, which_layer in steps:
        x, other = tensors[-3:][which % len(tensors[-3:])], tensors[other % len(tensors)]
        if kind == "add":
            x = layers.Add()([x, other])
        elif kind == "concat":
            x = make_layer("dense")(layers.Concatenate()([x, other]))
        elif kind == "op":
            x = keras.ops.flip(x, axis=1)
        elif kind == "shared" and made:
            x = made[which_layer % len(made)](x)
        else:
            made.append(make_layer("conv" if kind == "shared" else kind))
            x = made[-1](x)
        tensors.append(x)
    outputs = [tensors[-1]]
    if second_output is not None:
        outputs.append(layers.GlobalAveragePooling2D()(tensors[second_output % len(tensors)]))
    return keras.Model(inputs, outputs)


def real_layers(model):
    return [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def outputs_of(model, x):
    return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]


def operations(model):
    return {node.operation for node in nodes_in_order(model)}


def assert_right_cut(model, trainable_layers, chosen, x):
    prefix, suffix = cut(model, trainable_layers)
    activations = prefix(x, training=False)
    for whole, parts in zip(outputs_of(model, x), outputs_of(suffix, activations), strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5)
    assert not set(chosen) & operations(prefix)
    depending = {id(tensor) for tensor in depending_on(model, chosen)}
    needed = [node for node in nodes_in_order(model) if id(node.outputs[0]) in depending]
    assert len(nodes_in_order(suffix)) == len(needed)
    assert operations(suffix) == {node.operation for node in needed}


def depending_on(model, chosen):
    """Return all tensors that depend on a chosen layer, by a slow and simple search."""
    found = []
    for node in nodes_in_order(model):
        reads = any(tensor is one for tensor in node.input_tensors for one in found)
        if reads or any(node.operation is layer for layer in chosen):
            found.extend(node.outputs)
    return found


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(STEPS, min_size=1, max_size=7),
    st.none() | st.integers(0, 100),
    st.sampled_from(["number", "name", "all"]),
    st.integers(0, 100),
)
def test_suffix_of_prefix_gives_the_output_of_the_model(steps, second_output, way, position):
    model = build(steps, second_output)
    everything = real_layers(model)
    if way == "number" or not everything:
        value = position % (len(everything) + 1)
        chosen = everything[len(everything) - value :]
    else:
        name = everything[position % len(everything)].name
        value = "all" if way == "all" else name
        named = re.compile(rf"{name}(?![0-9])")  # dense_1 and dense_1_..., but not dense_10
        chosen = [one for one in everything if way == "all" or named.match(one.name)]
    x = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, CHANNELS)).astype("float32")
    assert_right_cut(model, value, chosen, x)


# --- the two ends


def chain(*names):
    x = inputs = keras.Input((4,))
    for name in names:
        x = layers.Dense(4, name=name)(x)
    return keras.Model(inputs, x, name="chain")


def names_in(model):
    return [layer.name for layer in real_layers(model)]


def test_no_trainable_layer_gives_an_identity_suffix():
    model = chain("a", "b")
    prefix, suffix = cut(model, 0)
    x = np.ones((2, 4), "float32")
    assert names_in(prefix) == ["a", "b"]
    assert names_in(suffix) == []
    np.testing.assert_array_equal(suffix(x), x)
    np.testing.assert_array_equal(prefix(x), model(x))


def test_all_layers_trainable_give_an_identity_prefix():
    model = chain("a", "b")
    prefix, suffix = cut(model, "all")
    x = np.ones((2, 4), "float32")
    assert names_in(prefix) == []
    assert names_in(suffix) == ["a", "b"]
    np.testing.assert_array_equal(prefix(x), x)


def test_all_equals_the_number_of_layers():
    model = chain("a", "b", "c")
    assert names_in(cut(model, 3).suffix) == names_in(cut(model, "all").suffix)


@pytest.mark.parametrize("number", [1, np.int64(1)])
def test_the_last_layers_are_trained(number):
    prefix, suffix = cut(chain("a", "b", "c"), number)
    assert (names_in(prefix), names_in(suffix)) == (["a", "b"], ["c"])


def test_parts_share_the_layers_of_the_model():
    model = chain("a", "b")
    config, before = model.get_config(), model.get_weights()
    prefix, suffix = cut(model, 1)
    assert prefix.get_layer("a") is model.get_layer("a")
    assert suffix.get_layer("b") is model.get_layer("b")
    assert model.get_config() == config
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_sequential_models_are_cut():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2)])
    x = np.ones((2, 4), "float32")
    prefix, suffix = cut(model, 1)
    assert names_in(prefix) == ["a"]
    assert_rows_agree(suffix(prefix(x)), model(x))


def test_a_frozen_branch_beside_the_trained_one_stays_in_the_prefix():
    inputs = keras.Input((4,))
    frozen = layers.Dense(4, name="frozen_b")(layers.Dense(4, name="frozen_a")(inputs))
    trained = layers.Dense(4, name="trained")(inputs)
    model = keras.Model(inputs, layers.Add(name="add")([frozen, trained]))
    prefix, suffix = cut(model, "trained")
    assert names_in(suffix) == ["trained", "add"]
    assert [tuple(tensor.shape) for tensor in prefix.outputs] == [(None, 4)] * 2
    assert_right_cut(model, "trained", [model.get_layer("trained")], np.ones((2, 4), "float32"))


def test_a_shared_trained_layer_is_never_in_the_prefix():
    shared = layers.Dense(4, name="shared")
    x = inputs = keras.Input((4,))
    for name in ("a", "b"):
        x = layers.Dense(4, name=name)(shared(x))
    prefix, suffix = cut(keras.Model(inputs, x), "shared")
    assert names_in(prefix) == []
    assert set(names_in(suffix)) == {"shared", "a", "b"}


# --- names


def test_block_1_does_not_select_block_10():
    model = chain("block1_conv", "block2_conv", "block10_conv")
    assert names_in(cut(model, "block10").suffix) == ["block10_conv"]
    assert names_in(cut(model, "block1").suffix)[0] == "block1_conv"
    backwards = chain("block10_conv", "block2_conv", "block1_conv")
    assert names_in(cut(backwards, "block1").suffix) == ["block1_conv"]


def test_a_layer_with_exactly_that_name_is_selected():
    model = chain("stem1", "stem", "head")
    assert names_in(cut(model, "head").suffix) == ["head"]
    assert names_in(cut(model, "stem").prefix) == []  # stem1 starts with the same name


@pytest.mark.parametrize(
    ("function", "size", "block", "first"),
    [
        ("VGG16", 32, "block5", "block5_conv1"),
        ("ResNet50", 32, "conv5_block3", "conv5_block3_1_conv"),
        ("MobileNetV2", 32, "block_16", "block_16_expand"),
        ("InceptionV3", 75, "mixed9", "mixed9_0"),
    ],
)
@pytest.mark.usefixtures("no_random_weights")
def test_real_networks_are_cut_at_a_block(function, size, block, first):
    network = getattr(keras.applications, function)
    model = network(weights=None, include_top=False, input_shape=(size, size, 3))
    chosen = [layer for layer in model.layers if layer.name.split(block)[0] == ""]
    assert chosen[0].name == first
    prefix, suffix = cut(model, block)
    assert not set(chosen) & operations(prefix)
    assert set(chosen) <= operations(suffix)
    assert len(operations(suffix)) < len(operations(prefix))
    x = np.random.default_rng(0).uniform(-1, 1, (1, size, size, 3)).astype("float32")
    whole, parts = model(x, training=False), suffix(prefix(x, training=False), training=False)
    assert np.ptp(whole) > 0
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-5 * np.abs(whole).max())


@pytest.fixture
def no_random_weights(monkeypatch):
    """Replace random initial weights by waves, which are faster to compute."""

    def waves(self, shape, dtype=None):
        size = int(np.prod(shape))
        return keras.ops.convert_to_tensor(
            (np.sin(np.arange(size)) / np.sqrt(size / shape[-1])).reshape(shape), dtype=dtype
        )

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", waves)


# --- errors


@pytest.mark.parametrize("number", [-1, 4, 1000])
def test_numbers_out_of_range_raise_an_error(number):
    with pytest.raises(NetworkError, match=rf"from 0 to 3, the layers of 'chain'. Got {number}"):
        cut(chain("a", "b", "c"), number)


@pytest.mark.parametrize("value", [True, False, 1.0, 0.5, None, ["a"], np.True_, b"a"])
def test_values_of_another_type_raise_an_error(value):
    with pytest.raises(NetworkError, match="a whole number, 'all' or the name of a layer"):
        cut(chain("a", "b", "c"), value)


def test_the_error_for_an_unknown_name_proposes_the_nearest():
    model = chain("block1_conv", "block2_conv", "head")
    with pytest.raises(NetworkError, match=r"'blok2' names no layer .* 'chain'.*'block2_conv'"):
        cut(model, "blok2")


@pytest.mark.parametrize("name", ["", "zzz", "ALL", "block1_conv_more"])
def test_the_error_for_an_unknown_name_lists_other_layers(name):
    with pytest.raises(NetworkError, match=f"trainable_layers='{name}' names no layer.*'block"):
        cut(chain("block1_conv", "block2_conv"), name)


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["stem", "block1_a", "block1_b", "block2_a", "block2_b"], "'block1', 'block2'"),
        (
            ["conv4_block1_x", "conv4_block2_x", "conv5_block1_x", "conv5_block2_x"],
            "'conv4', 'conv5'",
        ),
        (["block1a_x", "block1b_x", "block10a_x", "block10a_y"], "'block1', 'block10'"),
        (["block_1_x", "block_1_y", "block_11_x", "block_11_y", "top1"], "'block_1', 'block_11'"),
        (
            [f"stage{number}_{part}" for number in range(1, 13) for part in "ab"],
            "'stage1', 'stage2', 'stage3', ..., 'stage10', 'stage11', 'stage12'",
        ),
    ],
)
def test_the_error_for_an_unknown_name_lists_the_blocks(names, blocks):
    model = chain(*names)
    with pytest.raises(NetworkError) as caught:
        cut(model, "block9")
    assert f"its blocks are {blocks}, and there are the layers" in str(caught.value)
    for block in blocks.replace("..., ", "").split(", "):  # each listed block is accepted
        assert len(cut(model, block.strip("'")).suffix.layers) > 1


def test_the_error_lists_no_blocks_in_a_network_without_numbers():
    with pytest.raises(NetworkError, match=r"of 'chain'; there are the layers, among others"):
        cut(chain("first", "second"), "block9")


def test_the_input_layer_cannot_be_trained():
    model = chain("a", "b")
    with pytest.raises(NetworkError, match="names no layer") as caught:
        cut(model, model.inputs[0].name)
    assert str(caught.value).count(model.inputs[0].name) == 1


def test_subclassed_models_cannot_be_cut():
    class Mine(keras.Model):
        pass

    with pytest.raises(NetworkError, match="Mine"):
        cut(Mine(), 1)
