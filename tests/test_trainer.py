"""Tests of the trainer: it compiles once for many fits, and its numbers equal those of Keras."""

import gc
import threading
import weakref

import keras
import numpy as np
import pytest
from exactness import assert_rows_agree, outputs_of
from head_helpers import probabilities
from keras import layers

from transferclf.engines import backend as inference
from transferclf.exceptions import DivergenceError
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Classes
from transferclf.training import trainer as trainers
from transferclf.training.batches import Samples, epoch_orders
from transferclf.training.phases import Start, fit_phase
from transferclf.training.recipe import Method, Recipe

WIDTH, CLASSES, SAMPLES = 7, 3, 50
OBJECTIVE = Classes.numbered(CLASSES)


@pytest.fixture
def data(rng):
    features = rng.normal(2, 3, (SAMPLES, WIDTH)).astype(np.float32)
    labels = np.arange(SAMPLES) % CLASSES
    features[:, 0] += 4 * labels
    weights = rng.uniform(0.2, 2, SAMPLES)
    return features, labels, weights


@pytest.fixture(autouse=True)
def _no_trainers():
    trainers._trainers.clear()


def recipe(**changes):
    plain = {"learning_rate": 0.01, "epochs": 4, "batch_size": 16}
    method = Method(changes.pop("optimizer", "adam"))
    return Recipe(method, **(plain | changes))


def fitted(data, suffix=None, **changes):
    features, labels, weights = data
    suffix = suffix or Suffix(OBJECTIVE, (8,), l2=True, width=WIDTH)
    start = Start(features.mean(axis=0), features.std(axis=0))
    return fit_phase(suffix, recipe(**changes), Samples.of(features, labels, weights), start)


def plain_keras(data, start, recipe, hidden_units=(8,), activation="relu"):
    """Train a network of Keras layers in the same way; return it and its history."""
    features, labels, weights = data
    penalty = keras.regularizers.L1L2(recipe.l1, recipe.l2)
    x = inputs = keras.Input((WIDTH,))
    for units in hidden_units:
        x = layers.Dense(units, activation=activation, kernel_regularizer=penalty)(x)
    x = layers.Dense(CLASSES, activation="softmax", kernel_regularizer=penalty)(x)
    model = keras.Model(inputs, x)
    for layer, kernel in zip(model.layers[1:], start, strict=True):
        layer.kernel.assign(kernel)
    model.compile(
        recipe.method.optimizer, "sparse_categorical_crossentropy", weighted_metrics=["accuracy"]
    )
    model.optimizer.learning_rate = recipe.learning_rate
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    history = {"loss": [], "accuracy": []}
    for order in epoch_orders(Samples.of(*data), recipe.epochs, recipe.seed):
        logs = model.fit(
            standardised[order],
            labels[order],
            sample_weight=(weights / weights.mean())[order],
            batch_size=recipe.batch_size,
            shuffle=False,
            verbose=0,
        ).history
        for name, values in history.items():
            values += logs[name]
    return model, history


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "rmsprop", "nadam"])
def test_training_equals_that_of_keras(data, optimizer, monkeypatch):
    from transferclf.training import phases

    starts = []
    drawn = phases._initial_kernels
    monkeypatch.setattr(
        phases, "_initial_kernels", lambda *args: starts.append(drawn(*args)) or starts[-1]
    )
    suffix = Suffix(OBJECTIVE, (8,), "tanh", l1=True, l2=True, width=WIDTH)
    changes = {"optimizer": optimizer, "l1": 0.003, "l2": 0.02, "seed": 5}
    trained = fitted(data, suffix, **changes)
    model, history = plain_keras(data, starts[0], recipe(**changes), activation="tanh")
    np.testing.assert_allclose(trained.history["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(trained.history["accuracy"], history["accuracy"], rtol=1e-5)
    features = data[0]
    standardised = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(
        probabilities(trained, features), outputs_of(model, standardised), atol=1e-5
    )
    for ours, theirs in zip(trained.weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_changed_numbers_do_not_compile_again(data, monkeypatch):
    compiled = []
    original = inference.compiled
    monkeypatch.setattr(
        inference, "compiled", lambda *args: compiled.append(args) or original(*args)
    )
    suffix = Suffix(OBJECTIVE, (8,), dropout=True, l1=True, l2=True, width=WIDTH)
    losses = set()
    for changes in (
        {},
        {"learning_rate": 0.1},
        {"l2": 0.3},
        {"l1": 0.3},
        {"dropout": (0.5,)},
        {"epochs": 2},
        {"batch_size": 7},
        {"seed": 1},
    ):
        trained = fitted(data, suffix, **({"dropout": (0.1,)} | changes))
        probabilities(trained, data[0])
        losses.add(trained.history["loss"][-1])
    fewer = tuple(array[:21] for array in data)
    fitted(fewer, suffix, dropout=(0.1,))
    assert len(compiled) == 4  # read all state, set all state, the epoch, and the scores
    assert len(losses) == 8  # each change has an effect


class Reading(keras.optimizers.SGD):
    """A user-defined optimizer that reads a class attribute."""

    factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate * type(self).factor)


def test_an_attribute_of_a_user_defined_optimizer_can_change(data, monkeypatch):
    first = fitted(data, optimizer=Reading())
    monkeypatch.setattr(Reading, "factor", 0.0)
    one, four = (fitted(data, optimizer=Reading(), epochs=epochs) for epochs in (1, 4))
    for still, learned, same in zip(one.weights, first.weights, four.weights, strict=True):
        np.testing.assert_array_equal(still, same)
        assert np.abs(still - learned).max() > 1e-4


def test_fits_are_independent(data):
    first = fitted(data, optimizer="adagrad")
    fitted(data, optimizer="adagrad", seed=3, learning_rate=0.5)
    again = fitted(data, optimizer="adagrad")
    for a, b in zip(first.parameters, again.parameters, strict=True):
        np.testing.assert_array_equal(a, b)
    assert first.history == again.history


def test_dropout_depends_on_the_seed(data):
    suffix = Suffix(OBJECTIVE, (8, 4), dropout=True, width=WIDTH)
    losses = [
        fitted(data, suffix, dropout=(0.5, 0.3), seed=seed).history["loss"] for seed in (0, 1, 0)
    ]
    assert losses[0] == losses[2] != losses[1]


def test_dropout_drops_at_its_rate():
    from transferclf.heads.tunable import TunableDropout

    layer = TunableDropout()
    layer.build((None, 1000))
    layer.rate.assign(0.25)
    ones = np.ones((40, 1000), np.float32)
    dropped = np.asarray(layer(ones, training=True))
    assert np.unique(dropped).tolist() == pytest.approx([0, 1 / 0.75])
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_array_equal(layer(ones), ones)


def test_other_rows_change_no_bit_of_the_scores_of_a_row(data):
    trained = fitted(data)
    features = data[0].copy()
    whole = trained.scores(features)
    features[10:45] = 1e6
    found = trained.scores(features)
    np.testing.assert_array_equal(found[:10], whole[:10])
    np.testing.assert_array_equal(found[45:], whole[45:])


def test_scores_of_a_row_agree_in_any_batch(data):
    trained = fitted(data)
    features = data[0]
    whole = trained.scores(features)
    assert_rows_agree(trained.scores(features[::-1])[::-1], whole)
    assert_rows_agree(trained.scores(features[10:45]), whole[10:45])


def test_only_the_proportions_of_weights_matter(data):
    features, labels, weights = data
    heavy = fitted((features, labels, 1000 * weights))
    light = fitted(data)
    np.testing.assert_allclose(heavy.history["loss"], light.history["loss"], rtol=1e-6)


@pytest.mark.slow
def test_a_dropped_trainer_frees_its_memory(data, monkeypatch):
    monkeypatch.setattr(trainers, "TRAINERS_KEPT", 3)
    suffix = Suffix(OBJECTIVE, (8,), width=WIDTH)
    probabilities(fitted(data, suffix), data[0])
    model = weakref.ref(trainers.trainer_for(suffix, Method("adam")).model)
    for units in range(9, 9 + trainers.TRAINERS_KEPT):
        trainers.trainer_for(Suffix(OBJECTIVE, (units,), width=WIDTH), Method("adam"))
    gc.collect()
    assert model() is None
    assert len(trainers._trainers) == trainers.TRAINERS_KEPT


def test_a_trained_head_works_without_its_trainer(data):
    trained = fitted(data)
    before = probabilities(trained, data[0])
    trainers._trainers.clear()
    np.testing.assert_array_equal(probabilities(trained, data[0]), before)


def test_threads_take_turns(data):
    alone = [probabilities(fitted(data, seed=seed), data[0]) for seed in range(4)]
    found = {}

    def work(seed):
        found[seed] = probabilities(fitted(data, seed=seed), data[0])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, expected in enumerate(alone):
        np.testing.assert_array_equal(found[seed], expected)


@pytest.mark.parametrize(
    ("part", "name"), [("head", "learning_rate"), ("fine-tuning", "fine_tune_learning_rate")]
)
def test_an_overflow_raises_an_error_that_names_the_rate(data, part, name):
    message = rf"in epoch 1 at a learning rate of 1e\+30 .* Set {name} to a tenth"
    with pytest.raises(DivergenceError, match=message):
        fitted(data, optimizer="sgd", learning_rate=1e30, part=part)


def test_infinite_scores_of_finite_weights_raise_an_error(data):
    # With one step, the loss is that before the step.
    with pytest.raises(DivergenceError, match=r"after epoch 1 at a learning rate of 1e\+30"):
        fitted(data, optimizer="sgd", learning_rate=1e30, epochs=1, batch_size=50)


def test_large_finite_scores_are_accepted(data):
    trained = fitted(data, optimizer="sgd", learning_rate=1e6, epochs=1, batch_size=50)
    assert np.abs(trained.scores(data[0])).max() > 1e6
    assert np.isfinite(probabilities(trained, data[0])).all()


def test_epochs_before_an_overflow_are_kept(data):
    features, labels, weights = data
    suffix, kept = Suffix(OBJECTIVE, (8,), l2=True, width=WIDTH), []
    rates = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.01, 1e30])
    changes = {"optimizer": "sgd", "schedule": rates, "learning_rate": None, "epochs": 9}
    samples = Samples.of(features, labels, weights)
    start = Start(features.mean(axis=0), features.std(axis=0))
    with pytest.raises(DivergenceError, match="epoch 2"):
        fit_phase(suffix, recipe(**changes), samples, start, keep=kept.append)
    (reached,) = kept
    one = fitted(data, suffix, optimizer="sgd", learning_rate=0.01, epochs=1)
    assert reached.history == one.history
    for a, b in zip(reached.weights, one.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_progress_is_shown_only_with_verbose(data, capsys):
    fitted(data)
    assert capsys.readouterr().out == ""
    features, labels, weights = data
    suffix = Suffix(OBJECTIVE, width=WIDTH)
    start = Start(features.mean(axis=0), features.std(axis=0))
    fit_phase(suffix, recipe(), Samples.of(features, labels, weights), start, verbose=1)
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in shown] == [
        f"head, epoch {n} of 4" for n in (1, 2, 3, 4)
    ]
    assert all("loss: " in line for line in shown)


def test_orders_are_seeded_permutations():
    samples = Samples.of(np.zeros((20, 1)), np.zeros(20, int), np.ones(20))
    orders = list(epoch_orders(samples, 3, seed=1))
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert orders[0].tolist() != orders[1].tolist()
    np.testing.assert_array_equal(orders, list(epoch_orders(samples, 3, seed=1)))
    assert orders[0].tolist() != next(epoch_orders(samples, 1, seed=2)).tolist()
