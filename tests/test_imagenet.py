"""predict_imagenet: the result of Keras by hand, images of any kind, clear errors."""

import json
import os
import random
import subprocess
import sys
from collections import OrderedDict

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils, mobilenet_v2
from keras.src.backend import config
from keras.src.backend.common import global_state
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils
from PIL import Image

from transferclf import get_backbone, list_backbones
from transferclf.backbones import applications
from transferclf.engines.engine import has_bfloat16
from transferclf.estimators import imagenet
from transferclf.estimators.imagenet import Prediction, imagenet_classes, predict_imagenet
from transferclf.exceptions import (
    ImageError,
    ImageReadError,
    InvalidParameterError,
    UnknownBackboneError,
    WeightsError,
)
from transferclf.features.choosing import choose_prefix
from transferclf.features.frozen import Prefix

NAME = "mobilenet_v2_035"
SIZE = (32, 32)
FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5"
APPLICATIONS = [name for name in list_backbones() if get_backbone(name).is_keras_application]
INDEX = {str(number): [f"n{number:08}", f"class_{number}"] for number in range(1000)}


@pytest.fixture(autouse=True)
def keras_home(tmp_path, monkeypatch):
    """Make a Keras home that holds only invented class names, and block downloads."""
    models = tmp_path / "keras home" / "models"
    models.mkdir(parents=True)
    (models / "imagenet_class_index.json").write_text(json.dumps(INDEX))
    monkeypatch.setenv("KERAS_HOME", str(models.parent))
    monkeypatch.setattr(config, "_KERAS_DIR", str(models.parent))
    nowhere = (tmp_path / "nowhere").as_uri()
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", nowhere + "/")
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX_PATH", nowhere)
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", None)
    return models


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (6, *SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network(pixels):
    """Return a random network with batch norms fitted to `pixels` and a sharp last layer."""
    keras.utils.set_random_seed(0)
    inputs = {"input_shape": (*SIZE, 3), "alpha": 0.35, "weights": None}
    model = keras.applications.MobileNetV2(**inputs)
    for layer in model.layers:
        layer.momentum = 0.0
    model(mobilenet_v2.preprocess_input(pixels.astype("float32")), training=True)
    kernel, _ = model.layers[-1].weights
    kernel.assign(np.random.default_rng(0).normal(0, 0.1, kernel.shape))
    return model


@pytest.fixture(scope="module")
def weights(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "mine.weights.h5"
    network.save_weights(path)
    return path


def number_of(name):
    """Return the number in the name of a layer; Keras counts dense, dense_1, ..."""
    return int(name.rpartition("_")[2]) if "_" in name else 0


def save_old_format(model, path):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


def by_hand(network, pixels, top=5):
    """Return the predictions by the code in the documentation of Keras."""
    prepared = mobilenet_v2.preprocess_input(pixels.astype("float32"))
    probabilities = keras.ops.convert_to_numpy(network(prepared, training=False))
    return imagenet_utils.decode_predictions(probabilities, top)


def assert_same(found, expected, atol=1e-3):
    """Check for equal classes and probabilities; equally probable classes may change places.

    The random network magnifies rounding.
    """
    assert len(found) == len(expected)
    for row, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose([e[2] for e in row], [e[2] for e in wanted], atol=atol)
        probabilities = {tuple(entry[:2]): entry[2] for entry in wanted}
        for *name, probability in row:
            # A class outside the best of `expected` is as probable as the last of these.
            assert probability == pytest.approx(
                probabilities.get(tuple(name), wanted[-1][2]), abs=atol
            )


def predict(X, weights=None, top=5, **parameters):
    return predict_imagenet(NAME, X, top, weights=weights, image_size=32, **parameters)


class TestPredictions:
    def test_predictions_equal_those_of_keras_by_hand(self, network, weights, pixels, monkeypatch):
        monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", INDEX)
        expected = by_hand(network, pixels)
        assert len({row[0][0] for row in expected}) > 1, "images of several classes"
        assert_same(predict(pixels, weights), expected)
        assert_same(predict(pixels, str(weights)), expected)

    def test_predictions_are_named_tuples_in_order_of_probability(self, weights, pixels):
        result = predict(pixels, weights, top=1000)
        assert [len(row) for row in result] == [1000] * len(pixels)
        for row in result:
            assert all(type(entry) is Prediction for entry in row)
            assert {type(entry.probability) for entry in row} == {float}
            probabilities = [entry.probability for entry in row]
            assert probabilities == sorted(probabilities, reverse=True)
            assert sum(probabilities) == pytest.approx(1, abs=1e-4)
            assert {(entry.wnid, entry.name) for entry in row} == set(map(tuple, INDEX.values()))

    @pytest.mark.parametrize("top", [1, 3, np.int64(7)])
    def test_top_gives_the_first_of_all_classes(self, top, weights, pixels):
        everything = predict(pixels, weights, top=1000)
        assert predict(pixels, weights, top=top) == [row[:top] for row in everything]

    def test_five_classes_are_the_default(self, pixels):
        assert [len(row) for row in predict_imagenet(NAME, pixels[:2], weights=None)] == [5, 5]

    def test_images_of_any_kind_and_size_are_accepted(self, weights, pixels, tmp_path):
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
        expected = predict(pixels, weights)
        paths = [tmp_path / f"{number}.png" for number in range(len(pixels))]
        rows = pixels.reshape(len(pixels), -1)
        assert predict(paths, weights) == expected
        assert predict([str(paths[0]), *map(Image.fromarray, pixels[1:])], weights) == expected
        assert predict(rows, weights, image_shape=(*SIZE, 3)) == expected
        assert_same(predict(pixels / 255, weights), expected)
        assert_same(predict(pixels.astype(np.uint16) * 257, weights), expected)
        wide = np.concatenate([pixels[0], np.zeros((32, 40, 3), np.uint8)], axis=1)
        mixed = predict([pixels[0], wide, wide[:, :, 0]], weights, resize="stretch")
        assert_same(mixed[:1], expected[:1])
        assert mixed[1] != expected[0]

    def test_all_floats_share_one_range(self, weights, pixels):
        """The range is that of all images, so a dark image among floats up to 255 stays dark."""
        images = [pixels[0].astype(float), np.full((*SIZE, 3), 0.9)]
        dark = predict([np.full((*SIZE, 3), 0.9)], weights, pixel_range=(0, 255))
        assert_same(predict(images, weights, pixel_range=(0, 255))[1:], dark)
        assert_same(predict(images, weights)[1:], dark)

    @pytest.mark.slow
    def test_predictions_do_not_depend_on_the_batch(self, weights, rng):
        images = rng.integers(0, 256, (70, *SIZE, 3), dtype=np.uint8)
        result = predict(images, weights)
        assert len(result) == 70
        for start in (0, 31, 32, 64, 69):
            assert_same(predict(images[start : start + 1], weights), result[start : start + 1])

    @pytest.mark.slow
    def test_images_are_read_batch_by_batch_and_repeated_ones_once(self, rng, monkeypatch):
        """Memory holds one batch of pixels, and the network gets a repeated image once."""
        seen = []

        def forward(prefix):
            return lambda pixels: (
                seen.append(pixels.shape) or np.tile(pixels.mean(axis=(1, 2, 3))[:, None], 1000)
            )

        monkeypatch.setattr(Prefix, "forward", forward)
        images = rng.integers(0, 256, (70, 8, 8), dtype=np.uint8)
        result = predict(np.concatenate([images, images[:5]]))
        assert seen == [(32, 32, 32, 3), (32, 32, 32, 3), (6, 32, 32, 3)]
        assert result[70:] == result[:5]
        assert len({row[0].probability for row in result}) > 30

    def test_input_is_not_changed(self, pixels):
        image = pixels.astype(np.float32)
        image.flags.writeable = False
        predict(image)
        np.testing.assert_array_equal(image, pixels)

    @pytest.mark.slow
    def test_resize_modes_give_different_predictions(self, weights, rng):
        wide = rng.integers(0, 256, (1, 32, 96, 3), dtype=np.uint8)
        results = [predict(wide, weights, resize=mode) for mode in ("crop", "stretch", "pad")]
        assert all(a != b for a, b in zip(results, results[1:] + results[:1], strict=True))

    def test_random_weights_are_the_same_every_time(self, pixels, monkeypatch):
        first = predict(pixels)
        monkeypatch.setattr("transferclf.features.frozen._forwards", OrderedDict())
        assert predict(pixels) == first

    def test_the_state_of_keras_is_not_changed(self, pixels, monkeypatch):
        monkeypatch.setattr("transferclf.features.frozen._forwards", OrderedDict())
        number, state = number_of(keras.layers.Dense(1).name), random.getstate()
        predict(pixels)
        assert random.getstate() == state
        assert number_of(keras.layers.Dense(1).name) == number + 1

    @pytest.mark.slow
    def test_every_engine_gives_the_same_predictions(self, weights, pixels):
        expected = predict(pixels, weights)
        for engine in ("tensorflow", "keras"):
            assert_same(predict(pixels, weights, engine=engine), expected)

    @pytest.mark.slow
    @pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 here")
    def test_bfloat16_changes_the_probabilities(self, weights, pixels):
        expected = predict(pixels, weights, top=1)
        found = predict(pixels, weights, top=1, precision="bfloat16")
        assert found != expected
        assert all(0 < row[0].probability <= 1 for row in found)

    def test_verbose_shows_a_bar(self, pixels, capsys):
        predict(pixels)
        assert capsys.readouterr().out == ""
        predict(pixels, verbose=1)
        assert "6/6" in capsys.readouterr().out


class TestParameters:
    @pytest.mark.parametrize("top", [0, -1, 1001, 1.0, True, None, "5", np.nan, [5]])
    def test_an_invalid_top_raises_an_error(self, top, pixels):
        with pytest.raises(
            InvalidParameterError, match="top must be a whole number from 1 to 1000"
        ):
            predict(pixels, top=top)

    @pytest.mark.parametrize("backbone", ["tiny", None, 3, b"vgg16", ["vgg16"], keras.Sequential()])
    def test_an_invalid_backbone_raises_an_error(self, backbone, pixels):
        with pytest.raises(
            InvalidParameterError, match=r"keras\.applications, such as 'mobilenet_v2', .* Got "
        ):
            predict_imagenet(backbone, pixels)

    def test_an_unknown_backbone_raises_an_error(self, pixels):
        with pytest.raises(UnknownBackboneError, match="did you mean .*mobilenet_v2"):
            predict_imagenet("mobilenetv22", pixels)

    @pytest.mark.slow
    def test_names_in_the_spelling_of_keras_are_accepted(self, pixels):
        assert len(predict_imagenet("MobileNetV2", pixels[:1], weights=None, image_size=32)) == 1

    @pytest.mark.parametrize("image_size", [160.0, True, 0, -32, (32,), "224", 31])
    def test_an_invalid_image_size_raises_an_error(self, image_size, pixels):
        with pytest.raises(InvalidParameterError, match="image_size must be None, a whole number"):
            predict_imagenet(NAME, pixels, weights=None, image_size=image_size)

    @pytest.mark.parametrize(
        ("backbone", "image_size", "sizes"),
        [
            (NAME, 100, "96 or 128 or 160 or 192 or 224"),
            (NAME, (96, 128), "96 or"),
            ("resnet50", 160, "224 for"),
            ("nasnet_large", 224, "331 for"),
        ],
    )
    def test_sizes_without_imagenet_weights_raise_an_error(
        self, backbone, image_size, sizes, pixels
    ):
        with pytest.raises(InvalidParameterError, match=f"image_size must be {sizes}"):
            predict_imagenet(backbone, pixels, image_size=image_size)

    @pytest.mark.parametrize(
        ("parameter", "value"),
        [
            ("resize", "first"),
            ("resize", None),
            ("resize", ["crop"]),
            ("engine", "numpy"),
            ("precision", "float16"),
            ("verbose", -1),
            ("verbose", "yes"),
            ("weights", 3),
            ("weights", True),
            ("image_shape", (32,)),
            ("pixel_range", (1, 0)),
        ],
    )
    def test_other_invalid_parameters_raise_an_error(self, parameter, value, pixels):
        with pytest.raises(InvalidParameterError, match=parameter.replace("_", ".")):
            predict(pixels, **{parameter: value})

    @pytest.mark.parametrize("X", [[], np.zeros((0, 8, 8)), None, 3, np.full((2, 8, 8), np.nan)])
    def test_invalid_images_raise_an_error(self, X):
        with pytest.raises(ImageError):
            predict(X)

    def test_unreadable_files_are_all_named(self, tmp_path):
        for name in "ab":
            (tmp_path / f"{name}.png").write_bytes(b"no image")
        with pytest.raises(ImageReadError, match=r"(?s)a\.png.*b\.png"):
            predict([tmp_path / "a.png", tmp_path / "b.png"])


class TestWeights:
    def test_weights_with_and_without_top_are_told_apart(self):
        arguments = {
            "weights": None, "image_size": 32, "preprocessing": "auto", "pooling": "avg",
            "layers": (), "seed": 0,
        }  # fmt: skip
        without = choose_prefix(NAME, **arguments)
        whole = imagenet._whole_network(NAME, None, 32, "auto", "float32")
        assert whole.digest != without.digest
        assert whole.build().output_shape == (None, 1000)

    @pytest.mark.slow
    def test_weights_are_found_in_keras_home_without_a_download(self, network, pixels, keras_home):
        save_old_format(network, keras_home / FILE)
        pixels = pixels.repeat(3, axis=1).repeat(3, axis=2)
        mine = predict_imagenet(NAME, pixels, weights=keras_home / FILE, image_size=96)
        assert predict_imagenet(NAME, pixels, image_size=96) == mine
        assert predict_imagenet(NAME, pixels, image_size=96, weights="pretrained") == mine

    @pytest.mark.slow
    def test_files_are_found_in_a_read_only_home(
        self, network, pixels, keras_home, tmp_path, monkeypatch
    ):
        save_old_format(network, keras_home / FILE)
        expected = predict_imagenet(NAME, pixels, image_size=96)
        for module in (imagenet, applications, sys.modules["transferclf.backbones.weights"]):
            monkeypatch.setattr(module, "keras_models_folder", lambda: tmp_path / "elsewhere")
        monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path / "elsewhere"))
        monkeypatch.setattr("transferclf.features.frozen._forwards", OrderedDict())
        assert predict_imagenet(NAME, pixels, image_size=96) == expected

    @pytest.mark.slow
    def test_changed_weights_are_noticed(self, network, weights, pixels, tmp_path):
        path = tmp_path / "changing.weights.h5"
        path.write_bytes(weights.read_bytes())
        before = predict(pixels, path)
        bias = network.layers[-1].bias
        bias.assign(np.arange(1000) == 500)
        network.save_weights(path)
        bias.assign(np.zeros(1000))
        os.utime(path, ns=(1, 1))
        assert predict(pixels, path) != before

    def test_missing_weights_raise_an_error(self, pixels):
        with pytest.raises(WeightsError, match=rf"(?s){FILE} is not there.*weights=PATH"):
            predict_imagenet(NAME, pixels, image_size=96)

    def test_damaged_weights_raise_an_error(self, pixels, keras_home):
        (keras_home / FILE).write_bytes(b"no weights")
        with pytest.raises(WeightsError, match=rf"(?s){FILE} is damaged"):
            predict_imagenet(NAME, pixels, image_size=96)

    def test_a_path_without_a_file_raises_an_error(self, pixels, tmp_path):
        with pytest.raises(WeightsError, match="gone.h5 cannot be read"):
            predict(pixels, tmp_path / "gone.h5")

    @pytest.mark.slow
    def test_weights_without_a_classification_layer_raise_an_error(self, pixels, tmp_path):
        path = tmp_path / "short.weights.h5"
        shape = {"input_shape": (*SIZE, 3), "alpha": 0.35, "weights": None}
        keras.applications.MobileNetV2(classes=10, **shape).save_weights(path)
        with pytest.raises(WeightsError, match="do not fit .* layer of 1000 classes at 32x32"):
            predict(pixels, path)

    @pytest.mark.slow
    def test_efficientnet_weights_equal_those_of_keras(self, rng, tmp_path):
        """Keras builds another network for the ImageNet weights; the file name decides."""
        model = keras.applications.EfficientNetB0(weights=None, input_shape=(*SIZE, 3))
        kernel = model.layers[-1].kernel
        kernel.assign(rng.normal(0, 3, kernel.shape))
        official = save_old_format(model, tmp_path / "efficientnetb0.h5")
        mine = save_old_format(model, tmp_path / "mine.h5")
        images = rng.integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
        results = {}
        for path in (mine, official):
            arguments = {"weights": path, "image_size": 32}
            results[path] = predict_imagenet("efficientnet_b0", images, **arguments)[0]
        plain = keras.ops.convert_to_numpy(model(images.astype("float32"), training=False))[0]
        assert results[mine][0].probability == pytest.approx(plain.max(), rel=1e-3)
        assert results[official] != results[mine]


# One example of each file naming of Keras.
NAMINGS = [
    "convnext_tiny", "efficientnet_b0", "efficientnet_v2_b0", "mobilenet_050", "mobilenet_v2_130",
    "mobilenet_v3_small", "resnet50", "vgg16",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMINGS)
@pytest.mark.filterwarnings("ignore:.*`input_shape` is undefined or non-square")
def test_the_file_name_is_that_of_keras(name, monkeypatch):
    asked = []
    monkeypatch.setattr(file_utils, "get_file", lambda fname, *a, **k: asked.append(fname) or fname)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: None)
    backbone = get_backbone(name)
    size = (backbone.image_size, backbone.image_size)
    with keras.StatelessScope(initialize_variables=False):
        backbone.build(weights="imagenet", include_top=True, input_shape=(*size, 3))
    global_state.set_global_attribute("uninitialized_variables", [])
    assert asked == [backbone.with_top().weights_file_for(size)]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_file_with_the_top_layer_has_another_name(name):
    backbone = get_backbone(name)
    whole = backbone.with_top()
    assert whole.weights_file != backbone.weights_file
    assert "top" not in whole.weights_file


class TestClasses:
    def test_a_thousand_classes_are_returned_in_order(self):
        assert imagenet_classes() == [tuple(INDEX[str(number)]) for number in range(1000)]

    def test_files_are_found_in_a_read_only_home(self, monkeypatch, tmp_path):
        monkeypatch.setattr(imagenet, "keras_models_folder", lambda: tmp_path / "elsewhere")
        assert len(imagenet_classes()) == 1000

    def test_missing_class_names_are_requested_from_keras(self, keras_home, monkeypatch):
        expected = imagenet_classes()
        (keras_home / "imagenet_class_index.json").unlink()
        monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", INDEX)
        assert imagenet_classes() == expected

    def test_unavailable_class_names_raise_an_error_before_any_work(
        self, keras_home, pixels, monkeypatch
    ):
        (keras_home / "imagenet_class_index.json").unlink()
        monkeypatch.setattr(imagenet.Extractor, "rows", None)
        with pytest.raises(WeightsError, match=r"(?s)imagenet_class_index\.json is not there"):
            predict(pixels)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "{}", "3", '{"0": ["n0", "a"]}', json.dumps({**INDEX, "7": None}),
         json.dumps({**INDEX, "7": ["n7"]}), "\x00"],
        ids=range(9),
    )  # fmt: skip
    def test_a_damaged_file_of_class_names_raises_an_error(self, text, keras_home):
        (keras_home / "imagenet_class_index.json").write_text(text)
        with pytest.raises(WeightsError, match=r"(?s)cannot be read from .*index\.json"):
            imagenet_classes()


def test_import_of_the_function_imports_no_network_library():
    code = """
import sys
from transferclf.estimators.imagenet import predict_imagenet
try:
    predict_imagenet("tiny", [])
except ValueError:
    pass
assert not {"keras", "tensorflow"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.realdata
class TestPhotographs:
    """One photograph of each of 40 classes, by MobileNetV2 with ImageNet weights."""

    @pytest.fixture(scope="class")
    def real_home(self):
        home = REAL_HOME
        file = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5"
        wanted = ("imagenet_class_index.json", file)
        if home is None or not all(os.path.isfile(f"{home}/models/{name}") for name in wanted):
            pytest.skip(f"no MobileNetV2 with its classes below KERAS_HOME={home}")
        return home

    @pytest.fixture
    def samples(self, data, real_home, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", real_home)
        monkeypatch.setattr(config, "_KERAS_DIR", real_home)
        return sorted((data / "imagenet_samples").glob("*/*"))

    def test_photographs_are_recognised(self, samples):
        predictions = predict_imagenet("mobilenet_v2", samples)
        truth = [path.parent.name.partition("_")[0] for path in samples]
        first = [row[0].wnid == wnid for row, wnid in zip(predictions, truth, strict=True)]
        among = [
            wnid in {p.wnid for p in row} for row, wnid in zip(predictions, truth, strict=True)
        ]
        assert len(samples) == 40
        assert np.mean(first) >= 0.75
        assert np.mean(among) >= 0.95

    def test_photographs_have_the_predictions_of_keras_by_hand(self, samples):
        images = [np.asarray(Image.open(path).convert("RGB")) for path in samples[::8]]
        squares = np.stack([image[:224, :224] for image in images])
        network = keras.applications.MobileNetV2()
        assert_same(predict_imagenet("mobilenet_v2", squares), by_hand(network, squares), 1e-4)


REAL_HOME = os.environ.get("KERAS_HOME")  # read before a test changes it
