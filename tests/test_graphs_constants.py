"""Constants in place of Normalization layers: exact to float32."""

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

from transferclf.graphs.constants import as_constants, shifted_and_scaled
from transferclf.graphs.copying import copied

RNG = np.random.default_rng(0)


def standardised(x, mean, scale):
    inputs = keras.Input(x.shape[1:])
    outputs = shifted_and_scaled(inputs, mean, scale, ("a", "b"))
    return np.asarray(keras.Model(inputs, outputs)(x))


@pytest.mark.parametrize("mean", [0.0, 1e-6, 0.5, -300.0, 1e6])
@pytest.mark.parametrize("deviation", [1e-30, 1e-8, 1e-3, 1.0, 1e6, 1e30])
def test_tiny_and_large_deviations_keep_their_digits(mean, deviation):
    means = np.full(7, mean) + RNG.normal(size=7) * deviation
    x = (means + RNG.normal(size=(50, 7)) * deviation).astype(np.float32)
    means = x.mean(axis=0, dtype=float) if deviation < abs(mean) else means
    scale = np.full(7, deviation)
    # The result in float64 for the same float32 features, as in `predict_proba`.
    expected = (x - means) / scale
    np.testing.assert_allclose(standardised(x, means, scale), expected, rtol=1e-4, atol=1e-4)


def test_deviations_too_small_for_float32_give_finite_output():
    x = np.zeros((2, 3), np.float32)
    assert np.isfinite(standardised(x, np.zeros(3), np.full(3, 1e-45))).all()


@given(
    st.lists(
        st.tuples(st.floats(-1e3, 1e3), st.floats(1e-9, 1e3)),
        min_size=1,
        max_size=4,
    )
)
def test_constants_give_the_output_of_the_layer(statistics):
    mean, variance = map(list, zip(*statistics, strict=True))
    norm = layers.Normalization(mean=mean, variance=variance, name="norm")
    inputs = keras.Input((2, 2, len(mean)))
    model = keras.Model(inputs, norm(inputs))
    constant = copied(model, replace=as_constants())
    x = RNG.uniform(0, 255, (3, 2, 2, len(mean))).astype(np.float32)
    assert [layer.name for layer in constant.layers[1:]] == ["norm_centre", "norm"]
    np.testing.assert_allclose(constant(x), model(x), rtol=1e-4, atol=1e-3 / min(variance) ** 0.5)


def test_adapted_layers_of_any_axis_give_the_same_output():
    x = RNG.normal(5, 3, (50, 2, 3)).astype(np.float32)
    for axis in (-1, 1, (1, 2), None):
        norm = layers.Normalization(axis=axis)
        norm.adapt(x)
        inputs = keras.Input((2, 3))
        model = keras.Model(inputs, norm(inputs))
        constant = copied(model, replace=as_constants())
        assert not any(isinstance(layer, layers.Normalization) for layer in constant.layers)
        assert_rows_agree(constant(x), model(x))
        assert constant.count_params() == 0


def test_layers_called_twice_and_inverse_layers_give_the_same_output():
    inputs = keras.Input((2,))
    norm = layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0])
    back = layers.Normalization(mean=[1.0, 2.0], variance=[4.0, 9.0], invert=True)
    model = keras.Model(inputs, back(norm(norm(inputs))))
    x = RNG.normal(size=(4, 2)).astype(np.float32)
    assert_rows_agree(copied(model, replace=as_constants())(x), model(x))
