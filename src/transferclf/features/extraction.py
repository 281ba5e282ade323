"""Extraction: every distinct image goes through the prefix once.

Threads decode the next batches while the network runs on the last. Each batch is stored as soon as
it is computed, so that nothing is lost when a later one fails. A map runs the batches
(:mod:`transferclf.features.work`), by default in this process.

Files may be replaced at any time. A first look at all images shows which are not stored. A file is
looked at again when it is decoded, and its row is stored under the key of the decoded bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import warn
from transferclf.features.claims import Claims
from transferclf.features.row_file import Rows
from transferclf.features.row_space import (
    CHUNK_BYTES,
    OtherWidthError,
    RowLimit,
    RowPart,
    RowSpace,
    chunks_of,
)
from transferclf.features.sharing import Shared
from transferclf.features.store import FeatureStore
from transferclf.features.work import (
    BATCH_SIZE,
    Computed,
    ImageJob,
    Job,
    RowJob,
    Unit,
    UnitMap,
    activation_keys,
    in_process,
    running,
    units_of,
    varied,
)
from transferclf.images.geometry import PLAIN, ResizeMode, Sampling
from transferclf.images.loading import (
    faults_named,
    load_batches,
    load_parts,
    loaded_batches,
    looks_at,
)
from transferclf.images.looks import Digests, Looks
from transferclf.images.progress import Advance, bar_if
from transferclf.images.source import ImageSource

if TYPE_CHECKING:
    from transferclf.augmentation.views import View
    from transferclf.features.frozen import Prefix

# The largest number of rows that are looked up or copied at a time.
CHUNK = 1024

StoreLook = Callable[[Sequence[bytes]], Mapping[bytes, np.ndarray]]

# Seconds before a bar appears while files are read that may all be stored.
PATIENCE = 2.0


@dataclass(frozen=True)
class Extractor:
    """Get the activations of images from the store, or compute them.

    `store` is where activations are looked up and kept. `resize` says how images get the size of
    the network. `verbose=1` shows progress. `run` is the map that runs the batches; see
    :mod:`transferclf.features.work`.
    """

    store: FeatureStore | None
    resize: ResizeMode
    verbose: int = 0
    run: UnitMap = in_process
    _looks_of: dict[tuple[ImageSource, str, str], Looks] = field(default_factory=dict, repr=False)

    def rows(
        self,
        source: ImageSource,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
    ) -> np.ndarray:
        """Return the activations of all images (len(source), d), float32.

        The prefix is built only if an image is missing from the store. An ImageError names all
        images that cannot be read.
        """
        if len(source) == 0:
            return prefix.forward()(np.empty((0, *prefix.size, 3), np.float32))
        into = RowSpace(len(source)).part()
        self.fill(into, source, prefix, view, title)
        return np.asarray(into.rows)

    def fill(
        self,
        into: RowPart,
        source: ImageSource,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
        looks: Looks | None = None,
    ) -> Digests:
        """Write the activations of all images, of which there must be some, into this space.

        Return the keys of the activations. `looks` is a first look at the images, if there was one.
        """
        looks = _looks(source, self.verbose, title) if looks is None else looks
        keys = activation_keys(looks, prefix, self.resize, view)
        job = ImageJob(source, looks, prefix, self.resize, view)
        _Extraction(self, job, source, keys, looks, title, into).run()
        if prefix.is_cut:
            # The extraction has updated the looks. Features after the cut are stored under the
            # content that these rows were computed from.
            self._looks_of[_name(source, prefix, view)] = looks
        return keys

    def first_look(self, source: ImageSource, prefix: Prefix) -> tuple[Looks, Digests]:
        """Return looks at all images, and the keys of their activations. Nothing is computed."""
        looks = _looks(source, self.verbose, "features")
        return looks, activation_keys(looks, prefix, self.resize)

    def applied(
        self,
        function: Callable[[Any], np.ndarray],
        source: ImageSource,
        prefix: Prefix,
        view: View | None = None,
        max_bytes: int | None = None,
    ) -> np.ndarray:
        """Apply a function to the activations of all images; see :meth:`rows`.

        More activations than `max_bytes` are in a file until the function returns.
        """
        if len(source) == 0:
            return function(self.rows(source, prefix, view))
        with RowLimit(len(source), max_bytes) as limit:
            into = RowSpace(len(source), limit).part()
            self.fill(into, source, prefix, view)
            rows = into.rows
            if isinstance(rows, np.ndarray):
                return function(rows)
            return np.concatenate([function(rows[i:j]) for i, j in chunks_of(rows)])

    def after_cut(
        self,
        source: ImageSource,
        rows: Rows,
        prefix: Prefix,
        view: View | None = None,
        title: str = "features",
        into: RowPart | None = None,
    ) -> Rows:
        """Return the features (len(source), d) of the whole network, from the rows at its cut.

        They have the same keys as features that are computed from the images, so that searches over
        the cut share them. `into` is the space for them; None is a new array.
        """
        into = RowSpace(len(source)).part() if into is None else into
        looks = self._looks_of.get(_name(source, prefix, view)) or _looks(source)
        keys = activation_keys(looks, prefix.whole(), self.resize, view)
        job = RowJob(rows, keys, prefix)
        _Extraction(self, job, source, keys.copy(), looks, title, into).run()
        return into.rows

    def batches(
        self,
        source: ImageSource,
        size: tuple[int, int],
        view: View | None = None,
        sampling: Sampling = PLAIN,
    ) -> Iterator[np.ndarray]:
        """Yield the pixels (n, h, w, 3) of each batch; without images, of one empty batch."""
        positions = np.arange(len(source))
        batches = np.split(positions, range(BATCH_SIZE, len(source), BATCH_SIZE))
        if view is None:
            yield from load_batches(source, batches, size, self.resize, sampling=sampling)
            return
        looks = _looks(source)
        loaded = loaded_batches(source, batches, size, self.resize, looks, sampling=sampling)
        with faults_named(source, positions), closing(loaded):
            for pixels, seen in loaded:
                yield varied(pixels, seen, view)

    def fill_pixels(
        self,
        into: RowPart,
        source: ImageSource,
        size: tuple[int, int],
        title: str = "pixels",
        sampling: Sampling = PLAIN,
    ) -> None:
        """Write pixels (len(source), h, w, 3): uint8 if they are whole numbers, else float32."""
        with bar_if(self.verbose, len(source), "images read", PATIENCE, title) as advance:
            parts = load_parts(source, size, self.resize, advance, sampling)
            with closing(parts):
                for start, pixels in parts:
                    into[np.arange(start, start + len(pixels))] = pixels


def _looks(source: ImageSource, verbose: int = 0, title: str = "") -> Looks:
    with bar_if(verbose, len(source), "images looked at", PATIENCE, title) as advance:
        return looks_at(source, advance)


def _name(source: ImageSource, prefix: Prefix, view: View | None) -> tuple[ImageSource, str, str]:
    return source, prefix.digest, "" if view is None else view.digest


@dataclass
class _Extraction:
    """The rows of one call while they are computed.

    `keys` and `looks` are those of the first look at the images. If a file was replaced since then,
    its key and look are updated when its row is computed.
    """

    settings: Extractor
    job: Job
    source: ImageSource
    keys: Digests
    looks: Looks
    title: str
    rows: RowPart

    @property
    def store(self) -> FeatureStore | None:
        return self.settings.store

    def run(self) -> None:
        """Write the rows of all images. Each distinct image is looked up or computed once."""
        everything = positions = np.arange(len(self.keys))
        while len(positions):
            expected = self.keys.at(positions)
            _, index, copy_of = np.unique(expected, return_index=True, return_inverse=True)
            first = positions[index[copy_of]]
            distinct = positions[first == positions]
            self._fill(distinct, is_first=positions is everything)
            if len(distinct) == len(positions):
                break
            repeats = first != positions
            is_known = self.keys.at(first) == expected
            copies, originals = positions[repeats & is_known], first[repeats & is_known]
            for chunk in self._chunks(np.arange(len(copies))):
                self.rows[copies[chunk]] = self.rows[originals[chunk]]
            # The first of several equal files was replaced meanwhile: its copies are computed.
            positions = positions[repeats & ~is_known]

    def _fill(self, distinct: np.ndarray, is_first: bool) -> None:
        store = self.store
        if store is None:
            self._compute(distinct)
            return
        try:
            self._compute(self._missing(distinct, store.get_many), store.claims())
        except OtherWidthError as error:
            warn(f"stored activations are not used: {error}")
            if is_first:
                self.rows.forget()
            self._compute(distinct)

    def _missing(self, positions: np.ndarray, look: StoreLook) -> np.ndarray:
        """Fill in the rows that a look into the store finds; return the positions of the others."""
        missing: list[int] = []
        for chunk in self._chunks(positions):
            found = look([self.keys[position] for position in chunk])
            for position in chunk:
                row = found.get(self.keys[position])
                if row is None:
                    missing.append(position)
                else:
                    self.rows.put(position, row)
        return np.array(missing, int)

    def _compute(self, positions: np.ndarray, claims: Claims | None = None) -> None:
        """Fill in the activations of these images, and store them batch by batch.

        With claims, other processes that store the same activations compute some of them.
        """
        if len(positions) == 0:
            return
        positions = self.source.in_reading_order(positions)
        known = len(self.keys) - len(positions)
        verbose = self.settings.verbose
        if verbose:
            others = f", {known} known" if known else ""
            say(f"{self.title}: {len(positions)} images to compute{others}")
        bar = bar_if(verbose, len(positions), title=self.title)
        with bar as advance, faults_named(self.source, positions):
            if claims is None or self.store is None:
                self._run(units_of(self.job, positions), advance)
                return
            with claims:
                shared = Shared(self.keys, self.store, claims)
                while len(positions):
                    units = shared.units(self.job, positions)
                    self._run(units, advance, shared)
                    positions = self._received(units.aside, advance, shared)

    def _run(self, units: Sequence[Unit], advance: Advance, shared: Shared | None = None) -> None:
        with running(self.settings.run, units) as results:
            for computed in results:
                batch = units[computed.number].positions
                self._keep(batch, computed)
                if shared is not None:
                    shared.finish(batch)
                advance(len(batch))

    def _received(self, positions: np.ndarray, advance: Advance, shared: Shared) -> np.ndarray:
        """Fill in rows that other processes have stored, and wait while they compute more.

        Return the positions of the images whose rows do not come: they are to be computed.
        """
        while len(positions):
            missing = self._missing(positions, shared.look)
            advance(len(positions) - len(missing))
            positions = missing
            if len(positions) and not shared.wait(positions):
                break
        return positions

    def _keep(self, batch: np.ndarray, computed: Computed) -> None:
        activations = np.asarray(computed.rows, np.float32)
        if self.store is not None:
            activations = self.store.rounded(activations)
        self.rows[batch] = activations
        for position, key in zip(batch, computed.keys, strict=True):
            self.keys[position] = key
        for position, look in zip(batch, computed.looks, strict=False):  # rows have no looks
            self.looks[position] = look
        # Rows that are too many for memory would fill a store in memory, and drop its others.
        if self.store is not None and (self.store.path is not None or not self.rows.is_in_file):
            self.store.put_many(dict(zip(computed.keys, activations, strict=True)))

    def _chunks(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        start = 0
        while start < len(positions):
            # Before the width is known, few rows show it.
            size = self.rows.row_bytes
            count = BATCH_SIZE if size is None else CHUNK_BYTES // (size or 1)
            stop = start + min(max(count, BATCH_SIZE), CHUNK)
            yield positions[start:stop]
            start = stop
