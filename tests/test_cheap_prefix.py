"""A frozen part that costs little runs in every step, on images that are varied afresh."""

import dataclasses
import functools
import io
import pickle

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from keras import layers, ops
from scipy.special import log_softmax

from transferclf import Augmentation, TransferClassifier, TransferRegressor, load_model, save_model
from transferclf.augmentation.afresh import Augmenter, channel_deviations
from transferclf.backbones.tiny import build_tiny
from transferclf.exceptions import InvalidParameterError
from transferclf.graphs.costs import CutFacts, multiply_adds
from transferclf.graphs.cutting import cut
from transferclf.graphs.folding import fold_batch_norm
from transferclf.images import resize_image
from transferclf.training import plan as plans
from transferclf.training import trainer as trainers
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.plan import runs_prefix

N, SIDE, BATCH = 24, 32, 8
IMAGES = striped_images(N, np.random.default_rng(0))
LABELS = np.arange(N) % 3
TURNED = Augmentation(rotation=30, shift=0.1, views=2)
STILL = {"fine_tune_learning_rate": 1e-12, "lr_schedule": None, "weight_decay": 0.0}


@functools.cache
def backbone():
    """Return a network whose layers below "high" do few of the multiply-adds."""
    inputs = keras.Input((SIDE, SIDE, 3))
    start = keras.initializers.GlorotUniform
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 5, strides=4, kernel_initializer=start(1), name="low")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(64, 3, padding="same", kernel_initializer=start(2), name="high")(x)
    return keras.Model(inputs, layers.Conv2D(32, 3, kernel_initializer=start(3), name="top")(x))


def classifier(make=TransferClassifier, **changes):
    parameters = {"trainable_layers": "high", "augmentation": TURNED, "batch_size": BATCH}
    parameters |= {"fine_tune_epochs": 2, "fine_tune_learning_rate": 1e-3, "soup": 1.0, "l2": 0.1}
    return make(**({"backbone": backbone(), "random_state": 0} | parameters | changes))


def seen(fitted, whole=False):
    prefix = fitted.prefix_.whole() if whole else fitted.prefix_
    return prefix.forward().images_seen


# --- the cost of the frozen part


def test_multiply_adds_are_those_of_the_kernels_at_all_places():
    inputs = keras.Input((8, 6, 3))
    x = layers.Conv2D(5, 3, strides=2, padding="same")(inputs)  # to 4 x 3 places
    x = layers.DepthwiseConv2D(3, padding="same")(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(7, 3, padding="same")(x)
    x = layers.Dense(2)(layers.GlobalAveragePooling2D()(x))
    of_convolutions = 12 * (3 * 3 * 3 * 5 + 3 * 3 * 5 + (3 * 3 * 5 + 5 * 7))
    assert multiply_adds(keras.Model(inputs, x)) == of_convolutions + 7 * 2


def test_the_bundled_network_has_the_multiply_adds_of_its_description():
    assert multiply_adds(build_tiny((96, 96, 3))) == pytest.approx(56e6, rel=0.02)


def test_both_sides_of_a_cut_do_all_of_the_work():
    network = build_tiny((96, 96, 3))
    everything = multiply_adds(network)
    shares = []
    for block in ("stem", "block1", "block2", "block3", "top"):
        parts = cut(network, block)
        assert sum(map(multiply_adds, parts)) == everything
        shares.append(CutFacts.of(parts).share_below)
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[1] < 0.05
    assert shares[-1] > 0.9
    assert CutFacts.of(cut(network, "block1")).shapes == ((48, 48, 16),)


def test_a_network_without_kernels_has_no_cost_to_share():
    inputs = keras.Input((4, 4, 3))
    facts = CutFacts.of(cut(keras.Model(inputs, layers.ReLU(name="relu")(inputs)), "relu"))
    assert facts == (((4, 4, 3),), 0.0)


def prefix_of(**changes):
    fitted = classifier(augmentation=None, fine_tune_epochs=1, **changes)
    return fitted.fit(IMAGES[:6], LABELS[:6]).prefix_


def test_only_a_cheap_part_on_varied_pixels_is_run(monkeypatch):
    prefix = prefix_of()
    assert 0 < prefix.at_cut().share_below < plans.CHEAP
    assert runs_prefix(TURNED, prefix)
    assert not runs_prefix(None, prefix)
    assert not runs_prefix(Augmentation(mixup=0.3, feature_noise=0.1), prefix)
    assert not runs_prefix(TURNED, prefix.whole())
    assert not runs_prefix(TURNED, dataclasses.replace(prefix, precision="bfloat16"))
    assert not runs_prefix(TURNED, dataclasses.replace(prefix, trainable_layers="all"))
    assert not runs_prefix(TURNED, dataclasses.replace(prefix, trainable_layers="top"))
    monkeypatch.setattr(plans, "CHEAP", prefix.at_cut().share_below)
    assert not runs_prefix(TURNED, prefix)


# --- training


def test_images_go_through_the_frozen_part_in_training_alone():
    fitted = classifier().fit(IMAGES[:6], LABELS[:6])
    at_cut, whole = seen(fitted), seen(fitted, whole=True)
    fitted.fit(IMAGES, LABELS)
    # The head is fitted to features of all views; no activations at the cut are stored.
    in_all = (N - 6) * (1 + TURNED.views)
    assert (seen(fitted) - at_cut, seen(fitted, whole=True) - whole) == (0, in_all)
    high = classifier(trainable_layers="top").fit(IMAGES[:6], LABELS[:6])
    before = seen(high)
    high.fit(IMAGES, LABELS)
    assert seen(high) - before == in_all


@pytest.mark.parametrize("more", [{}, {"mixup": 0.5, "cutmix": 0.5}, {"feature_noise": 0.3}])
def test_losses_are_those_of_activations_of_varied_and_mixed_pixels(more):
    recipe = dataclasses.replace(TURNED, **more)
    fitted = classifier(augmentation=recipe, **STILL).fit(IMAGES, LABELS)
    prefix, head = fitted.prefix_, fitted.head_
    pixels = np.stack([resize_image(image, prefix.size) for image in IMAGES])
    steps = dataclasses.replace(recipe, feature_noise=0.0)
    noise = channel_deviations([prefix.forward()(pixels)], prefix.at_cut().shapes)
    augmenter = Augmenter(steps)
    augmenter.seed_generator.state.assign(np.array([fitted._seed, 0], np.uint32))
    penalty = fitted.l2_ * float(np.sum(head.weights[0] ** 2))
    for epoch, order in enumerate(epoch_orders(samples(), 2, fitted._seed)):
        total = 0.0
        for batch in np.split(order, range(BATCH, N, BATCH)):
            varied = augmenter(pixels[batch], np.eye(3)[LABELS[batch]], np.ones(len(batch)))
            rows, labels, weights = map(ops.convert_to_numpy, varied)
            rows = prefix.forward()(rows)
            if recipe.feature_noise:
                seed = augmenter.seed_generator
                rows = rows + 0.3 * noise * ops.convert_to_numpy(
                    keras.random.normal(rows.shape, seed=seed)
                )
            losses = -(labels * log_softmax(head.scores(rows), axis=1)).sum(axis=1)
            total += float(weights @ losses)
        found = fitted.history_["loss"][fitted.n_head_iter_ + epoch]
        assert found == pytest.approx(total / N + penalty, rel=1e-3)


def samples():
    return Samples.of(np.zeros((N, 1)), LABELS, np.ones(N))


def test_epochs_differ_and_seeds_repeat_them():
    runs = [classifier(random_state=seed, **STILL).fit(IMAGES, LABELS) for seed in (0, 0, 1)]
    losses = [run.history_["loss"][run.n_head_iter_ :] for run in runs]
    assert losses[0][0] != losses[0][1]
    assert losses[0] == losses[1] != losses[2]
    np.testing.assert_array_equal(*(run.predict_proba(IMAGES) for run in runs[:2]))


def test_frozen_layers_stay_and_predictions_go_through_them():
    fitted = classifier(fine_tune_learning_rate=0.01).fit(IMAGES, LABELS)
    assert set(fitted.head_.tuned()) == {"high", "top"}
    model, before = fitted.model_, fold_batch_norm(backbone())
    for found, expected in zip(
        model.get_layer("low").get_weights(), before.get_layer("low").get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    outputs = ops.convert_to_numpy(model(IMAGES.astype(np.float32)))
    np.testing.assert_allclose(fitted.predict_proba(IMAGES), outputs, atol=1e-5)
    np.testing.assert_allclose(
        fitted.head_.scores(fitted.prefix_.forward()(IMAGES)),
        fitted.decision_function(IMAGES),
        atol=1e-5,
    )


def test_the_layers_that_run_in_a_step_are_copies():
    trainers._trainers.clear()
    fitted = classifier().fit(IMAGES, LABELS)
    (below,) = (it._below for it in trainers._trainers.values() if it._below is not None)
    of_user = {id(layer) for layer in backbone().layers}
    assert not of_user & {id(layer) for layer in below.layers if layer.weights}
    np.testing.assert_allclose(
        ops.convert_to_numpy(below(IMAGES.astype(np.float32))),
        fitted.prefix_.forward()(IMAGES),
        atol=1e-5,
    )


def test_validation_images_are_not_varied():
    data = (IMAGES[:9], LABELS[:9])
    fitted = classifier(**STILL).fit(IMAGES, LABELS, validation_data=data)
    losses = fitted.history_["val_loss"][-2:]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    scores = fitted.decision_function(data[0])
    by_hand = -log_softmax(scores, axis=1)[np.arange(9), LABELS[:9]].mean()
    penalty = fitted.l2_ * float(np.sum(fitted.head_.weights[0] ** 2))
    assert losses[0] == pytest.approx(by_hand + penalty, rel=1e-3)


def test_both_crops_of_an_image_are_varied_afresh():
    wide = np.concatenate([IMAGES, IMAGES[:, :, ::-1]], axis=2)[:, :, :50]
    recipe = dataclasses.replace(TURNED, extreme_crops=True)
    fitted = classifier(augmentation=recipe, resize="crop", **STILL).fit(wide, LABELS)
    losses = fitted.history_["loss"][fitted.n_head_iter_ :]
    assert losses[0] != losses[1]
    assert fitted.predict(wide).shape == (N,)


@pytest.mark.slow
def test_numbers_and_heads_with_layers_are_trained_so_too():
    y = np.linspace(0, 9, N)
    fitted = classifier(make=TransferRegressor).fit(IMAGES, y)
    assert fitted.predict(IMAGES).shape == (N,)
    hidden = classifier(hidden_units=(4,), dropout=0.2, epochs=1).fit(IMAGES, LABELS)
    assert np.isfinite(hidden.history_["loss"]).all()


def test_training_goes_on_after_an_interruption_with_the_same_draws():
    class Interrupting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    whole = classifier(fine_tune_epochs=4).fit(IMAGES, LABELS)
    part = classifier(fine_tune_epochs=4, warm_start=True, callbacks=[Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        part.fit(IMAGES, LABELS)
    part.set_params(callbacks=None).fit(IMAGES, LABELS)
    assert part.history_["loss"] == whole.history_["loss"]
    np.testing.assert_array_equal(part.predict_proba(IMAGES), whole.predict_proba(IMAGES))


def test_cutmix_pastes_pixels_where_several_tensors_cross_the_cut(monkeypatch):
    inputs = keras.Input((SIDE, SIDE, 3))
    low = layers.Conv2D(4, 5, strides=4, name="low")(inputs)
    high = layers.Conv2D(8, 3, name="high")(low)
    own = keras.Model(inputs, layers.Concatenate()([high, layers.Cropping2D(1)(low)]))
    recipe = dataclasses.replace(TURNED, cutmix=1.0)
    skipping = classifier(augmentation=recipe, backbone=own, preprocessing="tf")
    with pytest.raises(InvalidParameterError, match="2 tensors .* Set cutmix=0 and mixup"):
        skipping.fit(IMAGES, LABELS)
    monkeypatch.setattr(plans, "CHEAP", 1.0)
    assert np.isfinite(skipping.fit(IMAGES, LABELS).history_["loss"]).all()


@pytest.mark.newest
def test_archives_and_pickles_predict_the_same():
    fitted = classifier(fine_tune_epochs=1).fit(IMAGES, LABELS)
    file = io.BytesIO()
    save_model(fitted, file)
    for other in (load_model(file, backbone=backbone()), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(
            other.predict_proba(IMAGES), fitted.predict_proba(IMAGES), atol=1e-6
        )


def test_verbose_says_what_share_the_frozen_part_has(capsys):
    fitted = classifier(verbose=1).fit(IMAGES, LABELS)
    share = fitted.prefix_.at_cut().share_below
    text = capsys.readouterr().out
    assert f"images are varied afresh: the frozen part does {share:.0%} of the" in text
    classifier(trainable_layers="top", verbose=1).fit(IMAGES, LABELS)
    assert "varied afresh" not in capsys.readouterr().out


def test_pixels_in_a_file_are_trained_on_as_those_in_memory():
    recipe = dataclasses.replace(TURNED, mixup=0.3, feature_noise=0.2)
    how = {"augmentation": recipe, "soup": "auto"}
    runs = [
        classifier(max_memory=most, **how).fit(
            IMAGES, LABELS, validation_data=(IMAGES[:9], LABELS[:9])
        )
        for most in ("1GB", 1)
    ]
    for name, values in runs[0].history_.items():
        assert runs[1].history_[name] == pytest.approx(values, rel=1e-5)
    np.testing.assert_allclose(*(run.predict_proba(IMAGES) for run in runs), atol=1e-5)
