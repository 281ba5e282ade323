"""Measures of predictions, by scikit-learn, where labels are positions in the list of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import metrics

# Bins of equal width for the calibration error, as in Guo et al. 2017.
N_BINS = 15


def of_labels(
    true: np.ndarray, predicted: np.ndarray, weights: np.ndarray | None
) -> dict[str, float]:
    """Accuracy, balanced accuracy and F1."""
    pair = {"y_true": true, "y_pred": predicted, "sample_weight": weights}
    counted = slice(None) if weights is None else weights > 0
    there = np.unique(true[counted])
    seen = np.union1d(there, predicted[counted])
    by_mean: dict[str, Any] = {"zero_division": 0, **pair}
    return {
        "accuracy": float(metrics.accuracy_score(**pair)),
        # This is the balanced accuracy, without the warning about classes that y has not.
        "balanced_accuracy": float(metrics.recall_score(**by_mean, labels=there, average="macro")),
        "f1_macro": float(metrics.f1_score(**by_mean, labels=seen, average="macro")),
        "f1_weighted": float(metrics.f1_score(**by_mean, average="weighted")),
    }


def of_scores(
    true: np.ndarray, scores: np.ndarray, top_k: list[int], weights: np.ndarray | None
) -> dict[str, Any]:
    """Top-k accuracy and ROC AUC, from scores of shape (n, n_classes)."""
    labels = np.arange(scores.shape[1])
    shares = {}
    for k in top_k:
        if k == 1 < len(labels):  # of equal scores the first wins, as in `predict`
            share = metrics.accuracy_score(true, scores.argmax(axis=1), sample_weight=weights)
            shares[k] = float(share)
        elif k < len(labels):
            share = metrics.top_k_accuracy_score(
                true, scores, k=k, labels=labels, sample_weight=weights
            )
            shares[k] = float(share)
    return {"top_k": shares, "roc_auc": _roc_auc(true, scores, weights)}


def _roc_auc(true: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> float | None:
    there = np.unique(true if weights is None else true[weights > 0])
    if len(there) < 2:
        return None
    areas = [
        metrics.roc_auc_score(true == label, scores[:, label], sample_weight=weights)
        for label in there
    ]
    return float(np.mean(areas))


def of_probabilities(
    true: np.ndarray, y_proba: np.ndarray, weights: np.ndarray | None
) -> dict[str, float]:
    """Loss and calibration error, from probabilities of shape (n, n_classes)."""
    n_classes = y_proba.shape[1]
    loss = 0.0  # with one class there is nothing to be wrong about
    if n_classes > 1:
        # Rounded ones would be warned about.
        exact = y_proba / y_proba.sum(axis=1, dtype=float, keepdims=True)
        labels = np.arange(n_classes)
        loss = float(metrics.log_loss(true, exact, labels=labels, sample_weight=weights))
    return {"loss": loss, "calibration_error": calibration_error(true, y_proba, weights)}


def calibration_error(true: np.ndarray, y_proba: np.ndarray, weights: np.ndarray | None) -> float:
    """Expected calibration error; bins are open below and closed above, as in the paper."""
    confidence = y_proba.max(axis=1).astype(float)
    surplus = confidence - (y_proba.argmax(axis=1) == true)
    shares = np.full(len(true), 1 / len(true)) if weights is None else weights / weights.sum()
    bins = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    return float(np.abs(np.bincount(bins, shares * surplus, N_BINS)).sum())


def per_class(
    true: np.ndarray, predicted: np.ndarray, classes: np.ndarray, weights: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support of each class; NaN where they are not defined."""
    names = ("precision", "recall", "f1", "support")
    values = metrics.precision_recall_fscore_support(
        true,
        predicted,
        labels=np.arange(len(classes)),
        sample_weight=weights,
        zero_division=np.nan,
    )
    return {"class": classes, **dict(zip(names, values, strict=True))}
