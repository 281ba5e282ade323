"""The registry of backbones: every record agrees with Keras."""

import dataclasses
import functools
import importlib
import inspect
import pickle
import sys
import types

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils
from keras.src.backend.common import global_state
from keras.src.utils import file_utils

from transferclf import CNNFeatureExtractor
from transferclf.backbones import registry as backbones
from transferclf.backbones.record import Backbone
from transferclf.backbones.registry import (
    get_backbone,
    list_backbones,
    register_backbone,
)
from transferclf.backbones.weights import build_backbone
from transferclf.exceptions import InvalidParameterError, UnknownBackboneError

APPLICATIONS = [name for name in list_backbones() if get_backbone(name).is_keras_application]

# Keras warns that a MobileNet has no weights of its own for most sizes.
pytestmark = pytest.mark.filterwarnings("ignore:.*`input_shape` is undefined or non-square")


@pytest.fixture
def registry(monkeypatch):
    """Restore the registry after the test."""
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))


@pytest.fixture
def requested(monkeypatch):
    """Return the names of files that Keras requests; no file is read and no weights are created."""
    names = []

    def get_file(fname, *args, **kwargs):
        names.append(fname)
        return fname

    monkeypatch.setattr(file_utils, "get_file", get_file)
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args, **kwargs: None)
    with keras.StatelessScope(initialize_variables=False):
        yield names
    global_state.set_global_attribute("uninitialized_variables", [])


def as_keras_builds_it(backbone, size):
    return backbone.build(weights="imagenet", include_top=False, input_shape=(*size, 3))


def edges(input_shape):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Conv2D(8, 3)(inputs))


# --- every record against Keras


def test_all_networks_of_keras_are_registered():
    in_keras = {
        name
        for name, member in vars(keras.applications).items()
        if inspect.isfunction(member) and "include_top" in inspect.signature(member).parameters
    }
    registered = {get_backbone(name).builder.split(":")[1] for name in APPLICATIONS}
    assert len(in_keras) >= 38
    assert registered == in_keras


@pytest.mark.parametrize("name", APPLICATIONS)
def test_record_agrees_with_keras(name, requested, monkeypatch):
    sizes = []
    original = imagenet_utils.obtain_input_shape

    def obtain_input_shape(input_shape, default_size, min_size, **rest):
        sizes.append((default_size, min_size))
        return original(input_shape, default_size=default_size, min_size=min_size, **rest)

    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", obtain_input_shape)
    backbone = get_backbone(name)
    smallest = (backbone.min_image_size, backbone.min_image_size)
    model = as_keras_builds_it(backbone, smallest)
    assert requested == [backbone.weights_file_for(smallest)]
    assert model.count_params() == backbone.parameters
    assert model.output_shape[0] is None
    assert min(model.output_shape[1:]) >= 1
    assert (len(model.output_shape), backbone.ends_in) == (4, "map")
    if not name.startswith("mobilenet_v3"):  # needs no file
        assert sizes == [(backbone.image_size, backbone.min_image_size)]


@pytest.mark.parametrize("name", APPLICATIONS)
def test_keras_refuses_smaller_images(name, requested):
    backbone = get_backbone(name)
    side = backbone.min_image_size - 1
    with pytest.raises(ValueError, match=r"(?i)input size must be at least"):
        as_keras_builds_it(backbone, (side, side))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mobilenet_v3_large"])
def test_default_size_of_mobilenet_v3_equals_that_of_its_weights(name):
    backbone = get_backbone(name)
    assert f"_{backbone.image_size}_" in backbone.weights_file


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("mobilenet_025", (128, 160, 192, 224)), ("mobilenet_v2_035", (96, 128, 160, 192, 224))],
)
def test_mobilenets_have_weights_for_several_sizes(name, sizes, requested):
    backbone = get_backbone(name)
    assert backbone.weights_sizes == sizes
    for size in sizes:
        as_keras_builds_it(backbone, (size, size))
        assert requested[-1] == backbone.weights_file_for((size, size))
        assert f"_{size}_" in requested[-1]


@pytest.mark.parametrize("size", [(100, 100), (96, 128), (128, 96), (256, 256)])
@pytest.mark.parametrize("name", ["mobilenet_025", "mobilenet_v2_035"])
def test_mobilenets_take_the_weights_for_224_otherwise(name, size, requested):
    backbone = get_backbone(name)
    as_keras_builds_it(backbone, size)
    assert requested == [backbone.weights_file_for(size)] == [backbone.weights_file_for((224, 224))]


def test_the_other_networks_have_one_file_for_all_sizes():
    backbone = get_backbone("resnet50")
    assert backbone.weights_file_for((64, 96)) == backbone.weights_file_for((224, 224))


def test_record_of_tiny_is_right():
    backbone = get_backbone("tiny")
    model = build_backbone(backbone, None, (backbone.min_image_size,) * 2, seed=0)
    assert backbone.is_bundled
    assert not backbone.is_keras_application
    assert model.count_params() == backbone.parameters
    assert (len(model.output_shape), backbone.ends_in) == (4, "map")


# --- names


def test_names_are_sorted_and_unique():
    names = list_backbones()
    assert names == sorted(set(names))
    assert {"tiny", "resnet50", "mobilenet_v2_035"} <= set(names)
    assert all(get_backbone(name).name == name for name in names)


def test_names_are_filtered_by_a_pattern():
    assert list_backbones("vgg*") == ["vgg16", "vgg19"]
    assert list_backbones("resnet?0") == ["resnet50"]
    assert list_backbones("nothing*") == []


def test_a_library_brings_networks_under_its_prefix(monkeypatch):
    class Shelf:
        def record(self, name):
            return dataclasses.replace(get_backbone("tiny"), name=f"shelf:{name}")

        def names(self):
            return ["small.one", "large.one", "small.two"]

    module = types.ModuleType("shelf_of_backbones")
    module.SOURCE = Shelf()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(backbones._SOURCES, "shelf", module.__name__)

    assert list_backbones("shelf:small*") == ["shelf:small.one", "shelf:small.two"]
    assert get_backbone("shelf:small.one").name == "shelf:small.one"
    assert get_backbone("shelf:small.one").plain_name == "shelf_small.one"
    photo = np.zeros((1, 40, 40, 3), np.uint8)
    features = CNNFeatureExtractor("shelf:small.one", image_size=32).fit_transform(photo)
    np.testing.assert_array_equal(features, CNNFeatureExtractor(image_size=32).fit_transform(photo))


@pytest.mark.parametrize("pattern", ["nowhere:*", "nowhere:resnet50"])
def test_an_unknown_library_is_refused(pattern):
    with pytest.raises(UnknownBackboneError, match="There is no library 'nowhere'"):
        list_backbones(pattern)


def test_networks_are_found_by_their_names_in_keras():
    for name in APPLICATIONS:
        backbone = get_backbone(name)
        function = backbone.builder.split(":")[1]
        assert get_backbone(function).builder == backbone.builder


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ResNet50", "resnet50"),
        ("RESNET-50", "resnet50"),
        ("EfficientNetV2B0", "efficientnet_v2_b0"),
        ("mobilenetv2", "mobilenet_v2"),
        ("Tiny", "tiny"),
    ],
)
def test_case_dashes_and_underscores_do_not_matter(spelling, name):
    assert get_backbone(spelling).name == name


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("resnet5", "resnet50"), ("moblenet", "mobilenet"), ("vgg-61", "vgg16")]
)
def test_error_of_an_unknown_name_proposes_the_nearest(wrong, nearest):
    with pytest.raises(UnknownBackboneError, match=rf"no backbone '{wrong}'.*'{nearest}'"):
        get_backbone(wrong)


@pytest.mark.parametrize("wrong", ["qqqqqq", "", None, 5])
def test_error_of_an_unlike_name_proposes_none(wrong):
    with pytest.raises(UnknownBackboneError, match=r"list_backbones\(\)") as caught:
        get_backbone(wrong)
    assert "did you mean" not in str(caught.value)


# --- records


@pytest.mark.parametrize("name", ["tiny", "mobilenet_v2_035", "resnet50"])
def test_records_compare_by_value(name):
    backbone = get_backbone(name)
    copied = pickle.loads(pickle.dumps(backbone))
    assert copied == backbone
    assert hash(copied) == hash(backbone)
    with pytest.raises(AttributeError):
        backbone.image_size = 1


def test_options_reach_the_builder():
    narrow, wide = (get_backbone(name) for name in ("mobilenet_v2_035", "mobilenet_v2_140"))
    assert dict(narrow.options) == {"alpha": 0.35}
    assert dict(wide.options) == {"alpha": 1.4}
    received = Backbone("any", lambda **arguments: arguments, options=(("alpha", 2),))
    assert received.build(input_shape=(1, 1, 3)) == {"alpha": 2, "input_shape": (1, 1, 3)}


def test_builder_names_can_be_imported():
    for name in list_backbones():
        module, function = get_backbone(name).builder.split(":")
        assert callable(getattr(importlib.import_module(module), function))


# --- registering


@pytest.mark.usefixtures("registry")
def test_registered_backbone_is_like_the_others():
    record = register_backbone("edges", edges, preprocessing="tf", image_size=32, min_image_size=8)
    assert get_backbone("Edges") is record
    assert "edges" in list_backbones()
    assert (record.image_size, record.min_image_size, record.preprocessing) == (32, 8, "tf")
    assert not record.is_keras_application
    assert not record.is_bundled
    assert record.weights_file_for((32, 32)) is None
    model = build_backbone(record, None, (16, 24), seed=0)
    assert model(np.zeros((1, 16, 24, 3))).shape == (1, 14, 22, 8)


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["resnet50", "ResNet-50", "tiny"])
def test_a_registered_name_cannot_be_registered_again(name):
    with pytest.raises(InvalidParameterError, match="already"):
        register_backbone(name, edges)


def edges_again(factor=1):
    """Define the function again, as a notebook cell does when it runs twice."""

    def edges(input_shape):
        inputs = keras.Input(input_shape)
        return keras.Model(inputs, keras.layers.Conv2D(8 * factor, 3)(inputs))

    return edges


class Builder:
    def __init__(self, units):
        self.units = units

    def __call__(self, input_shape):
        return edges_again(self.units)(input_shape)

    def build(self, input_shape):
        return self(input_shape)


SAME = {
    "function": lambda: edges_again(),
    "partial": lambda: functools.partial(edges_again(), input_shape=(8, 8, 3)),
    "object": lambda: Builder(2),
    "method": lambda: Builder(3).build,
    "enclosed": lambda: edges_again(2),
    "lambda": lambda: lambda input_shape: edges_again()(input_shape),
}


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("make", SAME.values(), ids=SAME)
def test_the_same_definition_may_be_registered_again(make):
    for spelling in ("mine", "Mine", "mine"):
        builder = make()
        record = register_backbone(spelling, builder, image_size=16)
        assert record.builder is builder
        assert get_backbone("mine") is record
    assert [name for name in list_backbones() if name.lower() == "mine"] == ["mine"]


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 24},
        {"preprocessing": "tf"},
        {"min_image_size": 4},
        {"builder": edges_again(2)},
        {"builder": edges},
        {"builder": Builder(1)},
        {"builder": functools.partial(edges_again())},
    ],
)
def test_error_of_a_second_definition_says_how_to_replace(changes):
    first = {"builder": edges_again(), "image_size": 16}
    before = register_backbone("mine", **first)
    with pytest.raises(InvalidParameterError, match=r"'mine' already.*overwrite=True\) to replace"):
        register_backbone("mine", **(first | changes))
    assert get_backbone("mine") is before
    after = register_backbone("mine", **(first | changes), overwrite=True)
    assert get_backbone("mine") is after


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("name", ["tiny", "VGG-16", "MobileNetV2"])
def test_backbones_of_the_package_are_never_replaced(name):
    before = get_backbone(name)
    with pytest.raises(InvalidParameterError, match="comes with this package and cannot"):
        register_backbone(name, edges, overwrite=True)
    assert get_backbone(name) is before


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preprocessing": "imagenet"}, "preprocessing must be one of .* Got 'imagenet'"),
        ({"builder": edges((8, 8, 3)).layers}, "builder must be callable. Got list"),
        ({"image_size": 16, "min_image_size": 32}, "image_size must be at least .* 32. Got 16"),
        ({"name": "--"}, "letter or digit.* Got '--'"),
        ({"name": "a/b"}, "without '/'. Got 'a/b'"),
    ],
)
def test_invalid_backbones_cannot_be_registered(arguments, message):
    before = list_backbones()
    with pytest.raises(InvalidParameterError, match=message):
        register_backbone(**({"name": "edges", "builder": edges} | arguments))
    assert list_backbones() == before
