"""One named run, whose folds are done one after the other."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from transferclf._printing import say
from transferclf.estimators.classifier import TransferClassifier
from transferclf.exceptions import InvalidParameterError
from transferclf.persistence import save_model
from transferclf.persistence.models import versions
from transferclf.persistence.parameters import parameter_facts
from transferclf.reports.evaluation import Evaluation
from transferclf.reports.experiments.folds import SEED, Fold, Folds
from transferclf.reports.experiments.runs import RunFolder
from transferclf.reports.experiments.values import described, digest_of
from transferclf.reports.names import jsonable, short_name
from transferclf.reports.predictions import Predictions, predictions_of, unwrapped

Scorer = Callable[[Any, Any, Any], float]

# Measures of every fold; None where a classifier has no numbers for one.
MEASURES = (
    "accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "roc_auc", "loss",
    "calibration_error",
)  # fmt: skip


class Run:
    """A run: clones of an estimator, fitted to each fold and measured.

    `facts` are written to its folder, and `error` is the exception that ended it.
    """

    def __init__(
        self,
        name: str,
        estimator: Any,
        folds: Folds,
        scoring: Any,
        directory: Path,
    ):
        self.name, self.estimator, self.folds = name, estimator, folds
        self.scorers = scorers_of(scoring)
        parameters = described(estimator, f"run {name!r}")
        measured = described(scoring, "scoring")
        self.facts: dict[str, Any] = {
            "parameters": parameters,
            "data": folds.digest,
            "folds": len(folds),
            "metric": next(iter(self.scorers), "accuracy"),
            "seed": SEED,
        }
        self.folder = RunFolder(directory, name, digest_of([parameters, measured, folds.digest]))
        self.error: Exception | None = None
        self._done: set[int] = set()

    def advance(self, *, wait: bool, keep_model: bool, verbose: int) -> None:
        """Do the missing folds; skip folds that another process has locked, or wait for them."""
        for number in range(len(self.folds)):
            if self.error is None and not self._is_done(number):
                with self.folder.claimed(f"fold-{number:03}", wait) as is_ours:
                    if is_ours and not self._is_done(number):
                        self._try(partial(self._do, number, keep_model, verbose))
        is_whole = len(self._done) == len(self.folds)
        if keep_model and is_whole and self.error is None and not self.folder.model.exists():
            with self.folder.claimed("model", wait) as is_ours:
                if is_ours and not self.folder.model.exists():
                    self._try(self._refit)
        if is_whole and self.error is None:
            self.folder.keep_failure(None)

    def _is_done(self, number: int) -> bool:
        if number not in self._done and self.folder.fold(number) is not None:
            self._done.add(number)
        return number in self._done

    def _try(self, work: Callable[[], None]) -> None:
        """Do some work; an exception ends this run only, Ctrl-C ends all."""
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
        facts = _measured(fitted, fold, self.scorers)
        seconds = {"fit": middle - begin, "predict": time.perf_counter() - middle}
        if keep_model and self.folds.held_out is not None:
            self._save(fitted)  # this model was judged, and fitted to all of X
        n_train, n_test = self.folds.sizes(number)
        sizes = {"n_train": n_train, "n_test": n_test}
        self.folder.keep_fold(number, facts | sizes | {"seconds": seconds, "versions": versions()})
        self._done.add(number)
        if verbose:
            metric = self.facts["metric"]
            say(
                f"{short_name(self.name)}: fold {number + 1} of {len(self.folds)}, "
                f"{metric} {facts['metrics'][metric]:.3f} in {sum(seconds.values()):.1f} s"
            )

    def _refit(self) -> None:
        self._save(clone(self.estimator).fit(self.folds.X, self.folds.y))

    def _save(self, fitted: Any) -> None:
        save_model(getattr(fitted, "best_estimator_", fitted), self.folder.model)


def check_can_be_kept(name: str, estimator: Any) -> None:
    """Raise InvalidParameterError if `save_model` would not save this estimator's model."""
    is_search = isinstance(estimator, GridSearchCV | RandomizedSearchCV)
    inner = estimator.estimator if is_search else estimator
    if type(inner) is not TransferClassifier:
        raise InvalidParameterError(
            "keep_models=True keeps each TransferClassifier, or the best one of a search. "
            f"Got {type(inner).__name__} under the name {name!r}: leave it out, or pickle it."
        )
    parameter_facts(inner)


def scorers_of(scoring: Any) -> dict[str, Scorer]:
    """Return scorers by name; anything that scikit-learn does not take is an error."""
    if scoring is None:
        return {}
    if isinstance(scoring, dict):
        return {str(name): _scorer(one) for name, one in scoring.items()}
    several = scoring if isinstance(scoring, list | tuple | set) else [scoring]
    return {_name_of(one): _scorer(one) for one in several}


def _name_of(scoring: Any) -> str:
    return scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")


def _scorer(scoring: Any) -> Scorer:
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


def _measured(fitted: Any, fold: Fold, scorers: Mapping[str, Scorer]) -> dict[str, Any]:
    evaluation = _evaluation(predictions_of(fitted, fold.X_test), fold.y_test)
    metrics = {name: evaluation[name] for name in MEASURES}
    metrics |= {f"top_{k}": share for k, share in evaluation.top_k.items() if k > 1}
    metrics |= {
        name: float(score(fitted, fold.X_test, fold.y_test)) for name, score in scorers.items()
    }
    last = unwrapped(fitted)[1]
    return {
        "metrics": jsonable(metrics),
        "evaluation": evaluation.to_dict(),
        "history": getattr(last, "history_", None),
        "epochs": _number(getattr(last, "n_iter_", None)),
        "n_features": _n_features(last),
        "best_params": getattr(fitted, "best_params_", None),
    }


def _evaluation(said: Predictions, y: np.ndarray) -> Evaluation:
    """Evaluate predictions; a class that is only in the test part gets no probability."""
    classes = np.union1d(said.classes, y)
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


def _n_features(estimator: Any) -> int | None:
    """Return the number of features of the head, or the columns of other estimators."""
    head = getattr(estimator, "head_", None)
    mean = getattr(head, "mean", None)
    return len(mean) if mean is not None else _number(getattr(estimator, "n_features_in_", None))


def _number(value: Any) -> Any:
    return None if value is None else np.max(value).item()
