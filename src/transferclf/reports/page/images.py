"""Sections of images: errors, heat maps, the embedding, and findings about the data."""

from __future__ import annotations

import numpy as np
from PIL import Image

from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.estimators.reading import images_of
from transferclf.exceptions import NetworkError
from transferclf.reports.auditing.audits import audit
from transferclf.reports.auditing.findings import grouped
from transferclf.reports.displays.embedding import EmbeddingDisplay
from transferclf.reports.displays.gradcam import GradCAMDisplay, heat_display
from transferclf.reports.displays.grid import chosen_images
from transferclf.reports.evaluations.multilabel import MultilabelEvaluation
from transferclf.reports.evaluations.numbers import RegressionEvaluation
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS
from transferclf.reports.names import count_text
from transferclf.reports.page.rendering import Embedded, drawing, name_text, picture
from transferclf.reports.page.subject import SIDE, Content, Subject, note
from transferclf.reports.predictions import label_indices, through
from transferclf.reports.tables import Row, extra, rows_of

KINDS = {
    "worst": ("Worst errors", "Errors whose true class has the lowest probability."),
    "confident": ("Most confident errors", "Errors whose predicted class has the highest."),
    "uncertain": ("Least certain", "Right or wrong, the two most probable classes are close."),
}

FEWEST_TO_EMBED = 5  # with fewer images there is nothing to arrange

OPACITY = 0.5

N_SIZES = 8  # sizes of images that are listed, the most frequent first

COUNTED = {
    "exact_duplicates": "exact copies",
    "near_duplicates": "near copies",
    "label_conflicts": "alike, other label",
    "label_errors": "doubtful labels",
    "odd_ones": "odd ones",
    "outlying_values": "outlying values",
}


def pictures(subject: Subject) -> Content:
    """Return images that are wrong or nearly so, with their probabilities."""
    evaluation = subject.evaluation
    if subject.images is None:
        return note(subject.no_images)
    if evaluation.y_proba is None:
        return note(f"Left out: {subject.kind} gives no probabilities.")
    n_errors = sum(pair["count"] for pair in evaluation.confused)
    kinds = []
    for kind, (heading, text) in KINDS.items():
        # If all errors are shown, another order of them shows nothing more.
        if kind == "confident" and n_errors <= subject.n_images:
            continue
        images = []
        for index in chosen_images(evaluation, kind, subject.n_images).tolist():
            true, predicted = evaluation.y_true[index], evaluation.y_pred[index]
            about = {
                "picture": subject.picture(index, _alt(subject, index)),
                "predicted": predicted,
                "probability": _probability(subject, index, predicted),
                "is_wrong": true != predicted,
                "true": true,
                "true_probability": _probability(subject, index, true),
                "name": subject.image_name(index),
            }
            images.append(about)
        kinds.append({"heading": heading, "text": text, "images": images})
    return {"kinds": kinds}


def _alt(subject: Subject, index: int) -> str:
    true, predicted = subject.evaluation.y_true[index], subject.evaluation.y_pred[index]
    return (
        f"Image {index}, of class {name_text(true)}, predicted as {name_text(predicted)} "
        f"with a probability of {_probability(subject, index, predicted)}"
    )


def _probability(subject: Subject, index: int, label: object) -> str:
    column = np.flatnonzero(subject.evaluation.classes == label)[0]
    return f"{subject.evaluation.y_proba[index, column]:.0%}"


def gradcam(subject: Subject) -> Content:
    """Return heat maps of some images: for the predicted class and, of errors, the true one."""
    if subject.classifier is None:
        return subject.needs_network("a heat map")
    evaluation, room = subject.evaluation, min(subject.n_images, subject.evaluation.n_samples)
    # The worst errors take up to half of the room, and any other images the rest.
    wrong = chosen_images(evaluation, "worst", (room + 1) // 2)
    others = chosen_images(evaluation, "random", room)
    indices = np.concatenate([wrong, others[~np.isin(others, wrong)]])[:room].astype(int)
    source = images_of(subject.classifier, through(subject.steps, subject.X))[indices]
    displays = []
    for labels in (evaluation.y_pred, evaluation.y_true):
        columns = label_indices(labels[indices], len(indices), evaluation.classes)
        values = evaluation.y_proba[indices]
        try:
            displays.append(heat_display(subject.classifier, source, columns, values))
        except NetworkError as error:
            return note(f"Left out: {error}")
    images = []
    for row, index in enumerate(indices.tolist()):
        is_wrong = evaluation.y_pred[index] != evaluation.y_true[index]
        shown = displays if is_wrong else displays[:1]
        pictures = [picture(displays[0].images[row], _alt(subject, index), SIDE)]
        pictures += [_heat_map(one, row) for one in shown]
        maps = [(one.classes[row], f"{one.probabilities[row]:.0%}") for one in shown]
        images.append({"pictures": pictures, "maps": maps})
    return {"layer": displays[0].layer, "images": images}


def maps_of(
    subject: Subject,
    indices: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    alts: list[str],
) -> Content:
    """Return one heat map of each image, for the output in this column; `values` are of all."""
    assert subject.classifier is not None
    source = images_of(subject.classifier, through(subject.steps, subject.X))[indices]
    try:
        display = heat_display(subject.classifier, source, columns, values)
    except NetworkError as error:
        return note(f"Left out: {error}")
    images = []
    for row, alt in enumerate(alts):
        pictures = [picture(display.images[row], alt, SIDE), _heat_map(display, row)]
        value = f"{display.probabilities[row]:{display.number_format}}"
        images.append({"pictures": pictures, "maps": [(display.classes[row], value)]})
    is_of_numbers = isinstance(subject.evaluation, RegressionEvaluation)
    what = "a larger number" if is_of_numbers else "a label"
    return {"layer": display.layer, "images": images, "what": what}


def _heat_map(display: GradCAMDisplay, row: int) -> Embedded:
    """Return an image under its map."""
    from matplotlib import colormaps

    image, heat = display.images[row], display.heatmaps[row]
    size = image.shape[1], image.shape[0]
    large = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    colours = colormaps["viridis"](np.asarray(large))[..., :3] * 255
    overlaid = np.rint((1 - OPACITY) * image + OPACITY * colours).astype(np.uint8)
    label = name_text(display.classes[row])
    if not heat.any():
        return picture(overlaid, f"Nothing in it speaks for {label}", SIDE)
    top, left = np.unravel_index(heat.argmax(), heat.shape)
    row_word = ("top", "middle", "bottom")[int(3 * (top + 0.5) / heat.shape[0])]
    column_word = ("left", "middle", "right")[int(3 * (left + 0.5) / heat.shape[1])]
    place = f"{row_word} {column_word}".replace("middle middle", "the middle")
    return picture(overlaid, f"Heat map for {label}, hottest at {place}", SIDE)


def embedding(subject: Subject) -> Content:
    """Return the images as points, close together where the network sees them alike."""
    y = subject.evaluation.y_true
    shown = (
        f"{count_text(subject.evaluation.n_samples, 'image')} of "
        f"{count_text(len(np.unique(y)), 'class', 'classes')}"
    )
    text = (
        "Each point is an image, with its true class; near each other are images whose features "
        "are alike. Distances between far groups mean little."
    )
    return embedding_of(subject, y, shown, text)


def embedding_of(subject: Subject, y: np.ndarray, shown: str, text: str) -> Content:
    """Return the images as points in the colours of these labels; `shown` says them in words."""
    if subject.classifier is None:
        return subject.needs_network("an embedding")
    n_images = subject.evaluation.n_samples
    if n_images < FEWEST_TO_EMBED:
        return note(f"Left out: {count_text(n_images, 'image')} cannot be arranged.")
    display = EmbeddingDisplay.from_estimator(subject.estimator, subject.X, y)
    alt = f"The features of {shown} on a plane, by t-SNE"
    return {"text": text, "drawings": [drawing(display.figure_, alt)]}


def audit_findings(subject: Subject) -> Content:
    """Return copies among the images, likely wrong labels, and images unlike all others."""
    if subject.images is None:
        return note(subject.no_images)
    if not subject.audit:
        return note("Left out, as audit=False says.")
    y, kind_of_y = _targets(subject)
    found = audit(subject.X, y, kind=kind_of_y, extractor=_extractor(subject))
    findings = [
        {
            "heading": heading,
            "kind": kind,
            "rows": [captioned(subject, row) for row in rows_of(found[name])[: subject.n_images]],
        }
        for name, heading, kind, captioned in (
            ("label_errors", "Doubtful labels", "doubtful", _doubtful),
            ("label_conflicts", "Alike, with another label", "pair", _pair),
            ("near_duplicates", "Near copies", "pair", _pair),
            ("odd_ones", "Odd ones", "odd", _odd),
            ("outlying_values", "Far from the prediction", "odd", _outlying),
        )
        if name in found
    ]
    groups = grouped(rows_of(found.exact_duplicates))[: subject.n_images]
    copies = [_copies(subject, rows) for rows in groups]
    findings.append({"heading": "Exact copies", "kind": "copies", "rows": copies})
    counts = [(name, f"{len(found[key]):,}") for key, name in COUNTED.items() if key in found]
    return {"counts": counts, "findings": findings, "sizes": _sizes(rows_of(found.sizes))}


def _extractor(subject: Subject) -> CNNFeatureExtractor:
    """Return the bundled network, reading X as the classifier does.

    The thresholds of an audit were measured for the bundled network.
    """
    classifier = subject.classifier
    if classifier is None or subject.steps:
        return CNNFeatureExtractor()
    return CNNFeatureExtractor(
        image_shape=classifier.image_shape,
        pixel_range=classifier.pixel_range_,
        cache=classifier.cache,
        n_jobs=classifier.n_jobs,
    )


def _shown(subject: Subject, row: Row, remark: str = "") -> Row:
    """Return the picture, label and name of an image, in a row of an audit."""
    index, label = row["index"], row["label"]
    alt = f"Image {index}, labelled {name_text(label)}{remark}"
    name = subject.image_name(index)
    return {"pictures": [subject.picture(index, alt)], "label": label, "name": name}


def _doubtful(subject: Subject, row: Row) -> Row:
    shown = _shown(subject, row, f", perhaps {name_text(row['suggested'])}")
    shares = {name: f"{row[name]:.0%}" for name in ("probability", "suggested_probability")}
    return shown | {"suggested": row["suggested"]} | shares


def _odd(subject: Subject, row: Row) -> Row:
    return _shown(subject, row, ", unlike others of its class")


def _outlying(subject: Subject, row: Row) -> Row:
    numbers = f"{row['value']:.6g} where {row['predicted']:.4g} is predicted"
    output = f"{row['target']} " if len(subject.evaluation.outputs) > 1 else ""
    return _shown(subject, row, ", far from its prediction") | {"label": f"{output}{numbers}"}


def _targets(subject: Subject) -> tuple[object, str]:
    """Return the true targets as an audit takes them, and their kind."""
    evaluation = subject.evaluation
    if isinstance(evaluation, MultilabelEvaluation):
        names = evaluation.classes.tolist()
        return extra("pandas").DataFrame(evaluation.y_true, columns=names), LABELS
    if isinstance(evaluation, RegressionEvaluation):
        return evaluation.y_true, NUMBERS
    return evaluation.y_true, CLASSES


def _pair(subject: Subject, row: Row) -> Row:
    one = _shown(subject, row)
    other = _shown(subject, {"index": row["other_index"], "label": row["other_label"]})
    kind = "the same" if row["kind"] == "exact" else f"similarity {row['similarity']:.2f}"
    pictures = one["pictures"] + other["pictures"]
    others = {"other_label": other["label"], "other_name": other["name"]}
    return one | others | {"pictures": pictures, "kind": kind}


def _copies(subject: Subject, rows: list[Row]) -> Row:
    """Return one picture of several copies, with all their names."""
    number = count_text(len(rows), "image")
    names = ", ".join(subject.image_name(row["index"]) for row in rows)
    return _shown(subject, rows[0], f", one of {number} alike") | {"number": number, "names": names}


def _sizes(kinds: list[Row]) -> list[Row]:
    rows = [
        row | {"sides": f"{row['width']} x {row['height']}", "count": f"{row['count']:,}"}
        for row in kinds[:N_SIZES]
    ]
    if rest := kinds[N_SIZES:]:
        count = f"{sum(row['count'] for row in rest):,}"
        sides = count_text(len(rest), "other kind")
        rows.append({"sides": sides, "mode": "", "format": "", "count": count})
    return rows
