"""Neighbours among images by their features: copies, near copies, and those that have none.

All similarities are computed block by block; what is kept grows with the number of images only.
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
    """For each of n images, the most similar others.

    Attributes
    ----------
    nearest : ndarray of int, shape (n,)
        The most similar other image; -1 where there is none.
    similarity : ndarray of shape (n,)
        Cosine of the two, 1 for copies; -inf where there is none.
    """

    nearest: np.ndarray
    similarity: np.ndarray


@dataclass(frozen=True)
class Neighbourhood:
    """What :func:`neighbourhood` finds.

    Attributes
    ----------
    of_all : Neighbours
        Among all other images.
    of_other_label, of_other_split : Neighbours
        Among those with another label, and in another split.
    groups : ndarray of int, shape (n,)
        Number of the group of copies and near copies that each image is in.
    exact : ndarray of int, shape (n,)
        Number of the group of images with the same content.
    distance : ndarray of shape (n,)
        Mean distance to the nearest images of the same label; NaN where there is no other.
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
    """Compare all images with each other.

    Parameters
    ----------
    features : ndarray of shape (n, d)
        Of any kind; they are centred and scaled to unit length here.
    digests : sequence of bytes
        What the content of each image is known by.
    labels, splits : ndarray of int, shape (n,)
        The class and the split of each image.
    threshold : float
        The cosine from which two images are near copies.
    n_neighbors : int
        How many neighbours the distance is the mean over.
    advance : callable, optional
        Told how many images more have been compared, after each block.

    Returns
    -------
    Neighbourhood

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.0, 1.0]])
    >>> none = np.zeros(4, int)
    >>> found = neighbourhood(
    ...     features, [b"a", b"b", b"c", b"c"], none, none, threshold=0.9, n_neighbors=1
    ... )
    >>> found.of_all.nearest, found.groups, found.exact
    (array([1, 0, 3, 2]), array([0, 0, 1, 1], dtype=int32), array([0, 1, 2, 2]))
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
    """What is known after some blocks of similarities."""

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
        """Look at the similarities of some images to all."""
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
        """Mean distance, which is 1 - cosine, to the nearest."""
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
    """Centred rows of unit length; rows at the centre stay there, similar to nothing."""
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding alone must not make equal images look like very different ones.
    smallest = 1e-5 * np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > smallest)
