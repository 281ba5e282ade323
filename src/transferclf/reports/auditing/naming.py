"""Findings of the labels alone: classes that a split lacks, and names that look alike."""

from __future__ import annotations

from collections import Counter
from typing import Any

from transferclf._spelling import look
from transferclf.reports.tables import Row

# Separators that take the place of a space in names of folders.
_NO_SEPARATORS = str.maketrans("", "", "-_.")


def missing_classes(labels: list[Any], splits: list[str] | None) -> list[Row]:
    """Return rows of the classes that are not in every split, the largest class first."""
    if splits is None:
        return []
    names = list(dict.fromkeys(splits))
    counts = Counter(labels)
    there = set(zip(labels, splits, strict=True))
    rows = []
    for label, count in counts.most_common():
        missing = [name for name in names if (label, name) not in there]
        if missing:
            having = [name for name in names if name not in missing]
            about = {"splits": ", ".join(having), "missing_from": ", ".join(missing)}
            rows.append({"label": label, "count": count} | about)
    return rows


def similar_names(labels: list[Any]) -> list[Row]:
    """Return rows of pairs of labels that look alike, the label of more images first."""
    groups: dict[str, list[tuple[Any, int]]] = {}
    for label, count in Counter(labels).most_common():
        groups.setdefault(skeleton(label), []).append((label, count))
    return [
        {"label": label, "count": count, "other_label": other, "other_count": other_count}
        for (label, count), *others in groups.values()
        for other, other_count in others
    ]


def skeleton(label: Any) -> str:
    """Return the look of a name without hyphens, underscores and full stops.

    Names of separators alone, such as "-" and "_", are compared as they are. So are numbers:
    -1 and 1 do not look alike.
    """
    if not isinstance(label, str):
        return f"{type(label).__name__} {label}"
    text = look(label)
    return text.translate(_NO_SEPARATORS) or text or label
