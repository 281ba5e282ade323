"""Heads of the user's own: Keras layers on the activations of the backbone."""

import pickle

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images
from keras import layers
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from transferclf import Augmentation, ConvNet, TransferClassifier
from transferclf.exceptions import InvalidParameterError, NetworkError
from transferclf.images import resize_image

N, SIDE = 24, 32


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.array(["across", "down", "noise"])[np.arange(N) % 3]


def convolutional(maps):
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(maps)
    x = layers.Dropout(0.25)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(16, activation="relu")(x)
    return layers.Dropout(0.5)(x)


def normalised(maps):
    x = layers.Conv2D(8, 1, use_bias=False)(maps)
    x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.8)(x))
    return layers.Flatten()(x)


def averaged(maps):
    return layers.GlobalAveragePooling2D()(maps)


def tiny(**changes):
    parameters = {
        "image_size": SIDE,
        "head": convolutional,
        "epochs": 15,
        "learning_rate": 3e-3,
        "random_state": 0,
    }
    return TransferClassifier("tiny", **(parameters | changes))


def pixels_of(images):
    return np.stack([resize_image(image, (SIDE, SIDE)) for image in images]).astype(np.float32)


def kinds_above(model, name):
    names = [layer.name for layer in model.layers]
    return [type(layer).__name__ for layer in model.layers[names.index(name) + 1 :]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, {"trainable_layers": "top", "fine_tune_epochs": 3, **ALL_IMAGES}]
)
def test_it_learns_on_stored_maps_and_its_whole_model_agrees(images, labels, changes):
    few = tiny(**changes).fit(images[:1].repeat(2, axis=0), [0, 1])
    before = few.prefix_.forward().images_seen
    fitted = tiny(**changes).fit(images, labels)
    assert fitted.prefix_.forward().images_seen - before == N - 1
    assert fitted.score(images, labels) > 0.9
    assert fitted.history_["loss"][-1] < fitted.history_["loss"][0]
    assert fitted.n_iter_ == 15 + changes.get("fine_tune_epochs", 0)
    probabilities = fitted.predict_proba(images)
    model = fitted.model_
    np.testing.assert_allclose(outputs_of(model, pixels_of(images)), probabilities, atol=1e-5)
    own = ["Conv2D", "Dropout", "GlobalAveragePooling2D", "Dense", "Dropout", "Dense"]
    assert kinds_above(model, "standardize") == own
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [
        0.25,
        0.5,
    ]
    assert_rows_agree(fitted.predict_proba(images[3:9]), probabilities[3:9])


@pytest.mark.slow
def test_a_second_head_needs_no_second_pass_over_the_images(images, labels):
    first = tiny(epochs=2).fit(images, labels)
    before = first.prefix_.forward().images_seen
    grid = {"head": [averaged, normalised], "learning_rate": [1e-3, 1e-2]}
    search = GridSearchCV(tiny(epochs=3), grid, cv=2).fit(images, labels)
    assert search.best_score_ > 0.5
    assert search.best_params_["head"] in (averaged, normalised)
    assert first.prefix_.forward().images_seen == before


def test_the_maps_are_standardised_channel_by_channel(images, labels):
    fitted = tiny(head=averaged, epochs=1).fit(images, labels)
    rows = fitted.prefix_.forward()(pixels_of(images))
    assert fitted.head_.suffix.map_shape == fitted.prefix_.map_shape()
    channels = rows.reshape(-1, fitted.prefix_.map_shape()[-1]).astype(float)
    np.testing.assert_allclose(fitted.head_.mean, channels.mean(axis=0), rtol=1e-4, atol=1e-5)
    deviations = channels.std(axis=0)
    varied = deviations > 1e-3
    np.testing.assert_allclose(fitted.head_.scale[varied], deviations[varied], rtol=1e-3)


@pytest.mark.slow
def test_the_seed_determines_its_weights_and_its_dropout(images, labels):
    keras.utils.set_random_seed(1)
    found = []
    for seed in (0, 1, 0):
        found.append(tiny(epochs=2, random_state=seed).fit(images, labels).predict_proba(images))
        keras.random.uniform((1,))  # other draws have no effect
    np.testing.assert_array_equal(found[0], found[2])
    assert np.abs(found[0] - found[1]).max() > 1e-3


def test_its_dropout_is_drawn_anew_in_every_step(images, labels):
    def dropping(maps):
        return layers.Dropout(0.7)(layers.Flatten()(maps))

    still = {"optimizer": "sgd", "learning_rate": 1e-12, "epochs": 3, "l2": 0}
    losses = tiny(head=dropping, **still).fit(images, labels).history_["loss"]
    assert np.ptp(losses) > 1e-4
    plain = tiny(head=averaged, **still).fit(images, labels).history_["loss"]
    assert np.ptp(plain) < 1e-5


def test_its_batch_normalisation_learns(images, labels):
    # With one seed in eight, so few steps separate two of the three classes only.
    fitted = tiny(head=normalised, random_state=1).fit(images, labels)
    assert fitted.score(images, labels) > 0.9
    np.testing.assert_allclose(
        outputs_of(fitted.model_, pixels_of(images)),
        fitted.predict_proba(images),
        atol=1e-5,
    )
    norm = [x for x in fitted.model_.layers if isinstance(x, layers.BatchNormalization)][-1]
    # The mean stays zero, because the input is standardised.
    assert np.abs(keras.ops.convert_to_numpy(norm.moving_variance) - 1).max() > 1e-2
    assert np.abs(keras.ops.convert_to_numpy(norm.gamma) - 1).max() > 1e-3


@pytest.mark.slow
def test_pickles_and_clones_give_equal_predictions(images, labels):
    from transferclf.training import trainer

    fitted = tiny(head=normalised, epochs=3).fit(images, labels)
    before = fitted.predict_proba(images)
    pickled = pickle.dumps(fitted)
    trainer._trainers.clear()
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.predict_proba(images), before)
    np.testing.assert_allclose(outputs_of(again.model_, pixels_of(images)), before, atol=3e-5)
    copy = clone(fitted)
    assert copy.head is normalised
    assert not hasattr(copy, "head_")
    np.testing.assert_array_equal(copy.fit(images, labels).predict_proba(images), before)


@pytest.mark.slow
def test_it_works_on_networks_from_scratch_and_on_views(images, labels):
    def flat(features):
        return layers.Dense(6, activation="tanh")(layers.Flatten()(features))

    scratch = TransferClassifier(
        ConvNet((4,), dense_units=()), head=flat, image_size=16, epochs=2, random_state=0
    )
    varied = tiny(head=flat, augmentation=Augmentation(rotation=9, views=1), epochs=2)
    for classifier in (scratch, varied):
        fitted = classifier.fit(images, labels)
        size = fitted.prefix_.size
        pixels = np.stack([resize_image(image, size) for image in images]).astype(np.float32)
        np.testing.assert_allclose(
            outputs_of(fitted.model_, pixels), fitted.predict_proba(images), atol=1e-5
        )


def test_a_callable_object_is_a_head_too(images, labels):
    class Widths:
        def __init__(self, units):
            self.units = units

        def __call__(self, maps):
            return layers.Dense(self.units)(averaged(maps))

    fitted = tiny(head=Widths(5), epochs=2).fit(images, labels)
    assert fitted.model_.layers[-2].units == 5


@pytest.mark.slow
def test_its_layers_may_have_names_of_other_layers(images, labels):
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 3, strides=2, name="conv")(x)
    own = keras.Model(inputs, layers.Conv2D(4, 3, strides=2, name="predictions")(x))

    def named_alike(maps):
        x = layers.Flatten(name="conv")(maps)
        return layers.Dense(4, name="predictions")(x)

    how = {"trainable_layers": 1, "epochs": 2, "fine_tune_epochs": 1, "random_state": 0}
    fitted = TransferClassifier(own, head=named_alike, **how).fit(images, labels)
    np.testing.assert_allclose(
        outputs_of(fitted.model_, pixels_of(images)), fitted.predict_proba(images), atol=1e-5
    )


def test_a_layer_shared_between_calls_is_refused(images, labels):
    dense = layers.Dense(4)
    classifier = tiny(head=lambda maps: dense(averaged(maps)), epochs=2)
    with pytest.raises(NetworkError, match="make it inside of head"):
        classifier.fit(images, labels)


def failing(maps):
    raise RuntimeError("this head cannot be built")


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (lambda maps: maps, NetworkError, "features of shape"),
        (lambda maps: layers.Conv2D(3, 1)(maps), NetworkError, "features of shape"),
        (lambda maps: np.ones((2, 3)), NetworkError, "Keras tensor"),
        (lambda maps: None, NetworkError, "Keras tensor"),
        (lambda maps: [averaged(maps)], NetworkError, "Keras tensor"),
        (failing, RuntimeError, "this head cannot be built"),
        (lambda: None, TypeError, "argument"),
    ],
)
def test_functions_that_build_no_head_are_refused(images, labels, head, error, message):
    classifier = tiny(head=head, epochs=2)
    with pytest.raises(error, match=message):
        classifier.fit(images, labels)
    assert not hasattr(classifier, "head_")


def off(fitted, images):
    """Return the largest difference between the whole model and the predictions."""
    got = outputs_of(fitted.model_, pixels_of(images))
    return np.abs(got - fitted.predict_proba(images)).max()


class Settings:
    """A value outside the code of a head, which the head reads."""

    kind, units = "relu", 8
    factor = 1.0


def reading(maps):
    return layers.Dense(Settings.units, activation=Settings.kind)(averaged(maps))


@pytest.mark.slow
def test_values_read_by_a_head_may_change_between_fits(images, labels, monkeypatch):
    first = tiny(head=reading, epochs=2).fit(images, labels)
    before = first.predict_proba(images)
    again = tiny(head=reading, epochs=2).fit(images, labels)
    assert again.head_.suffix.key == first.head_.suffix.key
    monkeypatch.setattr(Settings, "kind", "tanh")
    second = tiny(head=reading, epochs=2).fit(images, labels)
    assert second.history_["loss"] != first.history_["loss"]
    monkeypatch.setattr(Settings, "units", 5)
    third = tiny(head=reading, epochs=2).fit(images, labels)
    kept = {first: ("relu", 8), second: ("tanh", 8), third: ("tanh", 5)}
    for fitted, (kind, units) in kept.items():
        dense = fitted.model_.layers[-2]
        assert (dense.activation.__name__, dense.units) == (kind, units)
        assert off(fitted, images) < 1e-5
    np.testing.assert_array_equal(first.predict_proba(images), before)
    loaded = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(loaded.predict_proba(images), before)
    assert off(loaded, images) < 1e-5


def test_heads_with_lambda_layers_share_no_compiled_training(images, labels, monkeypatch):
    def scaled(maps):
        return layers.Lambda(lambda x: x * Settings.factor)(averaged(maps))

    first = tiny(head=scaled, epochs=2).fit(images, labels)
    monkeypatch.setattr(Settings, "factor", 3.0)
    second = tiny(head=scaled, epochs=2).fit(images, labels)
    assert second.history_["loss"] != first.history_["loss"]
    assert first.head_.suffix.shape == second.head_.suffix.shape
    assert first.head_.suffix.key != second.head_.suffix.key


def sequential():
    return keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(8)])


@pytest.mark.slow
def test_fit_trains_a_copy_of_a_layer_or_sequential_model(images, labels):
    shared = sequential()
    first = tiny(head=shared, epochs=2).fit(images, labels)
    assert not shared.built
    before = first.predict_proba(images)
    second = tiny(head=shared, epochs=2, random_state=1).fit(images, labels)
    assert np.abs(second.predict_proba(images) - before).max() > 1e-3
    np.testing.assert_array_equal(first.predict_proba(images), before)
    np.testing.assert_array_equal(
        tiny(head=shared, epochs=2).fit(images, labels).predict_proba(images), before
    )
    for fitted in (first, second):
        assert off(fitted, images) < 1e-5
    assert off(tiny(head=layers.GlobalMaxPooling2D(), epochs=2).fit(images, labels), images) < 1e-5


@pytest.mark.slow
def test_fit_starts_from_the_weights_of_a_built_model_and_keeps_them(images, labels):
    shared = sequential()
    shared.build((None, 1, 1, 1152))
    kernel = np.random.default_rng(5).normal(size=(1152, 8)).astype(np.float32)
    shared.layers[-1].set_weights([kernel, np.zeros(8)])
    still = {"optimizer": "sgd", "learning_rate": 1e-12, "epochs": 1}
    fitted = tiny(head=shared, **still).fit(images, labels)
    np.testing.assert_allclose(fitted.model_.layers[-2].kernel, kernel, rtol=1e-5)
    tiny(head=shared, epochs=3).fit(images, labels)
    np.testing.assert_array_equal(shared.layers[-1].kernel, kernel)


@pytest.mark.slow
def test_a_head_of_nested_models_becomes_flat(images, labels):
    def nested(maps):
        return keras.Sequential([sequential(), layers.Dense(4)])(maps)

    fitted = tiny(head=nested, epochs=1).fit(images, labels)
    assert not any(isinstance(layer, keras.Model) for layer in fitted.model_.layers)
    assert off(fitted, images) < 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_units": (8,)},
        {"dropout": 0.2},
        {"batch_norm": "before"},
        {"head": layers.Flatten},
        {"head": "flatten"},
        {"head": 3},
        {"head": True},
        {"optimizer": "lbfgs"},
    ],
)
def test_invalid_heads_and_conflicting_parameters_are_refused(labels, changes):
    with pytest.raises(InvalidParameterError, match="head"):
        tiny(**changes).fit(["there is no such file.png"] * N, labels)
