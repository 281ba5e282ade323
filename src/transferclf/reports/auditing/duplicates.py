"""Neighbours among images by their features: copies and near copies.

Similarities are computed block by block, so that memory grows with the number of images only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from transferclf.images.progress import Advance, unseen

# Similarities that are in memory at a time.
BLOCK_NUMBERS = 2**23

# What images with the same content have, above all others.
EXACT = 2.0


@dataclass(frozen=True)
class Neighbours:
    """The most similar other image of each of n images, and its cosine.

    Copies have the similarity 1. Where there is no other image, they are -1 and -inf.
    """

    nearest: np.ndarray
    similarity: np.ndarray


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
    threshold: float,
    n_neighbors: int,
    advance: Advance = unseen,
) -> Neighbourhood:
    """Compare all images with each other, by features of shape (n, d).

    From the cosine `threshold` on, two images are near copies. `distance` is the mean over
    `n_neighbors`. `advance` is called with the number of newly compared images.
    """
    exact = np.unique(np.array(digests), return_inverse=True)[1].ravel()
    unit = _unit(features)
    search = _Search(len(unit), labels, splits, threshold, n_neighbors)
    step = max(BLOCK_NUMBERS // max(len(unit), 1), 1)
    for start in range(0, len(unit), step):
        rows = np.arange(start, min(start + step, len(unit)))
        similarity = np.clip(unit[rows] @ unit.T, -1, 1)
        similarity[exact[rows][:, None] == exact] = EXACT
        search.take(rows, similarity)
        advance(len(rows))
    of_all, of_other_label, of_other_split = search.found.values()
    return Neighbourhood(
        of_all, of_other_label, of_other_split, search.groups, exact, search.distance
    )


class _Search:
    """The neighbours that were found in the blocks of similarities so far."""

    def __init__(
        self, n: int, labels: np.ndarray, splits: np.ndarray, threshold: float, n_neighbors: int
    ):
        self.labels, self.splits = labels, splits
        self.threshold, self.n_neighbors = threshold, n_neighbors
        self.found = {
            name: Neighbours(np.full(n, -1), np.full(n, -np.inf))
            for name in ("all", "label", "split")
        }
        self.groups = np.arange(n, dtype=np.int32)
        self.distance = np.full(n, np.nan)

    def take(self, rows: np.ndarray, similarity: np.ndarray) -> None:
        """Take in the similarities of some images (rows) to all images."""
        similarity[np.arange(len(rows)), rows] = -np.inf
        self._join(rows, similarity)
        self._note("all", rows, similarity)
        is_same = self.labels[rows][:, None] == self.labels
        self._note("label", rows, np.where(is_same, -np.inf, similarity))
        self._measure(rows, np.where(is_same, similarity, -np.inf))
        is_same = self.splits[rows][:, None] == self.splits
        self._note("split", rows, np.where(is_same, -np.inf, similarity))

    def _join(self, rows: np.ndarray, similarity: np.ndarray) -> None:
        one, other = np.nonzero(similarity >= self.threshold)
        if len(one) == 0:
            return
        n = len(self.groups)
        pairs = (self.groups[rows[one]], self.groups[other])
        graph = coo_matrix((np.ones(len(one), np.int8), pairs), shape=(n, n))
        self.groups = connected_components(graph, directed=False)[1][self.groups]

    def _note(self, name: str, rows: np.ndarray, similarity: np.ndarray) -> None:
        nearest = similarity.argmax(axis=1)
        values = similarity[np.arange(len(rows)), nearest]
        found, is_there = self.found[name], values > -np.inf
        found.nearest[rows[is_there]] = nearest[is_there]
        found.similarity[rows] = np.minimum(values, 1)

    def _measure(self, rows: np.ndarray, similarity: np.ndarray) -> None:
        """Fill in the mean distance (1 - cosine) to the nearest images."""
        count = min(self.n_neighbors, similarity.shape[1] - 1)
        if count < 1:
            return
        nearest = np.partition(similarity, -count, axis=1)[:, -count:]
        is_there = nearest > -np.inf
        distance = np.where(is_there, 1 - np.minimum(nearest, 1), 0).sum(axis=1)
        counts = is_there.sum(axis=1)
        has = counts > 0
        self.distance[rows[has]] = distance[has] / counts[has]


def _unit(features: np.ndarray) -> np.ndarray:
    """Return centred rows of unit length; rows at the centre stay 0 and are similar to none."""
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding alone must not make equal images look like very different ones.
    smallest = 1e-5 * np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > smallest)
