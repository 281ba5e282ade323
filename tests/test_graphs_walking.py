"""Walking Keras graphs and replaying them on other tensors."""

import keras
import numpy as np
import pytest
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.copying import copied
from transferclf.graphs.walking import (
    functional,
    nodes_in_order,
    packed,
    replay,
    with_replaced,
)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="mine")
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


class Doubling(keras.Model):
    """Functional model whose call differs from its graph."""

    def call(self, *args, **kwargs):
        return 2 * super().call(*args, **kwargs)


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def replayed(model, *shapes):
    """Return the model replayed on new inputs, by default of its own shapes."""
    shapes = shapes or [tensor.shape[1:] for tensor in model.inputs]
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(packed(inputs), packed(replay(functional(model), inputs)))


def assert_same(first, second, x):
    for a, b in zip(keras.tree.flatten(first(x)), keras.tree.flatten(second(x)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def layer_names(model):
    return [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]


# --- functional


def test_functional_models_are_returned_unchanged():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    assert functional(model) is model


def test_built_sequential_becomes_functional_and_shares_its_layers():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)], name="chain")
    graph = functional(model)
    assert not isinstance(graph, keras.Sequential)
    assert graph.name == "chain"
    assert graph.layers[1:] == model.layers
    assert_same(model, graph, images(3, 4))


def test_a_sequential_model_built_by_data_becomes_functional():
    model = keras.Sequential([layers.Dense(3), layers.Dense(2)])
    model(images(3, 4))
    assert_same(model, functional(model), images(3, 4))


@pytest.mark.parametrize(
    "make",
    [
        Subclassed,
        lambda: keras.Sequential([layers.Dense(2)], name="mine"),
        lambda: Doubling(*2 * [keras.Input((4,))], name="mine"),
    ],
    ids=["subclassed", "unbuilt", "own call"],
)
def test_models_without_a_visible_graph_raise_an_error(make):
    with pytest.raises(
        NetworkError, match=r"functional or built sequential .* 'mine'.*keras.Model"
    ):
        functional(make())


def test_a_built_subclassed_model_raises_an_error():
    model = Subclassed()
    model(images(1, 4))
    with pytest.raises(NetworkError, match="Subclassed 'mine'"):
        functional(model)


# --- nodes


def test_nodes_are_in_order_of_dependence():
    inputs = keras.Input((8,))
    a = layers.Dense(8)(inputs)
    b = layers.Dense(8)(layers.Dense(8)(a))
    model = keras.Model(inputs, layers.Add()([layers.Add()([a, b]), inputs]))
    made = {id(inputs)}
    nodes = nodes_in_order(model)
    for node in nodes:
        assert {id(tensor) for tensor in node.input_tensors} <= made
        made.update(id(tensor) for tensor in node.outputs)
    assert len(nodes) == 5


def test_only_nodes_of_this_model_are_returned():
    inputs = keras.Input((4,))
    dense = layers.Dense(4)
    model = keras.Model(inputs, dense(inputs))
    dense(dense(keras.Input((4,))))
    assert len(nodes_in_order(model)) == 1


# --- replay


def test_replay_shares_the_layers():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    again = replayed(model)
    assert again.layers[1] is model.layers[1]
    assert_same(model, again, images(3, 4))


@pytest.mark.parametrize("kind", ["functional", "sequential", "sequential in sequential"])
def test_nested_models_become_flat(kind):
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, layers.Dense(4, name="inside")(inputs))
    if kind != "functional":
        inner = keras.Sequential([keras.Input((4,)), *inner.layers[1:]])
    if kind == "sequential in sequential":
        inner = keras.Sequential([keras.Input((4,)), inner])
    outer = keras.Input((4,))
    model = keras.Model(outer, layers.Dense(2, name="outside")(inner(outer, training=False)))
    again = replayed(model)
    assert layer_names(again) == ["inside", "outside"]
    assert_same(model, again, images(3, 4))


def test_a_nested_model_with_its_own_call_stays_nested():
    inputs = keras.Input((4,))
    inner = Doubling(inputs, layers.Dense(4)(inputs), name="inner")
    outer = keras.Input((4,))
    model = keras.Model(outer, inner(outer))
    again = replayed(model)
    assert layer_names(again) == ["inner"]
    assert_same(model, again, images(3, 4))


def test_a_nested_model_called_twice_keeps_shared_layers():
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, layers.Dense(4, name="inside")(inputs))
    outer = keras.Input((4,))
    model = keras.Model(outer, inner(inner(outer)))
    again = replayed(model)
    assert layer_names(again) == ["inside"]
    assert len(nodes_in_order(again)) == 2
    assert_same(model, again, images(3, 4))


def test_a_shared_layer_is_called_equally_often():
    shared = layers.Dense(4)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Concatenate()([shared(inputs), shared(shared(inputs))]))
    again = replayed(model)
    assert len(nodes_in_order(again)) == len(nodes_in_order(model)) == 4
    assert_same(model, again, images(3, 4))


def test_several_inputs_and_outputs_keep_their_order():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    difference = layers.Subtract()([layers.Dense(5)(a), layers.Dense(5)(b)])
    model = keras.Model([a, b], [b, difference, layers.Dense(2)(difference)])
    again = replayed(model)
    assert_same(model, again, [images(3, 4), images(3, 3)])


def test_a_nested_model_with_several_inputs_and_outputs_becomes_flat():
    a, b = keras.Input((4,)), keras.Input((4,))
    inner = keras.Model([a, b], [layers.Subtract()([a, b]), layers.Dense(4)(b)])
    x, y = keras.Input((4,)), keras.Input((4,))
    first, second = inner([y, x])
    model = keras.Model([x, y], layers.Concatenate()([first, second]))
    again = replayed(model)
    assert not any(isinstance(layer, keras.Model) for layer in again.layers)
    assert_same(model, again, [images(3, 4), images(3, 4, seed=1)])


def test_operations_of_keras_ops_are_replayed():
    inputs = keras.Input((4, 6, 3))
    x = keras.ops.flip(inputs, axis=-1)[:, 1:, ::2, :] / 2.0 - 1.0
    x = keras.ops.concatenate([x, keras.ops.relu(x)], axis=-1)
    assert_same(model := keras.Model(inputs, x), replayed(model), images(2, 4, 6, 3))


def test_keyword_arguments_are_kept():
    query, value = keras.Input((5, 8)), keras.Input((6, 8))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=4)
    model = keras.Model([query, value], attention(query, value=value))
    assert_same(model, replayed(model), [images(2, 5, 8), images(2, 6, 8)])


def test_replay_accepts_another_size():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3)(inputs))
    again = replayed(model, (8, 6, 3))
    assert again.output_shape == (None, 6, 4, 2)
    assert_same(model, again, images(2, 8, 6, 3))


def test_operations_inside_nested_models_are_replaced():
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, layers.ReLU()(inputs))
    outer = keras.Input((4,))
    model = keras.Model(outer, layers.ReLU()(inner(outer)))
    replaced = []

    def identity(operation):
        replaced.append(operation)
        return lambda x: x

    inputs = keras.Input((4,))
    assert replay(model, [inputs], identity) == [inputs]
    assert len(replaced) == 2


def test_replaced_operations_keep_inputs_outputs_and_other_layers():
    first, second = keras.Input((4,)), keras.Input((3,))
    kept, dropped = layers.Dense(2), layers.ReLU()
    model = keras.Model([first, second], [kept(first), dropped(second)])
    changed = with_replaced(model, lambda it: layers.Identity() if it is dropped else it)
    assert kept in changed.layers
    assert dropped not in changed.layers
    x = [images(2, 4) - 1, images(2, 3) - 1]
    assert np.min(x[1]) < 0
    np.testing.assert_array_equal(changed(x)[0], model(x)[0])
    np.testing.assert_array_equal(changed(x)[1], x[1])


def test_replay_does_not_change_the_model():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    x = images(3, 4)
    before, config = model(x), model.get_config()
    replayed(model)
    assert model.get_config() == config
    np.testing.assert_array_equal(model(x), before)


def test_the_number_of_inputs_must_match():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="zip"):
        replay(model, [keras.Input((4,)), keras.Input((4,))])


def test_packed_unwraps_a_single_value():
    assert packed(["one"]) == "one"
    assert packed(["one", "two"]) == ["one", "two"]


def test_a_copied_normalization_layer_gives_the_same_output(rng):
    """The layer of Keras stores values that it computes when its weights are set."""
    normalization = keras.layers.Normalization()
    normalization.adapt(rng.normal(5, 3, (50, 4)).astype(np.float32))
    inputs = keras.Input((4,))
    inner = keras.Model(inputs, normalization(inputs))
    for model in (inner, keras.Sequential([keras.Input((4,)), inner])):
        rows = rng.normal(5, 3, (2, 4)).astype(np.float32)
        np.testing.assert_array_equal(copied(functional(model))(rows), model(rows))
