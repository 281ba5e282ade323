"""Callbacks that keep state: the caller's own objects are called, and release the model after."""

import csv
import gc
import pickle
import weakref

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from transferclf import ConvNet, TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.training import trainer as trainers

N = 36
IMAGES = striped_images(N, np.random.default_rng(4))
LABELS = np.array(["across", "down", "noise"])[np.arange(N) % 3]


def tiny(*callbacks, **changes):
    parameters = {"image_size": 32, "hidden_units": (4,), "epochs": 3, "batch_size": 12}
    parameters |= {"random_state": 0, "callbacks": list(callbacks)}
    return TransferClassifier("tiny", **(parameters | changes))


class Notes(keras.callbacks.Callback):
    """Callback that logs losses and its model."""

    def __init__(self):
        super().__init__()
        self.losses = []
        self.ends = 0

    def set_model(self, model):
        super().set_model(model)
        self.mine = model

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])

    def on_train_end(self, logs=None):
        self.ends += 1


class PrunedError(Exception):
    """Error of a study that prunes a trial."""


class Pruning(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.reports = []

    def on_epoch_end(self, epoch, logs=None):
        self.reports.append((epoch, logs["loss"]))
        if epoch == self.epoch:
            raise PrunedError


def test_a_history_and_a_callback_of_the_caller_are_filled():
    history, notes = keras.callbacks.History(), Notes()
    fitted = tiny(history, notes).fit(IMAGES, LABELS)
    assert history.history == fitted.history_
    assert history.epoch == [0, 1, 2]
    assert notes.losses == fitted.history_["loss"]
    assert fitted.callbacks == [history, notes]


@pytest.mark.slow
def test_a_history_continues_over_phases_and_fits():
    history = keras.callbacks.History()
    how = {"trainable_layers": "top", "fine_tune_epochs": 2}
    fitted = tiny(history, **how).fit(IMAGES, LABELS)
    assert history.history == fitted.history_
    assert history.epoch == [0, 1]
    fitted.fit(IMAGES, LABELS)
    assert history.history["loss"] == 2 * fitted.history_["loss"]


def test_a_logger_has_a_line_for_each_epoch(tmp_path):
    fitted = tiny(keras.callbacks.CSVLogger(tmp_path / "log.csv")).fit(IMAGES, LABELS)
    with open(tmp_path / "log.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses == pytest.approx(fitted.history_["loss"])


def test_a_pruning_callback_ends_the_fit_with_a_usable_state():
    pruning = Pruning(1)
    classifier = tiny(pruning)
    with pytest.raises(PrunedError):
        classifier.fit(IMAGES, LABELS)
    one = tiny(epochs=1).fit(IMAGES, LABELS)
    assert [epoch for epoch, _ in pruning.reports] == [0, 1]
    assert classifier.history_ == one.history_
    np.testing.assert_array_equal(classifier.predict_proba(IMAGES), one.predict_proba(IMAGES))
    again = tiny(Pruning(0)).fit
    with pytest.raises(PrunedError):
        again(IMAGES, LABELS)


def test_steps_and_epochs_are_among_the_parameters():
    notes = Notes()
    tiny(notes, epochs=2, batch_size=10).fit(IMAGES, LABELS)
    assert notes.params == {"epochs": 2, "steps": 4, "verbose": 0}


MADE = {
    "own": lambda folder: Notes(),
    "history": lambda folder: keras.callbacks.History(),
    "logger": lambda folder: keras.callbacks.CSVLogger(folder / "log.csv"),
    "stopping": lambda folder: keras.callbacks.EarlyStopping("loss", restore_best_weights=True),
    "plateau": lambda folder: keras.callbacks.ReduceLROnPlateau("loss"),
    "finite": lambda folder: keras.callbacks.TerminateOnNaN(),
    "bar": lambda folder: keras.callbacks.ProgbarLogger(),
}


@pytest.mark.parametrize("kind", MADE)
def test_afterwards_the_estimator_is_copied_pickled_and_fitted_again(kind, tmp_path):
    callback = MADE[kind](tmp_path)
    fitted = tiny(callback, epochs=2).fit(IMAGES, LABELS)
    assert callback.model is None
    assert not any(isinstance(value, keras.Model) for value in vars(callback).values())
    others = [clone(fitted), fitted]
    if can_be_pickled(MADE[kind](tmp_path)):
        others.insert(0, pickle.loads(pickle.dumps(fitted)))
        found = others[0].predict_proba(IMAGES)
        np.testing.assert_array_equal(found, fitted.predict_proba(IMAGES))
    for other in others:
        assert other.fit(IMAGES, LABELS).history_ == fitted.history_


def can_be_pickled(callback):
    """Return whether a callback can be pickled: ReduceLROnPlateau of Keras 3.8 has a lambda."""
    try:
        pickle.dumps(callback)
    except (AttributeError, pickle.PicklingError):
        return False
    return True


def test_newer_versions_of_keras_pickle_these_callbacks(tmp_path):
    is_old = tuple(map(int, keras.__version__.split(".")[:2])) < (3, 9)
    not_pickled = {kind for kind, make in MADE.items() if not can_be_pickled(make(tmp_path))}
    assert not_pickled <= ({"plateau"} if is_old else set())


@pytest.mark.parametrize("error", [PrunedError, KeyboardInterrupt])
def test_an_estimator_can_be_used_after_a_failure(error, tmp_path):
    def fail(epoch, logs):
        raise error

    notes, logger = Notes(), keras.callbacks.CSVLogger(tmp_path / "log.csv")
    failing = keras.callbacks.LambdaCallback(on_epoch_end=fail)
    classifier = tiny(notes, logger, failing)
    with pytest.raises(error):
        classifier.fit(IMAGES, LABELS)
    assert notes.model is notes.mine is failing.model is None
    assert notes.ends == 1
    assert pickle.loads(pickle.dumps(notes)).losses == notes.losses
    clone(classifier.set_params(callbacks=[notes, logger])).fit(IMAGES, LABELS)


def test_an_error_at_the_end_does_not_hide_the_first_one():
    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(PrunedError):
        tiny(Pruning(0), keras.callbacks.LambdaCallback(on_train_end=fail)).fit(IMAGES, LABELS)
    with pytest.raises(ZeroDivisionError):
        tiny(keras.callbacks.LambdaCallback(on_train_end=fail)).fit(IMAGES, LABELS)


def test_callbacks_do_not_keep_the_trainers_model_alive():
    trainers._trainers.clear()
    seen = []

    class Watching(Notes):
        def on_train_begin(self, logs=None):
            seen.append(weakref.ref(self.model))

    history = keras.callbacks.History()
    fitted = tiny(Watching(), history).fit(IMAGES, LABELS)
    assert not hasattr(seen[0](), "history")
    trainers._trainers.clear()
    gc.collect()
    assert seen[0]() is None
    assert fitted.callbacks[1] is history


def test_clones_in_a_search_have_copies():
    notes = Notes()
    search = GridSearchCV(tiny(notes), {"learning_rate": [1e-3, 1e-2]}, cv=2).fit(IMAGES, LABELS)
    assert notes.losses == []
    best = search.best_estimator_
    assert best.callbacks[0].losses == best.history_["loss"]


@pytest.mark.parametrize("early", [True, False])
def test_weights_restored_by_keras_early_stopping_are_kept(early):
    # The first epoch has the largest loss.
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=1 if early else 9, restore_best_weights=True
    )
    fitted = tiny(stopping).fit(IMAGES, LABELS)
    assert stopping.best_epoch == 0
    short = tiny(epochs=1).fit(IMAGES, LABELS)
    for a, b in zip(fitted.head_.parameters, short.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    (phase,) = fitted.phases_
    assert (phase["length"], phase["kept"]) == (2 if early else 3, 1)


@pytest.mark.parametrize(
    "saving",
    [
        keras.callbacks.ModelCheckpoint("a.keras"),
        keras.callbacks.ModelCheckpoint("a.weights.h5", save_weights_only=True),
        keras.callbacks.BackupAndRestore("backup"),
        type("Mine", (keras.callbacks.ModelCheckpoint,), {})("a.keras"),
    ],
    ids=["model", "weights", "backup", "subclass"],
)
@pytest.mark.parametrize("backbone", ["tiny", ConvNet((2,))])
def test_saving_callbacks_are_refused_before_any_work(saving, backbone):
    classifier = tiny(Notes(), saving).set_params(backbone=backbone)
    with pytest.raises(InvalidParameterError, match=r"early_stopping=True.*save_model") as caught:
        classifier.fit(["there is no such file.png"] * N, LABELS)
    assert type(saving).__name__ in str(caught.value)
