"""Sections of numbers: measures, calibration, training, parameters and versions."""

from __future__ import annotations

import importlib.metadata
import inspect
import platform
from contextlib import suppress

import numpy as np

from transferclf.reports.displays.figures import COLOURS, GREY, axes_for
from transferclf.reports.displays.history import TrainingHistoryDisplay
from transferclf.reports.evaluations.classes import Evaluation
from transferclf.reports.measures import N_BINS
from transferclf.reports.names import count_text, number_text, short_name
from transferclf.reports.page.rendering import drawing
from transferclf.reports.page.subject import Content, Subject, note
from transferclf.reports.predictions import objective_of
from transferclf.reports.tables import Row

N_PAIRS = 15  # pairs of confused classes that are listed
MATRIX_CLASSES = 60  # with more classes, a matrix cannot be read

# The colour of a whole row in one cell; black on it has a contrast above 5.
FULL_CELL = np.array([77, 156, 201])
WHITE = np.array([255, 255, 255])

PACKAGES = (
    "transferclf", "keras", "tensorflow", "numpy", "scipy", "scikit-learn", "pillow", "matplotlib",
)  # fmt: skip

VALUE_WIDTH = 160  # letters of a parameter's value: enough for all but arrays and long lists


def summary(subject: Subject) -> Content:
    """Return the measures of all images together."""
    evaluation = subject.evaluation
    ranked = {f"top-{k} accuracy": share for k, share in evaluation.top_k.items() if k > 1}
    measures = {
        "accuracy": evaluation.accuracy,
        **ranked,
        "balanced accuracy": evaluation.balanced_accuracy,
        "F1, mean of classes": evaluation.f1_macro,
        "F1, by support": evaluation.f1_weighted,
        "ROC AUC": evaluation.roc_auc,
        "log loss": evaluation.loss,
        "calibration error": evaluation.calibration_error,
    }
    return {"numbers": [(name, number_text(value)) for name, value in measures.items()]}


def per_class(subject: Subject) -> Content:
    """Return precision, recall and F1 of each class."""
    columns = subject.evaluation.per_class.values()
    rows = [
        {
            "label": label,
            "precision": number_text(precision),
            "recall": number_text(recall),
            "share": 0.0 if np.isnan(f1) else float(f1),
            "f1": number_text(f1),
            "support": f"{support:,.6g}",
        }
        for label, precision, recall, f1, support in zip(*columns, strict=True)
    ]
    return {"rows": rows}


def balance(subject: Subject) -> Content:
    """Return how many images each class has, and how many it was predicted for."""
    matrix, labels = subject.evaluation.confusion_matrix, subject.evaluation.classes.tolist()
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    shares = true / max(true.max(), 1)
    rows = [
        {"label": label, "share": share, "true": f"{n:,}", "predicted": f"{m:,}"}
        for label, share, n, m in zip(labels, shares, true, predicted, strict=True)
    ]
    return {"rows": rows}


def confusion(subject: Subject) -> Content:
    """Return the confusion matrix, and the pairs that are confused most often."""
    evaluation = subject.evaluation
    pairs = [
        pair | {"count": f"{pair['count']:,.6g}", "share": f"{pair['share']:.0%}"}
        for pair in evaluation.confused[:N_PAIRS]
    ]
    n_classes = len(evaluation.classes)
    if n_classes <= MATRIX_CLASSES:
        return {"too_large": "", "matrix": _matrix(evaluation), "pairs": pairs}
    too_large = (
        f"The matrix of {n_classes} classes would be too large to be read; "
        "these are the pairs that are confused most often."
    )
    return {"too_large": too_large, "matrix": [], "pairs": pairs}


def _matrix(evaluation: Evaluation) -> list[Row]:
    """Return the rows of the matrix; cells are as dark as their share of the row."""
    rows = []
    for number, counts in enumerate(evaluation.confusion_matrix):
        shares = counts / max(counts.sum(), 1)
        colours = np.rint(WHITE + shares[:, None] * (FULL_CELL - WHITE)).astype(int)
        cells = [
            {
                "count": f"{count:,.6g}" if count else "",
                "colour": f"rgb({red},{green},{blue})" if count else "",
                "is_right": column == number,
            }
            for column, (count, (red, green, blue)) in enumerate(zip(counts, colours, strict=True))
        ]
        rows.append({"label": evaluation.classes.tolist()[number], "cells": cells})
    return rows


def calibration(subject: Subject) -> Content:
    """Return how often predictions are right, by their probability."""
    from sklearn.calibration import CalibrationDisplay

    evaluation = subject.evaluation
    if evaluation.y_proba is None:
        return note(f"Left out: {subject.kind} gives no probabilities.")
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
    return {"text": text, "drawings": [drawing(figure, alt)]}


def history(subject: Subject) -> Content:
    """Return loss and accuracy in the course of training."""
    if subject.classifier is None:
        return subject.needs_network("the course of training")
    history = subject.classifier.history_
    if not history.get("loss"):
        return note("Left out: there was no training.")
    if len(history["loss"]) == 1:
        return note("Left out: training took a single step, which has no course.")
    rounds = count_text(len(history["loss"]), "iteration or epoch", "iterations and epochs")
    words = [
        f"{name.replace('val_', 'validation ')} "
        f"from {number_text(values[0])} to {number_text(values[-1])}"
        for name, values in history.items()
        if name != "learning_rate" and values
    ]
    text = f"In {rounds}: {', '.join(words)}."
    drawings = []
    for metric in ("loss", objective_of(subject.classifier).measure):
        display = TrainingHistoryDisplay.from_estimator(subject.classifier, metrics=[metric])
        alt = f"Course of the {metric} in training. {text}"
        drawings.append(drawing(display.figure_, alt))
    return {"text": text, "drawings": drawings}


def classifier(subject: Subject) -> Content:
    """Return the parameters; defaults are apart."""
    estimator = subject.estimator if subject.classifier is None else subject.classifier
    kind = type(estimator)
    if not hasattr(estimator, "get_params"):
        return note(f"Left out: {kind.__name__} has no parameters that can be read.")
    parameters = inspect.signature(kind).parameters
    rows: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for name, value in estimator.get_params(deep=False).items():
        default = parameters[name].default if name in parameters else None
        # Compare texts: arrays and most other objects never equal the default.
        is_default = type(value) is type(default) and repr(value) == repr(default)
        rows[is_default].append((name, short_name(repr(value), VALUE_WIDTH)))
    n_defaults = count_text(len(rows[True]), "parameter")
    about = {"kind": kind.__name__, "n_defaults": n_defaults}
    return about | {"changed": rows[False], "defaults": rows[True]}


def environment(subject: Subject) -> Content:
    """Return the versions of the packages that computed the page."""
    rows = [("Python", platform.python_version()), ("system", platform.system())]
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            rows.append((name, importlib.metadata.version(name)))
    return {"rows": rows}
