"""Sections of images: errors, heat maps, and the embedding."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from transferclf.exceptions import NetworkError
from transferclf.reports.displays.embedding import EmbeddingDisplay
from transferclf.reports.displays.gradcam import GradCAMDisplay
from transferclf.reports.displays.grid import chosen_images
from transferclf.reports.displays.pictures import picture as pixels_of
from transferclf.reports.names import count_text, short_name
from transferclf.reports.page.elements import element, finished, name_element, picture
from transferclf.reports.page.measures import class_text
from transferclf.reports.page.subject import Subject, needs_network, note
from transferclf.reports.predictions import label_indices, through

# Longer side of a picture, in pixels of the file.
SIDE = 192

KINDS = {
    "worst": ("Worst errors", "Errors whose true class has the lowest probability."),
    "confident": ("Most confident errors", "Errors whose predicted class has the highest."),
    "uncertain": ("Least certain", "Right or wrong, the two most probable classes are close."),
}

# With fewer there is nothing to arrange.
FEWEST_TO_EMBED = 5

OPACITY = 0.5


def pictures_section(subject: Subject) -> list[Element]:
    """Images that are wrong or nearly so, with their probabilities."""
    if subject.images is None:
        return [note(subject.no_images)]
    if subject.evaluation.y_proba is None:
        return [note(f"Left out: {type(subject.estimator).__name__} gives no probabilities.")]
    n_errors = sum(pair["count"] for pair in subject.evaluation.confused)
    # Where all errors are shown, another order of them shows nothing more.
    kinds = [kind for kind in KINDS if kind != "confident" or n_errors > subject.n_images]
    return [part for kind in kinds for part in _pictures(subject, kind)]


def _pictures(subject: Subject, kind: str) -> list[Element]:
    heading, text = KINDS[kind]
    chosen = chosen_images(subject.evaluation, kind, subject.n_images)
    if len(chosen) == 0:
        return [element("h3", heading), note("There are no errors.")]
    items = [element("li", _with_caption(subject, index)) for index in chosen.tolist()]
    pictures = element("ul", *items, class_="pictures")
    return [element("h3", heading), element("p", text), pictures]


def _with_caption(subject: Subject, index: int) -> Element:
    assert subject.images is not None
    pixels = pixels_of(subject.images, index, SIDE)
    caption = element("figcaption", *_caption(subject, index))
    return element("figure", picture(pixels, _alt(subject, index), side=SIDE), caption)


def _caption(subject: Subject, index: int) -> list[Element | str]:
    """The predicted class and, where it is another, the true one; and which image it is."""
    true, predicted = (
        labels[index] for labels in (subject.evaluation.y_true, subject.evaluation.y_pred)
    )
    words: list[Element | str] = [
        element("b", name_element(predicted)), f" {_probability(subject, index, predicted)}",
    ]  # fmt: skip
    if true != predicted:
        words += [", true: ", element("b", name_element(true))]
        words.append(f" {_probability(subject, index, true)}")
    return [*words, element("br"), name_element(image_name(subject, index))]


def _alt(subject: Subject, index: int) -> str:
    true, predicted = (
        labels[index] for labels in (subject.evaluation.y_true, subject.evaluation.y_pred)
    )
    return (
        f"Image {index}, of class {class_text(true)}, predicted as {class_text(predicted)} "
        f"with a probability of {_probability(subject, index, predicted)}"
    )


def _probability(subject: Subject, index: int, label: Any) -> str:
    column = int(np.flatnonzero(subject.evaluation.classes == label)[0])
    return f"{subject.evaluation.y_proba[index, column]:.0%}"


def image_name(subject: Subject, index: int) -> str:
    """What one image is called: its file and the folder of that, or its number."""
    assert subject.images is not None
    item = subject.images.item(index)
    if not isinstance(item, str):
        return f"image {index}"
    # The folder is mostly that of the class; the rest says where someone keeps files.
    return "/".join(item.replace("\\", "/").split("/")[-2:])


def gradcam_section(subject: Subject) -> list[Element]:
    """Heat maps of some images: for the predicted class and, of errors, for the true one."""
    if subject.classifier is None:
        return [needs_network(subject, "a heat map")]
    indices = _looked_at(subject)
    X = through(subject.steps, subject.X)
    source = subject.classifier._source_of(X)[indices]
    evaluation = subject.evaluation
    columns = [
        label_indices(labels[indices], len(indices), evaluation.classes)
        for labels in (evaluation.y_pred, evaluation.y_true)
    ]
    try:
        displays = [
            GradCAMDisplay._computed(
                subject.classifier, source, column, evaluation.y_proba[indices]
            )
            for column in columns
        ]
    except NetworkError as error:
        return [note(f"Left out: {error}")]
    items = [
        element("li", _heat_figure(subject, displays, row, index))
        for row, index in enumerate(indices.tolist())
    ]
    text = (
        f"Grad-CAM of the layer {short_name(displays[0].layer, 60)}: where in the image the "
        "network finds what speaks for a class. The images are as the network sees them."
    )
    scale = element("p", "nothing", element("span"), "most, of each image", class_="scale")
    return [element("p", text), scale, element("ul", *items, class_="pictures wide")]


def _looked_at(subject: Subject) -> np.ndarray:
    """The worst errors, half of what there is room for, and then any other images."""
    evaluation, room = subject.evaluation, min(subject.n_images, subject.evaluation.n_samples)
    wrong = chosen_images(evaluation, "worst", (room + 1) // 2)
    others = chosen_images(evaluation, "random", room)
    rest = others[~np.isin(others, wrong)]
    return np.concatenate([wrong, rest])[:room].astype(int)


def _heat_figure(subject: Subject, displays: list[GradCAMDisplay], row: int, index: int) -> Element:
    is_wrong = displays[0].classes[row] != displays[1].classes[row]
    shown = displays if is_wrong else displays[:1]
    images = [picture(shown[0].images[row], _alt(subject, index), side=SIDE)]
    images += [
        picture(_overlaid(display, row), _heat_alt(display, row), side=SIDE) for display in shown
    ]
    caption: list[Element | str] = ["heat for ", element("b", name_element(shown[0].classes[row]))]
    caption.append(f" {shown[0].probabilities[row]:.0%}")
    if is_wrong:
        caption += [", then for the true ", element("b", name_element(shown[1].classes[row]))]
        caption.append(f" {shown[1].probabilities[row]:.0%}")
    group = element("div", *images, class_="maps")
    return element("figure", group, element("figcaption", *caption))


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
    label = class_text(display.classes[row])
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


def embedding_section(subject: Subject) -> list[Element]:
    """The images as points, near each other where the network sees them alike."""
    if subject.classifier is None:
        return [needs_network(subject, "an embedding")]
    n_images = subject.evaluation.n_samples
    if n_images < FEWEST_TO_EMBED:
        return [note(f"Left out: {count_text(n_images, 'image')} cannot be arranged.")]
    display = EmbeddingDisplay.from_estimator(
        subject.estimator, subject.X, subject.evaluation.y_true
    )
    n_classes = len(np.unique(subject.evaluation.y_true))
    alt = (
        f"The features of {count_text(n_images, 'image')} of "
        f"{count_text(n_classes, 'class', 'classes')} on a plane, by t-SNE"
    )
    text = (
        "Each point is an image, with its true class; near each other are images whose features "
        "are alike. Distances between far groups mean little."
    )
    return [element("p", text), finished(display.figure_, alt)]
