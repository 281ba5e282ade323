"""The section about the data themselves: copies, likely wrong labels, odd ones out."""

from __future__ import annotations

from transferclf.estimators.extractor import CNNFeatureExtractor
from transferclf.reports.auditing.audits import audit
from transferclf.reports.auditing.findings import grouped
from transferclf.reports.names import count_text
from transferclf.reports.page.rendering import name_text
from transferclf.reports.page.subject import Content, Subject, note
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


def audit_findings(subject: Subject) -> Content:
    """Copies among the images, labels that are likely wrong, and images unlike all others."""
    if subject.images is None:
        return note(subject.no_images)
    if not subject.audit:
        return note("Left out, as audit=False says.")
    found = audit(subject.X, subject.evaluation.y_true, extractor=_extractor(subject))
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
        )
    ]
    groups = grouped(rows_of(found.exact_duplicates))[: subject.n_images]
    copies = [_copies(subject, rows) for rows in groups]
    findings.append({"heading": "Exact copies", "kind": "copies", "rows": copies})
    counts = [(name, f"{len(found[key]):,}") for key, name in COUNTED.items()]
    return {"counts": counts, "findings": findings, "sizes": _sizes(rows_of(found.sizes))}


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


def _doubtful(subject: Subject, row: Row) -> Row:
    index, label, suggested = row["index"], row["label"], row["suggested"]
    alt = f"Image {index}, labelled {name_text(label)}, perhaps {name_text(suggested)}"
    shares = {name: f"{row[name]:.0%}" for name in ("probability", "suggested_probability")}
    return _shown(subject, row, alt) | {"suggested": suggested} | shares


def _odd(subject: Subject, row: Row) -> Row:
    alt = f"Image {row['index']}, labelled {name_text(row['label'])}, unlike others of its class"
    return _shown(subject, row, alt)


def _shown(subject: Subject, row: Row, alt: str) -> Row:
    index = row["index"]
    name = subject.image_name(index)
    return {"pictures": [subject.picture(index, alt)], "label": row["label"], "name": name}


def _pair(subject: Subject, row: Row) -> Row:
    one, other = (
        _shown(subject, about, f"Image {about['index']}, labelled {name_text(about['label'])}")
        for about in (row, {"index": row["other_index"], "label": row["other_label"]})
    )
    kind = "the same" if row["kind"] == "exact" else f"similarity {row['similarity']:.2f}"
    pictures = one["pictures"] + other["pictures"]
    others = {"other_label": other["label"], "other_name": other["name"]}
    return one | others | {"pictures": pictures, "kind": kind}


def _copies(subject: Subject, rows: list[Row]) -> Row:
    """A picture of an image that is there several times, with all the names it has."""
    index, number = rows[0]["index"], count_text(len(rows), "image")
    names = ", ".join(subject.image_name(row["index"]) for row in rows)
    alt = f"Image {index}, labelled {name_text(rows[0]['label'])}, one of {number} alike"
    return {"pictures": [subject.picture(index, alt)], "number": number, "names": names}


def _sizes(kinds: list[Row]) -> list[Row]:
    rows = [
        row | {"sides": f"{row['width']} x {row['height']}", "count": f"{row['count']:,}"}
        for row in kinds[:N_SIZES]
    ]
    rest = kinds[N_SIZES:]
    if rest:
        count = f"{sum(row['count'] for row in rest):,}"
        sides = count_text(len(rest), "other kind")
        rows.append({"sides": sides, "mode": "", "format": "", "count": count})
    return rows
