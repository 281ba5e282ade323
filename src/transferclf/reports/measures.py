"""Measures of predictions, by scikit-learn, where labels are positions in the list of classes.

`weights` are those of the samples, or None.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

# Bins of equal width for the calibration error, as in Guo et al. 2017.
N_BINS = 15


def of_labels(
    true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None
) -> dict[str, float]:
    """Return accuracy, balanced accuracy and F1."""
    pair: dict[str, Any] = {"y_true": true, "y_pred": predicted, "sample_weight": weights}
    counted = slice(None) if weights is None else weights > 0
    there = np.unique(true[counted])
    seen = np.union1d(there, predicted[counted])
    by_mean = pair | {"zero_division": 0}
    return {
        "accuracy": float(metrics.accuracy_score(**pair)),
        # This is the balanced accuracy, without the warning about classes that are not in y.
        "balanced_accuracy": float(metrics.recall_score(**by_mean, labels=there, average="macro")),
        "f1_macro": float(metrics.f1_score(**by_mean, labels=seen, average="macro")),
        "f1_weighted": float(metrics.f1_score(**by_mean, average="weighted")),
    }


def of_scores(
    true: np.ndarray, scores: np.ndarray | None, top_k: list[int], weights: np.ndarray | None
) -> dict[str, object]:
    """Return top-k accuracy and ROC AUC, from scores of shape (n, n_classes) if there are any."""
    if scores is None:
        return {"top_k": {}, "roc_auc": None}
    labels, shares = np.arange(scores.shape[1]), {}
    for k in (k for k in top_k if k < len(labels)):
        if k == 1:  # the first of equal scores wins, as in `predict`
            share = metrics.accuracy_score(true, scores.argmax(axis=1), sample_weight=weights)
        else:
            share = metrics.top_k_accuracy_score(
                true, scores, k=k, labels=labels, sample_weight=weights
            )
        shares[k] = float(share)
    there = np.unique(true if weights is None else true[weights > 0])
    areas = [
        metrics.roc_auc_score(true == label, scores[:, label], sample_weight=weights)
        for label in (there if len(there) > 1 else [])
    ]
    return {"top_k": shares, "roc_auc": float(np.mean(areas)) if areas else None}


def of_probabilities(
    true: np.ndarray, y_proba: np.ndarray | None, weights: np.ndarray | None
) -> dict[str, float | None]:
    """Return loss and calibration error, from probabilities (n, n_classes) if there are any."""
    if y_proba is None:
        return {"loss": None, "calibration_error": None}
    labels = np.arange(y_proba.shape[1])
    loss = 0.0  # one class cannot be wrong
    if len(labels) > 1:
        # scikit-learn warns about sums that differ from one by rounding.
        exact = y_proba / y_proba.sum(axis=1, dtype=float, keepdims=True)
        loss = float(metrics.log_loss(true, exact, labels=labels, sample_weight=weights))
    # The expected calibration error; bins are open below and closed above, as in the paper.
    confidence = y_proba.max(axis=1).astype(float)
    surplus = confidence - (y_proba.argmax(axis=1) == true)
    shares = np.full(len(true), 1 / len(true)) if weights is None else weights / weights.sum()
    bins = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    error = float(np.abs(np.bincount(bins, shares * surplus, N_BINS)).sum())
    return {"loss": loss, "calibration_error": error}


def per_class(
    true: np.ndarray, predicted: np.ndarray, classes: np.ndarray, weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Return precision, recall, F1 and support of each class; NaN where they are not defined."""
    labels = np.arange(len(classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        true, predicted, labels=labels, sample_weight=weights, zero_division=np.nan
    )
    measures = {"precision": precision, "recall": recall, "f1": f1, "support": support}
    return {"class": classes} | measures
