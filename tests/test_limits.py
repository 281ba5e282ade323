"""Numbers that are not finite, networks that do not fit into memory, classes of one image each."""

import time
import warnings

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from transferclf import ConvNet, TransferClassifier
from transferclf.exceptions import DivergenceError, InvalidParameterError, NetworkError
from transferclf.objectives import Classes
from transferclf.training import memory, regularization
from transferclf.training.regularization import DEFAULT_L2, choose_l2

N = 24
IMAGES = striped_images(N, np.random.default_rng(8))
LABELS = np.arange(N) % 3

HIDDEN = {"hidden_units": (4,), "epochs": 2}
TUNED = {"trainable_layers": "top", "fine_tune_epochs": 2, "l2": 0.1}
SCRATCH = {"backbone": ConvNet((2,), dense_units=()), "image_size": 8, "epochs": 2}

# The name of the learning rate in each setting.
DIVERGING = {
    "hidden": (HIDDEN | {"optimizer": "sgd"}, "learning_rate"),
    "one epoch": (HIDDEN | {"optimizer": "sgd", "epochs": 1}, "learning_rate"),
    "adam": (HIDDEN, "learning_rate"),
    "linear": ({"optimizer": "sgd", "epochs": 2}, "learning_rate"),
    "fine-tuned": (TUNED | {"optimizer": "sgd"}, "fine_tune_learning_rate"),
    "scratch": (SCRATCH | {"optimizer": "sgd"}, "learning_rate"),
}


def classifier(**parameters):
    return TransferClassifier(**({"image_size": 32, "random_state": 0} | parameters))


class TestDivergence:
    @pytest.mark.parametrize("kind", DIVERGING)
    def test_a_huge_learning_rate_raises_an_error_that_names_it(self, kind):
        parameters, rate = DIVERGING[kind]
        diverging = classifier(**parameters, **{rate: 1e36})
        with pytest.raises(DivergenceError, match=rf"learning rate of 1e\+36 .* Set {rate} to a"):
            diverging.fit(IMAGES, LABELS)
        if kind == "fine-tuned":  # its head was already fitted
            assert [phase["part"] for phase in diverging.phases_] == ["head"]
            assert diverging.score(IMAGES, LABELS) > 0.9
        else:
            with pytest.raises(NotFittedError):
                diverging.predict(IMAGES)

    @pytest.mark.parametrize("warm_start", [False, True])
    @pytest.mark.parametrize("kind", DIVERGING)
    def test_the_earlier_state_is_kept(self, kind, warm_start):
        parameters, rate = DIVERGING[kind]
        fitted = classifier(**parameters, warm_start=warm_start).fit(IMAGES, LABELS)
        fitted.set_params(**{rate: 1e36})
        before, proba = dict(vars(fitted)), fitted.predict_proba(IMAGES)
        with pytest.raises(DivergenceError):
            fitted.fit(IMAGES, LABELS)
        assert vars(fitted).keys() == before.keys()
        assert all(vars(fitted)[name] is before[name] for name in before)
        np.testing.assert_array_equal(fitted.predict_proba(IMAGES), proba)

    def test_a_new_classifier_keeps_the_earlier_epochs(self):
        rates = keras.optimizers.schedules.PiecewiseConstantDecay([3], [1e-3, 1e36])
        how = HIDDEN | {"optimizer": "sgd", "batch_size": 12, "epochs": 9}
        diverging = classifier(**how, lr_schedule=rates)
        with pytest.raises(DivergenceError, match="in epoch 3"):
            diverging.fit(IMAGES, LABELS)
        two = classifier(**how | {"epochs": 2, "learning_rate": 1e-3}).fit(IMAGES, LABELS)
        assert diverging.n_iter_ == 2
        np.testing.assert_array_equal(diverging.predict_proba(IMAGES), two.predict_proba(IMAGES))

    @pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
    def test_partial_fit_raises_the_error(self):
        fitted = classifier(optimizer="sgd").partial_fit(IMAGES, LABELS, [0, 1, 2])
        before = fitted.predict_proba(IMAGES)
        with pytest.raises(DivergenceError):
            fitted.set_params(learning_rate=1e39).partial_fit(IMAGES, LABELS)
        np.testing.assert_array_equal(fitted.predict_proba(IMAGES), before)
        with pytest.raises(DivergenceError):
            classifier(optimizer="sgd", learning_rate=1e39).partial_fit(IMAGES, LABELS, [0, 1, 2])

    def test_validation_loss_shows_divergence_in_the_first_epoch(self):
        how = classifier(**HIDDEN, optimizer="sgd", learning_rate=1e36, batch_size=N)
        with pytest.raises(DivergenceError, match="in epoch 1 "):
            how.fit(IMAGES, LABELS, validation_data=(IMAGES, LABELS))

    def test_saturated_probabilities_raise_no_error(self):
        fitted = classifier(**HIDDEN, optimizer="sgd", learning_rate=1e4, l2=0.0).fit(
            IMAGES, LABELS
        )
        proba = fitted.predict_proba(IMAGES)
        assert np.isfinite(proba).all()
        assert proba.max() == 1

    def test_a_search_continues_without_the_diverged_candidate(self):
        grid = {"learning_rate": [1e-2, 1e36]}
        search = GridSearchCV(classifier(**HIDDEN, optimizer="sgd"), grid, cv=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            search.fit(IMAGES, LABELS)
        assert any("DivergenceError" in str(each.message) for each in caught)
        assert search.best_params_ == {"learning_rate": 1e-2}

    def test_the_error_is_an_arithmetic_error(self):
        assert issubclass(DivergenceError, FloatingPointError)

    def test_the_error_for_features_that_are_not_finite_names_the_image(self):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        x = keras.ops.log(x - 0.1)  # the argument is negative for dark pixels
        own = keras.Model(inputs, x)
        images = np.full((6, 32, 32, 3), 200, np.uint8)
        images[::2] = 100
        images[4, 3, 3] = 0
        for parameters in ({}, HIDDEN, {"l2": 0.1}):
            with pytest.raises(NetworkError, match=r"for 1 of 6 images, the first at index 4"):
                classifier(backbone=own, **parameters).fit(images, [0, 1] * 3)


class TestMemory:
    @pytest.mark.parametrize(
        ("hidden_units", "more"),
        [
            ((10**9,), {}),
            (10**12, {}),
            ([8, 10**9], {}),
            ((10**6, 10**6), {"batch_norm": "before"}),
            ((10**7,), {"pooling": "flatten"}),
            ((10**9,), {"trainable_layers": "top"}),
        ],
    )
    def test_heads_beyond_the_memory_are_refused_before_an_image_is_read(
        self, hidden_units, more, tmp_path
    ):
        path = tmp_path / "a.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))  # this file cannot be decoded
        began = time.monotonic()
        with pytest.raises(InvalidParameterError) as caught:
            classifier(hidden_units=hidden_units, **more).fit([path] * N, LABELS)
        assert time.monotonic() - began < 20
        text = str(caught.value)
        for word in ("hidden_units=", " weights", " GB of memory", " GB are free", "fewer units"):
            assert word in text

    def test_partial_fit_and_training_from_scratch_are_refused(self):
        with pytest.raises(InvalidParameterError, match="GB are free"):
            classifier(hidden_units=(10**9,)).partial_fit(IMAGES, LABELS, [0, 1, 2])
        with pytest.raises(InvalidParameterError, match="GB are free"):
            classifier(backbone=ConvNet((4,)), hidden_units=(10**9,)).fit(IMAGES, LABELS)

    def test_the_memory_limit_counts_the_features(self, monkeypatch):
        # The backbone tiny has 1,152 features, and the first layer has weights for each of them.
        weights = memory.n_dense_weights([1152, 64, 3])
        free = weights * memory.BYTES_PER_WEIGHT
        monkeypatch.setattr(memory, "free_memory", lambda: free)
        classifier(hidden_units=(64,), epochs=1).fit(IMAGES, LABELS)
        monkeypatch.setattr(memory, "free_memory", lambda: free - 1)
        with pytest.raises(
            InvalidParameterError, match=f"on 1,152 features has {weights:,} weights"
        ):
            classifier(hidden_units=(64,), epochs=1).fit(IMAGES, LABELS)

    def test_unknown_free_memory_refuses_no_network(self, monkeypatch):
        monkeypatch.setattr(memory, "free_memory", lambda: None)
        memory.check_fits(10**15, "it", "Take less.")

    def test_free_memory_is_positive(self):
        assert 10**7 < memory.free_memory() < 10**15

    def test_large_batches_and_many_epochs_are_accepted(self):
        fitted = classifier(hidden_units=(4,), batch_size=10**9, epochs=2).fit(IMAGES, LABELS)
        assert fitted.n_iter_ == 2
        stopping = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1)
        many = classifier(hidden_units=(4,), epochs=10**9, callbacks=[stopping])
        assert many.fit(IMAGES, LABELS).n_iter_ == 2


class TestSingleImages:
    @pytest.mark.parametrize("n_more", [0, 1, 7, 19])
    def test_no_fold_is_held_out_if_most_classes_have_one_image(self, n_more, monkeypatch):
        monkeypatch.setattr(regularization, "_folds", None)  # a choice by folds would call it
        n_classes = 60
        rng = np.random.default_rng(n_more)
        labels = np.concatenate([np.arange(n_classes), np.arange(n_more)])
        features = rng.normal(size=(len(labels), 30))
        l2 = choose_l2(
            features, labels, Classes.numbered(n_classes), sample_weight=np.ones(len(labels))
        )
        assert l2 == DEFAULT_L2

    def test_copies_do_not_count_as_images(self, monkeypatch):
        monkeypatch.setattr(regularization, "_folds", None)
        features = np.random.default_rng(1).normal(size=(10, 5)).repeat(4, axis=0)
        labels = np.arange(10).repeat(4)
        assert (
            choose_l2(features, labels, Classes.numbered(10), sample_weight=np.ones(40))
            == DEFAULT_L2
        )

    def test_few_classes_of_one_image_do_not_prevent_a_choice_of_l2(self):
        rng = np.random.default_rng(2)
        labels = np.concatenate([np.arange(40) % 4, np.arange(4, 12)])
        features = rng.normal(size=(len(labels), 10))
        features[:, :4] += 8 * np.eye(12)[labels][:, :4]
        weights = np.ones(len(labels))
        assert (
            choose_l2(features, labels, Classes.numbered(12), sample_weight=weights) != DEFAULT_L2
        )

    @pytest.mark.filterwarnings("ignore:The number of unique classes is greater")
    def test_many_single_images_are_fitted_in_seconds(self):
        rng = np.random.default_rng(3)
        images = rng.integers(0, 255, (120, 8, 8, 3), dtype=np.uint8)
        labels = np.arange(120) // np.where(np.arange(120) < 4, 2, 1)
        fitted = classifier(image_size=32).fit(images, labels)
        assert fitted.l2_ == DEFAULT_L2
        assert fitted.score(images, labels) > 0.9
