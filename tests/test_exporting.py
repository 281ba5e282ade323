"""Exported files: results in their own runtimes, names inside, hostile input, no half files."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from packaging.requirements import Requirement
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from transferclf import (
    CNNFeatureExtractor,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    export,
    predict_exported,
    read_exported,
)
from transferclf.exceptions import ArchiveError, ExportError, InvalidParameterError, NetworkError
from transferclf.exporting import exporting
from transferclf.exporting import openvino as openvino_format
from transferclf.exporting.facts import Facts, facts_of
from transferclf.exporting.onnx import OnnxFormat
from transferclf.exporting.registry import FORMATS

N, SIDE = 24, 32
IMAGES = striped_images(N, np.random.default_rng(0))
# Photographs are rarely as large as the network needs.
WIDE = np.concatenate([IMAGES, IMAGES[:, :, :15]], axis=2)
LABELS = np.array(["=1+1", "b\nc", "\x1b[31mred"])[np.arange(N) % 3]
PATHS = {
    "onnx": "a.onnx",
    "openvino": "b.xml",
    "litert": "c.tflite",
    "keras": "d.keras",
    "saved_model": "e",
}
ANY_SIZE = ("onnx", "openvino", "saved_model")
SMALL = {"image_size": SIDE, "random_state": 0}
MANY = np.stack([np.arange(N) % 2, np.arange(N) % 3 == 0], axis=1)  # two labels


@functools.cache
def fitted(kind):
    if kind == "classes":
        return TransferClassifier(l2=0.1, **SMALL).fit(IMAGES, LABELS)
    if kind == "fine-tuned":
        tuned = {"trainable_layers": "top", "fine_tune_epochs": 1, "soup": 1.0}
        return TransferClassifier(l2=0.1, augmentation=None, **tuned, **SMALL).fit(IMAGES, LABELS)
    if kind == "labels":
        return TransferClassifier(l2=0.1, **SMALL).fit(IMAGES, MANY)
    if kind == "numbers":
        return TransferRegressor(l2=0.1, **SMALL).fit(IMAGES, 100.0 * (np.arange(N) % 3))
    if kind == "features":
        layers = ["block2_unit1_add", "block4_unit1_add"]
        return CNNFeatureExtractor(layer=layers, **SMALL).fit(IMAGES)
    network = ConvNet((4,), dense_units=(4,), batch_norm="after")
    return TransferClassifier(
        network, preprocessing="standardize", epochs=2, resize="pad", **SMALL
    ).fit(IMAGES, LABELS)


def results(estimator, images):
    """Return what a file of the estimator has to return."""
    if isinstance(estimator, CNNFeatureExtractor):
        return estimator.transform(images)
    if isinstance(estimator, TransferRegressor):
        return estimator.predict(images).reshape(len(images), -1)
    return estimator.predict_proba(images)


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return session.run(None, {"images": images})[0]


def run_openvino(path, images):
    import openvino

    # Processors with bfloat16 would use it.
    exactly = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(str(path), "CPU", exactly)({"images": images})[0]


def run_litert(path, images):
    import tensorflow as tf

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tf.lite will move to another package
        interpreter = tf.lite.Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in images:  # as a phone would
        interpreter.set_tensor(entry["index"], image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(end["index"])[0])
    return np.array(found)


def run_keras(path, images):
    return keras.saving.load_model(path).predict(images, verbose=0)


def run_saved_model(path, images):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))  # owns the variables
    return loaded.serve(images).numpy()


RUN = {
    "onnx": run_onnx,
    "openvino": run_openvino,
    "litert": run_litert,
    "keras": run_keras,
    "saved_model": run_saved_model,
}


def weights_of(name, path):
    """Return the file that holds the weights of an export."""
    return path.with_suffix(".bin") if name == "openvino" else path


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a function that gives the path of the classifier in a format, written once."""
    folder = tmp_path_factory.mktemp("exported")
    return functools.cache(lambda name: export(fitted("classes"), folder / PATHS[name]))


@pytest.mark.parametrize("name", PATHS)
def test_each_format_gives_the_probabilities_in_its_own_runtime(name, exported):
    classifier, path = fitted("classes"), exported(name)
    assert path.name == PATHS[name]
    probabilities = results(classifier, IMAGES)
    np.testing.assert_allclose(RUN[name](path, IMAGES), probabilities, atol=1e-4)
    if name in ANY_SIZE:
        probabilities = results(classifier, WIDE)
        np.testing.assert_allclose(RUN[name](path, WIDE), probabilities, atol=5e-3)
    if name in ("onnx", "openvino", "litert"):
        assert read_exported(path).takes_any_size == (name in ANY_SIZE)
        np.testing.assert_allclose(predict_exported(path, WIDE), results(classifier, WIDE), 0, 1e-4)
    assert not [file for file in path.parent.iterdir() if file.name.endswith(".part")]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fine-tuned", "labels", "numbers", "features", "from nothing"])
def test_every_kind_of_estimator_is_exported(kind, tmp_path):
    estimator = fitted(kind)
    name = "openvino" if kind == "features" else "onnx"
    path = export(estimator, tmp_path / PATHS[name])
    found, expected = RUN[name](path, IMAGES), results(estimator, IMAGES)
    scale = 1 if kind not in ("numbers", "features") else np.abs(expected).max()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found / scale, expected / scale, 0, 1e-4)
    facts = read_exported(path)
    assert facts.task == {"fine-tuned": "classes", "from nothing": "classes"}.get(kind, kind)
    assert len(facts.names) == expected.shape[1]
    assert facts.resize == ("pad" if kind == "from nothing" else "crop")


@pytest.mark.every_parameter  # each format has code of its own
@pytest.mark.parametrize("name", ["onnx", "openvino", "litert"])
def test_float16_halves_a_file_and_keeps_the_labels(name, tmp_path, exported):
    classifier, sizes = fitted("classes"), []
    half = export(classifier, tmp_path / PATHS[name], quantize="float16")
    for path in (exported(name), half):
        sizes.append(weights_of(name, path).stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]
    found = RUN[name](path, IMAGES)
    np.testing.assert_array_equal(found.argmax(1), results(classifier, IMAGES).argmax(1))
    assert read_exported(path).quantize == "float16"


@pytest.mark.every_parameter  # each format has code of its own
@pytest.mark.parametrize("name", ["onnx", "litert", "openvino"])
def test_int8_quarters_a_file(name, tmp_path, exported):
    if name == "openvino":
        pytest.importorskip("nncf", reason="nncf is not installed; tox -e libraries has it")
    classifier = fitted("classes")
    path = export(classifier, tmp_path / PATHS[name], quantize="int8", X=WIDE)
    sizes = [weights_of(name, each).stat().st_size for each in (exported(name), path)]
    assert sizes[1] < 0.3 * sizes[0]
    found = RUN[name](path, IMAGES)
    np.testing.assert_array_equal(found.argmax(1), results(classifier, IMAGES).argmax(1))


def test_names_are_in_the_file_and_beside_it(exported):
    classifier = fitted("classes")
    for name in ("onnx", "openvino", "litert"):
        facts = read_exported(exported(name))
        assert facts.names == tuple(classifier.classes_)
        assert (facts.size, facts.resize) == ((SIDE, SIDE), "crop")
        assert facts.backbone == "tiny"
    lines = (exported("litert").parent / "labels.txt").read_text(encoding="utf-8")
    assert lines == "\\x1b[31mred\n=1+1\nb\\nc\n"
    with zipfile.ZipFile(exported("litert")) as packed:
        assert packed.read("labels.txt").decode() == lines
    with zipfile.ZipFile(exported("keras")) as packed:
        assert Facts.from_text(packed.read("transferclf.json").decode()).names == facts.names
    text = (exported("saved_model") / "assets.extra" / "transferclf.json").read_text()
    assert json.loads(text)["names"] == list(facts.names)


def test_a_digest_tells_models_apart():
    other = TransferClassifier(l2=1.0, **SMALL).fit(IMAGES, LABELS)
    kinds = [fitted("classes"), other, fitted("fine-tuned"), fitted("features")]
    digests = [facts_of(each, True, None).digest for each in kinds]
    assert len({*digests}) == 4
    assert all(len(digest) == 64 for digest in digests)
    assert facts_of(fitted("classes"), False, "int8").digest == digests[0]


# A program that has only the runtime, and knows nothing but the path of the file.
PROGRAM = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["transferclf"])
entry, = session.get_inputs()
found, = session.run(None, {entry.name: np.load(sys.argv[2])})
print(json.dumps([facts["names"][i] for i in found.argmax(1)]))
"""


def test_an_onnx_file_runs_with_nothing_but_onnxruntime_and_numpy(tmp_path, exported):
    classifier, path = fitted("classes"), exported("onnx")
    np.save(tmp_path / "images.npy", WIDE)
    library = tmp_path / "library"
    library.mkdir()
    for name in required("onnxruntime") | required("numpy"):
        link_package(name, library)
    environment = {"PYTHONPATH": str(library), "PATH": os.environ.get("PATH", "")}
    command = [sys.executable, "-S", "-c", PROGRAM, str(path), str(tmp_path / "images.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == classifier.predict(WIDE).tolist()


def required(name, seen=frozenset()):
    """Return the names of a distribution and of all that it requires."""
    found = {name}
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and requirement.name not in seen | found:
            found |= required(requirement.name, seen | found)
    return found


def link_package(name, folder):
    """Link the modules of a distribution into a folder."""
    files = importlib.metadata.files(name) or ()
    tops = {file.parts[0] for file in files if ".." not in file.parts}
    for top in tops - {"__pycache__"}:
        here = Path(importlib.metadata.distribution(name).locate_file(top))
        if (folder / top).is_symlink():  # a namespace package
            continue
        (folder / top).symlink_to(here)


# --- what cannot be exported, and places that cannot be written


def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path):
    classifier, path = fitted("classes"), tmp_path / "a.onnx"
    looks = TransferClassifier(l2=0.1, test_time_augmentation="crops", **SMALL)
    refused = [
        (
            InvalidParameterError,
            "must be a TransferClassifier",
            make_pipeline(classifier),
            path,
            {},
        ),
        (NotFittedError, "not fitted", TransferClassifier(), path, {}),
        (InvalidParameterError, "test_time_augmentation", looks.fit(IMAGES, LABELS), path, {}),
        (InvalidParameterError, "must be one of .onnx.*'.pth'", classifier, tmp_path / "a.pth", {}),
        (InvalidParameterError, "format must be", classifier, path, {"format": "torch"}),
        (InvalidParameterError, "quantize must be", classifier, path, {"quantize": "int4"}),
        (InvalidParameterError, "keras", classifier, tmp_path / "a.keras", {"quantize": "int8"}),
        (InvalidParameterError, "needs images", classifier, path, {"quantize": "int8"}),
        (
            InvalidParameterError,
            "8 images",
            classifier,
            path,
            {"quantize": "int8", "X": IMAGES[:3]},
        ),
        (FileNotFoundError, "no folder", classifier, tmp_path / "none" / "a.onnx", {}),
        (IsADirectoryError, "directory", classifier, tmp_path, {"format": "onnx"}),
        (InvalidParameterError, "path must be", classifier, 7, {}),
    ]
    for error, match, estimator, place, options in refused:
        with pytest.raises(error, match=match):
            export(estimator, place, **options)
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_not_replaced(tmp_path):
    classifier = fitted("classes")
    (tmp_path / "labels.txt").write_text("other\nnames\n")
    with pytest.raises(FileExistsError, match="one with others"):
        export(classifier, tmp_path / "c.tflite")
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="which holds other things"):
        export(classifier, tmp_path / "e")
    assert {file.name for file in tmp_path.iterdir()} == {"labels.txt", "e"}


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxFormat, "packages", ("onnx", "no_such_package"))
    with pytest.raises(
        InvalidParameterError, match="no_such_package.*pip install onnxruntime tf2onnx"
    ):
        export(fitted("classes"), tmp_path / "a.onnx")
    monkeypatch.setattr(openvino_format, "INT8_PACKAGE", "no_such_package")
    with pytest.raises(InvalidParameterError, match=r"no_such_package.*pip install nncf"):
        export(fitted("classes"), tmp_path / "a.xml", quantize="int8", X=IMAGES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.every_parameter  # each format has code of its own
@pytest.mark.parametrize("name", ["onnx", "litert", "openvino"])
def test_float16_keeps_small_constants(name, tmp_path, monkeypatch, exported):
    classifier = fitted("classes")
    monkeypatch.setattr(f"transferclf.exporting.{name}.LEAST_VALUES", 10**9)
    path = export(classifier, tmp_path / PATHS[name], quantize="float16")
    np.testing.assert_array_equal(RUN[name](path, IMAGES), RUN[name](exported(name), IMAGES))


def test_a_layer_that_a_converter_does_not_know_is_an_error(tmp_path):
    class Sorted(keras.layers.Layer):
        def call(self, maps):
            import tensorflow as tf

            return tf.py_function(np.sort, [maps], tf.float32)

        def compute_output_shape(self, shape):
            return shape

    pixels = keras.Input((SIDE, SIDE, 3))
    maps = keras.layers.AveragePooling2D(8)(pixels)
    network = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(Sorted()(maps)))
    classifier = TransferClassifier(
        network, preprocessing="none", l2=0.1, engine="keras", **SMALL
    ).fit(IMAGES, LABELS)
    with pytest.raises(NetworkError, match="converter to 'onnx' cannot write this network"):
        export(classifier, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_other_results_is_not_kept(tmp_path, monkeypatch):
    path = export(fitted("labels"), tmp_path / "b.xml")
    before = [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*"))]
    monkeypatch.setattr(exporting, "TOLERANCES", {None: 1e-12})
    with pytest.raises(ExportError, match="differ from those of the estimator"):
        export(fitted("classes"), path)
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("the disk is full")])
def test_an_interrupted_export_leaves_nothing(error, tmp_path, monkeypatch):
    def half(self, graph, path, facts, images):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(OnnxFormat, "write", half)
    with pytest.raises(BaseException, match="the disk is full|^$"):
        export(fitted("classes"), tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.newest
def test_a_saved_model_is_replaced_whole(tmp_path):
    path = export(fitted("labels"), tmp_path / "e")
    (path / "old.txt").write_text("of the old one")
    export(fitted("classes"), path)
    assert not (path / "old.txt").exists()
    np.testing.assert_allclose(
        run_saved_model(path, IMAGES), results(fitted("classes"), IMAGES), 0, 1e-4
    )
    assert [file.name for file in tmp_path.iterdir()] == ["e"]


# --- hostile files


def without_facts(path):
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


def with_other_facts(path):
    import onnx

    model = onnx.load(path)
    model.metadata_props[0].value = '{"task": "code", "names": "__import__(\'os\')"}'
    onnx.save(model, path)


DAMAGE = {
    "facts about its classes": [without_facts, with_other_facts],
    "is no ONNX file": [
        lambda path: path.write_bytes(path.read_bytes()[:1000]),
        lambda path: path.write_bytes(b"no model"),
    ],
}


@pytest.mark.parametrize("match", DAMAGE)
def test_damaged_files_are_refused(match, tmp_path, exported):
    whole = exported("onnx").read_bytes()
    for damage in DAMAGE[match]:
        (tmp_path / "b.onnx").write_bytes(whole)
        damage(tmp_path / "b.onnx")
        with pytest.raises(ArchiveError, match=match):
            predict_exported(tmp_path / "b.onnx", IMAGES)
    for name in ("b.xml", "c.tflite"):
        (tmp_path / name).write_bytes(b"no model")
        with pytest.raises(ArchiveError):
            read_exported(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_exported(tmp_path / "none.onnx")


def test_formats_that_are_programs_are_not_loaded(tmp_path):
    for name in ("d.keras", "e"):
        with pytest.raises(InvalidParameterError, match="may run code"):
            read_exported(tmp_path / name)
    assert set(FORMATS) == set(PATHS)
