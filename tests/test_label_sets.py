"""Tests of targets with several labels: encoding, weights, stratified splits, and the loss."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import check_grad
from scipy.sparse import coo_array, csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.utils import compute_class_weight

from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.heads.linear import fit_linear
from transferclf.objectives import Classes, MultiLabel, announced, objective_for
from transferclf.training.regularization import CANDIDATES, choose_l2

pytestmark = pytest.mark.filterwarnings("ignore:y is one-hot", "ignore:all images have the label")

NAMES = ["red", "10", "Ångström", "b c", "blue"]


@st.composite
def tables(draw, most=20):
    """Return tables of 0 and 1 with two labels or more, each of some sample."""
    shape = draw(st.tuples(st.integers(2, most), st.integers(2, len(NAMES))))
    table = draw(arrays(np.int64, shape, elements=st.integers(0, 1)))
    assume(table.any(axis=0).all())
    return table


def sets_of(table, names):
    return [{names[column] for column in np.flatnonzero(row)} for row in table]


# --- encoding


@given(tables())
def test_all_ways_to_write_a_table_are_one(table):
    names = NAMES[: table.shape[1]]
    for y in (
        table,
        table.astype(bool),
        table.astype(float),
        table.tolist(),
        list(table),
        csr_matrix(table),
        coo_array(table),
        table.astype(object),
        pd.DataFrame(table),
    ):
        objective, targets = objective_for(y, len(table))
        assert isinstance(objective, MultiLabel)
        assert objective.labels.tolist() == list(range(table.shape[1]))
        assert targets.dtype == objective.no_targets(1).dtype
        np.testing.assert_array_equal(targets, table)
    named, targets = objective_for(pd.DataFrame(table, columns=names), len(table))
    assert named.labels.tolist() == names
    np.testing.assert_array_equal(targets, table)


@given(tables(), st.sampled_from([set, frozenset, lambda it: [*it, *it], np.array]))
def test_sets_of_labels_give_the_same_table_with_sorted_labels(table, kind):
    names = NAMES[: table.shape[1]]
    sets = sets_of(table, names)
    assume(kind in (set, frozenset) or any(len(labels) != 1 for labels in sets))
    objective, targets = objective_for([kind(list(labels)) for labels in sets], len(table))
    assert objective.labels.tolist() == sorted(names)
    np.testing.assert_array_equal(targets, table[:, np.argsort(names)])
    back = [set(objective.labels[row == 1].tolist()) for row in objective.decide(targets)]
    assert back == sets


@given(tables())
def test_known_labels_are_encoded_in_their_order(table):
    names = NAMES[: table.shape[1]]
    objective = MultiLabel(np.array(names))
    backwards = pd.DataFrame(table, columns=names)[names[::-1]]
    for y in (table, csr_matrix(table), backwards, sets_of(table, names)):
        np.testing.assert_array_equal(objective.encode_known(y, len(table)), table)
    np.testing.assert_array_equal(objective.comparable(backwards), table)


def test_a_frame_of_polars_is_a_table():
    polars = pytest.importorskip("polars")
    objective, targets = objective_for(polars.DataFrame({"b": [1, 0, 1], "a": [1, 1, 0]}), 3)
    assert objective.labels.tolist() == ["b", "a"]
    assert targets.tolist() == [[1, 1], [0, 1], [1, 0]]


def test_empty_sets_and_numbers_are_labels_too():
    objective, targets = objective_for([{7, 3}, set(), {3}, set()], 4)
    assert objective.labels.tolist() == [3, 7]
    assert targets.tolist() == [[1, 1], [0, 0], [1, 0], [0, 0]]
    assert objective_for([[7, 3], [], [7]], 3)[1].tolist() == [[1, 1], [0, 0], [0, 1]]
    with pytest.warns(Warning, match="column-vector"):
        assert isinstance(objective_for([["a"], ["b"]], 2)[0], Classes)


@pytest.mark.parametrize(
    ("y", "told"),
    [
        ([{"red"}, {"bleu"}], r"known labels.*Got 'bleu' too. Did you mean 'blue' for 'bleu'\?"),
        (pd.DataFrame([[1, 0]] * 2, columns=["red", "green"]), "Got 'green' too"),
        (pd.DataFrame([[1, 0]] * 2, columns=["red", "blue"]), "Got none for '10'"),
        (np.ones((2, 4)), r"one column for each of 3 labels.*Got shape \(2, 4\)"),
        (np.ones((2, 1)), r"one column for each of 3 labels.*Got shape \(2, 1\)"),
        (["red", "blue"], "Got 'red' at index 0: expected a set of labels"),
        ([1, 0], "Got 1 at index 0: expected a set"),
        (None, "Got None instead"),
        ([[("a", "b"), {"c"}], []], r"Got the label \{'c'\} at index 0"),
        (np.ones((3, 3)), "2 images and 3 sets or rows"),
    ],
)
def test_unknown_labels_are_refused(y, told):
    objective = MultiLabel(np.array(["red", "blue", "10"]))
    with pytest.raises(ValueError, match=told):
        objective.encode_known(y, 2)


def test_a_label_of_all_samples_is_warned_of():
    with pytest.warns(TransferclfWarning, match="all images have the label 1: nothing"):
        objective_for(np.array([[1, 1], [0, 1], [1, 1]]), 3)


def test_announced_labels_are_of_the_kind_of_y():
    table = np.eye(3)[[0, 1, 2, 0]]
    several = announced(["b", "a", "c"], None, table)
    assert several.is_same(MultiLabel(np.array(["b", "a", "c"])))
    assert isinstance(announced(["b", "a", "c"], None, ["a", "b"]), Classes)
    assert announced(None, several, table) is several
    with pytest.raises(ValueError, match="must be those of the first call"):
        announced(["a", "b", "c"], several, table)
    with pytest.raises(ValueError, match="Got 'a' more than once"):
        announced(["a", "a", "c"], None, table)
    with pytest.raises(ValueError, match="at least two labels"):
        announced(["a"], None, table)
    with pytest.raises(ValueError, match="must be passed"):
        announced(None, None, table)


def test_wrong_encoded_targets_are_refused():
    objective = MultiLabel(np.arange(2))
    objective.check_encoded(np.array([[0, 1.0], [1, 1]]), 2)
    for targets in (np.zeros((2, 3)), np.zeros(2), np.full((2, 2), 0.5)):
        with pytest.raises(InvalidParameterError, match=r"0 and 1 of shape \(2, 2\)"):
            objective.check_encoded(targets, 2)


# --- weights


@given(tables())
def test_balanced_weights_are_those_of_scikit_learn_for_each_label(table):
    objective = MultiLabel(np.arange(table.shape[1])).with_class_weight("balanced", table)
    for label, column in enumerate(table.T):
        known = np.unique(column)
        expected = compute_class_weight("balanced", classes=known, y=column)
        np.testing.assert_allclose(objective.factors[known, label], expected)
    assert objective.class_factors("balanced", table) is None


def test_weights_by_label_are_of_its_positives():
    objective = MultiLabel(np.array(["a", "b"])).with_class_weight({"b": 3}, np.eye(2))
    assert objective.factors.tolist() == [[1, 1], [1, 3]]
    scores = np.array([[0.0, 0.0], [0.0, 0.0]])
    losses, _ = objective.losses(scores, np.array([[0, 1], [1, 0]]))
    np.testing.assert_allclose(losses, np.log(2) * np.array([(1 + 3) / 2, 1]))


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"c": 2}, r"names labels that y has not: \['c'\]"),
        ({"a": 0}, "above zero for each label"),
        ({"a": np.inf}, "finite"),
        ({"a": "x"}, "must hold numbers"),
        ("even", "class_weight must be one of"),
        (3, "None, 'balanced' or a dict"),
    ],
)
def test_wrong_weights_are_refused(weights, told):
    with pytest.raises(InvalidParameterError, match=told):
        MultiLabel(np.array(["a", "b"])).with_class_weight(weights, np.eye(2))


# --- splits


@given(tables(40), st.floats(0.05, 0.95), st.integers(0, 99), st.data())
def test_each_label_stays_in_the_training_part(table, fraction, seed, data):
    groups = data.draw(st.lists(st.integers(0, 30), min_size=len(table), max_size=len(table)))
    asked = int(np.ceil(len(set(groups)) * fraction))
    assume(table.shape[1] < asked)  # else the training part may need all of them
    objective = MultiLabel(np.arange(table.shape[1]))
    train, held_out = objective.validation_split(table, fraction, seed, groups)
    assert sorted([*train, *held_out]) == list(range(len(table)))
    assert not {groups[i] for i in train} & {groups[i] for i in held_out}
    assert table[train].any(axis=0).all()
    # Of groups, the number that was asked for, but for those that the training part needs.
    n_held_out = len({groups[i] for i in held_out})
    assert asked - table.shape[1] <= n_held_out <= asked
    again = objective.validation_split(table, fraction, seed, groups)
    np.testing.assert_array_equal(again[0], train)


def test_a_split_without_held_out_samples_is_refused():
    objective = MultiLabel(np.arange(2))
    with pytest.raises(InvalidParameterError, match="none to hold out beside one with each label"):
        objective.validation_split(np.eye(2), 0.5, 0, range(2))
    with pytest.raises(ValueError, match="one group for each of 2 images"):
        objective.validation_split(np.eye(2), 0.5, 0, range(3))
    with pytest.raises(InvalidParameterError, match="validation fraction must be"):
        objective.validation_split(np.eye(2), 1.0, 0, range(2))


def test_each_label_is_held_out_in_proportion():
    rng = np.random.default_rng(0)
    table = (rng.random((400, 5)) < [0.5, 0.3, 0.1, 0.05, 0.02]).astype(float)
    _, held_out = MultiLabel(np.arange(5)).validation_split(table, 0.25, 0, range(400))
    assert len(held_out) == 100
    np.testing.assert_allclose(table[held_out].sum(axis=0), table.sum(axis=0) / 4, atol=1.01)


@given(tables())
def test_a_stratum_is_the_rarest_label(table):
    strata = MultiLabel(np.arange(table.shape[1])).strata(table)
    counts = table.sum(axis=0)
    for row, stratum in zip(table, strata, strict=True):
        own = counts[row == 1]
        assert (stratum == len(row)) == (len(own) == 0)
        if len(own):
            assert row[stratum] == 1
            assert counts[stratum] == own.min()


def test_oversampling_is_refused():
    with pytest.raises(InvalidParameterError, match="oversample=True.*class_weight='balanced'"):
        MultiLabel(np.arange(2)).oversampled(np.eye(2), 0)


# --- the loss


@pytest.fixture(scope="module")
def problem():
    """Return features and a table of three labels, of 0.5, 0.3 and 0.1 of the samples."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(120, 6)) * [1, 2, 3, 1, 1, 5] + 1
    scores = features @ rng.normal(size=(6, 3)) / 3 + rng.normal(size=(120, 3))
    return features, (scores > np.quantile(scores, [0.5, 0.7, 0.9], axis=0)[range(3), range(3)])


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_head_is_one_logistic_regression_a_label(problem, class_weight):
    features, table = problem
    objective, targets = objective_for(table, len(table))
    objective = objective.with_class_weight(class_weight, targets)
    head = fit_linear(features, targets, objective, l2=0.02, sample_weight=np.ones(120))
    rows = (features - head.mean) / head.scale
    for label in range(3):
        C = 1 / (2 * 3 * 0.02 * 120)
        own = LogisticRegression(C=C, class_weight=class_weight, tol=1e-8, max_iter=1000)
        own.fit(rows, table[:, label])
        np.testing.assert_allclose(head.coef[:, label], own.coef_[0], atol=1e-3)
        np.testing.assert_allclose(head.intercept[label], own.intercept_[0], atol=1e-3)
        probabilities = objective.link(head.scores(features))[:, label]
        np.testing.assert_allclose(probabilities, own.predict_proba(rows)[:, 1], atol=1e-3)


@pytest.mark.parametrize("factors", [None, np.array([[1.0, 2.0], [3.0, 0.5]])])
def test_the_gradient_is_that_of_the_loss(factors):
    rng = np.random.default_rng(0)
    objective = MultiLabel(np.arange(2), factors)
    targets, shares = np.array([[0, 1], [1, 1], [0, 0]]), np.array([0.5, 0.2, 0.3])
    found = [
        lambda x: objective.evaluate(x.reshape(3, 2).copy(), targets, shares).loss,
        lambda x: objective.evaluate(x.reshape(3, 2).copy(), targets, shares).gradient.ravel(),
    ]
    assert check_grad(*found, rng.normal(size=6)) < 1e-6
    scores = rng.normal(size=(3, 2))
    losses, measures = objective.losses(scores, targets)
    evaluated = objective.evaluate(scores.copy(), targets, shares)
    assert evaluated.loss == pytest.approx(shares @ losses)
    assert evaluated.measure == pytest.approx(shares @ measures)


@pytest.mark.parametrize("factors", [None, np.array([[1.0, 2.0], [3.0, 0.5]])])
def test_keras_has_the_same_loss_and_measure(factors):
    rng = np.random.default_rng(0)
    objective = MultiLabel(np.arange(2), factors)
    scores, targets = rng.normal(size=(8, 2)) * 5, rng.integers(0, 2, (8, 2)).astype(np.float32)
    losses, measures = objective.losses(scores, targets)
    weights = rng.random(8).astype(np.float32)
    for are_mixed in (False, True):
        loss = objective.keras_loss(are_mixed)(targets, scores.astype(np.float32), weights)
        assert float(loss) == pytest.approx((weights * losses).mean(), abs=1e-5)
        metric = objective.keras_metric(are_mixed)
        metric.update_state(targets, scores.astype(np.float32), weights)
        assert float(metric.result()) == pytest.approx(weights @ measures / weights.sum(), abs=1e-5)
    assert metric.name == objective.measure


def test_mixed_targets_have_the_mixed_loss():
    objective = MultiLabel(np.arange(2), np.array([[1.0, 2.0], [3.0, 0.5]]))
    ones, zeros = np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)
    scores, loss = np.array([[0.3, -2.0]], np.float32), objective.keras_loss(are_mixed=True)
    mixed = loss(np.asarray(objective.spread(0.25 * ones + 0.75 * zeros)), scores)
    expected = 0.25 * float(loss(ones, scores)) + 0.75 * float(loss(zeros, scores))
    assert float(mixed) == pytest.approx(expected, abs=1e-5)


def test_large_scores_have_finite_losses_and_means():
    objective = MultiLabel(np.arange(2))
    scores, targets = np.array([[1e4, -1e4], [-800.0, 900.0]]), np.array([[0, 1], [1, 0]])
    with np.errstate(all="raise", under="ignore"):
        found = objective.evaluate(scores.copy(), targets, np.array([0.5, 0.5]))
        judged = objective.judge(scores, targets)
        means = objective.mean_scores([scores, scores - 100])
    assert found.loss == pytest.approx((1e4 + 850) / 2)
    np.testing.assert_allclose(judged.losses, -np.log(0.15 / 2))  # bounded
    np.testing.assert_allclose(expit(means), expit(scores))
    assert means[1, 0] == pytest.approx(-800 - np.log(2))


def test_the_mean_of_scores_has_the_mean_probability():
    several = list(np.random.default_rng(0).normal(size=(3, 4, 2)))
    objective = MultiLabel(np.arange(2))
    expected = np.mean([objective.link(scores) for scores in several], axis=0)
    np.testing.assert_allclose(objective.link(objective.mean_scores(several)), expected)


def test_the_chosen_penalty_does_not_depend_on_copies_of_labels(problem):
    features, table = problem
    found = []
    for columns in (table, np.tile(table, 4)):
        objective, targets = objective_for(columns, len(table))
        l2 = choose_l2(features, targets, objective, sample_weight=np.ones(len(table)))
        found.append(l2 * objective.n_outputs)
    assert found[0] == pytest.approx(found[1])
    assert any(found[0] == pytest.approx(candidate) for candidate in CANDIDATES)


# --- archives


@pytest.mark.parametrize("labels", [np.array(["b", "a"]), np.arange(3), np.array([True, False])])
def test_labels_are_stored_in_their_order(labels):
    facts = MultiLabel(labels).to_json()
    restored = MultiLabel.from_json(facts)
    assert restored.labels.dtype == labels.dtype
    assert restored.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    "facts",
    [
        {"dtype": "<U1", "labels": ["a", "a"]},
        {"dtype": "<U1", "labels": ["a"]},
        {"dtype": "<U1", "labels": ["a", 3]},
        {"dtype": "<U1", "labels": ["a", "bc"]},
        {"dtype": "<M8[s]", "labels": [1, 2]},
        {"dtype": "<U9999999", "labels": ["a", "b"]},
        {"dtype": "<U1", "labels": "ab"},
        {"labels": ["a", "b"]},
        {"dtype": "<U1", "labels": ["a", "b"], "factors": [1]},
        {"dtype": "<U1", "labels": [["a"], ["b"]]},
    ],
)
def test_hostile_facts_are_refused(facts):
    with pytest.raises(InvalidParameterError, match="must"):
        MultiLabel.from_json(facts)
