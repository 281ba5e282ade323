"""Activations in memory, and how they are rounded for "float16"."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

import numpy as np


class MemoryEntries:
    """Activations by key in memory; the longest unused go first. For one thread at a time."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[bytes, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the activations that are there, float32 and read-only."""
        found = {key: self._entries[key] for key in keys if key in self._entries}
        for key in found:
            self._entries.move_to_end(key)
        return {key: as_float32(kept) for key, kept in found.items()}

    def put_many(self, entries: Mapping[bytes, np.ndarray]) -> None:
        """Keep copies of the same type."""
        for key, activation in entries.items():
            if activation.nbytes <= self.max_bytes:
                self._put(key, activation)

    def _put(self, key: bytes, activation: np.ndarray) -> None:
        self.discard([key])
        kept = np.array(activation)  # a view would keep its whole batch alive
        kept.flags.writeable = False
        self._entries[key] = kept
        self.nbytes += kept.nbytes
        self._shrink()

    def _shrink(self) -> None:
        while self.nbytes > self.max_bytes:
            self.nbytes -= self._entries.popitem(last=False)[1].nbytes

    def repair(self) -> None:
        """Count the bytes again: an interrupted call may have changed only the entries."""
        self.nbytes = sum(kept.nbytes for kept in self._entries.values())
        self._shrink()

    def discard(self, keys: Iterable[bytes]) -> None:
        """Drop the activations of these keys, where there are any."""
        for key in keys:
            if key in self._entries:
                self.nbytes -= self._entries.pop(key).nbytes

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.nbytes = 0


def in_dtype(activation: np.ndarray, dtype: str) -> np.ndarray:
    """Return one activation as it is kept: float16 if `dtype` is "float16" and all values fit."""
    exact = np.asarray(activation, np.float32)
    if dtype == "float32":
        return exact
    with np.errstate(over="ignore"):
        half = exact.astype(np.float16)
    return exact if np.any(np.isinf(half) & np.isfinite(exact)) else half


def as_float32(kept: np.ndarray) -> np.ndarray:
    """Return one activation as float32, read-only."""
    if kept.dtype == np.float32:
        return kept
    activation = kept.astype(np.float32)
    activation.flags.writeable = False
    return activation
