"""Tests of experiments with several labels and with numbers."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification, make_regression
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.model_selection import KFold
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from transferclf.exceptions import InvalidParameterError
from transferclf.reports import compare, load_experiments, run_experiments

X, TABLE = make_multilabel_classification(60, 8, n_classes=3, random_state=0)
NAMES = ["sea", "sun", "tree"]
NUMBERS_X, NUMBERS = make_regression(60, 5, noise=5.0, random_state=0)


@pytest.fixture(scope="module")
def of_labels(tmp_path_factory):
    directory = tmp_path_factory.mktemp("labels")
    runs = {"near": KNeighborsClassifier(3), "ridge": RidgeClassifier()}
    return run_experiments(runs, X, TABLE, cv=3, directory=directory, scoring="f1_macro"), directory


def test_folds_of_labels_have_the_measures_of_evaluate(of_labels):
    table, directory = of_labels
    row = table.set_index("name").loc["near"]
    splits = KFold(3, shuffle=True, random_state=0).split(X)
    for number, (train, test) in enumerate(splits):
        fitted = clone(KNeighborsClassifier(3)).fit(X[train], TABLE[train])
        proba = np.column_stack([one[:, 1] for one in fitted.predict_proba(X[test])])
        precision = metrics.average_precision_score(TABLE[test], proba)
        assert row[f"split{number}_mean_average_precision"] == pytest.approx(precision)
        f1 = metrics.f1_score(TABLE[test], fitted.predict(X[test]), average="macro")
        assert row[f"split{number}_f1_macro"] == pytest.approx(f1)
        loss = metrics.hamming_loss(TABLE[test], fitted.predict(X[test]))
        assert row[f"split{number}_hamming_loss"] == pytest.approx(loss)
    assert list(table.columns)[1] == "mean_f1_macro"
    assert load_experiments(directory)["name"].tolist() == table["name"].tolist()
    assert len(compare(table)) == 1


def test_runs_of_labels_are_sorted_by_mean_average_precision(tmp_path):
    runs = {"dummy": DummyClassifier(), "near": KNeighborsClassifier(3)}
    table = run_experiments(runs, X, TABLE, cv=3, directory=tmp_path, verbose=1)
    assert list(table.columns)[1] == "mean_mean_average_precision"
    assert table["name"].tolist() == ["near", "dummy"]


def test_sets_and_columns_name_the_labels_of_every_fold(tmp_path):
    seen = []

    class Told(KNeighborsClassifier):
        def fit(self, X, y):
            seen.append(list(y.columns))
            return super().fit(X, y)

    sets = [{NAMES[column] for column in np.flatnonzero(row)} for row in TABLE]
    by_sets = run_experiments({"a": Told(3)}, X, sets, cv=3, directory=tmp_path)
    assert seen == [NAMES] * 3
    frame = pd.DataFrame(TABLE, columns=NAMES)
    by_frame = run_experiments({"a": Told(3)}, X, frame, cv=3, directory=tmp_path)
    assert seen == [NAMES] * 3  # the same data, so that no fold is done again
    assert by_frame["data"].tolist() == by_sets["data"].tolist()


def test_folds_of_numbers_have_the_measures_of_evaluate(tmp_path):
    runs = {"line": LinearRegression(), "mean": DummyRegressor()}
    scoring = {"negative": "neg_mean_absolute_error"}
    table = run_experiments(
        runs, NUMBERS_X, NUMBERS, cv=3, directory=tmp_path, scoring=scoring
    ).set_index("name")
    assert table.index.tolist() == ["line", "mean"]
    splits = KFold(3, shuffle=True, random_state=0).split(NUMBERS_X)
    for number, (train, test) in enumerate(splits):
        fitted = LinearRegression().fit(NUMBERS_X[train], NUMBERS[train])
        predicted = fitted.predict(NUMBERS_X[test])
        row, true = table.loc["line"], NUMBERS[test]
        assert row[f"split{number}_r2"] == pytest.approx(metrics.r2_score(true, predicted))
        error = metrics.mean_absolute_error(true, predicted)
        assert row[f"split{number}_mae"] == pytest.approx(error)
        assert row[f"split{number}_negative"] == pytest.approx(-error)
    pairs = compare(table.reset_index(), metric="mae")
    assert pairs["difference"][0] == pytest.approx(
        table.loc["line", "mean_mae"] - table.loc["mean", "mean_mae"]
    )


def test_other_numbers_are_another_run(tmp_path):
    run = {"a": Ridge()}
    one = run_experiments(run, NUMBERS_X, NUMBERS, cv=3, directory=tmp_path)
    assert one.loc[0, "mean_r2"] > 0.9
    with pytest.warns(UserWarning, match="other data or folds"):
        run_experiments(run, NUMBERS_X, NUMBERS + 1e-9, cv=3, directory=tmp_path)


def test_validation_data_are_measured_once(tmp_path):
    frame = pd.DataFrame(TABLE, columns=NAMES)
    held_out = X[40:], frame[40:][NAMES[::-1]]
    table = run_experiments(
        {"a": KNeighborsClassifier(3)}, X[:40], frame[:40], validation_data=held_out,
        directory=tmp_path,
    )  # fmt: skip
    fitted = KNeighborsClassifier(3).fit(X[:40], TABLE[:40])
    expected = metrics.f1_score(TABLE[40:], fitted.predict(X[40:]), average="micro")
    assert table["mean_f1_micro"][0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("runs", "y", "message"),
    [
        ({"a": Ridge(), "b": GaussianNB()}, NUMBERS, "all regressors or all classifiers"),
        ({"a": Ridge()}, NUMBERS[1:], "60 images and 59 targets"),
        ({"a": Ridge()}, NUMBERS * np.nan, "contains NaN"),
        ({"a": Ridge()}, None, "Got None"),
        ({"a": Ridge()}, ["a"] * 60, "y must be numbers"),
        ({"a": KNeighborsClassifier()}, TABLE[1:], "60 images and 59 sets or rows"),
        ({"a": KNeighborsClassifier()}, TABLE * 2, "with 2 in row"),
        ({"a": KNeighborsClassifier()}, np.where(TABLE, np.nan, 0), "no label for 56 of 60 images"),
        ({"a": KNeighborsClassifier()}, [{"a"}, {None}] * 30, "Got the label None at index 1"),
        ({"a": KNeighborsClassifier()}, np.zeros((60, 2, 2)), "y must"),
    ],
)
def test_wrong_targets_raise_an_error_before_any_run(tmp_path, runs, y, message):
    with pytest.raises(ValueError, match=message):
        run_experiments(runs, NUMBERS_X, y, cv=3, directory=tmp_path / "runs")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_validation_data_with_unknown_labels_raise_an_error(tmp_path):
    sets = [{"sea"}, {"sun"}] * 30
    with pytest.raises(ValueError, match="Got 'moon' too"):
        run_experiments(
            {"a": KNeighborsClassifier()}, X, sets, directory=tmp_path,
            validation_data=(X[:1], [{"moon"}]),
        )  # fmt: skip


def test_the_models_of_other_estimators_cannot_be_kept(tmp_path):
    with pytest.raises(InvalidParameterError, match="keeps each TransferClassifier or"):
        run_experiments({"a": Ridge()}, NUMBERS_X, NUMBERS, directory=tmp_path, keep_models=True)
