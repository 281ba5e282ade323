"""Fitted estimators: copies, pickles, threads and other processes."""

import copy
import functools
import os
import pickle
import textwrap
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import joblib
import keras
import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier, register_backbone
from transferclf.backbones import registry as backbones
from transferclf.features import shared_store

N = 12
RNG = np.random.default_rng(0)
IMAGES = striped_images(N, RNG)
LABELS = np.arange(N) % 3
OTHERS = striped_images(9, RNG)

CASES = {
    "linear": {},
    "hidden": {"hidden_units": (4,), "epochs": 1},
    "tuned": {"trainable_layers": "top", "fine_tune_epochs": 1},
    "scratch": {"backbone": ConvNet((2,), dense_units=()), "image_size": 4, "epochs": 1},
}


@functools.cache
def fitted_as(case):
    parameters = {"image_size": 32, "random_state": 0} | CASES[case]
    return TransferClassifier(**parameters).fit(IMAGES, LABELS)


def own_network():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(64, 5)(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Conv2D(64, 5)(x), name="mine")


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "a.joblib")
    return joblib.load(folder / "a.joblib")


COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "joblib": by_joblib,
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("copied", COPIES)
def test_copies_predict_the_same(case, copied, tmp_path):
    fitted = fitted_as(case)
    again = COPIES[copied](fitted, tmp_path)
    shared_store().clear()
    np.testing.assert_array_equal(again.predict_proba(OTHERS), fitted.predict_proba(OTHERS))
    assert again.classes_.tolist() == fitted.classes_.tolist()


@pytest.mark.slow
def test_cloudpickle_predicts_the_same():
    cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    for case in CASES:
        again = pickle.loads(cloudpickle.dumps(fitted_as(case)))
        expected = fitted_as(case).predict_proba(OTHERS)
        np.testing.assert_array_equal(again.predict_proba(OTHERS), expected)


def test_copies_are_trained_independently():
    fitted = fitted_as("linear")
    before = fitted.predict_proba(OTHERS)
    copy.deepcopy(fitted).fit(IMAGES, LABELS[::-1])
    np.testing.assert_array_equal(fitted.predict_proba(OTHERS), before)


# --- sizes


def n_bytes(arrays):
    return sum(np.asarray(array).nbytes for array in arrays)


def test_a_frozen_registry_backbone_is_pickled_by_name_and_digest():
    fitted = fitted_as("linear")
    _ = fitted.model_  # is rebuilt at the next use
    head = fitted.head_
    content = pickle.dumps(fitted)
    assert len(content) < n_bytes([head.mean, head.scale, *head.weights]) + 20_000
    assert fitted.prefix_.weights_digest.encode() in content
    extractor = CNNFeatureExtractor(image_size=32, weights=None, random_state=0).fit(IMAGES)
    assert len(pickle.dumps(extractor)) < 5_000


@pytest.mark.parametrize("case", ["tuned", "scratch"])
def test_trained_layers_are_pickled_by_value(case):
    fitted = fitted_as(case)
    head = fitted.head_
    trained = n_bytes([*head.parameters, *head.weights, head.mean, head.scale])
    if head.moments is not None:  # its mean is the array of the head
        trained += n_bytes([head.moments.variance])
    assert trained < len(pickle.dumps(fitted)) < trained + 10_000


@pytest.mark.parametrize("is_registered", [False, True])
def test_an_own_network_is_pickled_once_by_value(is_registered, monkeypatch):
    monkeypatch.setattr(backbones, "_REGISTRY", dict(backbones._REGISTRY))
    network = own_network()
    if is_registered:
        register_backbone("mine", lambda input_shape: network, image_size=16)
    backbone = "mine" if is_registered else network
    fitted = CNNFeatureExtractor(backbone).fit(IMAGES)
    size = n_bytes(network.get_weights())
    content = pickle.dumps(fitted)
    assert size < len(content) < 1.2 * size
    backbones._REGISTRY.pop("mine", None)
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.transform(OTHERS), fitted.transform(OTHERS))


# --- threads


@pytest.mark.parametrize("case", CASES)
def test_several_threads_predict_at_once(case):
    fitted = fitted_as(case)
    # A second classifier of the same shape uses the same compiled network with other weights.
    other = TransferClassifier(**({"image_size": 32, "random_state": 1} | CASES[case]))
    other.fit(IMAGES, LABELS[::-1])
    parts = [OTHERS[start : start + 3] for start in range(7)]
    expected = [each.predict_proba(part) for each in (fitted, other) for part in parts]
    shared_store().clear()
    with ThreadPoolExecutor(8) as pool:
        tasks = [(each, part) for each in (fitted, other) for part in parts]
        found = list(pool.map(lambda task: task[0].predict_proba(task[1]), tasks * 3))
    for one, another in zip(found, expected * 3, strict=True):
        np.testing.assert_array_equal(one, another)


# --- processes

SCRIPT = """
    import os, pickle, sys, time, warnings
    import numpy as np
    from transferclf import TransferClassifier

    # Python itself warns of forks in processes with threads, from version 3.12 on.
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(8) % 2

    def new(**parameters):
        return TransferClassifier(image_size=32, random_state=0, **parameters)

    def in_fork(function):
        '''What a forked child says about a call; "hangs" where it has not ended in time.'''
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                text = repr(function())
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
            os.write(writing, text.encode())
            os._exit(0)
        os.close(writing)
        for _ in range(1200):
            if os.waitpid(child, os.WNOHANG)[0]:
                return os.read(reading, 10_000).decode()
            time.sleep(0.1)
        os.kill(child, 9)
        return "hangs"
"""


NO_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@NO_FORK
@pytest.mark.slow
def test_a_child_forked_after_tensorflow_ran_raises_an_error(in_another_process):
    code = """
    import keras

    def in_child():
        return new(hidden_units=(2,), epochs=1).fit(images, labels).predict(images).shape

    # Before, a child is free to use it, though Keras and TensorFlow are imported already.
    said = in_fork(in_child)
    assert said == "(8,)", said
    fitted, hidden = new().fit(images, labels), new(hidden_units=(2,), epochs=1)
    hidden.fit(images, labels)
    unseen = images[:, ::-1]
    for function in (
        lambda: fitted.predict(unseen),
        lambda: hidden.predict(images),
        lambda: hidden.fit(images, labels),
        lambda: fitted.model_,
        lambda: in_fork(lambda: fitted.predict(unseen)),
    ):
        said = in_fork(function)
        assert "ForkedProcessError: TensorFlow was used before" in said, said
        assert "spawn" in said, said
    # What is stored needs no network, and the parent goes on.
    assert in_fork(lambda: fitted.predict(images).tolist()) == repr(fitted.predict(images).tolist())
    assert len(fitted.predict(unseen)) == 8
    print("done")
    """
    assert in_another_process(textwrap.dedent(SCRIPT) + textwrap.dedent(code)) == "done\n"


def test_pickles_give_the_same_predictions_in_a_new_process(tmp_path, in_another_process):
    """TensorFlow has run in the pickling process; `test_processes.py` tests pickles of joblib."""
    content = ForkingPickler.dumps(({case: fitted_as(case) for case in CASES}, OTHERS))
    (tmp_path / "pickle").write_bytes(content)
    code = """
    import pathlib, pickle, sys
    import numpy as np
    folder = pathlib.Path(sys.argv[1])
    fitted, images = pickle.loads((folder / "pickle").read_bytes())
    found = {case: estimator.predict_proba(images) for case, estimator in fitted.items()}
    np.savez(folder / "found.npz", **found)
    """
    in_another_process(code, tmp_path)
    with np.load(tmp_path / "found.npz") as found:
        for case in CASES:
            np.testing.assert_array_equal(found[case], fitted_as(case).predict_proba(OTHERS))


def test_the_error_is_a_runtime_error(monkeypatch):
    from transferclf.graphs import isolation

    monkeypatch.setattr(isolation, "_ran_before_fork", True)
    shared_store().clear()
    for case in CASES:
        with pytest.raises(RuntimeError, match="before this process was forked"):
            fitted_as(case).predict(OTHERS)
    with pytest.raises(RuntimeError, match="before this process was forked"):
        TransferClassifier(ConvNet((2,))).fit(IMAGES, LABELS)
    with pytest.raises(RuntimeError, match="before this process was forked"):
        CNNFeatureExtractor(cached_own_network()).fit(IMAGES)


@functools.cache
def cached_own_network():
    return own_network()
