"""Tests of run_experiments: it repeats, mixes and loses no results."""

import json
import os
import subprocess
import sys
from pathlib import Path

import experiment_helpers
import numpy as np
import pytest
from image_helpers import striped_images
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from transferclf import TransferClassifier, load_model
from transferclf.exceptions import ImageReadError, InvalidParameterError, TransferclfWarning
from transferclf.features import shared_store
from transferclf.reports import load_experiments, run_experiments
from transferclf.reports.tables import rows_of

X, Y = load_iris(return_X_y=True)
SCRIPT = Path(experiment_helpers.__file__)


class Counted(GaussianNB):
    """A classifier that counts its fits, and fails or is interrupted at a chosen one."""

    fits = 0
    fails = None

    def fit(self, X, y):
        Counted.fits += 1
        if Counted.fails is not None and Counted.fails[0] == Counted.fits:
            raise Counted.fails[1]
        return super().fit(X, y)


@pytest.fixture(autouse=True)
def _counted_from_zero():
    Counted.fits, Counted.fails = 0, None


def without_seconds(table):
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "folder")}
        for row in rows_of(table)
    ]


def row_of(table, name):
    return next(row for row in rows_of(table) if row["name"] == name)


def child(directory, log, *where, **environment):
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(SCRIPT), str(directory), str(log), *where],
        env=os.environ | {"FIT_LOG": str(log)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_the_table_has_the_scores_of_cross_validation(tmp_path):
    runs = {"stump": DecisionTreeClassifier(max_depth=1, random_state=0), "bayes": GaussianNB()}
    table = run_experiments(runs, X, Y, cv=4, directory=tmp_path, scoring="neg_log_loss")
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    assert [row["name"] for row in rows_of(table)] == ["bayes", "stump"]
    assert list(table)[:3] == ["name", "mean_neg_log_loss", "std_neg_log_loss"]
    for row in rows_of(table):
        for metric in ("accuracy", "neg_log_loss"):
            expected = cross_val_score(runs[row["name"]], X, Y, cv=folds, scoring=metric)
            got = [row[f"split{number}_{metric}"] for number in range(4)]
            np.testing.assert_allclose(got, expected)
            np.testing.assert_allclose(row[f"mean_{metric}"], expected.mean())
            np.testing.assert_allclose(row[f"std_{metric}"], expected.std(ddof=1))
        assert (row["n_train"], row["n_test"], row["n_features"]) == (112.5, 37.5, 4)
        assert row["error"] == ""


def test_finished_folds_are_not_repeated(tmp_path):
    first = run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    again = run_experiments({"a": Counted(), "b": GaussianNB()}, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 3
    assert row_of(first, "a") == row_of(again, "a")
    assert without_seconds(load_experiments(tmp_path)) == without_seconds(again)


def test_parameters_changed_under_a_name_are_another_run(tmp_path):
    run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    with pytest.warns(TransferclfWarning, match=r"'a' was run before with other parameters \(var"):
        changed = run_experiments({"a": Counted(var_smoothing=1.0)}, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 6
    assert without_seconds(load_experiments(tmp_path)) == without_seconds(changed)
    back = run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 6
    assert without_seconds(load_experiments(tmp_path)) == without_seconds(back)
    assert row_of(back, "a")["mean_loss"] != row_of(changed, "a")["mean_loss"]


@pytest.mark.parametrize(
    "change",
    [
        lambda: (X + 1e-9, Y, 3),
        lambda: (X[::-1], Y[::-1], 3),
        lambda: (X, np.roll(Y, 1), 3),
        lambda: (X, Y.astype(str), 3),
        lambda: (X, Y, 4),
        lambda: (X, Y, StratifiedKFold(3, shuffle=True, random_state=1)),
    ],
    ids=["values", "order", "labels", "kind of labels", "folds", "seed of folds"],
)
def test_other_data_or_folds_are_another_run(tmp_path, change):
    run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    changed_X, changed_y, cv = change()
    with pytest.warns(TransferclfWarning, match="run before with other data or folds"):
        run_experiments({"a": Counted()}, changed_X, changed_y, cv=cv, directory=tmp_path)
    assert Counted.fits == 3 + (4 if cv == 4 else 3)


def test_equal_data_and_parameters_are_the_same_run(tmp_path):
    run_experiments({"a": Counted(priors=[0.2, 0.3, 0.5])}, X, Y, cv=3, directory=tmp_path)
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, Y))
    copy = Counted(priors=[0.2, 0.3, 0.5])
    run_experiments({"a": copy}, np.asfortranarray(X), list(Y), cv=splits, directory=tmp_path)
    assert Counted.fits == 3


def test_names_never_share_a_folder(tmp_path):
    names = ["a", "A", "a ", "a/b", "a\\b", "../a", "CON", "é", ".", "x" * 300]
    runs = {name: DummyClassifier() for name in names}
    table = run_experiments(runs, X, Y, cv=2, directory=tmp_path / "runs")
    folders = [Path(row["folder"]) for row in rows_of(table)]
    assert len({folder.name.lower() for folder in folders}) == len(names)
    assert {folder.parent for folder in folders} == {tmp_path / "runs"}
    assert {len(list(folder.glob("fold-*.json"))) for folder in folders} == {2}
    assert all(folder.name.isascii() and len(folder.name) < 100 for folder in folders)
    assert [row["name"] for row in rows_of(load_experiments(tmp_path / "runs"))] == names


def test_a_failing_run_does_not_stop_the_others(tmp_path):
    Counted.fails = (2, ValueError("no such thing"))
    runs = {"bad": Counted(), "good": GaussianNB()}
    with pytest.warns(TransferclfWarning, match=r"1 of 2 runs failed: 'bad' \(ValueError: no such"):
        table = run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    assert [row["name"] for row in rows_of(table)] == ["good", "bad"]
    bad = row_of(table, "bad")
    assert bad["error"] == "ValueError: no such thing"
    assert bad["mean_accuracy"] is None
    assert bad["split0_accuracy"] is not None
    assert (
        "raise Counted.fails"
        in json.loads(Path(bad["folder"], "error.json").read_text())["traceback"]
    )
    again = run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 4  # the first fold was stored
    assert row_of(again, "bad")["error"] == ""
    assert without_seconds(load_experiments(tmp_path)) == without_seconds(again)


def test_ctrl_c_stops_at_once_and_loses_no_fold(tmp_path):
    Counted.fails = (2, KeyboardInterrupt())
    runs = {"a": Counted(), "b": GaussianNB()}
    with pytest.raises(KeyboardInterrupt):
        run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    unfinished = rows_of(load_experiments(tmp_path))
    assert [row["error"] for row in unfinished] == [
        "1 of 3 folds are finished",
        "0 of 3 folds are finished",
    ]
    table = run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 4
    assert [row["error"] for row in rows_of(table)] == ["", ""]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIT_LOG", str(folder / "log"))
        return without_seconds(experiment_helpers.run(folder / "runs"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no SIGKILL on this system")
def test_killed_again_and_again_it_ends_with_the_same_table(tmp_path, undisturbed):
    directory, log = tmp_path / "runs", tmp_path / "log"
    hanging = child(directory, log, "fit:2")
    assert hanging.stdout.readline() == "hanging\n", finished(hanging)
    hanging.kill()
    hanging.communicate()
    # The first two files describe the runs. The third is the second fold, whose fit is lost.
    assert finished(child(directory, log, "replace:3"))[0] == -9
    # Here the fold is stored, and only the process is lost.
    assert finished(child(directory, log, "replaced:4"))[0] == -9
    assert finished(child(directory, log)) == (0, "")
    assert without_seconds(load_experiments(directory)) == undisturbed
    begun = log.read_text().splitlines()
    assert len(set(begun)) == 6
    assert len(begun) == 6 + 2  # one killed during its fit, one before it was stored


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no locks of this kind on this system")
def test_two_processes_share_the_work(tmp_path, undisturbed):
    directory, log = tmp_path / "runs", tmp_path / "log"
    others = [child(directory, log, FIT_SECONDS="0.3") for _ in range(2)]
    assert [finished(process) for process in others] == [(0, ""), (0, "")]
    assert without_seconds(load_experiments(directory)) == undisturbed
    assert len(log.read_text().splitlines()) == 6


@pytest.mark.parametrize("damage", ["", "{", '{"key": 3}', "[1]", '{"key": "of another"}', "\0"])
def test_damaged_folds_are_repeated_with_a_warning(tmp_path, damage):
    table = run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    file = Path(row_of(table, "a")["folder"], "fold-001.json")
    file.write_text(damage)
    with pytest.warns(TransferclfWarning, match=r"fold-001.json is not used"):
        again = run_experiments({"a": Counted()}, X, Y, cv=3, directory=tmp_path)
    assert Counted.fits == 4
    assert without_seconds(table) == without_seconds(again)


def test_a_fold_of_another_run_is_ignored(tmp_path):
    runs = {"a": Counted(), "b": Counted(var_smoothing=1.0)}
    table = run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    a, b = (Path(row_of(table, name)["folder"], "fold-000.json") for name in "ab")
    b.write_bytes(a.read_bytes())
    with pytest.warns(TransferclfWarning, match="it belongs to another run"):
        again = run_experiments(runs, X, Y, cv=3, directory=tmp_path)
    assert without_seconds(table) == without_seconds(again)


def test_other_things_in_the_directory_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"name": "a"}')
    with pytest.raises(InvalidParameterError, match="expected runs below"):
        load_experiments(tmp_path)
    run_experiments({"a": GaussianNB()}, X, Y, cv=3, directory=tmp_path)
    assert len(load_experiments(tmp_path)) == 1
    assert (tmp_path / "other" / "run.json").read_text() == '{"name": "a"}'


def test_a_folder_of_a_newer_version_is_refused(tmp_path):
    table = run_experiments({"a": GaussianNB()}, X, Y, cv=3, directory=tmp_path)
    file = Path(row_of(table, "a")["folder"], "run.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
    with pytest.raises(InvalidParameterError, match="has format 99.*upgrade"):
        run_experiments({"a": GaussianNB()}, X, Y, cv=3, directory=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimators": {}}, "at least one"),
        ({"estimators": [GaussianNB()]}, "dict from names"),
        ({"estimators": {"a": GaussianNB}}, "Got .*GaussianNB"),
        ({"estimators": {3: GaussianNB()}}, "names of runs must be texts"),
        ({"y": Y[:-1]}, "one label for each of the 150"),
        ({"cv": 1}, "cv must be from 2"),
        ({"cv": 3.5}, "cv must be a number of folds"),
        ({"cv": ShuffleSplit(3)}, "other folds each time.*random_state"),
        ({"cv": [([0, 1], [1, 2])]}, "fold 0 of cv.*both parts"),
        ({"cv": [([0, 1], [150])]}, "positions from 0 to 149"),
        ({"cv": [([0, 1], [])]}, "empty part"),
        ({"cv": [([0, 1], [2.5])]}, "must be positions"),
        ({"validation_data": X}, "pair"),
        ({"scoring": "beauty"}, "scoring.*beauty"),
        ({"scoring": 3}, "scoring must be None"),
        ({"directory": 3}, "directory must be a path"),
        ({"directory": __file__}, "Got the file"),
        ({"keep_models": True}, "keep_models=True.*Got GaussianNB under the name 'a'"),
    ],
)
def test_wrong_arguments_raise_an_error_before_any_work(tmp_path, arguments, message):
    given = {"estimators": {"a": GaussianNB()}, "X": X, "y": Y, "directory": tmp_path} | arguments
    with pytest.raises(InvalidParameterError, match=message):
        run_experiments(**given)
    assert list(tmp_path.iterdir()) == []


class Halves(KFold):
    """A splitter that requires an X of numbers."""

    def split(self, X, y=None, groups=None):
        assert np.asarray(X, dtype=float).shape == (150, 1)
        return super().split(X, y, groups)


def test_a_splitter_gets_an_x_of_numbers(tmp_path):
    names = np.array(["a", "b", "c"])[Y]
    cv = Halves(2, shuffle=True, random_state=0)
    table = run_experiments({"a": GaussianNB()}, X, names, cv=cv, directory=tmp_path)
    assert rows_of(table)[0]["error"] == ""


def test_validation_data_replace_the_folds(tmp_path):
    table = run_experiments(
        {"a": GaussianNB()}, X[::2], Y[::2], validation_data=(X[1::2], Y[1::2]), directory=tmp_path
    )
    (row,) = rows_of(table)
    assert row["mean_accuracy"] == GaussianNB().fit(X[::2], Y[::2]).score(X[1::2], Y[1::2])
    assert (row["n_folds"], row["n_train"], row["n_test"]) == (1, 75, 75)
    assert row["std_accuracy"] is None


def test_a_class_can_be_missing_from_a_training_fold(tmp_path):
    y = Y.astype(object).astype(str)
    y[0] = "rare"
    with pytest.warns(UserWarning, match="least populated class"):
        table = run_experiments(
            {"a": GaussianNB(), "b": DecisionTreeClassifier(max_depth=3)}, X, y, directory=tmp_path
        )
    for row in rows_of(table):
        assert row["error"] == ""
        assert 0.8 < row["mean_accuracy"] < 1
        assert row["mean_loss"] is not None


class Unseen:
    """An object that cannot be pickled, so it has no digest."""

    def __reduce_ex__(self, protocol):
        raise TypeError("not to be pickled")


class Holder(ClassifierMixin, BaseEstimator):
    def __init__(self, held=None):
        self.held = held

    def fit(self, X, y):
        Counted.fits += 1
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.repeat(self.classes_[:1], len(X))

    def __sklearn_clone__(self):
        return Holder(self.held)


@pytest.mark.parametrize("held", [Unseen(), lambda x: x])
def test_a_parameter_without_a_digest_raises_an_error_before_any_work(held, tmp_path):
    with pytest.raises(InvalidParameterError, match="run 'a', parameter 'held': expected a value"):
        run_experiments({"good": GaussianNB(), "a": Holder(held)}, X, Y, directory=tmp_path)
    with pytest.raises(InvalidParameterError, match="scoring: expected a value"):
        run_experiments({"a": Holder()}, X, Y, directory=tmp_path, scoring={"own": lambda *_: 1})
    assert Counted.fits == 0
    assert list(tmp_path.iterdir()) == []


def test_classifiers_without_probabilities_have_no_loss(tmp_path):
    (row,) = rows_of(run_experiments({"a": Holder()}, X, Y, cv=3, directory=tmp_path))
    assert row["mean_accuracy"] == pytest.approx(1 / 3)
    assert row["mean_loss"] is None
    assert row["error"] == ""


def test_the_error_without_pandas_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    told = "pandas.*pip install jinja2 matplotlib pandas"
    with pytest.raises(ImportError, match=told):
        run_experiments({"a": Counted()}, X, Y, directory=tmp_path / "runs")
    with pytest.raises(ImportError, match=told):
        load_experiments(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Counted.fits == 0


@pytest.fixture(scope="module")
def stripes():
    images = striped_images(24, np.random.default_rng(0))
    return images, np.array(["across", "down", "noise"])[np.arange(24) % 3]


def test_images_go_through_the_network_once(tmp_path, stripes):
    images, labels = stripes
    runs = {
        "weak": TransferClassifier(l2=1e-3),
        "strong": TransferClassifier(l2=1.0),
        "scaled": make_pipeline(TransferClassifier(l2=0.1)),
        "deep": TransferClassifier(hidden_units=(8,), epochs=2, random_state=0),
    }
    table = run_experiments(runs, images, labels, cv=3, directory=tmp_path)
    assert [row["error"] for row in rows_of(table)] == [""] * 4
    info = shared_store().info()
    assert (info.entries, info.misses) == (24, 24)
    deep = row_of(table, "deep")
    assert deep["epochs"] == 2
    facts = json.loads(Path(deep["folder"], "fold-002.json").read_text())
    assert len(facts["history"]["loss"]) == 2
    assert {"keras", "transferclf"} <= set(facts["versions"])
    assert row_of(table, "weak")["n_features"] == 1152


def test_files_are_identified_by_their_content(tmp_path, stripes):
    def saved(folder):
        folder.mkdir()
        paths = [folder / f"{number}.png" for number in range(24)]
        for path, image in zip(paths, stripes[0], strict=True):
            Image.fromarray(image).save(path)
        return paths

    class Brightness(Counted):
        def fit(self, X, y):
            return super().fit(self.features(X), y)

        def predict(self, X):
            return super().predict(self.features(X))

        def predict_proba(self, X):
            return super().predict_proba(self.features(X))

        def features(self, X):
            if isinstance(X[0], float | np.ndarray):
                return X
            return np.array([[float(np.std(Image.open(path), axis=0).mean())] for path in X])

    one, other = saved(tmp_path / "one"), saved(tmp_path / "other")
    runs = {"a": Brightness()}
    run_experiments(runs, one, stripes[1], cv=3, directory=tmp_path / "runs")
    run_experiments(runs, list(map(str, other)), stripes[1], cv=3, directory=tmp_path / "runs")
    assert Counted.fits == 3
    other[3].write_bytes(other[4].read_bytes())
    with pytest.warns(TransferclfWarning, match="other data"):
        run_experiments(runs, other, stripes[1], cv=3, directory=tmp_path / "runs")
    assert Counted.fits == 6
    other[5].write_bytes(b"no image")
    with pytest.raises(ImageReadError, match="5.png"):
        run_experiments(runs, other, stripes[1], cv=3, directory=tmp_path / "runs")


def test_kept_models_are_fitted_to_all_data(tmp_path, stripes):
    images, labels = stripes
    search = GridSearchCV(TransferClassifier(), {"l2": [0.01, 0.1]}, cv=2)
    runs = {"one": TransferClassifier(l2=0.01), "search": search}
    table = run_experiments(runs, images, labels, cv=2, directory=tmp_path / "a", keep_models=True)
    whole = TransferClassifier(l2=0.01).fit(images, labels)
    for row in rows_of(table):
        model = load_model(Path(row["folder"], "model.transferclf"))
        np.testing.assert_array_equal(model.sample_indices_, np.arange(24))
    model = load_model(Path(row_of(table, "one")["folder"], "model.transferclf"))
    np.testing.assert_array_equal(model.predict_proba(images), whole.predict_proba(images))


def test_the_evaluated_model_is_kept_with_validation_data(tmp_path, stripes):
    images, labels = stripes
    given = {"validation_data": (images[12:], labels[12:]), "directory": tmp_path}
    runs = {"one": TransferClassifier(l2=0.01)}
    table = run_experiments(runs, images[:12], labels[:12], **given)
    folder = Path(row_of(table, "one")["folder"])
    assert not (folder / "model.transferclf").exists()
    (folder / "fold-000.json").unlink()
    run_experiments(runs, images[:12], labels[:12], keep_models=True, **given)
    assert len(load_model(folder / "model.transferclf").sample_indices_) == 12


def test_unsavable_models_are_refused_before_any_work(tmp_path):
    given = {"directory": tmp_path, "keep_models": True}
    with pytest.raises(InvalidParameterError, match="random_state must be of plain values"):
        run_experiments(
            {"a": TransferClassifier(random_state=np.random.RandomState(0))}, X, Y, **given
        )
    with pytest.raises(InvalidParameterError, match="Got Pipeline"):
        run_experiments({"a": make_pipeline(StandardScaler(), GaussianNB())}, X, Y, **given)
    assert list(tmp_path.iterdir()) == []


def test_progress_has_a_line_for_each_fold(tmp_path, capsys):
    run_experiments({"a": GaussianNB()}, X, Y, cv=2, directory=tmp_path, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["a: fold 1 of 2", "a: fold 2 of 2"]
