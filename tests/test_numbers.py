"""Numbers as targets: checks of y, standardisation, losses, and what an archive holds."""

import json
from decimal import Decimal

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import check_grad
from scipy.sparse import csr_matrix

from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.heads.linear import fit_linear
from transferclf.objectives import Classes, Numbers, objective_for, restored_objective
from transferclf.objectives.numbers import LOSSES

TABLE = np.array([[1.0, 100.0], [2.0, 140.0], [4.0, 90.0], [9.0, 130.0]])

FINITE = st.floats(-1e6, 1e6, allow_subnormal=False)


@settings(max_examples=50)
@given(y=arrays(float, st.tuples(st.integers(2, 9), st.integers(1, 3)), elements=FINITE))
@pytest.mark.filterwarnings("ignore:y is constant")
def test_encoded_targets_come_back(y):
    objective, targets = Numbers.encode(y, len(y))
    size = np.abs(y).max() + 1
    np.testing.assert_allclose(objective.decide(objective.link(targets)), y, atol=1e-9 * size)
    flat = Numbers.encode(y[:, 0], len(y))[0]
    assert flat.decide(flat.link(targets[:, :1])).shape == (len(y),)


def test_targets_are_standardised_by_weighted_moments():
    weights = np.array([2.0, 1.0, 0.0, 3.0])
    objective, targets = Numbers.encode(TABLE, 4, sample_weight=weights)
    repeated = TABLE[[0, 0, 1, 3, 3, 3]]
    np.testing.assert_allclose(objective.mean, repeated.mean(axis=0))
    np.testing.assert_allclose(objective.scale, repeated.std(axis=0))
    np.testing.assert_allclose(targets, (TABLE - objective.mean) / objective.scale)


@pytest.mark.parametrize(
    ("y", "shape", "names"),
    [
        ([1, 2, 3, 4], (4,), [0]),
        (np.array([True, False, True, True]), (4,), [0]),
        ([Decimal("1.5"), 2, 3.0, np.float32(4)], (4,), [0]),
        (TABLE.astype(int).tolist(), (4, 2), [0, 1]),
        (TABLE[:, :1], (4, 1), [0]),
        (pd.Series([1, 2, 3, 4], name="age"), (4,), ["age"]),
        (pd.Series([1, 2, 3, 4], dtype="Float64"), (4,), [0]),
        (pd.DataFrame(TABLE, columns=["age", 7]), (4, 2), ["age", "7"]),
    ],
    ids=lambda it: type(it).__name__,
)
def test_targets_of_many_types(y, shape, names):
    objective, targets = Numbers.encode(y, 4)
    assert targets.shape == (4, len(names))
    assert objective.output_names().tolist() == names
    predicted = objective.decide(objective.link(targets))
    np.testing.assert_allclose(predicted, np.asarray(y, float))
    assert predicted.shape == shape


WRONG = {
    "None": (None, "requires y to be passed, but the target y is None"),
    "NaN": ([1, np.nan, 3, np.nan], "Input y contains NaN: .* 2 of 4 images, the first at index 1"),
    "missing": ([1.0, None, 3, 4], "Input y contains NaN: .* 1 of 4 images, the first at index 1"),
    "NA": (pd.Series([1, 2, pd.NA, 4], dtype="Int64"), "contains NaN: .* the first at index 2"),
    "masked": (np.ma.array([1.0, 2, 3, 4], mask=[0, 0, 0, 1]), "the first at index 3"),
    "infinite": ([[1.0, 2], [3, 4], [5, -np.inf], [7, 8]], "Input y contains infinity"),
    "text": (["1", "2", "3", "4"], "y must be numbers. Got values of type <U1, such as .'1'."),
    "some text": (np.array([1, "two", 3, 4], object), "y must be numbers. Got 'two' at index 1"),
    "complex": ([1j, 2, 3, 4], "y must be numbers. Got values of type complex128"),
    "dates": (pd.date_range("2020-01-01", periods=4), "y must be numbers. Got values of type"),
    "too few": ([1.0, 2, 3], "inconsistent numbers of samples: 4 images and 3 targets"),
    "one number": (5.0, "y must be one target per image. Got one float"),
    "a dict": ({"a": 1}, "y must be one target per image. Got one dict"),
    "ragged": ([[1.0], [2.0, 3.0], [4.0], [5.0]], "Got rows of different lengths"),
    "3-D": (np.zeros((4, 2, 2)), r"shape \(n,\) or \(n, n_outputs\), .* Got shape \(4, 2, 2\)"),
    "no column": (np.zeros((4, 0)), r"n_outputs of at least 1. Got shape \(4, 0\)"),
    "sparse": (csr_matrix(TABLE), r"y must be dense. .* pass y.toarray\(\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_targets_are_one_clear_error(name):
    y, told = WRONG[name]
    with pytest.raises(ValueError, match=told):
        Numbers.encode(y, 4)


def test_other_targets_must_fit_those_of_fit():
    objective, targets = Numbers.encode(pd.DataFrame(TABLE, columns=["a", "b"]), 4)
    np.testing.assert_array_equal(objective.encode_known(TABLE, 4), targets)
    with pytest.raises(ValueError, match="must have 2 numbers for each image, as in fit. Got 1"):
        objective.encode_known(TABLE[:, 0], 4)
    with pytest.raises(ValueError, match=r"the columns of fit, \['a', 'b'\]. Got \['b', 'a'\]"):
        objective.encode_known(pd.DataFrame(TABLE, columns=["b", "a"]), 4)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        objective.encode_known(np.full((4, 2), np.nan), 4)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, -1e300])
def test_a_constant_target_is_predicted_with_one_warning(value):
    with pytest.warns(TransferclfWarning, match="y is constant: .* predicted") as warned:
        objective, targets = Numbers.encode(np.full(5, value), 5)
    assert len(warned) == 1
    np.testing.assert_array_equal(targets, np.zeros((5, 1)))
    predicted = objective.decide(objective.link(np.array([[0.0], [3.0]])))
    np.testing.assert_array_equal(predicted, [value, value])
    # The errors of other samples are those of the constant.
    others = objective.encode_known([value + 2, value], 2)
    _, errors = objective.losses(np.array([[5.0], [6.0]]), others)
    np.testing.assert_allclose(errors, [(value + 2) - value, 0])


def test_the_warning_names_constant_outputs():
    table = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 3.0]})
    with pytest.warns(TransferclfWarning, match=r"constant in 1 of 2 outputs \('b'\)"):
        Numbers.encode(table, 2)
    with pytest.warns(TransferclfWarning, match="y is constant"):
        Numbers.encode([1.0, 2.0, 2.0], 3, sample_weight=np.array([0.0, 1.0, 1.0]))


def test_huge_numbers_do_not_overflow():
    y = np.array([1e300, -1e300, 5e299])
    objective, targets = Numbers.encode(y, 3)
    assert np.isfinite(targets).all()
    np.testing.assert_allclose(objective.decide(objective.link(targets)), y)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_keras(loss):
    rng = np.random.default_rng(0)
    objective, targets = Numbers.encode(rng.normal(5, 3, (20, 2)), 20, loss=loss)
    scores = rng.normal(0, 2, (20, 2))
    losses, errors = objective.losses(scores, targets)
    by_keras = {"squared_error": keras.losses.mean_squared_error, "huber": keras.losses.huber}
    expected = 2 * np.asarray(by_keras[loss](targets, scores))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    own = objective.keras_loss(False)(targets, scores)
    np.testing.assert_allclose(float(own), losses.mean(), rtol=1e-5)
    in_y = np.abs(objective.link(scores) - objective.link(targets)).mean(axis=1)
    np.testing.assert_allclose(errors, in_y)
    metric = objective.keras_metric(False)
    objective.prepare_metric(metric)
    for _ in range(2):  # what was set stays when the metric begins anew
        metric.reset_state()
        metric.update_state(targets, scores, np.arange(20.0))
        expected = np.average(in_y, weights=np.arange(20))
        np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


def test_outliers_pull_less_at_the_huber_loss():
    x = np.linspace(0, 1, 50)
    y = 3 * x
    y[[45, 49]] -= 20
    slopes = {}
    for loss in LOSSES:
        objective, targets = Numbers.encode(y, 50, loss=loss)
        head = fit_linear(x[:, None], targets, objective, l2=0.0, sample_weight=np.ones(50))
        at_ends = objective.link(head.scores(np.array([[0.0], [1.0]])))[:, 0]
        slopes[loss] = at_ends[1] - at_ends[0]
    np.testing.assert_allclose(slopes["squared_error"], np.polyfit(x, y, 1)[0], rtol=1e-3)
    assert abs(slopes["huber"] - 3) < 0.5 * abs(slopes["squared_error"] - 3)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_is_that_of_the_loss(loss):
    rng = np.random.default_rng(1)
    objective, targets = Numbers.encode(rng.normal(5, 3, (6, 2)), 6, loss=loss)
    shares, point = np.full(6, 1 / 6), rng.normal(0, 2, 12)

    def found(scores):
        return objective.evaluate(scores.reshape(6, 2), targets, shares)

    difference = check_grad(
        lambda scores: found(scores).loss, lambda scores: found(scores).gradient.ravel(), point
    )
    assert difference < 1e-6
    judged = objective.judge(point.reshape(6, 2), targets)
    near = np.abs(point - targets.ravel()) <= 1
    assert judged.curvature == (2.0 if loss == "squared_error" else near.mean())


def test_copies_of_an_image_stay_on_one_side():
    objective, targets = Numbers.encode(np.arange(30.0), 30)
    groups = np.arange(30) % 10
    train, held_out = objective.validation_split(targets, 0.25, 0, groups)
    assert len(set(groups[held_out])) == 3
    assert not set(groups[held_out]) & set(groups[train])
    assert sorted([*train, *held_out]) == list(range(30))
    assert not np.array_equal(held_out, objective.validation_split(targets, 0.25, 1, groups)[1])
    with pytest.raises(InvalidParameterError, match="holds out 1 of 1 different images"):
        objective.validation_split(targets, 0.5, 0, np.zeros(30))


def test_strata_follow_the_targets():
    objective, targets = Numbers.encode(np.random.default_rng(0).normal(5, 2, 1000), 1000)
    strata = objective.strata(targets)
    assert (np.diff(strata[np.argsort(targets[:, 0])]) >= 0).all()
    np.testing.assert_allclose(np.bincount(strata) / 1000, 0.2, atol=0.04)


def test_numbers_are_classes_unless_a_regressor_names_them():
    assert isinstance(objective_for([1, 2, 1], 3)[0], Classes)
    with pytest.raises(InvalidParameterError, match="class_weight is about classes"):
        Numbers.encode(TABLE, 4)[0].class_factors("balanced", TABLE)
    with pytest.raises(InvalidParameterError, match="oversample is about classes"):
        Numbers.encode(TABLE, 4)[0].oversampled(TABLE, 0)


@pytest.mark.parametrize("y", [TABLE[:, 0], pd.DataFrame(TABLE, columns=["a", "b"])])
def test_an_archive_brings_the_objective_back(y):
    objective, targets = Numbers.encode(y, 4, loss="huber")
    facts = json.loads(json.dumps(objective.to_json()))
    other = restored_objective("numbers", facts)
    assert other.is_same(objective)
    assert other.output_names().tolist() == objective.output_names().tolist()
    np.testing.assert_array_equal(other.encode_known(y, 4), targets)
    np.testing.assert_array_equal(
        other.decide(other.link(targets)), objective.decide(objective.link(targets))
    )


FORGED = {
    "mean": ([], [float("inf")], "x", [True], ["1"], [10**400], [1.0, 2.0]),
    "scale": ([-1.0], [1.0, 2.0], None),
    "loss": ("softmax", ["huber"], None),
    "names": ("a", [1], ["a", "b"], ["a" * 2000]),
    "is_flat": (1, None),
    "more": (1,),
}


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in FORGED.items() for v in values]
)
def test_forged_facts_are_refused(name, value):
    facts = Numbers.encode(TABLE[:, 0], 4)[0].to_json()
    with pytest.raises(InvalidParameterError, match="must"):
        Numbers.from_json(facts | {name: value})
