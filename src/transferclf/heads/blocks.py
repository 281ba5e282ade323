"""Standardised features: an array where they are few, and blocks where they are many.

Features in a file, and arrays that would be too large in double precision, are never standardised
as a whole. Each pass over them reads a block, standardises it in single precision, and uses it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

from transferclf.features.row_file import RowFile, Rows

# Features are standardised as a whole, in double precision, up to this size.
MAX_DOUBLE_BYTES = 2**30

# The size of a block. It fits into the cache of a processor.
BLOCK_BYTES = 2**22

# The size of the rows that are multiplied by all others, where there are fewer rows than features.
GROUP_BYTES = 2**28


def are_in_blocks(features: Rows) -> bool:
    """Return whether features are so many, or in a file, that they are used in blocks."""
    return isinstance(features, RowFile) or math.prod(features.shape) * 8 > MAX_DOUBLE_BYTES


def parts_of(features: Rows, nbytes: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield the rows of features in blocks of about so many bytes, with their places."""
    row_bytes = math.prod(features.shape[1:]) * features.dtype.itemsize
    step = max(1, (nbytes or BLOCK_BYTES) // max(row_bytes, 1))
    for start in range(0, len(features), step):
        part = slice(start, min(start + step, len(features)))
        yield part, features[part]


@dataclass(frozen=True)
class BlockRows:
    """Standardised features (m, r), float32, that are computed block by block.

    Parameters
    ----------
    features : array or RowFile of shape (n, d)
        Features as the network gives them.
    mean, scale : ndarray of shape (d,)
        Numbers that standardise them.
    chosen : ndarray of bool, shape (n,), or None, default=None
        The m rows in use; None is all.
    axes : ndarray of shape (d, r), default=None
        Orthonormal axes of the result; None are those of the features.
    squares : ndarray of shape (r,), default=None
        Mean squares along these axes; None is 1 for each.
    """

    features: Rows
    mean: np.ndarray
    scale: np.ndarray
    chosen: np.ndarray | None = None
    axes: np.ndarray | None = None
    squares: np.ndarray | None = None

    dtype = np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.features) if self.chosen is None else int(np.count_nonzero(self.chosen))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of axes."""
        return len(self), len(self.mean) if self.axes is None else self.axes.shape[1]

    def __getitem__(self, chosen: np.ndarray) -> BlockRows:
        """Return the rows of a mask."""
        mask = chosen.copy()
        if self.chosen is not None:
            mask = self.chosen.copy()
            mask[mask] = chosen
        return replace(self, chosen=mask)

    def blocks(self, nbytes: int | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield blocks in the axes of the features, with their places among the rows in use."""
        start = 0
        for part, rows in parts_of(self.features, nbytes):
            if self.chosen is not None:
                rows = rows[self.chosen[part]]
            if len(rows):
                yield slice(start, start + len(rows)), self.standardised(rows)
                start += len(rows)

    def standardised(self, rows: np.ndarray) -> np.ndarray:
        """Return some features standardised, in single precision."""
        mean, rest, factor = self._numbers
        # The difference of near numbers is exact, so that the mean loses nothing by being in two
        # parts of single precision.
        found: np.ndarray = np.subtract(rows, mean, dtype=np.float32)
        found -= rest
        found *= factor
        return found

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean = self.mean.astype(np.float32)
        return mean, (self.mean - mean).astype(np.float32), (1 / self.scale).astype(np.float32)

    def __matmul__(self, coef: np.ndarray) -> np.ndarray:
        kernel = self.kernel(coef).astype(np.float32)
        products = [block @ kernel for _, block in self.blocks()]
        return np.concatenate(products) if products else np.zeros((0, coef.shape[1]), np.float32)

    def kernel(self, coef: np.ndarray) -> np.ndarray:
        """Return coefficients of the standardised features, from those of the axes."""
        return coef if self.axes is None else self.axes @ coef

    def along_axes(self, kernel: np.ndarray) -> np.ndarray:
        """Return derivatives by coefficients of the axes, from those by the features'."""
        return kernel if self.axes is None else self.axes.T @ kernel


StandardRows: TypeAlias = np.ndarray | BlockRows


def standardised(features: Rows, mean: np.ndarray, scale: np.ndarray) -> StandardRows:
    """Return features less the mean, divided by the scale: an array of float64, or blocks."""
    if are_in_blocks(features):
        return BlockRows(features, mean, scale)
    assert isinstance(features, np.ndarray)
    return (features - mean) / scale


def blocks_of(rows: StandardRows) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield blocks of rows in the axes of the features, with their places; an array is one."""
    if isinstance(rows, BlockRows):
        yield from rows.blocks()
    else:
        yield slice(None), rows


def transposed_product(rows: StandardRows, values: np.ndarray) -> np.ndarray:
    """Return rows.T @ values, for values of shape (m, k)."""
    if not isinstance(rows, BlockRows):
        return rows.T @ values
    total = np.zeros((len(rows.mean), values.shape[1]))
    for part, block in rows.blocks():
        total += block.T @ values[part].astype(block.dtype)
    return rows.along_axes(total)


def squares_of_features(rows: StandardRows, weights: np.ndarray | None = None) -> np.ndarray:
    """Return rows.T @ rows, shape (d, d), of rows that are multiplied by roots of `weights`."""
    total: np.ndarray | float = 0.0
    for part, block in blocks_of(rows):
        scaled = block if weights is None else _scaled(block, weights[part])
        products = scaled.T @ scaled
        total = products if isinstance(rows, np.ndarray) else total + products.astype(float)
    return np.asarray(total)


def squares_of_samples(rows: StandardRows, weights: np.ndarray | None = None) -> np.ndarray:
    """Return rows @ rows.T, shape (m, m), of rows that are multiplied by roots of `weights`."""
    if isinstance(rows, np.ndarray):
        scaled = rows if weights is None else _scaled(rows, weights)
        return scaled @ scaled.T
    total = np.empty((len(rows), len(rows)))
    for part, group in rows.blocks(GROUP_BYTES):
        for other, block in rows.blocks():
            total[part, other] = group @ block.T
    roots = np.ones(len(rows)) if weights is None else np.sqrt(weights)
    return roots[:, None] * total * roots


def mean_squares(rows: StandardRows, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean square along each axis; about that, where rows are in blocks."""
    if isinstance(rows, BlockRows):
        return np.ones(rows.shape[1]) if rows.squares is None else rows.squares
    squares: np.ndarray = weights @ rows**2 / weights.sum()
    return squares


def row_digests(features: Rows, positions: np.ndarray) -> np.ndarray:
    """Return the SHA-256 of rows as text, dtype S64, without a copy of all of them."""
    digests = np.empty(len(positions), "S64")
    row_bytes = math.prod(features.shape[1:]) * features.dtype.itemsize
    step = max(1, BLOCK_BYTES // max(row_bytes, 1))
    for start in range(0, len(positions), step):
        rows = np.ascontiguousarray(features[positions[start : start + step]])
        digests[start : start + step] = [hashlib.sha256(row).hexdigest() for row in rows]
    return digests


def _scaled(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return rows * np.sqrt(weights)[:, None].astype(rows.dtype)
