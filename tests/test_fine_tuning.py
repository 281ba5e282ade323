"""Fine-tuning through the cut gives the result of Keras on the whole network."""

import functools
import itertools
import pickle

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from fine_tuning_helpers import ALL_IMAGES, PLAIN
from image_helpers import head_alone, striped_images
from keras import layers
from sklearn.model_selection import GridSearchCV

from transferclf import TransferClassifier
from transferclf.exceptions import InvalidParameterError, NetworkError, TransferclfWarning
from transferclf.graphs.folding import fold_batch_norm
from transferclf.images import resize_image
from transferclf.training.batches import Samples, epoch_orders

N, SIDE = 36, 32


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, 40, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def labels():
    return np.arange(N) % 3


@pytest.fixture(scope="module")
def tuned(images, labels):
    return classifier().fit(images, labels)


def normalised(x, name, rng):
    """Apply batch normalisation with statistics as of a network that was trained."""
    layer = layers.BatchNormalization(name=f"{name}_bn")
    x = layer(x)
    layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return x


@functools.cache
def residual():
    """A network of two blocks, each of which is added to its input."""
    rng, seeds = np.random.default_rng(5), itertools.count(1)

    def convolved(x, name, kind=layers.Conv2D, **how):
        starting = keras.initializers.HeNormal(next(seeds))
        of = "depthwise" if kind is layers.DepthwiseConv2D else "kernel"
        how |= {"padding": "same", "use_bias": False, f"{of}_initializer": starting, "name": name}
        return normalised(kind(**how)(x), name, rng)

    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.ReLU(name="stem_relu")(convolved(x, "stem", filters=8, kernel_size=3, strides=2))
    for block in ("block_1", "block_2"):
        y = convolved(x, f"{block}_expand", filters=16, kernel_size=1)
        y = layers.ReLU(name=f"{block}_expand_relu")(y)
        y = convolved(y, f"{block}_depthwise", layers.DepthwiseConv2D, kernel_size=3)
        y = layers.ReLU(name=f"{block}_depthwise_relu")(y)
        y = convolved(y, f"{block}_project", filters=8, kernel_size=1)
        x = layers.Add(name=f"{block}_add")([x, y])
    x = convolved(x, "last", filters=12, kernel_size=1)
    return keras.Model(inputs, layers.ReLU(name="last_relu")(x))


def classifier(**changes):
    parameters = {
        "backbone": residual(),
        "image_size": SIDE,
        "trainable_layers": 3,
        "fine_tune_epochs": 2,
        "fine_tune_learning_rate": 1e-3,
        "batch_size": 16,
        "random_state": 0,
        **ALL_IMAGES,
    }
    return TransferClassifier(**(parameters | changes))


def pixels_of(images):
    return np.stack([resize_image(image, (SIDE, SIDE)) for image in images]).astype(np.float32)


def trained_whole(fitted, images, labels, trained):
    """Train the whole network with Keras from the start of fine-tuning.

    Batch normalisation of a pretrained network is constant, and part of the layers before it.
    """
    head = head_alone(fitted).fit(images, labels)
    model = fold_batch_norm(head.model_)
    model.trainable = True
    for layer in model.layers:
        is_trained = layer.name in trained or layer.name == "predictions"
        layer.trainable = is_trained and not isinstance(layer, layers.BatchNormalization)
    model.get_layer("predictions").kernel.regularizer = keras.regularizers.L2(fitted.l2_)
    model.compile("adam", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    model.optimizer.learning_rate = fitted.fine_tune_learning_rate
    losses = []
    samples = Samples.of(images, labels, np.ones(N))
    for order in epoch_orders(samples, fitted.fine_tune_epochs, seed=0):
        model.fit(
            pixels_of(images)[order],
            labels[order],
            batch_size=fitted.batch_size,
            shuffle=False,
            verbose=0,
        )
        losses += model.history.history["loss"]
    return model, losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "trainable_layers", "trained"),
    [
        # The skip connection of block 2 crosses the cut.
        ("residual", "block_2_project", None),
        # The last six layers have no weights.
        ("tiny", 8, ["top_conv"]),
        ("tiny", "all", None),
    ],
)
def test_fine_tuning_gives_the_weights_of_keras(
    images, labels, backbone, trainable_layers, trained
):
    fitted = classifier(**PLAIN, trainable_layers=trainable_layers, epochs=3)
    if backbone == "tiny":
        # Larger steps would multiply the difference in rounding.
        fitted.set_params(backbone="tiny", fine_tune_learning_rate=1e-5)
    fitted.fit(images, labels)
    trained = trained or list(fitted.head_.tuned())
    assert (trainable_layers == "all") == ("stem_conv" in trained)
    whole, losses = trained_whole(fitted, images, labels, trained)
    np.testing.assert_allclose(fitted.history_["loss"][-2:], losses, atol=1e-4)
    probabilities, pixels = fitted.predict_proba(images), pixels_of(images)
    np.testing.assert_allclose(probabilities, outputs_of(whole, pixels), atol=1e-3)
    own = outputs_of(fitted.model_, pixels)
    np.testing.assert_allclose(own, probabilities, atol=1e-5)


@pytest.mark.slow
def test_training_layers_without_weights_warns(images, labels):
    with pytest.warns(TransferclfWarning, match="trains nothing of 'tiny': top_levels have no"):
        classifier(backbone="tiny", trainable_layers=1, fine_tune_epochs=1).fit(images, labels)


@pytest.mark.slow
def test_the_whole_model_has_the_trained_weights(images, labels):
    fitted = classifier(trainable_layers="block_2", hidden_units=(6,), dropout=0.3, epochs=2)
    fitted.fit(images, labels)
    model = fitted.model_
    np.testing.assert_allclose(
        outputs_of(model, pixels_of(images)), fitted.predict_proba(images), atol=1e-5
    )
    trainable = [layer.name for layer in model.layers if layer.trainable]
    convolutions = ["block_2_expand", "block_2_depthwise", "block_2_project", "last"]
    assert trainable == [*convolutions, "hidden_1", "predictions"]
    assert [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)] == [0.3]


def test_batch_normalisation_that_cannot_be_folded_is_not_changed(images, labels):
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(layers.Rescaling(1 / 255)(x))
    x = layers.BatchNormalization(name="norm")(x)  # the activation stands between
    own = keras.Model(inputs, layers.Conv2D(4, 3, name="conv2")(x))
    rng = np.random.default_rng(3)
    before = [rng.uniform(0.5, 1.5, value.shape) for value in own.get_layer("norm").get_weights()]
    own.get_layer("norm").set_weights(before)
    fitted = classifier(backbone=own, trainable_layers="all")
    model = fitted.fit(images, labels).model_
    now = model.get_layer("norm").get_weights()
    for values, same in zip(own.get_layer("norm").get_weights(), now, strict=True):
        np.testing.assert_array_equal(values, same)
    assert not model.get_layer("norm").trainable
    changed = model.get_layer("conv1").kernel - own.get_layer("conv1").kernel
    assert np.abs(changed).max() > 1e-5


@pytest.mark.slow
def test_folded_batch_normalisation_is_trained_with_the_layer_before_it(images, labels):
    fitted = classifier(trainable_layers="block_2").fit(images, labels)
    untouched = fitted.prefix_.whole().build()
    norms = [layer for layer in untouched.layers if isinstance(layer, layers.BatchNormalization)]
    left = {layer.name for layer in fitted.model_.layers}
    assert norms
    assert not left & {norm.name for norm in norms}
    folded = fold_batch_norm(untouched).get_layer("block_2_expand")
    changed = fitted.model_.get_layer("block_2_expand")
    for before, after in zip(folded.get_weights(), changed.get_weights(), strict=True):
        assert np.abs(after - before).max() > 1e-5


@pytest.mark.slow
def test_each_image_passes_the_frozen_part_once(images, labels):
    search = GridSearchCV(
        classifier(fine_tune_epochs=1),
        {"fine_tune_learning_rate": [1e-4, 1e-3], "l2": [0.01, 0.1]},
        cv=2,
    )
    first = classifier(fine_tune_epochs=1).fit(images[:1].repeat(2, axis=0), [0, 1])
    before = first.prefix_.forward().images_seen
    search.fit(images, labels)
    assert search.best_estimator_.prefix_.forward().images_seen - before == N - 1


def test_stored_features_of_the_whole_network_are_used(images, labels):
    tuned = classifier(fine_tune_epochs=1).fit(images, labels)
    frozen = head_alone(tuned).fit(images, labels)
    assert frozen.prefix_.forward().images_seen == 0
    assert frozen.prefix_.digest == tuned.prefix_.whole().digest


@pytest.mark.parametrize("cache", ["memory", None])
def test_fine_tuning_lowers_the_loss_and_continues_the_history(labels, cache):
    images = striped_images(N, np.random.default_rng(0))
    fitted = classifier(cache=cache, l2=0.3, fine_tune_epochs=6, lr_schedule=None)
    fitted.fit(images, labels)
    head = head_alone(fitted).fit(images, labels)
    assert fitted.history_["loss"][: head.n_iter_] == pytest.approx(head.history_["loss"])
    assert fitted.n_iter_ == head.n_iter_ + 6 == len(fitted.history_["accuracy"])
    assert fitted.history_["loss"][-1] < head.history_["loss"][-1]


def test_an_own_model_is_not_changed(images, labels):
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(x)
    for number in (1, 2):
        x = layers.Conv2D(4, 3, activation="relu", name=f"conv{number}")(x)
    own = keras.Model(inputs, x)
    before = own.get_weights()
    fitted = classifier(backbone=own, trainable_layers=1).fit(images, labels)
    for a, b in zip(before, own.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(layer.trainable for layer in own.layers)
    np.testing.assert_allclose(
        outputs_of(fitted.model_, pixels_of(images)), fitted.predict_proba(images), atol=1e-5
    )
    assert list(fitted.head_.tuned()) == ["conv2"]


@pytest.mark.slow
def test_equal_seeds_give_equal_weights(images, labels):
    probabilities = [
        classifier(hidden_units=(4,), dropout=0.5, epochs=2, random_state=seed)
        .set_params(backbone="tiny", trainable_layers="top")
        .fit(images, labels)
        .predict_proba(images)
        for seed in (1, 2, 1)
    ]
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-4


@pytest.mark.slow
def test_a_pickled_classifier_gives_the_same_predictions(images, tuned):
    from transferclf.training import trainer

    before = tuned.predict_proba(images)
    pickled = pickle.dumps(tuned)
    trainer._trainers.clear()
    np.testing.assert_array_equal(pickle.loads(pickled).predict_proba(images), before)


def test_probabilities_do_not_depend_on_the_other_images(images, tuned):
    whole = tuned.predict_proba(images)
    assert_rows_agree(tuned.predict_proba(images[7:31]), whole[7:31])


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "", ["block_2"]])
def test_invalid_trainable_layers_are_refused(value, images, labels):
    with pytest.raises(InvalidParameterError, match="trainable_layers must be"):
        classifier(trainable_layers=value).fit(images, labels)


@pytest.mark.parametrize(
    ("value", "message"), [("block_61", "names no layer or block"), (10_000, "from 0 to")]
)
def test_unknown_layers_raise_an_error(value, message, images, labels):
    with pytest.raises(NetworkError, match=message):
        classifier(trainable_layers=value).fit(images, labels)
