"""Sections of numbers: the summary, the classes, what is confused, and calibration."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from transferclf.reports.displays.figures import COLOURS, GREY, axes_for
from transferclf.reports.evaluation import Evaluation
from transferclf.reports.names import count_text, short_name
from transferclf.reports.page.elements import element, finished, name_element, table
from transferclf.reports.page.subject import Subject, note

N_PAIRS = 15

# Classes up to which a matrix can be read.
MATRIX_CLASSES = 60
MATRIX_NAME = 22

# The colour of a whole row in one cell; black on it has a contrast above 5.
FULL_CELL = np.array([77, 156, 201])
WHITE = np.array([255, 255, 255])

N_BINS = 15


def summary_section(subject: Subject) -> list[Element]:
    """The measures of all images together."""
    numbers = _headline_numbers(subject.evaluation)
    entries = [element("div", element("dt", name), element("dd", value)) for name, value in numbers]
    return [element("dl", *entries, class_="numbers")]


def _headline_numbers(evaluation: Evaluation) -> list[tuple[str, str]]:
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
    return [(name, number(value)) for name, value in shares]


def number(value: float | None) -> str:
    """Three digits, or a dash where there is nothing."""
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def per_class_section(subject: Subject) -> list[Element]:
    """Precision, recall and F1 of each class."""
    measures = subject.evaluation.per_class
    columns = zip(
        *(measures[name] for name in ("class", "precision", "recall", "f1", "support")),
        strict=True,
    )
    rows = [
        (name_element(name), number(precision), number(recall), _with_bar(f1), f"{support:,.6g}")
        for name, precision, recall, f1, support in columns
    ]
    caption = "Precision, recall and F1 of each class, and how many images are of it"
    return [table(caption, ["class", "precision", "recall", "F1", "images"], rows)]


def _with_bar(share: float, text: str | None = None) -> Element:
    width = 0.0 if np.isnan(share) else float(share)
    bar = element("span", class_="bar", style=f"width:{6 * width:.2f}rem")
    return element("td", element("span", bar, class_="room"), text or number(share))


def balance_section(subject: Subject) -> list[Element]:
    """How many images each class has, and how many it was predicted for."""
    matrix = subject.evaluation.confusion_matrix
    there, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    most = max(there.max(), 1)
    rows = [
        (name_element(name), _with_bar(n / most, f"{n:,}"), f"{m:,}")
        for name, n, m in zip(subject.evaluation.classes.tolist(), there, predicted, strict=True)
    ]
    return [table("Images of each class, true and predicted", ["class", "true", "predicted"], rows)]


def confusion_section(subject: Subject) -> list[Element]:
    """The confusion matrix, and the pairs that are confused most often."""
    evaluation = subject.evaluation
    if len(evaluation.classes) > MATRIX_CLASSES:
        shown = note(
            f"The matrix of {len(evaluation.classes)} classes would be too large to be read; "
            "these are the pairs that are confused most often."
        )
    else:
        shown = _matrix(evaluation)
    return [shown, *_pairs(evaluation)]


def _matrix(evaluation: Evaluation) -> Element:
    matrix, labels = evaluation.confusion_matrix, evaluation.classes.tolist()
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [name_element(label, MATRIX_NAME) for label in labels]
    rows = [
        [name_element(label, MATRIX_NAME), *map(_matrix_cell, counts, shares, is_right)]
        for label, counts, shares, is_right in zip(
            labels, matrix.tolist(), (matrix / totals).tolist(), np.eye(len(labels)), strict=True
        )
    ]
    heads = [element("span", name) for name in names]
    caption = (
        "Number of images of each true class (row) by predicted class (column). The darker, the "
        "larger the share of the true class; empty cells are none, framed ones right."
    )
    return table(caption, ["true \\ predicted", *heads], rows, class_="matrix")


def _matrix_cell(count: Any, share: float, is_right: float) -> Element:
    red, green, blue = np.rint(WHITE + share * (FULL_CELL - WHITE)).astype(int)
    style = {"style": f"background:rgb({red},{green},{blue})"} if count else {}
    right = {"class_": "right"} if is_right else {}
    return element("td", f"{count:,.6g}" if count else None, **style, **right)


def _pairs(evaluation: Evaluation) -> list[Element]:
    if not evaluation.confused:
        return [note("No image is taken for one of another class.")]
    rows = [
        (
            name_element(pair["true"]),
            name_element(pair["predicted"]),
            f"{pair['count']:,.6g}",
            f"{pair['share']:.0%}",
        )
        for pair in evaluation.confused[:N_PAIRS]
    ]
    heading = element("h3", "Most confused")
    columns = ["true class", "taken for", "images", "share of the true class"]
    return [
        heading,
        table("Pairs of classes, the most frequent first", columns, rows, class_="pairs"),
    ]


def calibration_section(subject: Subject) -> list[Element]:
    """How often predictions are right, by the probability that they are given."""
    evaluation = subject.evaluation
    if evaluation.y_proba is None:
        kind = type(subject.estimator).__name__
        return [note(f"Left out: {kind} gives no probabilities.")]
    error = evaluation.calibration_error
    alt = (
        f"Share of right predictions by the probability of the predicted class, of "
        f"{count_text(evaluation.n_samples, 'image')}. Expected calibration error {number(error)}."
    )
    text = (
        "Where points lie on the diagonal, predictions are right as often as their probability "
        "says; below it they are too confident. The mean distance from it, weighted by the "
        f"images, is {error:.1%}."
    )
    return [element("p", text), _calibration_curve(evaluation, alt)]


def _calibration_curve(evaluation: Evaluation, alt: str) -> Element:
    from sklearn.calibration import CalibrationDisplay

    is_right = (evaluation.y_true == evaluation.y_pred).astype(int)
    figure, axes = axes_for(figsize=(4.6, 4.2))
    confidence = np.clip(evaluation.y_proba.max(axis=1), 0, 1)
    CalibrationDisplay.from_predictions(
        is_right, confidence, n_bins=N_BINS, pos_label=1, ax=axes, color=COLOURS[0]
    )
    axes.set(xlabel="probability of the predicted class", ylabel="share of right predictions")
    axes.get_legend().remove()
    axes.lines[0].set_color(GREY)
    return finished(figure, alt)


def class_text(label: Any) -> str:
    """A class name within a sentence."""
    return short_name(label, 60) or "(empty)"
