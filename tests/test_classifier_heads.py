"""Heads with hidden layers and Keras optimizers, as parameters of the classifier."""

import pickle

import numpy as np
import pytest
from exactness import outputs_of
from image_helpers import striped_images
from sklearn.model_selection import GridSearchCV, cross_val_score

from transferclf import TransferClassifier
from transferclf._checks import OPTIMIZERS
from transferclf.exceptions import InvalidParameterError
from transferclf.heads.linear import LinearHead
from transferclf.images import resize_image

N = 36


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.array(["across", "down", "noise"])[np.arange(N) % 3]


def tiny(**changes):
    parameters = {"image_size": 32, "hidden_units": (8,), "epochs": 15, "random_state": 0}
    return TransferClassifier("tiny", **(parameters | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_units": (16, 8), "activation": "tanh", "dropout": (0.2, 0.1)},
        {"hidden_units": [8], "activation": "gelu", "l1": 1e-4},
        {"hidden_units": 8, "activation": "sigmoid", "learning_rate": 0.01},
        {"hidden_units": (), "optimizer": "sgd", "learning_rate": 0.01},
        {"hidden_units": (), "dropout": 0.3},
        {"hidden_units": (), "l1": 1e-3},
        {"hidden_units": np.array([8]), "batch_size": 100},
    ],
)
def test_it_learns_and_its_whole_model_agrees(images, labels, changes):
    classifier = tiny(**changes).fit(images, labels)
    assert classifier.score(images, labels) > 0.9
    assert len(classifier.history_["loss"]) == classifier.n_iter_ == 15
    assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]
    pixels = np.stack([resize_image(image, (32, 32)) for image in images]).astype(np.float32)
    probabilities = classifier.predict_proba(images)
    np.testing.assert_allclose(outputs_of(classifier.model_, pixels), probabilities, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS[2:])
def test_every_optimizer_trains(images, labels, optimizer):
    classifier = tiny(optimizer=optimizer, learning_rate=1e-2, epochs=5, l2=0).fit(images, labels)
    assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]


@pytest.mark.slow
def test_auto_finds_the_optimum_of_a_convex_loss(images, labels):
    linear = tiny(hidden_units=(), epochs=20).fit(images, labels)
    assert isinstance(linear.head_, LinearHead)
    by_adam = tiny(hidden_units=(), optimizer="adam", epochs=400, learning_rate=3e-3, l2=0.1)
    by_adam.fit(images, labels)
    optimum = linear.set_params(l2=0.1).fit(images, labels)
    losses = by_adam.history_["loss"][-1], optimum.history_["loss"][-1]
    assert losses[0] == pytest.approx(losses[1], abs=5e-3)
    np.testing.assert_allclose(
        by_adam.predict_proba(images), optimum.predict_proba(images), atol=0.02
    )


@pytest.mark.slow
def test_a_search_over_heads_passes_images_once(images, labels):
    probe = tiny().fit(images[:1].repeat(2, axis=0), [0, 1])
    before = probe.prefix_.forward().images_seen
    grid = [
        {"hidden_units": [(), (4,)], "optimizer": ["adam", "sgd"]},
        {"hidden_units": [(8, 4)], "dropout": [0.2]},
    ]
    search = GridSearchCV(tiny(epochs=2, learning_rate=0.01), grid, cv=2).fit(images, labels)
    assert search.best_score_ > 0.6
    assert probe.prefix_.forward().images_seen - before == N - 1


def test_equal_seeds_give_equal_heads(images, labels):
    seeds = (0, 1, 0, np.random.RandomState(3), np.random.RandomState(3))
    found = [
        tiny(dropout=0.5, epochs=2, random_state=seed).fit(images, labels).predict_proba(images)
        for seed in seeds
    ]
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[3], found[4])
    assert np.abs(found[0] - found[1]).max() > 1e-3
    scores = [cross_val_score(tiny(epochs=2), images, labels, cv=3).tolist() for _ in range(2)]
    assert scores[0] == scores[1]


def test_sample_and_class_weights_have_an_effect(images, labels, rng):
    labels = rng.permutation(labels)  # equal images, so that the weights alone decide
    plain = tiny(epochs=40, l2=0.5).fit(images, labels).predict_proba(images)
    heavy = tiny(epochs=40, l2=0.5, class_weight={"down": 20}).fit(images, labels)
    by_sample = tiny(epochs=40, l2=0.5)
    by_sample.fit(images, labels, sample_weight=np.where(labels == "down", 20, 1))
    assert heavy.predict_proba(images)[:, 1].mean() > plain[:, 1].mean() + 0.05
    np.testing.assert_allclose(
        heavy.predict_proba(images), by_sample.predict_proba(images), atol=1e-6
    )


def test_heads_are_pickled_before_and_after_fitting(images, labels):
    classifier = pickle.loads(pickle.dumps(tiny())).fit(images, labels)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))


def test_new_parameters_do_not_change_a_fitted_head(images, labels):
    classifier = tiny(dropout=0.2).fit(images, labels)
    before = classifier.predict_proba(images)
    classifier.set_params(hidden_units=(3, 3), activation="sigmoid", dropout=(0.1, 0.1))
    pixels = np.stack([resize_image(image, (32, 32)) for image in images]).astype(np.float32)
    np.testing.assert_array_equal(classifier.predict_proba(images), before)
    np.testing.assert_allclose(outputs_of(classifier.model_, pixels), before, atol=1e-5)


def test_verbose_shows_the_epochs(images, labels, capsys):
    tiny(verbose=1, epochs=3).fit(images, labels)
    assert "head, epoch 3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_units": (0,)}, "hidden_units must be"),
        ({"hidden_units": (8.5,)}, "hidden_units must be"),
        ({"hidden_units": "8"}, "hidden_units must be"),
        ({"hidden_units": None}, "hidden_units must be"),
        ({"hidden_units": {8}}, "hidden_units must be"),
        ({"activation": "relux"}, "activation must be"),
        ({"activation": None}, "activation must be"),
        ({"activation": "glu"}, "activation must be"),
        ({"activation": "threshold"}, "activation must be"),
        ({"activation": 3, "hidden_units": ()}, "activation must be"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"dropout": -0.1}, "dropout must be"),
        ({"dropout": (0.1, 0.1)}, "dropout must be one number or 1"),
        ({"dropout": None}, "dropout must be"),
        ({"dropout": np.nan}, "dropout must be"),
        ({"l1": -1}, "l1 must be"),
        ({"l1": np.inf}, "l1 must be"),
        ({"optimizer": "adamm"}, "optimizer must be one of"),
        ({"optimizer": None}, "optimizer must be one of"),
        ({"optimizer": "lbfgs"}, "fits softmax regression only"),
        ({"optimizer": "lbfgs", "hidden_units": (), "l1": 0.1}, "fits softmax regression only"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0"),
        ({"learning_rate": "fast"}, "learning_rate must be"),
        ({"epochs": 0}, "epochs must be"),
        ({"epochs": 2.5}, "epochs must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"batch_size": True}, "batch_size must be"),
        ({"fine_tune_epochs": -1}, "fine_tune_epochs must be"),
        ({"fine_tune_learning_rate": -1e-3}, "fine_tune_learning_rate must be"),
    ],
)
def test_invalid_parameters_are_refused_before_any_work(images, labels, changes, message):
    paths = ["there is no such file.png"] * N
    with pytest.raises(InvalidParameterError, match=message):
        tiny(**changes).fit(paths, labels)
