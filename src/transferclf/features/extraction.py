"""Extraction: every distinct image goes through the prefix once.

The images flow in batches: threads decode the next ones while the network runs on the last, and
each batch is stored as soon as it is computed, so that nothing is lost when a later one fails.

Files may be replaced at any time. A first look at all images says which are not stored; what is
decoded later is looked at again, and stored under the key of exactly the bytes that were decoded.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._printing import say
from transferclf.augmentation.views import EXTREME_CROPS
from transferclf.exceptions import NetworkError, TransferclfWarning
from transferclf.features.store import FeatureStore
from transferclf.images.digests import Look
from transferclf.images.formats import pillow_version
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import load_all, load_batches, load_looked_batches, looks_at
from transferclf.images.progress import bar_if
from transferclf.images.source import ImageSource

if TYPE_CHECKING:
    from transferclf.augmentation.views import View
    from transferclf.features.frozen import Prefix

BATCH_SIZE = 32

# Rows that are looked up or copied at a time: so many, but no more than so many bytes together.
CHUNK = 1024
CHUNK_BYTES = 2**25

# What goes into the network for a batch, and the keys of its images.
_Input = tuple[np.ndarray, list[bytes]]

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
    """
    if len(source) == 0:
        return prefix.forward()(np.empty((0, *prefix.size, 3), np.float32))
    looks = _looks(source, verbose, title)
    return _extracted(_Request(source, prefix, resize, view), looks, store, verbose, title)


def extract_from_cut(
    source: ImageSource,
    rows: np.ndarray,
    prefix: Prefix,
    store: FeatureStore | None,
    resize: ResizeMode = "crop",
    verbose: int = 0,
    view: View | None = None,
    title: str = "features",
    looks: Sequence[Look] | None = None,
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
    looks : sequence of Look or None, default=None
        At the images that the activations are of; None looks at them now.

    Returns
    -------
    ndarray of shape (len(source), n_features), float32
    """
    looks = _looks(source) if looks is None else looks
    keys = _keys(looks, prefix.whole(), resize, view)

    def activations(batches: Sequence[np.ndarray]) -> Generator[_Input, None, None]:
        return ((rows[batch], [keys[position] for position in batch]) for batch in batches)

    task = _Extraction(keys, store, prefix.tail_forward, activations, title, verbose)
    return _computed_once(task)


def activation_keys(source: ImageSource, prefix: Prefix, resize: ResizeMode) -> list[bytes]:
    """What the activations of each image are stored under: its content and what computed them."""
    return _keys(_looks(source), prefix, resize)


@dataclass(frozen=True)
class _Request:
    """Which activations are wanted."""

    source: ImageSource
    prefix: Prefix
    resize: ResizeMode
    view: View | None

    def inputs(
        self, looks: list[Look], batches: Sequence[np.ndarray]
    ) -> Generator[_Input, None, None]:
        """Pixels for the network, with their keys; `looks` then are at what was decoded."""
        loaded = load_looked_batches(
            self.source, batches, self.prefix.size, self.resize, looks, reuse=True
        )
        with closing(loaded):
            for batch, (pixels, seen) in zip(batches, loaded, strict=True):
                for position, look in zip(batch, seen, strict=True):
                    looks[position] = look
                keys = _keys(seen, self.prefix, self.resize, self.view)
                yield _varied(pixels, seen, self.view), keys


def _extracted(
    request: _Request, looks: list[Look], store: FeatureStore | None, verbose: int, title: str
) -> np.ndarray:
    keys = _keys(looks, request.prefix, request.resize, request.view)

    def inputs(batches: Sequence[np.ndarray]) -> Generator[_Input, None, None]:
        return request.inputs(looks, batches)

    task = _Extraction(keys, store, request.prefix.forward, inputs, title, verbose)
    return _computed_once(task)


def _keys(
    looks: Sequence[Look], prefix: Prefix, resize: ResizeMode, view: View | None = None
) -> list[bytes]:
    seen = "" if view is None else f" {view.digest}"
    is_crop_of_square = resize in EXTREME_CROPS and prefix.size[0] == prefix.size[1]

    def key(look: Look) -> bytes:
        # Nothing is cut from a square image, so that all its crops are the same.
        mode = "crop" if is_crop_of_square and look.size[0] == look.size[1] else resize
        computed_by = f"{prefix.digest} {mode}{seen} {pillow_version()} {look.decoder}"
        return hashlib.sha256(look.digest + computed_by.encode()).digest()

    return [key(look) for look in looks]


def _looks(source: ImageSource, verbose: int = 0, title: str = "") -> list[Look]:
    with bar_if(verbose, len(source), "images looked at", PATIENCE, title) as advance:
        return looks_at(source, advance)


def _varied(pixels: np.ndarray, looks: Sequence[Look], view: View | None) -> np.ndarray:
    return pixels if view is None else view.of(pixels, [look.digest for look in looks])


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
    _seen: dict[Any, tuple[ImageSource, list[Look]]] = field(default_factory=dict, repr=False)

    def rows(
        self,
        source: ImageSource,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
    ) -> np.ndarray:
        """Activations of shape (len(source), d); see :func:`extract`."""
        if not prefix.is_cut or len(source) == 0:
            return extract(source, prefix, self.store, self.resize, self.verbose, view, title)
        looks = _looks(source, self.verbose, title)
        request = _Request(source, prefix, self.resize, view)
        rows = _extracted(request, looks, self.store, self.verbose, title)
        # What comes after the cut is stored under the content that these rows are of.
        self._seen[_name(source, prefix, view)] = source, looks
        return rows

    def after_cut(
        self,
        source: ImageSource,
        rows: np.ndarray,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
    ) -> np.ndarray:
        """Features (len(source), n_features); see :func:`extract_from_cut`."""
        _, looks = self._seen.get(_name(source, prefix, view), (source, None))
        how = (self.store, self.resize, self.verbose, view, title, looks)
        return extract_from_cut(source, rows, prefix, *how)

    def batches(
        self, source: ImageSource, size: tuple[int, int], view: View | None = None
    ) -> Iterator[np.ndarray]:
        """Pixels (n, h, w, 3) of some images after the other; at least one, be it empty."""
        positions = np.arange(len(source))
        batches = np.split(positions, range(BATCH_SIZE, len(source), BATCH_SIZE))
        if view is None:
            yield from load_batches(source, batches, size, self.resize)
            return
        looks = _looks(source)
        for pixels, seen in load_looked_batches(source, batches, size, self.resize, looks):
            yield _varied(pixels, seen, view)

    def pixels(
        self, source: ImageSource, size: tuple[int, int], title: str = "pixels"
    ) -> np.ndarray:
        """Pixels (len(source), h, w, 3), uint8 where they are whole numbers, else float32."""
        with bar_if(self.verbose, len(source), "images read", PATIENCE, title) as advance:
            return load_all(source, size, self.resize, advance)


def _name(source: ImageSource, prefix: Prefix, view: View | None) -> tuple[int, str, str]:
    return id(source), prefix.digest, "" if view is None else view.digest


class _OtherWidthError(NetworkError):
    """Activations of one call do not fit together."""


@dataclass
class _Extraction:
    """The result of one call while it fills with rows.

    `compiled` gives the network when it is needed, `inputs` what goes into it for each of the
    batches of positions, and the keys of what that is: others than before for files that were
    replaced.
    """

    keys: list[bytes]
    store: FeatureStore | None
    compiled: Callable[[], Callable[[np.ndarray], np.ndarray]]
    inputs: Callable[[Sequence[np.ndarray]], Generator[_Input, None, None]]
    title: str
    verbose: int
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

    def compute(self, positions: np.ndarray) -> None:
        """Fill in the activations of these images, and store them batch by batch."""
        if len(positions) == 0:
            return
        forward = self.compiled()
        batches = np.split(positions, range(BATCH_SIZE, len(positions), BATCH_SIZE))
        inputs = self.inputs(batches)
        known = len(self.keys) - len(positions)
        if self.verbose:
            say(f"{self.title}: {len(positions)} images to compute, {known} known")
        bar = bar_if(self.verbose, len(positions), f"{known} known", title=self.title)
        with closing(inputs), bar as advance:
            for batch, (values, keys) in zip(batches, inputs, strict=True):
                self._keep(batch, keys, forward(values))
                advance(len(batch))

    def repeat(self, positions: np.ndarray, first: np.ndarray) -> None:
        """Copy the rows of images that came before, each from where it came first."""
        assert self.rows is not None
        for chunk in self._chunks(np.arange(len(positions))):
            self.rows[positions[chunk]] = self.rows[first[chunk]]

    def _keep(self, batch: np.ndarray, keys: list[bytes], activations: np.ndarray) -> None:
        if self.store is not None:
            activations = self.store.rounded(activations)
        self._rows_for(activations[0])[batch] = activations
        for position, key in zip(batch, keys, strict=True):
            self.keys[position] = key
        if self.store is not None:
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


def _computed_once(task: _Extraction) -> np.ndarray:
    """The result: of each distinct image what is stored, or else computed."""
    everything = positions = np.arange(len(task.keys))
    while len(positions):
        expected = [task.keys[position] for position in positions]
        first = positions[_first_positions(expected)]
        distinct = positions[first == positions]
        _compute_distinct(task, distinct, is_first=positions is everything)
        if len(distinct) == len(positions):
            break
        repeats = first != positions
        is_known = np.array(
            [task.keys[before] == key for before, key in zip(first, expected, strict=True)]
        )
        task.repeat(positions[repeats & is_known], first[repeats & is_known])
        # A file that was replaced says nothing of what was a copy of it.
        positions = positions[repeats & ~is_known]
    assert task.rows is not None
    return task.rows


def _compute_distinct(task: _Extraction, distinct: np.ndarray, is_first: bool) -> None:
    try:
        task.compute(task.missing(distinct))
    except _OtherWidthError as error:
        if task.store is None:
            raise
        warnings.warn(f"stored activations are not used: {error}", TransferclfWarning, stacklevel=4)
        if is_first:
            task.rows = None
        task.compute(distinct)


def _first_positions(keys: Sequence[bytes]) -> np.ndarray:
    """Where each key comes for the first time."""
    first: dict[bytes, int] = {}
    return np.fromiter((first.setdefault(key, index) for index, key in enumerate(keys)), int)
