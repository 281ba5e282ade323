"""Quantization: what lies between convolutions, ranges of activations, and images for them."""

from types import SimpleNamespace

import numpy as np

from transferclf.engines.convolutions import (
    Step,
    after_convolutions,
    before_convolutions,
    not_between,
)
from transferclf.engines.litert_int8 import best_range
from transferclf.exporting import exporting
from transferclf.images import check_images

# scale, convolution, activation, convolution beside a pooled shortcut, sum, convolution, mean, head
STEPS = [
    Step(False, ("pixels",), ("scaled",)),
    Step(True, ("scaled", "kernel 1"), ("maps 1",)),
    Step(False, ("maps 1",), ("active",)),
    Step(True, ("active", "kernel 2"), ("maps 2",)),
    Step(False, ("active",), ("shortcut",)),
    Step(False, ("maps 2", "shortcut"), ("sum",)),
    Step(False, ("sum",), ("level",)),  # read by the head only
    Step(True, ("sum", "kernel 3"), ("maps 3",)),
    Step(False, ("maps 3", "level"), ("features",)),
    Step(False, ("features",), ("scores",)),
]


def test_steps_are_after_and_before_convolutions():
    assert after_convolutions(STEPS) == {2, 3, 4, 5, 6, 7, 8, 9}
    assert before_convolutions(STEPS) == {0, 1, 2, 3, 4, 5}


def test_all_but_the_convolutions_after_the_first_and_what_lies_between_stays_float32():
    assert not_between(STEPS) == [0, 1, 6, 8, 9]
    assert not_between(STEPS[8:]) == [0, 1]


def rounded(values, low, high):
    step = (high - low) / 255
    return np.clip(np.rint((values - low) / step), 0, 255) * step + low


def test_a_range_has_the_least_squared_error():
    random = np.random.default_rng(0)
    values = np.append(random.normal(0, 1, 20_000), [-9.0, 12.0])
    low, high = best_range(values, -9.0, 12.0)
    assert -9 < low < 0 < high < 12
    error = np.mean((rounded(values, low, high) - values) ** 2)
    others = [(-9.0 * share, 12.0 * share) for share in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    assert error <= min(np.mean((rounded(values, *each) - values) ** 2) for each in others)
    even = np.linspace(0, 3, 1000)
    assert best_range(even, 0.0, 3.0) == (0.0, 3.0)
    assert best_range(np.zeros(10), 0.0, 0.0) == (0.0, 0.0)


def test_all_images_are_read_only_for_ranges():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    estimator = SimpleNamespace(
        prefix_=SimpleNamespace(size=(4, 4)),
        resize_="crop",
        _checked=lambda X, _: check_images(X, pixel_range=(0, 255)),
    )
    np.testing.assert_array_equal(exporting._images(estimator, images, "int8"), images)
    few = exporting._images(estimator, images, None)
    np.testing.assert_array_equal(few, images[: exporting.N_COMPARED])
