"""Tests of continued training: after Ctrl-C, after a finished fit, and in another process."""

import functools
import pickle
from pathlib import Path

import keras
import numpy as np
import pytest
from exactness import outputs_of
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import head_alone, striped_images
from keras import layers

from transferclf import ConvNet, TransferClassifier
from transferclf.exceptions import TransferclfWarning

N, BATCH = 36, 12


def examples():
    images = striped_images(N, np.random.default_rng(0))
    return images, np.array(["across", "down", "noise"])[np.arange(N) % 3]


def of_head(**changes):
    parameters = {"backbone": "tiny", "image_size": 32, "hidden_units": (8,), "dropout": 0.3}
    parameters |= {"epochs": 6, "batch_size": BATCH, "random_state": 0}
    return TransferClassifier(**(parameters | changes))


@functools.cache
def two_layers():
    inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for number in (1, 2):
        starting = keras.initializers.GlorotUniform(number)
        x = layers.Conv2D(6, 3, strides=2, kernel_initializer=starting, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, x)


def of_layers(**changes):
    """A classifier with two epochs of the head and six epochs of fine-tuning."""
    parameters = {"hidden_units": (4,), "epochs": 2, "trainable_layers": "conv2", **ALL_IMAGES}
    parameters |= {"fine_tune_epochs": 6, "fine_tune_learning_rate": 1e-3}
    return of_head(backbone=two_layers()).set_params(**(parameters | changes))


def of_pixels(**changes):
    network = ConvNet((4, 4), dense_units=(), batch_norm="before", dropout=(0.0, 0.2))
    parameters = {"image_size": 16, "hidden_units": (), "augmentation": "light"}
    return of_head(backbone=network).set_params(**(parameters | changes))


KINDS = [of_head, of_layers, of_pixels]


@functools.cache
def uninterrupted(kind):
    return kind().fit(*examples())


class Interrupting(keras.callbacks.Callback):
    """Press Ctrl-C in an epoch: here at its end, in subclasses at its start or after a batch."""

    def __init__(self, epoch, error=KeyboardInterrupt):
        super().__init__()
        self.epoch = epoch
        self.error = error

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise self.error


class InterruptingEarly(Interrupting):
    def on_epoch_end(self, epoch, logs=None):
        pass

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise self.error


class InterruptingBatches(InterruptingEarly):
    now = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            raise self.error


def assert_same(first, second):
    assert first.history_ == second.history_
    assert first.n_iter_ == second.n_iter_
    for a, b in zip(first.head_.parameters, second.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


class TestInterrupted:
    @pytest.mark.slow
    @pytest.mark.parametrize("interrupting", [Interrupting, InterruptingEarly, InterruptingBatches])
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_continued_fit_equals_an_uninterrupted_one(self, kind, interrupting):
        images, labels = examples()
        n_head = 2 if kind is of_layers else 0
        classifier = kind(warm_start=True, callbacks=[interrupting(2)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        assert classifier.n_iter_ == n_head + 2 == len(classifier.history_["accuracy"])
        assert classifier.n_head_iter_ == (2 if n_head else classifier.n_iter_)
        np.testing.assert_allclose(classifier.predict_proba(images[:4]).sum(axis=1), 1)
        classifier = pickle.loads(pickle.dumps(classifier))
        classifier.set_params(callbacks=None).fit(images, labels)
        whole = uninterrupted(kind)
        assert_same(classifier, whole)
        np.testing.assert_array_equal(classifier.predict_proba(images), whole.predict_proba(images))
        assert classifier.head_.checkpoint is None

    @pytest.mark.slow
    def test_an_interrupted_fit_equals_one_with_fewer_epochs(self):
        images, labels = examples()
        classifier = of_head(callbacks=[Interrupting(2)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        assert_same(classifier, of_head(epochs=2).fit(images, labels))

    def test_a_fit_can_be_interrupted_twice(self):
        images, labels = examples()
        classifier = of_head(warm_start=True)
        for epoch in (1, 4):
            with pytest.raises(KeyboardInterrupt):
                classifier.set_params(callbacks=[Interrupting(epoch)]).fit(images, labels)
            assert classifier.n_iter_ == epoch
        assert_same(
            classifier.set_params(callbacks=()).fit(images, labels), of_head().fit(images, labels)
        )

    def test_fit_without_warm_start_starts_anew(self):
        images, labels = examples()
        classifier = of_head(callbacks=[Interrupting(2)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        assert_same(
            classifier.set_params(callbacks=None).fit(images, labels), of_head().fit(images, labels)
        )

    @pytest.mark.parametrize("schedule", ["cosine", "exponential"])
    def test_schedules_continue(self, schedule):
        images, labels = examples()
        classifier = of_head(warm_start=True, lr_schedule=schedule, callbacks=[Interrupting(3)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        classifier.set_params(callbacks=None).fit(images, labels)
        assert_same(classifier, of_head(lr_schedule=schedule).fit(images, labels))

    def test_another_optimizer_continues_from_the_weights(self):
        images, labels = examples()
        classifier = of_head(warm_start=True, callbacks=[Interrupting(3)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        before = classifier.predict_proba(images)
        classifier.set_params(callbacks=None, optimizer="sgd", learning_rate=1e-9)
        classifier.fit(images, labels)
        assert classifier.n_iter_ == 6
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    @pytest.mark.slow
    def test_an_interrupt_of_the_head_comes_before_fine_tuning(self):
        images, labels = examples()
        classifier = of_layers(warm_start=True, callbacks=[Interrupting(1)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        assert classifier.n_iter_ == classifier.n_head_iter_ == 1
        head = head_alone(of_layers(epochs=1)).fit(images, labels)
        probabilities = classifier.predict_proba(images)
        np.testing.assert_array_equal(probabilities, head.predict_proba(images))
        whole = outputs_of(classifier.model_, images)
        np.testing.assert_allclose(whole, probabilities, atol=1e-5)
        classifier.set_params(callbacks=None).fit(images, labels)
        assert_same(classifier, of_layers().fit(images, labels))

    def test_an_interrupt_before_any_epoch_changes_nothing(self):
        images, labels = examples()
        new = of_head(callbacks=[InterruptingEarly(0)])
        before = dict(vars(new))
        with pytest.raises(KeyboardInterrupt):
            new.fit(images, labels)
        assert vars(new) == before
        fitted = of_head(epochs=1).fit(images, labels)
        fitted.set_params(callbacks=[InterruptingBatches(0)])
        before = dict(vars(fitted))
        with pytest.raises(KeyboardInterrupt):
            fitted.fit(images, labels)
        assert vars(fitted).keys() == before.keys()
        assert all(vars(fitted)[name] is before[name] for name in before)

    def test_an_interrupt_before_fine_tuning_keeps_the_head(self):
        images, labels = examples()
        linear = {"hidden_units": (), "dropout": 0.0, "epochs": 20}
        classifier = of_layers(**linear, callbacks=[InterruptingEarly(0)])
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(images, labels)
        head = head_alone(classifier).fit(images, labels)
        np.testing.assert_allclose(
            classifier.predict_proba(images), head.predict_proba(images), atol=1e-5
        )
        assert classifier.history_ == head.history_

    def test_errors_of_callbacks_are_raised_and_epochs_kept(self):
        images, labels = examples()
        classifier = of_head(callbacks=[Interrupting(2, ZeroDivisionError)])
        with pytest.raises(ZeroDivisionError):
            classifier.fit(images, labels)
        assert classifier.n_iter_ == 2


class TestFinished:
    @pytest.mark.parametrize("kind", KINDS)
    def test_it_continues_from_its_weights(self, kind):
        images, labels = examples()
        classifier = kind(warm_start=True).fit(images, labels)
        first, n_first = classifier.history_, classifier.n_iter_
        epochs = "fine_tune_epochs" if kind is of_layers else "epochs"
        classifier.set_params(**{"epochs": 2, epochs: 3}).fit(images, labels)
        assert classifier.n_iter_ == n_first + 3 == len(classifier.history_["learning_rate"])
        assert classifier.history_["loss"][:n_first] == first["loss"]
        assert np.mean(classifier.history_["loss"][n_first:]) < np.mean(first["loss"][-6:])

    def test_other_images_start_from_the_same_weights(self):
        images, labels = examples()
        classifier = of_head(warm_start=True).fit(images, labels)
        before = classifier.predict_proba(images)
        classifier.set_params(learning_rate=1e-9).fit(images[::-1], labels[::-1])
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    def test_other_images_are_standardised_like_the_first(self):
        images, labels = examples()
        classifier = of_head(warm_start=True).fit(images, labels)
        mean = classifier.head_.mean
        classifier.fit(images[:9] // 2, labels[:9])
        np.testing.assert_array_equal(classifier.head_.mean, mean)

    @pytest.mark.parametrize("hidden_units", [(), (8,)])
    @pytest.mark.parametrize("change", ["fewer", "more", "others"])
    def test_other_classes_are_refused(self, hidden_units, change):
        images, labels = examples()
        classifier = of_head(warm_start=True, hidden_units=hidden_units, dropout=0.0, epochs=1)
        classifier = head_alone(classifier).fit(images, labels)
        before = dict(vars(classifier))
        changed = {
            "fewer": np.where(labels == "noise", "down", labels),
            "more": np.where(np.arange(N) < 3, "up", labels),
            "others": np.where(labels == "noise", "nothing", labels),
        }
        with pytest.raises(ValueError, match="goes on with the classes of the last fit"):
            classifier.fit(images, changed[change])
        assert all(vars(classifier)[name] is before[name] for name in before)

    @pytest.mark.parametrize(
        "changes", [{"hidden_units": (5,)}, {"image_size": 48}, {"activation": "tanh"}]
    )
    def test_another_network_starts_anew(self, changes):
        images, labels = examples()
        classifier = of_head(warm_start=True, epochs=2).fit(images, labels)
        with pytest.warns(TransferclfWarning, match="training starts anew"):
            classifier.set_params(**changes).fit(images, labels)
        assert_same(classifier, of_head(epochs=2, **changes).fit(images, labels))

    @pytest.mark.slow
    def test_fine_tuning_starts_from_the_fitted_head(self):
        images, labels = examples()
        stepwise = head_alone(of_layers(warm_start=True)).fit(images, labels)
        assert stepwise.n_iter_ == 2
        stepwise.set_params(fine_tune_epochs=6, fine_tune_learning_rate=1e-3, **ALL_IMAGES)
        stepwise.set_params(trainable_layers="conv2", epochs=99).fit(images, labels)
        assert stepwise.n_head_iter_ == 2
        at_once = of_layers().fit(images, labels)
        for name, values in at_once.history_.items():
            np.testing.assert_allclose(stepwise.history_[name], values, rtol=1e-4)

    def test_fine_tuning_starts_from_a_linear_head_too(self):
        images, labels = examples()
        plain = {"hidden_units": (), "dropout": 0.0, "l2": 0.3}
        stepwise = head_alone(of_layers(warm_start=True, **plain)).fit(images, labels)
        n_head = stepwise.n_iter_
        tuning = {"fine_tune_epochs": 1, "fine_tune_learning_rate": 1e-9, **ALL_IMAGES}
        stepwise.set_params(trainable_layers="conv2", batch_size=BATCH, **tuning)
        stepwise.fit(images, labels)
        assert (stepwise.n_head_iter_, stepwise.n_iter_) == (n_head, n_head + 1)
        assert stepwise.history_["loss"][-1] == pytest.approx(
            stepwise.history_["loss"][-2], rel=1e-3
        )

    def test_an_optimal_head_stays_the_same(self):
        images, labels = examples()
        optimum = head_alone(of_head(hidden_units=(), dropout=0.0, warm_start=True))
        optimum.fit(images, labels)
        before = optimum.predict_proba(images)
        np.testing.assert_array_equal(optimum.fit(images, labels).predict_proba(images), before)

    @pytest.mark.parametrize("wrong", [1, 0, "yes", None, np.array([True])])
    def test_warm_start_must_be_true_or_false(self, wrong):
        with pytest.raises(ValueError, match="warm_start must be True or False"):
            of_head(warm_start=wrong).fit(*examples())


IN_ANOTHER_PROCESS = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from test_warm_start import KINDS, examples, short

np.random.seed(5)
np.savez(sys.argv[1], *[short(kind).predict_proba(examples()[0]) for kind in KINDS])
"""


def short(kind, **changes):
    """Return a classifier of this kind, fitted for two epochs."""
    tuning = {"fine_tune_epochs": 2} if kind is of_layers else {}
    return kind(epochs=2, **tuning, **changes).fit(*examples())


@pytest.mark.slow
def test_a_seed_gives_the_same_in_every_process(tmp_path, in_another_process):
    in_another_process(IN_ANOTHER_PROCESS, tmp_path / "found.npz", Path(__file__).parent)
    images, _ = examples()
    with np.load(tmp_path / "found.npz") as found:
        for kind, name in zip(KINDS, found.files, strict=True):
            here = short(kind)
            np.testing.assert_array_equal(here.predict_proba(images), found[name])
            assert_same(short(kind), here)
            other = short(kind, random_state=1)
            assert other.history_["loss"] != here.history_["loss"]
            assert np.abs(other.predict_proba(images) - found[name]).max() > 1e-4
