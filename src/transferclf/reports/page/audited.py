"""The section about the data themselves: copies, likely wrong labels, odd ones out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element

from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.reports.auditing.audits import audit
from transferclf.reports.auditing.findings import Audit
from transferclf.reports.displays.pictures import picture as pixels_of
from transferclf.reports.names import count_text
from transferclf.reports.page.elements import Child, element, name_element, picture, table
from transferclf.reports.page.images import SIDE, image_name
from transferclf.reports.page.measures import class_text
from transferclf.reports.page.subject import Subject, note
from transferclf.reports.tables import Row, rows_of

# Sizes of images that are listed, the most frequent first.
N_SIZES = 8

COUNTED = {
    "exact_duplicates": "exact copies",
    "near_duplicates": "near copies",
    "label_conflicts": "alike, other label",
    "label_errors": "doubtful labels",
    "odd_ones": "odd ones",
}


def audit_section(subject: Subject) -> list[Element]:
    """Copies among the images, labels that are likely wrong, and images unlike all others."""
    if subject.images is None:
        return [note(subject.no_images)]
    if not subject.audit:
        return [note("Left out, as audit=False says.")]
    found = audit(subject.X, subject.evaluation.y_true, extractor=_extractor(subject))
    text = (
        "Found by the features of the bundled network, whatever the classifier is; to be looked "
        "at by people. Doubtful labels are those that a head finds improbable that has not seen "
        "the image; odd ones are far from all others of their class."
    )
    parts = [element("p", text), _counts(found)]
    for name, heading, figure in (
        ("label_errors", "Doubtful labels", _doubtful),
        ("label_conflicts", "Alike, with another label", _pair),
        ("near_duplicates", "Near copies", _pair),
        ("odd_ones", "Odd ones", _odd),
    ):
        items = [element("li", figure(subject, row)) for row in _first(found[name], subject)]
        wide = "pictures wide" if figure is _pair else "pictures"
        if items:
            parts += [element("h3", heading), element("ul", *items, class_=wide)]
    return [*parts, *_copies(subject, found), element("h3", "Sizes"), _sizes(found)]


def _extractor(subject: Subject) -> CNNFeatureExtractor:
    """The bundled network, whose similarities are known, reading X as the classifier does."""
    if subject.classifier is None or subject.steps:
        return CNNFeatureExtractor()
    classifier = subject.classifier
    return CNNFeatureExtractor(
        image_shape=classifier.image_shape,
        pixel_range=classifier.pixel_range_,
        cache=classifier.cache,
    )


def _first(found: Any, subject: Subject) -> list[Row]:
    return rows_of(found)[: subject.n_images]


def _counts(found: Audit) -> Element:
    entries = [
        element("div", element("dt", name), element("dd", f"{len(found[key]):,}"))
        for key, name in COUNTED.items()
    ]
    return element("dl", *entries, class_="numbers")


def _image(subject: Subject, index: int, alt: str) -> Element:
    assert subject.images is not None
    return picture(pixels_of(subject.images, index, SIDE), alt, side=SIDE)


def _figure(images: Iterable[Element], *caption: Child) -> Element:
    pictures = list(images)
    shown = pictures[0] if len(pictures) == 1 else element("div", *pictures, class_="maps two")
    return element("figure", shown, element("figcaption", *caption))


def _doubtful(subject: Subject, row: Row) -> Element:
    index, label, suggested = row["index"], row["label"], row["suggested"]
    alt = f"Image {index}, labelled {class_text(label)}, perhaps {class_text(suggested)}"
    return _figure(
        [_image(subject, index, alt)],
        "labelled ", element("b", name_element(label)), f" {row['probability']:.0%}, perhaps ",
        element("b", name_element(suggested)), f" {row['suggested_probability']:.0%}",
        element("br"), name_element(image_name(subject, index)),
    )  # fmt: skip


def _pair(subject: Subject, row: Row) -> Element:
    alts = [
        f"Image {row[index]}, labelled {class_text(row[label])}"
        for index, label in (("index", "label"), ("other_index", "other_label"))
    ]
    images = [
        _image(subject, row[index], alt)
        for index, alt in zip(("index", "other_index"), alts, strict=True)
    ]
    kind = "the same" if row["kind"] == "exact" else f"similarity {row['similarity']:.2f}"
    return _figure(
        images,
        element("b", name_element(row["label"])), " and ",
        element("b", name_element(row["other_label"])), f", {kind}", element("br"),
        name_element(image_name(subject, row["index"])), " and ",
        name_element(image_name(subject, row["other_index"])),
    )  # fmt: skip


def _odd(subject: Subject, row: Row) -> Element:
    index, label = row["index"], row["label"]
    alt = f"Image {index}, labelled {class_text(label)}, unlike others of its class"
    name = name_element(image_name(subject, index))
    return _figure(
        [_image(subject, index, alt)], element("b", name_element(label)), element("br"), name
    )


def _copies(subject: Subject, found: Audit) -> list[Element]:
    """A picture of what there is more than once, with all the names it has."""
    groups: dict[int, list[Row]] = {}
    for row in rows_of(found["exact_duplicates"]):
        groups.setdefault(row["group"], []).append(row)
    items = []
    for rows in list(groups.values())[: subject.n_images]:
        index, number = rows[0]["index"], count_text(len(rows), "image")
        names = ", ".join(image_name(subject, row["index"]) for row in rows)
        alt = f"Image {index}, labelled {class_text(rows[0]['label'])}, one of {number} alike"
        caption = (element("b", number), element("br"), name_element(names, 120))
        items.append(element("li", _figure([_image(subject, index, alt)], *caption)))
    if not items:
        return []
    return [element("h3", "Exact copies"), element("ul", *items, class_="pictures")]


def _sizes(found: Audit) -> Element:
    kinds = rows_of(found["sizes"])
    rows: list[tuple[Child, ...]] = [
        (f"{row['width']} x {row['height']}", str(row["mode"]), str(row["format"]),
         f"{row['count']:,}")
        for row in kinds[:N_SIZES]
    ]  # fmt: skip
    rest = kinds[N_SIZES:]
    if rest:
        count = sum(row["count"] for row in rest)
        rows.append((count_text(len(rest), "other kind"), "", "", f"{count:,}"))
    columns = ["width x height", "mode", "format", "images"]
    return table("Sizes of the images as they came, the most frequent first", columns, rows)
