"""Resize modes and crops: the kept part of the image, and unchanged input."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from transferclf.exceptions import InvalidParameterError
from transferclf.images import check_images, extreme_square_crops, resize_image
from transferclf.images.geometry import (
    RESIZE_MODES,
    Sampling,
    average_blocks,
    largest_box,
    reduction_factor,
)

SIDES = st.integers(1, 3000)
SMALL = st.tuples(st.integers(1, 24), st.integers(1, 24))
ENDS = ("first", "last")
ALL_MODES = (*RESIZE_MODES, *ENDS)
MODES = st.sampled_from(RESIZE_MODES)
ANY_MODE = st.sampled_from(ALL_MODES)
DTYPES = st.sampled_from([np.uint8, np.float32])


@st.composite
def images(draw, dtypes=DTYPES):
    dtype = draw(dtypes)
    elements = st.floats(0, 255, width=32) if dtype == np.float32 else None
    return draw(hnp.arrays(dtype, (*draw(SMALL), 3), elements=elements))


class TestLargestBox:
    @given(SIDES, SIDES, SIDES, SIDES)
    @settings(max_examples=300, deadline=None)
    def test_the_box_is_inside_centred_maximal_and_in_proportion(
        self, height, width, rows, columns
    ):
        left, top, right, bottom = largest_box((height, width), (rows, columns))
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert left + right == pytest.approx(width, rel=1e-12)
        assert top + bottom == pytest.approx(height, rel=1e-12)
        assert (right - left) * rows == pytest.approx((bottom - top) * columns, rel=1e-6)
        touches_sides = left == 0 and right == width
        touches_ends = top == 0 and bottom == height
        assert touches_sides or touches_ends

    @given(SIDES, SIDES, st.integers(1, 40), st.integers(1, 40))
    @example(15, 15, 1, 11)  # 11 * (15 / 11) is not 15
    def test_the_box_is_the_whole_image_for_equal_proportions(self, height, width, times, divided):
        common = math.gcd(height, width)
        source = height * times, width * times
        target = height // common * divided, width // common * divided
        assert largest_box(source, target) == (0, 0, source[1], source[0])

    def test_boxes_of_tall_and_wide_images(self):
        assert largest_box((30, 10), (5, 5)) == (0, 10, 10, 20)
        assert largest_box((10, 30), (10, 20)) == (5, 0, 25, 10)

    @given(SIDES, SIDES, SIDES, SIDES)
    @settings(max_examples=300, deadline=None)
    def test_boxes_of_first_and_last_touch_the_ends(self, height, width, rows, columns):
        first, middle, last = (
            largest_box((height, width), (rows, columns), place) for place in (0, 0.5, 1)
        )
        assert first[:2] == (0, 0)
        assert last[2:] == pytest.approx((width, height), rel=1e-12)
        for left, top, right, bottom in (first, last):
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            assert right - left == pytest.approx(middle[2] - middle[0], rel=1e-9)
            assert bottom - top == pytest.approx(middle[3] - middle[1], rel=1e-9)


class TestResize:
    @given(images(), SMALL, ANY_MODE)
    @settings(max_examples=200, deadline=None)
    def test_resize_gives_shape_dtype_and_bounds_and_keeps_the_input(self, image, size, mode):
        before = image.copy()
        image.flags.writeable = False
        result = resize_image(image, size, mode)
        assert result.shape == (*size, 3)
        assert result.dtype == image.dtype
        low = 0 if mode == "pad" else image.min()
        assert result.min() >= float(low) - 1e-3
        assert result.max() <= float(image.max()) + 1e-3
        np.testing.assert_array_equal(image, before)

    @given(SMALL, SMALL, st.sampled_from(["crop", "stretch", *ENDS]), DTYPES, st.integers(0, 255))
    @settings(max_examples=100, deadline=None)
    def test_a_constant_image_stays_constant(self, source, size, mode, dtype, value):
        image = np.full((*source, 3), value, dtype)
        np.testing.assert_allclose(resize_image(image, size, mode), value, atol=1e-4)

    @given(images(), ANY_MODE)
    @settings(max_examples=60, deadline=None)
    def test_the_same_size_gives_the_same_image(self, image, mode):
        np.testing.assert_array_equal(resize_image(image, image.shape[:2], mode), image)

    @given(images(st.just(np.uint8)), SMALL, ANY_MODE)
    @settings(max_examples=100, deadline=None)
    def test_uint8_and_float_agree_within_one_level(self, image, size, mode):
        whole = resize_image(image, size, mode).astype(float)
        exact = resize_image(image.astype(np.float32), size, mode)
        assert np.abs(whole - exact).max() <= 1 + 1e-4  # float32 rounds too

    @given(images(), SMALL, MODES)
    @settings(max_examples=100, deadline=None)
    def test_a_symmetric_image_stays_symmetric(self, image, size, mode):
        assume(mode != "pad" or image.shape[0] * 2 * size[1] == image.shape[1] * 2 * size[0])
        image = np.concatenate([image, image[:, ::-1]], axis=1)
        image = np.concatenate([image, image[::-1]], axis=0)
        result = resize_image(image, size, mode).astype(float)
        np.testing.assert_allclose(result, result[:, ::-1], atol=1.01)
        np.testing.assert_allclose(result, result[::-1], atol=1.01)

    @pytest.mark.parametrize("mode", ALL_MODES)
    def test_channels_do_not_mix(self, mode):
        image = np.zeros((9, 14, 3), np.float32)
        image[..., 1], image[..., 2] = 100, 200
        result = resize_image(image, (5, 5), mode)
        np.testing.assert_allclose(result[2, 2], [0, 100, 200], atol=1e-4)

    def test_all_pixels_are_averaged(self):
        board = np.indices((64, 64)).sum(axis=0) % 2 * 255
        image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
        assert np.abs(resize_image(image, (8, 8)).astype(int) - 127).max() <= 4

    @pytest.mark.parametrize("flip", [np.array, lambda a: a.swapaxes(0, 1)])
    def test_crop_drops_the_ends_of_the_long_side(self, flip):
        image = np.zeros((10, 40, 3), np.uint8)
        image[:, 13:27] = 200  # the antialiasing filter reads a little beyond the box of 15 to 25
        result = resize_image(flip(image), (4, 4), "crop")
        assert result.min() == 200

    def test_stretch_keeps_the_whole_image(self):
        image = np.zeros((10, 40, 3), np.uint8)
        image[:, :20] = 200
        result = resize_image(image, (4, 4), "stretch")
        assert result[:, 0].min() == 200
        assert result[:, 3].max() == 0

    @given(SMALL, SMALL)
    @settings(max_examples=150, deadline=None)
    def test_pad_keeps_proportions_between_black_borders(self, source, size):
        result = resize_image(np.full((*source, 3), 255, np.uint8), size, "pad")
        rows, columns = (np.flatnonzero(result[..., 0].any(axis=axis)) for axis in (1, 0))
        inner = (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        scale = min(size[0] / source[0], size[1] / source[1])
        for got, side, whole, first in zip(inner, source, size, (rows[0], columns[0]), strict=True):
            assert abs(got - max(side * scale, 1)) <= 0.5 + 1e-9
            assert abs(2 * first + got - whole) <= 1, "not in the middle"
        assert inner[0] == size[0] or inner[1] == size[1]
        assert (result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 255).all()
        assert result.sum() == 3 * 255 * inner[0] * inner[1]

    @pytest.mark.parametrize("mode", ALL_MODES)
    @pytest.mark.parametrize("source", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
    @pytest.mark.parametrize("size", [(1, 1), (1, 1000), (64, 64)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_extreme_proportions_are_resized(self, mode, source, size, dtype):
        assert resize_image(np.ones((*source, 3), dtype), size, mode).shape == (*size, 3)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    @pytest.mark.parametrize("mode", ALL_MODES)
    def test_arrays_with_any_strides_are_resized(self, dtype, mode, rng):
        image = rng.integers(0, 256, (12, 17, 3)).astype(dtype)
        view = image[::-1, ::-1][..., ::-1]
        expected = resize_image(np.ascontiguousarray(view), (6, 6), mode)
        np.testing.assert_array_equal(resize_image(view, (6, 6), mode), expected)

    @pytest.mark.parametrize("mode", ["fit", "", None, "Crop", "First", "centre"])
    def test_an_unknown_mode_is_an_error(self, mode):
        with pytest.raises(InvalidParameterError, match=r"resize must be one of \('crop'"):
            resize_image(np.zeros((4, 4, 3), np.uint8), (2, 2), mode)


class TestEnds:
    """The modes "first" and "last"."""

    def test_first_and_last_are_not_public_modes(self):
        assert RESIZE_MODES == ("crop", "stretch", "pad")
        assert not set(ENDS) & set(RESIZE_MODES)

    @given(images(), st.integers(1, 40), st.sampled_from(ENDS))
    @settings(max_examples=150, deadline=None)
    def test_both_ends_of_a_square_are_the_square(self, image, wanted, mode):
        side = min(image.shape[:2])
        square = image[:side, :side]
        expected = resize_image(square, (wanted, wanted), "crop")
        np.testing.assert_array_equal(resize_image(square, (wanted, wanted), mode), expected)

    @given(images(), SMALL)
    @settings(max_examples=200, deadline=None)
    def test_first_of_the_mirrored_image_is_last_mirrored(self, image, size):
        # Both axes are mirrored, because the proportions decide which one is cropped.
        mirrored = resize_image(image[::-1, ::-1], size, "first")[::-1, ::-1].astype(float)
        last = resize_image(image, size, "last").astype(float)
        # Pillow rounds its filter to 22 bits, so values near half a level may round either way.
        np.testing.assert_allclose(mirrored, last, atol=1 if image.dtype == np.uint8 else 1e-3)

    @given(images())
    @settings(max_examples=100, deadline=None)
    def test_ends_at_their_own_size_equal_the_extreme_squares(self, image):
        side = min(image.shape[:2])
        for mode, expected in zip(ENDS, extreme_square_crops(image), strict=True):
            np.testing.assert_array_equal(resize_image(image, (side, side), mode), expected)

    @pytest.mark.parametrize("flip", [np.array, lambda a: a.swapaxes(0, 1)])
    def test_first_and_last_use_the_ends_of_the_long_side(self, flip):
        image = np.zeros((10, 40, 3), np.uint8)
        image[:, :12], image[:, 28:] = (
            100,
            200,
        )  # the antialiasing filter reads a little beyond the box
        assert np.unique(resize_image(flip(image), (4, 4), "first")).tolist() == [100]
        assert np.unique(resize_image(flip(image), (4, 4), "last")).tolist() == [200]
        assert np.unique(resize_image(flip(image), (4, 4), "crop")).tolist() == [0]

    @pytest.mark.parametrize("shape", [(600, 900), (900, 600), (601, 907), (803, 603)])
    def test_large_images_are_reduced_as_for_crop(self, shape, tmp_path, rng):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
        Image.fromarray(image).save(tmp_path / "image.png")
        source = check_images([image, tmp_path / "image.png", Image.fromarray(image)])
        errors = {}
        for mode in (*ENDS, "crop"):
            loaded = [source.load(index, (64, 64), mode).astype(float) for index in range(3)]
            np.testing.assert_array_equal(loaded[0], loaded[1])
            np.testing.assert_array_equal(loaded[0], loaded[2])
            exact = resize_image(image, (64, 64), mode).astype(float)
            errors[mode] = np.abs(loaded[0] - exact).mean()
        assert reduction_factor(shape, 64) > 1
        assert max(errors.values()) <= 1.5
        assert max(errors.values()) <= 2 * errors["crop"]


class TestExtremeSquareCrops:
    @given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([(), (1,), (3,)]))
    @settings(max_examples=100, deadline=None)
    def test_extreme_squares_are_views_of_both_ends(self, height, width, channels):
        image = np.arange(height * width).reshape(height, width, *[1] * len(channels))
        image = np.broadcast_to(image, (height, width, *channels))
        first, last = extreme_square_crops(image)
        side = min(height, width)
        assert first.shape == last.shape == (side, side, *channels)
        assert np.shares_memory(first, image)
        assert np.shares_memory(last, image)
        assert (first[0, 0] == image[0, 0]).all()
        assert (last[-1, -1] == image[-1, -1]).all()
        seen = np.union1d(first, last)
        assert (len(seen) == height * width) == (max(height, width) <= 2 * side)

    def test_a_wide_image_gives_its_left_and_right_square(self):
        first, last = extreme_square_crops(np.arange(10).reshape(2, 5))
        np.testing.assert_array_equal(first, [[0, 1], [5, 6]])
        np.testing.assert_array_equal(last, [[3, 4], [8, 9]])

    def test_a_tall_image_gives_its_top_and_bottom_square(self):
        first, last = extreme_square_crops(np.arange(10).reshape(5, 2))
        np.testing.assert_array_equal(first, [[0, 1], [2, 3]])
        np.testing.assert_array_equal(last, [[6, 7], [8, 9]])


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 600))
def test_reduction_stays_well_above_the_target_size(height, width, side):
    factor = reduction_factor((height, width), side)
    margin = 3 if side < 200 else 1.9
    assert factor in (1, 2, 4, 8)
    if factor > 1:
        assert min(height, width) / factor >= margin * side
    if factor < 8:
        assert min(height, width) // (2 * factor) < margin * side


@pytest.mark.parametrize(
    ("source", "side", "factor"),
    [((864, 1152), 224, 2), ((864, 1152), 160, 1), ((3000, 4000), 224, 4), ((850, 1280), 224, 1)],
)
def test_photographs_of_one_and_twelve_megapixels_have_these_factors(source, side, factor):
    assert reduction_factor(source, side) == factor


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("resize", ALL_MODES)
def test_pillow_images_are_resized_as_arrays(mode, resize, rng):
    array = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    picture = Image.fromarray(array).convert(mode)
    array = np.asarray(picture.convert("RGB"))
    for size in [(7, 9), (40, 50)]:
        expected = resize_image(array, size, resize)
        np.testing.assert_array_equal(resize_image(picture, size, resize), expected)
        reduced = resize_image(average_blocks(picture, 2), size, resize)
        np.testing.assert_array_equal(reduced, resize_image(average_blocks(array, 2), size, resize))
    assert (picture.mode, picture.size) == (mode, (50, 40))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_blocks_are_averaged(dtype, rng):
    image = rng.integers(0, 256, (8, 12, 3)).astype(dtype)
    assert average_blocks(image, 1) is image
    means = image.reshape(2, 4, 3, 4, 3).mean(axis=(1, 3))
    reduced = average_blocks(image, 4)
    assert reduced.dtype == dtype
    np.testing.assert_allclose(reduced, means, atol=0.51 if dtype == np.uint8 else 1e-4)


class TestSampling:
    """Pixels are computed as other libraries do it."""

    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos3"])
    @given(source=st.tuples(st.integers(8, 90), st.integers(8, 90)), fraction=st.floats(0.5, 1))
    @settings(max_examples=30, deadline=None)
    def test_a_crop_fraction_resizes_the_short_side_and_takes_the_centre(
        self, source, fraction, interpolation
    ):
        # Far from 0 and 255, where Pillow clips in the middle of its work, in either order.
        pixels = np.random.default_rng(0).integers(90, 166, (*source, 3), dtype=np.uint8)
        side = 16
        resized, short = math.floor(side / fraction), min(source)
        height, width = (resized if it == short else int(resized * it / short) for it in source)
        kind = getattr(Image.Resampling, interpolation.removesuffix("3").upper())
        whole = np.asarray(Image.fromarray(pixels).resize((width, height), kind), int)
        top, left = round((height - side) / 2), round((width - side) / 2)
        expected = whole[top : top + side, left : left + side]

        sampling = Sampling(interpolation, crop_fraction=fraction)
        result = resize_image(pixels, (side, side), "crop", sampling).astype(int)
        assert np.abs(result - expected).max() <= 2

    @pytest.mark.parametrize("source", [(400, 300), (300, 400), (97, 61), (64, 333)])
    def test_a_crop_fraction_gives_the_very_pixels_of_a_resize_and_a_crop(self, source, rng):
        # Pillow clips between the axes, and which is first depends on all sizes.
        pixels = rng.integers(0, 256, (*source, 3), dtype=np.uint8)
        height, width = (256 if it == min(source) else int(256 * it / min(source)) for it in source)
        whole = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
        top, left = round((height - 224) / 2), round((width - 224) / 2)
        result = resize_image(pixels, (224, 224), "crop", Sampling("bicubic", True, 0.875))
        expected = np.asarray(whole)[top : top + 224, left : left + 224]
        np.testing.assert_array_equal(result, expected)

    def test_a_crop_fraction_stretches_both_sides(self, rng):
        pixels = rng.integers(90, 166, (40, 60, 3), dtype=np.uint8)
        whole = np.asarray(Image.fromarray(pixels).resize((20, 20), Image.Resampling.BICUBIC), int)
        result = resize_image(pixels, (16, 16), "stretch", Sampling("bicubic", True, 0.8))
        assert np.abs(result - whole[2:18, 2:18]).max() <= 1

    def test_large_images_are_not_averaged_in_blocks_first(self, rng):
        pixels = rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)
        source = check_images([pixels])
        sampling = Sampling(antialias=False)
        expected = resize_image(pixels, (16, 16), "crop", sampling)
        np.testing.assert_array_equal(source.load(0, (16, 16), "crop", sampling), expected)
        assert not np.allclose(source.load(0, (16, 16)), expected, atol=20)

    def test_an_image_of_the_size_is_still_enlarged_and_cropped(self, rng):
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        assert (resize_image(pixels, (16, 16)) == pixels).all()
        sampling = Sampling(crop_fraction=0.5)
        assert (resize_image(pixels, (16, 16), "crop", sampling) != pixels).any()


KERAS_CASES = [
    *[(mode, "bilinear", False) for mode in ("crop", "stretch", "pad")],
    *[(mode, "bicubic", False) for mode in ("crop", "pad")],
    *[(mode, "bilinear", True) for mode in ("crop", "pad")],
    ("crop", "bicubic", True),
    ("crop", "lanczos3", False),
    ("crop", "nearest", True),
]


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
@pytest.mark.parametrize(("mode", "interpolation", "antialias"), KERAS_CASES)
def test_images_are_resized_as_the_layer_of_keras_does(mode, interpolation, antialias, size):
    import keras

    resizing = keras.layers.Resizing(
        *size,
        interpolation=interpolation,
        **({"antialias": True} if antialias else {}),  # older versions of Keras never do
        crop_to_aspect_ratio=mode == "crop",
        pad_to_aspect_ratio=mode == "pad",
    )
    sampling = Sampling(interpolation, antialias, whole_pixels=True)
    generator = np.random.default_rng(0)
    for shape in ((37, 23, 3), (24, 51, 3), (40, 40, 3), (9, 14, 3), (50, 3, 3)):
        image = generator.integers(0, 256, shape).astype(np.uint8)
        expected = np.asarray(resizing(image[None].astype(np.float32)))[0]
        # TensorFlow reads cubic weights from a table.
        tolerance = 0.5 if (interpolation, antialias) == ("bicubic", False) else 0.01
        resized = resize_image(image, size, mode, sampling)
        np.testing.assert_allclose(resized, expected, atol=tolerance)
