"""Tests of partial_fit: training a head on some images at a time."""

import pickle

import keras
import numpy as np
import pytest
from exactness import outputs_of
from image_helpers import striped_images
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier, load_model, save_model
from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.heads.scaling import FEW_IMAGES, Moments

pytestmark = pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")

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
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"hidden_units": ()},
            {"hidden_units": (), "optimizer": "sgd", "learning_rate": 0.01},
            {"dropout": 0.2, "batch_norm": "before"},
        ],
    )
    def test_two_halves_in_turns_are_learned(self, images, labels, changes):
        classifier = tiny(**changes)
        for _ in range(12):
            for half in (slice(0, N // 2), slice(N // 2, N)):
                classifier.partial_fit(images[half], labels[half], classes=CLASSES)
        assert classifier.score(images, labels) > 0.9
        assert classifier.n_iter_ == 24 == len(classifier.history_["loss"])
        assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "changes",
        [
            {"dropout": 0.3},
            {"optimizer": keras.optimizers.SGD(0.02, momentum=0.9), "batch_norm": "after"},
            {"augmentation": "light", "hidden_units": (), "l1": 1e-4},
        ],
        ids=["dropout", "momentum", "views"],
    )
    def test_calls_with_the_same_images_equal_epochs_of_fit(self, rng, changes):
        # With fewer images, partial_fit uses other deviations than fit.
        images = striped_images(FEW_IMAGES, rng)
        labels = np.array(CLASSES)[np.arange(FEW_IMAGES) % 3]
        whole = tiny(**changes).fit(images, labels)
        stepwise = tiny(**changes)
        for _ in range(3):
            stepwise.partial_fit(images, labels, CLASSES)
            stepwise = pickle.loads(pickle.dumps(stepwise))
        assert_same_weights(stepwise, whole)
        assert stepwise.history_ == whole.history_
        assert stepwise.phases_ == whole.phases_
        np.testing.assert_array_equal(stepwise.predict_proba(images), whole.predict_proba(images))

    @pytest.mark.slow
    def test_the_whole_model_agrees(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES)
        first = classifier.model_
        classifier.partial_fit(images[:20], labels[:20])
        assert classifier.model_ is not first
        np.testing.assert_allclose(
            outputs_of(classifier.model_, images),
            classifier.predict_proba(images),
            atol=1e-5,
        )

    def test_it_continues_after_fit(self, images, labels):
        classifier = tiny().fit(images[:30], labels[:30])
        loss = classifier.history_["loss"][-1]
        for _ in range(5):
            classifier.partial_fit(images, labels)
        assert classifier.n_iter_ == 8
        assert classifier.history_["loss"][-1] < loss

    def test_it_continues_after_an_optimal_linear_head(self, images, labels):
        # L-BFGS needs neither epochs nor batches.
        classifier = tiny(hidden_units=(), l2=0.1, epochs=20, batch_size="auto").fit(images, labels)
        n_before, before = classifier.n_iter_, classifier.predict_proba(images)
        classifier.set_params(learning_rate=1e-9).partial_fit(images, labels)
        assert classifier.n_iter_ == n_before + 1
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    def test_another_optimizer_continues_from_the_weights(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES)
        before = classifier.predict_proba(images)
        classifier.set_params(optimizer="sgd", learning_rate=1e-9).partial_fit(images, labels)
        assert classifier.n_iter_ == 2
        np.testing.assert_allclose(classifier.predict_proba(images), before, atol=1e-5)

    def test_fit_starts_anew(self, images, labels):
        classifier = tiny().partial_fit(images, labels, CLASSES).fit(images, labels)
        assert_same_weights(classifier, tiny().fit(images, labels))

    def test_early_stopping_is_ignored(self, images, labels):
        classifier = tiny(early_stopping=True, patience=1, learning_rate=1e-12)
        for _ in range(4):
            classifier.partial_fit(images[:4], labels[:4], CLASSES)
        assert classifier.n_iter_ == 4
        assert "val_loss" not in classifier.history_

    def test_callbacks_are_called(self, images, labels):
        epochs = []
        listening = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: epochs.append(e))
        classifier = tiny(callbacks=[listening])
        for _ in range(3):
            classifier.partial_fit(images, labels, CLASSES)
        assert epochs == [0, 1, 2]

    def test_an_interrupt_restores_the_classifier(self, images, labels):
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
    def test_classes_can_be_in_any_order(self, images, labels):
        sorted_first = tiny().partial_fit(images, labels, CLASSES)
        for classes in (CLASSES[::-1], np.array(CLASSES)[[1, 0, 2]], CLASSES + CLASSES[:1]):
            classifier = tiny().partial_fit(images, labels, classes)
            assert classifier.classes_.tolist() == CLASSES
            assert_same_weights(classifier, sorted_first)
            classifier.partial_fit(images, labels, classes)

    def test_a_batch_can_lack_classes(self, images, labels):
        classifier = tiny().partial_fit(images[::3], labels[::3], CLASSES)
        assert classifier.predict_proba(images).shape == (N, 3)
        classifier.partial_fit(images[1::3], labels[1::3])
        assert classifier.classes_.tolist() == CLASSES

    @pytest.mark.parametrize("batch_norm", [None, "before"])
    def test_batches_can_be_single_images(self, images, labels, batch_norm):
        classifier = tiny(batch_norm=batch_norm)
        for number in range(4):
            one = slice(number, number + 1)
            classifier.partial_fit(images[one], labels[one], CLASSES)
        assert np.isfinite(classifier.predict_proba(images)).all()
        features = CNNFeatureExtractor(image_size=32).fit_transform(images[:4]).astype(float)
        np.testing.assert_allclose(classifier.head_.mean, features.mean(axis=0), rtol=1e-6)
        assert (classifier.head_.scale >= features.std(axis=0)).all()

    def test_weights_of_samples_and_classes(self, images, labels):
        heavy = tiny(class_weight={"down": 5}).partial_fit(images, labels, CLASSES)
        factors = np.where(labels == "down", 5.0, 1.0)
        by_sample = tiny().partial_fit(images, labels, CLASSES, sample_weight=factors)
        assert_same_weights(heavy, by_sample)
        plain = tiny().partial_fit(images, labels, CLASSES)
        assert heavy.history_["loss"] != plain.history_["loss"]

    def test_labels_can_be_numbers_or_booleans(self, images):
        numbers = tiny().partial_fit(images, np.arange(N) % 3 * 5, classes=[10, 5, 0])
        assert set(numbers.predict(images)) <= {0, 5, 10}
        truth = tiny().partial_fit(images, np.arange(N) % 2 == 0, classes=[True, False])
        assert truth.predict(images).dtype == bool


class TestStatistics:
    """Features are standardised by all images so far, and the scores of the head stay the same."""

    def test_mean_and_deviation_equal_those_of_all_images(self, rng):
        images = striped_images(150, rng)
        labels = np.array(CLASSES)[np.arange(150) % 3]
        classifier, weights = tiny(), rng.uniform(0.5, 2, 150)
        for part in np.split(np.arange(150), [5, 60, 61, 100]):
            classifier.partial_fit(images[part], labels[part], CLASSES, weights[part])
        features = CNNFeatureExtractor(image_size=32).fit_transform(images)
        moments = Moments.of(features, weights)
        mean, scale = moments.mean, moments.scale(least=1e-3)
        np.testing.assert_allclose(classifier.head_.mean, mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(classifier.head_.scale, scale, rtol=1e-6)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"hidden_units": ()},
            {"hidden_units": (6, 4), "batch_norm": "before", "dropout": 0.2},
            {"optimizer": "rmsprop", "l1": 1e-5},
        ],
    )
    @pytest.mark.parametrize("first", [1, 4, 20])
    def test_new_statistics_keep_the_scores(self, rng, changes, first):
        images = striped_images(FEW_IMAGES + first, rng)
        labels = np.array(CLASSES)[np.arange(len(images)) % 3]
        classifier = tiny(**changes).partial_fit(images[:first], labels[:first], CLASSES)
        classifier.set_params(learning_rate=1e-12)  # only new statistics can change the scores
        before, scale = classifier.decision_function(images), classifier.head_.scale
        classifier.partial_fit(images[first:] // 2, labels[first:])
        ratio = classifier.head_.scale / scale
        assert max(ratio.max(), 1 / ratio.min()) > 1.5
        after = classifier.decision_function(images)
        if "batch_norm" in changes:  # its layers update their own statistics
            assert np.isfinite(after).all()
        else:
            np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())

    @pytest.mark.parametrize("hidden_units", [(), (8,)])
    def test_statistics_continue_after_fit(self, images, labels, hidden_units):
        options = {"epochs": 20, "batch_size": "auto"} if not hidden_units else {}
        classifier = tiny(hidden_units=hidden_units, **options).fit(images[:30], labels[:30])
        classifier.set_params(learning_rate=1e-12)
        before = classifier.decision_function(images)
        classifier.partial_fit(images[30:], labels[30:])
        features = CNNFeatureExtractor(image_size=32).fit_transform(images)
        np.testing.assert_allclose(classifier.head_.mean, features.mean(axis=0, dtype=float), 1e-6)
        np.testing.assert_allclose(classifier.decision_function(images), before, atol=1e-3)

    @pytest.mark.parametrize(
        "kept", [lambda fitted, path: pickle.loads(pickle.dumps(fitted)), "archive"]
    )
    def test_copies_continue_alike(self, images, labels, kept, tmp_path):
        classifier = tiny(optimizer="sgd").partial_fit(images[:8], labels[:8], CLASSES)
        if kept == "archive":
            save_model(classifier, tmp_path / "a.model")
            again = load_model(tmp_path / "a.model")
        else:
            again = kept(classifier, tmp_path)
        for each in (classifier, again):
            each.partial_fit(images[8:], labels[8:])
        np.testing.assert_array_equal(again.head_.mean, classifier.head_.mean)
        np.testing.assert_array_equal(again.head_.scale, classifier.head_.scale)

    @pytest.mark.slow
    def test_the_standardisation_of_activation_maps_is_fixed(self, images, labels):
        def head(maps):
            return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 1)(maps))

        classifier = tiny(hidden_units=(), head=head).partial_fit(images[:20], labels[:20], CLASSES)
        mean, scale = classifier.head_.mean, classifier.head_.scale
        classifier.partial_fit(images[20:] // 2, labels[20:])
        np.testing.assert_array_equal(classifier.head_.mean, mean)
        np.testing.assert_array_equal(classifier.head_.scale, scale)

    def test_an_interrupted_call_leaves_the_statistics(self, images, labels):
        def interrupt(*_):
            raise KeyboardInterrupt

        interrupting = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
        classifier = tiny().partial_fit(images[:20], labels[:20], CLASSES)
        before = dict(vars(classifier))
        with pytest.raises(KeyboardInterrupt):
            classifier.set_params(callbacks=[interrupting]).partial_fit(images[20:], labels[20:])
        del before["callbacks"]
        assert all(vars(classifier)[name] is before[name] for name in before)

    @pytest.mark.realdata
    @pytest.mark.slow
    def test_the_size_of_the_first_batch_does_not_matter(self, data):
        folders = sorted((data / "sports10" / "train").iterdir())[3:7]
        files = np.array([str(path) for each in folders for path in sorted(each.iterdir())[:31]])
        labels = np.repeat([each.name for each in folders], 31)
        order = np.random.default_rng(2).permutation(len(files))
        train, test = order[40:], order[:40]

        def score(first):
            classifier = TransferClassifier(random_state=0)
            part = train[:first]
            classifier.partial_fit(files[part], labels[part], classes=np.unique(labels))
            for start in np.tile(np.arange(0, len(train), 10), 5):
                part = train[start : start + 10]
                classifier.partial_fit(files[part], labels[part])
            return classifier.score(files[test], labels[test])

        fitted = TransferClassifier().fit(files[train], labels[train])
        best = fitted.score(files[test], labels[test])
        assert min(score(first) for first in (1, 3, 7, 15)) >= best - 0.1


class TestWarned:
    @pytest.mark.filterwarnings("error:the first call of partial_fit got only")
    @pytest.mark.parametrize(
        ("n_images", "n_classes", "message"),
        [
            (1, 1, "only 1 images of one class, by"),
            (6, 3, "only 6 images, by"),
            (31, 2, "only 31 images, by"),
            (32, 1, "only one class, by"),
        ],
    )
    def test_few_first_images_or_one_class_give_a_warning(self, rng, n_images, n_classes, message):
        images = striped_images(n_images, rng)
        labels = np.array(CLASSES)[np.arange(n_images) % n_classes]
        with pytest.warns(TransferclfWarning, match=message) as caught:
            classifier = tiny().partial_fit(images, labels, CLASSES)
        assert [issubclass(each.category, TransferclfWarning) for each in caught].count(True) == 1
        classifier.partial_fit(images[:1], labels[:1])  # not the first call

    @pytest.mark.filterwarnings("error:the first call of partial_fit got only")
    def test_enough_images_give_no_warning(self, images, labels):
        tiny().partial_fit(images[:32], labels[:32], CLASSES)


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"optimizer": "lbfgs", "hidden_units": ()}, "needs all images at once"),
            ({"trainable_layers": 2}, "frozen backbone"),
            ({"trainable_layers": "all"}, "frozen backbone"),
            ({"backbone": ConvNet((4,), dense_units=())}, "frozen backbone"),
            ({"class_weight": "balanced"}, "needs all labels at once"),
        ],
    )
    def test_unsuitable_parameters_raise_an_error(self, labels, changes, message):
        paths = ["there is no such file.png"] * N
        with pytest.raises(AttributeError, match="has no attribute 'partial_fit'") as raised:
            tiny(**changes).partial_fit(paths, labels, CLASSES)
        assert isinstance(raised.value.__cause__, InvalidParameterError)
        assert message in str(raised.value.__cause__)

    def test_parameters_are_checked_before_the_images(self, labels):
        paths = ["there is no such file.png"] * N
        with pytest.raises(InvalidParameterError, match="epochs must be"):
            tiny(epochs=0).partial_fit(paths, labels, CLASSES)

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
    def test_later_calls_cannot_change_the_classes(self, images, labels, classes):
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
    def test_labels_outside_the_classes_raise_an_error(self, images, labels, wrong, is_first):
        classifier = tiny()
        if not is_first:
            classifier.partial_fit(images, labels, CLASSES)
        with pytest.raises(ValueError, match="."):
            classifier.partial_fit(images, wrong, CLASSES)
        assert hasattr(classifier, "head_") != is_first

    @pytest.mark.parametrize("wrong", [[-1] * N, [np.nan] * N, [1], "heavy"])
    def test_wrong_weights_raise_an_error(self, images, labels, wrong):
        with pytest.raises(ValueError, match="."):
            tiny().partial_fit(images, labels, CLASSES, sample_weight=wrong)

    def test_empty_batches_raise_an_error(self, images, labels):
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
