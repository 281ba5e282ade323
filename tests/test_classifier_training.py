"""Optimizers, schedules, early stopping and callbacks of the classifier."""

import pickle
import random

import keras
import numpy as np
import pytest
from exactness import outputs_of
from fine_tuning_helpers import ALL_IMAGES, PLAIN
from image_helpers import head_alone, keras_state, striped_images
from keras import layers
from PIL import Image
from sklearn.base import clone
from sklearn.metrics import log_loss

from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier
from transferclf.engines import backend as inference
from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.graphs.folding import fold_batch_norm
from transferclf.training import phases
from transferclf.training import trainer as trainers
from transferclf.training.batches import Samples, epoch_orders

N, BATCH = 36, 12

# Defaults for the parameters that the helper below sets for Keras' optimizers.
L_BFGS = {"epochs": 20, "batch_size": "auto"}
EXAMPLES = np.arange(N)

schedules = keras.optimizers.schedules


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.array(["across", "down", "noise"])[EXAMPLES % 3]


@pytest.fixture
def noise(rng):
    """Images of noise, from which nothing can be learned for other images."""
    return rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)


def tiny(**changes):
    parameters = {"image_size": 32, "hidden_units": (8,), "epochs": 4, "batch_size": BATCH}
    return TransferClassifier("tiny", **(parameters | {"random_state": 0} | changes))


@pytest.fixture(scope="module")
def network():
    """Three convolutions and batch normalisation, with statistics unlike the initial ones."""
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1)(x)
    for number in (1, 2, 3):
        x = layers.Conv2D(6, 3, strides=2, name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"norm{number}")(x)
        x = layers.ReLU()(x)
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return model


@pytest.fixture(scope="module")
def folded(network):
    """The network as it is trained: batch normalisation is part of the convolutions."""
    return fold_batch_norm(network)


def tuned(network, **changes):
    """Return a classifier that fine-tunes after fitting a linear head."""
    parameters = {"trainable_layers": "conv2", "fine_tune_epochs": 3, "l2": 0.1, "image_size": 32}
    parameters |= {"fine_tune_learning_rate": 1e-3, "batch_size": BATCH, "random_state": 0}
    parameters |= ALL_IMAGES
    return TransferClassifier(network, **(parameters | changes))


def held_out(fitted):
    return np.setdiff1d(EXAMPLES, fitted.sample_indices_)


def penalty(fitted):
    kernels = [weight for weight in fitted.head_.weights if weight.ndim == 2]
    return fitted.l2_ * sum(float((kernel.astype(float) ** 2).sum()) for kernel in kernels)


def measured(fitted, images, labels):
    """Return the loss as Keras reports it: cross-entropy and penalties."""
    probabilities = fitted.predict_proba(images)
    return log_loss(labels, probabilities, labels=fitted.classes_) + penalty(fitted)


def assert_same_weights(first, second):
    for a, b in zip(first.head_.parameters, second.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def written(images, folder):
    """Save the images as files, and return their paths."""
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


class TestEarlyStopping:
    def test_it_stops_with_the_weights_of_the_best_epoch(self, images, labels):
        labels[::5] = np.roll(labels, 1)[::5]  # which the network memorises in the end
        fitted = tiny(early_stopping=True, validation_fraction=0.3, patience=4, epochs=200)
        fitted.set_params(learning_rate=0.01, l2=1e-4, batch_size="auto").fit(images, labels)
        losses = fitted.history_["val_loss"]
        best = int(np.argmin(losses))
        assert 0 < best < fitted.n_iter_ - 1 == len(losses) - 1
        assert fitted.n_iter_ == best + 1 + 4 < 200
        out = held_out(fitted)
        assert measured(fitted, images[out], labels[out]) == pytest.approx(losses[best], rel=1e-5)
        assert losses[-1] > losses[best] + 0.01
        right = (fitted.predict(images[out]) == labels[out]).mean()
        assert right == pytest.approx(fitted.history_["val_accuracy"][best])

    def test_it_continues_while_the_loss_falls(self, images, labels):
        fitted = tiny(early_stopping=True, validation_fraction=0.2, patience=1, epochs=6)
        fitted.fit(images, labels)
        assert fitted.n_iter_ == 6
        assert (np.diff(fitted.history_["val_loss"]) < 0).all()

    @pytest.mark.parametrize("patience", [2, 3])
    def test_fine_tuning_that_destroys_the_head_is_undone(
        self, noise, labels, network, folded, patience
    ):
        # All of Lion's steps are of one length: the loss gets high, but not so high as to raise.
        fitted = tuned(network, **PLAIN | {"optimizer": "lion"}, learning_rate=1e-3, epochs=3)
        fitted.set_params(early_stopping=True, validation_fraction=0.3, patience=patience)
        fitted.set_params(fine_tune_learning_rate=0.03, fine_tune_epochs=9).fit(noise, labels)
        kept, out = fitted.sample_indices_, held_out(fitted)
        head = head_alone(fitted, validation_fraction=0.1)
        head.fit(noise[kept], labels[kept], validation_data=(noise[out], labels[out]))
        assert fitted.n_iter_ - fitted.n_head_iter_ == patience
        of_head, *of_tuning = fitted.history_["val_loss"][fitted.n_head_iter_ - 1 :]
        assert min(of_tuning) > max(of_head, 2)
        np.testing.assert_allclose(
            fitted.predict_proba(noise), head.predict_proba(noise), rtol=0, atol=1e-5
        )
        kernels = fitted.head_.tuned()["conv3"][0], folded.get_layer("conv3").get_weights()[0]
        np.testing.assert_array_equal(*kernels)

    def test_images_are_held_out_of_every_class(self, rng, images):
        labels = np.repeat([0, 1, 2], [18, 12, 6])
        fitted = tiny(early_stopping=True, validation_fraction=1 / 3, epochs=1)
        fitted.fit(images, labels)
        assert np.bincount(labels[held_out(fitted)]).tolist() == [6, 4, 2]
        assert len(np.unique(fitted.sample_indices_)) == len(fitted.sample_indices_) == 24

    def test_held_out_pixels_and_labels_change_no_weights(self, images, labels, monkeypatch, noise):
        patient = tiny(early_stopping=True, validation_fraction=0.25, patience=99, l2=0.0)
        fitted = patient.fit(images, labels)
        out = held_out(fitted)
        split = (fitted.sample_indices_, out)
        monkeypatch.setattr("transferclf.objectives.classes.validation_split", lambda *args: split)
        changed, others = images.copy(), labels.copy()
        changed[out], others[out] = noise[out], np.roll(labels[out], 1)
        again = clone(patient).fit(changed, others)
        assert again.history_["loss"] == fitted.history_["loss"]
        assert again.history_["val_loss"] != fitted.history_["val_loss"]
        np.testing.assert_array_equal(again.head_.mean, fitted.head_.mean)

    def test_copies_of_an_image_stay_together(self, images):
        copied, labels = np.repeat(images[:12], 3, axis=0), np.repeat(EXAMPLES[:12] % 3, 3)
        for seed in range(3):
            fitted = tiny(early_stopping=True, validation_fraction=0.4, epochs=1)
            fitted.set_params(random_state=seed).fit(copied, labels)
            sides = set(fitted.sample_indices_ // 3), set(held_out(fitted) // 3)
            assert not sides[0] & sides[1]
            assert len(sides[1]) == 5

    def test_a_class_of_one_repeated_image_is_refused(self, images):
        images[24:] = images[24]
        with pytest.raises(ValueError, match="two different images of each class"):
            tiny(early_stopping=True).fit(images, np.repeat([0, 1, 2], 12))

    @pytest.mark.parametrize(
        ("fraction", "message"), [(0.01, "Take at least"), (0.99, "Take at most")]
    )
    def test_fractions_too_small_for_the_classes_are_refused_before_decoding(
        self, images, labels, tmp_path, fraction, message
    ):
        paths = written(images, tmp_path)
        for path in paths:  # valid signatures, but the files cannot be decoded
            path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(InvalidParameterError, match=message):
            tiny(early_stopping=True, validation_fraction=fraction).fit(paths, labels)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, np.nan, True, "0.1", None])
    def test_invalid_fractions_are_refused_before_any_work(self, labels, fraction):
        paths = ["there is no such file.png"] * N
        with pytest.raises(InvalidParameterError, match="validation_fraction must be"):
            tiny(validation_fraction=fraction).fit(paths, labels)

    def test_l_bfgs_holds_out_no_images(self, images, labels):
        plain = tiny(hidden_units=(), l2=0.1, **L_BFGS).fit(images, labels)
        stopping = clone(plain).set_params(early_stopping=True)
        with pytest.warns(TransferclfWarning, match="without effect on this fit: early_stopping"):
            stopping.fit(images, labels)
        np.testing.assert_array_equal(stopping.sample_indices_, EXAMPLES)
        assert "val_loss" not in stopping.history_
        np.testing.assert_array_equal(stopping.predict_proba(images), plain.predict_proba(images))

    def test_held_out_images_are_not_repeated(self, images):
        labels = np.repeat([0, 1], [27, 9])
        fitted = tiny(early_stopping=True, oversample=True, validation_fraction=1 / 3, epochs=1)
        fitted.fit(images, labels)
        assert np.bincount(labels[fitted.sample_indices_]).tolist() == [18, 18]
        assert np.bincount(labels[held_out(fitted)]).tolist() == [9, 3]

    @pytest.mark.parametrize("flag", [1, "yes", None])
    def test_values_other_than_true_and_false_are_refused(self, images, labels, flag):
        with pytest.raises(InvalidParameterError, match="early_stopping must be True or False"):
            tiny(early_stopping=flag).fit(images, labels)


class TestValidationData:
    def test_it_is_measured_and_all_of_x_is_used_for_training(self, images, labels, noise):
        fitted = tiny(early_stopping=True, patience=99).fit(
            images, labels, validation_data=(noise, labels)
        )
        np.testing.assert_array_equal(fitted.sample_indices_, EXAMPLES)
        assert len(fitted.history_["val_accuracy"]) == len(fitted.history_["val_loss"]) == 4
        assert set(fitted.history_) == {
            "loss", "accuracy", "learning_rate", "val_loss", "val_accuracy",
        }  # fmt: skip

    def test_it_has_no_effect_without_early_stopping(self, images, labels, noise):
        watched = tiny().fit(images, labels, validation_data=(noise, labels))
        assert_same_weights(watched, tiny().fit(images, labels))

    @pytest.mark.parametrize("hidden_units", [(), (8,)])
    def test_the_loss_is_cross_entropy_and_penalty(self, images, labels, hidden_units):
        fitted = tiny(hidden_units=hidden_units, l2=0.05, **({} if hidden_units else L_BFGS))
        others = striped_images(N, np.random.default_rng(9))[1:]
        fitted.fit(images, labels, validation_data=(others, labels[1:]))
        losses = fitted.history_["val_loss"]
        assert len(losses) == fitted.n_iter_ == len(fitted.history_["val_accuracy"])
        assert losses[-1] == pytest.approx(measured(fitted, others, labels[1:]), rel=1e-5)
        right = fitted.score(others, labels[1:])
        assert fitted.history_["val_accuracy"][-1] == pytest.approx(right)

    def test_it_is_measured_during_fine_tuning(self, images, labels, noise, network):
        fitted = tuned(network).fit(images, labels, validation_data=[noise, labels])
        assert len(fitted.history_["val_loss"]) == fitted.n_iter_ == fitted.n_head_iter_ + 3
        last = fitted.history_["val_loss"][-1]
        assert last == pytest.approx(measured(fitted, noise, labels), rel=1e-4)

    def test_one_image_of_one_class_is_enough(self, images, labels):
        fitted = tiny(epochs=2).fit(images, labels, validation_data=(images[:1], labels[:1]))
        assert set(fitted.history_["val_accuracy"]) <= {0.0, 1.0}

    @pytest.mark.parametrize("wrong", ["three", {}, 3, (1,), (1, 2, 3), np.zeros((2, 2)), True, ""])
    def test_values_that_are_no_pair_are_refused(self, images, labels, wrong):
        with pytest.raises(InvalidParameterError, match=r"must be a pair \(X, y\)"):
            tiny().fit(images, labels, validation_data=wrong)

    @pytest.mark.parametrize("change", ["unknown", "short", "empty", "numbers"])
    def test_labels_that_do_not_fit_are_refused(self, images, labels, change):
        others = {
            "unknown": np.where(EXAMPLES == 3, "sideways", labels),
            "short": labels[:-1],
            "empty": [],
            "numbers": EXAMPLES % 3,
        }
        classifier = tiny()
        with pytest.raises(ValueError, match="."):
            classifier.fit(images, labels, validation_data=(images, others[change]))
        assert vars(classifier) == vars(tiny())


def keras_losses(images, labels, optimizer, epochs, callbacks=(), l2=0.01):
    """Train the same head by `keras.Model.fit` on the same batches, and return its losses."""
    features = CNNFeatureExtractor("tiny", image_size=32).fit(images).transform(images)
    deviations = features.std(axis=0, dtype=float)
    varies = deviations > 1e-6
    least = np.median(deviations[varies]) / 1000
    scale = np.where(varies, np.maximum(deviations, least), 1)
    rows = ((features - features.mean(axis=0)) / scale).astype(np.float32)
    shapes = [(rows.shape[1], 8), (8, 3)]
    x = inputs = keras.Input((rows.shape[1],))
    for shape, activation in zip(shapes, ("relu", "softmax"), strict=True):
        x = layers.Dense(shape[1], activation, kernel_regularizer=keras.regularizers.L2(l2))(x)
    model = keras.Model(inputs, x)
    for layer, kernel in zip(model.layers[1:], phases._initial_kernels(shapes, 0), strict=True):
        layer.kernel.assign(kernel)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    targets = np.unique(labels, return_inverse=True)[1]
    orders = epoch_orders(Samples.of(rows, targets, np.ones(N)), epochs, 0)
    batches = [part for order in orders for part in np.split(order, N // BATCH)]
    generator = ((rows[batch], targets[batch]) for batch in batches)
    arguments = {"steps_per_epoch": N // BATCH, "epochs": epochs, "shuffle": False}
    return model.fit(generator, verbose=0, callbacks=list(callbacks), **arguments).history["loss"]


class TestSchedules:
    def test_named_schedules_give_their_rates(self, images, labels):
        expected = {
            "cosine": 0.01 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2,
            "exponential": 0.01 * 0.01 ** (np.arange(4) / 4),
            None: np.full(4, 0.01),
        }
        for schedule, rates in expected.items():
            fitted = tiny(lr_schedule=schedule, learning_rate=0.01).fit(images, labels)
            np.testing.assert_allclose(fitted.history_["learning_rate"], rates, rtol=1e-5)

    @pytest.mark.slow
    def test_each_phase_restarts_the_schedule(self, images, labels, network):
        fitted = tuned(network, hidden_units=(4,), epochs=2, lr_schedule="cosine")
        fitted.set_params(learning_rate=0.1, fine_tune_epochs=2).fit(images, labels)
        np.testing.assert_allclose(fitted.history_["learning_rate"], [0.1, 0.05, 1e-3, 5e-4], 1e-5)

    @pytest.mark.parametrize("watched", [False, True])
    def test_plateau_divides_the_rate_by_five_when_the_loss_stalls(self, images, labels, watched):
        still = tiny(lr_schedule="plateau", optimizer="sgd", learning_rate=1e-9, epochs=9)
        still.fit(images, labels, validation_data=(images, labels) if watched else None)
        expected = 1e-9 * np.array([1, 1, 1, 1, 0.2, 0.2, 0.2, 0.04, 0.04])
        np.testing.assert_allclose(still.history_["learning_rate"], expected, rtol=1e-5)

    def test_plateau_keeps_the_rate_while_the_loss_falls(self, images, labels):
        fitted = tiny(lr_schedule="plateau", epochs=9).fit(images, labels)
        assert len(set(fitted.history_["learning_rate"])) == 1

    @pytest.mark.parametrize(
        ("parameters", "optimizer", "callbacks"),
        [
            (
                {"lr_schedule": "cosine", "optimizer": "sgd", "learning_rate": 0.1},
                lambda: keras.optimizers.SGD(schedules.CosineDecay(0.1, 36)),
                [],
            ),
            (
                {"lr_schedule": schedules.PolynomialDecay(0.01, 20), "optimizer": "adam"},
                lambda: keras.optimizers.Adam(schedules.PolynomialDecay(0.01, 20)),
                [],
            ),
            (
                {"optimizer": keras.optimizers.SGD(schedules.ExponentialDecay(0.1, 5, 0.5), 0.9)},
                lambda: keras.optimizers.SGD(schedules.ExponentialDecay(0.1, 5, 0.5), 0.9),
                [],
            ),
            (
                {"lr_schedule": "plateau", "optimizer": keras.optimizers.SGD(0.05, 0.9)},
                lambda: keras.optimizers.SGD(0.05, 0.9),
                [("loss", 0.2, 3)],
            ),
        ],
        ids=["cosine", "object", "own", "plateau"],
    )
    def test_the_losses_agree_with_keras(self, images, labels, parameters, optimizer, callbacks):
        made = [keras.callbacks.ReduceLROnPlateau(*arguments) for arguments in callbacks]
        expected = keras_losses(images, labels, optimizer(), 12, made)
        fitted = tiny(epochs=12, **parameters).fit(images, labels)
        np.testing.assert_allclose(fitted.history_["loss"], expected, rtol=1e-5)
        if callbacks:
            assert len(set(fitted.history_["learning_rate"])) > 1

    def test_a_learning_rate_scales_a_schedule(self, images, labels):
        falling = schedules.ExponentialDecay(0.5, 3, 0.1)
        fitted = tiny(lr_schedule=falling, learning_rate=0.01, epochs=3).fit(images, labels)
        np.testing.assert_allclose(fitted.history_["learning_rate"], [1e-2, 1e-3, 1e-4], rtol=1e-5)

    def test_two_schedules_are_refused(self, images, labels):
        optimizer = keras.optimizers.SGD(schedules.CosineDecay(0.1, 30))
        for second in ("plateau", schedules.CosineDecay(0.1, 30)):
            with pytest.raises(InvalidParameterError, match="has a schedule of learning rates"):
                tiny(optimizer=optimizer, lr_schedule=second).fit(images, labels)

    @pytest.mark.parametrize("wrong", ["linear", "", 0.1, True, object(), ["cosine"]])
    def test_invalid_schedules_are_refused(self, images, labels, wrong):
        with pytest.raises(InvalidParameterError, match="lr_schedule must be"):
            tiny(lr_schedule=wrong).fit(images, labels)

    def test_new_values_need_no_compilation(self, images, labels, monkeypatch):
        fitted = tiny(dropout=0.1, l1=1e-4, epochs=2).fit(images, labels)
        trainers._trainers.clear()
        compiled = []
        original = inference.compiled
        monkeypatch.setattr(
            inference, "compiled", lambda *args: compiled.append(args) or original(*args)
        )
        halving = schedules.PiecewiseConstantDecay([3], [0.01, 0.005])
        losses = set()
        for changes in (
            {},
            {"lr_schedule": "cosine"},
            {"lr_schedule": "exponential"},
            {"lr_schedule": halving},
            {"learning_rate": 0.1},
            {"l1": 0.1},
            {"l2": 0.1},
            {"dropout": 0.5},
            {"batch_size": 5},
            {"epochs": 3},
            {"early_stopping": True},
            {"oversample": True, "class_weight": {"down": 3}},
        ):
            losses.add(clone(fitted).set_params(**changes).fit(images, labels).history_["loss"][-1])
        clone(fitted).set_params(lr_schedule="plateau").fit(images, labels)
        assert len(compiled) == 4  # reading the state, setting it, the epoch, and the scores
        assert len(losses) == 12  # each change has an effect


class TestOptimizers:
    @pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "lion"])
    def test_the_default_rate_is_the_optimizers_own(self, images, labels, name):
        fitted = tiny(optimizer=name, epochs=1).fit(images, labels)
        own = float(keras.optimizers.get(name).learning_rate)
        assert fitted.history_["learning_rate"] == [pytest.approx(own)]

    def test_an_optimizer_object_is_copied(self, images, labels):
        optimizer = keras.optimizers.SGD(0.05, momentum=0.9)
        first = tiny(optimizer=optimizer).fit(images, labels)
        assert not optimizer.built
        assert first.get_params()["optimizer"] is optimizer
        assert_same_weights(first, tiny(optimizer=optimizer).fit(images, labels))
        assert_same_weights(first, clone(first).fit(images, labels))
        assert first.history_["learning_rate"] == [pytest.approx(0.05)] * 4

    def test_an_optimizer_that_has_trained_starts_anew(self, images, labels):
        used = keras.optimizers.SGD(0.05, momentum=0.9)
        weights = keras.Variable(np.ones(3))
        used.apply([np.ones(3, np.float32)], [weights])
        new = keras.optimizers.SGD(0.05, momentum=0.9)
        first, second = (tiny(optimizer=o).fit(images, labels) for o in (used, new))
        assert_same_weights(first, second)
        assert int(used.iterations) == 1

    @pytest.mark.slow
    def test_its_arguments_have_an_effect(self, images, labels):
        last = {
            tiny(optimizer=keras.optimizers.SGD(0.02, **arguments))
            .fit(images, labels)
            .history_["loss"][-1]
            for arguments in ({}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True})
        }
        assert len(last) == 3
        by_name = tiny(optimizer="sgd", learning_rate=0.02).fit(images, labels)
        assert by_name.history_["loss"][-1] in last

    def test_learning_rate_replaces_the_optimizers_rate(self, images, labels):
        optimizer = keras.optimizers.SGD(0.5)
        fitted = tiny(optimizer=optimizer, learning_rate=0.01).fit(images, labels)
        plain = tiny(optimizer="sgd", learning_rate=0.01).fit(images, labels)
        assert_same_weights(fitted, plain)
        assert float(optimizer.learning_rate) == 0.5

    def test_an_optimizer_object_is_pickled(self, images, labels):
        optimizer = keras.optimizers.SGD(schedules.CosineDecay(0.1, 12), momentum=0.9)
        unfitted = pickle.loads(pickle.dumps(tiny(optimizer=optimizer)))
        fitted = tiny(optimizer=optimizer).fit(images, labels)
        assert_same_weights(unfitted.fit(images, labels), fitted)
        again = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
        assert_same_weights(clone(again).fit(images, labels), fitted)

    def test_fine_tuning_has_its_own_rate(self, images, labels, network):
        optimizer = keras.optimizers.SGD(0.5)
        fitted = tuned(network, optimizer=optimizer, fine_tune_epochs=1, epochs=1)
        fitted.fit(images, labels)
        assert fitted.history_["learning_rate"] == pytest.approx([0.5, 1e-3])

    @pytest.mark.parametrize("wrong", [keras.optimizers.SGD, 3, True, {}, ["adam"], b"adam"])
    def test_invalid_optimizers_are_refused(self, images, labels, wrong):
        with pytest.raises(InvalidParameterError, match="optimizer must be one of"):
            tiny(optimizer=wrong).fit(images, labels)


class TestHeads:
    def test_l1_sets_weights_to_zero(self, images, labels):
        shares = []
        for l1 in (1e-6, 0.05):
            fitted = tiny(hidden_units=(), l1=l1, l2=0, epochs=150, learning_rate=3e-3)
            kernel = fitted.fit(images, labels).head_.weights[0]
            shares.append((np.abs(kernel) < 4e-3).mean())
            assert fitted.score(images, labels) > 0.9
        assert shares[0] < 0.5
        assert shares[1] > 0.8

    @pytest.mark.slow
    @pytest.mark.parametrize("batch_norm", ["before", "after"])
    def test_batch_normalisation_is_trained(self, images, labels, batch_norm):
        fitted = tiny(batch_norm=batch_norm, epochs=8, dropout=0.1).fit(images, labels)
        probabilities = fitted.predict_proba(images)
        whole = outputs_of(fitted.model_, images)
        np.testing.assert_allclose(whole, probabilities, atol=1e-5)
        kinds = [type(layer).__name__ for layer in fitted.model_.layers if "hidden" in layer.name]
        norm, activation = kinds.index("BatchNormalization"), kinds.index("Activation")
        assert (norm < activation) == (batch_norm == "before")
        again = pickle.loads(pickle.dumps(fitted))
        trainers._trainers.clear()
        np.testing.assert_array_equal(again.predict_proba(images), probabilities)
        moving = [w for w in fitted.head_.weights if w.shape == (8,)]
        assert any(np.abs(w).max() > 0.01 and not np.allclose(w, 1) for w in moving)

    def test_dropout_may_be_set_for_each_layer(self, images, labels):
        losses = set()
        for rates in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5), 0.5):
            fitted = tiny(hidden_units=(8, 8), dropout=rates, epochs=2).fit(images, labels)
            losses.add(fitted.history_["loss"][-1])
        assert len(losses) == 3  # one rate is that of all layers
        rated = tiny(hidden_units=(8, 8), dropout=(0.25, 0.5), epochs=1).fit(images, labels)
        dropouts = [la.rate for la in rated.model_.layers if isinstance(la, layers.Dropout)]
        assert dropouts == [0.25, 0.5]


class TestFineTuning:
    def test_layers_below_the_cut_keep_every_bit(self, images, labels, network, folded):
        fitted = tuned(network, fine_tune_learning_rate=0.01).fit(images, labels)
        moved = set()
        for layer in [layer for layer in folded.layers if layer.weights]:
            now = fitted.model_.get_layer(layer.name).get_weights()
            same = [np.array_equal(a, b) for a, b in zip(layer.get_weights(), now, strict=True)]
            moved |= set() if all(same) else {layer.name}
        assert moved == {"conv2", "conv3"}

    def changes(self, network, folded, images, labels, layer_decay):
        """Return how far each convolution moves in one step of gradient descent."""
        descent = PLAIN | {"optimizer": "sgd"}
        fitted = tuned(network, trainable_layers="all", l1=1e-9, epochs=1, **descent)
        fitted.set_params(fine_tune_learning_rate=0.1, fine_tune_epochs=1, batch_size=N)
        fitted.set_params(layer_decay=layer_decay).fit(images, labels)
        after = fitted.head_.tuned()
        moved = {
            name: after[name][0] - folded.get_layer(name).get_weights()[0]
            for name in ("conv1", "conv2", "conv3")
        }
        return fitted, moved

    def test_layer_decay_scales_each_step(self, images, labels, network, folded):
        plain, whole = self.changes(network, folded, images, labels, None)
        one, _ = self.changes(network, folded, images, labels, 1.0)
        assert_same_weights(plain, one)
        slowed, parts = self.changes(network, folded, images, labels, 0.5)
        for depth, name in ((1, "conv3"), (2, "conv2"), (3, "conv1")):
            assert np.abs(whole[name]).max() > 1e-4
            np.testing.assert_allclose(parts[name], 0.5**depth * whole[name], rtol=1e-2, atol=1e-7)
        for a, b in zip(plain.head_.weights, slowed.head_.weights, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.slow
    def test_layer_decay_holds_for_adam_and_many_steps(self, images, labels, network, folded):
        far = []
        for layer_decay in (None, 0.3):
            fitted = tuned(network, trainable_layers="all", layer_decay=layer_decay, **PLAIN)
            after = fitted.fit(images, labels).head_.tuned()
            far.append([
                np.abs(after[name][0] - folded.get_layer(name).get_weights()[0]).mean()
                for name in ("conv1", "conv2", "conv3")
            ])  # fmt: skip
        ratios = np.divide(far[1], far[0])
        assert ratios[0] < ratios[1] < ratios[2] < 0.5

    @pytest.mark.parametrize("wrong", [0, -0.5, 1.1, np.nan, np.inf, True, "0.5", (0.5,)])
    def test_invalid_decays_are_refused(self, images, labels, network, wrong):
        with pytest.raises(InvalidParameterError, match="layer_decay must be"):
            tuned(network, layer_decay=wrong).fit(images, labels)


class Diary(keras.callbacks.Callback):
    """Callback that logs its calls in a list that copies share."""

    def __init__(self, lines):
        super().__init__()
        self.write = lines.append
        self.epochs = 0

    def on_train_begin(self, logs=None):
        self.write(("train begins", type(self.model.optimizer).__name__))

    def on_train_end(self, logs=None):
        self.write(("train ends",))

    def on_epoch_begin(self, epoch, logs=None):
        self.write(("epoch begins", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1
        self.write(("epoch ends", epoch, {"loss", "val_loss"} & set(logs)))

    def on_train_batch_begin(self, batch, logs=None):
        self.write(("batch begins", batch))

    def on_train_batch_end(self, batch, logs=None):
        assert np.isfinite(logs["loss"])
        self.write(("batch ends", batch))

    def __deepcopy__(self, memo):
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        return copy


class TestCallbacks:
    def test_callbacks_are_called_as_by_keras(self, images, labels):
        ours, theirs = [], []
        diary = Diary(ours)
        fitted = tiny(optimizer="sgd", epochs=2, callbacks=[diary])
        fitted.fit(images, labels, validation_data=(images, labels))
        inputs = keras.Input((2,))
        model = keras.Model(inputs, layers.Dense(1)(inputs))
        model.compile("sgd", "mse")
        x, y = np.ones((N, 2)), np.ones((N, 1))
        model.fit(x, y, BATCH, 2, 0, callbacks=[Diary(theirs)], validation_data=(x, y))
        assert ours == theirs
        assert diary.epochs == 2
        assert diary.model is None
        assert_same_weights(fitted, tiny(optimizer="sgd", epochs=2).fit(images, labels))

    @pytest.mark.slow
    def test_every_phase_begins_and_ends(self, images, labels, network):
        lines = []
        fitted = tuned(network, hidden_units=(4,), epochs=2, callbacks=(Diary(lines),))
        fitted.fit(images, labels)
        told = [line[:2] for line in lines if "epoch begins" in line or "train ends" in line]
        two, three = ([("epoch begins", n) for n in range(count)] for count in (2, 3))
        assert told == [*two, ("train ends",), *three, ("train ends",)]

    def test_hooks_may_be_given_as_functions(self, images, labels):
        batches, epochs = [], []
        listening = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: epochs.append(epoch),
            on_train_batch_end=lambda batch, logs: batches.append(batch),
        )
        tiny(epochs=2, callbacks=[listening]).fit(images, labels)
        assert batches == [0, 1, 2, 0, 1, 2]
        assert epochs == [0, 1]

    def test_early_stopping_of_keras_ends_the_fit(self, images, labels):
        stopping = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=2)
        fitted = tiny(epochs=9, callbacks=[stopping]).fit(images, labels)
        assert fitted.n_iter_ == 3 == stopping.stopped_epoch + 1

    def test_keras_early_stopping_restores_the_best_weights(self, images, labels):
        best = keras.callbacks.EarlyStopping(
            "loss", mode="max", patience=2, restore_best_weights=True
        )
        fitted = tiny(epochs=9, callbacks=[best]).fit(images, labels)
        assert fitted.n_iter_ == 3
        assert_same_weights(fitted, tiny(epochs=1).fit(images, labels))

    def test_a_keras_scheduler_sets_the_rate(self, images, labels):
        halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / 2**epoch)
        fitted = tiny(callbacks=[halving], optimizer="sgd").fit(images, labels)
        np.testing.assert_allclose(fitted.history_["learning_rate"], [0.1, 0.05, 0.025, 0.0125])
        scheduled = tiny(
            optimizer="sgd",
            lr_schedule=schedules.PiecewiseConstantDecay([2, 5, 8], [0.1, 0.05, 0.025, 0.0125]),
        ).fit(images, labels)
        assert_same_weights(fitted, scheduled)

    def test_l_bfgs_warns_of_callbacks_and_calls_none(self, images, labels):
        lines = []
        head = tiny(hidden_units=(), callbacks=[Diary(lines)], **L_BFGS)
        with pytest.warns(TransferclfWarning, match=r"callbacks=\[Diary\] \(used by a Keras opt"):
            head.fit(images, labels)
        assert lines == []

    @pytest.mark.parametrize(
        "wrong",
        [
            [object()],
            "early",
            keras.callbacks.Callback(),
            [keras.callbacks.Callback],
            3,
            True,
            [None],
            {"stop": keras.callbacks.Callback()},
        ],
    )
    def test_values_that_are_no_callbacks_are_refused(self, images, labels, wrong):
        with pytest.raises(InvalidParameterError, match="callbacks must be None or a sequence"):
            tiny(callbacks=wrong).fit(images, labels)


@pytest.mark.slow
def test_fit_does_not_change_the_callers_random_numbers(images, labels, network):
    convnet = ConvNet((4,), dense_units=(), dropout=0.1, batch_norm="before")

    def drawn():
        return [*np.random.random(3), *[random.random() for _ in range(3)], *keras_state()]  # noqa: NPY002

    drawn()  # older Keras draws a seed for its generator once, newer Keras after each new seed
    keras.utils.set_random_seed(7)
    expected = [drawn(), drawn()]
    keras.utils.set_random_seed(7)
    first = drawn()
    trainers._trainers.clear()
    tiny(dropout=0.3, epochs=1, early_stopping=True).fit(images, labels)
    tuned(network, fine_tune_epochs=1).fit(images, labels)
    small = TransferClassifier(convnet, image_size=16, epochs=1, augmentation="light")
    small.set_params(random_state=0).fit(images, labels).predict(images[:2])
    tiny(random_state=None, epochs=1).partial_fit(
        images, labels, classes=["across", "down", "noise"]
    )
    assert [first, drawn()] == expected


def test_an_unreadable_image_does_not_change_a_fitted_estimator(images, labels, tmp_path):
    paths = written(images, tmp_path)
    paths[20].write_bytes(paths[20].read_bytes()[:60])
    for classifier in (tiny().fit(images, labels), tiny(warm_start=True).fit(images, labels)):
        before = dict(vars(classifier))
        classifier_fails(classifier.fit, paths, np.where(labels == "down", "up", labels))
        classifier_fails(classifier.fit, paths, labels)
        classifier_fails(classifier.partial_fit, paths, labels)
        assert vars(classifier).keys() == before.keys()
        assert all(vars(classifier)[name] is before[name] for name in before)
    new = tiny()
    classifier_fails(new.fit, paths, labels)
    assert vars(new) == vars(tiny())


def classifier_fails(method, *arguments):
    with pytest.raises(ValueError, match="."):
        method(*arguments)
