"""run_experiments: run estimators on the same folds, and keep each fold when it ends."""

from __future__ import annotations

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
from transferclf.reports.tables import Row, extra, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

# Of each run, after its scores.
_ABOUT = (
    "seconds", "epochs", "n_features", "n_folds", "n_train", "n_test", "data", "error", "folder",
)  # fmt: skip

_FINISHED = ""


def run_experiments(
    estimators: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    cv: Any = 5,
    validation_data: Any = None,
    directory: str | os.PathLike[str],
    scoring: Any = None,
    keep_models: bool = False,
    verbose: int = 0,
) -> DataFrame:
    """Fit and judge several classifiers on the same folds, and keep every result.

    Each fold is written to a file when it ends. A fold that is there already, of the same
    parameters and data, is not done again: after a crash, or with one estimator more, call it once
    more. Several processes may share a directory, and then the work.

    Parameters
    ----------
    estimators : dict of str to estimator
        Classifiers by the names of their runs; each fold fits a clone.
    X : array-like or sequence of images, n of them
        Whatever the estimators take.
    y : array-like of shape (n,)
        Class labels.
    cv : int, splitter or list of (train, test), default=5
        A number of stratified folds, shuffled with the seed 0; a splitter of scikit-learn that
        draws the same folds each time; or positions.
    validation_data : (X, y) or None, default=None
        Test samples: everything in `X` is then trained on, once, and `cv` is not used.
    directory : str or path-like
        The folder of the results; made where it is missing.
    scoring : str, callable, sequence or dict of these, or None, default=None
        Scorers of scikit-learn, besides the measures of :func:`transferclf.reports.evaluate`. The
        table is sorted by the first; None sorts by accuracy.
    keep_models : bool, default=False
        Whether each run, when its folds are done, is fitted once more to all of `X` and saved by
        :func:`transferclf.save_model`, as ``model.transferclf`` in the run's folder. With
        `validation_data` that is the model that was judged.
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
        If a parameter is none of the above, or models are to be kept that `save_model` does not
        save, or an estimator or a scorer holds a function of your own, or anything else that a
        later process could not know again; before any work.
    ImageReadError
        If image files cannot be read; all of them are named.

    Warns
    -----
    TransferclfWarning
        If runs failed: the others went on, and a failed fold is tried again by the next call. If a
        name was run before with other parameters or data: its old results stay in their folder.

    See Also
    --------
    load_experiments : The same table, without running anything.
    compare : Tests the differences between runs.

    Notes
    -----
    Parameters are compared by value, as `transferclf.reports.experiments.values` says; data by the
    contents of images, their order, the labels and the folds. Versions of packages are written
    down, but do not make a run another one.

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
    folds = Folds(X, y, cv, validation_data)
    runs = [Run(name, each, folds, scoring, where) for name, each in estimators.items()]
    for run in runs:
        _warn_of_others(run)
        run.folder.begin(run.facts)
    # What another process is at is passed over first, so that processes share the work.
    for wait in (False, True):
        for run in runs:
            run.advance(wait=wait, keep_model=keep_models, verbose=verbose)
    _warn_of_failures(runs)
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
        As from :func:`run_experiments`, with the latest run of each name. Runs that are not
        finished have no means, and say under "error" how far they are.

    Raises
    ------
    FileNotFoundError
        If there is no such directory.
    InvalidParameterError
        If there are no runs in it.

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


def _check_estimators(estimators: Any, keep_models: bool) -> None:
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
                f"estimators must be classifiers of scikit-learn's kind. Got {estimator!r:.200} "
                f"under the name {name!r} instead."
            )
        if keep_models:
            check_can_be_kept(name, estimator)


def _checked_directory(directory: Any) -> Path:
    if not isinstance(directory, str | os.PathLike) or not os.fspath(directory):
        raise InvalidParameterError(f"directory must be a path. Got {directory!r} instead.")
    path = Path(os.fsdecode(directory))
    if path.exists() and not path.is_dir():
        raise InvalidParameterError(f"directory must be a folder. Got the file {str(path)!r}.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _warn_of_others(run: Run) -> None:
    """Warn if the name was that of another run before."""
    others = run.folder.siblings()
    if others and not (run.folder.path / RUN).exists():
        warn(
            f"{run.name!r} was run before with {_difference(run, others[0])}. Those results stay "
            f"in {others[0]}, but the table has the new ones"
        )


def _difference(run: Run, other: Path) -> str:
    before = known_facts(other / RUN) or {}
    if before.get("data") != run.facts["data"]:
        return "other data or folds"
    old, new = before.get("parameters"), run.facts["parameters"]
    if not isinstance(old, dict) or old.get("class") != new.get("class"):
        return "another estimator"
    old, new = old.get("parameters", {}), new.get("parameters", {})
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    return f"other parameters ({', '.join(names)})" if names else "other scoring"


def _warn_of_failures(runs: Sequence[Run]) -> None:
    failed = [
        f"{run.name!r} ({type(run.error).__name__}: {run.error})" for run in runs if run.error
    ]
    if failed:
        warn(
            f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}. The tracebacks are in "
            "error.json in their folders; the next call tries them again"
        )


def _table(runs: Sequence[tuple[RunFolder, dict[str, Any]]]) -> DataFrame:
    rows = [_row(folder, facts) for folder, facts in runs]
    metric = runs[-1][1]["metric"]
    n_folds = max(facts["folds"] for _, facts in runs)
    found = {name for row in rows for name in row["splits"]}
    measured = [*MEASURES, *sorted(found - {*MEASURES, metric})]
    metrics = [metric, *(name for name in measured if name in found and name != metric)]
    columns = ["name"]
    for name in metrics:
        columns += [f"mean_{name}", f"std_{name}"]
    columns += _ABOUT
    columns += [f"split{number}_{name}" for name in metrics for number in range(n_folds)]
    flat = [_flat(row, metrics) for row in rows]
    # Runs without a mean come last; of equal ones the first begun comes first.
    flat.sort(key=lambda row: math.inf if (mean := row[f"mean_{metric}"]) is None else -mean)
    return table_of(flat, columns)


def _row(folder: RunFolder, facts: dict[str, Any]) -> Row:
    folds = [folder.fold(number) for number in range(facts["folds"])]
    done = [fold for fold in folds if fold is not None]
    names = {name for fold in done for name in fold["metrics"]}
    return {
        "name": folder.name,
        "splits": {name: [fold and fold["metrics"].get(name) for fold in folds] for name in names},
        "seconds": _mean([fold["seconds"]["fit"] for fold in done]),
        "epochs": _mean([fold["epochs"] for fold in done]),
        "n_features": _mean([fold["n_features"] for fold in done]),
        "n_folds": facts["folds"],
        "n_train": _mean([fold["n_train"] for fold in done]),
        "n_test": _mean([fold["n_test"] for fold in done]),
        "data": facts["data"],
        "error": _problem(folder, len(done), len(folds)),
        "folder": str(folder.path),
    }


def _problem(folder: RunFolder, done: int, total: int) -> str:
    failure = folder.failure()
    if failure is not None:
        return f"{failure['error']}: {failure['message']}"
    return _FINISHED if done == total else f"{done} of {total} folds are finished"


def _flat(row: Row, metrics: Sequence[str]) -> Row:
    flat = {name: value for name, value in row.items() if name != "splits"}
    for name in metrics:
        scores = row["splits"].get(name, [None] * row["n_folds"])
        flat |= {f"split{number}_{name}": score for number, score in enumerate(scores)}
        is_whole = None not in scores
        flat[f"mean_{name}"] = _mean(scores) if is_whole else None
        flat[f"std_{name}"] = float(np.std(scores, ddof=1)) if is_whole and scores[1:] else None
    return flat


def _mean(values: Sequence[Any]) -> float | None:
    """Return the mean, or None where there are no values or one is None."""
    return None if not values or None in values else float(np.mean(values))
