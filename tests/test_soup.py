"""Tests of mixing the weights before and after fine-tuning, and of going back to the head."""

import functools
import math
import pickle
import re

import keras
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from image_helpers import head_alone, striped_images
from keras import layers

from transferclf import TransferClassifier, TransferRegressor, load_model, save_model
from transferclf.exceptions import DivergenceError, TransferclfWarning
from transferclf.objectives.classes import Classes
from transferclf.objectives.multilabel import MultiLabel
from transferclf.objectives.numbers import Numbers
from transferclf.training.soup import (
    LITTLE,
    OF_LITTLE,
    OF_NOTHING,
    SHARES,
    USUAL,
    choose_share,
    is_near,
    mixed,
    usual_share,
)

N = 36
IMAGES = striped_images(N, np.random.default_rng(0))
OTHERS = striped_images(N, np.random.default_rng(1))
LABELS = np.arange(N) % 3
# Each image comes twice with different labels, so that a training image misleads about its twin.
TWINS = np.concatenate([IMAGES[: N // 2]] * 2)
CONTRARY = np.concatenate([LABELS[: N // 2], np.roll(LABELS[: N // 2], 1)])

FLOATS = st.sampled_from([np.float16, np.float32, np.float64])


@st.composite
def ends(draw, bound=1e3):
    """Return two arrays of floats of one shape and type, no numbers between which overflow."""
    dtype, shape = draw(FLOATS), draw(array_shapes(max_dims=3, max_side=4))
    numbers = st.floats(-bound, bound, width=np.finfo(dtype).bits)
    before, after = (draw(arrays(dtype, shape, elements=numbers)) for _ in range(2))
    return before, after


class TestMixed:
    @given(ends(bound=6e4))
    def test_0_and_1_give_the_ends(self, both):
        before, after = both
        for share, expected in ((0.0, before), (1.0, after), (0, before), (1, after)):
            (found,) = mixed([before], [after], share)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == before.dtype

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_ends_are_exact_where_their_difference_overflows(self, dtype):
        most = np.finfo(dtype).max
        before, after = np.array([most, -most, 1]), np.array([-most, most, most])
        np.testing.assert_array_equal(mixed([before], [after], 0.0)[0], before)
        np.testing.assert_array_equal(mixed([before], [after], 1.0)[0], after)

    @given(ends(), st.floats(0, 1))
    def test_it_is_linear_between(self, both, share):
        before, after = both
        (found,) = mixed([before], [after], share)
        assert found.dtype == before.dtype
        expected = (1 - share) * before.astype(float) + share * after.astype(float)
        np.testing.assert_allclose(found, expected, atol=4e3 * np.finfo(before.dtype).eps)

    @given(ends(), st.floats(0, 1))
    def test_equal_weights_stay(self, both, share):
        before, _ = both
        np.testing.assert_array_equal(mixed([before], [before.copy()], share)[0], before)

    @given(
        arrays(st.sampled_from([np.int32, np.uint32, np.int64, bool]), 3),
        st.data(),
        st.sampled_from(SHARES),
    )
    def test_other_numbers_are_those_after(self, before, data, share):
        after = data.draw(arrays(before.dtype, 3))
        (found,) = mixed([before], [after], share)
        np.testing.assert_array_equal(found, after)
        assert found.dtype == before.dtype

    def test_bfloat16_is_a_float(self):
        before, after = (np.array([value], ml_dtypes.bfloat16) for value in (1.0, 3.0))
        assert mixed([before], [after], 0.0)[0].tolist() == [1.0]
        (found,) = mixed([before], [after], 0.5)
        assert found.tolist() == [2.0]
        assert found.dtype == before.dtype

    def test_the_given_arrays_are_not_changed(self):
        before, after = [np.zeros(2), np.arange(2)], [np.ones(2), np.arange(2) + 5]
        mixed(before, after, 0.5)[0][:] = 7
        np.testing.assert_array_equal(before[0], [0, 0])
        np.testing.assert_array_equal(after[0], [1, 1])

    def test_other_numbers_of_arrays_are_refused(self):
        with pytest.raises(ValueError, match="zip"):
            mixed([np.zeros(2)], [np.zeros(2)] * 2, 0.5)


UNIT = st.floats(0, 9, width=32)
LOSSES = st.integers(1, 12).flatmap(lambda n: arrays(float, (len(SHARES), n), elements=UNIT))
BROKEN = [math.nan, math.inf, -math.inf]


def chosen(losses, weights=None, guess=0.0):
    """Return the chosen share for a table of losses, a row for each share."""
    losses = np.asarray(losses, float)
    n = losses.shape[1]
    table = dict(zip(SHARES, losses, strict=True))
    weights = np.full(n, 1 / n) if weights is None else weights
    with np.errstate(all="ignore"):
        return choose_share(table.__getitem__, weights, guess)


class TestChooseShare:
    def test_the_ends_and_the_usual_shares_are_tried(self):
        assert SHARES[0] == 0
        assert SHARES[-1] == 1
        assert list(SHARES) == sorted(set(SHARES))
        assert {OF_NOTHING, OF_LITTLE, USUAL} <= set(SHARES[1:-1])

    @given(LOSSES, st.floats(0, 9))
    def test_it_is_the_nearest_to_the_usual_one_within_a_standard_error(self, losses, guess):
        share, means = chosen(losses, guess=guess)
        usual = usual_share(means[0] - means[USUAL], guess)
        assert list(means) == list(SHARES)
        np.testing.assert_allclose(list(means.values()), losses.mean(axis=1), atol=1e-12)
        lowest = losses[np.argmin(list(means.values()))]
        n = losses.shape[1]
        if n == 1:
            assert share == usual
            return
        differences = losses - lowest
        errors = differences.std(axis=1, ddof=1) / n**0.5
        slack = 1e-9
        surely = differences.mean(axis=1) < errors - slack
        perhaps = differences.mean(axis=1) < errors + slack
        distances = np.abs(np.array(SHARES) - usual)
        found = distances[SHARES.index(share)]
        assert perhaps[SHARES.index(share)]
        assert (distances[surely] >= found).all()

    @given(st.integers(0, 10**6), st.integers(2, 12))
    def test_samples_without_weight_do_not_count(self, seed, n):
        losses = np.random.default_rng(seed).uniform(0, 3, (len(SHARES), n))
        broken = np.hstack([losses, np.full((len(SHARES), 1), np.inf)])
        assert chosen(broken, np.array([*[1 / n] * n, 0.0]))[0] == chosen(losses)[0]
        doubled = np.hstack([losses, np.flip(losses, axis=1)])
        weights = np.repeat([1 / n, 0.0], n)
        assert chosen(doubled, weights)[0] == chosen(losses)[0]

    @pytest.mark.parametrize(
        ("gain", "share"),
        [(-1.0, 0.25), (-0.01, 0.25), (0.01, 0.5), (0.19, 0.5), (0.21, 0.75), (1.0, 0.75)],
    )
    def test_the_more_is_gained_the_more_is_usual(self, gain, share):
        noise = np.random.default_rng(0).normal(0, 30, (5, 40))  # no difference is clear
        losses = 90 + noise - noise.mean(axis=1, keepdims=True)
        losses[SHARES.index(USUAL)] -= gain
        assert chosen(losses, guess=0.2 / LITTLE)[0] == share

    @given(st.floats(), st.floats(0, 9))
    def test_a_usual_share_is_one_of_three(self, gain, guess):
        share = usual_share(gain, guess)
        assert share in {OF_NOTHING, OF_LITTLE, USUAL}
        assert (share == OF_NOTHING) == (not gain > 0)
        assert share <= usual_share(gain + 1, guess) or not gain + 1 > gain

    def test_of_two_that_are_as_near_to_the_usual_one_the_smaller_is_taken(self):
        losses = np.full((5, 6), 2.0)
        losses[0] = losses[SHARES.index(OF_LITTLE)] = 1.0
        assert usual_share(-1.0, 1.0) == OF_NOTHING
        assert chosen(losses)[0] == 0.0

    def test_a_clear_difference_gives_any_share(self):
        for best in range(len(SHARES)):
            losses = np.full((5, 6), 2.0) + np.random.default_rng(0).normal(0, 0.1, (5, 6))
            losses[best] -= 1
            assert chosen(losses)[0] == SHARES[best]

    def test_one_sample_tells_what_is_gained_and_no_more(self):
        assert chosen([[0.0], [1.0], [2.0], [3.0], [4.0]])[0] == OF_NOTHING
        assert chosen([[4.0], [3.0], [2.0], [1.0], [0.0]])[0] == USUAL

    @pytest.mark.parametrize("broken", BROKEN)
    def test_losses_that_are_not_finite_never_win(self, broken):
        losses = np.full((5, 3), broken)
        assert chosen(losses)[0] == 0
        losses[1] = 3.0
        assert chosen(losses)[0] == 0.25

    @pytest.mark.parametrize("broken", BROKEN)
    def test_one_loss_that_is_not_finite_is_enough(self, broken):
        losses = np.random.default_rng(0).uniform(1, 2, (5, 3))
        losses[SHARES.index(USUAL), 1] = broken
        assert chosen(losses)[0] != USUAL

    def test_the_largest_losses_are_no_error(self):
        most = np.finfo(float).max
        losses = np.array([[1, 1], [most, most], [1, 1], [most, 1], [most, most]])
        assert chosen(losses)[0] in SHARES


class TestGuess:
    """The loss if each sample had the mean scores of all: by it, gains are little or much."""

    @given(st.integers(2, 9), st.integers(0, 10**6))
    def test_scores_that_know_how_frequent_classes_are_have_their_entropy(self, n_classes, seed):
        rng = np.random.default_rng(seed)
        codes = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 40)])
        shares = np.bincount(codes) / len(codes)
        scores = np.log(shares) + rng.normal(0, 1e-3, (len(codes), n_classes))
        guess = Classes.numbered(n_classes).guess(
            scores, codes, np.full(len(codes), 1 / len(codes))
        )
        assert guess == pytest.approx(-(shares @ np.log(shares)), abs=0.01)

    @given(st.integers(0, 10**6), st.sampled_from(BROKEN))
    def test_samples_without_weight_do_not_count(self, seed, broken):
        rng = np.random.default_rng(seed)
        scores, codes = rng.normal(size=(6, 3)), np.arange(6) % 3
        weights = rng.uniform(0.1, 1, 6)
        weights /= weights.sum()
        objective = Classes.numbered(3)
        expected = objective.guess(scores, codes, weights)
        more = np.vstack([scores, np.full((1, 3), broken)])
        found = objective.guess(more, np.append(codes, 1), np.append(weights, 0.0))
        assert found == pytest.approx(expected)

    def test_several_labels_have_their_entropy(self):
        targets = np.array([[1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 1, 0, 1]]).T
        objective, encoded = MultiLabel.encode(targets, 8)
        shares = targets.mean(axis=0)
        scores = np.tile(np.log(shares / (1 - shares)), (8, 1))
        expected = objective.losses(scores, encoded)[0].mean()
        noise = np.tile([[0.5], [-0.5]], (4, 2))  # their mean is none
        guess = objective.guess(scores + noise, encoded, np.full(8, 1 / 8))
        assert guess == pytest.approx(expected)

    def test_any_gain_of_numbers_is_much(self):
        objective, encoded = Numbers.encode(np.arange(8.0), 8)
        guess = objective.guess(np.zeros((8, 1)), encoded, np.full(8, 1 / 8))
        assert usual_share(1e-6, guess) == USUAL
        assert usual_share(-1e-6, guess) == OF_NOTHING


class TestIsNear:
    @given(arrays(float, st.integers(2, 9), elements=UNIT))
    def test_losses_are_near_themselves(self, losses):
        assert is_near(losses, losses, np.full(len(losses), 1 / len(losses)))

    @pytest.mark.parametrize("heavy", [1 / 20, 0.5, 0.9])
    @pytest.mark.parametrize(("errors", "share"), [(1.0, 0.16), (3.0, 0.0013)])
    def test_chance_is_seldom_clear_where_one_sample_counts_more(self, heavy, errors, share):
        rng, n = np.random.default_rng(0), 20
        weights = np.array([heavy, *[(1 - heavy) / (n - 1)] * (n - 1)])
        drawn = [rng.normal(size=(2, n)) for _ in range(2000)]
        clear = sum(not is_near(*both, weights, errors) for both in drawn)
        assert clear / len(drawn) < share + 0.02

    @given(st.integers(0, 10**6), st.integers(2, 9))
    def test_a_weight_of_two_is_no_two_samples(self, seed, n):
        losses, lowest = np.random.default_rng(seed).uniform(0, 3, (2, n))
        once, twice = np.full(n, 1 / n), np.full(2 * n, 0.5 / n)
        if is_near(np.tile(losses, 2), np.tile(lowest, 2), twice):  # more samples tell more
            assert is_near(losses, lowest, once)

    @given(st.integers(2, 9), st.floats(0.01, 5))
    def test_a_difference_that_all_samples_share_is_certain(self, n, difference):
        weights = np.full(n, 1 / n)
        assert not is_near(np.full(n, 1 + difference), np.ones(n), weights)
        assert is_near(np.ones(n), np.full(n, 1 + difference), weights)


@functools.cache
def two_convolutions():
    x = inputs = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 255)(x)
    for number in (1, 2):
        starting = keras.initializers.GlorotUniform(number)
        how = {"strides": 2, "kernel_initializer": starting, "name": f"conv{number}"}
        x = layers.Conv2D(6, 3, activation="relu", **how)(x)
    return keras.Model(inputs, x)


def tuned(kind=TransferClassifier, **changes):
    """Return an estimator that trains a convolution after a linear head; no default matters."""
    parameters = {"trainable_layers": "conv2", "fine_tune_epochs": 6, "batch_size": 12, "l2": 0.1}
    parameters |= {"fine_tune_learning_rate": 1e-2, "lr_schedule": "cosine", "augmentation": None}
    parameters |= {"warmup_fraction": 0.1, "weight_decay": 0.01, "global_clipnorm": 1.0}
    parameters |= {"optimizer": "lbfgs", "soup": "auto", "random_state": 0}
    return kind(two_convolutions(), **(parameters | changes))


def probe(fitted, **changes):
    """Return the head that fine-tuning began with, as a classifier that is not fitted."""
    return head_alone(fitted, l2=fitted.l2_, **changes)


def assert_same_predictions(first, second, X=OTHERS):
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), rtol=0, atol=1e-5)


HIDDEN = {"hidden_units": 5, "optimizer": "adam", "epochs": 5, "learning_rate": 0.01}


class TestShares:
    def test_half_is_the_mean_of_the_ends(self):
        none, half, whole = (tuned(soup=soup).fit(IMAGES, LABELS) for soup in (0, 0.5, 1))
        assert [none.soup_, half.soup_, whole.soup_] == [0, 0.5, 1]
        sides = zip(none.head_.parameters, whole.head_.parameters, strict=True)
        moved = 0.0
        for found, (before, after) in zip(half.head_.parameters, sides, strict=True):
            np.testing.assert_array_equal(found, before + (after - before) * np.float32(0.5))
            moved = max(moved, np.abs(after - before).max())
        assert moved > 1e-2
        assert none.history_ == half.history_ == whole.history_

    def test_none_gives_the_head_on_the_frozen_network(self):
        fitted = tuned(soup=0.0).fit(IMAGES, LABELS)
        assert_same_predictions(fitted, probe(fitted).fit(IMAGES, LABELS))
        np.testing.assert_array_equal(fitted.sample_indices_, np.arange(N))

    def test_the_whole_model_and_archives_have_the_mixed_weights(self, tmp_path):
        fitted = tuned(soup=0.5).fit(IMAGES, LABELS)
        outputs = keras.ops.convert_to_numpy(fitted.model_(OTHERS.astype(np.float32)))
        np.testing.assert_allclose(outputs, fitted.predict_proba(OTHERS), atol=1e-5)
        save_model(fitted, tmp_path / "a.model")
        loaded = load_model(tmp_path / "a.model", backbone=two_convolutions())
        assert loaded.soup_ == 0.5
        np.testing.assert_array_equal(loaded.predict_proba(OTHERS), fitted.predict_proba(OTHERS))

    def test_auto_chooses_the_share_by_the_validation_losses(self, capsys):
        fitted = tuned(verbose=1).fit(IMAGES, LABELS, validation_data=(OTHERS, LABELS))
        said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("soup: ")]
        losses = {}
        for share in SHARES:
            each = tuned(soup=share).fit(IMAGES, LABELS)
            scores, objective = each.decision_function(OTHERS), each.head_.suffix.objective
            losses[share] = objective.calibrated_losses(scores, LABELS, np.full(N, 1 / N))
        guess = objective.guess(
            tuned(soup=0).fit(IMAGES, LABELS).decision_function(OTHERS), LABELS, np.full(N, 1 / N)
        )
        best, means = choose_share(losses.__getitem__, np.full(N, 1 / N), guess)
        assert fitted.soup_ == best > 0
        shown = ", ".join(f"{share:g}: {loss:.4g}" for share, loss in means.items())
        alone = tuned(soup=best).fit(IMAGES, LABELS)
        scores, shares = alone.decision_function(OTHERS), np.full(N, 1 / N)
        temperature = max(1, alone.head_.suffix.objective.temperature(scores, LABELS, shares))
        assert said == [
            f"soup: {best:g} of the trained weights, temperature {temperature:g}; "
            f"validation losses {shown}"
        ]
        np.testing.assert_allclose(
            fitted.decision_function(OTHERS), scores / temperature, rtol=0, atol=1e-4
        )

    @pytest.mark.parametrize("changes", [{}, HIDDEN])
    def test_scores_are_no_larger_than_validation_images_allow(self, changes):
        seen = np.where(np.arange(N) % 12 == 0, np.roll(LABELS, 1), LABELS)  # some are wrong
        fitted = tuned(fine_tune_learning_rate=0.03, fine_tune_epochs=40, **changes)
        fitted.fit(IMAGES, LABELS, validation_data=(OTHERS, seen))
        raw = tuned(fine_tune_learning_rate=0.03, fine_tune_epochs=40, **changes)
        raw.set_params(soup=fitted.soup_).fit(IMAGES, LABELS)
        ratios = raw.decision_function(OTHERS) / fitted.decision_function(OTHERS)
        assert np.median(ratios) > 1.3
        np.testing.assert_allclose(ratios, np.median(ratios), rtol=1e-3)
        objective, shares = fitted.head_.suffix.objective, np.full(N, 1 / N)
        softened = objective.temperature(fitted.decision_function(OTHERS), seen, shares)
        assert softened <= 1
        outputs = keras.ops.convert_to_numpy(fitted.model_(OTHERS.astype(np.float32)))
        np.testing.assert_allclose(outputs, fitted.predict_proba(OTHERS), atol=1e-5)

    def test_auto_holds_out_images_only_where_none_are_given(self):
        held = tuned(validation_fraction=0.25).fit(IMAGES, LABELS)
        assert len(held.sample_indices_) == 27
        given_others = tuned().fit(IMAGES, LABELS, validation_data=(OTHERS, LABELS))
        assert len(given_others.sample_indices_) == N
        assert len(tuned(soup=1.0).fit(IMAGES, LABELS).sample_indices_) == N

    def test_a_class_of_one_image_ends_in_the_usual_share(self):
        labels = np.where(np.arange(N) == 3, 7, LABELS)
        message = "soup='auto' needs validation images.*three quarters of the fine-tuned weights"
        with pytest.warns(TransferclfWarning, match=message):
            fitted = tuned().fit(IMAGES, labels)
        assert fitted.soup_ == USUAL
        assert len(fitted.sample_indices_) == N
        assert_same_predictions(fitted, tuned(soup=USUAL).fit(IMAGES, labels))

    def test_regression_has_a_soup_too(self):
        y = IMAGES.mean(axis=(1, 2, 3)) + 30.0 * LABELS
        none, half, whole = (
            tuned(TransferRegressor, soup=soup, optimizer="ridge").fit(IMAGES, y)
            for soup in (0, 0.5, 1)
        )
        sides = zip(none.head_.parameters, whole.head_.parameters, strict=True)
        for found, (before, after) in zip(half.head_.parameters, sides, strict=True):
            np.testing.assert_array_equal(found, before + (after - before) * np.float32(0.5))
        head = probe(none).fit(IMAGES, y)
        np.testing.assert_allclose(none.predict(OTHERS), head.predict(OTHERS), rtol=1e-4)
        auto = tuned(TransferRegressor, optimizer="ridge").fit(IMAGES, y)
        assert auto.soup_ in SHARES


class TestHarmful:
    def test_fine_tuning_that_harms_ends_with_the_head(self):
        others = (OTHERS, np.roll(LABELS, 1))  # the surer of the stripes, the worse
        fitted = tuned().fit(IMAGES, LABELS, validation_data=others)
        assert fitted.soup_ == 0
        assert_same_predictions(fitted, probe(fitted).fit(IMAGES, LABELS))
        whole = tuned(soup=1.0).fit(IMAGES, LABELS)
        assert np.abs(whole.predict_proba(OTHERS) - fitted.predict_proba(OTHERS)).max() > 0.1

    def test_with_images_held_out_the_linear_head_then_learns_from_all(self):
        fitted = tuned(validation_fraction=0.3).fit(TWINS, CONTRARY)
        assert fitted.soup_ == 0
        assert_same_predictions(fitted, probe(fitted).fit(TWINS, CONTRARY))
        np.testing.assert_array_equal(fitted.head_.moments.mean, fitted.head_.mean)
        chosen = fitted.sample_indices_
        part = probe(fitted).fit(TWINS[chosen], CONTRARY[chosen])
        assert np.abs(part.predict_proba(OTHERS) - fitted.predict_proba(OTHERS)).max() > 1e-3

    @pytest.mark.parametrize("soup", ["auto", 0.5, 1.0])
    @pytest.mark.parametrize("rate", [1e3, 1e36])
    def test_a_rate_that_explodes_raises_an_error_and_leaves_the_head(self, rate, soup):
        exploding = tuned(trainable_layers="all", soup=soup, validation_fraction=0.25)
        exploding.set_params(fine_tune_learning_rate=rate)
        if soup != "auto":
            exploding.set_params(validation_fraction=0.1)
        message = rf"training diverged: in epoch 1 at a learning rate of {re.escape(f'{rate:g}')} "
        with pytest.raises(DivergenceError, match=message + ".*Set fine_tune_learning_rate to a t"):
            exploding.fit(IMAGES, LABELS)
        chosen = exploding.sample_indices_
        assert len(chosen) == (27 if soup == "auto" else N)
        head = probe(exploding).fit(IMAGES[chosen], LABELS[chosen])
        assert_same_predictions(exploding, head)
        outputs = keras.ops.convert_to_numpy(exploding.model_(OTHERS.astype(np.float32)))
        np.testing.assert_allclose(outputs, head.predict_proba(OTHERS), atol=1e-5)
        assert [phase["part"] for phase in exploding.phases_] == ["head"]
        assert exploding.n_iter_ == exploding.n_head_iter_ == head.n_iter_

    def test_a_fitted_estimator_stays_as_it_was(self):
        fitted = tuned().fit(IMAGES, LABELS)
        fitted.set_params(fine_tune_learning_rate=1e3)
        before = dict(vars(fitted))
        with pytest.raises(DivergenceError):
            fitted.fit(IMAGES, LABELS)
        assert vars(fitted).keys() == before.keys()
        assert all(vars(fitted)[name] is before[name] for name in before)

    def test_targets_that_do_not_vary_are_no_divergence(self):
        constant = tuned(TransferRegressor, optimizer="ridge", soup=1.0)
        with pytest.warns(TransferclfWarning, match="y is constant"):
            fitted = constant.fit(IMAGES, np.full(N, 5.0))
        np.testing.assert_allclose(fitted.predict(IMAGES), 5.0, atol=0.1)


class Interrupting(keras.callbacks.Callback):
    """Press Ctrl-C before an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt


RESUMED = {
    "auto": {},
    "half": {"soup": 0.5},
    "none": {"soup": 0.0},
    "whole": {"soup": 1.0},
    "given": {"validation_data": True},
    "harmful": {"validation_fraction": 0.3},
    "by epochs": {"hidden_units": (4,), "optimizer": "adam", "learning_rate": 0.01, "epochs": 2},
}


class TestResumed:
    @pytest.mark.parametrize("kind", RESUMED)
    def test_a_continued_fit_has_the_soup_of_an_uninterrupted_one(self, kind):
        changes = dict(RESUMED[kind])
        images, labels = (TWINS, CONTRARY) if kind == "harmful" else (IMAGES, LABELS)
        others = {"validation_data": (OTHERS, LABELS)} if changes.pop("validation_data", 0) else {}
        whole = tuned(**changes).fit(images, labels, **others)
        assert (whole.soup_ == 0) == (kind in ("none", "harmful"))
        parted = tuned(**changes, warm_start=True)
        for epoch in (2, 5):
            parted.set_params(callbacks=[Interrupting(epoch)])
            with pytest.raises(KeyboardInterrupt):
                parted.fit(images, labels, **others)
            parted = pickle.loads(pickle.dumps(parted))
        assert parted.n_iter_ - parted.n_head_iter_ == 5
        parted.set_params(callbacks=None).fit(images, labels, **others)
        assert parted.soup_ == whole.soup_
        assert parted.history_ == whole.history_
        for one, other in zip(parted.head_.parameters, whole.head_.parameters, strict=True):
            np.testing.assert_array_equal(one, other)
        assert parted.head_.checkpoint is None

    def test_a_fit_that_goes_on_mixes_with_the_result_of_the_last_one(self):
        fitted = tuned(soup=0.5, warm_start=True).fit(IMAGES, LABELS)
        before = fitted.head_.parameters
        fitted.set_params(soup=0.0).fit(IMAGES, LABELS)
        for one, other in zip(fitted.head_.parameters, before, strict=True):
            np.testing.assert_array_equal(one, other)
        assert fitted.phases_[-1]["part"] == "fine-tuning"
        assert len(fitted.phases_) == 3
