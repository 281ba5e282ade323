"""Unusual environments: no home folder, no temporary folder, a removed working folder."""

import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from exactness import assert_rows_agree
from image_helpers import striped_images

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.backbones.weights import keras_home, keras_models_folder
from transferclf.engines import engine as engines
from transferclf.exceptions import InvalidParameterError, TransferclfWarning, WeightsError
from transferclf.features import FeatureStore, store_for

IMAGES = striped_images(12, np.random.default_rng(3))
LABELS = np.arange(12) % 3
TEMPORARY = Path("/tmp/.keras")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="about users and folders of POSIX")


@pytest.fixture
def no_home(monkeypatch):
    """Run as a user without a passwd entry, as is common in containers."""
    import pwd

    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "KERAS_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def removed_folder(tmp_path, monkeypatch):
    """Remove the working folder, which only Linux and macOS allow."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return folder


# --- no home folder


def test_keras_folder_of_a_user_without_a_home(no_home):
    assert keras_home() == TEMPORARY
    assert keras_models_folder() == TEMPORARY / "models"


def test_keras_folder_where_the_home_is_missing(tmp_path, monkeypatch):
    """Check that Keras' folder is elsewhere: Keras creates no home folder, even with permission."""
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "missing"))
    assert keras_models_folder() == TEMPORARY / "models"
    assert list(tmp_path.iterdir()) == []


def test_keras_backend_of_a_user_without_a_home(no_home, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "keras")
    assert engines.keras_backend() == "tensorflow"


@pytest.mark.parametrize("path", ["~", "~/features", "~/a/b"])
def test_a_store_below_a_tilde_without_a_home(no_home, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for make in (FeatureStore, store_for):
        with pytest.raises(InvalidParameterError, match="no home folder .* in full"):
            make(path)
    with pytest.raises(InvalidParameterError, match="no home folder"):
        TransferClassifier(image_size=32, cache=path).fit(IMAGES, LABELS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_only_begins_like_a_home(no_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = store_for("~no such user/features")
    store.put_many({b"a": np.ones(3)})
    assert (tmp_path / "~no such user" / "features").is_dir()


def test_weights_below_a_tilde_without_a_home(no_home):
    with pytest.raises(WeightsError, match=r"~/w\.h5 cannot be read"):
        CNNFeatureExtractor(image_size=32, weights="~/w.h5").fit(IMAGES)


# --- no working folder


def test_a_store_in_a_working_folder_that_was_removed(removed_folder):
    """Check that features stay in memory, with one warning and no error."""
    store = store_for("features")
    assert store_for("features") is store
    with pytest.warns(TransferclfWarning, match="in 'features', got: FileNotFoundError") as caught:
        store.put_many({b"a": np.arange(3)})
    assert len(caught) == 1
    store.put_many({b"b": np.ones(2)})
    assert store.get_many([b"a", b"b"])[b"a"].tolist() == [0, 1, 2]
    assert store.info().entries == 2
    assert pickle.loads(pickle.dumps(store)) is store
    assert not removed_folder.exists()


def test_predictions_after_the_working_folder_was_removed(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    classifier = TransferClassifier(image_size=32, random_state=0, l2=0.1, cache="stored")
    expected = classifier.fit(IMAGES, LABELS).predict_proba(IMAGES)
    assert (tmp_path / "work" / "stored").is_dir()
    shutil.rmtree(tmp_path / "work")
    with pytest.warns(TransferclfWarning, match="kept in memory"):
        found = classifier.predict_proba(IMAGES)
    assert_rows_agree(found, expected)
    assert_rows_agree(classifier.predict_proba(IMAGES), expected)


def test_weights_in_a_working_folder_that_was_removed(removed_folder):
    with pytest.raises(InvalidParameterError, match=r"weights='w\.h5' is relative .* was removed"):
        CNNFeatureExtractor(image_size=32, weights="w.h5").fit(IMAGES)


# --- all of it at once: without network, home and temporary folder, and without assertions

EVERYTHING = '''
    import os, pwd, socket, sys, tempfile
    from importlib.machinery import SourceFileLoader
    import numpy as np

    plain_code, n_optimised = SourceFileLoader.get_code, 0

    def code_of(loader, name):
        """As `python -O` has it for this package. For all of TensorFlow it would take long."""
        global n_optimised
        if not name.startswith("transferclf"):
            return plain_code(loader, name)
        n_optimised += 1
        path = loader.get_filename(name)
        return compile(loader.get_data(path), path, "exec", dont_inherit=True, optimize=1)

    SourceFileLoader.get_code = code_of

    def unknown(uid):
        raise KeyError(uid)

    def refuse(*_, **__):
        raise OSError("the network is cut off")

    pwd.getpwuid = unknown
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    store, images, labels, model = sys.argv[1:5]
    folder = os.path.join(store, "working")
    os.mkdir(folder)
    os.chdir(folder)
    os.rmdir(folder)

    from transferclf import TransferClassifier, load_model, save_model

    X, y = np.load(images), np.load(labels)
    found = []
    hidden = {"hidden_units": (4,), "epochs": 2}
    for cache, head in (("memory", {}), (store, {}), ("memory", hidden)):
        classifier = TransferClassifier(
            image_size=32, random_state=0, cache=cache, l2=0.1, **head
        ).fit(X, y)
        found.append(classifier.predict_proba(X))
        save_model(classifier, model)
        if not np.array_equal(load_model(model).predict_proba(X), found[-1]):
            raise SystemExit("the loaded one predicts something else")
    np.save(model + ".npy", found)
    print(n_optimised > 50, os.environ.get("HOME"), os.path.exists(os.environ["TMPDIR"]))
'''


@pytest.mark.slow
def test_fit_and_predict_without_home_network_and_temporary_folder(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "labels.npy", LABELS)
    store, model = tmp_path / "store", tmp_path / "a.model"
    store.mkdir()
    names = ("HOME", "KERAS_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    arguments = [store, tmp_path / "images.npy", tmp_path / "labels.npy", model]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EVERYTHING), *map(str, arguments)],
        env=environment | {"TMPDIR": str(tmp_path / "nowhere")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "transferclf" not in done.stderr.lower(), done.stderr
    assert done.stdout.split() == ["True", "None", "False"]
    found = np.load(f"{model}.npy")
    here = [
        TransferClassifier(image_size=32, random_state=0, l2=0.1, **head)
        .fit(IMAGES, LABELS)
        .predict_proba(IMAGES)
        for head in ({}, {}, {"hidden_units": (4,), "epochs": 2})
    ]
    np.testing.assert_allclose(found, here, atol=1e-5)
    assert FeatureStore(store).info().entries == len(IMAGES)
