"""Activations as rows and back: values and positions are kept."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.rows import as_rows, on_rows

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
