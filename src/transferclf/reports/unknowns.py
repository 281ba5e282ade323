"""evaluate_unknowns: measure how well a rejector tells unknown images from known ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.utils import Bunch, column_or_1d
from sklearn.utils.validation import check_is_fitted

from transferclf._printing import printable
from transferclf.estimators.unknown import UnknownRejector, judged
from transferclf.estimators.wrapped import n_samples_of, through, unwrapped
from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.names import jsonable, number_text

# Share of the known images that are kept where the false positive rate is read off.
TRUE_POSITIVE_RATE = 0.95

PER_SAMPLE = ("y_true", "y_pred", "y_score", "is_known")


def evaluate_unknowns(
    estimator: BaseEstimator,
    X: object,
    y: npt.ArrayLike,
    *,
    sample_weight: npt.ArrayLike | None = None,
) -> UnknownEvaluation:
    """Measure how well a rejector tells images of unknown kinds from those of its classes.

    The images go through the network once.

    Parameters
    ----------
    estimator : UnknownRejector
        A fitted one; also in a pipeline or a search.
    X : array-like or sequence of images, n of them
        Images of the known classes that `fit` did not see, and images of other kinds.
    y : array-like of shape (n,)
        The true labels. Any label that is none of the classes means an unknown image:
        `unknown_label_`, or the name of what it shows.
    sample_weight : array-like of shape (n,) or None, default=None
        Weight of each image.

    Returns
    -------
    UnknownEvaluation
        The measures by name; `print` shows them as text.

    Raises
    ------
    InvalidParameterError
        If `estimator` is no UnknownRejector.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one label for each image.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from transferclf import TransferClassifier, UnknownRejector
    >>> from transferclf.reports import evaluate_unknowns
    >>> images, labels = load_digits(return_X_y=True)
    >>> known = np.flatnonzero(labels < 5)[:200]
    >>> classifier = TransferClassifier(image_size=32, image_shape=(8, 8), pixel_range=(0, 16))
    >>> rejector = UnknownRejector(classifier, random_state=0).fit(images[known], labels[known])
    >>> evaluation = evaluate_unknowns(rejector, images[900:1300], labels[900:1300])
    >>> evaluation.auroc > 0.9
    True
    """
    rejector, steps = rejector_in(estimator)
    n_samples, labels = n_samples_of(X), column_or_1d(y)
    if len(labels) != n_samples:
        raise ValueError(f"Expected one label per image. Got {len(labels)} for {n_samples} images.")
    check_sample_weight(sample_weight, n_samples)
    y_pred, y_score = judged(rejector, through(steps, X))
    return UnknownEvaluation.from_predictions(
        labels,
        y_pred,
        y_score,
        classes=rejector.classes_,
        unknown_label=rejector.unknown_label_,
        sample_weight=sample_weight,
    )


class UnknownEvaluation(Bunch):
    """The measures of a rejector, as attributes and by name; made by :func:`evaluate_unknowns`.

    Attributes
    ----------
    n_known, n_unknown : int
        Numbers of images of the known classes, and of others.
    auroc : float or None
        Area under the ROC curve: probability that a known image has a higher score than an unknown
        one. It does not depend on the threshold. None if images of one sort are missing.
    fpr95 : float or None
        Share of the unknown images that would be kept at the threshold that keeps 95 % of the known
        images. None if images of one sort are missing.
    coverage : float or None
        Share of the known images that are kept; to be compared with `coverage` of the rejector.
    rejected : float or None
        Share of the unknown images that are rejected.
    accuracy_known : float or None
        Share of the known images with the right prediction; rejected ones are wrong.
    accuracy_kept : float or None
        Share of right predictions among the known images that are kept.
    accuracy : float
        Share of right predictions among all images. Rejecting an unknown image is right.
    y_true, y_pred : ndarray of shape (n,)
        Labels.
    y_score : ndarray of shape (n,)
        Scores; higher is more normal.
    is_known : ndarray of bool, shape (n,)
        Which of the true labels are known classes.

    Examples
    --------
    >>> from transferclf.reports import UnknownEvaluation
    >>> evaluation = UnknownEvaluation.from_predictions(
    ...     ["cat", "dog", "sofa", "lamp"], ["cat", "unknown", "unknown", "unknown"],
    ...     [4.0, 1.0, 2.0, 0.0], classes=["cat", "dog"], unknown_label="unknown",
    ... )
    >>> evaluation.auroc, evaluation.coverage, evaluation.rejected
    (0.75, 0.5, 1.0)
    """

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike,
        y_score: npt.ArrayLike,
        *,
        classes: npt.ArrayLike,
        unknown_label: object,
        sample_weight: npt.ArrayLike | None = None,
    ) -> UnknownEvaluation:
        """Measure predictions that were made before.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            The true labels; those not among `classes` mean unknown images.
        y_pred : array-like of shape (n,)
            The predicted labels, with `unknown_label` for rejected images.
        y_score : array-like of shape (n,)
            Scores, higher for known images.
        classes : array-like of shape (n_classes,)
            The known classes.
        unknown_label : str or int
            The prediction for rejected images.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image.

        Returns
        -------
        UnknownEvaluation
            The measures by name.

        Raises
        ------
        InvalidParameterError
            If the lengths differ or there are no images.
        """
        true, predicted, score = (column_or_1d(values) for values in (y_true, y_pred, y_score))
        if not len(true) == len(predicted) == len(score) > 0:
            raise InvalidParameterError(
                "y_true, y_pred and y_score must have one value for each image. "
                f"Got {len(true)}, {len(predicted)} and {len(score)}."
            )
        weights = check_sample_weight(sample_weight, len(true))
        known = set(column_or_1d(classes).tolist())
        is_known = np.array([label in known for label in true.tolist()])
        is_kept = np.array([label != unknown_label for label in predicted.tolist()])
        pairs = zip(true.tolist(), predicted.tolist(), strict=True)
        is_right = np.where(is_known, [one == other for one, other in pairs], ~is_kept)

        def share(flags: np.ndarray, among: np.ndarray) -> float | None:
            total = weights[among].sum()
            return float(weights[among & flags].sum() / total) if total else None

        return cls(
            n_known=int(is_known.sum()),
            n_unknown=int((~is_known).sum()),
            **_ranking(is_known, score, weights),
            coverage=share(is_kept, is_known),
            rejected=share(~is_kept, ~is_known),
            accuracy_known=share(is_right, is_known),
            accuracy_kept=share(is_right, is_known & is_kept),
            accuracy=share(is_right, np.ones_like(is_known)),
            y_true=true,
            y_pred=predicted,
            y_score=score,
            is_known=is_known,
        )

    def to_dict(self, *, per_sample: bool = False) -> dict[str, Any]:
        """Return the measures in types that JSON has.

        Parameters
        ----------
        per_sample : bool, default=False
            Whether `y_true`, `y_pred`, `y_score` and `is_known` are among them.

        Returns
        -------
        dict
            For `json.dump` as it is.
        """
        names = [name for name in self if per_sample or name not in PER_SAMPLE]
        return {name: jsonable(self[name]) for name in names}

    def __str__(self) -> str:
        return printable("\n".join(self._lines()))

    def __repr__(self) -> str:
        return (
            f"<UnknownEvaluation of {self.n_known:,} known and {self.n_unknown:,} unknown images>"
        )

    def _lines(self) -> Iterable[str]:
        yield f"{self.n_known:,} known images, {self.n_unknown:,} unknown ones"
        for name, text in _TEXTS.items():
            if self[name] is not None:
                yield f"{text:<34}{number_text(self[name])}"


_TEXTS = {
    "auroc": "area under the ROC curve",
    "fpr95": "unknown kept where 95 % known are",
    "coverage": "known images kept",
    "rejected": "unknown images rejected",
    "accuracy_kept": "accuracy on known images kept",
    "accuracy": "accuracy on all images",
}


def is_rejector(estimator: BaseEstimator) -> bool:
    """Return whether it is an UnknownRejector, or a pipeline or search that ends in one."""
    return isinstance(unwrapped(estimator)[1], UnknownRejector)


def check_is_no_rejector(estimator: BaseEstimator, report: str) -> None:
    """Raise InvalidParameterError if a report about classifiers gets a rejector."""
    if is_rejector(estimator):
        raise InvalidParameterError(
            f"{report} is about a classifier: pass that of the rejector, rejector.estimator_, and "
            "images of its classes. evaluate_unknowns and UnknownDisplay show what it rejects."
        )


def rejector_in(estimator: BaseEstimator) -> tuple[UnknownRejector, list[Any]]:
    """Return the fitted UnknownRejector in an estimator, and the steps that transform X before."""
    steps, last = unwrapped(estimator)
    if not isinstance(last, UnknownRejector):
        raise InvalidParameterError(
            "estimator must be an UnknownRejector, or a pipeline or search that ends in one. "
            f"Got {type(estimator).__name__} instead."
        )
    check_is_fitted(last)
    return last, steps


def _ranking(
    is_known: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> dict[str, float | None]:
    """Return the measures that do not depend on the threshold."""
    if not weights[is_known].any() or not weights[~is_known].any():
        return {"auroc": None, "fpr95": None}
    rates, true_rates, _ = roc_curve(
        is_known, score, sample_weight=weights, drop_intermediate=False
    )
    return {
        "auroc": float(roc_auc_score(is_known, score, sample_weight=weights)),
        "fpr95": float(rates[np.searchsorted(true_rates, TRUE_POSITIVE_RATE)]),
    }
