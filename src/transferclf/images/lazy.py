"""The interface of images that are read when they are needed, not all at once."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError
from transferclf.images.checking import Item
from transferclf.images.decoding import to_be_pickled
from transferclf.images.pixels import PixelRange, sample_step

# A sample consists of so many runs of neighbours, because neighbours are mostly read together.
RUNS = 8


class LazyItems(ABC):
    """Images that are read when they are needed.

    An :class:`~transferclf.images.source.ImageSource` has such an object in place of a list. Each
    item may be read several times, by several threads. What was read may have changed since the
    last time; the source then takes the digest of what it decodes.

    Attributes
    ----------
    image_shape : tuple of int or None
        Shape (h, w[, c]) of all images, where it is known without reading.
    is_far : bool
        Whether reading waits for a network, so that many threads should read.
    """

    image_shape: tuple[int, ...] | None = None
    is_far = False

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, position: int) -> Item:
        """Read one image: a path, bytes of a file, a PIL image or an array (h, w[, c]).

        ImageError is raised if it is none of these or has values that no image has.
        """

    def name(self, position: int) -> str | None:
        """Return the path or URL of an image for messages, or None. Must not fail."""
        return None

    @abstractmethod
    def decided_range(self, positions: np.ndarray) -> PixelRange:
        """Return the range that the values of these images decide, in a warning if doubtful."""

    def taken(self, positions: np.ndarray) -> LazyItems | list[Item] | np.ndarray | None:
        """Return these images to be pickled; None pickles this object with the positions."""
        try:
            items = [self[int(position)] for position in positions]
        except ImageError:
            return None  # the copy finds the same fault
        return [to_be_pickled(it) if isinstance(it, Image.Image) else it for it in items]

    def sample(self, positions: np.ndarray) -> Iterator[Item]:
        """Read about 64 of these images, evenly spread in short runs; leave out those at fault."""
        length = len(positions) // sample_step(len(positions))
        if length == len(positions):
            chosen = np.arange(length)
        else:
            starts = np.linspace(0, len(positions) - length // RUNS, RUNS).astype(int)
            chosen = (starts[:, None] + np.arange(length // RUNS)).ravel()
        for position in np.sort(positions[chosen]):
            try:
                image = self[int(position)]
            except ImageError:
                continue  # decoding will raise it
            yield image


class Lock:
    """A lock that can be pickled; the copy is another lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()
