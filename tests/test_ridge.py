"""The ridge head in closed form, and the penalty chosen by samples that are left out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from transferclf.heads import ridge
from transferclf.heads.ridge import fit_ridge
from transferclf.objectives import Numbers
from transferclf.training.leave_one_out import CANDIDATES, choose_ridge_l2, distinct_samples
from transferclf.training.regularization import DEFAULT_L2


def problem(n, d, k=1, seed=0, noise=1.0):
    """Return features, encoded targets of which features explain a part, weights, objective."""
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 5, (n, d)).astype(np.float32)
    truth = features @ rng.normal(size=(d, k)) / (5 * np.sqrt(d))
    weights = rng.integers(1, 4, n).astype(float)
    objective, targets = Numbers.encode(
        truth + noise * rng.normal(size=(n, k)), n, sample_weight=weights
    )
    return features, targets, weights, objective


def standardised(features, weights):
    shares = weights / weights.sum()
    mean = shares @ features.astype(float)
    return (features - mean) / np.sqrt(shares @ (features - mean) ** 2)


SIZES = {"n": st.integers(3, 25), "d": st.integers(1, 25), "k": st.integers(1, 3)}


@settings(max_examples=25)
@given(**SIZES, l2=st.floats(1e-4, 100), seed=st.integers(0, 99))
def test_the_fit_is_that_of_scikit_learn(n, d, k, l2, seed):
    features, targets, weights, objective = problem(n, d, k, seed)
    head = fit_ridge(features, targets, objective, l2=l2, sample_weight=weights)
    rows = standardised(features, weights)
    expected = Ridge(alpha=l2 * weights.sum()).fit(rows, targets, weights).predict(rows)
    np.testing.assert_allclose(head.scores(features), expected.reshape(n, k), atol=1e-6)
    loss = weights @ ((expected.reshape(n, k) - targets) ** 2).sum(axis=1) / weights.sum()
    total = loss + l2 * (head.coef**2).sum()
    np.testing.assert_allclose(head.history["loss"], [total], atol=1e-6)


def brute_force(features, targets, weights, units, l2):
    """Return the mean squared error of heads that are fitted to all samples but one unit."""
    rows, loss = standardised(features, weights), 0.0
    for unit in np.unique(units):
        out = units == unit
        head = Ridge(alpha=l2 * weights.sum()).fit(rows[~out], targets[~out], weights[~out])
        errors = head.predict(rows[out]).reshape(-1, targets.shape[1]) - targets[out]
        loss += weights[out] @ (errors**2).sum(axis=1)
    return loss / weights.sum()


@settings(max_examples=10)
@given(**SIZES, l2=st.floats(1e-3, 10), seed=st.integers(0, 99), per_unit=st.integers(1, 3))
def test_errors_of_left_out_samples_are_those_of_fits_without_them(n, d, k, l2, seed, per_unit):
    features, targets, weights, _ = problem(n, d, k, seed)
    groups = np.arange(n) // min(per_unit, n - 2)
    found = distinct_samples(features, targets, weights, groups).losses(np.array([l2, 1.0]))
    expected = [brute_force(features, targets, weights, groups, value) for value in (l2, 1.0)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_copies_of_a_sample_are_left_out_together():
    features, targets, _, objective = problem(60, 20, noise=3.0)
    twice = np.concatenate([features, features]), np.concatenate([targets, targets])
    once = choose_ridge_l2(features, targets, objective, sample_weight=np.ones(60))
    assert choose_ridge_l2(*twice, objective, sample_weight=np.ones(120)) == once
    # A copy tells the target of the other.
    leaky = RidgeCV(alphas=120 * CANDIDATES).fit(standardised(twice[0], np.ones(120)), twice[1])
    assert leaky.alpha_ / 120 < once / 10


def test_copies_with_other_targets_count_by_their_distance():
    features, targets, weights, _ = problem(12, 5)
    both = np.concatenate([features, features[:3]])
    others = np.concatenate([targets, targets[:3] + 1])
    units = np.concatenate([np.arange(12), np.arange(3)])
    of_both = np.concatenate([weights, weights[:3]])
    found = distinct_samples(both, others, of_both, None).losses(np.array([0.1]))
    np.testing.assert_allclose(found, brute_force(both, others, of_both, units, 0.1), rtol=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 99), d=st.integers(2, 30))
def test_a_weight_of_two_is_the_sample_twice_and_of_zero_none(seed, d):
    features, targets, _, objective = problem(12, d, seed=seed)
    weights = np.tile([0.0, 1.0, 2.0], 4)
    copies = np.repeat(np.arange(12), weights.astype(int))
    l2 = choose_ridge_l2(features, targets, objective, sample_weight=weights)
    ones, repeated = np.ones(12), (features[copies], targets[copies])
    assert choose_ridge_l2(*repeated, objective, sample_weight=ones) == l2
    head = fit_ridge(features, targets, objective, l2=l2, sample_weight=weights)
    other = fit_ridge(*repeated, objective, l2=l2, sample_weight=ones)
    np.testing.assert_allclose(head.scores(features), other.scores(features), atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 10), (30, 100)])
def test_the_penalty_is_that_of_scikit_learn(shape):
    features, targets, _, objective = problem(*shape, k=2)
    ones = np.ones(len(features))
    l2 = choose_ridge_l2(features, targets, objective, sample_weight=ones)
    rows = standardised(features, ones)
    expected = RidgeCV(alphas=len(rows) * CANDIDATES).fit(rows, targets).alpha_ / len(rows)
    assert CANDIDATES[-1] < l2 < CANDIDATES[0]
    np.testing.assert_allclose(l2, expected)


def test_the_penalty_is_the_default_where_no_sample_can_be_left_out():
    features, targets, _, objective = problem(6, 3)
    same = np.repeat(features[:1], 6, axis=0)
    assert choose_ridge_l2(same, targets, objective, sample_weight=np.ones(6)) == DEFAULT_L2
    one = np.eye(6)[0]
    assert choose_ridge_l2(features, targets, objective, sample_weight=one) == DEFAULT_L2


def test_without_a_penalty_the_coefficients_are_the_smallest_that_fit():
    features, targets, weights, objective = problem(8, 30)
    head = fit_ridge(features, targets, objective, l2=0.0, sample_weight=weights)
    np.testing.assert_allclose(head.scores(features), targets, atol=1e-6)
    rows = standardised(features, weights)
    smallest = np.linalg.lstsq(rows, targets - head.intercept, rcond=None)[0]
    np.testing.assert_allclose(head.coef, smallest, atol=1e-6)


def test_one_decomposition_serves_all_penalties_and_the_choice(monkeypatch):
    calls = []
    solve = ridge.eigh
    monkeypatch.setattr(ridge, "eigh", lambda *a, **k: calls.append(1) or solve(*a, **k))
    features, targets, weights, objective = problem(20, 7, k=2, seed=1234)
    choose_ridge_l2(features, targets, objective, sample_weight=weights)
    for l2 in (0.01, 0.1, 1.0):
        fit_ridge(features, targets, objective, l2=l2, sample_weight=weights)
    assert len(calls) == 1


def test_large_decompositions_are_not_kept(monkeypatch):
    monkeypatch.setattr(ridge, "MAX_KEPT_BYTES", 100)
    features, targets, weights, objective = problem(9, 7, seed=4321)
    before = list(ridge._axes)
    fit_ridge(features, targets, objective, l2=0.1, sample_weight=weights)
    assert list(ridge._axes) == before
