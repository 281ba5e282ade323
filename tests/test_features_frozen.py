"""The prefix: it has an exact digest before it is built, and equal prefixes share a network."""

import copy
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import warnings
import weakref
from collections import OrderedDict
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from exactness import outputs_of
from keras import layers
from sklearn.base import clone

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.backbones import own
from transferclf.backbones import registry as backbones
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.registry import register_backbone
from transferclf.backbones.tiny import WIDTH
from transferclf.engines.openvino import OpenVinoEngine
from transferclf.exceptions import (
    InvalidParameterError,
    NetworkError,
    TransferclfWarning,
    UnknownBackboneError,
    WeightsError,
)
from transferclf.features import frozen as prefix
from transferclf.features.choosing import choose_prefix
from transferclf.features.frozen import FORWARDS_KEPT

DEFAULTS = {
    "weights": None,
    "image_size": 32,
    "preprocessing": "auto",
    "pooling": "avg",
    "layers": (),
    "seed": 0,
}


def choose(backbone="tiny", **changes):
    return choose_prefix(backbone, **(DEFAULTS | changes))


def own_model(shape=(16, 16, 3), scaled=True, pooled=False, units=4, name="own"):
    """Return a small functional network with fixed weights."""
    x = inputs = keras.Input(shape, name="images")
    if scaled:
        x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(units, 3, name="conv", kernel_initializer=keras.initializers.HeNormal(1))(x)
    x = layers.ReLU(name="relu")(x)
    if pooled:
        x = layers.GlobalMaxPooling2D(name="pooled")(x)
    return keras.Model(inputs, x, name=name)


def sequential():
    return keras.Sequential(own_model().layers, name="chain")


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype("uint8")


@pytest.fixture(autouse=True)
def _no_forwards():
    prefix._forwards.clear()


@pytest.fixture
def registry(monkeypatch):
    """Restore the registry after the test."""
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    own.registered_model.cache_clear()


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.weights.h5"
    choose(seed=7).network().save_weights(path)
    return path


# --- the digest


def test_digest_is_the_same_in_every_process_and_needs_no_keras(weights_file):
    cases = [{"weights": "pretrained"}, {}, {"weights": str(weights_file)}, {"layers": ("a", "b")}]
    code = f"""
        import sys
        from transferclf.features.choosing import choose_prefix
        for changes in {cases!r}:
            print(choose_prefix("tiny", **({DEFAULTS!r} | changes)).digest)
        assert not {{"keras", "tensorflow"}} & set(sys.modules), "Keras was imported"
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [choose(**changes).digest for changes in cases]


def test_every_parameter_changes_the_digest(weights_file):
    variants = [
        choose(),
        choose("mobilenet_v2_035"),
        choose("mobilenet_v2_050"),
        choose("resnet50"),
        choose(weights="pretrained"),
        choose(weights=weights_file),
        choose(seed=1),
        choose(image_size=48),
        choose(image_size=(32, 48)),
        choose(image_size=(48, 32)),
        choose(preprocessing="caffe"),
        choose(pooling="max"),
        choose(pooling="flatten"),
        choose(layers=("top_relu",)),
        choose(layers=("top_relu", "stem_relu")),
        choose(layers=("stem_relu", "top_relu")),
        choose(own_model()),
        choose(own_model(), image_size=None),
        choose(own_model(units=5)),
        choose(own_model(pooled=True)),
        choose(trainable_layers=1),
        choose(trainable_layers=2),
        choose(trainable_layers="all"),
        choose(trainable_layers="block3_unit2"),
        choose(precision="bfloat16", engine="tensorflow"),
        choose(precision="bfloat16", engine="openvino"),
        choose(precision="bfloat16", engine="openvino", trainable_layers=1),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)


def test_equivalent_parameters_give_equal_digests(weights_file):
    same = weights_file.with_name("same.weights.h5")
    same.write_bytes(weights_file.read_bytes())
    assert choose().digest == choose("Tiny", preprocessing="tf", image_size=(32, 32)).digest
    assert choose().digest == choose(image_size=np.int64(32), seed=np.int64(0)).digest
    assert choose(weights=weights_file).digest == choose(weights=str(same)).digest
    assert choose(weights="pretrained").digest == choose(weights="imagenet").digest
    assert choose(own_model()).digest == choose(own_model()).digest
    assert choose(engine="openvino").digest == choose(engine="keras").digest == choose().digest
    cut = choose(trainable_layers=1)
    assert cut.digest == choose(trainable_layers=1, pooling="max").digest
    assert cut.whole().digest == choose().digest


def test_the_digest_in_bfloat16_has_the_engine_that_computes(monkeypatch):
    large = {"precision": "bfloat16", "image_size": 128}
    by_name = {name: choose(engine=name, **large) for name in ("openvino", "tensorflow")}
    assert choose(**large).digest == by_name["openvino"].digest
    low = choose(precision="bfloat16")
    assert low.digest == choose(precision="bfloat16", engine="tensorflow").digest  # a small input
    # On another machine, without OpenVINO, "auto" is another engine.
    monkeypatch.setattr("transferclf.engines.engine.find_spec", lambda name: None)
    assert choose(**large).digest == by_name["tensorflow"].digest
    assert choose().digest == choose(engine="openvino").digest  # in float32


def test_the_engine_in_the_digest_runs_all_parts_in_bfloat16(monkeypatch):
    """Check the layers after the cut too, whose small input would be for another engine."""
    seen = []

    def compile_forward(model, engine, precision):
        seen.append((engine, precision))
        return SimpleNamespace(engine=engine)

    monkeypatch.setattr("transferclf.engines.forward.compile_forward", compile_forward)
    monkeypatch.setattr(prefix, "_forwards", OrderedDict())
    cut = choose(precision="bfloat16", image_size=128, trainable_layers="block4")
    cut.forward(), cut.tail_forward()
    assert seen == [("openvino", "bfloat16")] * 2


def test_the_engine_in_use_is_known_before_and_after_compiling(monkeypatch):
    monkeypatch.setattr(prefix, "_forwards", OrderedDict())
    monkeypatch.setattr(prefix, "_engines_used", {})
    tapped = choose(layers=("stem_relu",), weights="pretrained", image_size=128)
    assert tapped.engine_used == "openvino"
    assert choose().engine_used == "tensorflow"
    assert choose(engine="keras").engine_used == "keras"
    assert choose(ConvNet((4,))).engine_used == "keras"

    def unable(*_):
        raise NetworkError("no such operation")

    monkeypatch.setattr(OpenVinoEngine, "compile", unable)
    with pytest.warns(TransferclfWarning, match="'tiny' runs on engine='tensorflow'.*no such op"):
        tapped.forward()
    assert tapped.engine_used == "tensorflow"
    assert dataclasses.replace(tapped, trainable_layers="all").engine_used == "tensorflow"
    prefix._forwards.clear()  # another network took its place
    assert tapped.engine_used == "tensorflow"


@pytest.mark.parametrize("weights", ["pretrained", "file"])
def test_the_seed_does_not_change_the_digest_of_given_weights(weights, weights_file):
    weights = weights_file if weights == "file" else weights
    assert choose(weights=weights, seed=0).digest == choose(weights=weights, seed=1).digest


def test_one_changed_weight_changes_the_digest_of_an_own_model():
    model = own_model()
    before = choose(model).digest
    kernel = model.get_layer("conv").kernel
    kernel.assign(np.asarray(kernel) + np.eye(1, kernel.shape[-1]) * 1e-3)
    assert choose(model).digest != before


def test_digest_follows_the_content_of_a_file(tmp_path, weights_file):
    path = tmp_path / "tiny.weights.h5"
    path.write_bytes(weights_file.read_bytes())
    first = choose(weights=path).digest
    path.write_bytes(weights_file.read_bytes() + b"more")
    assert choose(weights=path).digest != first


def test_digest_follows_the_version_of_keras(monkeypatch):
    before = choose().digest
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    assert choose().digest != before


def test_the_digest_of_missing_weights_is_an_error(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.h5 cannot be read"):
        _ = choose(weights=tmp_path / "gone.h5").digest


@pytest.mark.parametrize("make", [lambda: "tiny", own_model, sequential])
def test_prefixes_can_be_pickled(make):
    original = choose(make(), image_size=None)
    copied = pickle.loads(pickle.dumps(original))
    assert copied.digest == original.digest
    images = pixels(2, *original.size, 3)
    expected = original.forward()(images)
    prefix._forwards.clear()
    np.testing.assert_array_equal(copied.forward()(images), expected)


def test_pickles_do_not_carry_the_digest():
    original = choose()
    _ = original.digest
    assert "digest" not in pickle.loads(pickle.dumps(original)).__dict__


def test_copies_of_a_model_share_its_digest():
    model = own_model()
    extractor = clone(CNNFeatureExtractor(model))
    assert extractor.backbone is not model
    assert choose(extractor.backbone).digest == choose(copy.deepcopy(model)).digest
    assert choose(extractor.backbone).digest == choose(model).digest


# --- the compiled network


def test_equal_prefixes_share_one_forward():
    assert choose().forward() is choose().forward()
    assert choose().forward() is not choose(seed=1).forward()


def test_the_least_recently_used_forwards_are_dropped(monkeypatch):
    monkeypatch.setattr(prefix, "FORWARDS_KEPT", FORWARDS_KEPT)
    models = [own_model(units=units) for units in range(1, FORWARDS_KEPT + 3)]
    prefixes = [choose(model, image_size=16) for model in models]
    first, second = prefixes[0].forward(), weakref.ref(prefixes[1].forward())
    for other in prefixes[1:]:
        other.forward()
        assert prefixes[0].forward() is first  # used each time, so it is kept
    assert len(prefix._forwards) == FORWARDS_KEPT
    assert prefixes[1].digest not in {key[0] for key in prefix._forwards}
    gc.collect()
    assert second() is None


def test_forward_gives_the_output_of_the_built_model():
    chosen = choose(image_size=(40, 32))
    images = pixels(3, 40, 32, 3)
    expected = chosen.build()(images.astype("float32"), training=False)
    np.testing.assert_allclose(chosen.forward()(images), expected, rtol=1e-4, atol=1e-5)


def test_forward_includes_the_preprocessing():
    model = own_model(scaled=False)
    images = pixels(2, 16, 16, 3)
    for mode in ("tf", "caffe", "torch"):
        forward = choose(model, image_size=16, preprocessing=mode).forward()
        scaled = keras.applications.imagenet_utils.preprocess_input(
            images.astype("float32"), mode=mode
        )
        expected = np.mean(model(scaled), axis=(1, 2))
        np.testing.assert_allclose(forward(images), expected, rtol=1e-4, atol=1e-4)


def test_a_changed_network_raises_an_error():
    model = own_model()
    chosen = choose(model, image_size=16)
    chosen.forward()
    model.get_layer("conv").kernel.assign(0 * model.get_layer("conv").kernel)
    prefix._forwards.clear()
    with pytest.raises(NetworkError, match="'own' are not those that it was fitted with"):
        chosen.forward()


def test_a_frozen_or_compiled_network_is_accepted():
    model = own_model()
    chosen = choose(model, image_size=16)
    _ = chosen.digest
    model.trainable = False
    model.compile("adam", "mse")
    assert chosen.build().output_shape == (None, 4)


# --- the built model


def names_in(model):
    return [operation.name for operation in model.operations]


def test_built_model_is_flat_and_starts_at_pixels():
    model = choose().build()
    assert model.name == "tiny"
    assert model.input_shape == (None, 32, 32, 3)
    assert names_in(model)[:3] == ["pixels", "scale_pixels", "stem_conv"]
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)


def test_nested_models_become_flat_and_their_layers_can_be_tapped():
    inner = own_model(scaled=False, name="inner")
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(2.0), inner], name="outer")
    built = choose(model, image_size=16).build()
    assert {"conv", "relu"} <= set(names_in(built))
    assert not any(isinstance(layer, keras.Model) for layer in built.layers)
    tapped = choose(model, image_size=16, layers=("conv",)).build()
    assert "relu" not in names_in(tapped)


def test_nested_models_with_equal_layer_names_raise_an_error():
    parts = [own_model((None, None, 3), False, units=3, name=name) for name in ("one", "two")]
    model = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(2.0), *parts], name="both")
    with pytest.raises(NetworkError, match=r"'both' cannot be made one flat model.*conv"):
        choose(model, image_size=16).build()


@pytest.mark.slow
def test_several_layers_give_features_side_by_side():
    names = ("stem_relu", "block2_unit1_relu2", "top_relu")
    images = pixels(2, 32, 32, 3)
    together = choose(layers=names)
    parts = [choose(layers=(name,)) for name in names]
    assert together.widths() == [part.widths()[0] for part in parts]
    assert len(set(together.widths())) == 3
    expected = np.concatenate([part.forward()(images) for part in parts], axis=1)
    np.testing.assert_allclose(together.forward()(images), expected, rtol=1e-5, atol=1e-6)


def test_last_layer_is_the_output():
    images = pixels(2, 32, 32, 3)
    np.testing.assert_array_equal(
        choose(layers=("top_levels",)).forward()(images), choose().forward()(images)
    )
    assert choose().widths() == [WIDTH]


def test_layers_with_vectors_and_maps_are_tapped():
    chosen = choose(own_model(pooled=True), image_size=16, layers=("conv", "pooled"))
    assert chosen.widths() == [4, 4]
    chosen = choose(own_model(), image_size=16, pooling="flatten", layers=("relu", "conv"))
    assert chosen.widths() == [14 * 14 * 4] * 2


def test_layers_used_elsewhere_are_tapped_in_this_network():
    model = own_model((None, None, 3))
    images = pixels(2, 16, 16, 3)
    before = choose(model, image_size=16, layers=("relu",)).forward()(images)
    model.get_layer("relu")(keras.Input((3, 3, 4)))
    prefix._forwards.clear()
    after = choose(model, image_size=16, layers=("relu",)).forward()(images)
    np.testing.assert_array_equal(before, after)


def test_the_error_for_an_unknown_layer_proposes_the_nearest():
    with pytest.raises(NetworkError, match=r"layer='top_rel' is no layer of 'tiny'.*'top_relu'"):
        choose(layers=("stem_relu", "top_rel")).build()
    with pytest.raises(NetworkError, match=r"layer='zzz' is no layer of 'own'.*'relu'"):
        choose(own_model(), image_size=16, layers=("zzz",)).widths()


# --- networks of the user's own


@pytest.mark.parametrize("make", [own_model, sequential], ids=["functional", "sequential"])
def test_own_models_are_used(make):
    model = make()
    chosen = choose(model, image_size=None)
    images = pixels(3, 16, 16, 3)
    assert chosen.size == (16, 16)
    expected = np.mean(model(images.astype("float32")), axis=(1, 2))
    np.testing.assert_allclose(chosen.forward()(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "image_size", "size"),
    [
        ((16, 24, 3), None, (16, 24)),
        ((None, None, 3), None, (224, 224)),
        ((None, 24, 3), None, (24, 24)),
        ((None, None, 3), 20, (20, 20)),
        ((None, None, 3), [20, 30], (20, 30)),
    ],
)
def test_own_models_set_the_image_size(shape, image_size, size):
    chosen = choose(own_model(shape), image_size=image_size)
    assert chosen.size == size
    assert chosen.build().input_shape == (None, *size, 3)


def test_the_size_must_equal_a_fixed_input_size():
    with pytest.raises(NetworkError, match=r"\(None, 20, 20, 3\).*\(None, 16, 16, 3\).*image_size"):
        choose(own_model(), image_size=20).build()


def test_pooled_outputs_are_not_pooled_again():
    model = own_model(pooled=True)
    images = pixels(2, 16, 16, 3)
    expected = model(images.astype("float32"))
    for pooling in ("avg", "flatten"):
        forward = choose(model, image_size=None, pooling=pooling).forward()
        np.testing.assert_allclose(forward(images), expected, rtol=1e-5, atol=1e-6)


def test_the_model_is_not_changed():
    model = own_model()
    model.get_layer("conv").trainable = False
    config, before = model.to_json(), model.get_weights()
    nodes = len(model._nodes)
    choose(model, image_size=16).forward()(pixels(1, 16, 16, 3))
    assert model.to_json() == config
    assert len(model._nodes) == nodes
    assert model.get_layer("relu").trainable
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def two_inputs():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], layers.Add()([a, b]), name="mine")


def own_rows():
    inputs = keras.Input((9,))
    return keras.Model(inputs, layers.Dense(2)(inputs), name="mine")


class Subclassed(keras.Model):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: own_model((16, 16, 1), name="mine"), r"RGB images .*'mine'.*16, 16, 1"),
        (lambda: own_model((16, 16, 4), name="mine"), r"RGB images .*'mine'.*16, 16, 4"),
        (two_inputs, "one input, of images .*'mine' with 2 inputs"),
        (lambda: Subclassed(name="mine"), "functional or built sequential .* Subclassed 'mine'"),
        (lambda: keras.Sequential([layers.Conv2D(2, 3)], name="mine"), "built .* 'mine'"),
        (own_rows, r"RGB images .*'mine' with input \(None, 9\)"),
    ],
    ids=["1 channel", "4 channels", "2 inputs", "subclassed", "unbuilt", "vectors"],
)
def test_unusable_models_are_refused(make, message):
    with pytest.raises(NetworkError, match=message):
        choose(make())


@pytest.mark.parametrize("backbone", [None, 5, own_model, object()])
def test_backbones_must_be_names_or_models(backbone):
    with pytest.raises(InvalidParameterError, match=r"list_backbones\(\) or a keras.Model"):
        choose(backbone)


def test_unknown_names_raise_an_error():
    with pytest.raises(UnknownBackboneError, match="'resnet50'"):
        choose("resnet5")


# --- warning about unscaled pixels


def test_unscaled_pixels_give_a_warning():
    with pytest.warns(TransferclfWarning, match="'own' gets pixels from 0 to 255 as they are"):
        chosen = choose(own_model(scaled=False))
    assert chosen.preprocessing == "none"


def by_preprocess_input(module):
    inputs = keras.Input((16, 16, 3))
    scaled = module.preprocess_input(inputs)
    return keras.Model(inputs, layers.Conv2D(2, 3)(scaled))


def by_nested_model():
    scaling = keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 255)])
    return keras.Sequential([keras.Input((16, 16, 3)), scaling, own_model(scaled=False)])


@pytest.mark.parametrize(
    "make",
    [
        own_model,
        sequential,
        by_nested_model,
        lambda: by_preprocess_input(keras.applications.mobilenet_v2),
        lambda: by_preprocess_input(keras.applications.vgg16),
        lambda: by_preprocess_input(keras.applications.densenet),
    ],
    ids=["functional", "sequential", "nested", "tf", "caffe", "torch"],
)
def test_networks_that_scale_their_pixels_give_no_warning(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choose(make())


@pytest.mark.parametrize("preprocessing", ["none", "tf", "caffe", "torch"])
def test_explicit_preprocessing_gives_no_warning(preprocessing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose(own_model(scaled=False), preprocessing=preprocessing).digest


def test_addition_and_a_norm_do_not_count_as_scaling():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(3, 1)(inputs)
    model = keras.Model(inputs, layers.Add()([layers.BatchNormalization()(x), inputs]))
    with pytest.warns(TransferclfWarning):
        choose(model)


# --- the other parameters


@pytest.mark.parametrize(
    "image_size",
    [31, 0, -5, (32, 31), (32,), (32, 32, 3), 32.0, "32", True, np.ones(2), (32, None)],
)
def test_invalid_sizes_are_refused(image_size):
    with pytest.raises(InvalidParameterError, match=r"image_size .* at least 32 .*'tiny'. Got"):
        choose(image_size=image_size)


def test_true_is_refused_as_a_size():
    with pytest.raises(InvalidParameterError, match="at least 1 for backbone 'own'. Got True"):
        choose(own_model((None, None, 3)), image_size=True)


@pytest.mark.parametrize(
    ("image_size", "size"), [(None, (96, 96)), (np.int64(40), (40, 40)), ([32, 48], (32, 48))]
)
def test_valid_sizes_are_accepted(image_size, size):
    assert choose(image_size=image_size).size == size


def test_preprocessing_is_that_of_the_backbone_or_the_parameter():
    assert choose("vgg16").preprocessing == "caffe"
    assert choose("vgg16", preprocessing="tf").preprocessing == "tf"
    with pytest.raises(InvalidParameterError, match="Got 'imagenet' instead"):
        choose("vgg16", preprocessing="imagenet")


def test_path_of_weights_is_absolute(weights_file, monkeypatch):
    monkeypatch.chdir(weights_file.parent)
    monkeypatch.setenv("HOME", str(weights_file.parent))
    assert choose(weights=weights_file.name).weights == weights_file
    assert choose(weights=f"~/{weights_file.name}").weights == weights_file


@pytest.mark.parametrize("weights", [5, True, ["pretrained"], np.ones(2)])
def test_weights_of_another_type_are_refused(weights):
    with pytest.raises(InvalidParameterError, match="weights must be 'pretrained'"):
        choose(weights=weights)


def test_weights_from_a_file_are_used(weights_file):
    images = pixels(2, 32, 32, 3)
    np.testing.assert_array_equal(
        choose(weights=weights_file).forward()(images), choose(seed=7).forward()(images)
    )


@pytest.mark.parametrize("weights", ["pretrained", None])
def test_own_models_keep_their_weights(weights):
    assert choose(own_model(), weights=weights).digest == choose(own_model()).digest


def test_a_weights_file_for_an_own_model_is_refused(weights_file):
    with pytest.raises(InvalidParameterError, match="'own' brings its own weights"):
        choose(own_model(), weights=weights_file)


# --- registered networks


@pytest.mark.usefixtures("registry")
def test_registered_networks_are_built_once():
    built = []

    def builder(input_shape):
        built.append(input_shape)
        x = inputs = keras.Input(input_shape)
        return keras.Model(inputs, layers.Conv2D(4, 3)(x))  # random weights

    register_backbone("mine", builder, preprocessing="tf", image_size=16)
    first, second = choose("mine", image_size=None), choose("Mine", image_size=16)
    assert first.digest == second.digest
    assert built == [(16, 16, 3)]
    assert first.preprocessing == "tf"
    assert first.build().name == "mine"
    assert pickle.loads(pickle.dumps(first)).digest == first.digest
    assert choose("mine", image_size=20).digest != first.digest
    with pytest.raises(InvalidParameterError, match="'mine' brings its own weights"):
        choose("mine", weights="file.h5")


@pytest.mark.usefixtures("registry")
def test_a_builder_registered_again_is_called_again():
    units = 4

    def register():
        def builder(input_shape):
            return own_model(input_shape, units=units)

        register_backbone("mine", builder, image_size=16, overwrite=True)

    register()
    first = choose("mine", image_size=16)
    units = 5
    assert choose("mine", image_size=16).digest == first.digest
    register()
    assert choose("mine", image_size=16).digest != first.digest
    assert choose("mine", image_size=16).forward()(pixels(1, 16, 16, 3)).shape == (1, 5)


@pytest.mark.usefixtures("registry")
def test_registered_builders_must_return_a_model():
    register_backbone("mine", lambda input_shape: "a model")
    with pytest.raises(InvalidParameterError, match=r"builder of backbone 'mine' .* Got str"):
        choose("mine")


def model_with(code):
    """Return a model; two of them differ only in the effect of `code`."""
    import keras

    inputs = keras.Input((32, 32, 3), name="in")
    x = code(inputs)
    maps = keras.layers.Conv2D(4, 3, kernel_initializer="ones", name="conv")(x)
    return keras.Model(inputs, maps, name="same")


def lambdas(factor):
    import keras

    return keras.layers.Lambda(lambda x: x * factor, name="code")


def own_layers(factor):
    import keras

    class Own(keras.layers.Layer):
        def call(self, x):
            return x * factor

    return Own(name="code")


def own_activations(factor):
    import keras

    def own(x):
        return x * factor

    return keras.layers.Activation(own, name="code")


@pytest.mark.parametrize("kind", [lambdas, own_layers, own_activations])
def test_models_with_other_python_code_give_other_features(kind, rng):
    from transferclf import CNNFeatureExtractor

    images = rng.integers(1, 256, (2, 32, 32, 3), dtype=np.uint8)
    once, five = (
        CNNFeatureExtractor(model_with(kind(factor)), preprocessing="none").fit_transform(images)
        for factor in (1.0, 5.0)
    )
    np.testing.assert_allclose(five, 5 * once, rtol=1e-4)


def named_like_keras_own(factor):
    """Return a function with the name of a Keras function; Keras describes functions by name."""
    import keras

    def relu(x):
        return x * factor

    return keras.layers.Activation(relu, name="code")


def another_method(factor):
    import keras

    layer = keras.layers.Rescaling(1.0, name="code")
    layer.call = lambda x: x * factor
    return layer


@pytest.mark.parametrize("kind", [named_like_keras_own, another_method])
def test_functions_with_equal_descriptions_give_other_features(kind, rng):
    images = rng.integers(1, 256, (2, 32, 32, 3), dtype=np.uint8)
    once, five = (
        CNNFeatureExtractor(model_with(kind(factor)), preprocessing="none").fit_transform(images)
        for factor in (1.0, 5.0)
    )
    np.testing.assert_allclose(five, 5 * once, rtol=1e-4)


@pytest.mark.slow
def test_a_saved_model_exported_again_to_the_same_path_gives_other_features(tmp_path, rng):
    images = rng.integers(1, 256, (2, 32, 32, 3), dtype=np.uint8)
    features, classifiers = [], []
    for factor in (1.0, 5.0):
        inputs = keras.Input((32, 32, 3))
        inner = keras.Model(inputs, layers.Rescaling(factor)(inputs))
        inner.export(tmp_path / "exported", format="tf_saved_model", verbose=False)
        layer = layers.TFSMLayer(str(tmp_path / "exported"), call_endpoint="serve")
        inputs = keras.Input((32, 32, 3), name="in")
        maps = layers.Conv2D(4, 3, kernel_initializer="ones", name="conv")(layer(inputs))
        model = keras.Model(inputs, maps, name="same")
        features.append(CNNFeatureExtractor(model, preprocessing="none").fit_transform(images))
        # The model that was loaded first still gives its first output.
        classifiers.append(TransferClassifier(model, preprocessing="none").fit(images, [0, 1]))
    np.testing.assert_allclose(features[1], 5 * features[0], rtol=1e-4)
    for classifier in classifiers:
        got = outputs_of(classifier.model_, images)
        np.testing.assert_allclose(got, classifier.predict_proba(images), atol=1e-5)


@pytest.mark.slow
def test_weights_replaced_on_disk_are_noticed(tmp_path, rng):
    import shutil

    from transferclf import CNNFeatureExtractor
    from transferclf.backbones.registry import get_backbone
    from transferclf.backbones.weights import build_backbone
    from transferclf.features import frozen as prefixes

    images = rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    file = tmp_path / "some.weights.h5"
    for seed in (1, 2):
        model = build_backbone(get_backbone("tiny"), None, (32, 32), seed)
        model.save_weights(file)
        shutil.copy(file, tmp_path / f"{seed}.weights.h5")
    extractor = CNNFeatureExtractor("tiny", weights=file, image_size=32).fit(images[:1])
    shutil.copy(tmp_path / "1.weights.h5", file)
    prefixes._forwards.clear()
    with pytest.raises(NetworkError, match="not those that it was fitted with"):
        extractor.transform(images)
    with pytest.raises(NetworkError, match="not those that it was fitted with"):
        pickle.loads(pickle.dumps(extractor)).transform(images)
    shutil.copy(tmp_path / "2.weights.h5", file)
    assert extractor.transform(images).shape == (2, WIDTH)
