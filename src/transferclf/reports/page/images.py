"""Sections of images: errors, heat maps, and the embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from transferclf.estimators.reading import images_of
from transferclf.exceptions import NetworkError
from transferclf.reports.displays.embedding import EmbeddingDisplay
from transferclf.reports.displays.gradcam import GradCAMDisplay, heat_display
from transferclf.reports.displays.grid import chosen_images
from transferclf.reports.names import count_text
from transferclf.reports.page.rendering import drawing, name_text, picture
from transferclf.reports.page.subject import SIDE, Content, Subject, note
from transferclf.reports.predictions import label_indices, through
from transferclf.reports.tables import Row

KINDS = {
    "worst": ("Worst errors", "Errors whose true class has the lowest probability."),
    "confident": ("Most confident errors", "Errors whose predicted class has the highest."),
    "uncertain": ("Least certain", "Right or wrong, the two most probable classes are close."),
}

# With fewer there is nothing to arrange.
FEWEST_TO_EMBED = 5

OPACITY = 0.5


def pictures(subject: Subject) -> Content:
    """Images that are wrong or nearly so, with their probabilities."""
    if subject.images is None:
        return note(subject.no_images)
    if subject.evaluation.y_proba is None:
        return note(f"Left out: {subject.kind} gives no probabilities.")
    n_errors = sum(pair["count"] for pair in subject.evaluation.confused)
    kinds = []
    for kind, (heading, text) in KINDS.items():
        # Where all errors are shown, another order of them shows nothing more.
        if kind == "confident" and n_errors <= subject.n_images:
            continue
        chosen = chosen_images(subject.evaluation, kind, subject.n_images).tolist()
        images = [_captioned(subject, index) for index in chosen]
        kinds.append({"heading": heading, "text": text, "images": images})
    return {"kinds": kinds}


def _captioned(subject: Subject, index: int) -> Row:
    """One image with its predicted and its true class."""
    true, predicted = _labels(subject, index)
    return {
        "picture": subject.picture(index, _alt(subject, index)),
        "predicted": predicted,
        "probability": _probability(subject, index, predicted),
        "is_wrong": true != predicted,
        "true": true,
        "true_probability": _probability(subject, index, true),
        "name": subject.image_name(index),
    }


def _labels(subject: Subject, index: int) -> tuple[Any, Any]:
    return subject.evaluation.y_true[index], subject.evaluation.y_pred[index]


def _alt(subject: Subject, index: int) -> str:
    true, predicted = _labels(subject, index)
    return (
        f"Image {index}, of class {name_text(true)}, predicted as {name_text(predicted)} "
        f"with a probability of {_probability(subject, index, predicted)}"
    )


def _probability(subject: Subject, index: int, label: object) -> str:
    return f"{subject.evaluation.y_proba[index, subject.column(label)]:.0%}"


def gradcam(subject: Subject) -> Content:
    """Heat maps of some images: for the predicted class and, of errors, for the true one."""
    if subject.classifier is None:
        return subject.needs_network("a heat map")
    indices = _looked_at(subject)
    source = images_of(subject.classifier, through(subject.steps, subject.X))[indices]
    evaluation = subject.evaluation
    columns = [
        label_indices(labels[indices], len(indices), evaluation.classes)
        for labels in (evaluation.y_pred, evaluation.y_true)
    ]
    try:
        displays = [
            heat_display(subject.classifier, source, column, evaluation.y_proba[indices])
            for column in columns
        ]
    except NetworkError as error:
        return note(f"Left out: {error}")
    images = [
        _heat_maps(subject, displays, row, index) for row, index in enumerate(indices.tolist())
    ]
    return {"layer": displays[0].layer, "images": images}


def _looked_at(subject: Subject) -> np.ndarray:
    """The worst errors, half of what there is room for, and then any other images."""
    evaluation, room = subject.evaluation, min(subject.n_images, subject.evaluation.n_samples)
    wrong = chosen_images(evaluation, "worst", (room + 1) // 2)
    others = chosen_images(evaluation, "random", room)
    rest = others[~np.isin(others, wrong)]
    return np.concatenate([wrong, rest])[:room].astype(int)


def _heat_maps(subject: Subject, displays: list[GradCAMDisplay], row: int, index: int) -> Row:
    is_wrong = displays[0].classes[row] != displays[1].classes[row]
    shown = displays if is_wrong else displays[:1]
    pictures = [picture(shown[0].images[row], _alt(subject, index), SIDE)]
    pictures += [picture(_overlaid(one, row), _heat_alt(one, row), SIDE) for one in shown]
    maps = [(one.classes[row], f"{one.probabilities[row]:.0%}") for one in shown]
    return {"pictures": pictures, "maps": maps}


def _overlaid(display: GradCAMDisplay, row: int) -> np.ndarray:
    """The image under its map."""
    from matplotlib import colormaps

    image = display.images[row]
    heat = Image.fromarray(display.heatmaps[row].astype(np.float32))
    size = image.shape[1], image.shape[0]
    values = np.asarray(heat.resize(size, Image.Resampling.BILINEAR))
    colours = colormaps["viridis"](values)[..., :3] * 255
    return np.rint((1 - OPACITY) * image + OPACITY * colours).astype(np.uint8)


def _heat_alt(display: GradCAMDisplay, row: int) -> str:
    heat = display.heatmaps[row]
    label = name_text(display.classes[row])
    if not heat.any():
        return f"Nothing in it speaks for {label}"
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    place = (
        f"{_part(top, len(heat), 'top', 'bottom')} {_part(left, heat.shape[1], 'left', 'right')}"
    )
    return f"Heat map for {label}, hottest at {place.replace('middle middle', 'the middle')}"


def _part(place: int, length: int, first: str, last: str) -> str:
    share = (place + 0.5) / length
    return first if share < 1 / 3 else last if share > 2 / 3 else "middle"


def embedding(subject: Subject) -> Content:
    """The images as points, near each other where the network sees them alike."""
    if subject.classifier is None:
        return subject.needs_network("an embedding")
    n_images, y = subject.evaluation.n_samples, subject.evaluation.y_true
    if n_images < FEWEST_TO_EMBED:
        return note(f"Left out: {count_text(n_images, 'image')} cannot be arranged.")
    display = EmbeddingDisplay.from_estimator(subject.estimator, subject.X, y)
    alt = (
        f"The features of {count_text(n_images, 'image')} of "
        f"{count_text(len(np.unique(y)), 'class', 'classes')} on a plane, by t-SNE"
    )
    text = (
        "Each point is an image, with its true class; near each other are images whose features "
        "are alike. Distances between far groups mean little."
    )
    return {"text": text, "drawings": [drawing(display.figure_, alt)]}
