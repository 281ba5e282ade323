"""Networks from scratch in the classifier, and fitted pixel scaling."""

import pickle

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from image_helpers import keras_state, striped_images
from keras import layers
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.utils import check_random_state

from transferclf import Augmentation, ConvNet, TransferClassifier
from transferclf.exceptions import ImageError, ImageReadError, InvalidParameterError, NetworkError
from transferclf.heads.whitening import fit_pixel_scaling
from transferclf.images import resize_image
from transferclf.training.batches import Samples, epoch_orders

N, SIDE = 40, 16


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.arange(N) % 3


def small(**changes):
    parameters = {
        "backbone": ConvNet(filters=(4, 8), dense_units=(8,)),
        "image_size": SIDE,
        "epochs": 3,
        "batch_size": 16,
        "random_state": 0,
    }
    return TransferClassifier(**(parameters | changes))


def pixels_of(images, side=SIDE):
    return np.stack([resize_image(image, (side, side)) for image in images]).astype(np.float32)


def agrees_with_its_model(fitted, images):
    probabilities = fitted.predict_proba(images)
    whole = outputs_of(fitted.model_, pixels_of(images))
    np.testing.assert_allclose(whole, probabilities, atol=1e-5)
    return probabilities


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "learning_rate"),
    [
        (ConvNet((16, 32), batch_norm="before", dropout=0.2, dense_units=(64,)), 3e-3),
        (ConvNet(filters=(), dense_units=(64, 32)), 3e-3),
    ],
    ids=["convolutional", "perceptron"],
)
def test_digits_are_learned_in_seconds(network, learning_rate):
    digits = load_digits()
    X, y = digits.images, digits.target
    how = {"pixel_range": (0, 16), "image_size": 8, "epochs": 15, "learning_rate": learning_rate}
    classifier = small(backbone=network, **how).fit(X[:1000], y[:1000])
    assert classifier.score(X[1000:], y[1000:]) > 0.9
    assert classifier.n_iter_ == classifier.n_head_iter_ == 15
    assert classifier.l2_ == 0
    assert classifier.history_["loss"][-1] < 0.3 * classifier.history_["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [None, "before"])
def test_it_trains_as_keras_does(images, labels, batch_norm):
    network = ConvNet(filters=(4, 8), dense_units=(8,), batch_norm=batch_norm)
    start = small(backbone=network, optimizer="sgd", learning_rate=1e-12, epochs=1, batch_size=N)
    start.fit(images, labels)
    fitted = small(backbone=network).fit(images, labels)

    own = network.build((SIDE, SIDE, 3))
    inputs = keras.Input((SIDE, SIDE, 3))
    outputs = layers.Dense(3, "softmax")(own(layers.Rescaling(1 / 255)(inputs)))
    model = keras.Model(inputs, outputs)
    take_start(model, own, start)
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    losses = []
    for order in epoch_orders(Samples.of(images, labels, np.ones(N)), 3, seed=0):
        shown = model.fit(
            pixels_of(images)[order], labels[order], batch_size=16, shuffle=False, verbose=0
        )
        losses += shown.history["loss"]
    np.testing.assert_allclose(fitted.history_["loss"], losses, atol=1e-4)
    np.testing.assert_allclose(
        fitted.predict_proba(images), outputs_of(model, pixels_of(images)), atol=1e-4
    )


def take_start(model, own, start):
    """Return the weights at the start of training, after one step at a tiny learning rate."""
    by_name = {layer.name: layer for layer in start.model_.layers}
    for layer in own.layers:
        # That step has changed the statistics of batch normalisation.
        if layer.weights and not isinstance(layer, layers.BatchNormalization):
            layer.set_weights(by_name[layer.name].get_weights())
    model.layers[-1].set_weights(by_name["predictions"].get_weights())


@pytest.mark.slow
def test_equal_seeds_give_equal_networks(images, labels):
    network = ConvNet(filters=(4,), dropout=0.5, dense_units=(8,))
    found = [
        small(backbone=network, random_state=seed).fit(images, labels).predict_proba(images)
        for seed in (0, 1, 0)
    ]
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_fit_changes_neither_the_network_nor_global_states(images, labels):
    network = ConvNet(filters=(4,), dense_units=(8,))
    before = dict(network.__dict__)
    keras.utils.set_random_seed(3)
    expected = check_random_state(None).uniform(), keras_state()
    keras.utils.set_random_seed(3)
    small(backbone=network, augmentation="light").fit(images, labels)
    assert (check_random_state(None).uniform(), keras_state()) == expected
    assert network.__dict__ == before


def test_batch_normalisation_of_a_network_from_scratch_is_trained(images, labels):
    network = ConvNet(filters=(4,), batch_norm="after", dense_units=())
    fitted = small(backbone=network, learning_rate=0.01).fit(images, labels)
    agrees_with_its_model(fitted, images)
    norm = fitted.model_.get_layer("block1_bn1")
    gamma, beta, mean, variance = norm.get_weights()
    for values, at_first in ((gamma, 1), (beta, 0), (mean, 0), (variance, 1)):
        assert np.abs(values - at_first).max() > 1e-3
    assert norm.trainable


@pytest.mark.slow
def test_a_keras_application_from_scratch_trains_in_one_phase(images, labels):
    fitted = TransferClassifier(
        "mobilenet_025",
        weights=None,
        trainable_layers="all",
        image_size=32,
        epochs=1,
        random_state=0,
    ).fit(images, labels)
    assert fitted.n_iter_ == fitted.n_head_iter_ == len(fitted.history_["loss"]) == 1
    norm = fitted.head_.tuned()["conv1_bn"]
    assert np.abs(norm[2]).max() > 1e-4  # the moving mean
    assert np.abs(norm[0] - 1).max() > 1e-4
    whole = outputs_of(fitted.model_, pixels_of(images, 32))
    np.testing.assert_allclose(whole, fitted.predict_proba(images), atol=1e-4)


@pytest.mark.parametrize("kind", ["standardize", "zca"])
def test_scaling_is_fitted_to_the_training_images_alone(images, labels, kind):
    how = {"preprocessing": kind, "image_size": 8}
    how |= {"zca_epsilon": 0.1} if kind == "zca" else {}
    stop = {"early_stopping": True, "validation_fraction": 0.25}
    whole, part = small(**how).fit(images, labels), small(**how, **stop).fit(images, labels)
    assert len(part.sample_indices_) == 30
    for fitted in (whole, part):
        chosen = pixels_of(images[fitted.sample_indices_], 8)
        by_hand = fit_pixel_scaling(kind, chosen, epsilon=0.1)
        assert fitted.head_.scaling.kind == kind
        np.testing.assert_allclose(fitted.head_.scaling.mean, by_hand.mean, rtol=1e-5)
        np.testing.assert_allclose(fitted.head_.scaling.factor, by_hand.factor, atol=1e-5)
    assert np.abs(whole.head_.scaling.mean - part.head_.scaling.mean).max() > 1e-3


def test_scaling_counts_weights(images, labels):
    weights = np.where(labels == 1, 3.0, 1.0)
    fitted = small(preprocessing="standardize").fit(images, labels, weights)
    by_hand = fit_pixel_scaling("standardize", pixels_of(images), weights)
    np.testing.assert_allclose(fitted.head_.scaling.mean, by_hand.mean, rtol=1e-5)
    assert (
        np.abs(fit_pixel_scaling("standardize", pixels_of(images)).mean - by_hand.mean).max() > 0.3
    )


@pytest.mark.parametrize("kind", ["standardize", "zca", "rescale", "none"])
def test_scaling_is_kept_by_pickles_and_later_fits(images, labels, kind):
    from transferclf.training import trainer

    fitted = small(preprocessing=kind).fit(images, labels)
    before = agrees_with_its_model(fitted, images)
    pickled = pickle.dumps(fitted)
    trainer._trainers.clear()
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.predict_proba(images), before)
    np.testing.assert_allclose(outputs_of(again.model_, pixels_of(images)), before, atol=1e-5)
    # Another fit of the same shape does not change it.
    small(preprocessing=kind, random_state=0).fit(images[::-1] // 2, labels)
    np.testing.assert_array_equal(fitted.predict_proba(images), before)


def test_scaling_is_fitted_to_images_without_augmentation(images, labels):
    how = {"preprocessing": "standardize", "augmentation": Augmentation(brightness=0.9)}
    fitted = small(**how, oversample=True).fit(images, labels)
    by_hand = fit_pixel_scaling("standardize", pixels_of(images))
    np.testing.assert_allclose(fitted.head_.scaling.mean, by_hand.mean, rtol=1e-5)


def test_preprocessing_rescales_pixels_for_a_keras_model(images, labels):
    inputs = keras.Input((SIDE, SIDE, 3))
    own = keras.Model(inputs, layers.Conv2D(4, 3, activation="relu")(inputs))
    fitted = TransferClassifier(own, preprocessing="rescale", l2=0.1).fit(images, labels)
    features = keras.ops.convert_to_numpy(own(pixels_of(images) / 255)).mean(axis=(1, 2))
    rows = fitted.prefix_.forward()(pixels_of(images))
    np.testing.assert_allclose(rows, features, atol=1e-5)
    agrees_with_its_model(fitted, images)


def test_images_too_large_to_be_whitened_are_refused(images, labels):
    with pytest.raises(InvalidParameterError, match="at most 64 x 64"):
        small(preprocessing="zca", image_size=65).fit(images, labels)


@pytest.fixture
def any_kind(images, tmp_path):
    """Return the images as arrays, Pillow images and files in one list."""
    mixed = list(images)
    for number in range(0, N, 3):
        mixed[number] = Image.fromarray(images[number])
    for number in range(1, N, 3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(images[number]).save(path)
        mixed[number] = path
    return mixed


@pytest.mark.parametrize("preprocessing", ["auto", "zca"])
def test_a_row_depends_on_its_image_alone(images, labels, any_kind, preprocessing):
    fitted = small(preprocessing=preprocessing).fit(images, labels)
    whole = fitted.predict_proba(images)
    np.testing.assert_array_equal(fitted.predict_proba(any_kind), whole)
    other = images.copy()
    other[1::2] = 255 - other[1::2]
    np.testing.assert_array_equal(fitted.predict_proba(other)[::2], whole[::2])
    assert_rows_agree(fitted.predict_proba(images[7:31]), whole[7:31])
    assert_rows_agree(fitted.predict_proba(images[5:6]), whole[5:6])
    order = np.random.default_rng(0).permutation(N)
    assert_rows_agree(fitted.predict_proba(images[order]), whole[order])


def test_any_kind_of_image_trains_the_same_network(images, labels, any_kind):
    found = [small().fit(X, labels).predict_proba(images) for X in (images, any_kind)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("X", [[], np.zeros((0, SIDE, SIDE, 3), np.uint8)])
def test_predicting_no_images_is_an_error(images, labels, X):
    fitted = small(epochs=1).fit(images, labels)
    for method in (fitted.predict, fitted.predict_proba, fitted.decision_function):
        with pytest.raises(ImageError, match="at least one image"):
            method(X)


PLAIN = ConvNet(filters=(4,), dense_units=())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lbfgs", "dropout": 0.1}, "fits softmax regression only"),
        ({"optimizer": "lbfgs", "head": lambda maps: maps}, "fits softmax regression only"),
        ({"augmentation": Augmentation()}, "something to vary"),
        ({"augmentation": Augmentation(rotation=500)}, "rotation of Augmentation must be"),
        ({"augmentation": Augmentation(rotation=5, views=0)}, "views of Augmentation must be"),
        ({"augmentation": "lite"}, "Did you mean 'light'"),
        ({"augmentation": 5}, "augmentation must be"),
        ({"augmentation": Augmentation}, "augmentation must be"),
        ({"test_time_augmentation": "views"}, "set augmentation and fit"),
        ({"test_time_augmentation": "both"}, "set augmentation and fit"),
        ({"test_time_augmentation": "flips"}, "test_time_augmentation must be one of"),
        ({"layer_decay": 0}, "layer_decay must be"),
        ({"layer_decay": 2}, "layer_decay must be at most 1"),
        ({"layer_decay": True}, "layer_decay must be"),
        ({"layer_decay": np.nan}, "layer_decay must be"),
        ({"batch_norm": "yes"}, "batch_norm must be one of"),
        ({"batch_norm": True}, "batch_norm must be one of"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"learning_rate": True}, "learning_rate must be"),
        ({"lr_schedule": "linear"}, "lr_schedule must be"),
        ({"lr_schedule": 3}, "lr_schedule must be"),
        ({"callbacks": [1]}, "callbacks must be"),
        ({"callbacks": keras.callbacks.Callback}, "callbacks must be"),
        ({"early_stopping": "yes"}, "early_stopping must be True or False"),
        ({"early_stopping": 1}, "early_stopping must be True or False"),
        ({"patience": 0}, "patience must be"),
        ({"patience": 1.5}, "patience must be"),
        ({"validation_fraction": 0}, "validation_fraction must be"),
        ({"validation_fraction": 1}, "validation_fraction must be"),
        ({"validation_fraction": -0.1}, "validation_fraction must be"),
        ({"validation_fraction": np.nan}, "validation_fraction must be"),
        ({"validation_fraction": "half"}, "validation_fraction must be"),
        ({"validation_fraction": None}, "validation_fraction must be"),
        ({"validation_fraction": True}, "validation_fraction must be"),
        ({"optimizer": 3}, "optimizer must be one of"),
        ({"optimizer": keras.optimizers.Adam}, "optimizer must be one of"),
        ({"oversample": "yes"}, "oversample must be True or False"),
        ({"oversample": None}, "oversample must be True or False"),
        ({"warm_start": 2}, "warm_start must be True or False"),
        ({"zca_epsilon": 0}, "zca_epsilon must be"),
        ({"preprocessing": "whiten"}, "preprocessing must be one of"),
    ],
)
def test_invalid_parameters_are_refused_before_files_are_opened(changes, message):
    classifier = TransferClassifier("tiny", image_size=32, **changes)
    with pytest.raises(InvalidParameterError, match=message):
        classifier.fit(["there is no such file.png"] * N, np.arange(N) % 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": PLAIN, "optimizer": "lbfgs"}, "on a frozen network only"),
        ({"backbone": PLAIN, "weights": "imagenet"}, "starts from random weights"),
        ({"backbone": PLAIN, "trainable_layers": 3}, "trained as a whole"),
        ({"backbone": PLAIN, "trainable_layers": "block1"}, "trained as a whole"),
        ({"backbone": ConvNet}, "backbone must be"),
        ({"backbone": ConvNet(filters=(0,))}, "filters of ConvNet must be"),
        ({"backbone": ConvNet(dropout=1.0)}, "dropout of ConvNet must be"),
        ({"backbone": ConvNet(filters=(4,) * 6)}, "image_size must be"),
        ({"preprocessing": "zca"}, "for networks that start from nothing"),
        ({"preprocessing": "standardize", "weights": None}, "for networks that start from nothing"),
        (
            {"preprocessing": "standardize", "trainable_layers": "all"},
            "for networks that start from nothing",
        ),
        ({"augmentation": Augmentation(mixup=0.2)}, "mixup of Augmentation vary each batch"),
        (
            {"augmentation": Augmentation(cutmix=1, noise=3), "trainable_layers": 3},
            "Set cutmix=0 and mixup",
        ),
    ],
)
def test_conflicting_parameters_are_refused_before_files_are_read(changes, message, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    classifier = TransferClassifier(**({"backbone": "tiny", "image_size": 32} | changes))
    X, y = [tmp_path / "broken.png"] * 6, np.arange(6) % 3
    with pytest.raises(InvalidParameterError, match=message):
        classifier.fit(X, y)
    with pytest.raises(ImageReadError):
        TransferClassifier("tiny", image_size=32).fit(X, y)


def test_unknown_layer_names_are_refused(images, labels):
    with pytest.raises(NetworkError, match="names no layer or block"):
        TransferClassifier("tiny", image_size=32, trainable_layers="blok").fit(images, labels)
