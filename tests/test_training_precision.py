"""Tests of training layers of a network with precision="bfloat16"."""

import keras
import numpy as np
import pytest
from image_helpers import striped_images

from transferclf import TransferClassifier, load_model, save_model
from transferclf.training.trainer import trainer_for

N = 36
IMAGES = striped_images(N, np.random.default_rng(0))
OTHERS = striped_images(N, np.random.default_rng(1))
LABELS = np.arange(N) % 3


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch):
    """Let processors compute in it that have no instructions for it; they are only slow."""
    monkeypatch.setattr("transferclf.engines.engine.cpu_has_bfloat16", lambda: True)


def tuned(**changes):
    parameters = {"image_size": 32, "trainable_layers": "all", "fine_tune_epochs": 4, "l2": 0.1}
    parameters |= {"soup": 1.0, "augmentation": None, "engine": "tensorflow", "random_state": 0}
    return TransferClassifier("tiny", **(parameters | changes))


@pytest.fixture(scope="module")
def both():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transferclf.engines.engine.cpu_has_bfloat16", lambda: True)
        yield [tuned(precision=each).fit(IMAGES, LABELS) for each in ("float32", "bfloat16")]


def precisions(fitted):
    """Return the types in which the trained convolutions compute."""
    found = trainer_for(fitted.head_.suffix).model.layers
    return {each.compute_dtype for each in found if isinstance(each, keras.layers.Conv2D)}


def test_convolutions_are_trained_in_bfloat16_with_weights_of_float32(both):
    for fitted, expected in zip(both, ("float32", "bfloat16"), strict=True):
        trainer = trainer_for(fitted.head_.suffix)
        assert precisions(fitted) == {expected}
        assert {each.dtype for each in trainer.network.weights} == {"float32"}
        assert {array.dtype for array in fitted.head_.parameters} == {np.dtype("float32")}


def test_results_are_near_those_of_float32(both):
    full, low = (each.predict_proba(OTHERS) for each in both)
    assert low.dtype == full.dtype
    assert not np.array_equal(low, full)
    np.testing.assert_allclose(low, full, atol=0.1)
    full, low = (each.history_["loss"] for each in both)
    np.testing.assert_allclose(low, full, rtol=0.1, atol=0.02)
    assert low[-1] < low[both[1].n_head_iter_] / 2


def test_the_layers_above_a_cut_too():
    low = tuned(trainable_layers="block4", precision="bfloat16").fit(IMAGES, LABELS)
    assert precisions(low) == {"bfloat16"}
    full = tuned(trainable_layers="block4").fit(IMAGES, LABELS)
    np.testing.assert_allclose(low.predict_proba(OTHERS), full.predict_proba(OTHERS), atol=0.1)


def test_archives_and_the_whole_model(both, tmp_path):
    fitted = both[1]
    save_model(fitted, tmp_path / "a.model")
    loaded = load_model(tmp_path / "a.model")
    np.testing.assert_array_equal(loaded.predict_proba(OTHERS), fitted.predict_proba(OTHERS))
    outputs = keras.ops.convert_to_numpy(fitted.model_(OTHERS.astype(np.float32)))
    np.testing.assert_allclose(outputs, fitted.predict_proba(OTHERS), atol=0.05)
