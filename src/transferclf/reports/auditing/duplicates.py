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
    n = len(unit)
    found = Neighbourhood(
        of_all=_none_yet(n),
        of_other_label=_none_yet(n),
        of_other_split=_none_yet(n),
        groups=np.arange(n, dtype=np.int32),
        exact=exact,
        distance=np.full(n, np.nan),
    )
    step = max(BLOCK_NUMBERS // max(n, 1), 1)
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        similarity = np.clip(unit[rows] @ unit.T, -1, 1)
        similarity[exact[rows][:, None] == exact] = EXACT
        similarity[np.arange(len(rows)), rows] = -np.inf
        _join(found.groups, rows, similarity >= threshold)
        is_same = labels[rows][:, None] == labels
        _measure(found.distance, rows, np.where(is_same, similarity, -np.inf), n_neighbors)
        _note(found.of_all, rows, similarity)
        _note(found.of_other_label, rows, np.where(is_same, -np.inf, similarity))
        is_same = splits[rows][:, None] == splits
        _note(found.of_other_split, rows, np.where(is_same, -np.inf, similarity))
        advance(len(rows))
    return found


def _none_yet(n: int) -> Neighbours:
    return Neighbours(np.full(n, -1), np.full(n, -np.inf))


def _join(groups: np.ndarray, rows: np.ndarray, is_alike: np.ndarray) -> None:
    """Unite the groups of images that are alike."""
    one, other = np.nonzero(is_alike)
    if len(one) == 0:
        return
    pairs = (groups[rows[one]], groups[other])
    graph = coo_matrix((np.ones(len(one), np.int8), pairs), shape=(len(groups), len(groups)))
    groups[:] = connected_components(graph, directed=False)[1][groups]


def _note(found: Neighbours, rows: np.ndarray, similarity: np.ndarray) -> None:
    """Fill in the most similar image of some images."""
    nearest = similarity.argmax(axis=1)
    values = similarity[np.arange(len(rows)), nearest]
    is_there = values > -np.inf
    found.nearest[rows[is_there]] = nearest[is_there]
    found.similarity[rows] = np.minimum(values, 1)


def _measure(
    distances: np.ndarray, rows: np.ndarray, similarity: np.ndarray, n_neighbors: int
) -> None:
    """Fill in the mean distance (1 - cosine) of some images to the nearest ones."""
    count = min(n_neighbors, similarity.shape[1] - 1)
    if count < 1:
        return
    nearest = np.partition(similarity, -count, axis=1)[:, -count:]
    is_there = nearest > -np.inf
    distance = np.where(is_there, 1 - np.minimum(nearest, 1), 0).sum(axis=1)
    counts = is_there.sum(axis=1)
    has = counts > 0
    distances[rows[has]] = distance[has] / counts[has]


def _unit(features: np.ndarray) -> np.ndarray:
    """Return centred rows of unit length; rows at the centre stay 0 and are similar to none."""
    centred = (features - features.mean(axis=0, dtype=np.float64)).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    # Rounding alone must not make equal images look like very different ones.
    smallest = 1e-5 * np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > smallest)
