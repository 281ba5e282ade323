"""Weights of backbones: their folders, their digests, and the errors when they are unavailable."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras.src.applications import mobilenet_v2
from keras.src.backend import config
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from transferclf import TransferClassifier, save_model
from transferclf.backbones import applications, tiny, weights
from transferclf.backbones.record import Backbone
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import (
    PretrainedBackbone,
    build_backbone,
    keras_models_folder,
    pretrained_file,
)
from transferclf.exceptions import NetworkError, WeightsError
from transferclf.features.frozen import Prefix
from transferclf.graphs import digests
from transferclf.graphs.digests import file_digest, model_digest

SIZE = (32, 32)
MOBILENET = get_backbone("mobilenet_v2_035")
FILE = MOBILENET.weights_file_for(SIZE)
TINY = get_backbone("tiny")


def save_old_format(model, path):
    """Save weights in the format of the files of keras.applications."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    return path


@pytest.fixture(scope="module")
def network():
    return build_backbone(MOBILENET, None, SIZE, seed=5)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    """Return a folder with the network's weights in both formats of Keras."""
    folder = tmp_path_factory.mktemp("weights")
    network.save_weights(folder / "mine.weights.h5")
    save_old_format(network, folder / FILE)
    return folder


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    home = tmp_path / "keras home"
    (home / "models").mkdir(parents=True)
    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr(config, "_KERAS_DIR", str(home))
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", (tmp_path / "nowhere").as_uri() + "/")
    return home


@pytest.fixture
def no_writing(monkeypatch):
    """Deny writing everywhere, because the tests may run as root."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- folders


def test_folder_equals_that_of_keras(keras_home):
    assert keras_models_folder() == keras_home / "models"
    asked = Path(file_utils.get_file("any", origin=Path(__file__).as_uri(), cache_subdir="models"))
    assert asked.parent == keras_models_folder()


def test_folder_without_keras_home_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_models_folder() == tmp_path / ".keras" / "models"


def test_home_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", "~/here")
    assert keras_models_folder() == tmp_path / "here" / "models"


def test_folder_may_not_exist_yet(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "not" / "yet"))
    assert keras_models_folder() == tmp_path / "not" / "yet" / "models"


def test_folder_that_cannot_be_written_is_replaced_as_keras_does(
    keras_home, no_writing, monkeypatch, tmp_path
):
    assert keras_models_folder() == Path("/tmp/.keras/models")
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    assert keras_models_folder() == tmp_path / "temporary" / ".keras" / "models"


def test_file_is_found_where_keras_keeps_it(keras_home):
    assert pretrained_file(MOBILENET, SIZE) is None
    path = keras_home / "models" / FILE
    path.touch()
    assert pretrained_file(MOBILENET, SIZE) == path
    assert pretrained_file(MOBILENET, (96, 96)) is None


def test_read_only_home_still_has_its_files(keras_home, no_writing):
    name = "a_file_that_is_nowhere_else.h5"
    backbone = PretrainedBackbone("any", "keras.applications:VGG16", weights_file=name)
    assert pretrained_file(backbone, SIZE) is None
    (keras_home / "models" / name).touch()
    assert pretrained_file(backbone, SIZE) == keras_home / "models" / name


def test_networks_without_a_weights_file_have_no_path():
    assert pretrained_file(Backbone("any", "module:function"), SIZE) is None
    bundled = pretrained_file(TINY, SIZE)
    assert bundled.is_file()
    assert bundled.parent == Path(weights.__file__).parent


# --- digests


def test_file_digest_follows_the_content(tmp_path):
    path = tmp_path / "file"
    for content in (b"one", b"two!", b"six"):
        path.write_bytes(content)
        os.utime(path, ns=(0, len(content) + content[0]))
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_file_is_read_once_while_it_stays_the_same(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"one")
    monkeypatch.setattr(digests, "SETTLED", 0)  # an old modification time
    digest = file_digest(path)
    monkeypatch.setattr(Path, "open", None)
    assert file_digest(path) == digest


def test_digest_changes_with_a_replaced_file_of_equal_length_and_time(tmp_path, monkeypatch):
    path, other = tmp_path / "file", tmp_path / "other"
    for number, settled in enumerate((0, digests.SETTLED)):
        monkeypatch.setattr(digests, "SETTLED", settled)
        path.write_bytes(b"one%d" % number)
        other.write_bytes(b"two%d" % number)
        for each in (path, other):
            os.utime(each, ns=(10**18, 10**18))
        assert file_digest(path) == hashlib.sha256(b"one%d" % number).hexdigest()
        os.replace(other, path)
        assert path.stat().st_mtime_ns == 10**18
        assert file_digest(path) == hashlib.sha256(b"two%d" % number).hexdigest()


def test_digest_changes_with_a_file_rewritten_in_place(tmp_path):
    path = tmp_path / "file"
    for content in (b"aaaa", b"bbbb", b"cccc"):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_digest_of_a_path_without_a_file_is_an_error(tmp_path, kind):
    path = tmp_path / "gone" if kind == "missing" else tmp_path
    with pytest.raises(WeightsError, match=r"cannot be read.*'pretrained'") as caught:
        file_digest(path)
    assert str(path) in str(caught.value)


def own_model(units=4, value=None, name="own"):
    model = keras.Sequential(
        [keras.Input((2,), name="input"), keras.layers.Dense(units, "relu", name="dense")],
        name=name,
    )
    model.layers[0].kernel.assign(np.arange(2.0 * units).reshape(2, units))
    if value is not None:
        model.layers[0].kernel.assign(value)
    return model


def test_equal_models_have_equal_digests():
    assert model_digest(own_model()) == model_digest(own_model())


def test_model_digest_ignores_training():
    model = own_model()
    digest = model_digest(model)
    model.compile("adam", "mse")
    model.trainable = False
    assert model_digest(model) == digest


@pytest.mark.parametrize("change", ["architecture", "one weight", "activation"])
def test_model_digest_changes_with(change):
    changed = own_model(units=5) if change == "architecture" else own_model()
    if change == "one weight":
        kernel = np.arange(8.0).reshape(2, 4)
        kernel[1, 2] += 1e-6 * kernel[1, 2]
        changed = own_model(value=kernel)
    if change == "activation":
        changed.layers[0].activation = keras.activations.tanh
    assert model_digest(changed) != model_digest(own_model())


def test_model_digest_of_a_layer_without_config():
    class Secretive(keras.layers.Layer):
        def get_config(self):
            raise NotImplementedError("no config here")

        def call(self, x):
            return 2 * x

    inputs = keras.Input((2,))
    model = keras.Model(inputs, Secretive()(inputs), name="mine")
    with pytest.raises(NetworkError, match=r"'mine' has one that cannot: no config here"):
        model_digest(model)


# --- random weights


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "tiny"])
def test_random_weights_follow_the_seed(name):
    first, again, other = (
        build_backbone(get_backbone(name), None, SIZE, seed) for seed in (1, 1, 2)
    )
    assert_same_weights(first, again)
    differing = [
        not np.array_equal(a, b)
        for a, b in zip(first.get_weights(), other.get_weights(), strict=True)
    ]
    kernels = sum(weight.ndim > 1 for weight in first.get_weights())
    assert sum(differing) == kernels


@pytest.mark.parametrize("name", ["mobilenet_v2_035", "tiny"])
def test_random_weights_do_not_change_random_states(name):
    generator = keras.src.random.seed_generator.global_seed_generator()
    states = random.getstate(), str(np.random.get_state()), np.asarray(generator.state)  # noqa: NPY002
    build_backbone(get_backbone(name), None, SIZE, seed=0)
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert keras.src.random.seed_generator.global_seed_generator() is generator
    np.testing.assert_array_equal(generator.state, states[2])


def test_the_random_state_is_put_back_after_an_error():
    state = random.getstate()
    with pytest.raises(WeightsError):
        build_backbone(MOBILENET, "nowhere.h5", SIZE, seed=0)
    assert random.getstate() == state


# --- weights from a path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mine.weights.h5", FILE])
def test_weights_from_a_file(network, folder, name):
    model = build_backbone(MOBILENET, folder / name, SIZE, seed=0)
    assert_same_weights(model, network)
    again = build_backbone(MOBILENET, str(folder / name), (48, 64), seed=0)
    assert_same_weights(again, network)


def test_weights_from_a_file_for_tiny(tmp_path):
    model = build_backbone(TINY, None, SIZE, seed=3)
    model.save_weights(tmp_path / "mine.weights.h5")
    again = build_backbone(TINY, tmp_path / "mine.weights.h5", SIZE, seed=0)
    assert_same_weights(model, again)


@pytest.mark.parametrize("name", ["mine.weights.h5", FILE])
def test_weights_of_another_architecture_are_refused(folder, name):
    wider = get_backbone("mobilenet_v2_050")
    with pytest.raises(WeightsError, match=r"do not fit backbone 'mobilenet_v2_050'") as caught:
        build_backbone(wider, folder / name, SIZE, seed=0)
    assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize("name", ["text.weights.h5", "text.h5", "text.npz"])
@pytest.mark.parametrize("backbone", [MOBILENET, TINY], ids=["mobilenet", "tiny"])
def test_files_without_weights_are_refused(tmp_path, backbone, name):
    (tmp_path / name).write_text("no weights")
    with pytest.raises(WeightsError, match=f"{name} is damaged.*backbone '{backbone.name}'"):
        build_backbone(backbone, tmp_path / name, SIZE, seed=0)


@pytest.mark.parametrize("backbone", [MOBILENET, TINY], ids=["mobilenet", "tiny"])
def test_a_missing_weights_file_is_an_error(tmp_path, backbone):
    with pytest.raises(WeightsError, match="There is no weights file") as caught:
        build_backbone(backbone, tmp_path / "gone.h5", SIZE, seed=0)
    assert str(tmp_path / "gone.h5") in str(caught.value)
    assert isinstance(caught.value, OSError)


# --- pretrained weights


def test_pretrained_weights_are_read_from_the_cache(keras_home, network, folder):
    shutil.copy(folder / FILE, keras_home / "models")
    for name in ("pretrained", "imagenet"):
        assert_same_weights(build_backbone(MOBILENET, name, SIZE, seed=0), network)


def test_pretrained_weights_are_downloaded(keras_home, network, folder, monkeypatch):
    monkeypatch.setattr(mobilenet_v2, "BASE_WEIGHT_PATH", folder.as_uri() + "/")
    assert_same_weights(build_backbone(MOBILENET, "pretrained", SIZE, seed=0), network)
    assert pretrained_file(MOBILENET, SIZE) == keras_home / "models" / FILE
    assert (keras_home / "models" / FILE).read_bytes() == (folder / FILE).read_bytes()


def test_unavailable_pretrained_weights_are_an_error(keras_home):
    with pytest.raises(WeightsError, match=r"URL fetch failure.*KERAS_HOME.*backbone='tiny'") as e:
        build_backbone(MOBILENET, "pretrained", SIZE, seed=0)
    assert f"{keras_home / 'models' / FILE} is not there" in str(e.value)
    assert "'mobilenet_v2_035'" in str(e.value)
    assert not any((keras_home / "models").iterdir())


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_damaged_pretrained_weights_are_refused(keras_home, folder, damage):
    content = (folder / FILE).read_bytes()
    content = {"cut": content[: len(content) // 2], "text": b"<html>", "empty": b""}[damage]
    (keras_home / "models" / FILE).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{FILE} is damaged"):
        build_backbone(MOBILENET, "pretrained", SIZE, seed=0)


def narrow_stem(monkeypatch):
    """Let Keras build the first convolution with another number of channels."""
    real = mobilenet_v2.layers.Conv2D

    def conv2d(filters, *arguments, name=None, **options):
        grown = filters + 8 if name == "Conv1" else filters
        return real(grown, *arguments, name=name, **options)

    monkeypatch.setattr(mobilenet_v2.layers, "Conv2D", conv2d)


@pytest.mark.parametrize("by_path", [False, True])
def test_error_of_weights_for_another_keras_version(by_path, keras_home, folder, monkeypatch):
    file = keras_home / "models" / FILE
    file.write_bytes((folder / FILE).read_bytes())
    narrow_stem(monkeypatch)
    with pytest.raises(WeightsError) as caught:
        build_backbone(MOBILENET, file if by_path else "pretrained", SIZE, seed=0)
    said = str(caught.value)
    assert f"{file} do not fit backbone 'mobilenet_v2_035'" in said
    assert f"as Keras {keras.__version__} builds it" in said
    assert "The file itself is whole" in said
    assert "(3, 3, 3, 16)" in said
    assert "(3, 3, 3, 24)" in said
    assert "damaged" not in said


def test_error_of_a_file_with_a_wrong_digest(keras_home, folder, monkeypatch):
    (keras_home / "models" / FILE).write_bytes((folder / FILE).read_bytes())
    real = mobilenet_v2.file_utils.get_file

    def get_file(*arguments, **options):
        return real(*arguments, **options, file_hash="0" * 64)

    monkeypatch.setattr(mobilenet_v2.file_utils, "get_file", get_file)
    with pytest.raises(WeightsError, match=f"{FILE} is damaged, or another than Keras expects"):
        build_backbone(MOBILENET, "pretrained", SIZE, seed=0)


@pytest.mark.parametrize("error", [ValueError("shapes"), TypeError("unknown"), KeyError("name")])
def test_failure_to_build_a_network_is_one_error(error, folder, monkeypatch):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(mobilenet_v2.layers, "Conv2D", fail)
    with pytest.raises(WeightsError, match="do not fit backbone 'mobilenet_v2_035'"):
        build_backbone(MOBILENET, folder / FILE, SIZE, seed=0)


def test_damaged_weights_of_tiny_are_refused(tmp_path, monkeypatch):
    (tmp_path / "tiny_weights.npz").write_bytes(b"damaged")
    monkeypatch.setattr(tiny, "WEIGHTS_PATH", tmp_path / "tiny_weights.npz")
    with pytest.raises(WeightsError, match="'tiny' are damaged"):
        build_backbone(TINY, "pretrained", SIZE, seed=0)


def test_pretrained_weights_of_tiny_differ_from_random_ones():
    pretrained, fresh = (build_backbone(TINY, which, SIZE, 0) for which in ("pretrained", None))
    assert any(
        not np.array_equal(a, b)
        for a, b in zip(pretrained.get_weights(), fresh.get_weights(), strict=True)
    )


def test_pretrained_weights_are_read_from_a_read_only_home(
    keras_home, network, folder, tmp_path, monkeypatch
):
    shutil.copy(folder / FILE, keras_home / "models")
    for module in (weights, applications):
        monkeypatch.setattr(module, "keras_models_folder", lambda: tmp_path / "elsewhere")
    assert_same_weights(build_backbone(MOBILENET, "pretrained", SIZE, seed=0), network)


# --- EfficientNets: Keras builds another network for their ImageNet weights


@pytest.fixture(scope="module")
def efficientnet(tmp_path_factory):
    """Save an EfficientNet's weights under the name of Keras, and under another."""
    model = build_backbone(get_backbone("efficientnet_b0"), None, SIZE, seed=1)
    folder = tmp_path_factory.mktemp("efficientnet")
    path = save_old_format(model, folder / "efficientnetb0_notop.h5")
    shutil.copy(path, folder / "mine.h5")
    return path


def outputs(model):
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype("float32")
    return np.asarray(model(pixels, training=False))


@pytest.fixture(scope="module")
def outputs_by_keras(efficientnet):
    arguments = {"include_top": False, "input_shape": (*SIZE, 3)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", lambda *args, **kwargs: str(efficientnet))
        official = outputs(keras.applications.EfficientNetB0(weights="imagenet", **arguments))
    mine = outputs(keras.applications.EfficientNetB0(weights=str(efficientnet), **arguments))
    assert np.abs(official - mine).max() > 1e-4 * np.abs(mine).max()
    return official, mine


@pytest.mark.slow
def test_efficientnet_agrees_with_keras_for_any_path_of_its_file(
    efficientnet, outputs_by_keras, keras_home, tmp_path, monkeypatch
):
    official, mine = outputs_by_keras
    backbone = get_backbone("efficientnet_b0")
    shutil.copy(efficientnet, keras_home / "models")
    for module in (weights, applications):
        monkeypatch.setattr(module, "keras_models_folder", lambda: tmp_path / "elsewhere")
    for which, expected in [
        ("pretrained", official),
        (efficientnet, official),
        (efficientnet.with_name("mine.h5"), mine),
    ]:
        result = outputs(build_backbone(backbone, which, SIZE, seed=0))
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * np.ptp(expected))


def test_digest_of_efficientnet_changes_with_its_function(efficientnet, keras_home):
    shutil.copy(efficientnet, keras_home / "models")
    pretrained, official, mine = (
        Prefix(get_backbone("efficientnet_b0"), which, 0, SIZE, "none", "avg").digest
        for which in ("pretrained", efficientnet, efficientnet.with_name("mine.h5"))
    )
    assert pretrained == official
    assert official != mine


# --- other builders, and other settings of Keras


def test_registered_builders_bring_their_weights():
    made = own_model()
    backbone = Backbone("own", lambda input_shape: (made, input_shape))
    assert build_backbone(backbone, None, SIZE, seed=0) == (made, (*SIZE, 3))


def test_channels_must_come_last(monkeypatch):
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    with pytest.raises(NetworkError, match=r"channels_last.*Got 'channels_first'"):
        build_backbone(TINY, None, SIZE, seed=0)


@pytest.mark.slow
def test_weights_load_in_a_new_process(folder, tmp_path):
    """Load weights where KERAS_HOME does not exist yet and Keras is imported late."""
    code = f"""
        import sys
        from transferclf.exceptions import WeightsError
        from transferclf.features.choosing import choose_prefix
        from transferclf.graphs.digests import file_digest
        from transferclf.backbones.weights import pretrained_file, keras_models_folder

        prefix = choose_prefix(
            "mobilenet_v2_035", weights="pretrained", image_size=32, preprocessing="auto",
            pooling="avg", layers=(), seed=0,
        )
        folder = keras_models_folder()
        assert "keras" not in sys.modules
        from keras.src.applications import mobilenet_v2
        mobilenet_v2.BASE_WEIGHT_PATH = {(tmp_path / "nowhere").as_uri()!r} + "/"
        try:
            prefix.digest
        except WeightsError as error:
            assert str(folder) in str(error), error
        else:
            raise AssertionError("no error")
        mobilenet_v2.BASE_WEIGHT_PATH = {folder.as_uri()!r} + "/"
        file = folder / prefix.backbone.weights_file_for(prefix.size)
        assert not file.exists()
        assert len(prefix.digest) == 64
        assert file.is_file() and keras_models_folder() == folder
    """
    environment = os.environ | {"KERAS_HOME": str(tmp_path / "home"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_efficientnet_is_loaded_from_an_archive_in_another_process(
    efficientnet, tmp_path, in_another_process
):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    fitted = TransferClassifier(
        "efficientnet_b0", weights=efficientnet, image_size=32, l2=0.1, random_state=0
    ).fit(images, [0, 1] * 3)
    save_model(fitted, tmp_path / "a.model")
    np.save(tmp_path / "images.npy", images)
    in_another_process(
        """
        import sys
        import numpy as np
        from transferclf import load_model
        images = np.load(sys.argv[1] + "/images.npy")
        loaded = load_model(sys.argv[1] + "/a.model")
        np.save(sys.argv[1] + "/found.npy", loaded.predict_proba(images))
        """,
        str(tmp_path),
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"), fitted.predict_proba(images), atol=1e-5
    )
