"""MultilabelEvaluation: the measures of a classifier of several labels for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.weights import check_sample_weight
from transferclf.reports.evaluations.base import Measures
from transferclf.reports.evaluations.classes import Evaluation
from transferclf.reports.indicators import (
    THRESHOLD,
    LabelPredictions,
    checked_shares,
    indicators_of,
    label_names,
    place_of,
)
from transferclf.reports.names import count_text, number_text, short_name


class MultilabelEvaluation(Measures):
    """The measures of a classifier of several labels; made by :func:`evaluate`.

    Attributes
    ----------
    n_samples : int
        Number of images.
    classes : ndarray of shape (n_labels,)
        The names of the labels, in the order of all columns.
    mean_average_precision : float or None
        Mean, over the labels with positive images, of the area under the curve of precision by
        recall, as `average_precision_score` computes it; None without scores or positives.
    roc_auc : float or None
        Mean, over the labels with positive and negative images, of the area under the ROC curve;
        None without scores or such labels.
    f1_micro : float
        F1 of all pairs of image and label together.
    f1_macro : float
        Mean of the F1 scores of all true or predicted labels.
    f1_samples : float
        Mean of the F1 scores of the images; 0 for an image without any true or predicted label, as
        scikit-learn counts it.
    hamming_loss : float
        Share of the pairs of image and label that are wrong.
    subset_accuracy : float
        Share of the images of which all labels are right.
    per_label : dict of str to ndarray of shape (n_labels,)
        "label", "precision", "recall", "f1", "average_precision", and "support", which is the
        number of positive images (with weights, their sum). Undefined values, such as the recall
        of a label without positive images, are NaN.
    y_true, y_pred : ndarray of int, shape (n_samples, n_labels)
        Indicators.
    y_proba : ndarray of shape (n_samples, n_labels) or None
        Probabilities.

    Examples
    --------
    >>> from transferclf.reports import MultilabelEvaluation
    >>> y_true = [{"sea", "sun"}, {"sun"}, set(), {"sea"}]
    >>> y_proba = [[0.9, 0.7], [0.2, 0.4], [0.3, 0.1], [0.6, 0.2]]
    >>> evaluation = MultilabelEvaluation.from_predictions(y_true, y_proba=y_proba)
    >>> evaluation.classes.tolist(), evaluation.mean_average_precision
    (['sea', 'sun'], 1.0)
    >>> evaluation.per_label["recall"].tolist(), evaluation.subset_accuracy
    ([1.0, 0.5], 0.75)
    """

    @classmethod
    def from_predictions(
        cls,
        y_true: object,
        y_pred: object = None,
        y_proba: npt.ArrayLike | None = None,
        *,
        y_score: npt.ArrayLike | None = None,
        classes: npt.ArrayLike | None = None,
        sample_weight: npt.ArrayLike | None = None,
    ) -> MultilabelEvaluation:
        """Measure predictions that were made before.

        Parameters
        ----------
        y_true : indicator of shape (n, n_labels), or sequence of n label sets
            The true labels. An indicator is an array, a sparse matrix or a data frame, whose
            columns name the labels.
        y_pred : indicator or sequence of n label sets, or None, default=None
            The predicted labels; None takes those with a probability above 0.5.
        y_proba : array-like of shape (n, n_labels) or None, default=None
            Probabilities.
        y_score : array-like of shape (n, n_labels) or None, default=None
            Scores that rank the images of each label; None takes the probabilities.
        classes : array-like of shape (n_labels,) or None, default=None
            The names of the columns; None takes those of `y_true`: the columns of a data frame, all
            members of label sets, sorted, or else numbers.
        sample_weight : array-like of shape (n,) or None, default=None
            Weight of each image.

        Returns
        -------
        MultilabelEvaluation
            The measures by name, as :func:`evaluate` returns them.

        Raises
        ------
        InvalidParameterError
            If there are neither predictions nor probabilities, or `classes` are not different
            names.
        ValueError
            If lengths, labels or probabilities do not fit.
        """
        if y_pred is None and y_proba is None:
            raise InvalidParameterError("Expected y_pred, y_proba or both. Got neither.")
        if y_true is None:
            raise InvalidParameterError("Expected labels for each sample. Got None instead.")
        several = [y_true] if y_pred is None else [y_true, y_pred]
        names = label_names(*several) if classes is None else _checked_names(classes)
        proba = None if y_proba is None else checked_shares(y_proba, len(names))
        n_samples = _length(y_true)
        if y_pred is None:
            assert proba is not None
            predicted = (proba > THRESHOLD).astype(int)
        else:
            predicted = indicators_of(y_pred, n_samples, names)
        score = proba if y_score is None else np.asarray(y_score, dtype=float)
        said = LabelPredictions(names, predicted, proba, score)
        true = indicators_of(y_true, n_samples, names)
        return multilabel_evaluation_of(true, said, sample_weight)

    def of_label(self, label: object) -> Evaluation:
        """Measure one label as a classifier of two classes: "not LABEL" and "LABEL".

        Parameters
        ----------
        label : label
            One of `classes`.

        Returns
        -------
        Evaluation
            Its measures, without the weights of the images.

        Raises
        ------
        InvalidParameterError
            If there is no such label.

        Examples
        --------
        >>> from transferclf.reports import MultilabelEvaluation
        >>> y_true, y_pred = [{"sea", "sun"}, {"sun"}, set()], [{"sea"}, {"sea"}, set()]
        >>> MultilabelEvaluation.from_predictions(y_true, y_pred).of_label("sea").confused
        [{'true': 'not sea', 'predicted': 'sea', 'count': 1, 'share': 0.5}]
        """
        place = place_of(label, self.classes)
        names = np.array([f"not {label}", str(label)])
        proba = None if self.y_proba is None else self.y_proba[:, place]
        true, predicted = names[self.y_true[:, place]], names[self.y_pred[:, place]]
        return Evaluation.from_predictions(true, predicted, proba, classes=names)

    def _texts(self) -> list[str]:
        return [_head_text(self), _table_text(self)]

    def __repr__(self) -> str:
        share = number_text(self.mean_average_precision)
        return f"<MultilabelEvaluation of {self.n_samples:,} samples, mAP {share}>"


def multilabel_evaluation_of(
    true: np.ndarray, said: LabelPredictions, sample_weight: npt.ArrayLike | None
) -> MultilabelEvaluation:
    """Measure predictions of labels; `true` is an indicator of shape (n, n_labels)."""
    for what, values in (("Predictions", said.y_pred), ("Scores", said.y_score)):
        if values is not None and values.shape != true.shape:
            raise ValueError(
                f"{what} must have one row per image and one column per label, shape {true.shape}. "
                f"Got {values.shape}."
            )
    if said.y_score is not None and np.isnan(said.y_score).any():
        raise ValueError("Scores must be numbers. Got NaN.")
    weights = None if sample_weight is None else check_sample_weight(sample_weight, len(true))
    return MultilabelEvaluation(
        n_samples=len(true),
        classes=said.classes,
        **_of_labels(true, said.y_pred, weights),
        **_of_scores(true, said, weights),
        y_true=true,
        y_pred=said.y_pred,
        y_proba=said.y_proba,
    )


def _of_labels(
    true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None
) -> dict[str, float]:
    by_f1: dict[str, Any] = {
        "y_true": _at_least_two(true),
        "y_pred": _at_least_two(predicted),
        "sample_weight": weights,
        "zero_division": 0,
    }
    counted = slice(None) if weights is None else weights > 0
    seen = np.flatnonzero(true[counted].any(axis=0) | predicted[counted].any(axis=0))
    macro = metrics.f1_score(**by_f1, average="macro", labels=seen) if len(seen) else 0
    wrong = (true != predicted).mean(axis=1)
    return {
        "f1_micro": float(metrics.f1_score(**by_f1, average="micro")),
        "f1_macro": float(macro),
        "f1_samples": float(metrics.f1_score(**by_f1, average="samples")),
        # The Hamming loss and the subset accuracy of scikit-learn, also for a single label.
        "hamming_loss": float(np.average(wrong, weights=weights)),
        "subset_accuracy": float(np.average(wrong == 0, weights=weights)),
    }


def _of_scores(
    true: np.ndarray, said: LabelPredictions, weights: np.ndarray | None
) -> dict[str, object]:
    """Return the measures of scores, and the table of all labels."""
    n_labels = len(said.classes)
    precisions, areas = np.full(n_labels, np.nan), np.full(n_labels, np.nan)
    counted = np.ones(len(true), bool) if weights is None else weights > 0
    part = None if weights is None else weights[counted]
    for number, (column, known) in enumerate(zip(true.T, true[counted].T, strict=True)):
        if said.y_score is None or not known.any():
            continue
        scores = said.y_score[:, number]
        precisions[number] = metrics.average_precision_score(column, scores, sample_weight=weights)
        if not known.all():
            areas[number] = metrics.roc_auc_score(known, scores[counted], sample_weight=part)
    table = metrics.precision_recall_fscore_support(
        _at_least_two(true),
        _at_least_two(said.y_pred),
        labels=np.arange(n_labels),
        sample_weight=weights,
        zero_division=np.nan,
        average=None,
    )
    columns = dict(zip(("precision", "recall", "f1", "support"), table, strict=True))
    support = columns.pop("support")
    per_label = {"label": said.classes} | columns | {"average_precision": precisions}
    return {
        "mean_average_precision": _mean(precisions),
        "roc_auc": _mean(areas),
        "per_label": per_label | {"support": support},
    }


def _at_least_two(table: np.ndarray) -> np.ndarray:
    """Return an indicator of one label with a second column of zeros.

    scikit-learn takes a single column for two classes.
    """
    return table if table.shape[1] > 1 else np.hstack([table, np.zeros_like(table)])


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _checked_names(classes: npt.ArrayLike) -> np.ndarray:
    names = np.asarray(classes)
    if names.ndim != 1 or len(names) == 0 or len(set(names.tolist())) < len(names):
        raise InvalidParameterError(
            f"classes must be a list of different names. Got {classes!r:.200} instead."
        )
    return names


def _length(y: Any) -> int:
    shape = getattr(y, "shape", None)
    if shape is None and not hasattr(y, "__len__"):
        raise ValueError(f"y_true must have labels for each image. Got {y!r:.100} instead.")
    return int(shape[0]) if shape else len(y)


def _head_text(evaluation: MultilabelEvaluation) -> str:
    """Return the measures of all images together."""
    size = count_text(evaluation.n_samples, "sample")
    lines = [
        {
            "mean average precision": evaluation.mean_average_precision,
            "ROC AUC": evaluation.roc_auc,
        },
        {
            "F1 micro": evaluation.f1_micro,
            "macro": evaluation.f1_macro,
            "samples": evaluation.f1_samples,
        },
        {
            "Hamming loss": evaluation.hamming_loss,
            "subset accuracy": evaluation.subset_accuracy,
        },
    ]
    texts = [
        "   ".join(f"{name} {number_text(value)}" for name, value in line.items()) for line in lines
    ]
    return "\n".join([f"{size}, {count_text(len(evaluation.classes), 'label')}", *texts])


def _table_text(evaluation: MultilabelEvaluation) -> str:
    """Return the measures of each label."""
    names, *columns = evaluation.per_label.values()
    labels = [short_name(name) for name in names.tolist()]
    width = max(map(len, [*labels, "label"]))
    lines = [f"{'label':<{width}}  precision  recall     F1  average p.  support"]
    for label, precision, recall, f1, average, support in zip(labels, *columns, strict=True):
        values = f"{number_text(precision):>9}  {number_text(recall):>6}  {number_text(f1):>5}"
        lines.append(f"{label:<{width}}  {values}  {number_text(average):>10}  {support:>7,.6g}")
    return "\n".join(lines)
