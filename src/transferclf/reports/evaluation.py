"""evaluate: measure a classifier by scikit-learn's measures, in one pass over the images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.utils import Bunch

from transferclf._checks import is_number
from transferclf._printing import printable
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.objectives.labels import look_alike_remark
from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.measures import of_labels, of_probabilities, of_scores, per_class
from transferclf.reports.names import count_text, jsonable, number_text, short_name
from transferclf.reports.predictions import (
    Predictions,
    checked_probabilities,
    classes_of,
    few_of_each_class,
    label_indices,
    n_samples_of,
    predictions_of,
)
from transferclf.reports.tables import Row
from transferclf.reports.unknowns import UnknownEvaluation, evaluate_unknowns, is_rejector

N_CONFUSED = 5  # pairs of confused classes that are printed

# Values for each sample, left out of `to_dict` unless they are asked for.
PER_SAMPLE = ("y_true", "y_pred", "y_proba")


def evaluate(
    estimator: object,
    X: object,
    y: npt.ArrayLike,
    *,
    top_k: int | Sequence[int] = (1, 3, 5),
    sample_weight: npt.ArrayLike | None = None,
) -> Evaluation | UnknownEvaluation:
    """Measure how good a classifier is, by scikit-learn's own measures.

    A TransferClassifier, also in a pipeline or a search, looks at the images once.

    Parameters
    ----------
    estimator : estimator
        Any fitted classifier. Without `predict_proba` there is no loss and no calibration error,
        and `decision_function` ranks the classes for ROC AUC and top-k accuracy.
    X : array-like or sequence of images, n of them
        Whatever the estimator takes.
    y : array-like of shape (n,)
        The true labels; some classes may be missing.
    top_k : int or sequence of int, default=(1, 3, 5)
        For each k below the number of classes, count the images whose true class is among the k
        best.
    sample_weight : array-like of shape (n,) or None, default=None
        Weight of each image.

    Returns
    -------
    Evaluation
        The measures by name; `print` shows them as text. For an UnknownRejector, it is what
        :func:`evaluate_unknowns` returns.

    Raises
    ------
    InvalidParameterError
        If `estimator` is no classifier, or a `top_k` is no whole number of at least 1.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    ValueError
        If y has not one known label per image, or probabilities do not sum up to one.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from transferclf.reports import evaluate
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = LogisticRegression(max_iter=500).fit(X[::2], y[::2])
    >>> evaluation = evaluate(classifier, X[1::2], y[1::2])
    >>> round(evaluation.accuracy, 2)
    0.96
    >>> evaluation.confusion_matrix
    array([[25,  0,  0],
           [ 0, 24,  1],
           [ 0,  2, 23]])
    """
    counts = _checked_top_k(top_k)
    if is_rejector(estimator):
        return evaluate_unknowns(estimator, X, y, sample_weight=sample_weight)
    n_samples = n_samples_of(X)
    # Wrong labels are found before the images are looked at.
    label_indices(y, n_samples, classes_of(estimator))
    check_sample_weight(sample_weight, n_samples)
    said = predictions_of(estimator, X)
    return _evaluation(y, said, counts, sample_weight)


class Evaluation(Bunch):
    """The measures of a classifier, as attributes and by name; made by :func:`evaluate`.

    Attributes
    ----------
    n_samples : int
        Number of images.
    classes : ndarray of shape (n_classes,)
        All classes, in the order of all tables.
    loss : float or None
        Mean cross-entropy in nats, probabilities clipped as scikit-learn's `log_loss` does; None
        where there are no probabilities.
    accuracy : float
        Share of right predictions.
    top_k : dict of int to float
        Share of the images whose true class is among the k best; empty without scores.
    balanced_accuracy : float
        Mean of the recalls of the classes in y.
    f1_macro, f1_weighted : float
        Means of the F1 scores of all true or predicted classes: plain, and weighted by support.
    roc_auc : float or None
        Mean, over the classes in y, of the area under the curve of one against the rest; None if
        these are fewer than two or there are no scores.
    per_class : dict of str to ndarray of shape (n_classes,)
        "class", "precision", "recall", "f1" and "support", which is the number of images (with
        weights, their sum). Undefined values, such as the recall of a class not in y, are NaN.
    confusion_matrix : ndarray of shape (n_classes, n_classes)
        Number (or weight) of images of each true class (row) by predicted class (column).
    calibration_error : float or None
        Mean distance between confidence and accuracy over 15 bins of equal width, weighted by the
        images in each; 0 is best, 1 is worst.
    confused : list of dict
        The wrong pairs, the most frequent first: "true", "predicted", "count", and "share" of the
        images of the true class.
    y_true, y_pred : ndarray of shape (n_samples,)
        Labels.
    y_proba : ndarray of shape (n_samples, n_classes) or None
        Probabilities.

    Notes
    -----
    The calibration error is that of Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern
    Neural Networks", ICML 2017.

    Examples
    --------
    >>> from transferclf.reports import Evaluation
    >>> proba = [[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]
    >>> evaluation = Evaluation.from_predictions(["cat", "dog", "dog"], y_proba=proba)
    >>> evaluation.confused
    [{'true': 'dog', 'predicted': 'cat', 'count': 1, 'share': 0.5}]
    """

    @classmethod
    def from_predictions(
        cls,
        y_true: npt.ArrayLike,
        y_pred: npt.ArrayLike | None = None,
        y_proba: npt.ArrayLike | None = None,
        *,
        y_score: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
        top_k: int | Sequence[int] = (1, 3, 5),
        sample_weight: npt.ArrayLike | None = None,
    ) -> Evaluation:
        """Measure predictions that were made before.

        Parameters
        ----------
        y_true : array-like of shape (n,)
            The true labels.
        y_pred : array-like of shape (n,) or None, default=None
            The predicted labels; None takes the most probable classes.
        y_proba : array-like of shape (n, n_classes) or None, default=None
            Probabilities; for two classes also those of the second, of shape (n,).
        y_score : array-like of shape (n, n_classes) or None, default=None
            Scores that rank the classes; None takes the probabilities.
        classes : array-like of shape (n_classes,) or None, default=None
            The classes of the columns; None takes all labels that there are, sorted.
        top_k, sample_weight
            As for :func:`evaluate`.

        Returns
        -------
        Evaluation
            The measures by name, as :func:`evaluate` returns them.

        Raises
        ------
        InvalidParameterError
            If there are neither predictions nor probabilities, `top_k` is not of whole numbers, or
            `classes` are not different labels.
        ValueError
            If lengths, labels or probabilities do not fit.

        Warns
        -----
        TransferclfWarning
            If `classes` is None, and labels that are never predicted look like one that is.
        """
        counts = _checked_top_k(top_k)
        if y_pred is None and y_proba is None:
            raise InvalidParameterError("Expected y_pred, y_proba or both. Got neither.")
        known = _known_classes(y_true, y_pred, classes)
        probabilities = None if y_proba is None else checked_probabilities(y_proba, len(known))
        if y_pred is None and probabilities is not None:
            y_pred = known[probabilities.argmax(axis=1)]
        scores = probabilities if y_score is None else _checked_scores(y_score, len(known))
        said = Predictions(known, np.asarray(y_pred), probabilities, scores)
        return _evaluation(y_true, said, counts, sample_weight)

    def to_dict(self, *, per_sample: bool = False) -> dict[str, object]:
        """Return the measures as plain lists, dicts and numbers, as JSON has them.

        Parameters
        ----------
        per_sample : bool, default=False
            Whether to include `y_true`, `y_pred` and `y_proba`.

        Returns
        -------
        dict of str to object
            Keys are strings, also those of `top_k`, and undefined values are None.
        """
        left_out = () if per_sample else PER_SAMPLE
        return {name: jsonable(value) for name, value in self.items() if name not in left_out}

    def __str__(self) -> str:
        parts = [_head_text(self), _table_text(self), _pairs_text(self)]
        return printable("\n\n".join(filter(None, parts)))

    def __repr__(self) -> str:
        return f"<Evaluation of {self.n_samples:,} samples, accuracy {self.accuracy:.3f}>"


@few_of_each_class()
def _evaluation(
    y: npt.ArrayLike, said: Predictions, top_k: list[int], sample_weight: npt.ArrayLike | None
) -> Evaluation:
    classes, n_samples = said.classes, len(said.y_pred)
    true = label_indices(y, n_samples, classes)
    predicted = label_indices(said.y_pred, n_samples, classes)
    weights = None if sample_weight is None else check_sample_weight(sample_weight, n_samples)
    for what, values in (("Scores", said.y_score), ("Probabilities", said.y_proba)):
        if values is not None and len(values) != n_samples:
            raise ValueError(
                f"{what} must have one row per label. "
                f"Got {len(values)} rows and {n_samples} labels."
            )
    # With one more label than there is, scikit-learn does not warn where there is only one.
    matrix = metrics.confusion_matrix(
        true, predicted, labels=np.arange(len(classes) + 1), sample_weight=weights
    )[:-1, :-1]
    return Evaluation(
        n_samples=n_samples,
        classes=classes,
        **of_labels(true, predicted, weights),
        **of_scores(true, said.y_score, top_k, weights),
        **of_probabilities(true, said.y_proba, weights),
        per_class=per_class(true, predicted, classes, weights),
        confusion_matrix=matrix,
        confused=_confused(matrix, classes.tolist()),
        y_true=classes[true],
        y_pred=classes[predicted],
        y_proba=said.y_proba,
    )


def _confused(matrix: np.ndarray, labels: list[object]) -> list[Row]:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [
        {
            "true": labels[row],
            "predicted": labels[column],
            "count": wrong[row, column].item(),
            "share": float(wrong[row, column] / matrix[row].sum()),
        }
        for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)
    ]


def _known_classes(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike | None, classes: npt.ArrayLike | None
) -> np.ndarray:
    if classes is None:
        labels = [np.asarray(y) for y in (y_true, y_pred) if y is not None]
        try:
            known = np.unique(np.concatenate(labels))
        except TypeError:
            raise ValueError("Labels must be of one type, and none may be missing.") from None
        if y_pred is not None and (remark := look_alike_remark(y_true, labels[1])):
            warn(remark)
        return known
    known = np.asarray(classes)
    if known.ndim != 1 or len(np.unique(known)) < len(known) or len(known) == 0:
        raise InvalidParameterError(
            f"classes must be a list of different labels. Got {classes!r} instead."
        )
    return known


def _checked_scores(y_score: npt.ArrayLike, n_classes: int) -> np.ndarray:
    scores = np.asarray(y_score, dtype=float)
    has_nan = np.isnan(scores).any()
    if scores.ndim != 2 or scores.shape[1] != n_classes or has_nan:
        raise ValueError(
            f"Scores must be numbers of shape (n, {n_classes}), one column for each class. "
            f"Got shape {scores.shape}{', with NaN' if has_nan else ''} instead."
        )
    return scores


def _checked_top_k(top_k: int | Sequence[int]) -> list[int]:
    is_several = isinstance(top_k, Iterable) and not isinstance(top_k, str)
    counts: list[Any] = [*top_k] if is_several else [top_k]  # type: ignore[misc]
    if not all(is_number(k, whole=True) and k >= 1 for k in counts):
        raise InvalidParameterError(
            f"top_k must be whole numbers of at least 1, such as (1, 3, 5). Got {top_k!r}."
        )
    return sorted({int(k) for k in counts})


def _head_text(evaluation: Evaluation) -> str:
    """Return the measures of all images together."""
    size = count_text(evaluation.n_samples, "sample")
    n_classes = count_text(len(evaluation.classes), "class", "classes")
    ranked = {f"top-{k}": share for k, share in evaluation.top_k.items() if k > 1}
    lines = [
        {"accuracy": evaluation.accuracy} | ranked | {"balanced": evaluation.balanced_accuracy},
        {"F1 macro": evaluation.f1_macro, "weighted": evaluation.f1_weighted},
        {
            "loss": evaluation.loss,
            "ROC AUC": evaluation.roc_auc,
            "calibration error": evaluation.calibration_error,
        },
    ]
    texts = [
        "   ".join(f"{name} {number_text(value)}" for name, value in line.items()) for line in lines
    ]
    return "\n".join([f"{size}, {n_classes}", *texts])


def _table_text(evaluation: Evaluation) -> str:
    """Return the measures of each class."""
    names, *columns = evaluation.per_class.values()
    labels = [short_name(name) for name in names.tolist()]
    width = max(map(len, [*labels, "class"]))
    lines = [f"{'class':<{width}}  precision  recall     F1  support"]
    for label, precision, recall, f1, support in zip(labels, *columns, strict=True):
        values = f"{number_text(precision):>9}  {number_text(recall):>6}  {number_text(f1):>5}"
        lines.append(f"{label:<{width}}  {values}  {support:>7,.6g}")
    return "\n".join(lines)


def _pairs_text(evaluation: Evaluation) -> str:
    """Return the pairs of classes that are confused most often."""
    lines = [
        f"  {short_name(pair['true'])} taken for {short_name(pair['predicted'])}: "
        f"{pair['count']:,.6g} ({pair['share']:.0%})"
        for pair in evaluation.confused[:N_CONFUSED]
    ]
    return "\n".join(["most confused", *lines]) if lines else ""
