"""Networks of timm: the features of its own pipeline, weights, sizes, pooling, keys and archives.

All weights are random, because none can be downloaded here.
"""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transferclf import (
    CNNFeatureExtractor,
    TransferClassifier,
    get_backbone,
    list_backbones,
    load_model,
    save_model,
)
from transferclf.engines.torch import keep_triton_out
from transferclf.exceptions import (
    InvalidParameterError,
    NetworkError,
    TransferclfWarning,
    UnknownBackboneError,
    WeightsError,
)
from transferclf.features import frozen

keep_triton_out()
timm = pytest.importorskip("timm")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

# Families that differ in layout, pooling, position embedding and preparation of images. The second
# value is the side of the images where it is not the model's own.
ARCHITECTURES = {
    "resnet18.tv_in1k": None,  # bilinear
    "mobilenetv3_small_050.lamb_in1k": None,  # layers after the pooling
    "convnext_atto.d2_in1k": None,
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": None,
    "vit_small_patch14_reg4_dinov2.lvd142m": 70,  # registers, a resized position embedding
    "swin_tiny_patch4_window7_224.ms_in1k": None,  # channels last
    "tf_efficientnet_b0.ns_jft_in1k": None,  # padding of TensorFlow
    "regnetx_002.pycls_in1k": None,
    "vit_pe_core_tiny_patch16_384.fb": 96,  # attention pooling
    "fastvit_t8.apple_in1k": None,
    "eva02_tiny_patch14_224.mim_in22k": None,  # rotary embedding
    "mobilenetv4_conv_small_050.e3000_r224_in1k": None,
    "convnextv2_nano.fcmae_ft_in22k_in1k_384": 128,  # squashed images
}

SIZES = ((231, 317), (400, 300), (333, 999), (97, 61))


@pytest.fixture(scope="module")
def pictures():
    """Pictures of odd sizes with shapes of all sizes and noise."""
    rng, made = np.random.default_rng(5), []
    for height, width in SIZES:
        blocks = rng.integers(0, 256, (height // 24 + 1, width // 24 + 1, 3)).astype(np.uint8)
        smooth = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)
        noise = rng.normal(0, 20, (height, width, 3))
        made.append(np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8))
    return made


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A model of timm and the file of its weights."""
    return saved("resnet18.tv_in1k", tmp_path_factory.mktemp("weights"))


def saved(name, folder, side=None):
    """Build a model with random weights that tell images apart, and save its state dict."""
    config = timm.models.get_pretrained_cfg(name)
    sized = {"img_size": side} if side and config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = timm.create_model(name, num_classes=0, **sized).eval()
        for parameter in model.parameters():  # no branch is nearly switched off
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
            elif parameter.abs().max() < 1e-4:
                torch.nn.init.normal_(parameter, std=0.02)
    file = folder / f"{name}.safetensors"
    safetensors.save_file({k: v.contiguous() for k, v in model.state_dict().items()}, file)
    return model, file


def own_features(model, name, pictures, side=None, **changes):
    """Return the features of timm's own pipeline; `changes` replace parts of its preparation."""
    config = timm.data.resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    if side:
        config["input_size"] = (3, side, side)
    transform = timm.data.create_transform(**config | changes)
    batch = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    with torch.inference_mode():
        return model(batch).numpy()


def cosines(some, others):
    """Return the cosines of rows, which differ from the mean row of the first.

    Random networks give nearly the same features for all images. Without the mean the cosine would
    be near 1 for any two images.
    """
    mean = some.mean(axis=0)
    some, others = some - mean, others - mean
    norms = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return (some * others).sum(axis=1) / norms


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_features_are_those_of_the_pipeline_of_timm(name, pictures, tmp_path):
    side = ARCHITECTURES[name]
    model, file = saved(name, tmp_path, side)
    extractor = CNNFeatureExtractor(
        f"timm:{name}", weights=file, image_size=side, engine="torch", cache=None
    )
    features = extractor.fit_transform(pictures)
    expected = own_features(model, name, pictures, side)
    assert features.shape == expected.shape
    assert cosines(expected, features).min() >= 0.9999
    # Another preparation of the images would be noticed.
    others = {
        "interpolation": "bilinear" if "tv_" not in name else "bicubic",
        "crop_pct": 0.8,
        "mean": (0.6, 0.5, 0.4),
    }
    for key, value in others.items():
        changed = own_features(model, name, pictures, side, **{key: value})
        assert cosines(expected, changed).min() < 0.9999, key


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "convnextv2_nano.fcmae_ft_in22k_in1k_384"])
def test_features_of_photographs_are_those_of_timm(data, name, tmp_path):
    folders = ("caltech_animals35", "imagenet_samples", "blood_smear")
    files = [
        file for folder in folders for file in sorted(Path(data, folder).rglob("*.jp*g"))[::11][:3]
    ]
    assert len(files) == 9
    side = ARCHITECTURES[name]
    model, weights = saved(name, tmp_path, side)
    features = CNNFeatureExtractor(
        f"timm:{name}", weights=weights, image_size=side, cache=None
    ).fit_transform(files)
    photographs = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    expected = own_features(model, name, photographs, side)
    assert cosines(expected, features).min() >= 0.9999


def test_names_have_wildcards_tags_and_near_names():
    names = list_backbones("timm:*dinov2*")
    assert "timm:vit_small_patch14_dinov2.lvd142m" in names
    assert all("dinov2" in name for name in names)
    record = get_backbone("timm:vit_small_patch14_dinov2.lvd142m")
    assert record.image_size == 518
    assert record.preprocessing.interpolation == "bicubic"
    assert get_backbone("timm:resnet18").name == "timm:resnet18.a1_in1k"
    with pytest.raises(UnknownBackboneError, match=r"'timm:vit_small_patch14_dinov2'"):
        get_backbone("timm:vit_small_patch14_dino2")


def test_preparation_follows_the_record_of_timm():
    squashed = get_backbone("timm:convnextv2_nano.fcmae_ft_in22k_in1k_384").preprocessing
    assert (squashed.resize, squashed.crop_fraction) == ("stretch", 1.0)
    half = get_backbone("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k").preprocessing
    assert half.mean == half.std == (0.5, 0.5, 0.5)
    assert (half.resize, half.crop_fraction, half.scale) == ("crop", 0.9, 1 / 255)


def pooled(name, pooling, pictures, file, **parameters):
    return CNNFeatureExtractor(
        f"timm:{name}", weights=file, pooling=pooling, engine="torch", cache=None, **parameters
    ).fit_transform(pictures)


def test_pooling_takes_maps_with_the_channels_last(resnet, pictures):
    model, file = resnet
    pictures = pictures[:2]
    with torch.inference_mode():
        transform = timm.data.create_transform(
            **timm.data.resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
        )
        batch = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
        maps = model.forward_features(batch).permute(0, 2, 3, 1).numpy()
    close = {"rtol": 1e-3, "atol": 1e-3 * maps.max()}
    name = "resnet18.tv_in1k"
    np.testing.assert_allclose(pooled(name, "avg", pictures, file), maps.mean(axis=(1, 2)), **close)
    np.testing.assert_allclose(pooled(name, "max", pictures, file), maps.max(axis=(1, 2)), **close)
    flat = pooled(name, "flatten", pictures, file)
    np.testing.assert_allclose(flat, maps.reshape(2, -1), **close)
    with pytest.raises(InvalidParameterError, match="no class token"):
        pooled(name, "cls", pictures, file)


def test_pooling_of_tokens_leaves_registers_out(pictures, tmp_path):
    name, pictures = "vit_small_patch14_reg4_dinov2.lvd142m", pictures[:2]
    model, file = saved(name, tmp_path, 70)
    config = timm.data.resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**config | {"input_size": (3, 70, 70)})
    batch = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    with torch.inference_mode():
        tokens = model.forward_features(batch).numpy()
    assert tokens.shape == (2, 1 + 4 + 25, 384)
    cls, patches = tokens[:, 0], tokens[:, 5:]
    expected = {
        "cls": cls,
        "avg": patches.mean(axis=1),
        "max": patches.max(axis=1),
        "cls+avg": np.hstack([cls, patches.mean(axis=1)]),
        "flatten": np.delete(tokens, [1, 2, 3, 4], axis=1).reshape(2, -1),
    }
    for pooling, values in expected.items():
        rows = pooled(name, pooling, pictures, file, image_size=70)
        np.testing.assert_allclose(rows, values, rtol=1e-3, atol=2e-2, err_msg=pooling)


def test_other_sizes_are_whole_patches_or_an_error(pictures):
    name = "timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k"
    sized = CNNFeatureExtractor(name, weights=None, image_size=(64, 96), engine="torch")
    assert sized.fit_transform(pictures[:1]).shape == (1, 192)
    with pytest.raises(InvalidParameterError, match="whole patches of 16 x 16"):
        CNNFeatureExtractor(name, weights=None, image_size=100).fit(pictures)
    with pytest.raises(InvalidParameterError, match=r"no size that 'timm:vgg11.tv_in1k' can take"):
        CNNFeatureExtractor("timm:vgg11", weights=None, image_size=16).fit(pictures)


def test_openvino_agrees_with_torch(resnet, pictures):
    pytest.importorskip("openvino")
    _, file = resnet
    rows = {
        engine: CNNFeatureExtractor(
            "timm:resnet18.tv_in1k", weights=file, image_size=64, engine=engine, cache=None
        ).fit_transform(pictures * 9)  # more than a batch
        for engine in ("torch", "openvino", "auto")
    }
    largest = np.abs(rows["torch"]).max()
    assert np.abs(rows["openvino"] - rows["torch"]).max() <= 1e-5 * largest
    np.testing.assert_array_equal(rows["auto"], rows["openvino"])


def test_engines_say_which_networks_they_run():
    with pytest.raises(
        InvalidParameterError, match="'torch' cannot run a backbone that is a Keras"
    ):
        CNNFeatureExtractor("tiny", engine="torch").fit(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(InvalidParameterError, match="'keras' cannot run .* a network of PyTorch"):
        CNNFeatureExtractor("timm:resnet18", engine="keras").fit(np.zeros((1, 32, 32, 3), np.uint8))


def test_a_network_that_openvino_computes_otherwise_runs_on_torch():
    pytest.importorskip("openvino")
    from transferclf.engines.forward import compile_network

    class Noisy(torch.nn.Module):
        image_size = (8, 8)

        def forward(self, pixels):
            # Tracing makes a constant of the first number.
            return pixels.mean(dim=(1, 2)) * float(torch.rand(()) + 1)

    with pytest.warns(TransferclfWarning, match="differ from those of torch") as caught:
        function, engine = compile_network(Noisy(), "auto", "float32", "torch")
    assert engine == "torch"
    assert len(caught) == 1
    assert function(np.ones((1, 8, 8, 3), np.float32)).shape == (1, 3)
    with pytest.raises(NetworkError, match="engine='openvino' cannot run"):
        compile_network(Noisy(), "openvino", "float32", "torch")


def test_settings_of_torch_stay_as_they_are(resnet, pictures):
    _, file = resnet
    before = torch.get_num_threads(), torch.random.get_rng_state().sum(), torch.is_grad_enabled()
    for weights in (file, None):
        CNNFeatureExtractor(
            "timm:resnet18", weights=weights, image_size=64, engine="torch", cache=None
        ).fit_transform(pictures)
    after = torch.get_num_threads(), torch.random.get_rng_state().sum(), torch.is_grad_enabled()
    assert after == before


def test_weights_of_a_file_with_a_head_or_in_a_checkpoint(resnet, tmp_path, pictures):
    model, file = resnet
    rows = pooled("resnet18.tv_in1k", "auto", pictures[:1], file, image_size=64)
    head = {"fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, "state_dict": dict(model.state_dict()) | head}, checkpoint)
    with_head = pooled("resnet18.tv_in1k", "auto", pictures[:1], checkpoint, image_size=64)
    np.testing.assert_array_equal(with_head, rows)


def test_unfit_weights_name_some_of_them(resnet, tmp_path, pictures):
    model, _ = resnet
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    file = tmp_path / "other.safetensors"
    less = {name: value for name, value in state.items() if "layer4" not in name}
    for wrong, message in (
        (less, "layer4.0.conv1.weight"),
        (state | {"extra.weight": torch.ones(3)}, "extra.weight"),
        (state | {"conv1.weight": torch.ones(64, 3, 3, 3)}, "size mismatch for conv1.weight"),
    ):
        safetensors.save_file(wrong, file)
        with pytest.raises(WeightsError, match=message):
            pooled("resnet18.tv_in1k", "auto", pictures[:1], file, image_size=64)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("executed"),))


def test_files_that_are_no_weights_are_refused(tmp_path, monkeypatch):
    from transferclf.backbones.timm_network import read_weights

    monkeypatch.chdir(tmp_path)
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {"fc.weight": torch.ones(2), "evil": Evil()}}, file)
    with pytest.raises(WeightsError, match="could run code"):
        read_weights(file)
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="no file of weights|damaged"):
        read_weights(file)
    assert not Path("executed").exists()
    for content in (b"", b"\x10\0\0\0\0\0\0\0{ cut off", b"text that is no file of weights"):
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=r"weights\.pth"):
            read_weights(file)
    torch.save([1, 2], file)
    with pytest.raises(WeightsError, match="no state dict"):
        read_weights(file)
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path / "none.safetensors")


def in_hub(home, name, file):
    """Put a file where the Hugging Face hub caches the weights of a model."""
    repository = home / "hub" / f"models--timm--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(file.read_bytes())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the folder HF_HOME of this test; nothing is downloaded."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def test_pretrained_weights_come_from_the_cache_of_the_hub(hub, resnet, pictures):
    _, file = resnet
    in_hub(hub, "resnet18.tv_in1k", file)
    given = pooled("resnet18.tv_in1k", "auto", pictures[:1], file, image_size=64)
    cached = pooled("resnet18.tv_in1k", "auto", pictures[:1], "pretrained", image_size=64)
    np.testing.assert_array_equal(cached, given)


def test_missing_weights_are_one_error_with_the_file_and_its_place(hub, pictures):
    with pytest.raises(WeightsError) as caught:
        CNNFeatureExtractor("timm:resnet18.tv_in1k").fit_transform(pictures)
    for part in ("model.safetensors", "timm/resnet18.tv_in1k", str(hub / "hub"), "HF_HOME"):
        assert part in str(caught.value)


def test_without_timm_one_error_says_what_to_install(monkeypatch):
    from transferclf.backbones import timm as source

    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(
        InvalidParameterError,
        match=r"torch and timm .*pip install huggingface_hub safetensors timm torch",
    ):
        list_backbones("timm:*")


def test_fine_tuning_names_a_keras_network(pictures):
    for name, keras_name in (
        ("vit_small_patch14_dinov2", "keras_hub:dinov2_small"),
        ("vit_base_patch16_224", "keras_hub:vit_base_patch16_224_imagenet"),
        ("convnext_atto", "convnext_tiny"),
        ("tf_efficientnet_b3", "efficientnet_b3"),
        ("resnet34", "resnet50"),
    ):
        classifier = TransferClassifier(f"timm:{name}", weights=None, trainable_layers=2)
        with pytest.raises(InvalidParameterError, match=f"PyTorch.*backbone='{keras_name}'"):
            classifier.fit(pictures, [0, 0, 1, 1])


def outputs_by_hand(model, name, pictures, side, layers):
    """Return copies of the outputs of some modules, taken by hooks of torch."""
    config = timm.data.resolve_data_config({}, pretrained_cfg=model.pretrained_cfg)
    transform = timm.data.create_transform(**config | {"input_size": (3, side, side)})
    batch = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
    outputs = {}

    def keeping(layer):
        return lambda module, inputs, output: outputs.update({layer: output.numpy().copy()})

    hooks = [model.get_submodule(it).register_forward_hook(keeping(it)) for it in layers]
    with torch.inference_mode():
        model.forward_features(batch)
    for hook in hooks:
        hook.remove()
    return [outputs[layer] for layer in layers]


def test_blocks_are_pooled_without_registers(pictures, tmp_path):
    name, side, images = "vit_small_patch14_reg4_dinov2.lvd142m", 70, pictures[:2]
    model, file = saved(name, tmp_path, side)
    layers = ["blocks.3", "blocks.1", "patch_embed"]  # not in the order of the network
    late, early, patches = outputs_by_hand(model, name, images, side, layers)
    assert late.shape == early.shape == (2, 1 + 4 + 25, 384)
    rows = pooled(name, "auto", images, file, image_size=side, layer=layers)
    expected = np.hstack([late[:, 0], early[:, 0], patches.mean(axis=1)])
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=2e-3)
    rows = pooled(name, "cls+avg", images, file, image_size=side, layer=layers[:2])
    expected = [half for it in (late, early) for half in (it[:, 0], it[:, 5:].mean(axis=1))]
    np.testing.assert_allclose(rows, np.hstack(expected), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("pooling", ["avg", "max", "flatten", "cls", "cls+avg"])
def test_modules_are_pooled_as_outputs_are(pooling):
    from transferclf.backbones.timm_network import Features
    from transferclf.backbones.timm_taps import pooled as pooled_by_torch
    from transferclf.graphs.pooling import pool_array

    tokens = np.random.default_rng(0).standard_normal((2, 1 + 4 + 9, 3)).astype(np.float32)
    forms = {Features("ntc", 1, 4): tokens}
    if "cls" not in pooling:
        maps = tokens[:, :12].reshape(2, 3, 4, 3)
        forms |= {Features("ntc"): tokens, Features("nhwc"): maps, Features("nd"): tokens[:, 0]}
        forms[Features("nchw")] = maps.transpose(0, 3, 1, 2)
    for form, values in forms.items():
        rows = pooled_by_torch(torch.from_numpy(values.copy()), form, pooling).numpy()
        as_last = values.transpose(0, 2, 3, 1) if form.axes == "nchw" else values
        expected = pool_array(as_last, pooling, form[1:])
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


def test_stages_of_a_convolutional_network_and_their_names(resnet, pictures):
    (model, file), name = resnet, "resnet18.tv_in1k"
    layers = ("bn1", "layer2", "layer4")
    bn, *stages = outputs_by_hand(model, name, pictures, 64, layers)
    assert bn.min() < 0
    expected = np.hstack([it.transpose(0, 2, 3, 1).reshape(4, -1) for it in (bn, *stages)])
    rows = pooled(name, "flatten", pictures, file, image_size=64, layer=list(layers))
    np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    extractor = CNNFeatureExtractor(
        f"timm:{name}", weights=file, image_size=64, layer=["layer2", "layer4"], cache=None
    )
    averages = np.hstack([it.mean(axis=(2, 3)) for it in stages])
    rows = extractor.fit_transform(pictures)  # by OpenVINO, where it is installed
    np.testing.assert_allclose(rows, averages, rtol=1e-3, atol=1e-3 * averages.max())
    names = extractor.get_feature_names_out()
    assert len(names) == 128 + 512
    assert names[127] == f"timm:{name}_layer2_auto_127"
    assert names[128] == f"timm:{name}_layer4_auto_0"


def test_layers_after_the_last_tap_are_not_computed(resnet):
    size = (64, 64)
    record = get_backbone("timm:resnet18.tv_in1k").tapped(("layer2", "layer1"), "avg", size)
    network = record.network(resnet[1], size, 0)
    network.model.layer3 = None  # which cannot be called
    with torch.inference_mode():
        assert network(torch.zeros(2, *size, 3)).shape == (2, sum(record.widths(size)))
    assert record.widths(size) == (128, 64)


def test_an_output_is_kept_before_others_write_into_it():
    from transferclf.backbones.timm_network import Features
    from transferclf.backbones.timm_taps import Tap, TappedNetwork

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU(inplace=True))
    model.forward_features = model.forward
    taps = tuple(Tap(layer, Features("nd"), "avg", 3) for layer in ("0", "1"))
    pixels = torch.tensor([-1.0, 2.0, -3.0]).reshape(1, 1, 1, 3)
    rows = TappedNetwork(model, (1, 1), taps)(pixels)
    assert rows.tolist() == [[-1, 2, -3, 0, 2, 0]]


def test_openvino_taps_as_torch_does(pictures):
    pytest.importorskip("openvino")
    rows = [
        CNNFeatureExtractor(
            "timm:vit_tiny_patch16_224",
            weights=None,
            image_size=32,
            layer=["blocks.2", "blocks.0"],
            random_state=0,
            engine=engine,
            pooling="cls+avg",
            cache=None,
        ).fit_transform(pictures * 9)  # more than a batch
        for engine in ("torch", "openvino")
    ]
    assert rows[0].shape == (36, 4 * 192)
    assert np.abs(rows[1] - rows[0]).max() <= 1e-5 * np.abs(rows[0]).max()


def test_the_place_of_the_channels_follows_the_shape():
    from transferclf.backbones.timm_taps import taps_of

    def axes(name, size, *layers):
        return [(tap.form.axes, tap.width) for tap in taps_of(name, size, layers, "avg")]

    maps = axes("swin_tiny_patch4_window7_224", (224, 448), "patch_embed.proj", "layers.1")
    assert maps == [("nchw", 96), ("nhwc", 192)]
    assert axes("resnet18", (231, 317), "layer1", "layer4") == [("nchw", 64), ("nchw", 512)]


def test_layers_that_cannot_be_tapped_are_errors_before_a_network_is_built(pictures, monkeypatch):
    refuse_networks(monkeypatch)
    for name, layer, message in (
        ("resnet18", "layers3", r"no module of 'timm:resnet18.a1_in1k'; .*'layer3'"),
        ("resnet18", "zzz", "among others, 'conv1'"),
        ("resnet18", "fc", "is called 0 times before the head"),
        ("mvitv2_tiny", "stages.0", "gives a tuple, not one tensor"),
        ("mixer_s32_224", "blocks.0.mlp_tokens", "has its channels before its tokens"),
        ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.attn", r"an array of shape \(128, 49"),
        ("cait_xxs24_224", "blocks_token_only.0", "not known which are those of patches"),
    ):
        with pytest.raises(NetworkError, match=message):
            CNNFeatureExtractor(f"timm:{name}", weights=None, layer=layer).fit(pictures)
    with pytest.raises(InvalidParameterError, match=r"layer='layer3' .* no class token"):
        CNNFeatureExtractor("timm:resnet18", layer="layer3", pooling="cls").fit(pictures)


def test_keys_tell_layers_and_their_pooling_apart(resnet):
    from transferclf.features.choosing import choose_prefix

    _, file = resnet
    digests = {
        choose_prefix(
            "timm:resnet18.tv_in1k",
            weights=file,
            image_size=64,
            preprocessing="auto",
            pooling=pooling,
            layers=layers,
            seed=0,
        ).digest
        for layers in ((), ("layer4",), ("layer3",), ("layer3", "layer4"), ("layer4", "layer3"))
        for pooling in ("auto", "max")
    }
    assert len(digests) == 10


@pytest.fixture(scope="module")
def images():
    """Small images of two colours, and their classes."""
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1], 6)
    pixels = rng.integers(0, 60, (12, 40, 52, 3)).astype(np.uint8)
    pixels[classes == 1, :, :, 0] += 150
    return pixels, classes


def refuse_networks(monkeypatch):
    """Let every build of a network fail from now on."""
    from transferclf.backbones import timm_network

    def build(*arguments):
        raise AssertionError("a network was built")

    monkeypatch.setattr(timm_network, "build", build)
    frozen._forwards.clear()


@pytest.mark.slow
def test_no_image_goes_through_the_network_twice(
    resnet, images, tmp_path, monkeypatch, in_another_process
):
    from sklearn.base import clone

    (_, file), (pixels, classes) = resnet, images
    store = tmp_path / "store"
    classifier = TransferClassifier(
        "timm:resnet18.tv_in1k", weights=file, image_size=32, cache=store, random_state=0
    ).fit(pixels, classes)
    forward = classifier.prefix_.forward()
    assert forward.images_seen == len(pixels)
    expected = classifier.predict_proba(pixels)
    clone(classifier).fit(pixels, classes)
    assert forward.images_seen == len(pixels)
    # Another process that cannot build networks finds all features on disk.
    np.savez(tmp_path / "images.npz", pixels=pixels, classes=classes)
    code = """
    import sys
    import numpy as np
    from transferclf import TransferClassifier
    from transferclf.backbones.timm import TimmBackbone
    TimmBackbone.network = None
    images = np.load(sys.argv[3])
    classifier = TransferClassifier(
        "timm:resnet18.tv_in1k", weights=sys.argv[1], image_size=32, cache=sys.argv[2],
        random_state=0,
    ).fit(images["pixels"], images["classes"])
    print(classifier.predict_proba(images["pixels"])[:, 1].tolist())
    """
    printed = in_another_process(code, file, store, tmp_path / "images.npz")
    np.testing.assert_allclose(eval(printed), expected[:, 1], rtol=1e-4)
    # A pickled classifier finds them too.
    refuse_networks(monkeypatch)
    copied = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(copied.predict_proba(pixels), expected)


def test_workers_of_joblib_share_the_features(resnet, images, tmp_path, monkeypatch):
    from sklearn.model_selection import cross_val_score

    (_, file), (pixels, classes) = resnet, images
    classifier = TransferClassifier(
        "timm:resnet18.tv_in1k", weights=file, image_size=32, cache=tmp_path, random_state=0
    )
    CNNFeatureExtractor(
        "timm:resnet18.tv_in1k", weights=file, image_size=32, cache=tmp_path
    ).fit_transform(pixels)
    refuse_networks(monkeypatch)
    scores = cross_val_score(classifier, pixels, classes, cv=3)
    assert scores.min() == 1.0


def test_keys_tell_names_weights_and_endings_apart(resnet):
    _, file = resnet
    digests = set()
    for name in ("resnet18.tv_in1k", "resnet18.a1_in1k"):
        for weights in (file, None):
            record = get_backbone(f"timm:{name}")
            for one in (record, record.pooled_by("avg")):
                facts = one.facts(), one.weights_digest(weights, (64, 64), 0)
                digests.add(str(facts))
    assert len(digests) == 8
    assert record.weights_digest(None, (64, 64), 0) != record.weights_digest(None, (64, 64), 1)


def test_archives_name_the_network_and_pin_its_weights(hub, resnet, images, tmp_path):
    (model, file), (pixels, classes) = resnet, images
    in_hub(hub, "resnet18.tv_in1k", file)
    for pooling in ("auto", "max"):
        classifier = TransferClassifier(
            "timm:resnet18.tv_in1k", image_size=32, pooling=pooling, cache=None, random_state=0
        ).fit(pixels, classes)
        archive = tmp_path / f"{pooling}.tclf"
        save_model(classifier, archive)
        assert archive.stat().st_size < 1e6
        loaded = load_model(archive)
        np.testing.assert_allclose(
            loaded.predict_proba(pixels), classifier.predict_proba(pixels), rtol=1e-5
        )
    changed = {name: value + 0.1 for name, value in model.state_dict().items()}
    cached = next((hub / "hub").rglob("model.safetensors"))
    safetensors.save_file({k: v.contiguous() for k, v in changed.items()}, cached)
    frozen._forwards.clear()
    with pytest.raises(NetworkError, match="not those that it was fitted with"):
        load_model(archive).predict(pixels)


def test_archives_of_random_weights_and_of_files(resnet, images, tmp_path):
    (_, file), (pixels, classes) = resnet, images
    archive = tmp_path / "model.tclf"
    random = TransferClassifier(
        "timm:resnet18.tv_in1k",
        weights=None,
        image_size=32,
        cache=None,
        engine="torch",
        random_state=0,
    ).fit(pixels, classes)
    save_model(random, archive)
    np.testing.assert_allclose(
        load_model(archive).predict_proba(pixels), random.predict_proba(pixels), rtol=1e-5
    )
    with pytest.raises(NetworkError, match="no Keras model"):
        _ = random.model_
    given = TransferClassifier(
        "timm:resnet18.tv_in1k", weights=file, image_size=32, cache=None, random_state=0
    ).fit(pixels, classes)
    with pytest.raises(InvalidParameterError, match="cannot hold the weights"):
        save_model(given, tmp_path / "other.tclf")


def test_no_warning_reaches_the_user(resnet, images):
    _, file = resnet
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CNNFeatureExtractor(
            "timm:resnet18.tv_in1k", weights=file, image_size=32, cache=None
        ).fit_transform(images[0])
