"""Findings about labels: likely wrong ones, classes that a split lacks, names that look alike."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from transferclf._printing import say
from transferclf._spelling import look
from transferclf.images.progress import bar_if
from transferclf.objectives import Classes
from transferclf.reports.auditing.targets import Targets
from transferclf.reports.kinds import LABELS
from transferclf.reports.tables import Row
from transferclf.training.judging import held_out_probabilities
from transferclf.training.regularization import choose_l2

N_FOLDS = 5

# Images on which the penalty is chosen. More take longer and find hardly more errors.
PENALTY_IMAGES = 3000

# Separators that take the place of a space in names of folders.
_NO_SEPARATORS = str.maketrans("", "", "-_.")


class Judgement(NamedTuple):
    """Probabilities that the labels of n images are right.

    `quality` is the out-of-fold probability of the label, and `probabilities` has those of all
    classes. They are NaN for the only image of a class. `suggested` is the most probable other
    class.
    """

    quality: np.ndarray
    suggested: np.ndarray
    is_suspect: np.ndarray
    probabilities: np.ndarray


def judged_labels(
    features: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray, verbose: int = 0
) -> Judgement:
    """Return how likely each label is right; images of one group are in one fold.

    A linear head is fitted to four fifths of the images and judges the others, five times. Labels
    are suspect by confident learning: Northcutt, Jiang and Chuang, "Confident Learning: Estimating
    Uncertainty in Dataset Labels", Journal of Artificial Intelligence Research 70 (2021).
    """
    probabilities = np.full((len(labels), n_classes), np.nan)
    fold_of = _folds(labels, groups)
    if fold_of is not None:
        l2 = _penalty(features, labels, n_classes, groups, verbose)
        with bar_if(verbose, len(labels), "labels judged") as advance:
            probabilities = held_out_probabilities(
                features, labels, n_classes, fold_of, l2=l2, advance=advance
            )
    own, others = _own_and_others(probabilities, labels)
    is_known, is_suspect = ~np.isnan(own), np.zeros(len(labels), dtype=bool)
    if is_known.any():
        is_suspect[is_known] = suspects(probabilities[is_known], labels[is_known])
    return Judgement(own, others.argmax(axis=1), is_suspect, probabilities)


def judged_columns(
    features: np.ndarray, table: np.ndarray, groups: np.ndarray, verbose: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return how likely each entry of an indicator is right, and which are suspect, (n, n_labels).

    Each label is judged as two classes are. Labels that all images but one have, or lack, are not
    judged: their probabilities are NaN.
    """
    quality = np.full(table.shape, np.nan)
    is_suspect = np.zeros(table.shape, dtype=bool)
    for column, labels in enumerate(table.T):
        if np.bincount(labels, minlength=2).min() < 2:
            continue
        judged = judged_labels(features, labels, 2, groups, verbose)
        quality[:, column], is_suspect[:, column] = judged.quality, judged.is_suspect
    return quality, is_suspect


def label_counts(targets: Targets) -> list[Row]:
    """Return rows with the number of images of each of several labels, the most frequent first."""
    if targets.kind != LABELS:
        return []
    assert targets.table is not None
    assert targets.names is not None
    counts = targets.table.sum(axis=0)
    rows = [
        {"label": label, "count": int(count), "share": count / max(len(targets.table), 1)}
        for label, count in zip(targets.names.tolist(), counts, strict=True)
    ]
    return sorted(rows, key=lambda row: -row["count"])


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which labels are likely wrong, by out-of-fold probabilities without NaN.

    A label is suspect if the most probable other class is more probable than the label, and some
    other class is at least as probable as that class is on average for images with its label.
    Classes without images do not count.
    """
    known, codes = np.unique(labels, return_inverse=True)
    among_known = probabilities[:, known]
    among_known = among_known / np.maximum(among_known.sum(axis=1, keepdims=True), 1e-12)
    own, others = _own_and_others(among_known, codes)
    usual = np.bincount(codes, own) / np.bincount(codes)
    return (others >= usual).any(axis=1) & (others.max(axis=1) > own)


def _own_and_others(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(labels))
    others = np.nan_to_num(probabilities, nan=-1)
    others[rows, labels] = -1
    return probabilities[rows, labels], others


def _penalty(
    features: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray, verbose: int
) -> float:
    """Return the penalty of the heads, chosen on a stratified part of the images."""
    n_images = len(labels)
    order = np.lexsort((np.random.default_rng(0).random(n_images), labels))
    part = np.sort(order[:: max(n_images // PENALTY_IMAGES, 1)])
    if verbose:
        say(f"choosing the penalty of the heads that judge labels, on {len(part)} images")
    l2 = choose_l2(
        features[part],
        labels[part],
        Classes.numbered(n_classes),
        sample_weight=np.ones(len(part)),
        groups=groups[part],
        verbose=verbose,
    )
    # The sum over all images should weigh as much against the penalty as it did in the part.
    return l2 * len(part) / n_images


def _folds(labels: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Return stratified folds that keep groups whole, (n,); None if two folds are impossible."""
    largest = np.bincount(labels).max(initial=0)
    n_folds = min(N_FOLDS, int(largest), len(np.unique(groups)))
    if n_folds < 2:
        return None
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    fold_of = np.full(len(labels), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about classes that are not in every fold
        for number, (_, held_out) in enumerate(splitter.split(labels[:, None], labels, groups)):
            fold_of[held_out] = number
    return fold_of


def missing_classes(labels: list[object], splits: Iterable[str] | None) -> list[Row]:
    """Return rows of the classes that are not in every split, the largest class first."""
    if splits is None or not labels:
        return []
    names, there = dict.fromkeys(splits), set(zip(labels, splits, strict=True))
    rows = []
    for label, count in Counter(labels).most_common():
        having = [name for name in names if (label, name) in there]
        missing = [name for name in names if (label, name) not in there]
        if missing:
            about = {"splits": ", ".join(having), "missing_from": ", ".join(missing)}
            rows.append({"label": label, "count": count} | about)
    return rows


def similar_names(labels: list[object]) -> list[Row]:
    """Return rows of pairs of labels that look alike, the label of more images first."""
    groups: dict[str, list[tuple[object, int]]] = {}
    for label, count in Counter(labels).most_common():
        groups.setdefault(skeleton(label), []).append((label, count))
    return [
        {"label": label, "count": count, "other_label": other, "other_count": other_count}
        for (label, count), *others in groups.values()
        for other, other_count in others
    ]


def skeleton(label: object) -> str:
    """Return the look of a name without hyphens, underscores and full stops.

    Names of separators or blanks alone, such as "-" and " ", are compared as they are. So are
    numbers: -1 and 1 do not look alike.
    """
    if not isinstance(label, str):
        return f"{type(label).__name__} {label}"
    text = look(label)
    return text.translate(_NO_SEPARATORS) or text or unicodedata.normalize("NFKC", label)
