"""Extraction: every distinct image goes through the prefix once.

The images flow in batches: threads decode the next ones while the network runs on the last, and
each batch is stored as soon as it is computed, so that nothing is lost when a later one fails. Only
the result and the keys grow with the number of images.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import NetworkError, TransferclfWarning
from transferclf.features.store import FeatureStore
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import content_digests, load_all, load_batches
from transferclf.images.progress import bar_if
from transferclf.images.source import ImageSource

if TYPE_CHECKING:
    from transferclf.networks.prefix import Prefix
    from transferclf.networks.views import View

BATCH_SIZE = 32

# Rows that are looked up or copied at a time: so many, but no more than so many bytes together.
CHUNK = 1024
CHUNK_BYTES = 2**25

# Reading files that are all stored shows a bar only if it takes so many seconds.
PATIENCE = 2.0


def extract(
    source: ImageSource,
    prefix: Prefix,
    store: FeatureStore | None,
    resize: ResizeMode = "crop",
    verbose: int = 0,
    view: View | None = None,
    title: str = "features",
) -> np.ndarray:
    """Return the activations of all images, computing only those that are not stored.

    Parameters
    ----------
    source : ImageSource
        The images.
    prefix : Prefix
        The frozen function; built only if an image is missing from the store.
    store : FeatureStore or None
        Where activations are looked up and kept; None keeps none beyond this call.
    resize : {"crop", "stretch", "pad"}, default="crop"
        How images get to the prefix's size.
    verbose : int, default=0
        1 shows a progress bar while images are read and computed.
    view : View or None, default=None
        A variation of the images that is looked at in their place.
    title : str, default="features"
        What the progress bar calls the activations.

    Returns
    -------
    ndarray of shape (len(source), d), float32

    Raises
    ------
    ImageError
        If images cannot be read; all of them are named.
    """
    if len(source) == 0:
        return prefix.forward()(np.empty((0, *prefix.size, 3), np.float32))
    digests = _digests(source, verbose, title)
    keys = _keys(digests, prefix, resize, view)

    def pixels(batches: Sequence[np.ndarray]) -> Generator[np.ndarray, None, None]:
        loaded = load_batches(source, batches, prefix.size, resize, reuse=True)
        return loaded if view is None else _seen(view, loaded, batches, digests)

    return _computed_once(_Extraction(keys, store, prefix.forward, pixels), verbose, title)


def extract_from_cut(
    source: ImageSource,
    rows: np.ndarray,
    prefix: Prefix,
    store: FeatureStore | None,
    resize: ResizeMode = "crop",
    verbose: int = 0,
    view: View | None = None,
    title: str = "features",
) -> np.ndarray:
    """Return the features of the whole network, given the activations at its cut.

    They are looked up and stored under the same keys as if they had been extracted from the
    images, so that searches over where to cut share them.

    Parameters
    ----------
    source : ImageSource
        The images.
    rows : ndarray of shape (len(source), d), float32
        Their activations at the cut of `prefix`.
    prefix : Prefix
        The network and its cut.
    store : FeatureStore or None
        Where features are looked up and kept.
    resize : {"crop", "stretch", "pad"}, default="crop"
        How images got to the prefix's size.
    verbose : int, default=0
        1 shows a progress bar.
    view : View or None, default=None
        The variation of the images that the activations are of.
    title : str, default="features"
        What the progress bar calls them.

    Returns
    -------
    ndarray of shape (len(source), n_features), float32
    """
    keys = _keys(_digests(source), prefix.whole(), resize, view)

    def activations(batches: Sequence[np.ndarray]) -> Generator[np.ndarray, None, None]:
        return (rows[batch] for batch in batches)

    return _computed_once(
        _Extraction(keys, store, prefix.tail_forward, activations), verbose, title
    )


def activation_keys(source: ImageSource, prefix: Prefix, resize: ResizeMode) -> list[bytes]:
    """What the activations of each image are stored under: its content and what computed them."""
    return _keys(_digests(source), prefix, resize)


def _keys(
    digests: Sequence[bytes], prefix: Prefix, resize: ResizeMode, view: View | None = None
) -> list[bytes]:
    seen = "" if view is None else f" {view.digest}"
    computed_by = f"{prefix.digest} {resize}{seen}".encode()
    return [hashlib.sha256(digest + computed_by).digest() for digest in digests]


def _digests(source: ImageSource, verbose: int = 0, title: str = "") -> list[bytes]:
    with bar_if(verbose, len(source), "images looked at", PATIENCE, title) as advance:
        return content_digests(source, advance)


def _seen(
    view: View,
    loaded: Generator[np.ndarray, None, None],
    batches: Sequence[np.ndarray],
    digests: Sequence[bytes],
) -> Generator[np.ndarray, None, None]:
    with closing(loaded):
        for batch, pixels in zip(batches, loaded, strict=True):
            yield view.of(pixels, [digests[position] for position in batch])


@dataclass(frozen=True)
class Extractor:
    """What gives the rows of images: stored, or else computed.

    Parameters
    ----------
    store : FeatureStore or None
        Where activations are looked up and kept.
    resize : {"crop", "stretch", "pad"}
        How images get to the size that the network wants.
    verbose : int, default=0
        1 shows progress.
    """

    store: FeatureStore | None
    resize: ResizeMode
    verbose: int = 0

    def rows(
        self,
        source: ImageSource,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
    ) -> np.ndarray:
        """Activations of shape (len(source), d); see :func:`extract`."""
        return extract(source, prefix, self.store, self.resize, self.verbose, view, title)

    def after_cut(
        self,
        source: ImageSource,
        rows: np.ndarray,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
    ) -> np.ndarray:
        """Features (len(source), n_features); see :func:`extract_from_cut`."""
        how = (self.store, self.resize, self.verbose, view, title)
        return extract_from_cut(source, rows, prefix, *how)

    def batches(
        self, source: ImageSource, size: tuple[int, int], view: View | None = None
    ) -> Iterator[np.ndarray]:
        """Pixels (n, h, w, 3) of some images after the other; at least one, be it empty."""
        positions = np.arange(len(source))
        batches = np.split(positions, range(BATCH_SIZE, len(source), BATCH_SIZE))
        loaded = load_batches(source, batches, size, self.resize)
        yield from loaded if view is None else _seen(view, loaded, batches, _digests(source))

    def pixels(
        self, source: ImageSource, size: tuple[int, int], title: str = "pixels"
    ) -> np.ndarray:
        """Pixels (len(source), h, w, 3), uint8 where they are whole numbers, else float32."""
        with bar_if(self.verbose, len(source), "images read", PATIENCE, title) as advance:
            return load_all(source, size, self.resize, advance)


class _OtherWidthError(NetworkError):
    """Activations of one call do not fit together."""


@dataclass
class _Extraction:
    """The result of one call while it fills with rows.

    `compiled` gives the network when it is needed, `inputs` what goes into it for each of the
    batches of positions.
    """

    keys: Sequence[bytes]
    store: FeatureStore | None
    compiled: Callable[[], Callable[[np.ndarray], np.ndarray]]
    inputs: Callable[[Sequence[np.ndarray]], Generator[np.ndarray, None, None]]
    rows: np.ndarray | None = None

    def missing(self, positions: np.ndarray) -> np.ndarray:
        """Fill in what is stored, and return the positions of what is not."""
        if self.store is None:
            return positions
        missing: list[int] = []
        for chunk in self._chunks(positions):
            found = self.store.get_many([self.keys[position] for position in chunk])
            for position in chunk:
                row = found.get(self.keys[position])
                if row is None:
                    missing.append(position)
                else:
                    self._rows_for(row)[position] = row
        return np.array(missing, int)

    def compute(self, positions: np.ndarray, verbose: int, title: str) -> None:
        """Fill in the activations of these images, and store them batch by batch."""
        if len(positions) == 0:
            return
        forward = self.compiled()
        starts = range(0, len(positions), BATCH_SIZE)
        batches = [positions[start : start + BATCH_SIZE] for start in starts]
        inputs = self.inputs(batches)
        note = self._announced(len(positions), verbose, title)
        bar = bar_if(verbose, len(positions), note, title=title)
        with closing(inputs), bar as advance:
            for batch, values in zip(batches, inputs, strict=True):
                self._keep(batch, forward(values))
                advance(len(batch))

    def repeated(self, first: np.ndarray) -> np.ndarray:
        """The result, with the rows of images that came before copied."""
        assert self.rows is not None
        again = np.flatnonzero(first != np.arange(len(first)))
        for chunk in self._chunks(again):
            self.rows[chunk] = self.rows[first[chunk]]
        return self.rows

    def _keep(self, batch: np.ndarray, activations: np.ndarray) -> None:
        if self.store is not None:
            activations = self.store.rounded(activations)
        self._rows_for(activations[0])[batch] = activations
        if self.store is not None:
            keys = (self.keys[position] for position in batch)
            self.store.put_many(dict(zip(keys, activations, strict=True)))

    def _rows_for(self, row: np.ndarray) -> np.ndarray:
        """The result, allocated when its width is known, if such a row fits into it."""
        if self.rows is None:
            self.rows = np.empty((len(self.keys), *row.shape), np.float32)
        if self.rows.shape[1:] != row.shape:
            raise _OtherWidthError(
                f"expected rows of shape {self.rows.shape[1:]} as for other images, got {row.shape}"
            )
        return self.rows

    def _chunks(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        start = 0
        while start < len(positions):
            # Before the width is known, few rows show it.
            count = BATCH_SIZE if self.rows is None else CHUNK_BYTES // (self.rows[0].nbytes or 1)
            stop = start + min(max(count, BATCH_SIZE), CHUNK)
            yield positions[start:stop]
            start = stop

    def _announced(self, missing: int, verbose: int, title: str) -> str:
        known = len(self.keys) - missing
        if verbose:
            say(f"{title}: {missing} images to compute, {known} known")
        return f"{known} known"


def _computed_once(task: _Extraction, verbose: int, title: str) -> np.ndarray:
    """The result: of each distinct image what is stored, or else computed."""
    first = _first_positions(task.keys)
    distinct = np.flatnonzero(first == np.arange(len(first)))
    try:
        task.compute(task.missing(distinct), verbose, title)
    except _OtherWidthError as error:
        if task.store is None:
            raise
        warnings.warn(f"stored activations are not used: {error}", TransferclfWarning, stacklevel=3)
        task.rows = None
        task.compute(distinct, verbose, title)
    return task.repeated(first)


def _first_positions(keys: Sequence[bytes]) -> np.ndarray:
    """Where the key of each image comes for the first time."""
    first: dict[bytes, int] = {}
    return np.fromiter((first.setdefault(key, index) for index, key in enumerate(keys)), int)
