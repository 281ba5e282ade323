"""Numbers become RGB from 0 to 255: uint8 for whole levels, unrounded floats otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images.pixels import (
    DtypeRange,
    ValueRange,
    check_pixel_range,
    limits_for_maximum,
    to_rgb,
)

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
FLOATS = [np.float16, np.float32, np.float64]
SIGNED = [np.int8, np.int16, np.int32, np.int64]
UNSIGNED = [np.uint32, np.uint64]


def gray(*values, dtype=np.float64):
    return np.array([values], dtype)


def red(image):
    """Return the first channel of a gray image, and check that all channels are equal."""
    np.testing.assert_array_equal(image[..., 0], image[..., 1])
    np.testing.assert_array_equal(image[..., 0], image[..., 2])
    return image[..., 0]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale", [1, 255])
def test_floats_in_whole_levels_become_the_uint8_image(dtype, scale):
    floats = (LEVELS / 255 * scale).astype(dtype)
    result = to_rgb(floats)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, to_rgb(LEVELS))


@pytest.mark.parametrize("dtype", FLOATS)
def test_float_rgba_in_whole_levels_becomes_the_uint8_image(dtype, rng):
    levels = rng.integers(0, 256, (12, 11, 4), dtype=np.uint8)
    levels[0, 0] = levels[0, 1] = 255
    result = to_rgb((levels / 255).astype(dtype))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, to_rgb(levels))


def test_other_floats_keep_their_fractions():
    values = gray(0, 0.1, 0.5, 1)
    result = to_rgb(values)
    assert result.dtype == np.float32
    np.testing.assert_allclose(red(result), values * 255, rtol=1e-6)


def test_one_fraction_keeps_the_whole_image_in_floats():
    almost = LEVELS.astype(np.float32)
    almost[3, 3] += 0.25
    result = to_rgb(almost)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(red(result), almost)


def test_bool_is_black_and_white():
    result = to_rgb(np.array([[True, False]]))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(red(result), [[255, 0]])


def test_uint8_is_passed_on_without_a_copy():
    image = np.zeros((4, 4, 3), np.uint8)
    assert np.shares_memory(to_rgb(image), image)


def test_dark_uint8_stays_dark():
    np.testing.assert_array_equal(red(to_rgb(gray(0, 1, dtype=np.uint8))), [[0, 1]])


def test_uint16_of_8_bit_levels_is_uint8():
    result = to_rgb(LEVELS.astype(np.uint16) * 257)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(red(result), LEVELS)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_uint16_keeps_values_between_8_bit_levels(order):
    result = to_rgb(gray(0, 1, 256, 65535, dtype=order))
    assert result.dtype == np.float32
    np.testing.assert_allclose(red(result), [[0, 1 / 257, 256 / 257, 255]], rtol=1e-6)


def test_dark_uint16_stays_dark():
    assert to_rgb(np.full((2, 2), 255, np.uint16)).max() < 1


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_integers_up_to_255_are_8_bit_levels(dtype):
    values = [0, 7, 127] if dtype == np.int8 else [0, 7, 255]
    result = to_rgb(gray(*values, dtype=dtype))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(red(result), [values])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32])
def test_larger_integers_are_16_bit_levels(dtype):
    result = to_rgb(gray(0, 257, 65535, dtype=dtype))
    np.testing.assert_array_equal(red(result), [[0, 1, 255]])


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float16, np.float64])
def test_every_shape_becomes_rgb(shape, dtype):
    result = to_rgb(np.ones(shape, dtype))
    assert result.shape == (*shape[:2], 3)
    assert result.dtype == np.uint8 or dtype == np.uint16


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("pixel_range", [None, (0, 1), "minmax", ValueRange(0, 255)])
def test_the_error_names_values_that_are_not_finite(dtype, value, pixel_range):
    with pytest.raises(ImageError, match="expected finite pixel values, got NaN or infinity"):
        to_rgb(gray(0, value, dtype=dtype), pixel_range)


def test_the_error_for_negative_values_mentions_preprocess_input():
    with pytest.raises(ImageError, match=r"at least 0, got -0\.5.*preprocess_input"):
        to_rgb(gray(-0.5, 0.5))


@pytest.mark.parametrize(
    ("dtype", "value", "white"), [(np.float32, 258, 255), (np.int32, 65536, 65535)]
)
def test_the_error_for_an_unknown_scale_asks_for_pixel_range(dtype, value, white):
    with pytest.raises(ImageError, match=rf"at most {white}, got {value}; say pixel_range"):
        to_rgb(gray(0, value, dtype=dtype))


class TestAlpha:
    def test_transparent_is_white(self):
        pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
        np.testing.assert_array_equal(to_rgb(pixels), [[[255, 255, 255], [10, 20, 30]]])

    def test_half_transparent_is_half_white(self):
        np.testing.assert_array_equal(to_rgb(np.array([[[0, 0, 0, 51]]], np.uint8)), [[[204] * 3]])

    def test_gray_with_alpha_is_blended_with_white(self):
        result = to_rgb(np.array([[[0, 51], [7, 255]]], np.uint8))
        np.testing.assert_array_equal(red(result), [[204, 7]])

    def test_wholly_transparent_floats_are_white(self):
        np.testing.assert_array_equal(to_rgb(np.zeros((2, 2, 4))), np.full((2, 2, 3), 255))

    def test_float_colours_up_to_255_may_have_alpha_up_to_1(self):
        pixels = np.array([[[200.0, 100, 0, 1], [200, 100, 0, 0.5]]])
        np.testing.assert_array_equal(to_rgb(pixels)[0, 0], [200, 100, 0])
        np.testing.assert_allclose(to_rgb(pixels)[0, 1], [228, 178, 128], atol=0.51)

    def test_uint16_alpha_has_its_own_scale(self):
        pixels = np.array([[[0, 65535], [0, 0]]], np.uint16)
        np.testing.assert_array_equal(red(to_rgb(pixels)), [[0, 255]])

    def test_blending_keeps_fractions(self):
        result = to_rgb(np.array([[[0.1, 1.0], [0.1, 0.123]]]))
        assert result.dtype == np.float32
        np.testing.assert_allclose(red(result), [[25.5, 255 * (0.0123 + 0.877)]], rtol=1e-6)

    @pytest.mark.parametrize("pixel_range", [(0, 100), (10, 200), "minmax"])
    def test_pixel_range_does_not_apply_to_alpha(self, pixel_range):
        pixels = np.array([[[10, 50, 100, 255], [10, 50, 100, 0]]], np.uint8)
        result = to_rgb(pixels, pixel_range)
        np.testing.assert_array_equal(result[0, 1], [255, 255, 255])
        np.testing.assert_array_equal(result[0, :1], to_rgb(pixels[:, :1, :3], pixel_range)[0])

    @pytest.mark.parametrize("alpha", [-1, np.nan])
    def test_impossible_alpha_is_refused(self, alpha):
        with pytest.raises(ImageError, match="expected"):
            to_rgb(np.array([[[0.5, 0.5, 0.5, alpha]]]))


class TestPixelRange:
    def test_given_range_is_black_to_white(self):
        result = to_rgb(gray(-1, 0, 1), (-1, 1))
        np.testing.assert_allclose(red(result), [[0, 127.5, 255]])

    def test_given_range_applies_to_uint8(self):
        np.testing.assert_array_equal(red(to_rgb(gray(0, 1, dtype=np.uint8), (0, 1))), [[0, 255]])

    @pytest.mark.parametrize("value", [9, 101])
    def test_values_outside_are_refused(self, value):
        with pytest.raises(ImageError, match=r"from 10 to 100, got .* say pixel_range"):
            to_rgb(gray(50, value), (10, 100))

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_minmax_stretches_to_0_and_255(self, dtype):
        np.testing.assert_array_equal(
            red(to_rgb(gray(10, 60, 110, dtype=dtype), "minmax")), [[0, 127.5, 255]]
        )

    @pytest.mark.parametrize("value", [0, 7, 200])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
    def test_minmax_of_a_constant_image_is_black(self, value, dtype):
        result = to_rgb(np.full((3, 3), value, dtype), "minmax")
        assert result.dtype == np.uint8
        assert not result.any()

    def test_decided_range_applies_to_dark_floats(self):
        np.testing.assert_array_equal(red(to_rgb(gray(0, 1), ValueRange(0, 255))), [[0, 1]])
        np.testing.assert_array_equal(red(to_rgb(gray(0, 1), None)), [[0, 255]])

    def test_decided_range_refuses_brighter_floats(self):
        with pytest.raises(ImageError, match="from 0 to 1, got 0 to 200"):
            to_rgb(gray(0, 200), ValueRange(0, 1))

    @pytest.mark.parametrize("decided", [ValueRange(0, 1), DtypeRange(0, 65535)])
    def test_decided_range_does_not_apply_to_8_bits(self, decided):
        np.testing.assert_array_equal(red(to_rgb(LEVELS, decided)), LEVELS)

    def test_floats_choose_their_own_range_after_a_decision_by_type(self):
        np.testing.assert_array_equal(
            red(to_rgb(gray(0, 1), DtypeRange(0, 255))), red(to_rgb(gray(0, 1)))
        )

    @pytest.mark.parametrize("good", [None, "minmax", (0, 1), [-1, 1], np.array([0, 4095])])
    def test_valid_ranges_are_accepted(self, good):
        checked = check_pixel_range(good)
        assert checked is None or checked == "minmax" or checked == tuple(map(float, good))

    @pytest.mark.parametrize(
        "bad",
        [
            *("01", "max", b"\x00\x01", 255, (0,), (0, 1, 2), (1, 0), (1, 1), (0, np.nan)),
            *((0, np.inf), ("a", "b"), {0, 1}, {0: 0, 1: 1}, (None, 1), True, (0, 1j)),
        ],
    )
    def test_invalid_ranges_raise_an_error(self, bad):
        with pytest.raises(InvalidParameterError, match=r"pixel_range must be None, 'minmax' or"):
            check_pixel_range(bad)


@pytest.mark.parametrize(
    ("maximum", "dtype", "high"),
    [
        (0, "f4", 1), (1, "f4", 1), (1.01, "f4", 255), (255, "f8", 255), (0, "i4", 255),
        (255, "i8", 255), (256, "i8", 65535),
    ],
)  # fmt: skip
def test_the_maximum_decides_the_range(maximum, dtype, high):
    assert limits_for_maximum(maximum, np.dtype(dtype)) == ValueRange(0, high)


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5)).flatmap(
    lambda sides: st.sampled_from([sides, *((*sides, c) for c in (1, 2, 3, 4))])
)
IN_RANGE = st.sampled_from([np.uint8, np.uint16, np.bool_, np.float16, np.float32, np.float64])


@st.composite
def images(draw):
    dtype = draw(IN_RANGE)
    elements = None
    if np.dtype(dtype).kind == "f":
        high = draw(st.sampled_from([1, 255]))
        elements = st.floats(0, high, width=16)
    return draw(hnp.arrays(dtype, draw(SHAPES), elements=elements))


@given(images(), st.sampled_from([None, "minmax"]))
@settings(max_examples=150, deadline=None)
def test_the_result_is_rgb_from_0_to_255_and_the_input_is_not_changed(image, pixel_range):
    before = image.copy()
    image.flags.writeable = False
    result = to_rgb(image, pixel_range)
    assert result.shape == (*image.shape[:2], 3)
    assert result.dtype in (np.uint8, np.float32)
    assert result.min() >= 0
    assert result.max() <= 255
    np.testing.assert_array_equal(image, before)


@given(
    hnp.arrays(np.float32, (4, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from(["minmax", (-(2.0**100), 2.0**100)]),
)
@settings(max_examples=100, deadline=None)
def test_brighter_values_never_become_darker(image, pixel_range):
    result = red(to_rgb(image, pixel_range)).ravel()
    assert (np.diff(result[np.argsort(image, axis=None)].astype(float)) >= 0).all()
    assert result.min() >= 0
    assert result.max() <= 255


@given(images().filter(lambda image: image.ndim == 2))
@settings(max_examples=60, deadline=None)
def test_gray_gives_the_same_with_and_without_a_channel_axis(image):
    np.testing.assert_array_equal(to_rgb(image), to_rgb(image[..., None]))
    np.testing.assert_array_equal(to_rgb(image), to_rgb(np.stack([image] * 3, axis=-1)))
