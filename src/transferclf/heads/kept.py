"""Decompositions of features that the next fit to the same samples needs again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

from transferclf.features.row_file import Rows
from transferclf.heads.blocks import parts_of

# Decompositions kept of each kind; at most 16 MB each, mostly far less. A search asks for the same
# folds for each setting.
FOLDS_KEPT = 10

T = TypeVar("T")


class Kept(Generic[T]):
    """The last results of a function of features and weights, found by the content of both."""

    def __init__(self, make: Callable[[Rows, np.ndarray], T]):
        self._make = make
        self._known: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, features: Rows, weights: np.ndarray) -> T:
        """Return the result for these features and weights."""
        digest = hashlib.sha256(f"{features.dtype} {features.shape} {weights.dtype}".encode())
        digest.update(weights.tobytes())
        for _, part in parts_of(features):
            digest.update(np.ascontiguousarray(part).data)
        key = digest.digest()
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._make(features, weights)
        with self._lock:
            self._known[key] = known
            self._known.move_to_end(key)
            while len(self._known) > FOLDS_KEPT:
                self._known.popitem(last=False)
        return known

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._known.clear()

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._known))
