"""Tests of compare: values by hand, and the rate of false discoveries."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.reports import compare, run_experiments
from transferclf.reports.experiments.comparing import corrected_t_test, holm
from transferclf.reports.tables import rows_of, table_of


def table(scores, n_train=80, n_test=20, data="d", metric="accuracy"):
    rows = [
        {"name": name, f"mean_{metric}": np.mean(folds), "data": data}
        | {"n_train": n_train, "n_test": n_test, "n_folds": len(folds)}
        | {f"split{k}_{metric}": score for k, score in enumerate(folds)}
        for name, folds in scores.items()
    ]
    return table_of(rows, list(rows[0]))


def test_a_comparison_equals_one_by_hand():
    # Differences 0.02, 0.04, 0.06, 0.08: mean 0.05, variance 0.002 / 3. With 75 training and 25
    # test samples the error is sqrt((1/4 + 1/3) * 0.002 / 3) = 0.0197203, and t = 2.53546. For
    # three degrees of freedom P(|T| > t) = 1 - 2/pi * (a + sin(a) cos(a)) with a = atan(t/sqrt 3),
    # which is 0.0850, and 95 % of the distribution are within 3.182446.
    a = math.atan(0.05 / 0.0197203 / math.sqrt(3))
    p = 1 - 2 / math.pi * (a + math.sin(a) * math.cos(a))
    scores = {"one": [0.82, 0.74, 0.96, 0.88], "other": [0.8, 0.7, 0.9, 0.8]}
    (pair,) = rows_of(compare(table(scores, n_train=75, n_test=25)))
    assert (pair["first"], pair["second"], pair["holds"]) == ("one", "other", False)
    assert (
        pair["p"] == pair["p_holm"] == pytest.approx(p, abs=1e-5) == pytest.approx(0.085, abs=1e-4)
    )
    assert pair["difference"] == pytest.approx(0.05)
    assert pair["low"] == pytest.approx(0.05 - 3.182446 * 0.0197203, abs=1e-6)
    assert pair["high"] == pytest.approx(0.05 + 3.182446 * 0.0197203, abs=1e-6)


def null_differences(rng, n=120, k=5, repeats=600):
    """Differences per fold of two nearest-mean classifiers on features of equal quality."""
    differences = np.empty((repeats, k))
    for repeat in range(repeats):
        y = np.arange(n) % 2
        views = 0.7 * y[:, None, None] * np.ones((4, 2)) + rng.standard_normal((n, 4, 2))
        fold = rng.permutation(n) % k
        for held in range(k):
            train, test = fold != held, fold == held
            scores = []
            for view in (0, 1):
                Z = views[:, :, view]
                means = [Z[train & (y == c)].mean(axis=0) for c in (0, 1)]
                nearer = ((Z[test] - means[1]) ** 2).sum(1) < ((Z[test] - means[0]) ** 2).sum(1)
                scores.append(np.mean(nearer == y[test]))
            differences[repeat, held] = scores[0] - scores[1]
    return differences


def test_where_there_is_no_difference_few_are_found():
    differences = null_differences(np.random.default_rng(0))
    corrected = np.array([corrected_t_test(d, 96, 24)[0] for d in differences])
    # 5 % plus three standard deviations of a share of 600.
    assert np.mean(corrected <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)
    assert np.mean(corrected <= 0.3) > 0.05  # the test finds some differences
    plain = np.array([ttest_rel(d, np.zeros(5)).pvalue for d in differences if np.ptp(d) > 0])
    assert np.mean(plain <= 0.05) > np.mean(corrected <= 0.05)


def test_a_large_difference_holds():
    rng = np.random.default_rng(0)
    low = 0.6 + 0.02 * rng.standard_normal(5)
    (pair,) = rows_of(compare(table({"good": low + 0.2 + 0.01 * rng.random(5), "bad": low})))
    assert pair["holds"]
    assert 0 < pair["low"] < pair["difference"] < pair["high"]


def test_holm_equals_an_example_by_hand():
    assert holm([0.02, 0.001, 0.5, 0.01]) == pytest.approx([0.04, 0.004, 0.5, 0.03])
    assert holm([0.4, 0.5]) == pytest.approx([0.8, 0.8])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p_values):
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values)
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_pairs_are_adjusted_for_together():
    rng = np.random.default_rng(1)
    folds = 0.8 + 0.05 * rng.standard_normal((3, 5))
    pairs = rows_of(compare(table(dict(zip("abc", folds, strict=True)))))
    assert [(pair["first"], pair["second"]) for pair in pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    assert [pair["p_holm"] for pair in pairs] == pytest.approx(holm([pair["p"] for pair in pairs]))


def test_equal_scores_do_not_differ():
    (pair,) = rows_of(compare(table({"a": [0.5, 0.6, 0.7], "b": [0.5, 0.6, 0.7]})))
    assert (pair["difference"], pair["low"], pair["high"], pair["p"]) == (0, 0, 0, 1)
    assert not pair["holds"]


def test_equal_differences_are_exact_to_a_test_sample_only():
    one_sample = {"a": [0.55, 0.65, 0.75], "b": [0.5, 0.6, 0.7]}
    (pair,) = rows_of(compare(table(one_sample, n_train=40, n_test=20)))
    assert not pair["holds"]
    (pair,) = rows_of(compare(table({"a": [1.0] * 3, "b": [0.1] * 3}, n_train=40, n_test=20)))
    assert pair["holds"]


def test_the_metric_can_be_chosen():
    runs = table({"a": [0.5, 0.6, 0.7], "b": [0.4, 0.6, 0.7]}, metric="loss")
    assert len(compare(runs)) == len(compare(runs, metric="loss")) == 1
    with pytest.raises(InvalidParameterError, match="no scores of 'accuracy'"):
        compare(runs, metric="accuracy")


def test_incomparable_runs_raise_an_error():
    with pytest.raises(InvalidParameterError, match="two folds, got one"):
        compare(table({"a": [0.5], "b": [0.6]}))
    with pytest.raises(InvalidParameterError, match="at least two finished runs.*Got 1"):
        compare(table({"a": [0.5, 0.6]}))
    mixed = rows_of(table({"a": [0.5, 0.6]})) + rows_of(table({"b": [0.5, 0.6]}, data="other"))
    with pytest.raises(InvalidParameterError, match="same data and folds"):
        compare(mixed)
    with pytest.raises(InvalidParameterError, match="without rows"):
        compare([])
    with pytest.raises(InvalidParameterError, match=r"columns \['x'\]"):
        compare([{"x": 1}])
    with pytest.raises(InvalidParameterError, match="alpha"):
        compare(table({"a": [0.5, 0.6], "b": [0.5, 0.7]}), alpha=5)


def test_runs_without_scores_are_left_out():
    runs = rows_of(table({"a": [0.5, 0.6], "b": [0.7, 0.5], "c": [0.5, 0.5]}))
    runs[2] |= {"mean_accuracy": None, "split1_accuracy": None}
    with pytest.warns(TransferclfWarning, match="left out: c"):
        pairs = compare(runs)
    assert len(pairs) == 1


def test_the_table_of_real_runs(tmp_path, monkeypatch):
    X, y = load_iris(return_X_y=True)
    runs = {"bayes": GaussianNB(), "tree": DecisionTreeClassifier(), "none": DummyClassifier()}
    runs["tree"].set_params(random_state=0)
    results = run_experiments(runs, X, y, directory=tmp_path)
    holds = {(row["first"], row["second"]): row["holds"] for row in rows_of(compare(results))}
    assert holds == {("bayes", "tree"): False, ("bayes", "none"): True, ("tree", "none"): True}
    assert len(compare(results, metric="loss")) == 3
    one = run_experiments(
        {"c": runs["bayes"], "d": runs["tree"]}, X, y, validation_data=(X, y), directory=tmp_path
    )
    with pytest.raises(InvalidParameterError, match="two folds"):
        compare(one)
    assert compare(rows_of(results)).equals(compare(results))  # a list of dicts is accepted
    assert list(compare(results)) == [
        "first", "second", "difference", "low", "high", "p", "p_holm", "holds",
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install jinja2 matplotlib pandas"):
        compare(results)
