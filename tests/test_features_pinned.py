"""An own network that is changed after fit: each later use raises an error."""

import copy
import pickle

import keras
import numpy as np
import pytest
from exactness import outputs_of
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images
from keras import layers

from transferclf import CNNFeatureExtractor, TransferClassifier, load_model, save_model
from transferclf.exceptions import NetworkError
from transferclf.features import frozen as prefix
from transferclf.features.choosing import choose_prefix

N, SIDE = 9, 16
IMAGES = striped_images(N, np.random.default_rng(0))[:, :SIDE, :SIDE]
LABELS = np.arange(N) % 3


def own_model():
    """Return a small network that Keras can describe, the same at each call."""
    x = inputs = keras.Input((SIDE, SIDE, 3), name="images")
    x = layers.Rescaling(1 / 255, name="scale")(x)
    x = layers.Conv2D(4, 3, name="conv", kernel_initializer=keras.initializers.HeNormal(1))(x)
    x = layers.Conv2D(4, 3, name="last", kernel_initializer=keras.initializers.HeNormal(2))(x)
    return keras.Model(inputs, x, name="own")


def other_weights(model):
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel + 0.125)


def other_layers(model):
    model.get_layer("last").activation = keras.activations.tanh


CHANGES = {"weights": other_weights, "layers": other_layers}


def fitted(model, **changes):
    tuning = {"fine_tune_epochs": 1, **ALL_IMAGES} if changes.get("trainable_layers") else {}
    parameters = {"random_state": 0, "cache": None} | tuning | changes
    return TransferClassifier(model, **parameters).fit(IMAGES, LABELS)


def forget_compiled(estimator):
    """Drop all compiled networks, as in another process, and return the estimator."""
    from transferclf.training import trainer

    prefix._forwards.clear()
    trainer._trainers.clear()
    return estimator


WAYS = {
    "model_": lambda classifier, path: classifier.model_,
    "predict": lambda classifier, path: forget_compiled(classifier).predict_proba(IMAGES),
    "pickled": lambda classifier, path: forget_compiled(
        pickle.loads(pickle.dumps(classifier))
    ).predict_proba(IMAGES),
    "pickled, model_": lambda classifier, path: pickle.loads(pickle.dumps(classifier)).model_,
    "copied": lambda classifier, path: copy.deepcopy(classifier).model_,
    "saved": lambda classifier, path: save_model(classifier, path),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("parameters", [{}, {"trainable_layers": "last"}], ids=["frozen", "tuned"])
def test_a_model_changed_after_fit_is_noticed(way, change, parameters, tmp_path):
    model = own_model()
    classifier = fitted(model, **parameters)
    CHANGES[change](model)
    with pytest.raises(NetworkError, match="'own' are not those that it was fitted with: fit aga"):
        WAYS[way](classifier, tmp_path / "a.model")


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_changed_after_pickling_is_noticed(change):
    classifier = pickle.loads(pickle.dumps(fitted(own_model())))
    CHANGES[change](classifier.prefix_.model)
    if change == "weights":
        with pytest.raises(NetworkError, match="The weights of 'own'"):
            _ = classifier.model_
    else:  # the digest is computed at the first use, here after the change
        _ = classifier.prefix_.digest
        other_weights(classifier.prefix_.model)
        with pytest.raises(NetworkError, match="The weights of 'own'"):
            _ = classifier.model_


def test_a_loaded_model_is_pinned_by_the_archive(tmp_path):
    save_model(fitted(own_model()), tmp_path / "a.model")
    handed_in = own_model()
    loaded = load_model(tmp_path / "a.model", backbone=handed_in)
    other_weights(handed_in)
    with pytest.raises(NetworkError, match="The weights of 'own'"):
        _ = loaded.model_


def test_grad_cam_and_an_extractor_notice_a_changed_model():
    from transferclf.reports import GradCAMDisplay

    model = own_model()
    classifier, extractor = fitted(model), CNNFeatureExtractor(model, cache=None).fit(IMAGES)
    other_weights(model)
    with pytest.raises(NetworkError, match="The weights of 'own'"):
        GradCAMDisplay.from_estimator(classifier, IMAGES[:2])
    with pytest.raises(NetworkError, match="The weights of 'own'"):
        forget_compiled(extractor).transform(IMAGES)
    with pytest.raises(NetworkError, match="The weights of 'own'"):
        forget_compiled(pickle.loads(pickle.dumps(extractor))).transform(IMAGES)


@pytest.mark.slow
def test_a_file_of_weights_replaced_after_fit_is_noticed(tmp_path):
    file = tmp_path / "mine.weights.h5"
    options = {"image_size": 32, "preprocessing": "auto", "pooling": "avg", "layers": (), "seed": 0}
    for seed in (1, 2):
        chosen = choose_prefix("tiny", weights=None, **(options | {"seed": seed}))
        chosen.network().save_weights(tmp_path / f"{seed}.weights.h5")
    file.write_bytes((tmp_path / "1.weights.h5").read_bytes())
    classifier = TransferClassifier("tiny", weights=file, image_size=32).fit(IMAGES, LABELS)
    expected = classifier.predict_proba(IMAGES)
    file.write_bytes((tmp_path / "2.weights.h5").read_bytes())
    with pytest.raises(NetworkError, match="The weights of 'tiny'"):
        _ = classifier.model_
    file.write_bytes((tmp_path / "1.weights.h5").read_bytes())
    np.testing.assert_array_equal(classifier.predict_proba(IMAGES), expected)
    assert classifier.model_.count_params() > 0


def test_a_restored_model_is_accepted_again():
    model = own_model()
    classifier = fitted(model)
    expected = classifier.predict_proba(IMAGES)
    weights = model.get_weights()
    other_weights(model)
    model.set_weights(weights)
    model.compile("adam", "mse")
    model.trainable = False
    got = outputs_of(classifier.model_, IMAGES)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_features_of_a_changed_model_are_not_stored_under_the_old_digest():
    model = own_model()
    classifier = fitted(model, cache="memory")
    pickled = pickle.dumps(classifier)
    expected = classifier.predict_proba(IMAGES)
    other_weights(model)
    changed = fitted(model, cache="memory")
    assert changed.prefix_.digest != classifier.prefix_.digest
    assert np.abs(changed.prefix_.forward()(IMAGES) - features_of_pickled(pickled)).max() > 1e-2
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(IMAGES), expected)


def features_of_pickled(pickled):
    return pickle.loads(pickled).prefix_.forward()(IMAGES)
