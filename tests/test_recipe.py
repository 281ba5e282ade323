"""Tests of recipes: the number of epochs, what is compiled, and the checks of fine-tuning."""

import dataclasses
import functools
import itertools
import math

import keras
import numpy as np
import pytest
from fine_tuning_helpers import PLAIN
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import head_alone, striped_images
from keras import layers

from transferclf import Augmentation, TransferClassifier, TransferRegressor, load_model, save_model
from transferclf.exceptions import InvalidParameterError
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.recipe import LEAST_EPOCHS, STEPS, Method, Recipe, n_epochs
from transferclf.training.running import Run

N = 24
IMAGES = striped_images(N, np.random.default_rng(4))
LABELS = np.arange(N) % 3

# The sizes of sets from one image to those that no memory holds.
SIZES = st.integers(1, 300) | st.integers(1, 10**7)
BATCHES = st.integers(1, 64) | st.integers(1, 10**5)


def classifier(**changes):
    parameters = {"image_size": 32, "random_state": 0, "trainable_layers": "top", "l2": 0.1}
    return TransferClassifier("tiny", **(parameters | changes))


class TestEpochs:
    @given(SIZES, BATCHES)
    def test_they_have_enough_steps_and_passes(self, n_samples, batch_size):
        epochs = n_epochs(n_samples, batch_size)
        n_batches = -(-n_samples // batch_size)
        assert epochs >= LEAST_EPOCHS
        assert epochs * n_batches >= STEPS

    @given(SIZES, BATCHES)
    def test_they_are_no_more_than_needed(self, n_samples, batch_size):
        fewer = n_epochs(n_samples, batch_size) - 1
        n_batches = -(-n_samples // batch_size)
        assert fewer < LEAST_EPOCHS or fewer * n_batches < STEPS

    @given(SIZES, BATCHES)
    def test_a_recipe_without_epochs_has_them(self, n_samples, batch_size):
        recipe = Recipe(Method(), 0.1, None, batch_size)
        assert recipe.epochs_for(n_samples) == n_epochs(n_samples, batch_size)

    @given(SIZES, st.integers(1, 1000))
    def test_a_recipe_with_epochs_keeps_them(self, n_samples, epochs):
        assert Recipe(Method(), 0.1, epochs, 32).epochs_for(n_samples) == epochs

    def test_auto_counts_the_images_that_are_trained_on(self, monkeypatch):
        monkeypatch.setattr("transferclf.training.recipe.STEPS", 40)
        tuned = classifier(fine_tune_epochs="auto", batch_size=4, augmentation=None)
        half = tuned.set_params(soup="auto", validation_fraction=0.5).fit(IMAGES, LABELS)
        assert len(half.sample_indices_) == 12
        assert half.n_iter_ - half.n_head_iter_ == 14  # of three batches
        whole = tuned.set_params(soup=1.0, validation_fraction=0.1).fit(IMAGES, LABELS)
        assert whole.n_iter_ - whole.n_head_iter_ == 7  # of six

    @pytest.mark.parametrize(("batch_size", "expected"), [("auto", [32, 16]), (4, [4, 4])])
    def test_fine_tuning_has_smaller_batches_by_default(self, monkeypatch, batch_size, expected):
        sizes = []

        class Watched(Run):
            def train(self, verbose):
                sizes.append(self.recipe.batch_size)
                super().train(verbose)

        monkeypatch.setattr("transferclf.training.phases.Run", Watched)
        how = {"optimizer": "adam", "epochs": 1, "fine_tune_epochs": 1}
        classifier(batch_size=batch_size, **how).fit(IMAGES, LABELS)
        assert sizes == expected


OTHER_METHODS = {
    "optimizer": ["adam", keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1, momentum=0.5)],
    "augmentation": [Augmentation(rotation=5), Augmentation(rotation=6)],
    "layer_decay": [0.5, 0.9],
    "weight_decay": [0.0, 0.01],
    "global_clipnorm": [0.5, 1.0],
    "runs_prefix": [True],
}


class TestMethod:
    def test_every_field_is_compared(self):
        assert {each.name for each in dataclasses.fields(Method)} == set(OTHER_METHODS)

    def test_its_key_differs_with_each_field(self):
        methods = [Method()]
        for name, values in OTHER_METHODS.items():
            methods += [Method(**{name: value}) for value in values]
        for one, other in itertools.combinations(methods, 2):
            assert one.key != other.key
        assert len({method.key for method in methods}) == len(methods)

    def test_equal_methods_have_equal_keys(self):
        for name, values in OTHER_METHODS.items():
            for value in values:
                assert Method(**{name: value}).key == Method(**{name: value}).key
        own = keras.optimizers.SGD(0.1, momentum=0.5)
        assert Method(own).key == Method(type(own).from_config(own.get_config())).key

    @pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "nadam"])
    def test_an_optimizer_by_name_has_its_decay_and_clipping(self, name):
        made = Method(name, weight_decay=0.03, global_clipnorm=0.7).new_optimizer()
        assert type(made) is type(keras.optimizers.get(name))
        assert (made.weight_decay, made.global_clipnorm) == (0.03, 0.7)

    @pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
    def test_none_leaves_the_defaults_of_the_optimizer(self, name):
        made, plain = Method(name).new_optimizer(), keras.optimizers.get(name)
        numbered = {"name": None}
        assert made.get_config() | numbered == plain.get_config() | numbered

    def test_zero_is_no_decay_even_where_the_optimizer_has_one(self):
        assert keras.optimizers.AdamW().weight_decay > 0
        assert Method("adamw", weight_decay=0.0).new_optimizer().weight_decay == 0

    def test_an_optimizer_object_keeps_its_own(self):
        own = keras.optimizers.AdamW(0.1, weight_decay=0.2, global_clipnorm=3.0)
        made = Method(own).new_optimizer()
        assert made is not own
        assert made.get_config() == own.get_config()


NO_NUMBERS = ["0.5", "", b"auto", "Auto", [0.5], (0.5,), {}, object(), 1j, np.array([0.5, 0.5])]
NOT_FINITE = [np.nan, np.inf, -np.inf]
HOSTILE = {
    "soup": [*NO_NUMBERS, *NOT_FINITE, -0.01, 1.01, None, True, False],
    "warmup_fraction": [*NO_NUMBERS, *NOT_FINITE, -0.01, 1, 1.0, 2, None, True, False, "auto"],
    "weight_decay": [*NO_NUMBERS, *NOT_FINITE, -1e-9, None, True, False, "auto"],
    "global_clipnorm": [*NO_NUMBERS, *NOT_FINITE, 0, 0.0, -1, True, False, "auto"],
    "fine_tune_epochs": [*NO_NUMBERS, *NOT_FINITE, 0, -1, 1.5, 3.0, None, True, False],
    "batch_size": [*NO_NUMBERS, *NOT_FINITE, 0, -1, 1.5, 3.0, None, True, False],
}
REFUSED = [(name, value) for name, values in HOSTILE.items() for value in values]
ACCEPTED = {
    "soup": ["auto", 0, 1, 0.0, 1.0, 0.5, np.float32(0.25), np.int64(1)],
    "warmup_fraction": [0, 0.0, 0.5, 0.999, np.float64(0.1)],
    "weight_decay": [0, 0.0, 0.5, 3, np.float32(0.1)],
    "global_clipnorm": [None, 1e-9, 1, 7.5, np.float64(2)],
    "fine_tune_epochs": ["auto", 1, 10**6, np.int64(3)],
    "batch_size": ["auto", 1, 10**6, np.int64(3)],
}


class ReachedError(Exception):
    """Error in the place of training."""


@pytest.fixture
def _untrained(monkeypatch):
    """Stop each fit where training would begin."""

    def stop(*_, **__):
        raise ReachedError

    monkeypatch.setattr("transferclf.training.learning.Learner.learn", stop)


class TestChecks:
    @pytest.mark.parametrize("make", [TransferClassifier, TransferRegressor])
    @pytest.mark.parametrize(("name", "value"), REFUSED)
    def test_wrong_values_are_refused_before_any_work(self, make, name, value):
        paths = ["there is no such file.png"] * N
        estimator = make("tiny", image_size=32, trainable_layers="top", **{name: value})
        with pytest.raises(InvalidParameterError, match=f"^{name} must be "):
            estimator.fit(paths, LABELS)
        assert not hasattr(estimator, "head_")

    @pytest.mark.usefixtures("_untrained")
    @pytest.mark.parametrize("name", ACCEPTED)
    def test_right_values_reach_training(self, name):
        for value in ACCEPTED[name]:
            with pytest.raises(ReachedError):
                classifier(**{name: value}).fit(IMAGES, LABELS)


OTHER_VALUES = {
    "soup": 0.25,
    "warmup_fraction": 0.2,
    "weight_decay": 0.3,
    "global_clipnorm": None,
    "fine_tune_epochs": 1,
    "augmentation": None,
    "lr_schedule": "exponential",
}


class TestArchives:
    def test_they_keep_the_parameters(self, tmp_path):
        fitted = classifier(**OTHER_VALUES).fit(IMAGES, LABELS)
        save_model(fitted, tmp_path / "a.model")
        loaded = load_model(tmp_path / "a.model")
        found = loaded.get_params()
        assert {name: found[name] for name in OTHER_VALUES} == OTHER_VALUES
        assert loaded.soup_ == fitted.soup_ == 0.25
        np.testing.assert_array_equal(loaded.predict_proba(IMAGES), fitted.predict_proba(IMAGES))

    def test_they_keep_what_is_auto(self, tmp_path):
        names = ("soup", "fine_tune_epochs", "batch_size", "augmentation", "lr_schedule")
        auto = dict.fromkeys(names, "auto")
        fitted = TransferClassifier("tiny", image_size=32, l2=0.1, **auto).fit(IMAGES, LABELS)
        save_model(fitted, tmp_path / "a.model")
        loaded = load_model(tmp_path / "a.model")
        assert {name: loaded.get_params()[name] for name in auto} == auto
        assert loaded.augmentation_ is fitted.augmentation_ is None


@functools.cache
def two_convolutions():
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(x)
    for number in (1, 2):
        starting = keras.initializers.GlorotUniform(number)
        how = {"strides": 3, "kernel_initializer": starting, "name": f"conv{number}"}
        x = layers.Conv2D(4, 5, activation="relu", **how)(x)
    return keras.Model(inputs, x)


def rates_by_hand(rate, steps, warmup):
    """Return rates that rise linearly and fall by half a cosine."""
    rising = int(steps * warmup)
    rise = [rate * (number + 1) / (rising + 1) for number in range(rising)]
    falling = steps - rising
    return rise + [rate * (1 + math.cos(math.pi * n / falling)) / 2 for n in range(falling)]


@pytest.mark.slow
def test_the_whole_recipe_gives_the_weights_of_keras():
    epochs, batch_size, rate, warmup = 5, 8, 0.01, 0.3
    how = {"optimizer": "adamw", "weight_decay": 0.1, "global_clipnorm": 0.05, "soup": 1.0}
    how |= {"lr_schedule": "auto", "warmup_fraction": warmup, "fine_tune_epochs": epochs}
    how |= {"fine_tune_learning_rate": rate, "epochs": 3, "learning_rate": 0.01, "l2": 0.02}
    how |= {"batch_size": batch_size, "augmentation": None, "trainable_layers": "all"}
    fitted = TransferClassifier(two_convolutions(), random_state=0, **how).fit(IMAGES, LABELS)
    model = head_alone(fitted, lr_schedule=None).fit(IMAGES, LABELS).model_
    for layer in model.layers:
        layer.trainable = layer.name in ("conv1", "conv2", "predictions")
    model.get_layer("predictions").kernel.regularizer = keras.regularizers.L2(0.02)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=0.1, global_clipnorm=0.05)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    rates = iter(rates_by_hand(rate, epochs * N // batch_size, warmup))
    started = model.get_layer("conv1").get_weights()[0]
    for order in epoch_orders(Samples.of(IMAGES, LABELS, np.ones(N)), epochs, seed=0):
        for batch in np.split(order, N // batch_size):
            model.optimizer.learning_rate = next(rates)
            model.train_on_batch(IMAGES[batch].astype(np.float32), LABELS[batch])
    for name in ("conv1", "conv2"):
        ours, theirs = (it.get_layer(name).get_weights() for it in (fitted.model_, model))
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
    assert np.abs(model.get_layer("conv1").get_weights()[0] - started).max() > 0.01


WARMUP = TransferClassifier().warmup_fraction  # other values would warn where rates are constant
CHANGES = [
    {"weight_decay": 0.3}, {"global_clipnorm": 0.01}, {"warmup_fraction": 0.5},
    {"lr_schedule": None, "warmup_fraction": WARMUP}, {"soup": 0.5}, {"optimizer": "sgd"},
    {"augmentation": "light"}, {"layer_decay": 0.5}, {"fine_tune_epochs": 3},
    {"fine_tune_learning_rate": 1e-3},
]  # fmt: skip


@pytest.mark.slow
def test_each_piece_of_the_recipe_changes_the_result():
    plain = {"trainable_layers": "all", "fine_tune_epochs": 2, "fine_tune_learning_rate": 1e-2}
    plain |= {"batch_size": 6, "l2": 0.1, "random_state": 0, "epochs": 2, **PLAIN}
    plain |= {"global_clipnorm": 1.0, "lr_schedule": "cosine", "warmup_fraction": 0.0}
    found = [
        TransferClassifier(two_convolutions(), **plain | changes)
        .fit(IMAGES, LABELS)
        .decision_function(IMAGES)
        for changes in ({}, *CHANGES)
    ]
    for one, other in itertools.combinations(found, 2):
        assert np.abs(one - other).max() > 1e-5
