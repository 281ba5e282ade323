"""Labels that are likely wrong, by heads that have not seen the image."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from transferclf._printing import say
from transferclf.images.progress import bar_if
from transferclf.objectives import Classes
from transferclf.training.judging import held_out_probabilities
from transferclf.training.regularization import choose_l2

N_FOLDS = 5

# The penalty is chosen on about so many images: more take longer and find hardly more errors.
PENALTY_IMAGES = 3000


class Judgement(NamedTuple):
    """How likely the labels of n images are right.

    `quality` is the probability of the label and `probabilities` those of all classes, out of
    fold; NaN where nothing can be said. `suggested` is the most probable other class.
    """

    quality: np.ndarray
    suggested: np.ndarray
    is_suspect: np.ndarray
    probabilities: np.ndarray


def judged_labels(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    groups: np.ndarray,
    verbose: int = 0,
) -> Judgement:
    """Return how likely each label is right; images of one group are in one fold.

    The linear head is fitted to four fifths of the images and judges the last fifth, five times.
    A label is suspect where some other class is at least as probable as it is, on average, for
    the images with that class as their label: Northcutt, Jiang and Chuang, "Confident Learning:
    Estimating Uncertainty in Dataset Labels", Journal of Artificial Intelligence Research 70
    (2021).
    """
    probabilities = _out_of_fold(features, labels, n_classes, groups, verbose)
    own, others = _own_and_others(probabilities, labels)
    is_known, is_suspect = ~np.isnan(own), np.zeros(len(labels), dtype=bool)
    if is_known.any():
        is_suspect[is_known] = suspects(probabilities[is_known], labels[is_known])
    return Judgement(own, others.argmax(axis=1), is_suspect, probabilities)


def suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which labels are likely wrong, by out-of-fold probabilities without NaN.

    A label is suspect where the most probable other class is more probable than the label, and
    some other class is at least as probable as it is, on average, for images with its label.
    Classes that no label has do not count.
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


def _out_of_fold(
    features: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray, verbose: int
) -> np.ndarray:
    """Out-of-fold probabilities; NaN where no head knows the class of the image."""
    fold_of = _folds(labels, groups)
    if fold_of is None:
        return np.full((len(labels), n_classes), np.nan)
    l2 = _penalty(features, labels, n_classes, groups, verbose)
    with bar_if(verbose, len(labels), "labels judged") as advance:
        return held_out_probabilities(features, labels, n_classes, fold_of, l2=l2, advance=advance)


def _penalty(
    features: np.ndarray, labels: np.ndarray, n_classes: int, groups: np.ndarray, verbose: int
) -> float:
    """The penalty of the heads, chosen on a stratified part of the images."""
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
    """The fold of each image, stratified, groups kept whole; None where two are impossible."""
    largest = np.bincount(labels).max(initial=0)
    n_folds = min(N_FOLDS, int(largest), len(np.unique(groups)))
    if n_folds < 2:
        return None
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=0)
    fold_of = np.full(len(labels), -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes that are not in every fold
        for number, (_, held_out) in enumerate(splitter.split(labels[:, None], labels, groups)):
            fold_of[held_out] = number
    return fold_of
