"""Activations as rows and back: values and positions are kept; tokens are pooled by their kind."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.pooling import pool_array
from transferclf.graphs.rows import as_rows, on_rows, pool

shapes = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3
)


@settings(max_examples=20, deadline=None)
@given(shapes=shapes)
def test_rows_hold_the_activations_in_order(shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    doubled = keras.Model(inputs, [2 * tensor for tensor in inputs])
    packing = keras.Model(inputs, as_rows(inputs))
    unpacking = keras.Model(*on_rows(doubled))
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(2, *shape)).astype(np.float32) for shape in shapes]

    rows = np.asarray(packing(values))
    assert rows.shape == (2, sum(np.prod(shape) for shape in shapes))
    for before, after in zip(values, keras.tree.flatten(unpacking(rows)), strict=True):
        np.testing.assert_array_equal(2 * before, after)


def test_activations_without_a_fixed_size_are_refused():
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 1)(inputs), name="free")
    with pytest.raises(NetworkError, match="fixed size at the cut of 'free'"):
        on_rows(model)


# One class token, two registers, then four patches: numbered, so that each is recognised.
TOKENS = np.arange(2 * 7 * 3, dtype=np.float32).reshape(2, 7, 3)
POOLED = {
    "cls": TOKENS[:, 0],
    "avg": TOKENS[:, 3:].mean(axis=1),
    "max": TOKENS[:, 6],
    "cls+avg": np.hstack([TOKENS[:, 0], TOKENS[:, 3:].mean(axis=1)]),
    "flatten": TOKENS[:, [0, 3, 4, 5, 6]].reshape(2, -1),
}


def by_keras(activations, pooling, tokens):
    inputs = keras.Input(activations.shape[1:])
    return np.asarray(keras.Model(inputs, pool(inputs, pooling, tokens))(activations))


def by_numpy(activations, pooling, tokens):
    return pool_array(activations, pooling, tokens)


@pytest.mark.parametrize("pooled", [by_keras, by_numpy])
class TestPooling:
    @pytest.mark.parametrize("pooling", POOLED)
    def test_registers_are_left_out_and_means_are_of_patches(self, pooled, pooling):
        np.testing.assert_allclose(pooled(TOKENS, pooling, (1, 2)), POOLED[pooling])

    def test_without_a_class_token_all_tokens_count(self, pooled):
        np.testing.assert_allclose(pooled(TOKENS, "avg", (0, 0)), TOKENS.mean(axis=1))
        np.testing.assert_allclose(pooled(TOKENS, "flatten", (0, 0)), TOKENS.reshape(2, -1))

    def test_the_first_token_of_an_unknown_network_is_its_class_token(self, pooled):
        np.testing.assert_allclose(pooled(TOKENS, "cls", (0, 0)), TOKENS[:, 0])
        both = pooled(TOKENS, "cls+avg", (0, 0))
        np.testing.assert_allclose(both[:, 3:], TOKENS[:, 1:].mean(axis=1))

    @pytest.mark.parametrize("pooling", ["cls", "cls+avg"])
    def test_maps_have_no_class_token(self, pooled, pooling):
        with pytest.raises(NetworkError, match="needs a network that ends in tokens"):
            pooled(np.zeros((1, 2, 2, 3), np.float32), pooling, (0, 0))

    @pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "cls"])
    def test_features_stay_as_they_are(self, pooled, pooling):
        rows = np.ones((2, 5), np.float32)
        np.testing.assert_array_equal(pooled(rows, pooling, (0, 0)), rows)
