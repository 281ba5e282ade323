"""Activations at the cut, and features, that are mixed or get noise while a suffix is trained."""

import dataclasses
import functools
import io
import pickle
import warnings
from contextlib import contextmanager

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_helpers import striped_images
from keras import layers, ops
from scipy.special import expit, log_softmax
from sklearn.base import clone

from transferclf import (
    Augmentation,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    load_model,
    save_model,
)
from transferclf.augmentation.afresh import Augmenter, channel_deviations
from transferclf.augmentation.recipe import PRESETS
from transferclf.augmentation.views import View
from transferclf.exceptions import ArchiveError, ImageReadError, InvalidParameterError
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Classes
from transferclf.objectives.multilabel import MultiLabel
from transferclf.objectives.numbers import Numbers
from transferclf.persistence.facts import Facts
from transferclf.persistence.parameters import restored_fields
from transferclf.training import batches
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.phases import Start, fit_phase
from transferclf.training.recipe import Method, Recipe

N, SIDE = 24, 32
IMAGES = striped_images(N, np.random.default_rng(0))
LABELS = np.arange(N) % 3
MAP = [(3, 2, 5)]
SEVERAL = [(2, 2, 3), (7,), (4, 2)]
MIXUP, NOISE = Augmentation(mixup=0.5), Augmentation(feature_noise=0.4)


def rows_of(shapes, n=32, seed=0):
    width = sum(int(np.prod(shape)) for shape in shapes)
    return np.random.default_rng(seed).normal(3, 2, (n, width)).astype(np.float32)


def varied(recipe, rows, shapes, labels=None, weights=None):
    """Return varied rows, labels and weights; by default each row is a class of its own."""
    augmenter = Augmenter(recipe, shapes)
    augmenter.measure([rows])
    labels = np.eye(len(rows)) if labels is None else labels
    weights = np.ones(len(rows)) if weights is None else weights
    return [ops.convert_to_numpy(tensor) for tensor in augmenter(rows, labels, weights)]


# --- mixing


@pytest.mark.parametrize("shapes", [MAP, SEVERAL, [(9,)], [(1, 1, 4)]])
def test_blended_rows_are_convex_combinations_with_the_shares_of_the_labels(shapes):
    rows = rows_of(shapes)
    mixed, labels, weights = varied(MIXUP, rows, shapes)
    np.testing.assert_allclose(mixed, labels @ rows, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(weights, 1, atol=1e-6)
    assert labels.min() >= 0
    assert ((labels > 0).sum(axis=1) == 2).sum() > 20
    assert (np.diag(labels) > 0).all()


def test_blended_labels_are_weighted_by_sample_weights():
    rows = rows_of(SEVERAL)
    given = np.random.default_rng(1).uniform(0.5, 3, len(rows))
    mixed, labels, weights = varied(MIXUP, rows, SEVERAL, weights=given)
    found = 0
    for own, row in enumerate(mixed):
        partners = np.flatnonzero(labels[own] * (np.arange(len(rows)) != own))
        if not len(partners):
            np.testing.assert_allclose(row, rows[own], rtol=1e-5)
            continue
        other, found = partners[0], found + 1
        share = (row - rows[other]) @ (rows[own] - rows[other])
        share /= np.sum((rows[own] - rows[other]) ** 2)
        parts = share * given[own], (1 - share) * given[other]
        np.testing.assert_allclose(weights[own], sum(parts), rtol=1e-3)
        np.testing.assert_allclose(labels[own, own], parts[0] / sum(parts), atol=1e-3)
    assert found > 20


def test_a_box_of_the_map_is_pasted_and_labels_have_the_shares_of_the_places():
    shapes = [(6, 5, 2)]
    rows = rows_of(shapes)
    mixed, labels, _ = varied(Augmentation(cutmix=1.0), rows, shapes)
    assert mixed.shape == rows.shape
    maps, of_mixed = (x.reshape(-1, *shapes[0]) for x in (rows, mixed))
    for own, found in enumerate(of_mixed):
        is_own = (found == maps[own]).all(axis=-1)
        np.testing.assert_allclose(labels[own, own], is_own.mean(), atol=1e-6)
        if not is_own.all():
            (other,) = np.flatnonzero(labels[own] * (np.arange(len(rows)) != own))
            np.testing.assert_array_equal(found[~is_own], maps[other][~is_own])
            down, across = np.nonzero(~is_own)
            box = is_own[down.min() : down.max() + 1, across.min() : across.max() + 1]
            assert not box.any()
    assert ((labels > 0).sum(axis=1) == 2).sum() > 20


def test_with_both_each_row_is_blended_or_pasted_into():
    rows = rows_of([(6, 5, 2)], n=64)
    recipe = Augmentation(mixup=1.0, cutmix=1.0)
    mixed, labels, _ = varied(recipe, rows, [(6, 5, 2)])
    is_pasted = np.isin(mixed, rows).all(axis=1)
    assert 10 < is_pasted.sum() < 54
    blended = ~is_pasted
    np.testing.assert_allclose(mixed[blended], labels[blended] @ rows, rtol=1e-4, atol=1e-4)


def test_pixels_are_mixed_as_rows_of_their_shape_are():
    pixels = np.random.default_rng(0).uniform(0, 255, (8, 6, 5, 3)).astype(np.float32)
    recipe = Augmentation(mixup=0.4, cutmix=1.0)
    on_pixels = varied(recipe, pixels, None)
    on_rows = varied(recipe, pixels.reshape(8, -1), [(6, 5, 3)])
    np.testing.assert_array_equal(on_pixels[0].reshape(8, -1), on_rows[0])
    np.testing.assert_array_equal(on_pixels[1], on_rows[1])


def test_activations_are_not_varied_as_pixels_are():
    rows = rows_of(MAP)
    steps = dataclasses.replace(PRESETS["strong"], mixup=0.5)
    assert steps.of_activations == MIXUP
    assert PRESETS["strong"].of_activations is None
    np.testing.assert_array_equal(varied(steps, rows, MAP)[0], varied(MIXUP, rows, MAP)[0])


# --- noise


def test_noise_has_a_share_of_the_deviation_of_each_channel_and_mean_zero():
    shapes, n = [(4, 3, 2), (5,)], 4000
    scales = np.array([*np.tile([1.0, 10.0], 12), 0.1, 1, 2, 3, 0])
    rows = (np.random.default_rng(0).normal(7, 1, (n, 29)) * scales).astype(np.float32)
    augmenter = Augmenter(NOISE, shapes)
    augmenter.measure([rows])
    found = ops.convert_to_numpy(augmenter(rows, np.eye(n)[:, :2], np.ones(n))[0])
    noise = found.astype(float) - rows
    wanted = 0.4 * channel_deviations([rows], shapes)
    np.testing.assert_array_equal(noise[:, -1], 0)  # a channel that is constant
    is_varied = scales > 0
    np.testing.assert_allclose(noise.std(axis=0)[is_varied], wanted[is_varied], rtol=0.06)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=5 * wanted.max() / np.sqrt(n))
    # Each number has noise of its own, and each batch.
    correlations = np.corrcoef(noise[:, is_varied].T) - np.eye(28)
    assert np.abs(correlations).max() < 0.08
    again = ops.convert_to_numpy(augmenter(rows, np.eye(n)[:, :2], np.ones(n))[0]) - rows
    assert abs(np.corrcoef(noise[:, 0], again[:, 0])[0, 1]) < 0.08


def test_noise_alone_leaves_labels_and_weights():
    rows = rows_of(SEVERAL)
    given = np.random.default_rng(1).uniform(0.5, 3, len(rows)).astype(np.float32)
    _, labels, weights = varied(NOISE, rows, SEVERAL, weights=given)
    np.testing.assert_array_equal(labels, np.eye(len(rows)))
    np.testing.assert_array_equal(weights, given)


def test_mixing_does_not_average_the_noise():
    rows = np.tile(rows_of([(3,)], n=1), (4000, 1))  # equal rows, so that mixing changes none
    augmenter = Augmenter(Augmentation(mixup=5.0, feature_noise=1.0), [(3,)])
    augmenter.measure([np.diag([2.0, 1, 4])])
    found = ops.convert_to_numpy(augmenter(rows, np.ones((4000, 1)), np.ones(4000))[0])
    np.testing.assert_allclose(found.std(axis=0), np.diag([2.0, 1, 4]).std(axis=0), rtol=0.05)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_deviations_are_those_of_all_rows_and_places_in_parts_of_any_size(data):
    shapes = data.draw(st.sampled_from([MAP, SEVERAL, [(4,)], [(2, 1, 3), (2, 3)]]))
    n, seed = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 9))
    rows, expected, start = rows_of(shapes, n, seed), [], 0
    rows *= np.random.default_rng(seed).choice([0, 1e-3, 1, 1e3], rows.shape[1])
    for shape in shapes:
        part = rows[:, start : start + np.prod(shape)].astype(float).reshape(n, *shape)
        deviations = part.std(axis=tuple(range(len(shape))))
        expected.append(np.broadcast_to(deviations, shape).ravel())
        start += np.prod(shape)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "PART_BYTES", data.draw(st.integers(1, 5000)))
        parts = list(Samples.of(rows, np.zeros(n), np.ones(n)).parts())
    found = channel_deviations(parts, shapes)
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-9, atol=1e-12)


# --- the loss of a phase


OBJECTIVES = {
    "classes": (Classes.numbered(3), np.arange(50) % 3),
    "labels": (MultiLabel(np.arange(2)), np.random.default_rng(2).integers(0, 2, (50, 2))),
    "numbers": Numbers.encode(np.random.default_rng(2).normal(5, 3, (50, 2)), 50),
}


def loss_by_hand(kind, scores, targets):
    if kind == "classes":
        return -(targets * log_softmax(scores, axis=1)).sum(axis=1)
    if kind == "labels":
        chances = expit(scores)
        return -(targets * np.log(chances) + (1 - targets) * np.log1p(-chances)).mean(axis=1)
    return ((scores - targets) ** 2).sum(axis=1)


def trained(kind, augmentation, seed=3, **changes):
    """Train a linear head on features by hardly moving steps; return it and its samples."""
    objective, targets = OBJECTIVES[kind]
    rows = rows_of([(7,)], n=50)
    samples = Samples.of(rows, targets, np.random.default_rng(4).uniform(0.2, 2, 50))
    recipe = Recipe(
        Method("sgd", augmentation),
        **{"learning_rate": 1e-12, "epochs": 2, "batch_size": 16, "seed": seed} | changes,
    )
    start = Start(rows.mean(axis=0), rows.std(axis=0))
    return fit_phase(Suffix(objective, width=7), recipe, samples, start), samples


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("recipe", [MIXUP, NOISE, Augmentation(mixup=0.5, feature_noise=0.4)])
def test_the_loss_is_that_of_mixed_rows_and_targets(kind, recipe):
    head, samples = trained(kind, recipe)
    targets = samples.targets
    augmenter = Augmenter(recipe, [(7,)])
    augmenter.measure([samples.rows])
    augmenter.seed_generator.state.assign(np.array([3, 0], np.uint32))
    spread = np.eye(3)[targets] if kind == "classes" else targets.astype(float)
    weights = samples.weights / samples.weights.mean()
    kernel, bias = head.weights
    for epoch, order in enumerate(epoch_orders(samples, 2, seed=3)):
        total = 0.0
        for batch in np.split(order, range(16, 50, 16)):
            mixed = augmenter(samples.rows[batch], spread[batch], weights[batch])
            rows, labels, shares = (ops.convert_to_numpy(x).astype(float) for x in mixed)
            scores = (rows - head.mean) / head.scale @ kernel + bias
            total += shares @ loss_by_hand(kind, scores, labels)
        assert head.history["loss"][epoch] == pytest.approx(total / 50, rel=1e-4)


def test_equal_seeds_give_equal_heads_and_others_other_ones():
    recipe, how = Augmentation(mixup=0.5, feature_noise=0.4), {"learning_rate": 0.1, "epochs": 3}
    one, again, other = (trained("classes", recipe, seed, **how)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.weights[0], again.weights[0])
    assert one.history == again.history
    assert np.abs(one.weights[0] - other.weights[0]).max() > 1e-4


def test_fits_on_other_rows_that_share_a_trainer_measure_their_own_noise():
    far, near = (
        varied(NOISE, factor * rows_of([(7,)]), [(7,)])[0] - factor * rows_of([(7,)])
        for factor in (10, 1)
    )
    assert far.std() == pytest.approx(10 * near.std(), rel=0.2)
    rows = rows_of([(7,)], n=50)
    losses = []
    for factor in (1, 10, 1):
        samples = Samples.of(factor * rows, LABELS[:1].repeat(50), np.ones(50))
        recipe = Recipe(Method("sgd", NOISE), learning_rate=0.1, epochs=2, batch_size=16)
        start = Start(factor * rows.mean(axis=0), factor * rows.std(axis=0))
        suffix = Suffix(Classes.numbered(3), width=7)
        losses.append(fit_phase(suffix, recipe, samples, start).history["loss"])
    # Standardised, rows on another scale with noise on that scale are the same.
    assert losses[0] == losses[2] == pytest.approx(losses[1], rel=1e-4)


# --- estimators


@functools.cache
def backbone(kind="maps"):
    """Return a small network with the layers "low" and "high".

    At "high", kind "maps" has one map, "skip" two maps, "tokens" a row of tokens.
    """
    inputs = keras.Input((SIDE, SIDE, 3))
    start = keras.initializers.GlorotUniform
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Conv2D(4, 5, strides=4, kernel_initializer=start(1), name="low")(x)
    x = layers.ReLU(name="relu")(x)
    if kind == "tokens":
        x = layers.Reshape((-1, 4))(x)
        return keras.Model(inputs, layers.Dense(6, kernel_initializer=start(2), name="high")(x))
    before = layers.Conv2D(4, 1, kernel_initializer=start(3), name="mid")(x)
    x = layers.Conv2D(4, 3, padding="same", kernel_initializer=start(2), name="high")(before)
    if kind == "skip":
        x = layers.Add(name="skip")([layers.Conv2D(4, 1, name="after")(x), layers.ReLU()(before)])
    return keras.Model(inputs, x)


def of_cut(augmentation, kind="maps", make=TransferClassifier, **changes):
    parameters = {"trainable_layers": "high", "fine_tune_epochs": 3, "batch_size": 8, "l2": 0.1}
    parameters |= {"fine_tune_learning_rate": 1e-3, "soup": 1.0, "random_state": 0}
    return make(backbone(kind), augmentation=augmentation, **(parameters | changes))


def of_head(augmentation, **changes):
    parameters = {"hidden_units": (8,), "epochs": 4, "batch_size": 8, "random_state": 0}
    return TransferClassifier(backbone(), augmentation=augmentation, **(parameters | changes))


ALL_MIXED = Augmentation(mixup=0.5, cutmix=0.5, feature_noise=0.3)


@pytest.mark.parametrize("kind", ["maps", "skip", "tokens"])
def test_fine_tuning_mixes_activations_at_the_cut_and_nothing_before(kind):
    plain = of_cut(None, kind).fit(IMAGES, LABELS)
    mixed, again = (of_cut(MIXUP, kind).fit(IMAGES, LABELS) for _ in range(2))
    head = plain.n_head_iter_
    assert mixed.history_["loss"][:head] == plain.history_["loss"][:head]
    assert mixed.history_["loss"][head] > plain.history_["loss"][head] + 0.03
    assert mixed.history_ == again.history_
    np.testing.assert_array_equal(mixed.predict_proba(IMAGES), again.predict_proba(IMAGES))


def test_one_map_may_be_cut_and_gets_noise():
    plain, mixed = (of_cut(recipe).fit(IMAGES, LABELS) for recipe in (None, ALL_MIXED))
    head = plain.n_head_iter_
    assert mixed.history_["loss"][head] != plain.history_["loss"][head]
    assert np.isfinite(mixed.history_["loss"]).all()


def test_nothing_is_varied_in_predictions():
    fitted = of_cut(ALL_MIXED).fit(IMAGES, LABELS)
    found = fitted.predict_proba(IMAGES)
    np.testing.assert_array_equal(found, fitted.predict_proba(IMAGES))
    outputs = ops.convert_to_numpy(fitted.model_(IMAGES.astype(np.float32), training=True))
    np.testing.assert_allclose(found, outputs, atol=1e-5)
    fitted.set_params(test_time_augmentation="views")  # mixing and noise make no views
    np.testing.assert_array_equal(found, fitted.predict_proba(IMAGES))


@pytest.mark.parametrize(
    "recipe", [MIXUP, NOISE, Augmentation(mixup=0.5, rotation=20, feature_noise=0.2, views=1)]
)
def test_a_head_that_keras_trains_has_its_features_varied(recipe):
    steps = dataclasses.replace(recipe, mixup=0.0, feature_noise=0.0)
    plain = of_head(steps if steps.varies else None).fit(IMAGES, LABELS)
    mixed, again = (of_head(recipe).fit(IMAGES, LABELS) for _ in range(2))
    assert mixed.history_ == again.history_
    assert mixed.history_["loss"][0] != plain.history_["loss"][0]
    np.testing.assert_array_equal([len(head.history_["loss"]) for head in (plain, mixed)], [4, 4])


def test_maps_below_a_head_of_your_own_may_be_cut():
    def pooled(x):
        return layers.GlobalAveragePooling2D()(x)

    how = {"hidden_units": (), "head": pooled}
    plain, mixed = (of_head(each, **how).fit(IMAGES, LABELS) for each in (None, ALL_MIXED))
    assert mixed.history_["loss"] != plain.history_["loss"]


@contextmanager
def ignored_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_partial_fit_varies_features_too():
    fits = []
    for recipe in (None, MIXUP, MIXUP, NOISE):
        fitted = TransferClassifier(backbone(), augmentation=recipe, random_state=0, batch_size=8)
        for part in (slice(0, 12), slice(12, N)):
            with ignored_warnings():  # of few images in the first call
                fitted.partial_fit(IMAGES[part], LABELS[part], classes=[0, 1, 2])
        fits.append(fitted.predict_proba(IMAGES))
    np.testing.assert_array_equal(fits[1], fits[2])
    for other in fits[1:2] + fits[3:]:
        assert np.abs(other - fits[0]).max() > 1e-5


@pytest.mark.parametrize("y", [np.linspace(-3, 9, N), np.eye(4)[np.arange(N) % 4] * 5])
def test_numbers_are_mixed(y):
    how = {"make": TransferRegressor}
    plain, mixed = (of_cut(each, **how).fit(IMAGES, y) for each in (None, ALL_MIXED))
    head = plain.n_head_iter_
    assert mixed.history_["loss"][head] != plain.history_["loss"][head]
    assert mixed.predict(IMAGES).shape == y.shape


def test_several_labels_are_mixed():
    table = np.stack([LABELS == 1, LABELS < 2], axis=1).astype(int)
    plain, mixed = (of_cut(each).fit(IMAGES, table) for each in (None, ALL_MIXED))
    head = plain.n_head_iter_
    assert mixed.history_["loss"][head] != plain.history_["loss"][head]
    assert mixed.predict(IMAGES).shape == table.shape


def test_training_goes_on_after_an_interruption_with_the_same_draws():
    class Interrupting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1 and "high" in [layer.name for layer in self.model.layers]:
                raise KeyboardInterrupt

    whole = of_cut(ALL_MIXED).fit(IMAGES, LABELS)
    part = of_cut(ALL_MIXED, warm_start=True, callbacks=[Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        part.fit(IMAGES, LABELS)
    part.set_params(callbacks=None).fit(IMAGES, LABELS)
    assert part.history_["loss"] == whole.history_["loss"]
    np.testing.assert_array_equal(part.predict_proba(IMAGES), whole.predict_proba(IMAGES))


# --- what is refused, before files are read


def refused(estimator, message, folder, y=None):
    path = folder / "broken.png"
    path.write_bytes(b"no image")
    y = np.arange(6) % 3 if y is None else y
    with pytest.raises(InvalidParameterError, match=message):
        estimator.fit([path] * 6, y)
    with pytest.raises(ImageReadError):
        clone(estimator).set_params(augmentation=None).fit([path] * 6, y)


CUTMIX = Augmentation(cutmix=1.0, rotation=5)


@pytest.mark.parametrize(
    ("estimator", "what"),
    [
        (of_cut(CUTMIX, "skip"), r"'high' are 2 tensors of shapes \(7, 7, 4\), \(7, 7, 4\)"),
        (of_cut(CUTMIX, "tokens"), r"'high' are tokens of shape \(49, 4\)"),
        (of_head(CUTMIX), "whole backbone are numbers without places"),
    ],
    ids=["several", "tokens", "features"],
)
def test_cutmix_needs_one_map_and_the_error_names_mixup(estimator, what, tmp_path):
    refused(estimator, what + r". Set cutmix=0 and mixup", tmp_path)
    if estimator.trainable_layers:
        refused(estimator, "trainable_layers='all', which pastes pixels", tmp_path)


@pytest.mark.parametrize("name", ["mixup", "cutmix", "feature_noise"])
def test_heads_that_no_batches_train_refuse_what_varies_batches(name, tmp_path):
    recipe = Augmentation(**{name: 0.3})
    head = TransferClassifier(backbone(), augmentation=recipe)
    refused(head, f"{name} of Augmentation vary each batch.*set optimizer='adam'", tmp_path)
    ridge = TransferRegressor(backbone(), augmentation=recipe)
    refused(ridge, "a linear head to all features at once", tmp_path, np.arange(6.0))


@pytest.mark.parametrize(
    "estimator",
    [
        of_cut(NOISE, trainable_layers="all"),
        TransferClassifier(ConvNet((4,), dense_units=()), image_size=8, augmentation=NOISE),
    ],
    ids=["all", "scratch"],
)
def test_noise_on_activations_needs_frozen_layers(estimator, tmp_path):
    refused(estimator, "set noise, which is noise on pixels, and feature_noise=0", tmp_path)


@pytest.mark.parametrize(
    "value", [-0.1, 10.5, np.nan, np.inf, -np.inf, True, "1", None, [0.1], np.ones(1), 1j, 10**400]
)
def test_hostile_amounts_of_noise_are_refused(value):
    with pytest.raises(InvalidParameterError, match="feature_noise of Augmentation must be a "):
        Augmentation(rotation=5, feature_noise=value).check()
    with pytest.raises(InvalidParameterError, match="feature_noise of Augmentation must be a "):
        of_cut(Augmentation(feature_noise=value)).fit(IMAGES, LABELS)


def test_any_number_within_the_range_is_accepted():
    for value in (0, 10, np.float32(0.5), np.int64(1), 1e-300):
        Augmentation(rotation=5, feature_noise=value).check()
    Augmentation(feature_noise=1e-300).check()
    with pytest.raises(InvalidParameterError, match="must have something to vary"):
        Augmentation(feature_noise=0).check()


# --- keys, archives and pickles


def test_recipes_and_views_have_the_digests_of_before():
    known = [
        (
            Augmentation(rotation=5),
            "a6aef8d39ceaf6c0ac8f6fcbe10249bf361760459180348a162e3dab054066e7",
            "d464c50690818a793e3950df67fd7ff3b2ed670617ca84c58b991b07b1ea1809",
        ),
        (
            PRESETS["light"],
            "246b63e66e27702d1b42767391699d5891067a33b68e612706a620e5eddb4662",
            "b4420202a95c05142ac0d49db1ec9d80120121a076b5d312b67d6b269025861a",
        ),
        (
            Augmentation(rotation=5, mixup=0.4, cutmix=1.0),
            "b69e0eb0d4aed016d940fdbe1b2a1b9dc35dc88be2a96464045bdae09d50bbb7",
            "d464c50690818a793e3950df67fd7ff3b2ed670617ca84c58b991b07b1ea1809",
        ),
    ]
    for recipe, digest, of_view in known:
        assert recipe.digest == digest
        assert View(recipe, 2).digest == of_view
        noisy = dataclasses.replace(recipe, feature_noise=0.5)
        assert noisy.digest != digest
        assert View(noisy, 2) == View(recipe, 2)


def test_mixing_and_noise_find_the_stored_activations_of_the_views():
    views = Augmentation(rotation=30, views=2)
    of_cut(views).fit(IMAGES, LABELS)
    noisy = of_cut(dataclasses.replace(views, mixup=0.3, feature_noise=0.2))
    before = noisy.fit(IMAGES[:6], LABELS[:6]).prefix_.forward().images_seen
    assert noisy.fit(IMAGES, LABELS).prefix_.forward().images_seen == before


def test_archives_pickles_and_clones_keep_noise():
    recipe = Augmentation(mixup=0.5, feature_noise=0.25)
    how = {"image_size": SIDE, "hidden_units": (8,), "epochs": 2, "random_state": 0}
    fitted = TransferClassifier("tiny", augmentation=recipe, **how).fit(IMAGES, LABELS)
    file, plain = io.BytesIO(), io.BytesIO()
    save_model(fitted, file)
    loaded, unpickled = load_model(file), pickle.loads(pickle.dumps(fitted))
    for each in (loaded, unpickled):
        assert each.augmentation == each.augmentation_ == recipe
        np.testing.assert_allclose(
            each.predict_proba(IMAGES), fitted.predict_proba(IMAGES), atol=1e-6
        )
    assert clone(fitted).augmentation == recipe
    assert b"feature_noise" in file.getvalue()
    # Earlier versions can read archives of recipes without noise.
    save_model(fitted.set_params(augmentation__feature_noise=0).fit(IMAGES, LABELS), plain)
    assert b"feature_noise" not in plain.getvalue()


def test_archives_with_hostile_noise_are_refused():
    facts = {"mixup": 0.5, "feature_noise": 1e6}
    with pytest.raises(ArchiveError, match="feature_noise of Augmentation must be"):
        restored_fields(Augmentation, Facts(facts, "augmentation"))
