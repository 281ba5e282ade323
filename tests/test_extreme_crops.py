"""Training on the squares at both ends of each image, checked by value."""

import io
from pathlib import Path

import numpy as np
import pytest
from head_helpers import probabilities
from image_helpers import striped_images
from scipy.special import log_softmax

from transferclf import Augmentation, ConvNet, TransferClassifier, load_model, save_model
from transferclf.augmentation.views import View
from transferclf.exceptions import InvalidParameterError
from transferclf.heads.linear import fit_linear
from transferclf.images import check_images, extreme_square_crops, resize_image
from transferclf.images.loading import content_digests
from transferclf.objectives import Classes
from transferclf.training.regularization import choose_l2

N, SIDE = 12, 32
CROPS = Augmentation(extreme_crops=True)


@pytest.fixture(scope="module")
def wide():
    """Return images of 32 x 50 pixels whose two ends differ."""
    rng = np.random.default_rng(0)
    images = striped_images(N, rng)
    return np.concatenate([images, rng.permutation(images)[:, :, ::-1]], axis=2)[:, :, :50]


@pytest.fixture(scope="module")
def labels():
    return np.arange(N) % 3


def tiny(**changes):
    parameters = {"image_size": SIDE, "l2": 0.1, "random_state": 0, "augmentation": CROPS}
    return TransferClassifier("tiny", **(parameters | changes))


def squares(images):
    """Return the first and the last square of all images at the input size of the network."""
    pairs = [extreme_square_crops(image) for image in images]
    return [
        np.stack([resize_image(pair[end], (SIDE, SIDE)) for pair in pairs]).astype(np.float32)
        for end in (0, 1)
    ]


def features(classifier, looks):
    return np.concatenate([classifier.prefix_.forward()(look) for look in looks])


def seen(classifier):
    return classifier.prefix_.forward().images_seen


def test_the_head_is_fitted_to_both_squares_of_each_image(wide, labels):
    weights = np.linspace(0.5, 2, N)
    fitted = tiny().fit(wide, labels, weights)
    rows = features(fitted, squares(wide))
    by_hand = fit_linear(
        rows, np.tile(labels, 2), Classes.numbered(3), l2=0.1, sample_weight=np.tile(weights, 2)
    )
    np.testing.assert_allclose(fitted.head_.mean, rows.T @ np.tile(weights, 2) / weights.sum() / 2,
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    expected = probabilities(by_hand, rows[:N])
    np.testing.assert_allclose(probabilities(fitted.head_, rows[:N]), expected, atol=1e-4)
    plain = tiny(augmentation=None).fit(wide, labels, weights)
    assert np.abs(probabilities(plain.head_, rows[:N]) - expected).max() > 0.01


def test_predictions_use_the_centre_unless_views_are_requested(wide, labels):
    fitted = tiny().fit(wide, labels)
    centre = np.stack([resize_image(image, (SIDE, SIDE)) for image in wide]).astype(np.float32)
    expected = probabilities(fitted.head_, features(fitted, [centre]))
    np.testing.assert_allclose(fitted.predict_proba(wide), expected, atol=1e-5)
    both = fitted.set_params(test_time_augmentation="crops").predict_proba(wide)
    ends = (
        probabilities(fitted.head_, features(fitted, squares(wide))).reshape(2, N, 3).mean(axis=0)
    )
    np.testing.assert_allclose(both, ends, atol=1e-5)


def test_square_images_share_the_features_of_their_plain_crops(wide, labels):
    square = wide[:, :, :SIDE] // 2  # no other test stores these images
    plain = tiny(augmentation=None).fit(square, labels)
    before = seen(plain)
    fitted = tiny().fit(square, labels)
    fitted.set_params(test_time_augmentation="crops").predict(square)
    assert seen(plain) == before
    np.testing.assert_allclose(
        fitted.set_params(test_time_augmentation=None).predict_proba(square),
        plain.predict_proba(square),
        atol=1e-4,
    )


def test_each_square_goes_through_the_network_once(wide, labels):
    some = [*(wide[:7] // 3), *(wide[7:, :, :SIDE] // 3)]
    before = seen(tiny().fit(wide, labels))
    fitted = tiny().fit(some, labels)
    assert seen(fitted) - before == 2 * 7 + 5
    fitted.set_params(l2=1.0).fit(some, labels)
    fitted.set_params(hidden_units=(4,), epochs=1).fit(some, labels)
    assert seen(fitted) - before == 2 * 7 + 5


def test_the_head_is_fitted_to_views_of_both_squares(wide, labels):
    recipe = Augmentation(rotation=20, noise=2, views=2, extreme_crops=True)
    fitted = tiny(augmentation=recipe).fit(wide, labels)
    digests, plain = content_digests(check_images(wide)), squares(wide)
    varied = [View(recipe, number).of(look, digests) for number in (1, 2) for look in plain]
    rows = features(fitted, plain + varied)
    by_hand = fit_linear(
        rows, np.tile(labels, 6), Classes.numbered(3), l2=0.1, sample_weight=np.ones(6 * N)
    )
    np.testing.assert_allclose(
        probabilities(fitted.head_, rows), probabilities(by_hand, rows), atol=1e-3
    )


def test_the_penalty_is_chosen_with_both_squares_held_out_together(wide, labels):
    fitted = tiny(l2="auto").fit(wide, labels)
    rows = features(fitted, squares(wide))
    how = {"sample_weight": np.ones(2 * N), "groups": np.tile(np.arange(N), 2)}
    assert fitted.l2_ == choose_l2(rows, np.tile(labels, 2), Classes.numbered(3), **how)


def test_validation_images_are_cropped_as_in_predictions(wide, labels):
    held_out = wide[::-1, ::-1], labels[::-1]
    fitted = tiny(optimizer="adam", epochs=3, l2=0.0, learning_rate=1e-5)
    fitted.fit(wide, labels, validation_data=held_out)
    scores = log_softmax(fitted.decision_function(held_out[0]).astype(float), axis=1)
    expected = -scores[np.arange(N), held_out[1]].mean()
    assert fitted.history_["val_loss"][-1] == pytest.approx(expected, rel=1e-5)


def test_both_squares_of_an_image_are_in_the_same_fold(wide, labels):
    how = {"early_stopping": True, "validation_fraction": 0.25, "optimizer": "adam", "epochs": 2}
    fitted = tiny(oversample=True, **how).fit(wide, labels)
    plain = tiny(oversample=True, augmentation=None, **how).fit(wide, labels)
    np.testing.assert_array_equal(fitted.sample_indices_, plain.sample_indices_)
    chosen = wide[np.unique(fitted.sample_indices_)]
    # Held-out images do not enter the head, not even its mean.
    rows = features(fitted, squares(chosen))
    np.testing.assert_allclose(fitted.head_.mean, rows.mean(axis=0), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("trainable_layers", ["top", "all"])
def test_fine_tuning_starts_from_the_head_fitted_to_both_squares(wide, labels, trainable_layers):
    frozen = tiny().fit(wide, labels)
    tuned = tiny(trainable_layers=trainable_layers, fine_tune_epochs=2, batch_size=N)
    tuned.set_params(fine_tune_learning_rate=1e-12, soup=1.0).fit(wide, labels)
    n_head = tuned.n_head_iter_
    np.testing.assert_allclose(tuned.history_["loss"][:n_head], frozen.history_["loss"], atol=1e-4)
    found = probabilities(frozen.head_, features(frozen, squares(wide)))
    losses = -np.log(found.reshape(2, N, 3)[:, np.arange(N), labels])
    penalty = 0.1 * (frozen.head_.coef**2).sum()
    low, high = losses.min(axis=0).mean() + penalty, losses.max(axis=0).mean() + penalty
    epochs = np.array(tuned.history_["loss"][n_head:])
    assert ((low - 1e-3 <= epochs) & (epochs <= high + 1e-3)).all()
    assert epochs[0] != epochs[1]  # each epoch takes one square of each image


@pytest.mark.slow
def test_networks_trained_from_scratch_use_the_pixels_of_both_squares(wide, labels):
    net = ConvNet(filters=(4,), dense_units=(8,))
    how = {"preprocessing": "standardize", "epochs": 2, "random_state": 0, "image_size": SIDE}
    weights = np.linspace(0.5, 2, N)
    fitted = TransferClassifier(net, augmentation=CROPS, **how).fit(wide, labels, weights)
    mean = np.average(np.concatenate(squares(wide)), axis=0, weights=np.tile(weights, 2))
    np.testing.assert_allclose(fitted.head_.scaling.mean, mean.mean(axis=(0, 1)), rtol=1e-4)
    plain = TransferClassifier(net, **how).fit(wide, labels, weights)
    assert np.abs(fitted.predict_proba(wide) - plain.predict_proba(wide)).max() > 1e-4


def test_partial_fit_trains_on_both_squares(wide, labels):
    fitted = tiny().partial_fit(np.concatenate([wide] * 3), np.tile(labels, 3), classes=[0, 1, 2])
    rows = features(fitted, squares(wide))
    np.testing.assert_allclose(fitted.head_.mean, rows.mean(axis=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("resize", ["stretch", "pad"])
def test_resize_modes_without_a_crop_are_refused(wide, labels, resize):
    with pytest.raises(InvalidParameterError, match=f"resize='{resize}' cuts nothing: set resize"):
        tiny(resize=resize).fit(wide, labels)


def test_strips_are_refused(labels):
    rows = np.random.default_rng(0).uniform(0, 255, (N, 10))
    with pytest.raises(InvalidParameterError, match="Strips of one row of pixels"):
        tiny(image_shape="infer", pixel_range=(0, 255)).fit(rows, labels)


def test_rows_of_oblong_images_are_accepted(wide, labels):
    flat = wide.reshape(N, -1)
    rows = tiny(image_shape=wide.shape[1:]).fit(flat, labels)
    np.testing.assert_allclose(
        rows.predict_proba(flat), tiny().fit(wide, labels).predict_proba(wide), atol=1e-5
    )


@pytest.mark.parametrize("value", [1, "yes", None, 0.5])
def test_values_other_than_booleans_are_refused(value):
    with pytest.raises(InvalidParameterError, match="extreme_crops of Augmentation must be True"):
        Augmentation(rotation=5, extreme_crops=value).check()


def test_recipes_without_extreme_crops_keep_their_digests_and_archives(wide, labels):
    recipe = Augmentation(rotation=5)
    # The digest of the version before `extreme_crops`.
    assert recipe.digest == ("a6aef8d39ceaf6c0ac8f6fcbe10249bf361760459180348a162e3dab054066e7")
    assert recipe.digest != Augmentation(rotation=5, extreme_crops=True).digest
    assert View(recipe, 1) == View(Augmentation(rotation=5, extreme_crops=True), 1)
    file = io.BytesIO()
    save_model(tiny(augmentation=recipe.set_params(views=1)).fit(wide, labels), file)
    assert b"extreme_crops" not in file.getvalue()


def test_archives_store_extreme_crops(wide, labels, tmp_path):
    fitted = tiny().fit(wide, labels)
    save_model(fitted, Path(tmp_path, "model"))
    loaded = load_model(Path(tmp_path, "model"))
    assert loaded.augmentation_ == loaded.augmentation == CROPS
    np.testing.assert_array_equal(loaded.predict_proba(wide), fitted.predict_proba(wide))
