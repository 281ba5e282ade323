"""Networks in ONNX files as frozen backbones: values, choices, keys, errors."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_helpers import (
    CHANNELS,
    CLASSES,
    KERNEL,
    TOP,
    constant,
    maps_of,
    save,
    small_network,
    with_external_data,
)
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from transferclf import (
    CNNFeatureExtractor,
    FeatureStore,
    OnnxBackbone,
    Preprocessing,
    TransferClassifier,
    load_model,
    save_model,
)
from transferclf.backbones.onnx_reader import read_onnx
from transferclf.engines import engine as engines
from transferclf.engines.onnx_network import OnnxNetwork
from transferclf.exceptions import (
    InvalidParameterError,
    NetworkError,
    TransferclfWarning,
    WeightsError,
)
from transferclf.features.choosing import choose_prefix
from transferclf.reports.experiments.values import described

SIDE = 16
LABELS = np.repeat(["dark", "green", "red"], 4)
ENGINES = ["openvino", "onnxruntime"]
node = helper.make_node


def coloured_images():
    """Dark, green and red images, with noise."""
    colours = np.repeat([[30, 30, 30], [30, 200, 30], [200, 30, 30]], 4, axis=0)
    noise = np.random.default_rng(0).integers(0, 40, (len(LABELS), SIDE, SIDE, 3))
    return (colours[:, None, None] + noise).astype(np.uint8)


IMAGES = coloured_images()
MAPS = maps_of(IMAGES / 255)
MEANS = MAPS.mean(axis=(1, 2))


def extractor(path, pooling="auto", engine="auto", cache=None, image_size=SIDE, **options):
    network = OnnxBackbone(path, **({"preprocessing": "rescale"} | options))
    return CNNFeatureExtractor(
        network, image_size=image_size, pooling=pooling, engine=engine, cache=cache
    )


def features(path, **options):
    return extractor(path, **options).fit_transform(IMAGES)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


# --- values


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "NHWC"},
        {"size": (SIDE, SIDE)},
        {"batch": 1},
        {"batch": 5, "layout": "NHWC"},
    ],
)
def test_features_are_those_of_numpy(path, engine, options):
    small_network(path, **options)
    np.testing.assert_allclose(features(path, engine=engine), MEANS, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_float16(path, engine):
    small_network(path, element="float16")
    np.testing.assert_allclose(features(path, engine=engine), MEANS, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_network_of_whole_pixels(path, engine):
    small_network(path, element="uint8", layout="NHWC")
    found = features(path, engine=engine, preprocessing="none")
    np.testing.assert_allclose(found, 255 * MEANS, rtol=1e-5, atol=1e-4)
    # Pixels between two numbers are rounded, and not cut off.
    bright = extractor(path, engine=engine, preprocessing="none")
    images = np.full((1, SIDE, SIDE, 3), 100.6)
    expected = maps_of(np.full((1, SIDE, SIDE, 3), 101.0)).mean(axis=(1, 2))
    np.testing.assert_allclose(bright.fit_transform(images), expected, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_each_output_can_be_chosen(path, engine):
    small_network(path, ends=("scores", "tokens"))
    patches = MAPS.reshape(len(MAPS), -1, CHANNELS)
    expected = {
        ("scores", "auto"): MEANS @ TOP,
        ("tokens", "max"): patches.max(axis=1),
        ("tokens", "flatten"): patches.reshape(len(MAPS), -1),
        ("tokens", "cls"): patches[:, 0],
        # These are no outputs of the file.
        ("first_maps", "max"): MAPS.max(axis=(1, 2)),
        ("first_maps", "flatten"): MAPS.reshape(len(MAPS), -1),
        ("rows", "auto"): MEANS,
    }
    for (output, pooling), values in expected.items():
        found = features(path, output=output, pooling=pooling, engine=engine)
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5, err_msg=output)


def test_class_tokens_and_registers_are_left_out(path):
    small_network(path, ends=("tokens",))
    found = features(path, cls_tokens=1, other_tokens=2)
    patches = MAPS.reshape(len(MAPS), -1, CHANNELS)[:, 3:]
    np.testing.assert_allclose(found, patches.mean(axis=1), rtol=1e-5, atol=1e-6)


def test_maps_may_have_another_layout_than_the_input(path):
    small_network(path, ends=("last_maps",))
    flat = MAPS.reshape(len(MAPS), -1)
    np.testing.assert_allclose(features(path, pooling="flatten"), flat, rtol=1e-4, atol=1e-5)
    # Maps of as many channels as rows look the same in both layouts; the user can say it.
    side = 2 * CHANNELS
    images = IMAGES[:, :side, :side]
    network = extractor(path, "flatten", image_size=side)
    expected = maps_of(images / 255)
    for map_layout, axes in (
        ("NHWC", (0, 1, 2, 3)),
        ("NCHW", (0, 2, 3, 1)),
        ("auto", (0, 2, 3, 1)),
    ):
        found = network.set_params(backbone__map_layout=map_layout).fit_transform(images)
        values = expected.transpose(axes).reshape(len(images), -1)
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_images_that_are_no_squares(path, engine):
    small_network(path, layout="NHWC", size=(8, 12))
    network = extractor(path, engine=engine, image_size=None).fit(IMAGES)
    assert network.prefix_.size == (8, 12)
    cut = IMAGES[:, :8, :12]
    expected = maps_of(cut / 255).mean(axis=(1, 2))
    np.testing.assert_allclose(network.transform(cut), expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """The bundled network with its scaling, as ONNX."""
    from transferclf.engines.onnxruntime import onnx_model
    from transferclf.engines.tracing import traced

    tiny = CNNFeatureExtractor("tiny", image_size=32).fit(IMAGES)
    file = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    onnx.save(onnx_model(traced(tiny.prefix_.build())), file)
    return file


@pytest.mark.parametrize("engine", ENGINES)
def test_an_exported_network_has_the_features_of_keras(tiny_file, engine):
    expected = CNNFeatureExtractor("tiny", image_size=32, cache=None).fit_transform(IMAGES)
    options = {"preprocessing": "none", "layout": "NHWC", "image_size": 32}
    found = features(tiny_file, engine=engine, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


# --- rows do not depend on their company


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_does_not_depend_on_its_company(path, engine):
    small_network(path, batch=5)
    network = extractor(path, engine=engine).fit(IMAGES)
    together = network.transform(IMAGES)
    alone = np.vstack([network.transform(IMAGES[i : i + 1]) for i in range(len(IMAGES))])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-6)


def scaled_by_the_batch(path, batch):
    before = [
        node("DynamicQuantizeLinear", ["pixels"], ["q", "scale", "zero"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["started"]),
    ]
    return small_network(path, batch=batch, before=before)


def test_a_network_that_scales_by_the_batch_gets_one_image_at_a_time(path):
    scaled_by_the_batch(path, "n")
    network = extractor(path, engine="onnxruntime").fit(IMAGES)
    assert network.prefix_.backbone.batch == 1
    alone = np.vstack([network.transform(IMAGES[i : i + 1]) for i in range(len(IMAGES))])
    np.testing.assert_allclose(network.transform(IMAGES), alone, rtol=1e-6)
    scaled_by_the_batch(path, 4)
    with pytest.raises(NetworkError, match="scales the values of 4 images together"):
        extractor(path).fit(IMAGES)


# --- the file


def test_a_path_is_enough(path):
    small_network(path, size=(SIDE, SIDE))
    for backbone in (str(path), path):
        network = CNNFeatureExtractor(backbone, cache=None)
        with pytest.warns(TransferclfWarning, match=r"'network.onnx' gets pixels from 0 to 255"):
            found = network.fit_transform(IMAGES)
        np.testing.assert_allclose(found, 255 * MEANS, rtol=1e-5, atol=1e-4)
    network = CNNFeatureExtractor(str(path), preprocessing="rescale", cache=None).fit(IMAGES)
    np.testing.assert_allclose(network.transform(IMAGES), MEANS, rtol=1e-5, atol=1e-6)
    names = network.get_feature_names_out()
    assert names.tolist() == [f"network.onnx_avg_{i}" for i in range(CHANNELS)]


def test_old_files_name_their_weights_among_the_inputs(path):
    model = onnx.load(small_network(path))
    kinds = {"kernel": (1, KERNEL.shape), "top": (1, TOP.shape), "flat": (7, (3,))}
    for name, (kind, shape) in kinds.items():
        model.graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.save(model, path)
    for engine in ENGINES:
        np.testing.assert_allclose(features(path, engine=engine), MEANS, rtol=1e-5, atol=1e-6)


def test_weights_in_another_file(path):
    with_external_data(path)
    assert [file.name for file in read_onnx(path).files] == ["network.onnx", "weights.bin"]
    for engine in ENGINES:
        np.testing.assert_allclose(features(path, engine=engine), MEANS, rtol=1e-5, atol=1e-6)


@pytest.mark.newest  # older versions of ONNX Runtime cannot
def test_weights_in_another_file_of_a_chosen_output(path):
    with_external_data(path, ends=("scores",))
    for engine in ENGINES:
        found = features(path, engine=engine, output="rows")
        np.testing.assert_allclose(found, MEANS, rtol=1e-5, atol=1e-6)


def test_the_reader_agrees_with_the_package_onnx(path, tiny_file):
    with_external_data(path, ends=("scores", "tokens"), batch=3, size=(8, "w"))
    for file in (path, tiny_file):
        facts, graph = read_onnx(file), onnx.load(file, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        for values, infos in ((facts.inputs, graph.input), (facts.outputs, graph.output)):
            infos = [info for info in infos if info.name not in constants]
            assert [value.name for value in values] == [info.name for info in infos]
            for value, info in zip(values, infos, strict=True):
                dims = info.type.tensor_type.shape.dim
                assert value.shape == tuple(dim.dim_value or None for dim in dims)
        assert facts.operators == {node.op_type for node in graph.node}
        assert facts.weights >= constants
        made = {name for node in graph.node for name in node.output}
        assert set(facts.inner) == made - {info.name for info in graph.output}


# --- keys


def prefix_of(path, **options):
    return choose_prefix(
        OnnxBackbone(path, **({"preprocessing": "rescale"} | options)),
        weights="pretrained", image_size=SIDE, preprocessing="auto", pooling="avg", layers=(),
        seed=0,
    )  # fmt: skip


def test_the_key_follows_the_content(tmp_path, path):
    with_external_data(path, ends=("scores", "rows"))
    digest = prefix_of(path, output="rows").digest
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(path, moved / "renamed.onnx")
    shutil.copy(tmp_path / "weights.bin", moved)
    assert prefix_of(moved / "renamed.onnx", output="rows").digest == digest
    others = [
        {"output": "scores"},
        {"output": "tokens"},
        {"output": "rows", "map_layout": "NHWC"},
        {"output": "rows", "cls_tokens": 1},
        {"output": "rows", "other_tokens": 1},
        {"output": "rows", "preprocessing": "none"},
    ]
    digests = {digest, *(prefix_of(path, **options).digest for options in others)}
    assert len(digests) == 1 + len(others)
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[0] ^= 1
    (tmp_path / "weights.bin").write_bytes(content)
    assert prefix_of(path, output="rows").digest not in digests


def test_the_key_of_a_network_that_rounds_contains_the_engine(path, tmp_path):
    def digests(network):
        found = set()
        for engine in ENGINES:
            fitted = extractor(network, engine=engine).fit(IMAGES[:1])
            found.add(fitted.prefix_.digest)
        return found

    assert len(digests(small_network(path))) == 1
    assert len(digests(small_network(tmp_path / "half.onnx", element="float16"))) == 2


def test_an_experiment_is_named_by_the_content(path, tmp_path):
    with_external_data(path)
    first = described(TransferClassifier(path), "classifier")
    assert described(TransferClassifier(OnnxBackbone(str(path))), "classifier") == first
    other = OnnxBackbone(path, cls_tokens=1)
    assert described(TransferClassifier(other), "classifier") != first
    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[::-1])
    assert described(TransferClassifier(path), "classifier") != first


COUNTED = """
import sys
import numpy as np
from transferclf import CNNFeatureExtractor, OnnxBackbone
from transferclf.engines.forward import Forward
seen = []
call = Forward.__call__
Forward.__call__ = lambda self, images: (seen.append(len(images)), call(self, images))[1]
extractor = CNNFeatureExtractor(
    OnnxBackbone(sys.argv[1], preprocessing="rescale"), image_size=16, cache=sys.argv[2]
)
np.save(sys.argv[4], extractor.fit_transform(np.load(sys.argv[3])))
print(sum(seen), "openvino" in sys.modules, "onnxruntime" in sys.modules)
"""


def test_no_image_goes_through_the_network_twice(path, tmp_path, monkeypatch, in_another_process):
    small_network(path)
    np.save(tmp_path / "images.npy", IMAGES)
    network = extractor(path, cache=tmp_path / "store").fit(IMAGES)
    first = network.transform(IMAGES)
    # A later run, with the same network at another place. It needs no engine at all.
    moved = shutil.move(path, tmp_path / "moved.onnx")
    places = (moved, tmp_path / "store", tmp_path / "images.npy", tmp_path / "features.npy")
    assert in_another_process(COUNTED, *places).strip() == "0 False False"
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), first)
    shutil.move(moved, path)

    def never(*arguments):
        raise AssertionError("the network was built again")

    monkeypatch.setattr(OnnxNetwork, "function", never)
    again = clone(network).set_params(cache=FeatureStore(tmp_path / "store"))
    np.testing.assert_array_equal(again.fit_transform(IMAGES), first)


def test_a_changed_file_is_an_error(path, tmp_path):
    small_network(path)
    network = extractor(path).fit(IMAGES)
    classifier = TransferClassifier(network.backbone, image_size=SIDE).fit(IMAGES, LABELS)
    from transferclf.features import frozen

    frozen._forwards.clear()  # as in another process
    small_network(path, layout="NHWC")
    for predict in (network.transform, classifier.predict):
        with pytest.raises(NetworkError, match="weights of 'network.onnx' are not those"):
            predict(255 - IMAGES)
    path.unlink()
    for predict in (network.transform, classifier.predict):
        with pytest.raises(WeightsError, match="There is no ONNX file"):
            predict(255 - IMAGES)


# --- the classifier


WITHOUT_KERAS = """
import pickle
import sys
import numpy as np
from transferclf import CNNFeatureExtractor, OnnxBackbone, TransferClassifier
heavy = {"keras", "tensorflow", "onnx", "tf2onnx", "onnxruntime"}
images, labels = np.load(sys.argv[2]), np.repeat(["dark", "green", "red"], 4)
network = OnnxBackbone(sys.argv[1], preprocessing="rescale")
CNNFeatureExtractor(network, image_size=16, cache=None).fit_transform(images)
classifier = TransferClassifier(network, image_size=16).fit(images[::2], labels[::2])
assert classifier.predict(images).tolist() == labels.tolist()
scores = classifier.predict_proba(images)
assert np.array_equal(pickle.loads(pickle.dumps(classifier)).predict_proba(images), scores)
print(heavy & set(sys.modules))
"""


def test_neither_keras_nor_tensorflow_is_imported(path, tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    small_network(path)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERAS, path, tmp_path / "images.npy"],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "set()", done.stderr


def test_a_classifier_is_fitted_saved_and_loaded(path, tmp_path):
    small_network(path)
    network = OnnxBackbone(path, preprocessing=Preprocessing(scale=1 / 255))
    classifier = TransferClassifier(network, image_size=SIDE)
    assert cross_val_score(classifier, IMAGES, LABELS, cv=2).tolist() == [1.0, 1.0]
    classifier.fit(IMAGES, LABELS)
    np.testing.assert_allclose(classifier.prefix_.map_shape(), (SIDE // 2, SIDE // 2, CHANNELS))
    save_model(classifier, tmp_path / "model")
    assert str(tmp_path).encode() not in (tmp_path / "model").read_bytes()
    with pytest.raises(InvalidParameterError, match=r"load_model\(path, backbone='network.onnx'\)"):
        load_model(tmp_path / "model")
    moved = shutil.move(path, tmp_path / "moved.onnx")
    for backbone in (moved, Path(moved), OnnxBackbone(moved, preprocessing="torch")):
        loaded = load_model(tmp_path / "model", backbone=backbone)
        expected = classifier.predict_proba(IMAGES)
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES), expected)
        assert loaded.backbone == backbone
    small_network(moved, ends=("rows",))
    with pytest.raises(InvalidParameterError, match="with other weights or other features"):
        load_model(tmp_path / "model", backbone=moved)


def test_hidden_layers_on_an_onnx_file(path):
    small_network(path)
    classifier = TransferClassifier(
        OnnxBackbone(path, preprocessing="rescale"),
        image_size=SIDE, hidden_units=(8,), epochs=60, learning_rate=0.05, random_state=0,
    )  # fmt: skip
    assert classifier.fit(IMAGES, LABELS).score(IMAGES, LABELS) > 0.9


def test_layers_and_a_keras_model_are_refused(path):
    small_network(path)
    network = OnnxBackbone(path, preprocessing="rescale")
    for options in ({"trainable_layers": 1}, {"trainable_layers": "all"}):
        classifier = TransferClassifier(network, image_size=SIDE, **options)
        with pytest.raises(InvalidParameterError, match="trainable_layers needs a .*Keras model"):
            classifier.fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match=r"layer needs a backbone .*output="):
        CNNFeatureExtractor(network, image_size=SIDE, layer="maps").fit(IMAGES)
    with pytest.raises(InvalidParameterError, match=r"'network.onnx' brings its own weights"):
        CNNFeatureExtractor(network, image_size=SIDE, weights="other.h5").fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="engine='keras' cannot run a backbone"):
        CNNFeatureExtractor(network, image_size=SIDE, engine="keras").fit(IMAGES)
    classifier = TransferClassifier(network, image_size=SIDE).fit(IMAGES, LABELS)
    with pytest.raises(NetworkError, match="no Keras model"):
        classifier.model_  # noqa: B018


def test_it_is_a_parameter_like_others():
    network = OnnxBackbone("a.onnx", preprocessing="torch", image_size=(32, 16))
    assert clone(network, safe=False) == network != OnnxBackbone("a.onnx")
    assert pickle.loads(pickle.dumps(network)) == network
    assert eval(repr(network)) == network
    classifier = clone(TransferClassifier(network))
    assert classifier.backbone == network
    assert classifier.backbone is not network
    classifier.set_params(backbone__layout="NHWC")
    assert classifier.get_params()["backbone__layout"] == "NHWC"
    assert "OnnxBackbone(path='a.onnx'" in repr(classifier)


# --- errors


def twelve_bytes(path):
    path.write_bytes(b"Hello world!")


def cut_short(path):
    small_network(path)
    path.write_bytes(path.read_bytes()[:-300])


def pointer(path):
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")


def without_graph(path):
    path.write_bytes(helper.make_model(onnx.GraphProto()).SerializeToString()[:2])


def many_parts(path):
    path.write_bytes(b"\x08\x01" * 2**19)


def nested(path):
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(20):
        graph = helper.make_graph([node("If", [], [], then_branch=graph)], "outer", [], [])
    onnx.save(helper.make_model(graph), path)


def two_inputs(path):
    inputs = [("pixels", "float32", ["n", 3, 8, 8]), ("mask", "float32", ["n", 1])]
    output = ("rows", "float32", ["n", 3, 8, 8])
    save(path, [node("Add", ["pixels", "mask"], ["rows"])], inputs, [output])


def one_operator(path, operator="Identity", element="float32", shape=("n", 3, 8, 8), **options):
    nodes = [node(operator, ["pixels"], ["rows"], **options)]
    domains = [options["domain"]] if "domain" in options else []
    pixels, rows = (("pixels", element, shape), ("rows", element, shape))
    save(path, nodes, [pixels], [rows], domains=domains)


def elsewhere(path, location="../weights.bin", offset=None):
    """Write a network whose weights are in a file at `location`."""
    model = onnx.load(small_network(path))
    tensor = model.graph.initializer[0]
    entries = {"location": location, "offset": offset, "length": len(tensor.raw_data)}
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def twice(path):
    elsewhere(path, "weights.bin")
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="other.bin")
    path.write_bytes(model.SerializeToString())


def in_an_attribute(path):
    """Write a network whose constant, inside a graph of a function, is in a file elsewhere."""
    value = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    value.external_data.add(key="location", value="../other.bin")
    inner = helper.make_graph([node("Constant", [], ["c"], value=value)], "inner", [], [])
    function = helper.make_function(
        "own", "F", [], ["y"], [node("If", ["x"], ["y"], then_branch=inner)], []
    )
    model = onnx.load(small_network(path))
    model.functions.append(function)
    path.write_bytes(model.SerializeToString())


def too_short(path):
    with_external_data(path)
    weights = path.with_name("weights.bin")
    weights.write_bytes(weights.read_bytes()[:-20])


def training(path):
    constants = [constant(name, np.ones(3, np.float32)) for name in "abcd"]
    nodes = [node("BatchNormalization", ["pixels", *"abcd"], ["rows", "e", "f"], training_mode=1)]
    value = ["n", 3, 8, 8]
    save(path, nodes, [("pixels", "float32", value)], [("rows", "float32", value)], constants)


DAMAGE = "is truncated, damaged or no ONNX file"
NO_IMAGES = r"to be RGB images \(n, 3, h, w\) or \(n, h, w, 3\)"
HOSTILE = {
    "no ONNX": (twelve_bytes, WeightsError, DAMAGE),
    "empty": (lambda path: path.write_bytes(b""), WeightsError, f"{DAMAGE}: it is empty"),
    "truncated": (cut_short, WeightsError, DAMAGE),
    "pointer": (pointer, WeightsError, "pointer of Git LFS"),
    "no graph": (without_graph, WeightsError, "has no graph"),
    "many parts": (many_parts, WeightsError, "more parts than a network has"),
    "nested": (nested, WeightsError, "nested too deeply"),
    "missing": (lambda path: None, WeightsError, "There is no ONNX file .*network.onnx"),
    "folder": (lambda path: path.mkdir(), WeightsError, "network.onnx is no file"),
    "two inputs": (two_inputs, NetworkError, r"Got 2 inputs: 'pixels' \(\?, 3, 8, 8\), 'mask'"),
    "numbers": (lambda path: one_operator(path, shape=("n", 3)), NetworkError, NO_IMAGES),
    "gray": (lambda path: one_operator(path, shape=("n", 1, 8, 8)), NetworkError, NO_IMAGES),
    "doubles": (lambda path: one_operator(path, element="float64"), NetworkError, "type float64"),
    "ambiguous": (
        lambda path: one_operator(path, shape=("n", 3, 8, 3)), InvalidParameterError,
        "does not say where the channels are: set layout=",
    ),
    "open": (
        lambda path: one_operator(path, shape=("n", "c", "h", "w")), InvalidParameterError,
        r"'pixels' \(\?, \?, \?, \?\), which does not say where",
    ),
    "unknown operator": (
        lambda path: one_operator(path, "Conjure"), NetworkError,
        "does not know these operators: Conjure",
    ),
    "foreign operator": (
        lambda path: one_operator(path, "Conjure", domain="my.own"), NetworkError,
        r"does not know these operators: my.own.Conjure",
    ),
    "random": (
        lambda path: one_operator(path, "RandomNormalLike"), NetworkError,
        r"draws random numbers \(RandomNormalLike\)",
    ),
    "training": (training, NetworkError, "normalises by the statistics of the batch"),
    "several outputs": (
        lambda path: small_network(path, ends=("maps", "scores")), InvalidParameterError,
        r"has 2 outputs: choose one by output=NAME. They are 'maps' .*, 'scores' \(\?, 4\)",
    ),
    "above its folder": (elsewhere, WeightsError, "outside of its folder.*'../weights.bin'"),
    "absolute": (lambda path: elsewhere(path, "/etc/passwd"), WeightsError, "outside of its fo"),
    "drive": (lambda path: elsewhere(path, r"C:\weights"), WeightsError, "outside of its folder"),
    "backslash": (lambda path: elsewhere(path, r"a\..\..\b"), WeightsError, "outside of its fo"),
    "memory": (
        lambda path: elsewhere(path, "*/_ORT_MEM_ADDR_/*", 4096), WeightsError, "is not there"
    ),
    "two places": (twice, WeightsError, "a weight has two places"),
    "deep inside": (in_an_attribute, WeightsError, "outside of its folder.*'../other.bin'"),
    "no weights": (lambda path: elsewhere(path, "w.bin"), WeightsError, r"not there: .*w\.bin"),
    "short weights": (too_short, WeightsError, r"truncated: .*weights.bin has \d+ bytes, expected"),
    "wrong offset": (lambda path: elsewhere(path, "w", -1), WeightsError, "not there|is no number"),
}  # fmt: skip


@pytest.mark.every_parameter
@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_cannot_be_used_raises_an_error(name, path):
    write, kind, message = HOSTILE[name]
    write(path)
    with pytest.raises(kind, match=message):
        extractor(path, image_size=8).fit(IMAGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "row"}, r"output='row' names no tensor .* 'maps' .*Similar .*'rows'"),
        ({"layout": "NHWC"}, r"layout='NHWC' contradicts .*channels would be 8 and must be 3"),
        ({"image_size": 9}, r"image_size=9 contradicts .* 8 x 8 pixels only"),
        ({"image_size": (8, 8, 3)}, "image_size of OnnxBackbone must be"),
        ({"layout": "CHWN"}, "layout of OnnxBackbone must be"),
        ({"preprocessing": "torchvision"}, "preprocessing must be"),
        ({"cls_tokens": -1}, "cls_tokens of OnnxBackbone must be"),
        ({"output": 3}, "output of OnnxBackbone must be"),
    ],
)
def test_a_wrong_choice_raises_an_error(path, options, message):
    small_network(path, size=(8, 8))
    with pytest.raises(InvalidParameterError, match=message):
        CNNFeatureExtractor(OnnxBackbone(path, **options)).fit(IMAGES)


def test_another_image_size_than_that_of_the_file_is_refused(path):
    small_network(path, size=(8, 8))
    with pytest.raises(InvalidParameterError, match=r"the size that 'network.onnx' was exported"):
        extractor(path, image_size=16).fit(IMAGES)
    assert extractor(path, image_size=None).fit(IMAGES).prefix_.size == (8, 8)
    small_network(path)
    assert extractor(path, image_size=None).fit(IMAGES).prefix_.size == (224, 224)


def test_the_engine_that_is_installed_runs_it(path, monkeypatch):
    small_network(path)

    def installed(*names):
        monkeypatch.setattr(engines, "find_spec", lambda name: name if name in names else None)

    installed("openvino")
    np.testing.assert_allclose(features(path), MEANS, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidParameterError, match=r"engine='onnxruntime' needs onnxruntime, "):
        features(path, engine="onnxruntime")
    installed("onnxruntime")  # without tf2onnx
    network = extractor(path, engine="onnxruntime").fit(IMAGES)
    np.testing.assert_allclose(network.transform(IMAGES), MEANS, rtol=1e-5, atol=1e-6)
    installed()
    with pytest.raises(InvalidParameterError, match=r"needs .*openvino.*pip install openvino"):
        features(path)


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_raises_no_other_error(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    whole, path = folder / "whole.onnx", folder / "damaged.onnx"
    if not whole.exists():
        small_network(whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        facts = read_onnx(path)
    except WeightsError:
        return
    assert facts.outputs


def test_the_network_counts_of_the_helpers():
    assert (KERNEL.shape, TOP.shape) == ((CHANNELS, 3, 2, 2), (CHANNELS, CLASSES))
