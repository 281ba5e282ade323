"""Augmentation in the classifier: fixed views, new ones each epoch, predictions; and imbalance."""

import numpy as np
import pytest
from fine_tuning_helpers import ALL_IMAGES
from head_helpers import probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from image_helpers import striped_images
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from transferclf import Augmentation, ConvNet, FeatureStore, TransferClassifier
from transferclf.augmentation.views import View
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.heads.linear import LinearHead, fit_linear
from transferclf.images import check_images, resize_image
from transferclf.images.loading import content_digests
from transferclf.objectives import Classes
from transferclf.training import trainer as trainers
from transferclf.training.batches import Samples, epoch_orders

N, SIDE = 24, 32
TURNED = Augmentation(rotation=30, shift=0.1, views=2)


@pytest.fixture
def images(rng):
    return striped_images(N, rng)


@pytest.fixture
def labels():
    return np.arange(N) % 3


def tiny(**changes):
    by_keras = {"epochs": 3} if {"hidden_units", "optimizer"} & changes.keys() else {}
    parameters = {"image_size": SIDE, "l2": 0.1, "random_state": 0} | by_keras
    return TransferClassifier("tiny", **(parameters | changes))


def plain_net(**changes):
    parameters = {"image_size": SIDE, "epochs": 3, "random_state": 0}
    backbone = ConvNet(filters=(4, 8), dense_units=(8,))
    return TransferClassifier(backbone, **(parameters | changes))


def seen(classifier):
    return classifier.prefix_.forward().images_seen


def pixels_of(images, mode="crop"):
    return np.stack([resize_image(image, (SIDE, SIDE), mode) for image in images]).astype("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_units": (8,), "dropout": 0.1, "epochs": 30},
        {"trainable_layers": "top", "fine_tune_epochs": 1, "soup": 1.0},
        {"cache": "disk"},
    ],
)
def test_every_view_of_an_image_goes_through_the_frozen_part_once(
    images, labels, changes, tmp_path
):
    if "cache" in changes:
        changes = {"cache": FeatureStore(tmp_path, dtype="float16")}
    few = tiny(augmentation=TURNED, **changes).fit(images[:1].repeat(2, axis=0), [0, 1])
    before = seen(few)
    twice = np.concatenate([images, images[:5]])
    fitted = tiny(augmentation=TURNED, **changes)
    fitted.fit(twice, np.concatenate([labels, labels[:5]]))
    assert seen(fitted) - before == (N - 1) * (1 + TURNED.views)
    fitted.set_params(l2=0.3, random_state=0).fit(images, labels)
    fitted.set_params(augmentation=None).fit(images, labels)
    assert seen(fitted) - before == (N - 1) * (1 + TURNED.views)
    assert fitted.score(images, labels) > 0.5


def test_folds_and_grid_points_share_the_views(images, labels):
    few = tiny(augmentation=TURNED).fit(images[:1].repeat(2, axis=0), [0, 1])
    before = seen(few)
    grid = {"l2": [0.01, 0.1], "augmentation": [None, TURNED, Augmentation(rotation=30, shift=0.1)]}
    search = GridSearchCV(tiny(), grid, cv=2).fit(images, labels)
    # The four views of the last recipe include the two of the other.
    assert seen(search.best_estimator_) - before == (N - 1) * (1 + 4) + 2
    assert search.best_score_ > 0.5


@pytest.mark.parametrize("changes", [{}, {"hidden_units": (32,), "epochs": 15}])
def test_training_on_views_raises_their_score(changes):
    digits = load_digits()
    gray, answers = (digits.images * 15).astype(np.uint8), digits.target
    upside_down, truth = gray[150:300, ::-1], answers[150:300]
    plain = tiny(**changes).fit(gray[:150], answers[:150])
    flips = Augmentation(vertical_flip=True, views=3)
    varied = tiny(augmentation=flips, **changes).fit(gray[:150], answers[:150])
    assert varied.score(upside_down, truth) > plain.score(upside_down, truth) + 0.1
    assert varied.augmentation_ == flips
    assert plain.augmentation_ is None


def test_linear_heads_are_fitted_to_the_features_of_all_views(images, labels):
    varied = tiny(augmentation=TURNED).fit(images, labels)
    assert isinstance(varied.head_, LinearHead)
    every = [varied.prefix_.forward()(view) for view in looks_at(images)]
    head = fit_linear(
        np.concatenate(every),
        np.tile(labels, len(every)),
        Classes.numbered(3),
        l2=0.1,
        sample_weight=np.ones(3 * N),
    )
    np.testing.assert_allclose(
        varied.predict_proba(images), probabilities(head, every[0]), atol=1e-3
    )


def looks_at(images, augmentation=TURNED):
    """Return the images and their views, computed without the classifier."""
    pixels, digests = pixels_of(images), content_digests(check_images(images))
    numbers = range(1, augmentation.views + 1)
    return [pixels, *(View(augmentation, number).of(pixels, digests) for number in numbers)]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_every_epoch_has_every_sample_once_in_one_of_its_views(data):
    n_images, n_views = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4))
    more = data.draw(st.lists(st.integers(0, n_images - 1), max_size=6))
    positions = np.concatenate([np.arange(n_images), np.array(more, int)])
    labels = np.arange(n_images)
    samples = Samples.of(np.zeros((n_views * n_images, 2)), labels, np.ones(n_images), positions)
    seed = data.draw(st.integers(0, 2**32 - 1))
    orders = list(epoch_orders(samples, 3, seed))
    for order in orders:
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order % n_images), np.sort(positions))
        assert 0 <= order.min() <= order.max() < n_views * n_images
    fewer = list(epoch_orders(samples, 2, seed))
    np.testing.assert_array_equal(fewer, orders[:2])


def test_copies_of_an_image_have_different_views():
    positions = np.array([0, 1, 1, 1])
    samples = Samples.of(np.zeros((10, 1)), np.array([0, 1]), np.ones(2), positions)
    views = [np.sort(order[order % 2 == 1] // 2) for order in epoch_orders(samples, 60, seed=0)]
    assert sum(len(set(three)) > 1 for three in views) > 40
    assert set(np.concatenate(views)) == set(range(5))


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation",
    ["light", Augmentation(mixup=0.5, cutmix=1.0, noise=3)],
)
def test_pixels_are_varied_afresh_in_every_epoch(images, labels, augmentation):
    still = {"optimizer": "sgd", "learning_rate": 1e-12, "epochs": 4}
    plain = plain_net(**still).fit(images, labels).history_["loss"]
    assert np.ptp(plain) < 1e-5
    varied, again, other = (
        plain_net(augmentation=augmentation, **(still | {"random_state": seed})).fit(images, labels)
        for seed in (0, 0, 1)
    )
    losses = varied.history_["loss"]
    assert len(np.unique(np.round(losses, 5))) == 4
    assert losses == again.history_["loss"] != other.history_["loss"]


def test_training_of_all_layers_may_mix_images(images, labels):
    import keras

    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    starting = keras.initializers.GlorotUniform(5)
    x = keras.layers.Conv2D(4, 5, strides=3, kernel_initializer=starting, name="conv")(x)
    own = keras.Model(inputs, x)
    how = {"backbone": own, "trainable_layers": "all", "fine_tune_learning_rate": 1e-3}
    how |= {"l2": 0.1, "random_state": 0, "fine_tune_epochs": 2, **ALL_IMAGES}
    mixing = Augmentation(mixup=0.3, cutmix=0.3)
    mixed = TransferClassifier(**how | {"augmentation": mixing}).fit(images, labels)
    plain = TransferClassifier(**how).fit(images, labels)
    assert np.isfinite(mixed.history_["loss"]).all()
    head = mixed.n_head_iter_  # fitted to the features of the images without augmentation
    assert mixed.history_["loss"][:head] == pytest.approx(plain.history_["loss"][:head])
    assert mixed.history_["loss"][head] > plain.history_["loss"][head] + 0.05


@pytest.mark.parametrize("mix", [{"mixup": 0.2}, {"cutmix": 1.0, "rotation": 5}])
def test_a_head_that_is_fitted_to_all_features_at_once_mixes_none(images, labels, mix):
    classifier = tiny(augmentation=Augmentation(**mix))
    with pytest.raises(InvalidParameterError, match="set optimizer='adam', hidden_units or"):
        classifier.fit(images, labels)


@pytest.fixture
def wide(rng):
    images = striped_images(N, rng)
    return np.concatenate([images, images[:, :, ::-1]], axis=2)[:, :, :50]


@pytest.mark.parametrize("make", [tiny, plain_net])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("looks", ["views", "crops", "both"])
def test_predictions_average_all_looks(wide, make, n_classes, looks):
    labels = np.array(["a", "b", "c"])[np.arange(N) % n_classes]
    fitted = make(augmentation=TURNED, test_time_augmentation=looks).fit(wide, labels)
    seen_as = looks_at(wide) if looks != "crops" else []
    if looks != "views":
        seen_as += [pixels_of(wide, "first"), pixels_of(wide, "last")]
    at_cut = (lambda rows: rows) if fitted.prefix_.is_empty else fitted.prefix_.forward()
    by_hand = np.mean([probabilities(fitted.head_, at_cut(look)) for look in seen_as], axis=0)
    before = dict(fitted.__dict__)
    found = fitted.predict_proba(wide)
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    plain = fitted.set_params(test_time_augmentation=None).predict_proba(wide)
    assert np.abs(plain - found).max() > 1e-4
    fitted.set_params(test_time_augmentation=looks)
    scores = fitted.decision_function(wide)
    best = (scores > 0).astype(int) if n_classes == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(fitted.predict(wide), fitted.classes_[best])
    np.testing.assert_array_equal(best, found.argmax(axis=1))
    # Looks are averaged in double precision.
    some = fitted.predict_proba(wide[5:12])
    np.testing.assert_allclose(some, found[5:12], rtol=1e-12, atol=0)
    with pytest.raises(ImageError, match="at least one image"):
        fitted.predict_proba(wide[:0])
    assert fitted.__dict__ == before


def test_mixing_alone_adds_no_views_to_predictions(images, labels):
    mixing = Augmentation(mixup=0.3)
    fitted = plain_net(augmentation=mixing).fit(images, labels)
    plain = fitted.predict_proba(images)
    fitted.set_params(test_time_augmentation="views")
    np.testing.assert_array_equal(fitted.predict_proba(images), plain)


def test_views_in_predictions_need_an_augmentation(images, labels):
    fitted = tiny().fit(images, labels)
    for looks in ("views", "both"):
        fitted.set_params(test_time_augmentation=looks)
        for method in (fitted.predict, fitted.predict_proba, fitted.decision_function):
            with pytest.raises(InvalidParameterError, match="set augmentation and fit"):
                method(images)
        # A recipe applies after the next fit only.
        with pytest.raises(InvalidParameterError, match="set augmentation and fit"):
            fitted.set_params(augmentation=TURNED).predict(images)
        fitted.set_params(augmentation=None)
        with pytest.raises(InvalidParameterError, match="set augmentation and fit"):
            fitted.fit(images, labels)
    for looks in ("flips", True, 3, ["views"]):
        with pytest.raises(InvalidParameterError, match="test_time_augmentation must be one of"):
            fitted.set_params(test_time_augmentation=looks).predict(images)


def test_a_new_recipe_applies_to_the_next_fit(images, labels):
    recipe = Augmentation(rotation=30, shift=0.1, views=2)
    fitted = tiny(augmentation=recipe, test_time_augmentation="views").fit(images, labels)
    before = fitted.predict_proba(images)
    fitted.set_params(augmentation=Augmentation(noise=9))
    np.testing.assert_array_equal(fitted.predict_proba(images), before)


@pytest.fixture
def uneven():
    """Labels: twelve of the first class, seven of the second, five of the third."""
    return np.repeat([0, 1, 2], [12, 7, 5])


@pytest.mark.parametrize("make", [tiny, plain_net])
def test_oversampled_classes_have_equal_sizes(images, uneven, make):
    fitted = make(oversample=True).fit(images, uneven)
    assert np.bincount(uneven[fitted.sample_indices_]).tolist() == [12, 12, 12]
    assert set(fitted.sample_indices_) == set(range(N))
    plain = make().fit(images, uneven)
    np.testing.assert_array_equal(plain.sample_indices_, np.arange(N))


@pytest.mark.parametrize("make", [tiny, plain_net])
def test_copies_never_cross_to_the_validation_images(images, uneven, make):
    X, y = np.concatenate([images, images[::2]]), np.concatenate([uneven, uneven[::2]])
    how = {"early_stopping": True, "validation_fraction": 0.3, "optimizer": "adam"}
    fitted = make(oversample=True, **how).fit(X, y)
    chosen = fitted.sample_indices_
    counts = np.bincount(y[chosen])
    assert len(set(counts)) == 1
    held_out = np.setdiff1d(np.arange(len(X)), chosen)
    assert len(held_out) >= 8
    assert not {X[i].tobytes() for i in chosen} & {X[i].tobytes() for i in held_out}
    assert len(fitted.history_["val_loss"]) == fitted.n_iter_
    pure = make(**how).fit(X, y)
    np.testing.assert_array_equal(pure.sample_indices_, np.unique(chosen))


@pytest.mark.parametrize("augmentation", [None, TURNED])
def test_oversampling_equals_fitting_on_repeated_images(images, uneven, augmentation):
    fitted = tiny(oversample=True, augmentation=augmentation).fit(images, uneven)
    chosen = fitted.sample_indices_
    again = tiny(augmentation=augmentation).fit(images[chosen], uneven[chosen])
    np.testing.assert_allclose(fitted.predict_proba(images), again.predict_proba(images), atol=1e-4)


@pytest.mark.parametrize(
    "classifier",
    [
        plain_net(),
        plain_net(augmentation=TURNED),
        tiny(augmentation=TURNED, l2=3.0),
        tiny(augmentation=TURNED, l2=3.0, hidden_units=(8,), epochs=30),
    ],
    ids=["pixels", "pixels afresh", "linear", "hidden"],
)
def test_class_weights_act_as_sample_weights(images, labels, classifier, rng):
    labels = rng.permutation(labels)  # equal images, so that the weights alone decide
    plain = classifier.fit(images, labels).predict_proba(images)
    by_sample = classifier.fit(images, labels, np.where(labels == 1, 30.0, 1)).predict_proba(images)
    heavy = classifier.set_params(class_weight={1: 30.0}).fit(images, labels).predict_proba(images)
    np.testing.assert_allclose(heavy, by_sample, atol=1e-6)
    others = labels != 1
    assert heavy[others, 1].mean() > plain[others, 1].mean() + 0.01


def test_a_weight_of_two_equals_the_image_and_its_views_twice(images, labels):
    weights = np.where(np.arange(N) < 9, 2.0, 1.0)
    weighed = tiny(augmentation=TURNED).fit(images, labels, weights).predict_proba(images)
    twice = np.concatenate([np.arange(N), np.arange(9)])
    doubled = tiny(augmentation=TURNED).fit(images[twice], labels[twice]).predict_proba(images)
    np.testing.assert_allclose(weighed, doubled, atol=1e-4)


def test_dropout_seeds_are_drawn_before_the_augmentation_seed(images, labels):
    """Check the order of the seeds, which determines the numbers of dropout and of checkpoints."""
    TransferClassifier(
        ConvNet((2,), dense_units=()), image_size=8, hidden_units=(3,), dropout=0.3, epochs=1,
        augmentation="light", random_state=0,
    ).fit(images, labels)  # fmt: skip
    trainer = list(trainers._trainers.values())[-1]
    assert len(trainer._seeds) == 2
    assert trainer._seeds[-1] is trainer._augmenter.seed_generator.state
