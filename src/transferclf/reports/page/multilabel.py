"""Sections about several labels: measures, each label, and images whose labels are wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from transferclf.reports.names import count_text, number_text
from transferclf.reports.page.images import embedding_of, maps_of
from transferclf.reports.page.rendering import name_text
from transferclf.reports.page.subject import Content, Subject, note

KINDS = {
    "missed": ("Missed labels", "True labels with the lowest probability."),
    "claimed": ("Wrongly predicted labels", "Labels with the highest probability that are wrong."),
}


class Pair(NamedTuple):
    """An image and the column of one of the labels."""

    image: int
    column: int


def summary(subject: Subject) -> Content:
    """Return the measures of all images together."""
    evaluation = subject.evaluation
    measures = {
        "mean average precision": evaluation.mean_average_precision,
        "ROC AUC, mean of labels": evaluation.roc_auc,
        "F1, all pairs together": evaluation.f1_micro,
        "F1, mean of labels": evaluation.f1_macro,
        "F1, mean of images": evaluation.f1_samples,
        "Hamming loss": evaluation.hamming_loss,
        "subset accuracy": evaluation.subset_accuracy,
    }
    return {"numbers": [(name, number_text(value)) for name, value in measures.items()]}


def per_label(subject: Subject) -> Content:
    """Return the measures of each label, and how many images have it, truly and predicted."""
    evaluation = subject.evaluation
    columns = evaluation.per_label.values()
    counts = evaluation.y_pred.sum(axis=0)
    rows = [
        {
            "label": label,
            "precision": number_text(precision),
            "recall": number_text(recall),
            "share": 0.0 if np.isnan(f1) else float(f1),
            "f1": number_text(f1),
            "average": number_text(average),
            "support": f"{support:,.6g}",
            "predicted": f"{count:,}",
        }
        for label, precision, recall, f1, average, support, count in zip(
            *columns, counts, strict=True
        )
    ]
    return {"rows": rows}


def worst_pairs(subject: Subject, kind: str) -> list[Pair]:
    """Return wrong pairs of image and label: those missed or those claimed, the worst first."""
    evaluation = subject.evaluation
    value = 1 if kind == "missed" else 0
    rows, columns = np.nonzero(
        (evaluation.y_true == value) & (evaluation.y_true != evaluation.y_pred)
    )
    proba = evaluation.y_proba[rows, columns]
    order = np.argsort(proba if kind == "missed" else -proba, kind="stable")
    return [Pair(*pair) for pair in zip(rows[order].tolist(), columns[order].tolist(), strict=True)]


def pictures(subject: Subject) -> Content:
    """Return images whose labels are missed or wrongly predicted, with the probabilities."""
    if subject.images is None:
        return note(subject.no_images)
    if subject.evaluation.y_proba is None:
        return note(f"Left out: {subject.kind} gives no probabilities.")
    kinds = []
    for kind, (heading, text) in KINDS.items():
        images = [_shown(subject, pair) for pair in worst_pairs(subject, kind)[: subject.n_images]]
        kinds.append({"heading": heading, "text": text, "images": images})
    return {"kinds": kinds}


def _shown(subject: Subject, pair: Pair) -> dict[str, object]:
    evaluation = subject.evaluation
    label = evaluation.classes[pair.column]
    there = [str(name) for name in evaluation.classes[evaluation.y_true[pair.image] == 1].tolist()]
    return {
        "picture": subject.picture(pair.image, _alt(subject, pair)),
        "label": label,
        "probability": f"{evaluation.y_proba[pair.image, pair.column]:.0%}",
        "true": ", ".join(there) or "none",
        "name": subject.image_name(pair.image),
    }


def _alt(subject: Subject, pair: Pair) -> str:
    evaluation = subject.evaluation
    label = name_text(evaluation.classes[pair.column])
    has = "with" if evaluation.y_true[pair.image, pair.column] else "without"
    share = f"{evaluation.y_proba[pair.image, pair.column]:.0%}"
    return f"Image {pair.image}, {has} the label {label}, whose probability is {share}"


def gradcam(subject: Subject) -> Content:
    """Return heat maps of wrong labels, and of the most probable label of other images."""
    if subject.classifier is None:
        return subject.needs_network("a heat map")
    # Wrong labels of each kind take up to a quarter of the room, and any images the rest.
    room = -(-subject.n_images // 4)
    wrong = [pair for kind in KINDS for pair in worst_pairs(subject, kind)[:room]]
    best = subject.evaluation.y_proba.argmax(axis=1)
    others = [Pair(index, int(column)) for index, column in enumerate(best)]
    pairs = list(dict.fromkeys([*wrong, *others]))[: subject.n_images]
    indices, columns = (np.array(part, int) for part in zip(*pairs, strict=True))
    alts = [_alt(subject, pair) for pair in pairs]
    return maps_of(subject, indices, columns, subject.evaluation.y_proba[indices], alts)


def embedding(subject: Subject) -> Content:
    """Return the images as points, coloured by the label that is nearest to half of them."""
    evaluation = subject.evaluation
    shares = evaluation.y_true.mean(axis=0)
    column = int(np.argmin(np.abs(shares - 0.5)))
    label = evaluation.classes[column]
    names = np.array([f"not {label}", str(label)])
    text = (
        f"Each point is an image, with or without the label {name_text(label)}; near each other "
        "are images whose features are alike. Distances between far groups mean little."
    )
    shown = f"{count_text(evaluation.n_samples, 'image')} by the label {name_text(label)}"
    return embedding_of(subject, names[evaluation.y_true[:, column]], shown, text)
