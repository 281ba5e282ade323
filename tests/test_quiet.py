"""TensorFlow's start prints nothing to users of the package, and hides nothing else."""

import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from transferclf import (
    CNNFeatureExtractor,
    ConvNet,
    TransferClassifier,
    _quiet,
    save_model,
)

FIT = """
    import os, sys, threading
    os.write(2, b"before\\n")
    from transferclf import _quiet, TransferClassifier
    import numpy as np

    found = _quiet._hold_back
    def hold_back():
        held = found()
        os.write(2, b"E0000 00:00 1 some.cc:1] failed call to cuInit: another error\\n")
        print("from Python", file=sys.stderr)
        return held
    _quiet._hold_back = hold_back
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    TransferClassifier(image_size=32, l2=0.1).fit(images, [0, 1, 0, 1])
    os.write(2, b"after\\n")
    assert sys.modules["keras"].backend.backend() != "tensorflow" or "tensorflow" in sys.modules
"""


def written_by(code, *arguments, **variables):
    """Return what a new process writes to the standard error; some variables are unset."""
    environment = {name: value for name, value in os.environ.items() if name != _quiet.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_a_fit_writes_nothing_of_tensorflow_and_keeps_the_rest():
    lines = written_by(FIT).splitlines()
    # The import and the search for devices hold back the output, one after the other.
    other = ["E0000 00:00 1 some.cc:1] failed call to cuInit: another error", "from Python"]
    assert lines == ["before", *other, *other, "after"]


FIRST_IMPORTS = """
    import sys, traceback
    import numpy as np

    class Imported(BaseException):
        pass

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "keras":
                names = [frame.name for frame in traceback.extract_stack()]
                raise Imported("import_keras" in names)

    sys.meta_path.insert(0, Finder())
    from transferclf import (
        CNNFeatureExtractor, ConvNet, TransferClassifier, load_model, predict_imagenet, save_model
    )
    from transferclf.backbones.registry import get_backbone

    X, y = np.zeros((4, 32, 32, 3), np.uint8), [0, 1, 0, 1]
    X[:2] = 255
    def fit(*backbone, **parameters):
        TransferClassifier(*backbone, image_size=32, **parameters).fit(X, y)

    def used(estimator):
        (estimator.predict if hasattr(estimator, "predict") else estimator.transform)(X)

    calls = {path: lambda path=path: used(load_model(path)) for path in sys.argv[1:]}
    calls |= {
        "frozen": fit,
        "hidden": lambda: fit(hidden_units=4),
        "layers": lambda: fit(trainable_layers=2),
        "choice of layers": lambda: fit(trainable_layers="auto"),
        "scratch": lambda: fit(ConvNet((4,))),
        "random": lambda: fit("mobilenet_v2", weights=None),
        "own head": lambda: fit(head=lambda x: x),
        "views": lambda: fit(augmentation="light"),
        "features": lambda: CNNFeatureExtractor(image_size=32).fit(X),
        "ImageNet": lambda: predict_imagenet("mobilenet_v2", X, weights=None),
        "weights": lambda: get_backbone("tiny") and __import__(
            "transferclf.backbones.weights", fromlist=["x"]
        ).build_backbone(get_backbone("tiny"), "pretrained", (32, 32), 0),
    }
    for name, call in calls.items():
        try:
            call()
            print(name, "needs no Keras", file=sys.stderr)
        except Imported as found:
            if not found.args[0]:
                print(name, file=sys.stderr)
"""


def test_keras_is_imported_first_by_the_quiet_import(tmp_path):
    X, y = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8), [0, 1, 0, 1]
    short = {"image_size": 32, "epochs": 1, "fine_tune_epochs": 1, "validation_fraction": 0.5}
    kinds = {
        "linear": TransferClassifier(l2=0.1, **short),
        "hidden": TransferClassifier(hidden_units=(2,), **short),
        "layers": TransferClassifier(trainable_layers=2, l2=0.1, soup=0.5, **short),
        "scratch": TransferClassifier(ConvNet((2,)), **short),
        "extractor": CNNFeatureExtractor(layer="block2_unit1_add", image_size=32),
    }
    archives = [str(tmp_path / name) for name in kinds]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is too few for any network
        for path, estimator in zip(archives, kinds.values(), strict=True):
            save_model(estimator.fit(X, y), path)
    assert written_by(FIRST_IMPORTS, *archives) == ""


def test_only_noise_is_hidden(capfdbinary, monkeypatch):
    monkeypatch.delenv(_quiet.VARIABLE, raising=False)
    lines = [
        b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n",
        b"2026-01-01 00:00:00.1: I tensorflow/core/util/port.cc:153] oneDNN custom operations are "
        b"on. You may see slightly different numerical results\n",
        b"E0000 00:00:1795962608.696921 30773 cuda_platform.cc:52] failed call to cuInit: "
        b"INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)\n",
        b"W0000 00:00:1795962608.696921 30773 memory.cc:1] Allocation exceeds 10% of free memory\n",
        b"\xff no text\n",
        b"no end",
    ]

    def fails():
        with _quiet._quiet(_quiet._START):
            os.write(2, b"".join(lines))
            raise ImportError

    with pytest.raises(ImportError):
        fails()
    assert capfdbinary.readouterr().err == b"".join(lines[3:])


def test_remarks_of_converters_are_hidden_and_errors_are_not(capfdbinary, monkeypatch):
    monkeypatch.delenv(_quiet.VARIABLE, raising=False)
    error = b"E0000 00:00:1795977328.894775   32183 some_pass.cc:364] The conversion failed.\n"
    with _quiet.conversion():
        os.write(2, b"W0000 00:00:1795977328.894775   32183 flatbuffer_helpers.cc:364] Ignored.\n")
        os.write(2, b"I0000 00:00:1795977328.895298 3 reader.cc:83] Reading SavedModel from: a\n")
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n")
        os.write(2, error)
    assert capfdbinary.readouterr().err == error


def test_nothing_is_hidden_if_the_user_has_chosen_a_level(capfd, monkeypatch):
    monkeypatch.setenv(_quiet.VARIABLE, "0")
    with _quiet._quiet(_quiet._START):
        os.write(2, b"WARNING: All log messages before absl::InitializeLog()\n")
        assert "WARNING" in capfd.readouterr().err


def test_without_a_place_for_the_output_nothing_is_held_back(capfd, monkeypatch):
    monkeypatch.delenv(_quiet.VARIABLE, raising=False)

    def refuse():
        raise FileNotFoundError("no folder for temporary files")

    monkeypatch.setattr(_quiet.tempfile, "TemporaryFile", refuse)
    with _quiet._quiet(_quiet._START):
        os.write(2, b"seen\n")
        assert capfd.readouterr().err == "seen\n"
