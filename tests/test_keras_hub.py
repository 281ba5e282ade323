"""Backbones of keras-hub: small presets with random weights, saved and used as any other."""

import functools
import json
import pickle
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest
from counting import counted_calls
from exactness import outputs_of
from fine_tuning_helpers import ALL_IMAGES
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from transferclf import (
    CNNFeatureExtractor,
    TransferClassifier,
    get_backbone,
    list_backbones,
    load_model,
    save_model,
)
from transferclf.backbones import presets as files
from transferclf.exceptions import (
    InvalidParameterError,
    NetworkError,
    UnknownBackboneError,
    WeightsError,
)

keras = pytest.importorskip("keras")
keras_hub = pytest.importorskip("keras_hub")
models = keras_hub.models

SIDE = 32
SHAPE = (SIDE, SIDE, 3)
VISION = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2}
TOWER = VISION | {"patch_size": 8, "intermediate_dim": 32, "image_shape": SHAPE}
TEXT = {"vocabulary_size": 20, "embedding_dim": 16, "hidden_dim": 16, "num_layers": 1}
TEXT |= {"num_heads": 2, "intermediate_dim": 16, "max_sequence_length": 8}
DINO = VISION | {"patch_size": 8, "intermediate_dim": 32, "num_register_tokens": 2}


def clip():
    vision, text = models.CLIPVisionEncoder(**TOWER), models.CLIPTextEncoder(**TEXT)
    return models.CLIPBackbone(vision, text, projection_dim=8)


def siglip():
    vision, text = models.SigLIPVisionEncoder(**TOWER), models.SigLIPTextEncoder(**TEXT)
    return models.SigLIPBackbone(vision, text)


# The functions make networks, and the options are those of their image converters.
NETWORKS = {
    "ViT": lambda: models.ViTBackbone(
        **VISION, image_shape=SHAPE, patch_size=8, mlp_dim=32, use_patch_bias=False
    ),
    "DINOV2": lambda: models.DINOV2Backbone(
        **DINO, image_shape=SHAPE, position_embedding_shape=(40, 40, 3)
    ),
    "DINOV3": lambda: models.DINOV3Backbone(**DINO, image_shape=SHAPE),
    "DeiT": lambda: models.DeiTBackbone(
        **VISION, image_shape=SHAPE, patch_size=8, intermediate_dim=32
    ),
    "CLIP": clip,
    "SigLIP": siglip,
    "SwinTransformer": lambda: models.SwinTransformerBackbone(
        image_shape=SHAPE, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2
    ),
    "VGG": lambda: models.VGGBackbone(
        stackwise_num_repeats=[1, 1], stackwise_num_filters=[4, 8], image_shape=SHAPE
    ),
    "HGNetV2": lambda: models.HGNetV2Backbone(
        depths=[1, 1],
        embedding_size=4,
        hidden_sizes=[4, 8],
        stem_channels=[3, 4, 4],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(4, 4, 8, 1, 1, 3), (8, 4, 16, 1, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
        image_shape=SHAPE,
    ),
    "Xception": lambda: models.XceptionBackbone(
        stackwise_conv_filters=[[8, 8], [8, 8]],
        stackwise_pooling=[True, False],
        image_shape=(None, None, 3),
    ),
    "DenseNet": lambda: models.DenseNetBackbone(
        stackwise_num_repeats=[1, 1],
        compression_ratio=0.5,
        growth_rate=4,
        image_shape=(None, None, 3),
    ),
}
BY_CHANNEL = {"scale": [0.017, 0.0175, 0.0174], "offset": [-2.1, -2.0, -1.8]}
CONVERTERS = [
    {"scale": 1 / 255},
    BY_CHANNEL | {"interpolation": "bicubic"},
    {"scale": 1 / 127.5, "offset": -1.0, "crop_to_aspect_ratio": False, "antialias": True},
    BY_CHANNEL | {"interpolation": "bicubic", "antialias": True},
    {"scale": 1 / 255, "crop_to_aspect_ratio": False, "pad_to_aspect_ratio": True},
]
TOKENS = {"ViT": (1, 0), "DINOV2": (1, 2), "DINOV3": (1, 2), "DeiT": (1, 1), "CLIP": (1, 0)}

N = 6
LABELS = np.arange(N) % 3


def drawn_images():
    """Return images of odd sizes; neither of their sides is a multiple of the network's."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (N, 9, 9, 3)).astype(np.uint8)
    sizes = [(101, 57), (45, 133), (77, 77), (38, 33), (201, 150), (67, 50)]
    return [
        np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
        for small, size in zip(coarse, sizes, strict=True)
    ]


IMAGES = drawn_images()


class Preset:
    """A network with random weights, its image converter, and the folder of their preset."""

    def __init__(self, name, folder):
        keras.utils.set_random_seed(0)
        self.model = NETWORKS[name]()
        generator = np.random.default_rng(1)
        for weight in self.model.trainable_weights:  # initial biases of 0 would hide mistakes
            weight.assign(weight + generator.normal(0, 0.1, weight.shape))
        options = CONVERTERS[list(NETWORKS).index(name) % len(CONVERTERS)]
        kind = getattr(keras_hub.layers, f"{name}ImageConverter")
        self.converter = kind(image_size=(SIDE, SIDE), **options)
        for part in (self.model, self.converter):
            part.save_to_preset(str(folder))
        # Loading computes more from the weights, such as interpolated position embeddings.
        self.model = models.Backbone.from_preset(str(folder))
        self.folder, self.backbone = folder, f"keras_hub:{folder}"

    def network(self):
        return getattr(self.model, "vision_encoder", self.model)

    def converted(self, images):
        # The converter rounds whole numbers after the resize, and cannot pad them.
        return np.concatenate([self.converter(one[None].astype(np.float32)) for one in images])

    def outputs(self, images):
        """Return what the library's own pipeline computes."""
        pixels = self.converted(images)
        network = self.network()
        given = {next(iter(network.input)): pixels} if isinstance(network.input, dict) else pixels
        outputs = network(given)
        is_pyramid = isinstance(outputs, dict)
        return np.asarray(outputs[self.model.stage_names[-1]] if is_pyramid else outputs)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """Return a function that gives the preset of a name, made once."""
    return functools.cache(lambda name: Preset(name, tmp_path_factory.mktemp(name)))


def extractor(preset, **options):
    return CNNFeatureExtractor(preset.backbone, **({"engine": "keras"} | options))


def cosines(some, others):
    some, others = (each.reshape(len(each), -1).astype(float) for each in (some, others))
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return (some * others).sum(axis=1) / lengths


def pooled(name, outputs):
    """Return the features that the library's classifiers take."""
    if outputs.ndim == 3 and name in TOKENS:
        return outputs[:, 0]
    return outputs.reshape(len(outputs), -1, outputs.shape[-1]).mean(axis=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_librarys_own_pipeline(preset, name):
    made = preset(name)
    record = get_backbone(made.backbone)
    assert (record.cls_tokens, record.other_tokens) == TOKENS.get(name, (0, 0))
    features = extractor(made).fit_transform(IMAGES)
    expected = pooled(name, made.outputs(IMAGES))
    assert features.shape == expected.shape
    assert cosines(features, expected).min() > 0.99999
    np.testing.assert_allclose(features, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["ViT", "DINOV2", "SigLIP", "DeiT", "VGG"])
def test_features_of_photographs_are_those_of_the_librarys_own_pipeline(preset, name, data):
    folders = ("imagenet_samples", "caltech_animals35", "blood_smear")
    paths = [path for folder in folders for path in sorted((data / folder).rglob("*.jpg"))[:2]]
    photographs = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    features = extractor(preset(name)).fit_transform(paths)
    expected = pooled(name, preset(name).outputs(photographs))
    assert cosines(features, expected).min() > 0.9999


def test_tokens_are_pooled_without_registers(preset):
    made = preset("DINOV2")
    outputs = made.outputs(IMAGES)
    assert outputs.shape == (N, 1 + 2 + 16, 16)
    cls, patches = outputs[:, 0], outputs[:, 3:]
    expected = {"cls": cls, "avg": patches.mean(axis=1), "max": patches.max(axis=1)}
    expected["cls+avg"] = np.hstack([cls, expected["avg"]])
    for pooling, features in expected.items():
        got = extractor(made, pooling=pooling).fit_transform(IMAGES)
        np.testing.assert_allclose(got, features, atol=1e-3 * np.abs(features).max())


def test_blocks_of_an_encoder_are_layers_to_tap(preset):
    made = preset("DINOV2")
    taps = ("layers_0", "layers_1")
    features = extractor(made, layer=taps, pooling="cls").fit_transform(IMAGES)
    pixels = made.converted(IMAGES)
    stages = keras.Model(made.model.inputs, made.model.pyramid_outputs)({"images": pixels})
    expected = np.hstack([stages[name][:, 0] for name in ("stage1", "stage2")])
    np.testing.assert_allclose(features, expected, atol=1e-3 * np.abs(expected).max())


NO_PASS = """
    import warnings
    from transferclf.engines.forward import Forward
    def refused(*_):
        raise AssertionError("an image went through the network again")
    Forward.__call__ = refused
"""


def test_clones_processes_and_later_runs_compute_nothing_again(
    preset, tmp_path, in_another_process, monkeypatch
):
    first = extractor(preset("ViT"), cache=str(tmp_path / "store"))
    features = first.fit_transform(IMAGES)
    seen = first.prefix_.forward().images_seen
    np.testing.assert_array_equal(clone(first).fit_transform(IMAGES), features)
    assert first.prefix_.forward().images_seen == seen
    np.savez(tmp_path / "images.npz", *IMAGES)
    moved = shutil.copytree(preset("ViT").folder, tmp_path / "moved")
    for folder in (preset("ViT").folder, moved):
        script = f"""
            import sys
            import numpy as np
            from transferclf import CNNFeatureExtractor
            images = list(np.load({str(tmp_path / "images.npz")!r}).values())
            again = CNNFeatureExtractor("keras_hub:{folder}", cache={str(tmp_path / "store")!r})
            print(again.fit_transform(images).sum(dtype=float), "keras_hub" in sys.modules)
        """
        total, is_imported = in_another_process(
            textwrap.dedent(NO_PASS) + textwrap.dedent(script)
        ).split()
        assert float(total) == pytest.approx(features.sum(dtype=float))
        assert is_imported == "False"


def test_other_weights_and_architectures_have_other_keys(preset, tmp_path):
    made = preset("VGG")
    digests = {extractor(made).fit(IMAGES[:1]).prefix_.digest}
    folder = Path(shutil.copytree(made.folder, tmp_path / "copy"))
    other = CNNFeatureExtractor(f"keras_hub:{folder}", engine="keras")
    digests.add(other.fit(IMAGES[:1]).prefix_.digest)
    assert len(digests) == 1
    made.model.save_weights(str(folder / "given.weights.h5"))
    given = clone(other).set_params(weights=folder / "given.weights.h5")
    digests.add(given.fit(IMAGES[:1]).prefix_.digest)
    random = clone(other).set_params(weights=None, random_state=3)
    digests.add(random.fit(IMAGES[:1]).prefix_.digest)
    assert len(digests) == 3
    expected = made.outputs(IMAGES).mean(axis=(1, 2))
    np.testing.assert_allclose(given.transform(IMAGES), expected, atol=1e-3 * expected.max())
    assert cosines(random.transform(IMAGES), expected).max() < 0.99
    config = json.loads((folder / "config.json").read_text())
    config["config"]["name"] = "another"
    (folder / "config.json").write_text(json.dumps(config))
    digests.add(clone(other).fit(IMAGES[:1]).prefix_.digest)
    assert len(digests) == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT", "DeiT", "SwinTransformer"])
def test_fine_tuned_networks_and_whole_models_give_the_probabilities(preset, name):
    options = {"engine": "keras", "random_state": 0}
    images = np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in IMAGES])
    for cut in (0, 2):
        classifier = TransferClassifier(preset(name).backbone, trainable_layers=cut, **options)
        if cut:
            classifier.set_params(fine_tune_epochs=1, **ALL_IMAGES)
        classifier.fit(images, LABELS)
        whole = outputs_of(classifier.model_, images)
        np.testing.assert_allclose(whole, classifier.predict_proba(images), atol=1e-5)
    loaded = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(loaded.predict_proba(images), whole, atol=1e-5)


def test_saved_classifiers_name_the_preset_or_hold_its_weights(preset, tmp_path):
    made = preset("VGG")
    classifier = TransferClassifier(made.backbone, engine="keras").fit(IMAGES, LABELS)
    expected = classifier.predict_proba(IMAGES)
    sizes = []
    for include_weights in (False, True):
        path = tmp_path / f"{include_weights}.tclf"
        save_model(classifier, path, include_weights=include_weights)
        np.testing.assert_allclose(load_model(path).predict_proba(IMAGES), expected, atol=1e-5)
        sizes.append(path.stat().st_size)
    assert sizes[1] > sizes[0] + 4 * made.model.count_params()


@pytest.mark.slow
def test_models_handed_in_as_objects_are_known_by_value(preset, in_another_process, tmp_path):
    model, images = preset("DeiT").model, np.stack([np.resize(one, SHAPE) for one in IMAGES])
    first = CNNFeatureExtractor(
        model, preprocessing="tf", engine="keras", cache=str(tmp_path / "store")
    )
    features = first.fit_transform(images)
    seen = first.prefix_.forward().images_seen
    again = clone(first).fit(images)
    assert again.prefix_.digest == first.prefix_.digest
    assert pickle.loads(pickle.dumps(first)).prefix_.digest == first.prefix_.digest
    np.testing.assert_array_equal(again.transform(images), features)
    classifier = TransferClassifier(model, preprocessing="tf", engine="keras", cache=first.cache)
    assert len(cross_val_score(classifier, images, LABELS, cv=2)) == 2
    assert first.prefix_.forward().images_seen == seen
    (tmp_path / "pickle").write_bytes(pickle.dumps((clone(first), images)))
    script = f"""
        import pickle
        from pathlib import Path
        extractor, images = pickle.loads(Path({str(tmp_path / "pickle")!r}).read_bytes())
        print(extractor.fit_transform(images).sum(dtype=float))
    """
    total = in_another_process(textwrap.dedent(NO_PASS) + textwrap.dedent(script))
    assert float(total) == pytest.approx(features.sum(dtype=float))


def test_presets_in_the_cache_of_kaggle_load_by_their_names(preset, tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    handle = files.built_in(("vgg",))["vgg_11_imagenet"].removeprefix("kaggle://")
    folder = tmp_path / "models" / handle
    shutil.copytree(preset("VGG").folder, folder)
    (folder / "preprocessor.json").write_text("{}")
    for file in folder.iterdir():
        marker = folder.parent / ".complete" / folder.name / f"{file.name}.complete"
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    monkeypatch.setattr(files, "_fetched", {})
    record = get_backbone("keras_hub:vgg_11_imagenet")
    assert (record.name, record.is_named) == ("keras_hub:vgg_11_imagenet", True)
    assert record.facts() == get_backbone(preset("VGG").backbone).facts()
    by_name = CNNFeatureExtractor(record.name, engine="keras").fit(IMAGES[:1])
    assert by_name.prefix_.digest == extractor(preset("VGG")).fit(IMAGES[:1]).prefix_.digest


def test_presets_that_cannot_be_downloaded_raise_one_error(tmp_path, monkeypatch):
    def refused(handle, path):
        raise OSError("no network")

    monkeypatch.setattr("kagglehub.model_download", refused)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    expected = rf"config.json of the preset .*dinov2_small.* not in {tmp_path}.*no network"
    with pytest.raises(WeightsError, match=expected):
        CNNFeatureExtractor("keras_hub:dinov2_small").fit(IMAGES)


def test_names_are_listed_without_importing_the_library():
    with counted_calls() as calls:
        names = list_backbones("keras_hub:*dino*")
    assert {"keras_hub:dinov2_small", "keras_hub:dinov3_vit_small_lvd1689m"} <= set(names)
    assert calls["import_module"] <= 1
    known = models.Backbone.presets
    assert {name.removeprefix("keras_hub:") for name in names} <= set(known)
    every = {name.removeprefix("keras_hub:") for name in list_backbones("keras_hub:*")}
    assert every >= set(models.ViTBackbone.presets) | set(models.SigLIPBackbone.presets)
    assert not every & set(models.BertBackbone.presets)


UNKNOWN = {
    "a slip": ("dinov2_smal", "did you mean 'keras_hub:dinov2_small'"),
    "a model of texts": ("bert_tiny_en_uncased", "no network of single images"),
    "another scheme": ("gs://bucket/preset", "begins with 'kaggle://' or 'hf://'"),
}


@pytest.mark.parametrize(("name", "message"), UNKNOWN.values(), ids=UNKNOWN)
def test_names_of_no_preset_for_images_raise_an_error(name, message):
    with pytest.raises(InvalidParameterError, match=message):
        get_backbone(f"keras_hub:{name}")


def test_folders_of_other_models_raise_an_error(tmp_path):
    with pytest.raises(UnknownBackboneError, match=r"has no config\.json"):
        get_backbone(f"keras_hub:{tmp_path}")
    lambdas = {"class_name": "ViTBackbone", "registered_name": "other>ViTBackbone", "config": {}}
    for config in (lambdas, {"model_type": "dinov2"}):
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(UnknownBackboneError, match="must be one that keras-hub saved"):
            get_backbone(f"keras_hub:{tmp_path}")


def test_a_preset_without_its_image_converter_gives_a_warning(preset, tmp_path):
    for file in ("config.json", "metadata.json"):
        shutil.copy(preset("VGG").folder / file, tmp_path)
    with pytest.warns(UserWarning, match=r"has no image_converter\.json.* from 0 to 255"):
        record = get_backbone(f"keras_hub:{tmp_path}")
    assert record.preprocessing.facts() == {}


def test_sizes_that_a_network_cannot_take_raise_an_error(preset):
    cases = {
        ("ViT", 40): "image_size must be 32, because keras-hub interpolates no",
        ("DINOV2", 36): "image_size must be a multiple of 8",
        ("DINOV2", (32, 40)): "takes squares only",
        ("VGG", 16): "at least 32",
    }
    for (name, size), message in cases.items():
        with pytest.raises(InvalidParameterError, match=message):
            extractor(preset(name), image_size=size).fit(IMAGES)


def test_position_embeddings_are_interpolated_to_other_sizes(preset):
    made = preset("DINOV2")
    features = extractor(made, image_size=48).fit_transform(IMAGES)
    model = models.Backbone.from_preset(str(made.folder), image_shape=(48, 48, 3))
    converter = keras_hub.layers.DINOV2ImageConverter.from_preset(
        str(made.folder), image_size=(48, 48)
    )
    pixels = np.concatenate([converter(one[None].astype(np.float32)) for one in IMAGES])
    assert cosines(features, np.asarray(model({"images": pixels}))[:, 0]).min() > 0.9999


def test_weights_of_another_network_raise_an_error(preset):
    path = preset("VGG").folder / "model.weights.h5"
    with pytest.raises(WeightsError, match=r"model\.weights\.h5 do not fit backbone 'keras_hub:"):
        extractor(preset("ViT"), weights=path).fit(IMAGES)
    with pytest.raises(WeightsError, match="cannot be read"):
        extractor(preset("ViT"), weights=path.with_name("absent.h5")).fit(IMAGES)


def test_archives_do_not_name_files_of_others(preset, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "huggingface_hub.hf_hub_download",
        lambda repo, file, **_: str(preset("VGG").folder / file),
    )
    monkeypatch.setattr(files, "_fetched", {})
    name = "keras_hub:hf://somebody/vgg"
    (preset("VGG").folder / "preprocessor.json").write_text("{}")
    classifier = TransferClassifier(name, engine="keras").fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match="an archive cannot name 'keras_hub:hf://"):
        save_model(classifier, tmp_path / "model.tclf")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidParameterError, match="pip install keras-hub"):
        list_backbones("keras_hub:*")


def test_networks_that_the_library_cannot_make_raise_an_error(preset):
    with pytest.raises(NetworkError, match=r"keras-hub cannot make .* of 36x36 pixels"):
        extractor(preset("SwinTransformer"), image_size=36).fit(IMAGES)
