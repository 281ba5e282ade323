"""Training a head on some images at a time."""

import pickle

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from transferclf import ConvNet, TransferClassifier
from transferclf.exceptions import InvalidParameterError

N, BATCH = 36, 12
CLASSES = ["across", "down", "noise"]


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.array(CLASSES)[np.arange(N) % 3]


def tiny(**changes):
    parameters = {"backbone": "tiny", "image_size": 32, "hidden_units": (8,), "epochs": 3}
    parameters |= {"batch_size": BATCH, "random_state": 0}
    return TransferClassifier(**(parameters | changes))


def assert_same_weights(first, second):
    for a, b in zip(first.head_.parameters, second.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


class TestLearning:
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"hidden_units": ()},
            {"hidden_units": (), "optimizer": "sgd", "learning_rate": 0.01},
            {"dropout": 0.2, "batch_norm": "before"},
        ],
    )
    def test_two_halves_in_turns(self, images, labels, changes):
        classifier = tiny(**changes)
        for _ in range(12):
            for half in (slice(0, N // 2), slice(N // 2, N)):
                classifier.partial_fit(images[half], labels[half], classes=CLASSES)
        assert classifier.score(images, labels) > 0.9
        assert classifier.n_iter_ == 24 == len(classifier.history_["loss"])
        assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]

    @pytest.mark.parametrize(
        "changes",
        [
            {"dropout": 0.3},
            {"optimizer": keras.optimizers.SGD(0.02, momentum=0.9), "batch_norm": "after"},
            {"augmentation": "light", "hidden_units": (), "l1": 1e-4},
        ],
        ids=["dropout", "momentum", "views"],
    )
    def test_on_the_same_images_it_is_fit_epoch_by_epoch(self, images, labels, changes):
        whole = tiny(**changes).fit(images, labels)
        stepwise = tiny(**changes)
        for _ in range(3):
            stepwise.partial_fit(images, labels, CLASSES)
            stepwise = pickle.loads(pickle.dumps(stepwise))
        assert_same_weights(stepwise, whole)
        assert stepwise.history_ == whole.history_
        np.testing.assert_array_equal(stepwise.predict_proba(images), whole.predict_proba(images))

    @pytest.mark.slow
    def test_its_whole_model_agrees(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES)
        first = classifier.model_
        classifier.partial_fit(images[:20], labels[:20])
        assert classifier.model_ is not first
        np.testing.assert_allclose(
            classifier.model_.predict(images.astype(np.float32), verbose=0),
            classifier.predict_proba(images),
            atol=1e-5,
        )

    def test_going_on_after_fit(self, images, labels):
        classifier = tiny().fit(images[:30], labels[:30])
        loss = classifier.history_["loss"][-1]
        for _ in range(5):
            classifier.partial_fit(images, labels)
        assert classifier.n_iter_ == 8
        assert classifier.history_["loss"][-1] < loss

    def test_going_on_after_the_optimum(self, images, labels):
        classifier = tiny(hidden_units=(), l2=0.1).fit(images, labels)
        n_before, before = classifier.n_iter_, classifier.predict_proba(images)
        classifier.set_params(learning_rate=1e-9).partial_fit(images, labels)
        assert classifier.n_iter_ == n_before + 1
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    def test_another_optimizer_goes_on_from_the_weights(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES)
        before = classifier.predict_proba(images)
        classifier.set_params(optimizer="sgd", learning_rate=1e-9).partial_fit(images, labels)
        assert classifier.n_iter_ == 2
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    def test_fit_afterwards_begins_anew(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES).fit(images, labels)
        assert_same_weights(classifier, tiny().fit(images, labels))

    def test_nothing_is_held_out_and_nothing_stops(self, images, labels):
        classifier = tiny(early_stopping=True, patience=1, learning_rate=1e-12)
        for _ in range(4):
            classifier.partial_fit(images[:4], labels[:4], CLASSES)
        assert classifier.n_iter_ == 4
        assert "val_loss" not in classifier.history_

    def test_callbacks_are_told(self, images, labels):
        epochs = []
        listening = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: epochs.append(e))
        classifier = tiny(callbacks=[listening])
        for _ in range(3):
            classifier.partial_fit(images, labels, CLASSES)
        assert epochs == [0, 1, 2]

    def test_interrupted_it_is_as_before(self, images, labels):
        def interrupt(*_):
            raise KeyboardInterrupt

        interrupting = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
        classifier = tiny().partial_fit(images, labels, CLASSES)
        before = classifier.predict_proba(images)
        with pytest.raises(KeyboardInterrupt):
            classifier.set_params(callbacks=[interrupting]).partial_fit(images, labels)
        np.testing.assert_array_equal(classifier.predict_proba(images), before)
        assert classifier.n_iter_ == 1
        twice = tiny().partial_fit(images, labels, CLASSES).partial_fit(images, labels)
        assert_same_weights(
            classifier.set_params(callbacks=None).partial_fit(images, labels), twice
        )


class TestBatches:
    def test_classes_come_in_any_order(self, images, labels):
        sorted_first = tiny().partial_fit(images, labels, CLASSES)
        for classes in (CLASSES[::-1], np.array(CLASSES)[[1, 0, 2]], CLASSES + CLASSES[:1]):
            classifier = tiny().partial_fit(images, labels, classes)
            assert classifier.classes_.tolist() == CLASSES
            assert_same_weights(classifier, sorted_first)
            classifier.partial_fit(images, labels, classes)

    def test_a_batch_without_some_classes(self, images, labels):
        classifier = tiny().partial_fit(images[::3], labels[::3], CLASSES)
        assert classifier.predict_proba(images).shape == (N, 3)
        classifier.partial_fit(images[1::3], labels[1::3])
        assert classifier.classes_.tolist() == CLASSES

    @pytest.mark.parametrize("batch_norm", [None, "before"])
    def test_one_image_at_a_time(self, images, labels, batch_norm):
        classifier = tiny(batch_norm=batch_norm)
        for number in range(3):
            one = slice(number, number + 1)
            classifier.partial_fit(images[one], labels[one], CLASSES)
        assert np.isfinite(classifier.predict_proba(images)).all()
        np.testing.assert_array_equal(classifier.head_.scale, 1)

    def test_features_are_standardised_by_the_first_images(self, images, labels):
        classifier = tiny().partial_fit(images[:20], labels[:20], CLASSES)
        mean, scale = classifier.head_.mean, classifier.head_.scale
        classifier.partial_fit(images[20:] // 2, labels[20:])
        np.testing.assert_array_equal(classifier.head_.mean, mean)
        np.testing.assert_array_equal(classifier.head_.scale, scale)
        np.testing.assert_array_equal(mean, tiny().fit(images[:20], labels[:20]).head_.mean)

    def test_weights_of_samples_and_classes(self, images, labels):
        heavy = tiny(class_weight={"down": 5}).partial_fit(images, labels, CLASSES)
        factors = np.where(labels == "down", 5.0, 1.0)
        by_sample = tiny().partial_fit(images, labels, CLASSES, sample_weight=factors)
        assert_same_weights(heavy, by_sample)
        plain = tiny().partial_fit(images, labels, CLASSES)
        assert heavy.history_["loss"] != plain.history_["loss"]

    def test_labels_that_are_numbers_or_truth(self, images):
        numbers = tiny().partial_fit(images, np.arange(N) % 3 * 5, classes=[10, 5, 0])
        assert set(numbers.predict(images)) <= {0, 5, 10}
        truth = tiny().partial_fit(images, np.arange(N) % 2 == 0, classes=[True, False])
        assert truth.predict(images).dtype == bool


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"optimizer": "lbfgs", "hidden_units": ()}, "needs all images at once"),
            ({"trainable_layers": 2}, "frozen backbone"),
            ({"trainable_layers": "all"}, "frozen backbone"),
            ({"backbone": ConvNet((4,), dense_units=())}, "frozen backbone"),
            ({"class_weight": "balanced"}, "needs all labels at once"),
            ({"epochs": 0}, "epochs must be"),
        ],
    )
    def test_what_cannot_be_trained_so(self, labels, changes, message):
        paths = ["there is no such file.png"] * N
        with pytest.raises(InvalidParameterError, match=message):
            tiny(**changes).partial_fit(paths, labels, CLASSES)

    @pytest.mark.parametrize(
        "classes", [None, [], ["across"], "across", [["across", "down"]], [np.nan, 1.0], 3]
    )
    def test_the_first_call_needs_classes(self, images, labels, classes):
        classifier = tiny()
        with pytest.raises(ValueError, match="."):
            classifier.partial_fit(images, labels, classes)
        with pytest.raises(NotFittedError):
            classifier.predict(images)

    @pytest.mark.parametrize(
        "classes", [["across", "down"], [*CLASSES, "up"], ["across", "down", "up"], [0, 1, 2]]
    )
    def test_later_calls_cannot_change_them(self, images, labels, classes):
        classifier = tiny().partial_fit(images, labels, CLASSES)
        before = dict(vars(classifier))
        with pytest.raises(ValueError, match="classes must be those of the first call"):
            classifier.partial_fit(images, labels, classes)
        assert all(vars(classifier)[name] is before[name] for name in before)

    @pytest.mark.parametrize(
        "wrong",
        [
            ["up"] * N,
            [*["down"] * (N - 1), "Down"],
            np.arange(N) % 3,
            ["down"] * (N - 1),
            [],
            [None] * N,
            [["down", "up"]] * N,
        ],
    )
    @pytest.mark.parametrize("is_first", [True, False])
    def test_labels_that_are_none_of_the_classes(self, images, labels, wrong, is_first):
        classifier = tiny()
        if not is_first:
            classifier.partial_fit(images, labels, CLASSES)
        with pytest.raises(ValueError, match="."):
            classifier.partial_fit(images, wrong, CLASSES)
        assert hasattr(classifier, "head_") != is_first

    @pytest.mark.parametrize("wrong", [[-1] * N, [np.nan] * N, [1], "heavy"])
    def test_weights_that_cannot_be(self, images, labels, wrong):
        with pytest.raises(ValueError, match="."):
            tiny().partial_fit(images, labels, CLASSES, sample_weight=wrong)

    def test_no_images(self, images, labels):
        with pytest.raises(ValueError, match="."):
            tiny().partial_fit(images[:0], labels[:0], CLASSES)
        with pytest.raises(ValueError, match="."):
            tiny().partial_fit(images, labels, CLASSES).partial_fit(images[:0], labels[:0])

    def test_unreadable_images_change_nothing(self, images, labels, tmp_path):
        path = tmp_path / "image.png"
        Image.fromarray(images[0]).save(path)
        path.write_bytes(path.read_bytes()[:60])
        classifier = tiny().partial_fit(images, labels, CLASSES)
        before = dict(vars(classifier))
        with pytest.raises(ValueError, match=r"image\.png"):
            classifier.partial_fit([path], ["down"])
        assert vars(classifier).keys() == before.keys()
        assert all(vars(classifier)[name] is before[name] for name in before)
        new = clone(classifier)
        with pytest.raises(ValueError, match=r"image\.png"):
            new.partial_fit([path], ["down"], CLASSES)
        assert_same_weights(new.partial_fit(images, labels, CLASSES), classifier)
