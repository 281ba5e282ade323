"""Sections of numbers: the summary, the classes, confusion and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transferclf.reports.displays.figures import COLOURS, GREY, axes_for
from transferclf.reports.evaluation import Evaluation
from transferclf.reports.measures import N_BINS
from transferclf.reports.names import count_text, number_text
from transferclf.reports.page.rendering import drawing
from transferclf.reports.page.subject import Content, Subject, note
from transferclf.reports.tables import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_PAIRS = 15

# Classes up to which a matrix can be read.
MATRIX_CLASSES = 60

# The colour of a whole row in one cell; black on it has a contrast above 5.
FULL_CELL = np.array([77, 156, 201])
WHITE = np.array([255, 255, 255])


def summary(subject: Subject) -> Content:
    """The measures of all images together."""
    evaluation = subject.evaluation
    ranked = [(f"top-{k} accuracy", share) for k, share in evaluation.top_k.items() if k > 1]
    shares = [
        ("accuracy", evaluation.accuracy),
        *ranked,
        ("balanced accuracy", evaluation.balanced_accuracy),
        ("F1, mean of classes", evaluation.f1_macro),
        ("F1, by support", evaluation.f1_weighted),
        ("ROC AUC", evaluation.roc_auc),
        ("log loss", evaluation.loss),
        ("calibration error", evaluation.calibration_error),
    ]
    return {"numbers": [(name, number_text(value)) for name, value in shares]}


def per_class(subject: Subject) -> Content:
    """Precision, recall and F1 of each class."""
    measures = subject.evaluation.per_class
    names = ("class", "precision", "recall", "f1", "support")
    rows = [
        {
            "label": label,
            "precision": number_text(precision),
            "recall": number_text(recall),
            "share": 0.0 if np.isnan(f1) else float(f1),
            "f1": number_text(f1),
            "support": f"{support:,.6g}",
        }
        for label, precision, recall, f1, support in zip(*map(measures.get, names), strict=True)
    ]
    return {"rows": rows}


def balance(subject: Subject) -> Content:
    """How many images each class has, and how many it was predicted for."""
    matrix = subject.evaluation.confusion_matrix
    there, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    most = max(there.max(), 1)
    labels = subject.evaluation.classes.tolist()
    rows = [
        {"label": label, "share": n / most, "true": f"{n:,}", "predicted": f"{m:,}"}
        for label, n, m in zip(labels, there, predicted, strict=True)
    ]
    return {"rows": rows}


def confusion(subject: Subject) -> Content:
    """The confusion matrix, and the pairs that are confused most often."""
    evaluation = subject.evaluation
    too_large = ""
    if len(evaluation.classes) > MATRIX_CLASSES:
        too_large = (
            f"The matrix of {len(evaluation.classes)} classes would be too large to be read; "
            "these are the pairs that are confused most often."
        )
    pairs = [
        pair | {"count": f"{pair['count']:,.6g}", "share": f"{pair['share']:.0%}"}
        for pair in evaluation.confused[:N_PAIRS]
    ]
    matrix = [] if too_large else _matrix(evaluation)
    return {"too_large": too_large, "matrix": matrix, "pairs": pairs}


def _matrix(evaluation: Evaluation) -> list[Row]:
    matrix = evaluation.confusion_matrix
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    return [
        {
            "label": label,
            "cells": [
                {
                    "count": f"{matrix[row, column]:,.6g}" if matrix[row, column] else "",
                    "colour": _colour(shares[row, column]) if matrix[row, column] else "",
                    "is_right": row == column,
                }
                for column in range(len(matrix))
            ],
        }
        for row, label in enumerate(evaluation.classes.tolist())
    ]


def _colour(share: float) -> str:
    red, green, blue = np.rint(WHITE + share * (FULL_CELL - WHITE)).astype(int)
    return f"rgb({red},{green},{blue})"


def calibration(subject: Subject) -> Content:
    """How often predictions are right, by the probability that they are given."""
    evaluation = subject.evaluation
    if evaluation.y_proba is None:
        return note(f"Left out: {subject.kind} gives no probabilities.")
    error = evaluation.calibration_error
    alt = (
        "Share of right predictions by the probability of the predicted class, of "
        f"{count_text(evaluation.n_samples, 'image')}. "
        f"Expected calibration error {number_text(error)}."
    )
    text = (
        "Where points lie on the diagonal, predictions are right as often as their probability "
        "says; below it they are too confident. The mean distance from it, weighted by the "
        f"images, is {error:.1%}."
    )
    return {"text": text, "drawings": [drawing(_calibration_curve(evaluation), alt)]}


def _calibration_curve(evaluation: Evaluation) -> Figure:
    from sklearn.calibration import CalibrationDisplay

    is_right = (evaluation.y_true == evaluation.y_pred).astype(int)
    figure, axes = axes_for(figsize=(4.6, 4.2))
    confidence = np.clip(evaluation.y_proba.max(axis=1), 0, 1)
    CalibrationDisplay.from_predictions(
        is_right, confidence, n_bins=N_BINS, pos_label=1, ax=axes, color=COLOURS[0]
    )
    axes.set(xlabel="probability of the predicted class", ylabel="share of right predictions")
    if (legend := axes.get_legend()) is not None:
        legend.remove()
    axes.lines[0].set_color(GREY)
    return figure
