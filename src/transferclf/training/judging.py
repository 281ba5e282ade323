"""Judging samples by heads that have not seen them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from transferclf.heads.blocks import StandardRows
from transferclf.heads.linear import few_threads
from transferclf.images.progress import Advance, unseen
from transferclf.images.threads import thread_count
from transferclf.objectives import Classes
from transferclf.training.regularization import Fold, principal_rows


def held_out_probabilities(
    features: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    fold_of: np.ndarray,
    *,
    l2: float,
    advance: Advance = unseen,
) -> np.ndarray:
    """Return probabilities (n, n_classes) of samples by heads that were fitted to all other folds.

    `fold_of` is the number of the fold of each sample. Rows of samples whose class no other fold
    has are NaN. `advance` is called after each fold with the number of newly judged samples. The
    heads are fitted with the tolerance that a penalty is chosen with: enough to judge samples, in a
    small part of the time that the optimum would take.
    """
    probabilities = np.full((len(labels), n_classes), np.nan)
    masks = [fold_of == number for number in np.unique(fold_of)]
    # A thread for each fold, and one of BLAS in each: several threads of BLAS would spend most of
    # their time on waiting for each other, since L-BFGS works with many short vectors.
    pool = ThreadPoolExecutor(min(len(masks), thread_count()))
    with few_threads(0):
        rows = principal_rows(features, np.ones(len(labels)))
        try:
            judged = pool.map(lambda mask: _judged(rows, labels, n_classes, mask, l2), masks)
            for mask, found in zip(masks, judged, strict=True):
                probabilities[mask] = found
                advance(len(found))
        finally:
            pool.shutdown(cancel_futures=True)
    return probabilities


def _judged(
    rows: StandardRows, labels: np.ndarray, n_classes: int, is_held_out: np.ndarray, l2: float
) -> np.ndarray:
    """Return the probabilities of the held-out samples, NaN where their class is not known."""
    found = np.full((np.count_nonzero(is_held_out), n_classes), np.nan)
    known = np.unique(labels[~is_held_out])
    if len(known) < 2:
        return found
    # Held-out samples of other classes get a code too, which does not count.
    codes, classes = np.searchsorted(known, labels), Classes.numbered(len(known))
    fold = Fold(rows, codes, np.ones(len(labels)), is_held_out, classes)
    is_known = np.isin(labels[is_held_out], known)
    found[is_known] = 0  # of classes that no other fold has
    found[np.ix_(is_known, known)] = classes.link(fold.held_out_scores(l2))[is_known]
    return found
