"""Neighbours among images by their features: copies and near copies.

Similarities are computed block by block, so that memory grows linearly with the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from transferclf.images.progress import Advance, unseen

BLOCK_NUMBERS = 2**23  # similarities in memory at a time
EXACT = 2.0  # the similarity of images with the same content, above all others


@dataclass(frozen=True)
class Neighbours:
    """The most similar other image of each of n images, and its cosine.

    Copies have the similarity 1. Where there is no other image, they are -1 and -inf.
    """

    nearest: np.ndarray
    similarity: np.ndarray

    def note(self, rows: np.ndarray, similarity: np.ndarray) -> None:
        """Fill in some images, by their similarities to all images."""
        nearest = similarity.argmax(axis=1)
        values = similarity[np.arange(len(rows)), nearest]
        self.nearest[rows] = np.where(values > -np.inf, nearest, -1)
        self.similarity[rows] = np.minimum(values, 1)


@dataclass(frozen=True)
class Neighbourhood:
    """The neighbours of n images: among all, among other labels, among other splits.

    `groups` numbers the groups of copies and near copies, `exact` those of copies alone, and
    `distance` is the mean distance to the nearest images of the same label, NaN without one.
    """

    of_all: Neighbours
    of_other_label: Neighbours
    of_other_split: Neighbours
    groups: np.ndarray
    exact: np.ndarray
    distance: np.ndarray


def neighbourhood(
    features: np.ndarray,
    digests: Sequence[bytes],
    labels: np.ndarray,
    splits: np.ndarray,
    *,
    within: np.ndarray | None = None,
    threshold: float,
    n_neighbors: int,
    advance: Advance = unseen,
) -> Neighbourhood:
    """Compare all images with each other, by features of shape (n, d).

    From the cosine `threshold` on, two images are near copies. `distance` is the mean over
    `n_neighbors` of the images with the same number in `within`; None takes the labels. `advance`
    is called with the number of newly compared images.
    """
    within = labels if within is None else within
    exact = np.unique(np.array(digests), return_inverse=True)[1].ravel()
    unit = _unit(features)
    n = len(unit)
    groups, distance = np.arange(n, dtype=np.int32), np.full(n, np.nan)
    of_all, of_label, of_split = (Neighbours(np.full(n, -1), np.full(n, -np.inf)) for _ in range(3))
    found = Neighbourhood(of_all, of_label, of_split, groups, exact, distance)
    step = max(BLOCK_NUMBERS // max(n, 1), 1)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similarity = np.clip(unit[rows] @ unit.T, -1, 1)
        similarity[exact[rows][:, None] == exact] = EXACT
        similarity[np.arange(len(rows)), rows] = -np.inf
        one, other = np.nonzero(similarity >= threshold)
        if len(one) > 0:  # unite the groups of images that are alike
            pairs = (groups[rows[one]], groups[other])
            graph = coo_matrix((np.ones(len(one), np.int8), pairs), shape=(n, n))
            groups[:] = connected_components(graph, directed=False)[1][groups]
        found.of_all.note(rows, similarity)
        is_same = within[rows][:, None] == within
        distance[rows] = _mean_distance(np.where(is_same, similarity, -np.inf), n_neighbors)
        is_same = labels[rows][:, None] == labels
        found.of_other_label.note(rows, np.where(is_same, -np.inf, similarity))
        is_same = splits[rows][:, None] == splits
        found.of_other_split.note(rows, np.where(is_same, -np.inf, similarity))
        advance(len(rows))
    return found


def _mean_distance(similarity: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Return the mean distance (1 - cosine) to the nearest images; NaN if there are none."""
    count = min(n_neighbors, similarity.shape[1] - 1)
    nearest = np.partition(similarity, -count, axis=1)[:, -count:] if count else similarity
    is_there = nearest > -np.inf
    distance = np.where(is_there, 1 - np.minimum(nearest, 1), 0).sum(axis=1)
    counts = is_there.sum(axis=1)
    return np.where(counts > 0, distance / np.maximum(counts, 1), np.nan)


def _unit(features: np.ndarray) -> np.ndarray:
    """Return centred rows of unit length; rows at the centre stay 0 and are similar to none."""
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding alone must not make equal images look like very different ones.
    smallest = 1e-5 * np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > smallest)
