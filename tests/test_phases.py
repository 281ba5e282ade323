"""Tests of the output of fit: phases of its history, early stopping and titles of its bars."""

import re

import keras
import numpy as np
import pytest
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images

from transferclf import (
    Augmentation,
    ConvNet,
    FeatureStore,
    TransferClassifier,
    load_model,
    save_model,
)
from transferclf.heads.history import Phase, phases_of

N = 24
IMAGES = striped_images(N, np.random.default_rng(9))
OTHERS = striped_images(9, np.random.default_rng(10))
LABELS = np.arange(N) % 3

TUNED = {"trainable_layers": "top", "fine_tune_epochs": 2, **ALL_IMAGES}
HIDDEN = {"hidden_units": (4,), "epochs": 3}


def classifier(**parameters):
    return TransferClassifier(**({"image_size": 32, "random_state": 0} | parameters))


def phases(fitted):
    return [tuple(phase.values()) for phase in fitted.phases_]


class TestPhases:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["linear", "hidden", "tuned", "both", "scratch"])
    def test_each_has_its_unit(self, kind, tmp_path):
        parameters = {
            "linear": {"l2": 0.1},
            "hidden": HIDDEN,
            "tuned": TUNED | {"l2": 0.1},
            "both": TUNED | HIDDEN,
            "scratch": {"backbone": ConvNet((2,)), "image_size": 8, "epochs": 2},
        }[kind]
        fitted = classifier(**parameters).fit(IMAGES, LABELS)
        n_head = fitted.n_head_iter_
        expected = {
            "linear": [("head", "iteration", n_head, n_head, False)],
            "hidden": [("head", "epoch", 3, 3, False)],
            "tuned": [
                ("head", "iteration", n_head, n_head, False),
                ("fine-tuning", "epoch", 2, 2, False),
            ],
            "both": [("head", "epoch", 3, 3, False), ("fine-tuning", "epoch", 2, 2, False)],
            "scratch": [("network", "epoch", 2, 2, False)],
        }[kind]
        assert phases(fitted) == expected
        assert list(fitted.phases_[0]) == ["part", "unit", "length", "kept", "stopped_early"]
        save_model(fitted, tmp_path / "a.model")
        assert load_model(tmp_path / "a.model").phases_ == fitted.phases_
        # For older archives, the phases are derived from the history.
        parts = [phase["part"] for phase in fitted.phases_]
        told = phases_of(fitted.history_, n_head, parts)
        assert told == tuple(Phase(**phase) for phase in fitted.phases_)

    @pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
    def test_calls_of_partial_fit_make_one_phase_after_fit(self):
        stepwise = classifier().partial_fit(IMAGES, LABELS, [0, 1, 2])
        for _ in range(2):
            stepwise.partial_fit(IMAGES[:6], LABELS[:6])
        assert phases(stepwise) == [("head", "epoch", 3, 3, False)]
        fitted = classifier(l2=0.1).fit(IMAGES, LABELS)
        n_iter = fitted.n_iter_
        fitted.partial_fit(IMAGES, LABELS).partial_fit(IMAGES, LABELS)
        assert phases(fitted) == [
            ("head", "iteration", n_iter, n_iter, False),
            ("head", "epoch", 2, 2, False),
        ]

    def test_a_warm_start_adds_a_phase(self):
        fitted = classifier(**HIDDEN, warm_start=True).fit(IMAGES, LABELS)
        fitted.set_params(epochs=2).fit(IMAGES, LABELS)
        assert phases(fitted) == [("head", "epoch", 3, 3, False), ("head", "epoch", 2, 2, False)]

    def test_an_old_history_without_a_loss_has_no_phase(self):
        assert phases_of({"loss": [], "accuracy": []}, 0, ("head",)) == ()


class TestStopping:
    """The labels cannot be learned, so the validation loss rises soon."""

    def stopping(self, **changes):
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (N, 32, 32, 3), dtype=np.uint8)
        how = {"hidden_units": (16,), "l2": 0.0, "learning_rate": 0.02, "verbose": 1}
        how |= {"early_stopping": True, "patience": 3, "epochs": 40}
        fitted = classifier(**how | changes)
        return fitted.fit(images, LABELS, validation_data=(images[::-1], LABELS))

    def test_the_message_names_the_epoch_and_the_weights(self, capsys, tmp_path):
        fitted = self.stopping()
        losses = fitted.history_["val_loss"]
        n_epochs, best = len(losses), int(np.argmin(losses)) + 1
        assert n_epochs < 40
        (phase,) = fitted.phases_
        kept = phase["kept"]
        assert phase == {
            "part": "head",
            "unit": "epoch",
            "length": n_epochs,
            "kept": kept,
            "stopped_early": True,
        }
        assert kept in (0, best)
        which = f"the weights of epoch {kept}" if kept else "the weights before the first epoch"
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"head, early stopping after epoch {n_epochs}; {which} came back"
        save_model(fitted, tmp_path / "a.model")
        assert load_model(tmp_path / "a.model").phases_ == fitted.phases_

    def test_the_weights_before_the_first_epoch_have_number_0(self, capsys):
        fitted = self.stopping(learning_rate=3.0, optimizer="sgd")
        assert fitted.phases_[0]["kept"] == 0
        assert "the weights before the first epoch came back" in capsys.readouterr().out

    def test_the_last_epoch_is_no_early_stop(self, capsys):
        fitted = self.stopping(epochs=2, patience=9, learning_rate=3.0, optimizer="sgd")
        (phase,) = fitted.phases_
        assert (phase["length"], phase["stopped_early"]) == (2, False)
        assert phase["kept"] < 2
        assert "all 2 epochs are done; the weights " in capsys.readouterr().out

    def test_training_without_a_stop_prints_no_message(self, capsys):
        how = classifier(**HIDDEN, early_stopping=True, patience=9, verbose=1)
        fitted = how.fit(IMAGES, LABELS, validation_data=(IMAGES, LABELS))
        assert phases(fitted) == [("head", "epoch", 3, 3, False)]
        assert capsys.readouterr().out.splitlines()[-1].startswith("head, epoch 3 of 3 - ")

    def test_a_callback_for_early_stopping_gets_the_message_too(self, capsys):
        own = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1)
        fitted = classifier(**HIDDEN | {"epochs": 9}, callbacks=[own], verbose=1)
        fitted.fit(IMAGES, LABELS)
        assert phases(fitted) == [("head", "epoch", 2, 2, True)]
        said = "head, early stopping after epoch 2; the weights of epoch 2 are kept"
        assert capsys.readouterr().out.splitlines()[-1] == said

    def test_each_phase_stops_by_itself(self):
        how = TUNED | {"fine_tune_learning_rate": 3.0, "fine_tune_epochs": 9, "optimizer": "sgd"}
        how |= {"lr_schedule": None, "global_clipnorm": 1.0, "batch_size": 32}
        fitted = self.stopping(**how | {"epochs": 2, "learning_rate": 1e-3})
        head, tuning = fitted.phases_
        assert (head["length"], head["stopped_early"]) == (2, False)
        assert (tuning["kept"], tuning["stopped_early"]) == (0, True)


def titles(text):
    """Return the titles of the bars in the output."""
    return [found.group(1) for found in re.finditer(r"^(.*): \d+/\d+ .*images/s", text, re.M)]


class TestShown:
    def test_titles_of_bars_name_their_images(self, capsys, tmp_path):
        views = Augmentation(horizontal_flip=True, rotation=5, views=2)
        fitted = classifier(augmentation=views, l2=0.1, verbose=1, cache=FeatureStore(tmp_path))
        fitted.fit(IMAGES, LABELS, validation_data=(OTHERS, np.arange(9) % 3))
        of_views = [f"features, view {number} of 2" for number in (1, 2)]
        out = capsys.readouterr().out
        assert titles(out) == ["features", *of_views, "features, validation"]
        assert "features, validation: 9 images to compute\n" in out
        assert "known" not in out
        fitted.predict(OTHERS)
        assert titles(capsys.readouterr().out) == []  # all features are stored
        fitted.predict(255 - OTHERS)
        assert titles(capsys.readouterr().out) == ["features"]

    def test_a_bar_is_shown_for_the_activations_at_the_cut(self, capsys):
        classifier(**TUNED, l2=0.1, verbose=1).fit(IMAGES, LABELS)
        assert titles(capsys.readouterr().out) == ["activations at the cut", "features"]

    def test_the_search_for_a_penalty_is_shown(self, capsys):
        fitted = classifier(verbose=1).fit(IMAGES, LABELS)
        lines = capsys.readouterr().out.splitlines()
        first = lines.index("choosing l2 by cross-validation on 24 images")
        assert lines[first + 1].startswith(f"l2: {fitted.l2_:.2g} by cross-validation, held-out")
        assert lines[first + 2].startswith("linear head: ")
        classifier(verbose=1).fit(IMAGES[:3], LABELS[:3])
        assert "l2: 0.01, as most classes have one image" in capsys.readouterr().out

    @pytest.mark.parametrize("parameters", [{}, HIDDEN, TUNED])
    def test_fit_is_silent_by_default(self, parameters, capsys):
        classifier(**parameters).fit(IMAGES, LABELS)
        assert capsys.readouterr().out == ""
