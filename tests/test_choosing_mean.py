"""trainable_layers="auto": the mean of the weights of the last block's training and of all."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from keras import layers
from two_layer_helpers import COLOURS, SIDE, N, images, two_layers

from transferclf import TransferClassifier, load_model, save_model
from transferclf.estimators import tuning
from transferclf.training import choosing_cut
from transferclf.training.choosing_cut import MEAN, Trial, choose_cut, reason_of
from transferclf.training.soup import SHARES, Soup

# A quarter of the labels is wrong, so that no training is sure of all images.
LABELS = np.where(np.random.default_rng(1).random(N) < 0.25, 1 - COLOURS, COLOURS)


def classifier(**changes):
    parameters = {
        "backbone": two_layers("none"),
        "trainable_layers": "auto",
        "fine_tune_epochs": 4,
        "fine_tune_learning_rate": 0.1,
        "batch_size": 16,
        "augmentation": None,
        "l2": 0.1,
        "random_state": 1,
        "cache": None,
    }
    return TransferClassifier(**parameters | changes)


@functools.cache
def chosen(**changes):
    """Return a classifier that counts each gain of all layers as little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choosing_cut, "LITTLE", 2.0)
        return classifier(**changes).fit(images(), LABELS)


def choice_of(estimator, labels=LABELS):
    """Return the choice with its trials, which an estimator does not keep."""
    choices = []

    def kept(*arguments, **options):
        choices.append(choose_cut(*arguments, **options))
        return choices[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "choose_cut", kept)
        estimator.fit(images(), labels)
    return choices[0]


@functools.cache
def trained():
    """Return the trained layers of the trial of the last block, and of that of all layers."""
    return [trial.head for trial in choice_of(classifier()).trials[1:3]]


@functools.cache
def tuned_alone():
    """Return trained layers whose scores are divided by no temperature."""
    kind = type(trained()[0].suffix.objective)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "temperature", lambda *_: 1.0)
        return choice_of(classifier()).trials[2].head


def pixels():
    return images()[:20].astype(np.float32)


# --- the mean of two results


def test_the_mean_of_weights_takes_those_before_training_where_one_has_none():
    block, whole = trained()
    mean = whole.mean_with(block).tuned()
    one, other = whole.tuned(), block.tuned()
    assert list(other) == ["conv2"]
    others = {"conv1": two_layers("none").get_layer("conv1").get_weights(), "conv2": other["conv2"]}
    for name, before in others.items():
        for ours, *both in zip(mean[name], one[name], before, strict=True):
            np.testing.assert_allclose(ours, np.mean(both, axis=0), rtol=1e-5, atol=1e-6)
            assert not np.allclose(*both, rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.floats(-3, 3))
def test_the_mean_does_not_depend_on_how_features_are_standardised(seed, shift):
    block, whole = trained()
    expected = whole.mean_with(block).scores(pixels())
    rng = np.random.default_rng(seed)
    mean, scale = block.mean + shift, block.scale * rng.uniform(0.3, 3, block.scale.shape)
    kernel, bias = block.weights
    by_feature = kernel / block.scale[:, None]
    weights = [by_feature * scale[:, None], bias + shift * by_feature.sum(axis=0)]
    other = block.with_head(replace(block, mean=mean, scale=scale, weights=weights))
    np.testing.assert_allclose(whole.mean_with(other).scores(pixels()), expected, atol=1e-3)


def test_scores_are_divided_by_a_temperature():
    _, whole = trained()
    divided = whole.with_scores_divided(2.5).scores(pixels())
    np.testing.assert_allclose(divided, whole.scores(pixels()) / 2.5, rtol=1e-4, atol=1e-5)


def test_layers_that_began_with_other_weights_have_no_mean():
    block, whole = trained()
    began = [value + np.float32(0.5) for value in block.checkpoint.began]
    other = replace(block, checkpoint=replace(block.checkpoint, began=began))
    assert whole.mean_with(other) is None


@pytest.mark.parametrize("use_bias", [False, True])
def test_a_layer_that_is_folded_in_one_training_only_has_no_mean(use_bias):
    norm = layers.BatchNormalization(name="norm")  # called below the last block, too
    x = inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 32, offset=-4)(x)
    for name in ("conv1", "conv2"):
        layer = layers.Conv2D(3, 1, name=name, use_bias=use_bias)
        x = layer(x)
        kernel = 0.3 + 0.3 * np.eye(3)[None, None]
        layer.set_weights([kernel, *[np.zeros(3)] * use_bias])
        x = norm(x)
    norm.set_weights([np.full(3, 2.0), np.ones(3), np.full(3, 0.5), np.full(3, 3.0)])
    estimator = chosen(backbone=keras.Model(inputs, x, name=f"shared_norm_{use_bias}"))
    assert len(estimator.tuning_["trials"]) == 3


@pytest.mark.parametrize("temperature", [1.0, 2.8])
def test_scores_of_the_mean_are_divided_by_its_temperature(temperature, monkeypatch):
    kind = type(trained()[0].suffix.objective)
    monkeypatch.setattr(kind, "temperature", lambda *_: temperature)
    monkeypatch.setattr(choosing_cut, "LITTLE", 2.0)
    *_, block, whole, mean = choice_of(classifier()).trials
    whole, block = (trial.head.at(mean.soup) for trial in (whole, block))
    expected = whole.mean_with(block).scores(pixels()) / temperature
    np.testing.assert_allclose(mean.head.scores(pixels()), expected, rtol=1e-4, atol=1e-5)


@given(st.sampled_from(SHARES))
def test_a_result_has_any_share_of_the_trained_weights(share):
    _, whole = trained()
    began, after = whole.checkpoint.began, whole.checkpoint.values
    found = whole.at(share)
    assert found.soup == share
    after = after[: len(began)]
    for value, before, trained_one in zip(found.parameters, began, after, strict=True):
        np.testing.assert_allclose(value, (1 - share) * before + share * trained_one, atol=1e-5)
    # A share of a result with another share is the same.
    np.testing.assert_array_equal(found.at(1).parameters[-1], whole.at(1).parameters[-1])


def test_a_result_at_its_own_share_is_itself():
    whole = tuned_alone()
    assert whole.soup > 0
    for ours, same in zip(whole.parameters, whole.at(whole.soup).parameters, strict=True):
        np.testing.assert_array_equal(ours, same)


@pytest.mark.parametrize("share", SHARES)
def test_the_mean_has_the_share_that_is_chosen_unless_it_is_that_before(share, monkeypatch):
    monkeypatch.setattr(choosing_cut, "choose_soup", lambda *_: Soup(share, 1.0, {}))
    *_, block, whole, mean = [None, *choice_of(classifier()).trials][-3:]
    if share == 0:
        assert mean.layers == "all"
        return
    assert (mean.layers, mean.soup) == (MEAN, share)
    expected = whole.head.at(share).mean_with(block.head.at(share))
    np.testing.assert_array_equal(mean.head.scores(pixels()), expected.scores(pixels()))


def test_the_share_is_chosen_by_the_scores_of_held_out_images(monkeypatch):
    asked = []

    def kept(scores_at, objective, targets, weights):
        losses = [objective.calibrated_losses(scores_at(it), targets, weights) for it in SHARES]
        asked.append([each @ weights for each in losses])
        return Soup(0.25, 1.0, {})

    monkeypatch.setattr(choosing_cut, "choose_soup", kept)
    frozen, _, _, mean = choice_of(classifier()).trials
    ((before, quarter, *_),) = asked
    assert before == pytest.approx(frozen.loss, abs=1e-4)
    assert quarter == pytest.approx(mean.loss, abs=1e-6)
    assert before != quarter


@pytest.mark.parametrize("soup", [0.0, 0.5])
def test_a_share_that_is_a_number_is_that_of_the_mean(soup, monkeypatch):
    monkeypatch.setattr(choosing_cut, "LITTLE", 9.0)
    estimator = classifier(soup=soup)
    estimator.fit(images(), LABELS, validation_data=(images()[:20], LABELS[:20]))
    tried = [trial["trainable_layers"] for trial in estimator.tuning_["trials"]]
    assert tried == ([0, "conv2", "all", MEAN] if soup else [0, "conv2", "all"])
    assert not soup or estimator.tuning_["trials"][-1]["soup"] == soup


def test_weights_before_training_that_are_not_known_have_no_mean():
    block, whole = trained()
    assert whole.without_checkpoint().mean_with(block) is None


# --- the choice


def test_the_mean_is_the_result_if_its_loss_is_near_the_lowest():
    estimator = chosen()
    frozen, block, whole, mean = estimator.tuning_["trials"]
    assert mean["trainable_layers"] == MEAN
    assert mean["val_loss"] < min(each["val_loss"] for each in (frozen, block, whole))
    assert mean["steps"] == mean["cost"] == 0
    assert estimator.tuning_["is_mean"] is True
    assert estimator.tuning_["trainable_layers"] == "all" == estimator.prefix_.trainable_layers
    assert estimator.tuning_["reason"].endswith(
        f"{mean['val_loss']:.4g} of the mean of both trainings), that of the mean of both "
        "trainings is the lowest"
    )
    by_hand = classifier(trainable_layers="all").fit(images(), LABELS)
    assert estimator.history_ == by_hand.history_
    assert not np.allclose(estimator.predict_proba(images()), by_hand.predict_proba(images()))


def test_its_loss_and_accuracy_are_those_of_the_result():
    estimator = chosen()
    held_out = np.setdiff1d(np.arange(N), estimator.sample_indices_)
    assert len(held_out) == 12
    mean, targets = estimator.tuning_["trials"][-1], LABELS[held_out]
    scores = estimator.decision_function(images()[held_out])
    # A temperature below 1 suits these images best, and the result has none below 1.
    temperatures = np.array(estimator.head_.suffix.objective.temperatures)[:, None]
    losses = np.logaddexp(0, -np.where(targets, scores, -scores) / temperatures).mean(axis=1)
    assert mean["val_loss"] == pytest.approx(losses.min(), abs=1e-5)
    assert temperatures[losses.argmin()] < 1
    assert mean["val_accuracy"] == np.mean((scores > 0) == targets)


def test_a_mean_that_is_worse_is_not_taken(monkeypatch):
    monkeypatch.setattr(choosing_cut, "LITTLE", 2.0)
    estimator = classifier(random_state=0, fine_tune_learning_rate=0.01)
    estimator.fit(images(), COLOURS)
    *_, whole, mean = estimator.tuning_["trials"]
    assert mean["trainable_layers"] == MEAN
    assert mean["val_loss"] > 1.3 * whole["val_loss"]
    assert estimator.tuning_["reason"].endswith("that of all layers is the lowest")
    assert estimator.tuning_["is_mean"] is False
    by_hand = classifier(random_state=0, fine_tune_learning_rate=0.01, trainable_layers="all")
    np.testing.assert_array_equal(
        by_hand.fit(images(), COLOURS).predict_proba(images()), estimator.predict_proba(images())
    )


def test_few_images_of_little_loss_end_no_trial_and_leave_the_mean_one(monkeypatch):
    monkeypatch.setattr(choosing_cut, "LITTLE", 2.0)
    estimator = classifier(random_state=0).fit(images(), COLOURS)
    trials = estimator.tuning_["trials"]
    assert [trial["trainable_layers"] for trial in trials] == [0, "conv2", "all", MEAN]
    assert max(trial["val_loss"] for trial in trials[1:]) < choosing_cut.NEGLIGIBLE


def test_there_is_no_mean_where_all_layers_gain_much_of_a_guess():
    estimator = classifier(random_state=0).fit(images(), COLOURS)
    frozen, *others = estimator.tuning_["trials"]
    assert frozen["val_loss"] - others[-1]["val_loss"] > choosing_cut.LITTLE * np.log(2)
    assert [each["trainable_layers"] for each in others] == ["conv2", "all"]


def test_the_mean_is_tried_where_all_layers_gain_little():
    estimator = classifier().fit(images(), LABELS)
    frozen, _, whole, mean = estimator.tuning_["trials"]
    assert 0 < frozen["val_loss"] - whole["val_loss"] < choosing_cut.LITTLE * np.log(2)
    assert mean["trainable_layers"] == MEAN


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0.01, 5))
def test_layers_gain_little_if_it_is_less_than_a_tenth_of_a_guess(before, after, guess):
    assume(abs(before - after - 0.1 * guess) > 1e-9)
    frozen, whole = (
        Trial(layers, None, 0, 0.0, np.full(3, loss), 0.5, np.full(3, 1 / 3), None, guess)
        for layers, loss in ((0, before), ("all", after))
    )
    assert whole.gains_little(frozen) == ((before - after) / guess < 0.1)


def test_a_guess_knows_how_frequent_the_classes_are():
    rare = np.arange(N) % 10 == 3
    (frozen, *_) = choice_of(classifier(l2=10.0), rare).trials
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    assert frozen.guess == pytest.approx(entropy, abs=0.08)
    assert frozen.guess < 0.75 * np.log(2)


@pytest.mark.parametrize(("errors", "is_mean"), [(1.9, True), (2.1, False)])
def test_the_mean_may_be_two_standard_errors_above_the_lowest(errors, is_mean, monkeypatch):
    noise = np.array([-1.0, 0.0, 0.0, 1.0])
    error = noise.std(ddof=1) / 2
    frozen, block, whole = (
        Trial(layers, 0.1, 7, 1.0, np.full(4, loss), 0.5, np.full(4, 0.25), guess=99.0)
        for layers, loss in ((0, 3.0), ("conv2", 2.0), ("all", 1.0))
    )
    monkeypatch.setattr(Trial, "soup", 1.0)
    mean = replace(whole, layers=MEAN, losses=whole.losses + noise + errors * error)
    trials = {"conv2": block, "all": whole}
    monkeypatch.setattr(choosing_cut, "_frozen_trial", lambda _: frozen)
    monkeypatch.setattr(choosing_cut, "_trial", lambda candidate, *_: trials[candidate.layers])
    monkeypatch.setattr(choosing_cut, "_mean_trial", lambda *_: mean)
    candidates = [SimpleNamespace(layers=layers, learner=None) for layers in trials]
    choice = choose_cut(None, candidates, has_mean=True)
    assert (choice.is_mean, choice.layers) == (is_mean, "all")
    assert not choose_cut(None, candidates).is_mean


def test_the_reason_says_that_the_mean_is_near_the_lowest():
    losses, weights = np.array([0.3, 0.1, 0.2]), np.full(3, 1 / 3)
    mean = Trial(MEAN, 0.1, 0, 0.0, losses, 0.5, weights)
    lower = Trial("all", 0.1, 7, 1.0, losses - 0.05, 0.5, weights)
    assert reason_of([lower, mean], mean, lower) == (
        "of the losses on 3 held-out images (0.15 of all layers, 0.2 of the mean of both "
        "trainings), that of the mean of both trainings is at most 2 standard errors above the "
        "lowest"
    )


def test_archives_keep_a_choice_of_the_mean(tmp_path):
    estimator = chosen()
    save_model(estimator, tmp_path / "mean.tclf")
    restored = load_model(tmp_path / "mean.tclf", backbone=two_layers("none"))
    assert restored.tuning_ == estimator.tuning_
    np.testing.assert_allclose(
        restored.predict_proba(images()), estimator.predict_proba(images()), atol=1e-5
    )


@pytest.mark.parametrize("changes", [{"soup": 1}, {"hidden_units": (4,)}, {"optimizer": "adam"}])
def test_trials_of_half_the_steps_and_heads_from_random_weights_have_no_mean(changes):
    tried = [trial["trainable_layers"] for trial in chosen(**changes).tuning_["trials"]]
    assert tried == [0, "conv2", "all"]


@pytest.mark.filterwarnings("ignore")
def test_a_diverged_training_has_no_mean():
    estimator = chosen(fine_tune_learning_rate=1e30)
    assert len(estimator.tuning_["trials"]) == 3
