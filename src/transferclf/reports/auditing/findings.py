"""Audit: the findings about a set of images, as tables and as a text with advice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from sklearn.utils import Bunch

from transferclf._printing import printable
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS
from transferclf.reports.names import count_text, short_name
from transferclf.reports.tables import Row, rows_of

if TYPE_CHECKING:
    from pandas import DataFrame

# Printed at most: rows of a table, last parts of a path, copies of one image.
SHOWN, PARTS, COPIES = 5, 3, 4

_NOUNS = {CLASSES: ("class", "classes"), LABELS: ("label",), NUMBERS: ("output",)}

_IMAGE = ("index", "file", "label", "split")
_PAIR = (
    *_IMAGE, "other_index", "other_file", "other_label", "other_split", "similarity", "kind",
)  # fmt: skip
COLUMNS = {
    "unreadable": ("index", "file", "label", "split", "problem"),
    "missing_classes": ("label", "count", "splits", "missing_from"),
    "similar_names": ("label", "count", "other_label", "other_count"),
    "cropped": (*_IMAGE, "width", "height", "seen"),
    "sizes": ("width", "height", "mode", "format", "count"),
    "exact_duplicates": ("group", *_IMAGE),
    "near_duplicates": _PAIR,
    "label_conflicts": _PAIR,
    "leaks": _PAIR,
    "label_errors": (*_IMAGE, "suggested", "probability", "suggested_probability"),
    "odd_ones": (*_IMAGE, "distance", "deviations"),
}
# Further tables, and further columns of tables, of targets that are no classes.
_MORE_COLUMNS: dict[str, dict[str, tuple[str, ...]]] = {
    CLASSES: {},
    LABELS: {
        "label_errors": (*COLUMNS["label_errors"], "target"),
        "label_counts": ("label", "count", "share"),
    },
    NUMBERS: {
        "outlying_values": (*_IMAGE, "target", "value", "predicted", "deviations"),
    },
}


def columns_of(kind: str) -> dict[str, tuple[str, ...]]:
    """Return the columns of all tables for a kind of target."""
    return COLUMNS | _MORE_COLUMNS[kind]


class Audit(Bunch):
    """The findings about a set of images; made by :func:`audit`.

    The tables are data frames of pandas. "index" is the position in X and "file" the path, if there
    is one; "label" and "split" are as given. Several labels or numbers of an image are joined in
    "label".

    Attributes
    ----------
    n_images : int
        Number of images, including those that cannot be read.
    classes : ndarray of shape (n_classes,) or None
        The classes, the names of several labels, or those of the outputs.
    kind : {"classes", "multilabel", "numbers"}
        The kind of target.
    splits : list of str or None
        The names of the splits.
    threshold : float
        The cosine from which images are near copies.
    unreadable : DataFrame
        Images that cannot be read, with the "problem".
    missing_classes : DataFrame
        Classes that are not in every split: "label", "count" of its images, the "splits" that have
        it, and those it is "missing_from".
    similar_names : DataFrame
        Pairs of labels that differ only in case, spaces, separators or Unicode form: "label",
        "count", "other_label" and "other_count".
    cropped : DataFrame
        Images that ``resize="crop"`` cuts by more than half: "width", "height", and the share of
        the area that is "seen", the lowest first.
    sizes : DataFrame
        "width", "height", "mode" and "format" of the images as they came, and the "count".
    exact_duplicates : DataFrame
        Files with the same bytes, or images with the same pixels; those of one "group" together.
    near_duplicates : DataFrame
        Images and their most similar other one ("other_index", "other_file", "other_label",
        "other_split"), with the "similarity", the highest first.
    label_conflicts : DataFrame
        Images and their most similar one with another label, from `threshold` on; "kind" is "exact"
        or "near".
    leaks : DataFrame
        Images and their most similar one in another split, likewise.
    label_errors : DataFrame
        Images whose label is likely wrong, with the "suggested" class and the probabilities of
        both; the least probable label first. For several labels the label in question is in
        "target": "suggested" is that label where the image lacks it, or "not LABEL" where the image
        has it.
    label_counts : DataFrame
        For several labels only: "label", "count" and "share" of the images that have it.
    outlying_values : DataFrame
        For numbers only: the "value" of an output ("target"), the number "predicted" by a ridge
        regression that was fitted without the image and its copies, and the "deviations" of their
        difference from the median of all differences; the farthest first.
    odd_ones : DataFrame
        Images unlike others of their label: mean "distance" (1 - cosine) to the nearest of them,
        and its "deviations" above the median.
    quality : ndarray of shape (n,)
        Probability of each label by a head that was fitted without the image and its copies. NaN
        without labels, with one class, and for the only image of a class. For several labels it is
        the lowest of the probabilities that the image has, or lacks, a label. NaN for numbers.
    distance : ndarray of shape (n,)
        The distance by which odd ones are found, for all images.
    seen : ndarray of shape (n,)
        The share of each image's area that the network sees: below 1 where ``resize="crop"`` cuts
        something off. NaN for unreadable ones.
    groups : ndarray of int, shape (n,)
        Number of each image's group of copies and near copies, -1 for unreadable ones. Pass it to
        `sklearn.model_selection.GroupKFold`, which keeps copies on one side.

    Notes
    -----
    Label errors are found by confident learning: Northcutt, Jiang and Chuang, Journal of Artificial
    Intelligence Research 70 (2021). The mean distance to the nearest neighbours is from Angiulli
    and Pizzuti, "Fast Outlier Detection in High Dimensional Spaces", PKDD 2002. An image is odd if
    its distance is more than 3.5 times the scaled median absolute deviation above the median of its
    class (Iglewicz and Hoaglin 1993). Numbers are outlying by the same rule, above or below.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf.reports import audit
    >>> print(audit(np.zeros((3, 16, 16), np.uint8)))
    3 images, no labels, no splits
    <BLANKLINE>
    exact duplicates: 3 images in 1 group
      image 0 = image 1 = image 2
      Keep one of each group.
    <BLANKLINE>
    sizes: 1 kind
      3 of 16 x 16, 1 x uint8, array
    """

    def __str__(self) -> str:
        *texts, sizes = [_section(*section) for section in _sections(self)]
        texts += [_section(*section) for section in _other_sections(self)]
        found = list(filter(None, texts)) or ["Nothing was found."]
        return printable("\n\n".join(filter(None, [_head_text(self), *found, sizes])))

    def __repr__(self) -> str:
        names = columns_of(self.kind)
        counts = (f"{name}={len(self[name])}" for name in names if name != "sizes")
        return f"<Audit of {count_text(self.n_images, 'image')}: {', '.join(counts)}>"


def _head_text(audit: Audit) -> str:
    n_classes = "no labels"
    if audit.classes is not None:
        n_classes = count_text(len(audit.classes), *_NOUNS[audit.kind])
    n_splits = "no splits" if audit.splits is None else count_text(len(audit.splits), "split")
    return f"{count_text(audit.n_images, 'image')}, {n_classes}, {n_splits}"


def _sections(audit: Audit) -> list[tuple]:
    """Return title, noun, table, text of a row and advice for each kind of finding."""
    copies = grouped(rows_of(audit.exact_duplicates))
    n_copies = f"{count_text(len(audit.exact_duplicates), 'image')} in "
    exact = n_copies + count_text(len(copies), "group")
    lacking = count_text(len(audit.missing_classes), "class", "classes")
    seen = audit.seen[~np.isnan(audit.seen)]
    usual = f"{np.median(seen):.0%}" if len(seen) else "all"
    return [
        ("unreadable", "image", audit.unreadable,
         lambda row: f"{_named(row)}: {short_name(row['problem'], 100)}",
         "Repair or remove them."),
        ("leaks between splits", "pair", audit.leaks, _pair_line,
         "Scores on the second split are too good: remove them from one, or split by `groups`."),
        ("classes that are not in every split", lacking, audit.missing_classes, _class_line,
         "Scores on a split say nothing of classes that it lacks. Was one renamed?"),
        ("names that look alike", "pair", audit.similar_names, _names_line,
         "They count as different classes: rename one where they are the same."),
        ("copies with different labels", "pair", audit.label_conflicts, _pair_line,
         "Decide which label is right."),
        ("likely label errors", "image", audit.label_errors, _label_line, "Look at them."),
        ("exact duplicates", exact, copies, _copies_line, "Keep one of each group."),
        ("near duplicates", "pair", audit.near_duplicates, _pair_line,
         "Keep them on one side when splitting: `groups` is for GroupKFold."),
        ("odd ones out", "image", audit.odd_ones,
         lambda row: f"{_placed(row)}: {row['deviations']:.1f} deviations",
         "Look at them: another subject, a drawing, an empty picture?"),
        ("cut by more than half", "image", audit.cropped,
         lambda row: f"{_placed(row)}: {_sides(row)}, {row['seen']:.0%} of it is seen",
         f'The network sees {usual} of the median image. resize="pad" shows the whole image '
         'between borders, resize="stretch" shows it distorted.'),
        ("sizes", "kind", audit.sizes,
         lambda row: f"{row['count']:,} of {_sides(row)}, {row['mode']}, {row['format']}"),
    ]  # fmt: skip


def _other_sections(audit: Audit) -> list[tuple]:
    """Return title, noun, table, text of a row and advice for findings about other targets."""
    if audit.kind == LABELS:
        return [
            ("images with each label", "label", audit.label_counts,
             lambda row: f"{short_name(row['label'])}: {row['count']:,} ({row['share']:.0%})"),
        ]  # fmt: skip
    if audit.kind == NUMBERS:
        return [
            ("values far from their prediction", "value", audit.outlying_values, _value_line,
             "Look at them: a wrong unit, a slip of the pen, another kind of image?"),
        ]  # fmt: skip
    return []


def _value_line(row: Row) -> str:
    numbers = f"{row['value']:.6g} where {row['predicted']:.4g} is predicted"
    # A single output has no name, but the number 0.
    output = "" if row["target"] == 0 else f"{short_name(row['target'])} "
    return f"{_placed(row | {'label': None})}: {output}{numbers}"


def _section(
    title: str,
    noun: str,
    table: DataFrame | list[list[Row]],
    line_of: Callable[..., str],
    *advice: str,
) -> str:
    """Return the findings in one table as text; empty if there are none."""
    rows = table if isinstance(table, list) else rows_of(table)
    if not rows:
        return ""
    count = noun if " " in noun else count_text(len(rows), noun)
    kind = " kinds" if noun == "kind" else ""
    more = [f"... and {len(rows) - SHOWN:,} more{kind}"] if len(rows) > SHOWN else []
    lines = [*map(line_of, rows[:SHOWN]), *more, *advice]
    return "\n".join([f"{title}: {count}", *(f"  {line}" for line in lines)])


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows of each group of copies, the largest group first."""
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    return sorted(groups.values(), key=len, reverse=True)


def _named(row: Row, prefix: str = "") -> str:
    """Return the file of an image, or its number."""
    file = row[f"{prefix}file"]
    if not file:
        return f"image {row[f'{prefix}index']}"
    return short_name("/".join(PurePath(file).parts[-PARTS:]), 48)


def _placed(row: Row, prefix: str = "") -> str:
    """Return the file of an image with its label and split, if there are any."""
    places = [row[f"{prefix}label"], row[f"{prefix}split"]]
    text = ", ".join(short_name(place) for place in places if place is not None)
    return f"{_named(row, prefix)} ({text})" if text else _named(row, prefix)


def _pair_line(row: Row) -> str:
    sign = "=" if row["kind"] == "exact" else f"~ {row['similarity']:.3f} ~"
    return f"{_placed(row)} {sign} {_placed(row, 'other_')}"


def _copies_line(rows: Sequence[Row]) -> str:
    more = [f"{len(rows) - COPIES} more"] if len(rows) > COPIES else []
    return " = ".join([*map(_placed, rows[:COPIES]), *more])


def _label_line(row: Row) -> str:
    shares = f"{row['suggested_probability']:.2f} against {row['probability']:.2f}"
    return f"{_placed(row)}: rather {short_name(row['suggested'])} ({shares})"


def _class_line(row: Row) -> str:
    label, there, missing = (short_name(row[name]) for name in ("label", "splits", "missing_from"))
    return f"{label} ({count_text(row['count'], 'image')} in {there}): not in {missing}"


def _sides(row: Row) -> str:
    return f"{row['width']} x {row['height']}"


def _names_line(row: Row) -> str:
    # Letters beyond ASCII are escaped: two ways to write one letter look the same.
    one, other = (short_name(ascii(row[name]), 40) for name in ("label", "other_label"))
    return f"{one} ({row['count']:,}) ~ {other} ({row['other_count']:,})"
