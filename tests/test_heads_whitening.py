"""Fitted pixel scaling: its properties, and agreement of NumPy, layer and exported model."""

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree
from hypothesis import given, settings
from hypothesis import strategies as st

from transferclf.exceptions import ImageError, InvalidParameterError, NetworkError
from transferclf.heads import whitening
from transferclf.heads.whitening import PIXEL_SCALINGS, PixelScaler, fit_pixel_scaling, scaled

kinds = pytest.mark.parametrize("kind", PIXEL_SCALINGS)


def pictures(n, size=(4, 5), seed=0):
    """Return pictures whose neighbouring pixels are similar, as in photographs."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, *size, 3)).cumsum(axis=1).cumsum(axis=2)
    return np.clip(128 + 12 * noise, 0, 255).astype(np.uint8)


def applied_in_float64(scaling, pixels):
    """Return the scaled pixels, computed by NumPy in double precision."""
    centred = pixels.astype(float) - scaling.mean
    if scaling.kind == "standardize":
        return centred * scaling.factor
    return (centred.reshape(len(pixels), -1) @ scaling.factor.astype(float)).reshape(pixels.shape)


def matrix(pixels, epsilon, weights=None):
    """Return the whitening matrix by the formula of the textbook."""
    rows = pixels.reshape(len(pixels), -1) / 255
    covariance = np.cov(rows.T, aweights=weights, bias=True)
    variances, axes = np.linalg.eigh(covariance)
    return axes @ np.diag((variances + epsilon) ** -0.5) @ axes.T / 255


def assert_same(a, b, rtol=1e-5):
    assert a.kind == b.kind
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(a.factor, b.factor, rtol=rtol, atol=rtol * np.abs(b.factor).max())


def by_layer(scaling, pixels):
    layer = PixelScaler(scaling.kind)
    layer.build(pixels.shape)
    layer.set(scaling)
    return keras.ops.convert_to_numpy(layer(pixels))


def as_model(scaling, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, scaled(inputs, scaling))


# --- the fit


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 60), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_standardised_training_pixels_have_mean_0_and_deviation_1(n, height, width, seed):
    pixels = pictures(n, (height, width), seed)
    result = applied_in_float64(fit_pixel_scaling("standardize", pixels), pixels)
    np.testing.assert_allclose(result.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    spread = pixels.std(axis=(0, 1, 2)) > 0
    np.testing.assert_allclose(result.std(axis=(0, 1, 2)), spread, rtol=1e-5)


def test_whitened_values_have_unit_covariance():
    pixels = pictures(500)
    scaling = fit_pixel_scaling("zca", pixels, epsilon=1e-9)
    rows = applied_in_float64(scaling, pixels).reshape(500, -1)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(rows.T, bias=True), np.eye(60), atol=1e-3)


def test_whitening_changes_images_less_than_its_rotations(rng):
    pixels = pictures(500)
    scaling = fit_pixel_scaling("zca", pixels, epsilon=1e-9)
    np.testing.assert_array_equal(scaling.factor, scaling.factor.T)
    assert np.linalg.eigvalsh(scaling.factor.astype(float)).min() > 0
    original = (pixels / 255).reshape(500, -1)
    original -= original.mean(axis=0)
    rows = applied_in_float64(scaling, pixels).reshape(500, -1)
    nearest = np.square(rows - original).sum()
    for _ in range(20):  # each rotation of the result is white too
        rotation = np.linalg.qr(rng.normal(size=(60, 60)))[0]
        assert np.square(rows @ rotation - original).sum() > nearest
    small = np.linalg.qr(np.eye(60) + 0.01 * rng.normal(size=(60, 60)))[0]
    small = small * np.sign(np.diag(small))
    assert np.square(rows @ small - original).sum() > nearest


@settings(deadline=None, max_examples=25)
@given(
    st.integers(2, 40),
    st.sampled_from([(1, 1), (2, 3), (3, 3)]),
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.integers(0, 99),
)
def test_the_matrix_equals_that_of_the_textbook(n, size, epsilon, seed):
    pixels = pictures(n, size, seed)  # fewer or more images than values
    scaling = fit_pixel_scaling("zca", pixels, epsilon=epsilon)
    expected = matrix(pixels, epsilon)
    np.testing.assert_allclose(scaling.factor, expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("epsilon", [1e-8, 1e-4, 1e-2])
def test_both_computations_of_the_matrix_agree(epsilon):
    for n in (59, 60, 61, 20):
        pixels = pictures(n)
        arguments = (pixels, np.full(n, 1 / n), pixels.reshape(n, -1).mean(axis=0), epsilon)
        one, other = (
            way(*arguments) for way in (whitening._matrix_by_values, whitening._matrix_by_images)
        )
        np.testing.assert_allclose(one, other, atol=1e-6 * np.abs(one).max())
        np.testing.assert_array_equal(one, one.T)
        np.testing.assert_array_equal(other, other.T)


@kinds
@pytest.mark.parametrize("n", [12, 90])
def test_a_weight_of_two_equals_the_image_twice(kind, n, rng):
    pixels = pictures(n)
    weights = rng.integers(0, 4, n)
    repeated = np.repeat(pixels, weights, axis=0)
    expected = fit_pixel_scaling(kind, repeated)
    assert_same(fit_pixel_scaling(kind, pixels, weights), expected)
    assert_same(fit_pixel_scaling(kind, pixels, weights * 1e-300), expected)
    assert_same(fit_pixel_scaling(kind, pixels, weights * 1e305), expected)
    assert_same(fit_pixel_scaling(kind, pixels, [7] * n), fit_pixel_scaling(kind, pixels))


@kinds
@pytest.mark.parametrize("n", [12, 90])
def test_the_chunk_size_does_not_change_the_result(kind, n, monkeypatch):
    pixels = pictures(n)
    weights = np.arange(n) + 1.0
    expected = fit_pixel_scaling(kind, pixels, weights)
    for chunk in (1, 60, 7 * 60):
        monkeypatch.setattr(whitening, "CHUNK", chunk)
        assert_same(fit_pixel_scaling(kind, pixels, weights), expected)


@kinds
def test_uint8_and_float_pixels_give_the_same_scaling(kind):
    pixels = pictures(80)
    expected = fit_pixel_scaling(kind, pixels)
    assert expected.mean.dtype == expected.factor.dtype == np.float32
    for dtype in (np.float16, np.float32, np.float64):
        assert_same(fit_pixel_scaling(kind, pixels.astype(dtype)), expected, rtol=1e-12)


@kinds
def test_pixels_need_not_be_contiguous(kind):
    pixels = pictures(80, (6, 8))[::2, ::2, ::-1]
    assert_same(fit_pixel_scaling(kind, pixels), fit_pixel_scaling(kind, pixels.copy()), rtol=1e-12)


@kinds
def test_training_pixels_are_not_changed(kind):
    for pixels in (pictures(30), pictures(80).astype(np.float32)):
        kept, weights = pixels.copy(), np.ones(len(pixels))
        pixels.setflags(write=False)
        weights.setflags(write=False)
        fit_pixel_scaling(kind, pixels, weights)
        np.testing.assert_array_equal(pixels, kept)


@kinds
@pytest.mark.parametrize("value", [0, 1, 255, 77.7, 254.99])
@pytest.mark.parametrize("n", [1, 3, 70])
def test_constant_images_are_only_centred(kind, value, n):
    pixels = np.full((n, 4, 5, 3), value, np.float32)
    scaling = fit_pixel_scaling(kind, pixels)
    np.testing.assert_allclose(applied_in_float64(scaling, pixels), 0, atol=1e-3)
    if kind == "standardize":
        np.testing.assert_array_equal(scaling.factor, 1)
    else:
        np.testing.assert_allclose(scaling.factor, np.eye(60) / 0.1 / 255, atol=1e-9)


def test_one_constant_channel_has_factor_1():
    pixels = pictures(50)
    pixels[..., 1] = 200
    scaling = fit_pixel_scaling("standardize", pixels)
    assert scaling.factor[1] == 1
    assert applied_in_float64(scaling, pixels)[..., 0].std() == pytest.approx(1, rel=1e-5)


# --- the layer, and Keras' own layers


@kinds
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("epsilon", [0.01, 1e-5])
def test_layer_and_keras_own_layers_agree(kind, dtype, epsilon):
    pixels = pictures(90).astype(dtype)
    scaling = fit_pixel_scaling(kind, pixels, epsilon=epsilon)
    expected = applied_in_float64(scaling, pixels)
    ours, theirs = (
        by_layer(scaling, pixels),
        as_model(scaling, (4, 5, 3)).predict(pixels, verbose=0),
    )
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(expected).max()}
    np.testing.assert_allclose(ours, expected, **tolerance)
    np.testing.assert_allclose(theirs, expected, **tolerance)
    np.testing.assert_allclose(ours, theirs, **tolerance)
    assert ours.dtype == np.float32


@kinds
def test_new_images_are_scaled_by_the_training_statistics(kind):
    scaling = fit_pixel_scaling(kind, pictures(90))
    new = pictures(5, seed=1)
    np.testing.assert_allclose(
        by_layer(scaling, new), applied_in_float64(scaling, new), rtol=1e-4, atol=1e-4
    )
    assert by_layer(scaling, new[:0]).shape == (0, 4, 5, 3)


@kinds
def test_an_unset_layer_is_an_identity(kind):
    pixels = pictures(3)
    layer = PixelScaler(kind)
    np.testing.assert_allclose(layer(pixels), pixels, atol=1e-4)
    assert layer.trainable_weights == []


@kinds
def test_one_network_is_used_for_many_fits(kind):
    inputs = keras.Input((4, 5, 3))
    layer = PixelScaler(kind)
    model = keras.Model(inputs, layer(inputs))
    pixels = pictures(6)
    model.predict(pixels, verbose=0)
    for seed in range(3):
        scaling = fit_pixel_scaling(kind, pictures(90, seed=seed))
        layer.set(scaling)
        np.testing.assert_allclose(
            model.predict(pixels, verbose=0),
            applied_in_float64(scaling, pixels),
            rtol=1e-3,
            atol=1e-4,
        )


@kinds
def test_the_layer_is_rebuilt_from_its_config(kind):
    layer = PixelScaler(kind, name="own")
    again = PixelScaler.from_config(layer.get_config())
    assert (again.kind, again.name, again.dtype) == (kind, "own", "float32")


@kinds
def test_the_exported_model_loads_without_this_package(kind, tmp_path):
    pixels = pictures(90)
    model = as_model(fit_pixel_scaling(kind, pixels), (4, 5, 3))
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}
    assert model.trainable_weights == []
    assert ("whiten" in [layer.name for layer in model.layers]) == (kind == "zca")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(pixels, verbose=0), model.predict(pixels, verbose=0)
    )


def test_standardising_works_for_any_size():
    scaling = fit_pixel_scaling("standardize", pictures(20))
    other = pictures(4, (7, 3))
    assert_rows_agree(by_layer(scaling, other), applied_in_float64(scaling, other))
    np.testing.assert_allclose(
        as_model(scaling, (None, None, 3)).predict(other, verbose=0),
        applied_in_float64(scaling, other),
        1e-5,
    )


# --- invalid arguments


@kinds
@pytest.mark.parametrize(
    "pixels",
    [
        *(None, "pixels", [[[[1, 2, 3]]]], 5, np.zeros(3, np.uint8), np.zeros((4, 5, 3), np.uint8)),
        *(np.zeros(shape, np.uint8) for shape in ((2, 4, 4, 1), (2, 4, 4, 4), (2, 3, 4, 4))),
        *(np.zeros(shape, np.uint8) for shape in ((0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 4, 0))),
    ],
)
def test_wrong_shapes_raise_an_error(kind, pixels):
    with pytest.raises(ImageError, match=r"(?s)pixels must be an array of shape \(n, h, w, 3\)"):
        fit_pixel_scaling(kind, pixels)


@kinds
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, complex, object, "U1"])
def test_wrong_types_raise_an_error(kind, dtype):
    with pytest.raises(ImageError, match="pixels must be uint8 or float32. Got "):
        fit_pixel_scaling(kind, np.zeros((2, 4, 4, 3)).astype(dtype))


@kinds
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_raise_an_error(kind, value):
    pixels = pictures(9).astype(np.float32)
    pixels[[3, 7], 1, 2, 0] = value
    with pytest.raises(ImageError, match="in 2 of 9 images instead, first at index 3"):
        fit_pixel_scaling(kind, pixels, np.arange(9) == 0)


@pytest.mark.parametrize("kind", [None, "ZCA", "", "pca", 1, True, ["zca"], np.nan])
def test_unknown_kinds_raise_an_error(kind):
    with pytest.raises(InvalidParameterError, match=r"must be 'standardize' or 'zca'. Got "):
        fit_pixel_scaling(kind, pictures(3))
    with pytest.raises(InvalidParameterError, match=r"must be 'standardize' or 'zca'. Got "):
        PixelScaler(kind)


@kinds
@pytest.mark.parametrize("epsilon", [0, -1e-3, np.nan, np.inf, True, None, "small", [0.1], 1j])
def test_invalid_epsilons_raise_an_error(kind, epsilon):
    with pytest.raises(InvalidParameterError, match="epsilon must be a finite number above 0. Got"):
        fit_pixel_scaling(kind, pictures(3), epsilon=epsilon)


@kinds
@pytest.mark.parametrize(
    "weights",
    [
        *([1, 1], [[1], [1], [1]], 1, [], "abc", ["a", "b", "c"], [1j, 1, 1], {0: 1}),
        *([1, np.nan, 1], [1, np.inf, 1], [1, -1, 1], [0, 0, 0]),
    ],
)
def test_invalid_weights_raise_an_error(kind, weights):
    with pytest.raises(InvalidParameterError, match="(?s)weights must .*Got .* instead"):
        fit_pixel_scaling(kind, pictures(3), weights)


def test_images_too_large_for_whitening_raise_an_error():
    pixels = np.zeros((2, 64, 65, 3), np.uint8)
    with pytest.raises(InvalidParameterError, match="at most 64 x 64 pixels. Got 64 x 65 instead"):
        fit_pixel_scaling("zca", pixels)
    with pytest.raises(InvalidParameterError, match="Use a smaller image_size, or 'standardize'"):
        PixelScaler("zca").build((None, 64, 65, 3))
    assert fit_pixel_scaling("standardize", pixels).mean.shape == (3,)


def test_whitening_needs_a_size():
    with pytest.raises(InvalidParameterError, match="'zca' needs images of one known size"):
        PixelScaler("zca")(keras.Input((None, None, 3)))


def test_scalings_of_another_shape_are_refused():
    zca = fit_pixel_scaling("zca", pictures(5))
    standardize = fit_pixel_scaling("standardize", pictures(5))
    layer = PixelScaler("zca")
    with pytest.raises(NetworkError, match="must be built before it is set"):
        layer.set(zca)
    layer.build((None, 5, 4, 3))  # as many values in another shape
    for wrong in (zca, standardize):
        with pytest.raises(NetworkError, match=r"mean of shape \(5, 4, 3\). Got .* instead"):
            layer.set(wrong)
    with pytest.raises(NetworkError, match=r"fitted to images of shape \(4, 5, 3\). Got"):
        scaled(keras.Input((5, 4, 3)), zca)
