"""Extraction by several processes that share a store on disk: each computes a part of the images.

Each process takes the next images that nobody else has claimed (:mod:`transferclf.features.claims`)
and computes them in the usual batches. It sets the others aside. At the end it finds their rows in
the store, or waits for them, or computes them if their process has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from transferclf.features.claim_log import NAME_BYTES
from transferclf.features.claims import Claims
from transferclf.features.segments import key_digest
from transferclf.features.store import FeatureStore
from transferclf.features.work import BATCH_SIZE, Job, Unit
from transferclf.images.looks import Digests

# Seconds after which a process that waits looks into the store also without news from others.
PATIENCE = 2.0


class Shared:
    """The share of one process in the images with these keys, by their positions."""

    def __init__(self, keys: Sequence[bytes] | Digests, store: FeatureStore, claims: Claims):
        self._keys, self._store, self._claims = keys, store, claims
        self._names: dict[int, bytes] = {}
        self._unreadable: set[bytes] = set()  # keys that the store has and cannot read

    def units(self, job: Job, positions: np.ndarray) -> Units:
        """Return units of the images that no other process computes, claimed as they are taken."""
        return Units(self, job, positions)

    def take(self, left: deque[int], aside: list[int]) -> list[int]:
        """Remove the next images from `left`, and return a batch of those to be computed here.

        The others, which are computed elsewhere or stored by now, are added to `aside`. The batch
        is smaller or empty only if nothing is left.
        """
        batch: list[int] = []
        while left and len(batch) < BATCH_SIZE:
            part = [left.popleft() for _ in range(min(BATCH_SIZE - len(batch), len(left)))]
            granted = self._claims.claim(map(self._name, part))
            mine = [position for position in part if self._name(position) in granted]
            # Others may have stored it between the last look and the claim.
            stored = self._stored(mine)
            if stored:
                self.finish(stored)
            chosen = set(mine) - set(stored)
            batch += [position for position in part if position in chosen]
            aside += [position for position in part if position not in chosen]
        return batch

    def finish(self, positions: Sequence[int] | np.ndarray) -> None:
        """Note that these images are stored."""
        self._claims.finish([self._name(position) for position in positions])

    def look(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Return the activations that are stored by now. Others are not counted as misses."""
        self._claims.has_news = False
        held = self._store.holds(keys)
        found = self._store.get_many(list(held)) if held else {}
        self._unreadable |= held - found.keys()
        return found

    def wait(self, positions: np.ndarray) -> bool:
        """Wait for news of images that others compute; False, at once, if they do not any more."""
        names = {self._name(position) for position in positions}
        if names - self._claims.taken(names):
            return False
        self._claims.wait(PATIENCE)
        return True

    def _stored(self, positions: list[int]) -> list[int]:
        is_news, self._claims.has_news = self._claims.has_news, False
        keys = [self._keys[position] for position in positions]
        held = self._store.holds(keys, refresh=is_news) - self._unreadable
        return [position for position in positions if self._keys[position] in held]

    def _name(self, position: int) -> bytes:
        # The key may become another one when its file was replaced, and the claim stays.
        name = self._names.get(position)
        if name is None:
            name = key_digest(self._keys[position], self._store.dtype)[:NAME_BYTES]
            self._names[position] = name
        return name


class Units(Sequence[Unit]):
    """Units of a job, claimed one by one where they are iterated over.

    `len`, and an index that is not known yet, claim all of them.
    """

    def __init__(self, shared: Shared, job: Job, positions: np.ndarray):
        self._shared, self._job = shared, job
        self._left = deque(positions.tolist())
        self._aside: list[int] = []
        self._units: list[Unit] = []

    @property
    def aside(self) -> np.ndarray:
        """The positions of images that were computed or are computed elsewhere, sorted."""
        return np.array(sorted(self._aside), int)

    def __iter__(self) -> Iterator[Unit]:
        number = 0
        while number < len(self._units) or self._claim_one():
            yield self._units[number]
            number += 1

    def __len__(self) -> int:
        while self._claim_one():
            pass
        return len(self._units)

    @overload
    def __getitem__(self, number: int) -> Unit: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Unit]: ...

    def __getitem__(self, number: int | slice) -> Unit | Sequence[Unit]:
        is_known = isinstance(number, int) and 0 <= number < len(self._units)
        if not is_known:
            len(self)
        return self._units[number]

    def _claim_one(self) -> bool:
        """Claim one more unit; return False if no image is left."""
        batch = self._shared.take(self._left, self._aside)
        if batch:
            self._units.append(Unit(self._job, len(self._units), np.array(batch)))
        return bool(batch)
