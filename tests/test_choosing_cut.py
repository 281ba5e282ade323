"""trainable_layers="auto": frozen, the last block or all layers, by short trials."""

import functools
import pickle
from dataclasses import replace

import keras
import numpy as np
import pytest
from counting import counted_images
from hypothesis import assume, given
from hypothesis import strategies as st
from image_helpers import striped_images
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from two_layer_helpers import COLOURS, SIDE, N, images, two_layers

from transferclf import (
    Augmentation,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    load_model,
    save_model,
)
from transferclf.backbones import registry
from transferclf.estimators import tuning
from transferclf.exceptions import ArchiveError, InvalidParameterError, TransferclfWarning
from transferclf.persistence.facts import Facts
from transferclf.persistence.tuning import restored_tuning, tuning_facts
from transferclf.training.choosing_cut import CLEAR, Trial, choose_cut, reason_of

# One label in twelve is wrong, so that no candidate is sure of all images.
LABELS = np.where(np.arange(N) % 12 == 5, 1 - COLOURS, COLOURS)

# At the rate that is right for one layer, some trainings of all layers diverge.
pytestmark = pytest.mark.filterwarnings("ignore:trainable_layers='auto' leaves out")


def classifier(blind="conv1", **changes):
    parameters = {
        "backbone": two_layers(blind),
        "trainable_layers": "auto",
        "fine_tune_epochs": 32,
        "fine_tune_learning_rate": 0.1,
        "batch_size": 16,
        "augmentation": None,
        "l2": 0.1,
        "random_state": 0,
        "cache": None,
    }
    return TransferClassifier(**parameters | changes)


@functools.cache
def fitted(blind):
    return classifier(blind).fit(images(), LABELS)


def tried(estimator):
    """Return the layers of the trials of an estimator, in order."""
    return [trial["trainable_layers"] for trial in estimator.tuning_["trials"]]


# --- the choice


@pytest.mark.parametrize(("blind", "chosen"), [("conv1", "all"), ("conv2", "conv2")])
def test_the_layers_that_help_are_chosen(blind, chosen):
    estimator = fitted(blind)
    assert estimator.tuning_["trainable_layers"] == chosen == estimator.prefix_.trainable_layers
    assert estimator.score(images(), COLOURS) > 0.95
    frozen = classifier(blind, trainable_layers=0, fine_tune_epochs="auto", batch_size="auto")
    default = TransferClassifier().fine_tune_learning_rate
    frozen.set_params(fine_tune_learning_rate=default).fit(images(), LABELS)
    assert frozen.score(images(), COLOURS) < 0.8


@pytest.mark.slow
def test_features_that_tell_the_classes_apart_stay_frozen():
    stripes, labels = striped_images(210, np.random.default_rng(0)), np.arange(210) % 3
    estimator = TransferClassifier("tiny", image_size=32, trainable_layers="auto", random_state=0)
    # Parameters of fine-tuning have an effect, that on the choice. Warnings are errors.
    estimator.set_params(fine_tune_epochs=2, weight_decay=0.1)
    held_out = (stripes[60:], labels[60:])
    estimator.fit(stripes[:60], labels[:60], validation_data=held_out)
    assert estimator.tuning_["trainable_layers"] == 0
    assert estimator.tuning_["fine_tune_learning_rate"] is None
    assert tried(estimator) == [0]  # because there is nothing to gain
    assert [phase["part"] for phase in estimator.phases_] == ["head"]
    assert len(estimator.sample_indices_) == 60


def test_training_that_harms_leaves_the_network_frozen():
    others = (images(), 1 - COLOURS)  # the surer of the colours, the worse
    estimator = classifier("conv1").fit(images(), LABELS, validation_data=others)
    assert estimator.tuning_["trainable_layers"] == 0
    assert tried(estimator) == [0, "conv2", "all"]


def trial(losses, weights=None):
    losses = np.asarray(losses, float)
    weights = np.full(len(losses), 1 / len(losses)) if weights is None else np.array(weights)
    return Trial("all", None, 0, 0.0, losses, 0.0, weights)


@given(st.integers(5, 500), st.integers(0, 50), st.floats(0, 0.02))
def test_nothing_is_to_gain_only_if_many_images_say_so(n, n_without_weight, loss):
    weights = np.r_[np.full(n, 1 / n), np.zeros(n_without_weight)]
    losses = np.r_[np.full(n, loss), np.full(n_without_weight, 9.0)]
    one_more = np.mean([*losses[:n], 1.0])
    assume(abs(one_more - 0.01) > 1e-9)
    assert trial(losses, weights).is_negligible == (one_more < 0.01)


def test_images_of_little_weight_say_little():
    weights = np.r_[np.full(5, 1.0), np.full(400, 1e-6)]
    assert not trial(np.zeros(405), weights / weights.sum()).is_negligible
    assert trial(np.zeros(405)).is_negligible


@given(st.integers(5, 200), st.integers(0, 9), st.floats(0.01, 10))
def test_only_a_difference_of_many_standard_errors_is_clear(n, seed, scale):
    noise = scale * np.random.default_rng(seed).normal(size=n)
    error = noise.std(ddof=1) / n**0.5
    best = trial(np.zeros(n))
    for times, expected in ((-1, True), (0.99, True), (1.01, False)):
        losses = noise - noise.mean() + times * CLEAR * error
        assert trial(losses).is_near(best) == expected


def test_a_diverged_trial_is_never_near():
    best, diverged = trial([0.1, 0.2]), trial([np.inf, np.inf])
    assert not diverged.is_near(best)
    assert diverged.loss == np.inf
    assert not trial([np.inf]).is_near(trial([0.1]))


def test_images_without_weight_do_not_count():
    losses, weights = [0.1, 0.2, 9.0, np.inf], [0.5, 0.5, 0.0, 0.0]
    assert trial(losses, weights).loss == pytest.approx(0.15)
    assert trial(losses, weights).is_near(trial([0.2, 0.1, 0.0, 0.0], weights))
    # These two would hide that the others are all worse by one.
    noise, weights = [1.0, 1.0, -50.0, 60.0], [0.5, 0.5, 0.0, 0.0]
    assert not trial(noise, weights).is_near(trial(np.zeros(4), weights))


def test_a_rate_that_diverges_loses_with_a_warning_for_each_trial():
    estimator = classifier(fine_tune_learning_rate=1e30)
    with pytest.warns(TransferclfWarning) as warned:
        estimator.fit(images(), LABELS)
    diverged = estimator.tuning_["trials"][1:]
    left_out = [str(each.message) for each in warned if "leaves out" in str(each.message)]
    assert len(left_out) == len(diverged) > 0
    assert left_out[-1].startswith("trainable_layers='auto' leaves out all layers: training diverg")
    for message in left_out:
        assert "at a learning rate of 1e+30" in message
        assert message.endswith("Set fine_tune_learning_rate to a tenth of that or less.")
    assert [each["val_loss"] for each in diverged] == [np.inf] * len(diverged)
    assert estimator.tuning_["trainable_layers"] == 0


# --- the final fit


@pytest.mark.parametrize("blind", ["conv1", "conv2"])
def test_the_result_is_that_of_the_choice_made_by_hand(blind):
    estimator = fitted(blind)
    choice = {
        name: estimator.tuning_[name] for name in ("trainable_layers", "fine_tune_learning_rate")
    }
    by_hand = classifier(blind, **choice).fit(images(), LABELS)
    assert by_hand.tuning_ is None
    assert by_hand.history_ == estimator.history_
    assert by_hand.phases_ == estimator.phases_
    assert by_hand.prefix_.digest == estimator.prefix_.digest
    for a, b in zip(by_hand.head_.parameters, estimator.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        by_hand.predict_proba(images()), estimator.predict_proba(images())
    )


def test_a_frozen_choice_gives_the_frozen_result():
    few, labels = images()[:20], LABELS[:20]
    estimator = classifier().fit(few, labels)
    by_hand = TransferClassifier(two_layers("conv1"), l2=0.1, random_state=0, cache=None)
    by_hand.fit(few, labels)
    assert estimator.tuning_["trainable_layers"] == 0
    assert estimator.history_ == by_hand.history_
    np.testing.assert_array_equal(estimator.head_.weights[0], by_hand.head_.weights[0])
    np.testing.assert_array_equal(estimator.sample_indices_, np.arange(20))


def test_parameters_are_left_as_they_are():
    estimator = fitted("conv1")
    assert estimator.trainable_layers == "auto"
    assert estimator.fine_tune_learning_rate == 0.1
    copy = clone(estimator)
    assert copy.trainable_layers == "auto"
    assert not hasattr(copy, "tuning_")


@pytest.mark.slow
def test_a_later_fit_without_auto_forgets_the_choice():
    estimator = classifier("conv2").fit(images(), LABELS)
    estimator.set_params(trainable_layers="conv2").fit(images(), LABELS)
    assert estimator.tuning_ is None


# --- tuning_


def test_tuning_tells_the_choice_and_the_trials():
    choice = fitted("conv1").tuning_
    names = {"trainable_layers", "fine_tune_learning_rate", "is_mean", "reason", "trials"}
    assert set(choice) == names
    assert choice["is_mean"] is False
    assert choice["fine_tune_learning_rate"] == 0.1
    names = {"trainable_layers", "fine_tune_learning_rate", "steps", "soup", "val_loss"}
    assert all(set(each) == names | {"val_accuracy", "cost"} for each in choice["trials"])
    frozen, block, whole = choice["trials"]
    assert [each["trainable_layers"] for each in choice["trials"]] == [0, "conv2", "all"]
    assert frozen["steps"] == frozen["soup"] == frozen["cost"] == 0
    assert frozen["fine_tune_learning_rate"] is None
    assert frozen["val_loss"] == pytest.approx(np.log(2), abs=0.1)
    # 108 images are 7 steps in each of 32 epochs.
    assert [(each["fine_tune_learning_rate"], each["steps"]) for each in (block, whole)] == [
        (0.1, 224),
        (0.1, 224),
    ]
    assert block["cost"] < whole["cost"] == 1
    assert whole["soup"] == fitted("conv1").soup_ > 0
    assert whole["val_accuracy"] > 0.8 > frozen["val_accuracy"]
    text = f"of the losses on 12 held-out images ({frozen['val_loss']:.4g} of the frozen network, "
    assert choice["reason"].startswith(text)
    assert choice["reason"].endswith(", that of all layers is the lowest")


def test_the_reason_says_that_fewer_layers_are_not_clearly_better():
    everything = Trial("all", 0.1, 7, 1.0, np.array([0.3, 0.1, 0.2]), 0.5, np.full(3, 1 / 3))
    frozen = replace(everything, layers=0, losses=np.array([0.1, 0.2, 0.2]))
    assert reason_of([frozen, everything], everything, frozen) == (
        "of the losses on 3 held-out images (0.1667 of the frozen network, 0.2 of all layers), "
        "that of all layers is at most 3 standard errors above the lowest, with more layers"
    )


def test_verbose_says_the_choice_in_a_line(capsys):
    few, labels = images()[:60], LABELS[:60]
    estimator = classifier(verbose=1, fine_tune_epochs=4).fit(few, labels)
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if line.startswith("trainable_layers='auto' is ")]
    choice = estimator.tuning_
    assert said == [
        f"trainable_layers='auto' is {choice['trainable_layers']!r}: {choice['reason']}"
    ]
    assert sum(line.startswith("trial of ") for line in lines) == len(choice["trials"])


# --- costs


def test_the_trial_that_wins_is_the_fit():
    with counted_images() as by_hand:
        classifier("conv1", trainable_layers="all").fit(images(), LABELS)
    with counted_images() as counts:
        estimator = classifier("conv1").fit(images(), LABELS)
    assert counts["trained"] == by_hand["trained"] == 32 * 108
    assert counts["scored"] == by_hand["scored"] + 12  # to judge it
    assert sum(each["cost"] for each in estimator.tuning_["trials"]) < 1.8


@pytest.mark.parametrize(("epochs", "trained"), [(32, 16 * 108), (3, 108), (1, 54)])
def test_half_a_fine_tuning_is_tried_where_the_fit_holds_nothing_out(epochs, trained):
    with counted_images() as counts:
        estimator = classifier("conv1", soup=1, fine_tune_epochs=epochs).fit(images(), LABELS)
    final = epochs * N if estimator.tuning_["trainable_layers"] == "all" else 0
    assert counts["trained"] == trained + final
    assert trained <= epochs * N / 2
    costs = [each["cost"] for each in estimator.tuning_["trials"]]
    assert costs[-1] == pytest.approx(trained / (epochs * 108))
    assert sum(costs) <= 1
    np.testing.assert_array_equal(estimator.sample_indices_, np.arange(N))


@pytest.mark.slow
def test_a_cut_that_is_dearer_than_all_layers_is_not_tried():
    varied = Augmentation(brightness=0.1, views=6)
    parameters = {"augmentation": varied, "soup": 1}
    estimator = classifier(fine_tune_epochs=1, **parameters).fit(images(), LABELS)
    assert tried(estimator) == [0, "all"]
    assert tried(classifier(fine_tune_epochs=8, **parameters).fit(images(), LABELS))[1] == "conv2"


def test_callbacks_of_the_user_see_the_fit_alone():
    class Counting(keras.callbacks.Callback):
        n_epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.n_epochs += 1

    callback = Counting()
    classifier("conv2", callbacks=[callback]).fit(images(), LABELS)
    assert callback.n_epochs == 32


# --- networks and images between which there is no choice


def test_a_network_that_cannot_be_cut_stays_frozen(monkeypatch):
    from transferclf import register_backbone

    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    register_backbone("means", function=lambda x: x.mean(axis=(1, 2)), image_size=SIDE)
    estimator = TransferClassifier("means", trainable_layers="auto", l2=0.1)
    estimator.fit(images(), LABELS)
    assert estimator.tuning_ == {
        "trainable_layers": 0,
        "fine_tune_learning_rate": None,
        "is_mean": False,
        "reason": "'means' is a function, which cannot be cut",
        "trials": [],
    }
    assert estimator.score(images(), COLOURS) == 1


@pytest.mark.parametrize(
    ("n", "labels", "reason"),
    [
        (20, LABELS[:20], "only 2 images can be held out for trials, and 5 are needed"),
        (
            60,
            np.where(np.arange(60) == 7, 2, LABELS[:60]),
            "no images can be held out for trials: ",
        ),
        # Twice the fraction is tried, too.
        (60, np.arange(60) % 20, "a validation fraction of 0.2 is 12 of 60 images, too few"),
    ],
)
def test_too_few_images_leave_the_network_frozen(n, labels, reason):
    estimator = classifier().fit(images()[:n], labels)
    assert estimator.tuning_["trainable_layers"] == 0
    assert reason in estimator.tuning_["reason"]
    assert estimator.tuning_["trials"] == []


def test_validation_data_judge_the_trials():
    learned, held_out = slice(0, 80), slice(80, N)
    estimator = classifier("conv2", fine_tune_epochs=8)
    estimator.fit(
        images()[learned],
        LABELS[learned],
        validation_data=(images()[held_out], LABELS[held_out]),
    )
    assert "on 40 held-out images" in estimator.tuning_["reason"]
    np.testing.assert_array_equal(estimator.sample_indices_, np.arange(80))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": ConvNet((2,)), "image_size": SIDE}, "a ConvNet starts from random weights"),
        ({"backbone": "tiny", "weights": None}, "'tiny' with weights=None starts from random"),
    ],
)
def test_random_weights_are_refused(parameters, message):
    with pytest.raises(InvalidParameterError, match=f"pretrained network is trained. {message}"):
        classifier(**parameters).fit(images(), LABELS)


@pytest.mark.parametrize("value", ["Auto", "AUTO", "auto ", " auto"])
def test_other_spellings_are_refused(value):
    with pytest.raises(InvalidParameterError, match=f"'auto', 'all', .* Got '{value}' instead"):
        classifier(trainable_layers=value).fit(images(), LABELS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"test_time_augmentation": "views", "augmentation": "auto"}, "set augmentation and fit"),
        ({"augmentation": Augmentation(feature_noise=0.2)}, "here all layers are trained"),
        ({"fine_tune_learning_rate": 0}, "fine_tune_learning_rate must be"),
    ],
)
def test_errors_come_before_trials(parameters, message, monkeypatch):
    monkeypatch.setattr(tuning, "choose_cut", None)
    with pytest.raises(InvalidParameterError, match=message):
        classifier(**parameters).fit(images(), LABELS)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_only_trained_layers_see_mixed_images(shift, monkeypatch):
    seen = []

    def watched(frozen, candidates, verbose, **options):
        learners = [frozen, *(candidate.learner for candidate in candidates)]
        seen.extend(learner.plan.augmentation for learner in learners)
        return choose_cut(frozen, candidates, verbose, **options)

    monkeypatch.setattr(tuning, "choose_cut", watched)
    mixing = Augmentation(mixup=0.2, shift=shift, views=1)
    classifier(augmentation=mixing, fine_tune_epochs=1).fit(images(), LABELS)
    assert seen == [Augmentation(shift=shift, views=1) if shift else None, mixing, mixing]


def test_other_parameters_without_an_effect_are_named():
    with pytest.warns(TransferclfWarning, match=r"without effect on this fit: epochs=3 \("):
        classifier("conv2", epochs=3).fit(images(), LABELS)


# --- together with others


def test_a_search_compares_auto_with_frozen():
    search = GridSearchCV(classifier("conv2"), {"trainable_layers": ["auto", 0]}, cv=2)
    with pytest.warns(TransferclfWarning, match="without effect"):  # where it is 0
        search.fit(images(), LABELS)
    assert search.best_params_ == {"trainable_layers": "auto"}
    assert search.best_estimator_.tuning_["trainable_layers"] == "conv2"


def test_partial_fit_is_refused():
    assert not hasattr(fitted("conv1"), "partial_fit")
    with pytest.raises(AttributeError) as caught:
        fitted("conv1").partial_fit(images(), LABELS)
    assert "trainable_layers='auto'" in str(caught.value.__cause__)


def test_a_warm_start_goes_on_with_the_choice():
    estimator = classifier("conv2", warm_start=True).fit(images(), LABELS)
    choice = estimator.tuning_
    with counted_images() as counts:
        estimator.fit(images(), LABELS)
    assert estimator.tuning_ is choice
    assert counts["trained"] == 0  # no network on pixels was tried
    assert [phase["part"] for phase in estimator.phases_] == ["head", "fine-tuning", "fine-tuning"]


def test_a_warm_start_from_a_frozen_fit_equals_the_choice_made_by_hand():
    results, choice = [], "auto"
    for _ in range(2):
        estimator = classifier("conv2", warm_start=True, trainable_layers=0)
        with pytest.warns(TransferclfWarning, match="without effect"):
            estimator.fit(images(), LABELS)
        results.append(estimator.set_params(trainable_layers=choice).fit(images(), LABELS))
        choice = results[0].tuning_["trainable_layers"]
    assert choice in ("conv2", "all")
    assert results[0].history_ == results[1].history_


class Interrupting(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_an_interrupted_fit_goes_on_as_if_it_had_not_been():
    estimator = classifier("conv2", warm_start=True, callbacks=[Interrupting()])
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(images(), LABELS)
    choice = estimator.tuning_["trainable_layers"]
    assert choice == estimator.prefix_.trainable_layers != 0
    estimator.set_params(callbacks=None).fit(images(), LABELS)
    whole = classifier("conv2", trainable_layers=choice).fit(images(), LABELS)
    assert estimator.history_ == whole.history_
    for a, b in zip(estimator.head_.parameters, whole.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_interruption_in_the_trials_leaves_the_estimator_as_it_was(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    estimator = classifier("conv2", trainable_layers="conv2").fit(images(), LABELS)
    before = estimator.head_
    monkeypatch.setattr(tuning, "choose_cut", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.set_params(trainable_layers="auto").fit(images(), LABELS)
    assert estimator.head_ is before
    assert estimator.prefix_.trainable_layers == "conv2"


def test_pickles_and_archives_keep_the_choice(tmp_path):
    estimator = fitted("conv1")
    assert pickle.loads(pickle.dumps(estimator)).tuning_ == estimator.tuning_
    path = tmp_path / "a.model"
    save_model(estimator, path)
    loaded = load_model(path, backbone=two_layers("conv1"))
    assert loaded.tuning_ == estimator.tuning_
    assert loaded.trainable_layers == "auto"
    np.testing.assert_array_equal(loaded.predict(images()), estimator.predict(images()))


FACTS = {
    "trainable_layers": "conv2",
    "fine_tune_learning_rate": 0.1,
    "is_mean": True,
    "reason": "so",
    "trials": {
        "trainable_layers": [0, "conv2"],
        "steps": [0, 7],
        "fine_tune_learning_rate": ["nan", 0.1],
        "soup": [0, 1],
        "val_loss": [0.5, "inf"],
        "val_accuracy": [0.5, "nan"],
        "cost": [0, 0.2],
    },
}


def test_facts_of_a_choice_are_read():
    choice = restored_tuning(Facts(FACTS, "tuning"), "accuracy")
    rates = [each["fine_tune_learning_rate"] for each in choice["trials"]]
    assert rates == [None, 0.1]
    assert choice["trials"][1]["val_loss"] == np.inf
    assert tuning_facts(choice, "accuracy") == FACTS
    earlier = {name: value for name, value in FACTS.items() if name != "is_mean"}
    assert restored_tuning(Facts(earlier, "tuning"), "accuracy")["is_mean"] is False


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trainable_layers": -1}, "whole numbers and names"),
        ({"trainable_layers": ["all"]}, "whole numbers and names"),
        ({"fine_tune_learning_rate": "fast"}, "a number"),
        ({"reason": 1}, "a text"),
        ({"is_mean": 1}, "true or false"),
        ({"more": 1}, "must not have 'more'"),
        ({"trials": []}, "an object"),
        ({"trials": FACTS["trials"] | {"trainable_layers": 2}}, "a list"),
        ({"trials": FACTS["trials"] | {"trainable_layers": [True, 0]}}, "whole numbers and names"),
        ({"trials": FACTS["trials"] | {"steps": [0]}}, "lists of one length"),
        ({"trials": FACTS["trials"] | {"cost": [0, "high"]}}, "numbers"),
        ({"trials": FACTS["trials"] | {"val_mae": [0, 1]}}, "must not have 'val_mae'"),
    ],
)
def test_forged_facts_of_a_choice_are_refused(change, reason):
    with pytest.raises(ArchiveError, match=reason):
        restored_tuning(Facts(FACTS | change, "tuning"), "accuracy")


@pytest.mark.slow
def test_a_regressor_chooses():
    parameters = classifier("conv2").get_params(deep=False)
    names = TransferRegressor().get_params(deep=False)
    regressor = TransferRegressor(**{name: parameters.get(name, names[name]) for name in names})
    regressor.fit(images(), np.where(LABELS, 10.0, 20.0))
    assert regressor.tuning_["trainable_layers"] in ("conv2", "all")
    assert regressor.score(images(), np.where(COLOURS, 10.0, 20.0)) > 0.5
    assert all("val_mae" in each for each in regressor.tuning_["trials"])


@pytest.mark.slow
def test_several_labels_are_chosen_for():
    both = np.stack([LABELS, np.arange(N) % 3 == 0], axis=1).astype(int)
    estimator = classifier("conv2").fit(images(), both)
    assert estimator.tuning_["trainable_layers"] in ("conv2", "all")
    assert all("val_binary_accuracy" in each for each in estimator.tuning_["trials"])


@pytest.mark.slow
def test_weights_and_repeated_images_are_used_in_trials():
    weights = np.where(np.arange(N) < 60, 1.0, 0.0)
    estimator = classifier("conv1", oversample=True, hidden_units=(4,), epochs=2)
    estimator.fit(images(), np.where(np.arange(N) % 8, 0, LABELS + 1) > 0, weights)
    assert np.isfinite([each["val_loss"] for each in estimator.tuning_["trials"]]).all()
