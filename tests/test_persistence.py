"""Tests of saving and loading: the predictions stay the same, and files hold plain values only."""

import functools
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn
from image_helpers import striped_images
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import transferclf
from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    ConvNet,
    FeatureStore,
    Preprocessing,
    TransferClassifier,
    load_model,
    register_backbone,
    save_model,
)
from transferclf.backbones import registry as backbones
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import build_backbone
from transferclf.exceptions import ArchiveError, InvalidParameterError, WeightsError
from transferclf.objectives import Classes
from transferclf.persistence.models import FORMAT

N = 18
RNG = np.random.default_rng(0)
IMAGES = striped_images(N, RNG)
LABELS = np.arange(N) % 3
OTHERS = striped_images(9, RNG)

CONVNET = {"backbone": ConvNet((4,), dense_units=(4,)), "image_size": 8, "epochs": 2}
HIDDEN = {"hidden_units": (4,), "epochs": 2}
TUNED = {"trainable_layers": "top", "fine_tune_epochs": 1}


def tiny(**changes):
    return TransferClassifier(**({"image_size": 32, "random_state": 0} | changes))


def own_network(seed=0, units=4):
    inputs = keras.Input((16, 16, 3))
    start = keras.initializers.GlorotUniform(seed)
    x = keras.layers.Conv2D(units, 3, kernel_initializer=start)(
        keras.layers.Rescaling(1 / 255)(inputs)
    )
    return keras.Model(inputs, x, name="mine")


def again(estimator, path, **arguments):
    save_model(estimator, path)
    return load_model(path, **arguments)


def assert_same_predictions(loaded, fitted, images=OTHERS):
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))
    np.testing.assert_array_equal(loaded.predict(images[:1]), fitted.predict(images[:1]))
    assert loaded.predict(images).dtype == fitted.predict(images).dtype


@pytest.fixture(scope="module")
def linear():
    return tiny().fit(IMAGES, LABELS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.model"


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """Weights of `tiny` that are not the bundled ones."""
    path = tmp_path_factory.mktemp("weights") / "mine.weights.h5"
    build_backbone(get_backbone("tiny"), None, (32, 32), seed=7).save_weights(path)
    return path


# --- the same predictions

CASES = {
    "linear head": {},
    "hidden layers": HIDDEN
    | {"batch_norm": "before", "dropout": 0.2, "activation": "gelu", "l1": 1e-4},
    "last layers": TUNED,
    "all layers": {"trainable_layers": "all", "fine_tune_epochs": 1},
    "convolutional": CONVNET,
    "standardized": CONVNET | {"preprocessing": "standardize"},
    "whitened": CONVNET | {"preprocessing": "zca", "backbone": ConvNet((), dense_units=(4,))},
    "batch normalisation": CONVNET | {"backbone": ConvNet((4,), batch_norm="after", dropout=0.1)},
    "random and frozen": {"weights": None},
    "views": {"augmentation": "light", "test_time_augmentation": "both"},
    "other words": {
        "resize": "pad", "pooling": "max", "preprocessing": "torch", "pixel_range": "minmax",
        "class_weight": {0: 1.0, 2: 0.5}, "image_size": [32, 48], "oversample": True,
    },
    "a record of preprocessing": {
        "preprocessing": Preprocessing(
            scale=(0.01, 0.02, 0.01), mean=1, interpolation="bicubic", crop_fraction=0.9,
        ),
    },
    "keras engine": {"engine": "keras", "cache": None},
}  # fmt: skip


@functools.cache
def fitted_as(case):
    return tiny(**CASES[case]).fit(IMAGES, LABELS)


@pytest.mark.parametrize(
    ("case", "include_weights"),
    [
        *((case, False) for case in CASES),
        # The weights of a frozen network and of layers below a cut are the same for all heads.
        *((case, True) for case in ("linear head", "last layers", "random and frozen")),
    ],
)
def test_predictions_are_the_same(case, include_weights, path):
    fitted = fitted_as(case)
    save_model(fitted, path, include_weights=include_weights)
    loaded = load_model(path)
    assert_same_predictions(loaded, fitted)
    assert loaded.get_params().keys() == fitted.get_params().keys()
    for name in ("history_", "n_iter_", "n_head_iter_", "l2_", "augmentation_", "pixel_range_"):
        assert getattr(loaded, name) == getattr(fitted, name)
        assert type(getattr(loaded, name)) is type(getattr(fitted, name))
    np.testing.assert_array_equal(loaded.sample_indices_, fitted.sample_indices_)
    np.testing.assert_array_equal(loaded.skipped_indices_, fitted.skipped_indices_)


@pytest.mark.parametrize("case", ["linear head", "last layers", "convolutional"])
def test_a_loaded_model_is_saved_to_the_same_bytes(case, path, tmp_path):
    fitted = fitted_as(case)
    other = tmp_path / "b.model"
    save_model(again(fitted, path), other)
    assert path.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_a_model_loaded_with_its_weights_is_saved_with_them(linear, path, tmp_path):
    save_model(linear, path, include_weights=True)
    loaded = load_model(path)
    loaded = again(loaded, tmp_path / "b.model")
    assert_same_predictions(loaded, linear)
    assert (tmp_path / "b.model").stat().st_size > 1_000_000 > path.stat().st_size / 100


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["a path", "a text"])
def test_weights_from_a_file_are_saved_in_the_archive(weights, tiny_file, path):
    file = tiny_file.with_name(f"{weights}.weights.h5")
    file.write_bytes(tiny_file.read_bytes())
    fitted = tiny(weights=file if weights == "a path" else str(file), l2=0.1).fit(IMAGES, LABELS)
    save_model(fitted, path)
    file.unlink()
    loaded = load_model(path)
    assert_same_predictions(loaded, fitted)
    assert loaded.weights == fitted.weights


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"])[LABELS % 2],
        np.array(["cat", "dog", "owl"], dtype=object)[LABELS],
        np.array(["é", "ü", "ß"], dtype="U10")[LABELS],
        np.array([-5, 3, 2**60])[LABELS],
        LABELS.astype(np.uint8),
        LABELS % 2 == 0,
        LABELS.astype(float),
    ],
    ids=["two texts", "objects", "wide texts", "integers", "bytes", "booleans", "floats"],
)
def test_labels_keep_their_type(labels, path):
    fitted = tiny(l2=0.1).fit(IMAGES, labels)
    loaded = again(fitted, path)
    assert_same_predictions(loaded, fitted)
    assert loaded.classes_.dtype == fitted.classes_.dtype
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)
    if len(fitted.classes_) == 2:
        assert loaded.decision_function(OTHERS).shape == (len(OTHERS),)


@pytest.mark.slow
def test_the_whole_model_is_the_same(path):
    fitted = fitted_as("last layers")
    first, second = fitted.model_.get_weights(), again(fitted, path).model_.get_weights()
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", [None, ["block1_unit1_add", "top_relu"]])
@pytest.mark.parametrize("include_weights", [False, True])
def test_features_are_the_same(layer, include_weights, path):
    fitted = CNNFeatureExtractor(image_size=32, layer=layer).fit(IMAGES)
    save_model(fitted, path, include_weights=include_weights)
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.transform(OTHERS), fitted.transform(OTHERS))
    assert loaded.get_feature_names_out().tolist() == fitted.get_feature_names_out().tolist()
    assert loaded.get_params() == fitted.get_params()


def test_rows_keep_their_length(path):
    rows = IMAGES[..., 0].reshape(N, -1)
    fitted = tiny(image_shape=(32, 32)).fit(rows, LABELS)
    loaded = again(fitted, path)
    assert loaded.n_features_in_ == 32 * 32
    assert loaded.image_shape == (32, 32)
    assert_same_predictions(loaded, fitted, rows)


@pytest.mark.parametrize(
    "images", [IMAGES, IMAGES / 255, IMAGES.astype(np.uint16) * 257, IMAGES * 1.0]
)
def test_the_pixel_range_of_fit_is_kept(images, path):
    fitted = tiny().fit(images, LABELS)
    loaded = again(fitted, path)
    assert loaded.pixel_range_ == fitted.pixel_range_
    assert type(loaded.pixel_range_) is type(fitted.pixel_range_)
    assert_same_predictions(loaded, fitted, images)


def test_parameters_come_back(path):
    params = {
        "augmentation": Augmentation(rotation=10, views=1),
        "hidden_units": [4],
        "dropout": np.float32(0.5),
        "epochs": np.int64(1),
        "class_weight": {0: 2, 1: 1.5},
        "random_state": 3,
        "callbacks": [],
    }
    loaded = again(tiny(**params).fit(IMAGES, LABELS), path)
    for name, value in params.items():
        assert getattr(loaded, name) == value
    assert type(loaded.epochs) is int


@pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
def test_training_continues_after_loading(path):
    fitted = tiny(optimizer="adam", warm_start=True, epochs=2).fit(IMAGES, LABELS)
    loaded = again(fitted, path).fit(IMAGES, LABELS)
    assert loaded.history_["loss"][:2] == fitted.history_["loss"]
    assert len(loaded.history_["loss"]) > 2
    partly = tiny().partial_fit(IMAGES, LABELS, classes=[0, 1, 2])
    loaded = again(partly, path)
    assert_same_predictions(loaded, partly)
    loaded.partial_fit(IMAGES, LABELS)
    assert len(loaded.history_["loss"]) == 2


# --- what is in the file


def facts_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("model.json"))


def test_an_archive_names_a_bundled_backbone_and_does_not_store_it(linear, path):
    save_model(linear, path)
    facts = facts_of(path)
    weights = facts["fitted"]["prefix"]["weights"]
    assert weights == {
        "kind": "file",
        "name": "pretrained",
        "digest": linear.prefix_.weights_digest,
    }
    assert facts["format"] == FORMAT
    assert facts["versions"].keys() >= {"transferclf", "keras", "tensorflow", "numpy"}
    assert path.stat().st_size < 4 * 8 * 6 * linear.head_.mean.size


def test_numpy_reads_an_archive_without_pickle(linear, path):
    save_model(linear, path, include_weights=True)
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["head/coef"], linear.head_.coef)
        names = [name for name in arrays.files if name != "model.json"]
        assert all(np.isfinite(arrays[name]).all() for name in names)


def test_a_network_from_scratch_needs_no_backbone(path):
    fitted = fitted_as("convolutional")
    save_model(fitted, path, include_weights=True)
    assert facts_of(path)["fitted"]["prefix"]["weights"] == {"kind": "trained"}


def test_the_archive_does_not_name_the_feature_store(tmp_path, path):
    folder = tmp_path / "features"
    for cache in (folder, str(folder), FeatureStore(folder), FeatureStore()):
        fitted = CNNFeatureExtractor(image_size=32, cache=cache).fit(IMAGES[:1])
        assert again(fitted, path).cache == "memory"
        assert str(folder).encode() not in path.read_bytes()


def test_the_archive_does_not_say_how_many_processes_to_start(path):
    fitted = CNNFeatureExtractor(image_size=32, n_jobs=3).fit(IMAGES[:1])
    assert again(fitted, path).n_jobs is None
    assert "n_jobs" not in facts_of(path)["parameters"]


def test_a_linear_head_loads_without_tensorflow(linear, path):
    save_model(linear, path)
    code = """
        import sys
        from transferclf import load_model
        loaded = load_model(sys.argv[1])
        print(loaded.classes_.tolist(), "tensorflow" in sys.modules, "keras" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), path], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[0, 1, 2] False False", done.stderr


# --- user-defined networks


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, TUNED | {"trainable_layers": 1}], ids=["frozen", "tuned"])
def test_load_model_takes_a_user_defined_model(changes, path):
    network = own_network()
    fitted = TransferClassifier(network, random_state=0, **changes).fit(IMAGES, LABELS)
    rebuilt = own_network()  # its layers have other names
    loaded = again(fitted, path, backbone=rebuilt)
    assert_same_predictions(loaded, fitted)
    assert loaded.backbone is rebuilt
    for backbone, reason in [
        (None, r"'mine'.*load_model\(path, backbone=MODEL\)"),
        (own_network(seed=1), "other weights"),
        (own_network(units=5), "other weights"),
        ("tiny", "a keras.Model or an ONNX file. Got str"),
        (3, "keras.Model. Got int"),
    ]:
        with pytest.raises(InvalidParameterError, match=reason):
            load_model(path, backbone=backbone)


def test_a_user_defined_model_with_other_code_is_refused(path):
    def network(activation):
        inputs = keras.Input((16, 16, 3))
        x = keras.layers.Conv2D(4, 3, activation=activation, kernel_initializer="ones")(
            keras.layers.Rescaling(1 / 255)(inputs)
        )
        return keras.Model(inputs, x, name="mine")

    fitted = CNNFeatureExtractor(network("relu")).fit(IMAGES)
    loaded = again(fitted, path, backbone=network("relu"))
    assert loaded.get_feature_names_out()[0] == "mine_avg_0"
    with pytest.raises(InvalidParameterError, match="other features"):
        load_model(path, backbone=network("tanh"))


def test_a_registered_builder_is_found_by_its_name(path, monkeypatch):
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    register_backbone("mine", lambda input_shape: own_network(), image_size=16)
    fitted = TransferClassifier("mine").fit(IMAGES, LABELS)
    assert_same_predictions(again(fitted, path), fitted)
    assert_same_predictions(load_model(path, backbone=own_network()), fitted)
    del backbones._REGISTRY["mine"]
    with pytest.raises(InvalidParameterError, match="register_backbone"):
        load_model(path)


def test_an_unnecessary_backbone_is_refused(linear, path):
    with pytest.raises(InvalidParameterError, match="leave it out"):
        again(linear, path, backbone=own_network())


# --- other weights on this machine


def test_other_bundled_weights_are_refused(linear, path, tmp_path, monkeypatch):
    save_model(linear, path)
    other = tmp_path / "other.npz"
    other.write_bytes(b"of another version")
    monkeypatch.setattr("transferclf.backbones.weights._TINY_FILE", other)
    with pytest.raises(WeightsError, match=r"'tiny' in .*include_weights=True"):
        load_model(path)
    monkeypatch.undo()
    save_model(linear, path, include_weights=True)
    expected = linear.predict_proba(OTHERS)
    monkeypatch.setattr("transferclf.backbones.weights._TINY_FILE", other)
    np.testing.assert_array_equal(load_model(path).predict_proba(OTHERS), expected)


def test_other_random_weights_are_refused(path, monkeypatch):
    save_model(tiny(weights=None).fit(IMAGES, LABELS), path)
    draw = build_backbone
    monkeypatch.setattr(
        "transferclf.features.frozen.build_backbone",
        lambda record, weights, size, seed: draw(record, weights, size, seed + 1),
    )
    with pytest.raises(WeightsError, match="this version of its library draws others"):
        load_model(path)


def test_weights_are_compared_after_their_download(linear, path, monkeypatch):
    save_model(linear, path)
    monkeypatch.setattr("transferclf.persistence.prefixes.pretrained_file", lambda *_: None)
    loaded = load_model(path)
    assert loaded.prefix_.weights_digest == linear.prefix_.weights_digest
    assert_same_predictions(loaded, linear)


# --- what is refused


@pytest.mark.parametrize("unfitted", [TransferClassifier(), CNNFeatureExtractor()])
def test_only_fitted_estimators_can_be_saved(unfitted, path):
    with pytest.raises(NotFittedError):
        save_model(unfitted, path)
    assert not path.exists()


def test_an_extractor_is_not_fitted_after_a_failed_fit(path):
    failed = CNNFeatureExtractor(image_size=32, layer="nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        failed.fit(IMAGES)
    with pytest.raises(NotFittedError):
        save_model(failed, path)


def test_only_our_own_classes_can_be_saved(linear, path):
    class Mine(TransferClassifier):
        pass

    for other in (make_pipeline(linear), Mine(), "text"):
        with pytest.raises(InvalidParameterError, match="save the step"):
            save_model(other, path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"optimizer": "an object"}, r"set_params\(optimizer=NAME"),
        ({"random_state": np.random.RandomState(0)}, r"set_params\(random_state=NUMBER\)"),
        ({"callbacks": [keras.callbacks.History()]}, r"set_params\(callbacks=None\)"),
        ({"lr_schedule": keras.optimizers.schedules.CosineDecay(0.1, 5)}, "lr_schedule=None"),
        ({"head": keras.layers.Flatten()}, "code of your own; pickle"),
        ({"activation": "mine>code"}, "Keras' own|one of Keras' names"),
        ({"class_weight": {"a": object()}}, "class_weight must be of plain values"),
        ({"l2": 1e400}, "l2"),
        ({"epochs": 0}, "epochs must be"),
    ],
)
def test_objects_that_json_lacks_are_refused(changes, reason, linear, path):
    if changes.get("optimizer") == "an object":
        changes = {"optimizer": keras.optimizers.SGD(0.1)}
    changed = load_or_copy(linear).set_params(**changes)
    with pytest.raises(InvalidParameterError, match=reason):
        save_model(changed, path)
    assert os.listdir(path.parent) == []


def load_or_copy(fitted):
    """Return a copy of the fitted estimator, which a test can change."""
    copy = TransferClassifier()
    copy.__dict__ = dict(fitted.__dict__)
    return copy


def test_a_user_defined_head_is_refused(path):
    def head(maps):
        return keras.layers.Dense(2)(keras.layers.GlobalMaxPooling2D()(maps))

    fitted = TransferClassifier(own_network(), head=head, epochs=1, preprocessing="none")
    fitted.fit(IMAGES, LABELS)
    with pytest.raises(InvalidParameterError, match="code of your own"):
        save_model(fitted, path)
    with pytest.raises(InvalidParameterError, match="code of your own"):
        save_model(fitted.set_params(head=None), path)


def test_foreign_attributes_are_refused(linear, path):
    noted = load_or_copy(linear)
    noted.note = "mine"
    with pytest.raises(InvalidParameterError, match="no place for note"):
        save_model(noted, path)


def test_labels_of_other_types_are_refused(linear, path):
    odd, suffix = load_or_copy(linear), linear.head_.suffix
    dates = Classes(np.array(["2020", "2021", "2022"], dtype="M8[Y]"))
    odd.head_ = replace(linear.head_, suffix=replace(suffix, objective=dates))
    with pytest.raises(InvalidParameterError, match="classes must be texts"):
        save_model(odd, path)
    wide = Classes(np.array(["a", "b", "c"], dtype=f"U{2**23}"))
    odd.head_ = replace(linear.head_, suffix=replace(suffix, objective=wide))
    with pytest.raises(InvalidParameterError, match="at most"):
        save_model(odd, path)


def test_numbers_must_be_finite(linear, path):
    odd, (coef, intercept) = load_or_copy(linear), linear.head_.weights
    odd.head_ = replace(linear.head_, weights=[np.full_like(coef, np.nan), intercept])
    with pytest.raises(ArchiveError, match="head/coef must be finite"):
        save_model(odd, path)


# --- writing


def test_a_path_can_be_a_text(linear, tmp_path):
    save_model(linear, str(tmp_path / "a.model"))
    assert_same_predictions(load_model(str(tmp_path / "a.model")), linear)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_save_leaves_the_old_file(error, linear, path, monkeypatch):
    save_model(linear, path)
    before, writestr, written = path.read_bytes(), zipfile.ZipFile.writestr, []

    def interrupted(self, *arguments):
        written.append(arguments)
        if len(written) == 3:
            raise error
        return writestr(self, *arguments)

    monkeypatch.setattr(zipfile.ZipFile, "writestr", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        save_model(linear, path, include_weights=True)
    assert len(written) == 3
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_replaced_and_keeps_usual_permissions(linear, path):
    path.write_text("something else")
    umask = os.umask(0o027)
    try:
        save_model(linear, path)
    finally:
        os.umask(umask)
    assert_same_predictions(load_model(path), linear)
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("place", ["nowhere/a.model", "."])
def test_unwritable_places_raise_an_error(place, linear, tmp_path):
    with pytest.raises(OSError, match=r"nowhere|directory|denied"):
        save_model(linear, tmp_path / place)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_raises_an_error(linear, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="permission denied to write in"):
        save_model(linear, tmp_path / "a.model")


def test_a_missing_permission_raises_an_error_before_any_work(linear, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=f"permission denied to write in {tmp_path}"):
        save_model(linear, tmp_path / "a.model")


def test_a_missing_folder_is_named(linear, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'new'}: make it first"):
        save_model(linear, tmp_path / "new" / "a.model")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(FileNotFoundError, match="make it first"):
        save_model(linear, tmp_path / "file" / "a.model")


# --- file objects


class Stream(io.RawIOBase):
    """A stream without seek, like a response of a server."""

    def __init__(self, content=b""):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def writable(self):
        return True

    def read(self, size=-1):
        return self.content.read(size)

    def write(self, content):
        return self.content.write(content)


def test_file_objects_are_written_and_read(linear, path):
    buffer = io.BytesIO()
    save_model(linear, buffer)
    assert_same_predictions(load_model(buffer), linear)
    assert not buffer.closed
    save_model(linear, path)
    assert buffer.getvalue() == path.read_bytes()
    with path.open("wb") as file:
        save_model(linear, file)
        file.flush()
        assert buffer.getvalue() == path.read_bytes()
    with path.open("rb") as file:
        assert_same_predictions(load_model(file), linear)
        assert not file.closed
    stream = Stream()
    save_model(linear, stream)
    assert stream.content.getvalue() == buffer.getvalue()
    assert_same_predictions(load_model(Stream(buffer.getvalue())), linear)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (io.StringIO, "binary file object. Got one of text, StringIO"),
        (lambda: None, "binary file object, such as .* Got NoneType"),
        (lambda: 3, "Got int"),
        (lambda: b"a.model", "Got bytes"),
        (lambda: "", "the name of a file. Got ''"),
        (lambda: "a\0b", "the name of a file. Got"),
        (lambda: ["a.model"], "Got list"),
        (lambda: closed(io.BytesIO()), "a closed one"),
        (object, "Got object"),
        (lambda: io.BytesIO, "Got type|binary"),
    ],
)
def test_other_objects_than_paths_and_files_raise_an_error(make, message, linear):
    with pytest.raises((InvalidParameterError, TypeError), match=message):
        save_model(linear, make())
    with pytest.raises((InvalidParameterError, TypeError), match=message):
        load_model(make())


def closed(file):
    file.close()
    return file


def test_file_objects_of_the_wrong_mode_raise_an_error(linear, path):
    save_model(linear, path)
    with path.open("rb") as file, pytest.raises(InvalidParameterError, match="cannot write"):
        save_model(linear, file)
    with path.open("r+b") as file:
        assert_same_predictions(load_model(file), linear)
    with path.open("ab") as file, pytest.raises(InvalidParameterError, match="cannot read"):
        load_model(file)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip at all", b"PK\x05\x06" + bytes(18)])
def test_file_objects_without_an_archive_raise_an_error(content):
    with pytest.raises(ArchiveError, match="the BytesIO cannot be loaded"):
        load_model(io.BytesIO(content))


def test_archives_work_without_the_metadata_of_packages(linear, path, monkeypatch):
    """Save and load when the package runs from its sources."""

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    save_model(linear, path)
    assert facts_of(path)["versions"]["transferclf"] == transferclf.__version__
    assert facts_of(path)["versions"]["keras"] == keras.__version__
    assert facts_of(path)["versions"]["scikit-learn"] == sklearn.__version__
    assert_same_predictions(load_model(path), linear)


# --- archives of every format

ARCHIVES = Path(__file__).with_name("archives")


@pytest.mark.parametrize("name", sorted(path.stem for path in ARCHIVES.glob("*.model")))
def test_old_archives_load(name):
    expected = json.loads((ARCHIVES / f"{name}.json").read_text())
    loaded = load_model(ARCHIVES / f"{name}.model")
    rng = np.random.default_rng(expected["seed"])
    images = rng.integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    assert loaded.classes_.tolist() == expected["classes"]
    np.testing.assert_allclose(loaded.predict_proba(images), expected["proba"], atol=1e-4)
    assert loaded.predict(images).tolist() == expected["labels"]
    assert loaded.phases_ == expected["phases"]


def test_the_tests_have_an_archive_of_every_format():
    formats = {facts_of(path)["format"] for path in ARCHIVES.glob("*.model")}
    assert formats == set(range(1, FORMAT + 1))
