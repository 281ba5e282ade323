"""Pixel scaling inside the model equals `preprocess_input` of each module of Keras."""

import copy
import itertools
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transferclf import CNNFeatureExtractor, Preprocessing
from transferclf.backbones.preprocessing import (
    PREPROCESSINGS,
    preprocessing_of,
    scale_array,
    scale_pixels,
)
from transferclf.backbones.registry import get_backbone, list_backbones
from transferclf.exceptions import InvalidParameterError
from transferclf.images.geometry import Sampling

positive = st.floats(1e-3, 1e3)

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


class TestRecord:
    """A Preprocessing says exactly what happens to pixels."""

    RECORD = Preprocessing(
        scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), channels="bgr"
    )

    def test_a_value_is_scaled_shifted_and_divided(self, pixels):
        expected = (pixels[..., ::-1] / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3]
        np.testing.assert_allclose(scale_array(pixels, self.RECORD), expected, atol=1e-5)
        np.testing.assert_allclose(scaled(pixels, self.RECORD), expected, atol=1e-4)

    @settings(max_examples=25, deadline=None)
    @given(
        scale=positive | st.tuples(positive, positive, positive),
        mean=st.floats(-9, 9) | st.tuples(*[st.floats(-9, 9)] * 3),
        std=positive | st.tuples(positive, positive, positive),
    )
    def test_layers_and_arrays_agree_for_all_numbers(self, scale, mean, std):
        record = Preprocessing(scale, mean, std)
        pixels = np.random.default_rng(0).uniform(0, 255, (1, 2, 2, 3)).astype(np.float32)
        expected = (pixels * np.asarray(scale) - np.asarray(mean)) / np.asarray(std)
        largest = (
            np.abs(pixels * np.asarray(scale) / np.asarray(std)).max() + np.abs(expected).max()
        )
        for result in (scale_array(pixels, record), scaled(pixels, record)):
            np.testing.assert_allclose(result, expected, atol=1e-5 * largest)

    @pytest.mark.parametrize("name", PREPROCESSINGS)
    def test_a_name_is_a_record_too(self, name, pixels):
        record = preprocessing_of(name)
        np.testing.assert_allclose(scale_array(pixels, record), scale_array(pixels, name))
        assert record.sampling == Sampling()

    def test_numbers_are_kept_as_floats_whatever_their_type(self):
        record = Preprocessing(np.float32(2), [1, 2, 3], np.array([1, 1, 4]), crop_fraction=1)
        assert record == Preprocessing(2.0, (1.0, 2.0, 3.0), (1.0, 1.0, 4.0), crop_fraction=1.0)
        assert record.facts() == {
            "scale": 2.0,
            "mean": (1.0, 2.0, 3.0),
            "std": (1.0, 1.0, 4.0),
            "crop_fraction": 1.0,
        }
        assert hash(record) == hash(copy.deepcopy(record))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"scale": 0},
            {"scale": "1"},
            {"scale": True},
            {"mean": (1, 2)},
            {"mean": [1, 2, None]},
            {"mean": float("nan")},
            {"std": (1, 0, 1)},
            {"std": -1},
            {"std": float("inf")},
            {"interpolation": "bicubicly"},
            {"interpolation": None},
            {"crop_fraction": 0},
            {"crop_fraction": 1.5},
            {"crop_fraction": "all"},
            {"antialias": 1},
            {"resize": "auto"},
            {"channels": "rgba"},
        ],
    )
    def test_values_that_cannot_be_are_refused(self, wrong):
        (name, _), *_ = wrong.items()
        with pytest.raises(InvalidParameterError, match=f"^{name} must be"):
            Preprocessing(**wrong)

    @pytest.mark.slow
    def test_features_follow_it_and_have_keys_of_their_own(self, tmp_path):
        photo = np.random.default_rng(0).integers(0, 256, (1, 90, 60, 3), dtype=np.uint8)
        records = [
            "tf",
            Preprocessing(1 / 127.5, 1.0),
            Preprocessing(1 / 127.5, 1.0, interpolation="bicubic"),
            Preprocessing(1 / 127.5, 1.0, crop_fraction=0.8),
            Preprocessing(1 / 127.5, 1.0, antialias=False),
            Preprocessing(1 / 127.5, 1.0, resize="stretch"),
            Preprocessing(1 / 127.5, 1.0, channels="bgr"),
        ]
        rows = []
        for record in records:
            extractor = CNNFeatureExtractor(
                preprocessing=record, image_size=32, cache=tmp_path, random_state=0
            )
            rows.append(extractor.fit_transform(photo)[0])
        np.testing.assert_allclose(rows[0], rows[1], rtol=1e-4, atol=1e-4)
        distances = [np.abs(one - two).max() for one, two in itertools.combinations(rows[1:], 2)]
        assert min(distances) > 0.01

    def test_the_whole_way_is_that_of_the_record(self):
        photo = np.random.default_rng(1).integers(0, 256, (90, 60, 3), dtype=np.uint8)
        record = Preprocessing(1 / 127.5, 1.0, interpolation="bicubic", crop_fraction=0.8)
        resized = Image.fromarray(photo).resize((40, 60), Image.Resampling.BICUBIC)
        by_hand = np.asarray(resized)[14:46, 4:36]
        expected = CNNFeatureExtractor(image_size=32, cache=None).fit_transform([by_hand])
        result = CNNFeatureExtractor(image_size=32, cache=None, preprocessing=record).fit_transform(
            [photo]
        )
        cosine = np.sum(result * expected) / np.linalg.norm(result) / np.linalg.norm(expected)
        assert cosine > 0.9999

    def test_resize_auto_is_that_of_the_record(self):
        photo = np.zeros((1, 40, 60, 3), np.uint8)
        squashed = Preprocessing(1 / 127.5, 1.0, resize="stretch")
        extractor = CNNFeatureExtractor(image_size=32, preprocessing=squashed)
        assert extractor.fit(photo).resize_ == "stretch"
        assert extractor.set_params(resize="pad").fit(photo).resize_ == "pad"
        assert CNNFeatureExtractor(image_size=32).fit(photo).resize_ == "crop"
