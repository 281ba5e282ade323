"""Pixel scaling inside the model equals `preprocess_input` of each module of Keras."""

import sys

import keras
import numpy as np
import pytest

from transferclf.backbones.preprocessing import PREPROCESSINGS, scale_array, scale_pixels
from transferclf.backbones.registry import get_backbone, list_backbones
from transferclf.exceptions import InvalidParameterError

APPLICATIONS = [name for name in list_backbones() if get_backbone(name).is_keras_application]


def scaled(pixels, preprocessing):
    inputs = keras.Input(pixels.shape[1:])
    model = keras.Model(inputs, scale_pixels(inputs, preprocessing))
    return keras.ops.convert_to_numpy(model(pixels))


def test_arrays_are_scaled_as_tensors_are(pixels):
    for preprocessing in PREPROCESSINGS:
        kept = pixels.copy()
        result = scale_array(kept, preprocessing)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, scaled(pixels, preprocessing), atol=1e-4)
        np.testing.assert_array_equal(kept, pixels)


def keras_preprocess(backbone, pixels):
    """Return the result of `preprocess_input` of the module that defines the network."""
    function = getattr(keras.applications, backbone.builder.split(":")[1])
    # A copy, because the function overwrites its input.
    return sys.modules[function.__module__].preprocess_input(pixels.copy())


@pytest.fixture(scope="module")
def pixels():
    whole = np.random.default_rng(0).integers(0, 256, size=(2, 5, 7, 3)).astype("float32")
    whole[0, 0, :2] = [[0, 0, 0], [255, 255, 255]]
    return whole


@pytest.mark.parametrize("name", APPLICATIONS)
def test_pixels_are_scaled_as_keras_does(name, pixels):
    backbone = get_backbone(name)
    expected = keras_preprocess(backbone, pixels)
    np.testing.assert_allclose(scaled(pixels, backbone.preprocessing), expected, atol=1e-4)


@pytest.mark.parametrize("preprocessing", ["caffe", "tf", "torch"])
def test_modes_agree_with_keras(preprocessing, pixels):
    expected = keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode=preprocessing)
    np.testing.assert_allclose(scaled(pixels, preprocessing), expected, atol=1e-4)


def test_the_modes_differ(pixels):
    results = [scaled(pixels, preprocessing) for preprocessing in PREPROCESSINGS]
    assert len({result.tobytes() for result in results}) == len(PREPROCESSINGS) == 5


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_input_is_not_changed(preprocessing, pixels):
    kept = pixels.copy()
    kept.setflags(write=False)
    scaled(kept, preprocessing)
    np.testing.assert_array_equal(kept, pixels)


def test_tiny_is_scaled_to_one(pixels):
    assert get_backbone("tiny").preprocessing == "tf"
    result = scaled(pixels, "tf")
    assert result.min() == -1.0
    assert result.max() == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", ["imagenet", "TF", "auto", None])
def test_unknown_preprocessing_is_refused(wrong):
    with pytest.raises(
        InvalidParameterError, match=f"preprocessing must be one of .* Got {wrong!r}"
    ):
        scale_pixels(keras.Input((4, 4, 3)), wrong)
