"""Looks at many images in little memory: lists of them would take 300 MB for a million images."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np

from transferclf.images.formats import Look

LENGTH = 32  # bytes of a SHA-256


class Digests:
    """SHA-256 digests by position: a list of bytes in a third of the memory.

    Examples
    --------
    >>> digests = Digests(2)
    >>> digests[1] = b"b" * 32
    >>> list(digests)[1] == digests[1] == b"b" * 32
    True
    """

    def __init__(self, length: int):
        self._bytes = bytearray(LENGTH * length)

    @classmethod
    def of(cls, digests: Iterable[bytes], length: int) -> Self:
        """Return these digests, of which there are `length`."""
        made = cls(length)
        for position, digest in enumerate(digests):
            made[position] = digest
        return made

    def __len__(self) -> int:
        return len(self._bytes) // LENGTH

    def __getitem__(self, position: int) -> bytes:
        if not 0 <= position < len(self):
            raise IndexError(f"expected a position below {len(self)}, got {position}")
        return bytes(self._bytes[LENGTH * position : LENGTH * (position + 1)])

    def __setitem__(self, position: int, digest: bytes) -> None:
        if len(digest) != LENGTH:
            raise ValueError(f"expected {LENGTH} bytes, got {len(digest)}")
        self._bytes[LENGTH * position : LENGTH * (position + 1)] = digest

    def __iter__(self) -> Iterator[bytes]:
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digests) and self._bytes == other._bytes

    __hash__ = None  # type: ignore[assignment]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Return some digests as an array of texts, which can be compared and sorted."""
        return np.frombuffer(bytes(self._bytes), f"S{LENGTH}")[positions]

    def copy(self) -> Digests:
        """Return a copy."""
        made = Digests(0)
        made._bytes = self._bytes.copy()
        return made


class Looks:
    """Looks at images by position. Images of one size and kind share these facts."""

    def __init__(self, length: int):
        self.digests = Digests(length)
        self._numbers = array("l", [0]) * length
        self._facts: list[tuple[object, ...]] = []
        self._number_of: dict[tuple[object, ...], int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, position: int) -> Look:
        digest = self.digests[position]
        return Look(digest, *self._facts[self._numbers[position]])  # type: ignore[arg-type]

    def __setitem__(self, position: int, look: Look) -> None:
        facts = tuple(look[1:])
        with self._lock:
            number = self._number_of.setdefault(facts, len(self._facts))
            if number == len(self._facts):
                self._facts.append(facts)
        self.digests[position] = look.digest
        self._numbers[position] = number

    def __iter__(self) -> Iterator[Look]:
        return (self[position] for position in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Looks) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]
