"""run_experiments: run estimators on the same folds, and keep each fold when it ends."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import InvalidParameterError, warn
from transferclf.reports.experiments.folds import Folds
from transferclf.reports.experiments.runner import MEASURES, Run, check_can_be_kept, scorers_of
from transferclf.reports.experiments.runs import RUN, RunFolder, begun_runs, known_facts
from transferclf.reports.experiments.targets import kind_of_experiments
from transferclf.reports.tables import Row, extra, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

# The columns after the means: facts about each run.
_ABOUT = (
    "seconds", "epochs", "n_features", "n_folds", "n_train", "n_test", "data", "error", "folder",
)  # fmt: skip


def run_experiments(
    estimators: Mapping[str, object],
    X: object,
    y: object,
    *,
    cv: object = 5,
    validation_data: tuple[object, object] | None = None,
    directory: str | os.PathLike[str],
    scoring: object = None,
    keep_models: bool = False,
    verbose: int = 0,
) -> DataFrame:
    """Fit and judge several estimators on the same folds, and keep every result.

    Each fold is written to a file when it ends. A fold of the same parameters and data is not done
    again: after a crash, or to add an estimator, call this function again. Several processes may
    share a directory, and then the work.

    Parameters
    ----------
    estimators : dict of str to estimator
        Classifiers, or regressors, by the names of their runs; each fold fits a clone.
    X : array-like or sequence of images, n of them
        Whatever the estimators take.
    y : array-like of shape (n,), or of one row for each image
        Class labels. For several labels an indicator, a data frame or a sequence of label sets; for
        regressors numbers of shape (n,) or (n, n_outputs).
    cv : int, splitter or list of (train, test), default=5
        A number of folds, shuffled with the seed 0 and, for classes, stratified; a splitter of
        scikit-learn that draws the same folds each time; or positions.
    validation_data : (X, y) or None, default=None
        Test samples. Each estimator is then fitted once, to all of `X`, and `cv` is not used.
    directory : str or path-like
        The folder of the results; made if it is missing.
    scoring : str, callable, sequence or dict of these, or None, default=None
        Scorers of scikit-learn, besides the measures of :func:`transferclf.reports.evaluate`. The
        table is sorted by the first; None sorts by accuracy, for several labels by mean average
        precision, and for numbers by R2.
    keep_models : bool, default=False
        Whether to fit each run again, to all of `X`, and save it by
        :func:`transferclf.save_model` as ``model.transferclf`` in the run's folder. With
        `validation_data` the judged model is saved.
    verbose : int, default=0
        1 prints a line for each fold.

    Returns
    -------
    pandas.DataFrame
        One row a run, the best first, those with errors last: "name"; for each measure the mean
        ("mean_accuracy", ...), standard deviation ("std_accuracy", with k - 1 in the denominator)
        and the score of each fold ("split0_accuracy", ...); "seconds" to fit a fold, "epochs" or
        iterations, "n_features" of the head, "n_folds", the mean sizes "n_train" and "n_test", the
        digest of "data" and folds, "error", and the "folder" with the files.

    Raises
    ------
    ImportError
        If pandas is not installed; before any work.
    InvalidParameterError
        If a parameter is not as above, or `save_model` cannot save a model, or an estimator or a
        scorer holds a function of your own, or another object that a later process cannot
        recognize; before any work.
    ImageReadError
        If image files cannot be read; all of them are named.

    Warns
    -----
    TransferclfWarning
        If runs failed: the others went on, and the next call tries failed folds again. If a name
        was run before with other parameters or data: the old results stay in their folder.

    See Also
    --------
    load_experiments : The same table, without running anything.
    compare : Tests the differences between runs.

    Notes
    -----
    Parameters are compared by value, as `transferclf.reports.experiments.values` says; data by the
    contents of images, their order, the labels and the folds. Versions of packages are recorded,
    but not compared.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from transferclf.reports import run_experiments
    >>> X, y = load_iris(return_X_y=True)
    >>> runs = {"bayes": GaussianNB(), "stump": DecisionTreeClassifier(max_depth=1)}
    >>> table = run_experiments(runs, X, y, cv=3, directory=tempfile.mkdtemp())
    >>> list(table["name"])
    ['bayes', 'stump']
    >>> table["mean_accuracy"].round(2).tolist()
    [0.96, 0.66]
    """
    extra("pandas")
    _check_estimators(estimators, keep_models)
    scorers_of(scoring)  # fails before anything is made
    where = _checked_directory(directory)
    kind = kind_of_experiments(estimators.values(), y)
    folds = Folds(X, y, cv, validation_data, kind)
    runs = [Run(name, each, folds, scoring, where) for name, each in estimators.items()]
    for run in runs:
        others = run.folder.siblings()
        if others and not (run.folder.path / RUN).exists():
            warn(
                f"{run.name!r} was run before with {_difference(run, others[0])}. Those results "
                f"stay in {others[0]}, but the table has the new ones"
            )
        run.folder.begin(run.facts)
    # At first, skip folds that another process has locked, so that processes share the work.
    for wait in (False, True):
        for run in runs:
            run.advance(wait=wait, keep_model=keep_models, verbose=verbose)
    errors = {run.name: run.error for run in runs if run.error}
    failed = [f"{name!r} ({type(error).__name__}: {error})" for name, error in errors.items()]
    if failed:
        warn(
            f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}. The tracebacks are in "
            "error.json in their folders; the next call tries them again"
        )
    return _table([(run.folder, run.facts) for run in runs])


def load_experiments(directory: str | os.PathLike[str]) -> DataFrame:
    """Return the table of all runs in a directory, without running anything.

    Parameters
    ----------
    directory : str or path-like
        The directory that was given to :func:`run_experiments`.

    Returns
    -------
    pandas.DataFrame
        As from :func:`run_experiments`, with the latest run of each name. Unfinished runs have no
        means; "error" says how many folds are finished.

    Raises
    ------
    ImportError
        If pandas is not installed.
    FileNotFoundError
        If there is no such directory.
    InvalidParameterError
        If there is no run in it.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from transferclf.reports import load_experiments, run_experiments
    >>> directory = tempfile.mkdtemp()
    >>> X, y = load_iris(return_X_y=True)
    >>> _ = run_experiments({"bayes": GaussianNB()}, X, y, cv=3, directory=directory)
    >>> load_experiments(directory)["name"].tolist()
    ['bayes']
    """
    extra("pandas")
    path = Path(directory)
    if not path.is_dir():
        raise FileNotFoundError(f"expected the directory of some experiments, got {str(path)!r}")
    runs = list(begun_runs(path).values())
    if not runs:
        raise InvalidParameterError(
            f"expected runs below {str(path)!r}, as run_experiments writes them. Got none."
        )
    return _table(runs)


def _check_estimators(estimators: object, keep_models: bool) -> None:
    if not isinstance(estimators, Mapping) or not estimators:
        raise InvalidParameterError(
            "estimators must be a dict from names to estimators, with at least one. "
            f"Got {estimators!r:.200} instead."
        )
    for name, estimator in estimators.items():
        if not isinstance(name, str) or not name.strip():
            raise InvalidParameterError(f"names of runs must be texts. Got {name!r} instead.")
        if isinstance(estimator, type) or not hasattr(estimator, "fit"):
            raise InvalidParameterError(
                f"estimators must be estimators of scikit-learn's kind. Got {estimator!r:.200} "
                f"under the name {name!r} instead."
            )
        if keep_models:
            check_can_be_kept(name, estimator)


def _checked_directory(directory: object) -> Path:
    if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
        raise InvalidParameterError(f"directory must be a path. Got {directory!r} instead.")
    path = Path(os.fsdecode(directory))
    if path.exists() and not path.is_dir():
        raise InvalidParameterError(f"directory must be a folder. Got the file {str(path)!r}.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _difference(run: Run, other: Path) -> str:
    """Return how a run differs from the one in another folder."""
    before = known_facts(other / RUN) or {}
    if before.get("data") != run.facts["data"]:
        return "other data or folds"
    old, new = before.get("parameters"), run.facts["parameters"]
    if not isinstance(old, dict) or old.get("class") != new.get("class"):
        return "another estimator"
    old, new = old.get("parameters", {}), new.get("parameters", {})
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return f"other parameters ({', '.join(names)})" if names else "other scoring"


def _table(runs: Sequence[tuple[RunFolder, Row]]) -> DataFrame:
    rows = [_row(folder, facts) for folder, facts in runs]
    metric = runs[-1][1]["metric"]
    means = {name for row in rows for name in row if name.startswith("mean_")}
    found = {name.removeprefix("mean_") for name in means} - {metric}
    known = dict.fromkeys(itertools.chain.from_iterable(MEASURES.values()))
    ordered = [name for name in known if name in found]
    metrics = [metric, *ordered, *sorted(found - {*ordered})]
    n_folds = max(facts["folds"] for _, facts in runs)
    of_folds = [f"split{number}_{name}" for name in metrics for number in range(n_folds)]
    of_all = [f"{kind}_{name}" for name in metrics for kind in ("mean", "std")]
    # Runs without a mean come last. Equal runs stay in the order in which they were begun.
    rows.sort(key=lambda row: math.inf if (mean := row.get(of_all[0])) is None else -mean)
    return table_of(rows, ["name", *of_all, *_ABOUT, *of_folds])


def _row(folder: RunFolder, facts: Row) -> Row:
    """Return the row of a run; means are None unless all folds have the score."""
    folds = [folder.fold(number) for number in range(facts["folds"])]
    done = [fold for fold in folds if fold is not None]
    failure, error = folder.failure(), ""
    if failure is not None:
        error = f"{failure['error']}: {failure['message']}"
    elif len(done) < len(folds):
        error = f"{len(done)} of {len(folds)} folds are finished"
    row = {"name": folder.name, "n_folds": len(folds), "data": facts["data"], "error": error}
    row |= {"folder": str(folder.path), "seconds": _mean([fold["seconds"]["fit"] for fold in done])}
    for name in ("epochs", "n_features", "n_train", "n_test"):
        row[name] = _mean([fold[name] for fold in done])
    for name in {name for fold in done for name in fold["metrics"]}:
        scores: list[Any] = [fold and fold["metrics"].get(name) for fold in folds]
        row |= {f"split{number}_{name}": score for number, score in enumerate(scores)}
        row[f"mean_{name}"] = mean = _mean(scores)
        varies = mean is not None and len(scores) > 1
        row[f"std_{name}"] = float(np.std(scores, ddof=1)) if varies else None
    return row


def _mean(values: Sequence[Any]) -> float | None:
    """Return the mean, or None where there are no values or one is None."""
    return None if not values or None in values else float(np.mean(values))
