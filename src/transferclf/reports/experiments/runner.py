"""One named run, whose folds are done one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from transferclf._printing import say
from transferclf.estimators.classifier import TransferClassifier
from transferclf.estimators.regressor import TransferRegressor
from transferclf.exceptions import InvalidParameterError
from transferclf.persistence import save_model
from transferclf.persistence.models import versions
from transferclf.persistence.parameters import parameter_facts
from transferclf.reports.evaluation import evaluate
from transferclf.reports.evaluations.base import Measures
from transferclf.reports.evaluations.classes import Evaluation
from transferclf.reports.experiments.folds import SEED, Fold, Folds
from transferclf.reports.experiments.runs import RunFolder
from transferclf.reports.experiments.values import described, digest_of
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS
from transferclf.reports.names import number_text, short_name
from transferclf.reports.predictions import Predictions, predictions_of, unwrapped
from transferclf.reports.tables import Row

Scorer = Callable[[BaseEstimator, object, np.ndarray], float]

# Measures of every fold for each kind of target, by the first of which runs are compared; None if
# an estimator cannot be measured so.
MEASURES = {
    CLASSES: (
        "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "roc_auc", "loss",
        "calibration_error",
    ),
    LABELS: (
        "mean_average_precision", "f1_micro", "f1_macro", "f1_samples", "hamming_loss",
        "subset_accuracy", "roc_auc",
    ),
    NUMBERS: ("r2", "mae", "rmse"),
}  # fmt: skip


class Run:
    """A run: clones of an estimator, fitted to each fold and measured.

    `facts` are written to its folder, and `error` is the exception that ended it.
    """

    def __init__(
        self, name: str, estimator: BaseEstimator, folds: Folds, scoring: object, directory: Path
    ):
        self.name, self.estimator, self.folds = name, estimator, folds
        self.scorers = scorers_of(scoring)
        parameters = described(estimator, f"run {name!r}")
        measured = described(scoring, "scoring")
        self.facts: Row = {
            "parameters": parameters,
            "data": folds.digest,
            "folds": len(folds),
            "metric": next(iter(self.scorers), MEASURES[folds.kind][0]),
            "seed": SEED,
        }
        self.folder = RunFolder(directory, name, digest_of([parameters, measured, folds.digest]))
        self.error: Exception | None = None
        self._done: set[int] = set()

    def advance(self, *, wait: bool, keep_model: bool, verbose: int) -> None:
        """Do the missing folds; skip folds that another process has locked, or wait for them."""
        for number in range(len(self.folds)):
            is_done = partial(self._is_done, number)
            work = partial(self._do, number, keep_model, verbose)
            self._try(f"fold-{number:03}", is_done, work, wait)
        if len(self._done) < len(self.folds):
            return
        if keep_model:
            self._try("model", self.folder.model.exists, self._refit, wait)
        if self.error is None:
            self.folder.keep_failure(None)

    def _is_done(self, number: int) -> bool:
        if number not in self._done and self.folder.fold(number) is not None:
            self._done.add(number)
        return number in self._done

    def _try(
        self, what: str, is_done: Callable[[], bool], work: Callable[[], None], wait: bool
    ) -> None:
        """Do some missing work; an exception ends this run only, Ctrl-C ends all."""
        if self.error is not None or is_done():
            return
        with self.folder.claimed(what, wait) as is_ours:
            if not is_ours or is_done():
                return
            try:
                work()
            except Exception as error:
                self.error = error
                text = "".join(traceback.format_exception(error))
                facts = {"error": type(error).__name__, "message": str(error), "traceback": text}
                self.folder.keep_failure(facts | {"fold": len(self._done)})

    def _do(self, number: int, keep_model: bool, verbose: int) -> None:
        fold = self.folds.fold(number)
        begin = time.perf_counter()
        fitted = clone(self.estimator).fit(fold.X_train, fold.y_train)
        middle = time.perf_counter()
        facts = _measured(fitted, fold, self.folds.kind, self.scorers)
        seconds = {"fit": middle - begin, "predict": time.perf_counter() - middle}
        if keep_model and self.folds.held_out is not None:
            self._save(fitted)  # this model was judged, and fitted to all of X
        sizes = {"n_train": len(fold.y_train), "n_test": len(fold.y_test)}
        self.folder.keep_fold(number, facts | sizes | {"seconds": seconds, "versions": versions()})
        self._done.add(number)
        if verbose:
            metric = self.facts["metric"]
            say(
                f"{short_name(self.name)}: fold {number + 1} of {len(self.folds)}, "
                f"{metric} {number_text(facts['metrics'][metric])} in {sum(seconds.values()):.1f} s"
            )

    def _refit(self) -> None:
        self._save(clone(self.estimator).fit(self.folds.X, self.folds.y))

    def _save(self, fitted: BaseEstimator) -> None:
        save_model(getattr(fitted, "best_estimator_", fitted), self.folder.model)


def check_can_be_kept(name: str, estimator: BaseEstimator) -> None:
    """Raise InvalidParameterError if `save_model` would not save this estimator's model."""
    is_search = isinstance(estimator, GridSearchCV | RandomizedSearchCV)
    inner = estimator.estimator if is_search else estimator
    if type(inner) not in (TransferClassifier, TransferRegressor):
        raise InvalidParameterError(
            "keep_models=True keeps each TransferClassifier or TransferRegressor, or the best one "
            "of a search. "
            f"Got {type(inner).__name__} under the name {name!r}: leave it out, or pickle it."
        )
    parameter_facts(inner)


def scorers_of(scoring: object) -> dict[str, Scorer]:
    """Return scorers by name; an invalid one is an InvalidParameterError."""
    if scoring is None:
        return {}
    if isinstance(scoring, dict):
        return {str(name): _scorer(one) for name, one in scoring.items()}
    several = scoring if isinstance(scoring, list | tuple | set) else [scoring]
    names = [one if isinstance(one, str) else getattr(one, "__name__", "score") for one in several]
    return dict(zip(names, map(_scorer, several), strict=True))


def _scorer(scoring: object) -> Scorer:
    try:
        scorer = get_scorer(scoring) if isinstance(scoring, str) else scoring
    except ValueError as error:
        raise InvalidParameterError(f"scoring: {error}") from None
    if not callable(scorer):
        raise InvalidParameterError(
            "scoring must be None, a name of scikit-learn's, a function of (estimator, X, y), or "
            f"several of these. Got {scoring!r} instead."
        )
    return scorer


def _measured(fitted: BaseEstimator, fold: Fold, kind: str, scorers: Mapping[str, Scorer]) -> Row:
    if kind == CLASSES:
        evaluation: Measures = _of_classes(predictions_of(fitted, fold.X_test), fold.y_test)
    else:
        evaluation = evaluate(fitted, fold.X_test, fold.y_test)
    metrics = {name: evaluation[name] for name in MEASURES[kind]}
    ranked = evaluation.get("top_k", {})
    metrics |= {f"top_{k}": share for k, share in ranked.items() if k > 1}
    metrics |= {
        name: float(score(fitted, fold.X_test, fold.y_test)) for name, score in scorers.items()
    }
    last = unwrapped(fitted)[1]
    mean = getattr(getattr(last, "head_", None), "mean", None)  # of the features of a head
    return {
        "metrics": metrics,
        "evaluation": evaluation.to_dict(),
        "history": getattr(last, "history_", None),
        "epochs": _number(getattr(last, "n_iter_", None)),
        "n_features": _number(getattr(last, "n_features_in_", None)) if mean is None else len(mean),
        "best_params": getattr(fitted, "best_params_", None),
    }


def _of_classes(said: Predictions, y: np.ndarray) -> Evaluation:
    """Evaluate predictions; classes that were not learned get no probability.

    These are classes in the test part alone, and the label of rejected images.
    """
    classes = np.union1d(np.union1d(said.classes, y), said.y_pred)
    columns = np.searchsorted(classes, said.classes)

    def of_all(values: np.ndarray | None, missing: float) -> np.ndarray | None:
        if values is None or len(classes) == len(said.classes):
            return values
        wide = np.full((len(values), len(classes)), missing)
        wide[:, columns] = values
        return wide

    proba = of_all(said.y_proba, 0.0)
    lowest = -np.inf if said.y_score is None else float(said.y_score.min()) - 1
    score = proba if said.y_score is said.y_proba else of_all(said.y_score, lowest)
    return Evaluation.from_predictions(y, said.y_pred, proba, y_score=score, classes=classes)


def _number(value: npt.ArrayLike | None) -> float | None:
    """Return the largest of several numbers, such as the iterations for each class."""
    return None if value is None else np.max(value).item()
