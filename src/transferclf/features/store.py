"""The feature store: activations by key, shared by all that computes the same of the same image."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

DEFAULT_MAX_BYTES = 2**30


class StoreInfo(NamedTuple):
    """What a store holds and how often it helped.

    Attributes
    ----------
    entries : int
        Activations held.
    nbytes : int
        Their size in bytes, keys not counted.
    hits, misses : int
        Distinct keys asked for that were there, and that were not.
    """

    entries: int
    nbytes: int
    hits: int
    misses: int


class FeatureStore:
    """Activations in memory, bounded in bytes; those not used for longest go first.

    Safe to use from several threads.

    Parameters
    ----------
    max_bytes : int, default=2**30
        How much the activations may take together.

    Examples
    --------
    >>> import numpy as np
    >>> store = FeatureStore()
    >>> store.put_many({b"key": np.ones(3, np.float32)})
    >>> sorted(store.get_many([b"key", b"other"]))
    [b'key']
    >>> store.info()
    StoreInfo(entries=1, nbytes=12, hits=1, misses=1)
    """

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES):
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._nbytes = self._hits = self._misses = 0

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The activations that are there, by key; read-only arrays."""
        distinct = set(keys)
        with self._lock:
            found = {key: self._entries[key] for key in distinct if key in self._entries}
            for key in found:
                self._entries.move_to_end(key)
            self._hits += len(found)
            self._misses += len(distinct) - len(found)
        return found

    def put_many(self, entries: Mapping[bytes, np.ndarray]) -> None:
        """Keep a copy of each activation, dropping old ones where there is no room."""
        with self._lock:
            for key, activation in entries.items():
                self._put(key, activation)

    def _put(self, key: bytes, activation: np.ndarray) -> None:
        if activation.nbytes > self.max_bytes:
            return
        previous = self._entries.pop(key, None)
        if previous is not None:
            self._nbytes -= previous.nbytes
        kept = np.array(activation)  # a view would keep its whole batch alive
        kept.flags.writeable = False
        self._entries[key] = kept
        self._nbytes += kept.nbytes
        while self._nbytes > self.max_bytes:
            self._nbytes -= self._entries.popitem(last=False)[1].nbytes

    def info(self) -> StoreInfo:
        """Return entries, bytes, hits and misses so far."""
        with self._lock:
            return StoreInfo(len(self._entries), self._nbytes, self._hits, self._misses)

    def clear(self) -> None:
        """Drop everything, and start counting anew."""
        with self._lock:
            self._entries.clear()
            self._nbytes = self._hits = self._misses = 0


_SHARED = FeatureStore()


def shared_store() -> FeatureStore:
    """The store that all estimators with ``cache="memory"`` in this process share.

    Returns
    -------
    FeatureStore

    Examples
    --------
    >>> from transferclf.features import shared_store
    >>> shared_store().info().entries >= 0
    True
    """
    return _SHARED
