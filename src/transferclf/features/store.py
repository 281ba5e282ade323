"""The feature store: activations by key, shared by all estimators that need them."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from transferclf._checks import is_number
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.features.claims import Claims
from transferclf.features.disk import DiskEntries, Entries
from transferclf.features.memory import MemoryEntries, in_dtype
from transferclf.features.segments import key_digest

DEFAULT_MAX_BYTES = 2**30
DEFAULT_MAX_BYTES_ON_DISK = 2**32
DTYPES = ("float32", "float16")


class Guard:
    """A context that repairs its parts before a call, if the last call was interrupted.

    Ctrl-C and a MemoryError may come between any two lines, even while an earlier one is handled.
    Therefore nothing is repaired at that moment. A call marks the state as unfinished when it
    begins and as whole when it ends, and the next call repairs an unfinished state.

    Use it in the same `with` statement as the lock of the state, after the lock. Both are then left
    in one step, so that no interrupt leaves the lock held.
    """

    def __init__(self, *parts: MemoryEntries | DiskEntries):
        self._parts = parts
        self._is_whole = True

    def __enter__(self) -> None:
        if not self._is_whole:
            for part in self._parts:
                part.repair()
        self._is_whole = False

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        self._is_whole = kind is None


class StoreInfo(NamedTuple):
    """Contents and use of a store.

    Attributes
    ----------
    entries : int
        Number of activations; on disk, those of all processes and of both dtypes.
    nbytes : int
        Their size in bytes without keys; on disk, the size of the files.
    hits, misses : int
        Distinct keys that this process asked for and found, or did not find.
    """

    entries: int
    nbytes: int
    hits: int
    misses: int


class FeatureStore:
    """Activations by key, in memory or in a folder. It is bounded; the longest unused go first.

    All processes and runs that name the same folder share a store on disk. It never makes them
    fail: damaged entries are computed again, and entries that the disk does not take stay in
    memory. There is one `TransferclfWarning` for each store and process. The module
    `transferclf.features.disk` says where the folder may be and what a crash costs.

    Safe to use from several threads. A copy of a store is the store itself. The pickle of a store
    on disk opens the same folder; the pickle of one in memory is empty.

    Parameters
    ----------
    path : str or path-like, default=None
        The folder of a store on disk, made if it is missing; it may hold other things too. None
        keeps everything in memory.
    max_bytes : int, default=None
        The size of all activations together, on disk in blocks of 4 KB. None is 1 GiB in memory
        and 4 GiB on disk, about 800,000 vectors of 1280 features.
    dtype : {"float32", "float16"}, default="float32"
        The type of kept values. "float16" takes half the room and rounds to three digits; rows
        that it cannot hold stay float32. Stores of different types share nothing.

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

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        dtype: str = "float32",
    ):
        expected = "expected path to be the name of a folder or None"
        hint = "; None keeps features in memory"
        self.path = None if path is None else _folder(path, expected, hint)
        self.max_bytes = _checked_max_bytes(max_bytes, on_disk=path is not None)
        if dtype not in DTYPES:
            raise InvalidParameterError(
                f"expected dtype to be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}"
            )
        self.dtype = str(dtype)
        self._hits_and_misses = (0, 0)  # set in one step, so that an interrupt counts both or none
        self._warned = False
        self._lock = threading.Lock()
        in_memory = self.max_bytes if path is None else min(self.max_bytes, DEFAULT_MAX_BYTES)
        self._memory = MemoryEntries(in_memory)
        self._disk = None
        if self.path is not None:
            self._disk = DiskEntries(_resolved(self.path), self.max_bytes)
            weakref.finalize(self, self._disk.close)
        self._guard = Guard(*(part for part in (self._memory, self._disk) if part is not None))
        _STORES.add(self)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the activations that are there.

        Parameters
        ----------
        keys : sequence of bytes

        Returns
        -------
        dict of bytes to ndarray
            Read-only float32 arrays of the shape they were put with.
        """
        distinct = set(keys)
        with self._lock, self._guard:
            # The memory of a store on disk has the activations that the disk did not take.
            found = self._memory.get_many(distinct) if self._memory else {}
            if self._disk is not None:
                missing = (key for key in distinct if key not in found)
                found |= self._disk.get_many({key_digest(key, self.dtype): key for key in missing})
            hits, misses = self._hits_and_misses
            self._hits_and_misses = hits + len(found), misses + len(distinct) - len(found)
        self._warn_once()
        return found

    def put_many(self, entries: Mapping[bytes, np.ndarray]) -> None:
        """Keep a copy of each activation. Old ones are dropped if there is no room.

        Parameters
        ----------
        entries : mapping of bytes to ndarray
            Activations of any shape. One that is larger than the whole store is not kept.
        """
        stored = {key: in_dtype(activation, self.dtype) for key, activation in entries.items()}
        with self._lock, self._guard:
            if self._disk is not None:
                stored = self._left_by_disk(self._disk, stored)
            self._memory.put_many(stored)
        self._warn_once()

    def holds(self, keys: Sequence[bytes], refresh: bool = True) -> set[bytes]:
        """Return the keys that have activations, without reading these.

        It may be wrong about entries that are damaged or were just removed. It does not count as
        hits or misses.

        Parameters
        ----------
        keys : sequence of bytes
        refresh : bool, default=True
            Whether to look for entries that other processes have put since the last look.

        Returns
        -------
        set of bytes
        """
        with self._lock, self._guard:
            held = {key for key in keys if key in self._memory}
            if self._disk is not None:
                key_of = {key_digest(key, self.dtype): key for key in keys}
                held |= {key_of[digest] for digest in self._disk.places_of(key_of, refresh)}
        self._warn_once()
        return held

    def claims(self) -> Claims | None:
        """Return the claims of a new worker on the activations; see `transferclf.features.claims`.

        Returns
        -------
        Claims or None
            None if the store is in memory, which no other process shares.
        """
        return None if self._disk is None else Claims(self._disk.folder)

    def rounded(self, activations: np.ndarray) -> np.ndarray:
        """Return activations (n, ...) as they would come back from the store, float32.

        Results with them do not depend on which activations were stored.
        """
        rows = np.asarray(activations, np.float32)
        if self.dtype == "float32":
            return rows
        out = np.empty_like(rows)
        for index, row in enumerate(rows):
            out[index] = in_dtype(row, self.dtype)
        return out

    def info(self) -> StoreInfo:
        """Return entries, bytes, hits and misses.

        Returns
        -------
        StoreInfo
        """
        with self._lock, self._guard:
            entries, nbytes = len(self._memory), self._memory.nbytes
            if self._disk is not None:
                self._disk.refresh()
                entries, nbytes = entries + len(self._disk), nbytes + self._disk.nbytes
            info = StoreInfo(entries, nbytes, *self._hits_and_misses)
        self._warn_once()
        return info

    def clear(self) -> None:
        """Drop everything, on disk for all processes, and restart the counts."""
        with self._lock, self._guard:
            self._memory.clear()
            if self._disk is not None:
                self._disk.clear()
            self._hits_and_misses = (0, 0)
        self._warn_once()

    def _left_by_disk(self, disk: DiskEntries, stored: Entries) -> Entries:
        """Put activations on disk; return those that it did not take."""
        digests = {key: key_digest(key, self.dtype) for key in stored}
        self._memory.discard(stored)  # first: entries in memory hide those on the disk
        left = disk.put_many({digests[key]: kept for key, kept in stored.items()})
        return {key: kept for key, kept in stored.items() if digests[key] in left}

    def _warn_once(self) -> None:
        if self._disk is None or self._disk.trouble is None or self._warned:
            return
        self._warned = True
        warn(
            f"expected to read and write features in {self.path!r}, got: {self._disk.trouble}. "
            "Results are not affected: what is missing is computed again and kept in memory where "
            "the disk does not take it. Said once; free or repair the folder, or name another"
        )

    def _start_in_forked_child(self) -> None:
        """Share no open file with the parent, and no lock that another thread of it held."""
        self._lock = threading.Lock()
        if self._disk is not None:
            self._disk.start_in_forked_child()

    def __copy__(self) -> FeatureStore:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> FeatureStore:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        path = None if self.path is None else _resolved(self.path)
        return _unpickled, (path, self.max_bytes, self.dtype)

    def __repr__(self) -> str:
        return f"FeatureStore({self.path!r}, max_bytes={self.max_bytes}, dtype={self.dtype!r})"


def _folder(path: object, expected: str, hint: str = "") -> str:
    """Return the name of a folder without ~. `expected` and `hint` are of the error otherwise."""
    name = os.fsdecode(path) if isinstance(path, str | os.PathLike) else ""
    if not name or "\0" in name:
        raise InvalidParameterError(f"{expected}, got {path!r}{hint}")
    expanded = os.path.expanduser(name)
    if expanded == name and name.partition(os.sep)[0] == "~":
        raise InvalidParameterError(
            f"expected the name of a folder, got {name!r}; this user has no home folder that ~ "
            "could stand for, so name the folder in full"
        )
    return expanded


def _resolved(path: str) -> str:
    """Return the path of a folder without links; unchanged if the working folder was removed."""
    try:
        return os.path.realpath(path)
    except FileNotFoundError:
        return path


def _checked_max_bytes(max_bytes: int | None, on_disk: bool) -> int:
    if max_bytes is None:
        return DEFAULT_MAX_BYTES_ON_DISK if on_disk else DEFAULT_MAX_BYTES
    if not is_number(max_bytes, whole=True) or int(max_bytes) <= 0:
        raise InvalidParameterError(
            f"expected max_bytes to be an integer above 0 or None, got {max_bytes!r}; "
            "to keep no features at all, pass cache=None to the estimator"
        )
    return int(max_bytes)


_STORES: weakref.WeakSet[FeatureStore] = weakref.WeakSet()
_ON_DISK: dict[tuple[str, int, str], FeatureStore] = {}
_SHARED = FeatureStore()


def shared_store() -> FeatureStore:
    """Return the store that all estimators with ``cache="memory"`` in this process share."""
    return _SHARED


def store_for(cache: object) -> FeatureStore | None:
    """Return the store that an estimator's parameter `cache` means, or None.

    "memory" is the store that this process shares. Another string or a path is a store on disk in
    that folder (for a folder called "memory", "./memory"). All spellings of a folder give the same
    store. Raises InvalidParameterError for anything else.
    """
    if cache is None or isinstance(cache, FeatureStore):
        return cache
    if isinstance(cache, str) and cache == "memory":
        return _SHARED
    folder = _folder(cache, 'expected cache to be "memory", a folder, a FeatureStore or None')
    return _on_disk(folder, DEFAULT_MAX_BYTES_ON_DISK, "float32")


def _on_disk(path: str, max_bytes: int, dtype: str) -> FeatureStore:
    """Return the one store of this process for a folder and its settings."""
    key = (_resolved(path), max_bytes, dtype)
    store = _ON_DISK.get(key)
    if store is None:  # if two threads make one at once, both use the first
        new = FeatureStore(path, max_bytes=max_bytes, dtype=dtype)
        store = _ON_DISK.setdefault(key, new)
    return store


def _unpickled(path: str | None, max_bytes: int, dtype: str) -> FeatureStore:
    if path is None:
        return FeatureStore(max_bytes=max_bytes, dtype=dtype)
    return _on_disk(path, max_bytes, dtype)


def _start_in_forked_child() -> None:
    for store in list(_STORES):
        store._start_in_forked_child()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_start_in_forked_child)
