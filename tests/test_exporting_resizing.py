"""The resize inside exported files against that of the estimators."""

import keras
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from transferclf.exporting.resizing import ResizeImages
from transferclf.images.geometry import average_blocks, reduction_factor, resize_image

SIDES = st.integers(1, 400)


def resized_by_estimators(image, size, mode):
    reduced = average_blocks(image, reduction_factor(image.shape[:2], max(size)))
    return resize_image(reduced, size, mode).astype(int)


@settings(max_examples=25)
@given(
    SIDES, SIDES, st.sampled_from([(32, 32), (48, 20)]), st.sampled_from(["crop", "stretch", "pad"])
)
@example(400, 300, (32, 32), "crop")  # averaged in blocks before
@example(399, 301, (32, 32), "pad")  # ... the last of which are smaller
@example(32, 32, (32, 32), "stretch")
@example(300, 40, (32, 32), "stretch")  # Pillow may begin with the rows
@example(1, 1, (48, 20), "crop")
def test_pixels_differ_by_one_level_at_most_and_seldom(height, width, size, mode):
    rng = np.random.default_rng(height * 1000 + width)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = np.asarray(ResizeImages(size, mode)(image[None]))[0]
    difference = np.abs(found - resized_by_estimators(image, size, mode))
    assert found.shape == (*size, 3)
    assert difference.max() <= 1
    assert np.mean(difference > 0) <= 0.02


@pytest.mark.parametrize("mode", ["crop", "stretch", "pad"])
def test_a_photograph_has_the_pixels_of_the_estimators(mode):
    grid = np.random.default_rng(0).uniform(0, 255, (15, 20, 3))
    image = np.rint(grid.repeat(10, 0).repeat(10, 1)).astype(np.uint8)
    found = np.asarray(ResizeImages((96, 96), mode)(image[None]))[0]
    np.testing.assert_array_equal(found, resized_by_estimators(image, (96, 96), mode))


def test_images_of_the_right_size_stay_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    found = np.asarray(ResizeImages((32, 32), "crop")(images))
    np.testing.assert_array_equal(found, images)
    spec = ResizeImages((32, 20), "pad")(keras.Input((None, None, 3), dtype="uint8"))
    assert (spec.shape, spec.dtype) == ((None, 32, 20, 3), "float32")
