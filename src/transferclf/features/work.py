"""Batches of an extraction as units of work, and the map that runs them.

An extraction divides its images into units and passes these to a map: a function that calls every
unit once, anywhere and in any order, and yields the results. A unit can be pickled, and its pickle
has only the images of its own batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, tee
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from transferclf.augmentation.views import EXTREME_CROPS
from transferclf.features.row_file import Rows
from transferclf.images.formats import Look, pillow_version
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import loaded_batches
from transferclf.images.looks import Digests, Looks
from transferclf.images.source import ImageSource

if TYPE_CHECKING:
    from transferclf.augmentation.views import View
    from transferclf.features.frozen import Prefix

# The number of images in a unit.
BATCH_SIZE = 32

Network = Callable[[np.ndarray], np.ndarray]

# One batch for the network: its values, their keys, and the looks at the images, if any was read.
Input = tuple[np.ndarray, list[bytes], list[Look]]


class Computed(NamedTuple):
    """The activations of the unit with this number, and the keys and looks of its images.

    Keys and looks are new for files that were replaced.
    """

    number: int
    rows: np.ndarray
    keys: list[bytes]
    looks: list[Look]


class Job(Protocol):
    """All images of one extraction, by their positions."""

    def network(self) -> Network:
        """Return the compiled network; built only by this call."""

    def inputs(self, batches: Iterable[np.ndarray]) -> Generator[Input, None, None]:
        """Yield the input of the network for each of these batches of positions.

        Batches are taken from the iterable shortly before they are needed.
        """

    def part(self, positions: np.ndarray) -> Job:
        """Return the same job for these images only."""


@dataclass(frozen=True)
class ImageJob:
    """Images to be decoded, resized and put through a prefix, or one view of each image.

    `looks` has all images of the source. The extraction updates those of replaced files.
    """

    source: ImageSource
    looks: Looks | list[Look]
    prefix: Prefix
    resize: ResizeMode
    view: View | None

    def network(self) -> Network:
        """Return the compiled prefix."""
        return self.prefix.forward()

    def inputs(self, batches: Iterable[np.ndarray]) -> Generator[Input, None, None]:
        """Yield pixels, or one view of them. Each batch reuses the memory of the one before."""
        size = self.prefix.size
        loaded = loaded_batches(
            self.source,
            batches,
            size,
            self.resize,
            self.looks,
            reuse=True,
            sampling=self.prefix.sampling,
        )
        with closing(loaded):
            for pixels, looks in loaded:
                keys = list(activation_keys(looks, self.prefix, self.resize, self.view))
                yield varied(pixels, looks, self.view), keys, looks

    def part(self, positions: np.ndarray) -> ImageJob:
        """Return the same job for these images only."""
        looks = [self.looks[position] for position in positions]
        return replace(self, source=self.source[positions], looks=looks)


@dataclass(frozen=True)
class RowJob:
    """Activations at the cut to be put through the rest of the frozen network."""

    rows: Rows
    keys: Digests | list[bytes]
    prefix: Prefix

    def network(self) -> Network:
        """Return the compiled network from the cut to the features."""
        return self.prefix.tail_forward()

    def inputs(self, batches: Iterable[np.ndarray]) -> Generator[Input, None, None]:
        """Yield the rows and their keys."""
        for batch in batches:
            yield self.rows[batch], [self.keys[position] for position in batch], []

    def part(self, positions: np.ndarray) -> RowJob:
        """Return the same job for these rows only."""
        keys = [self.keys[position] for position in positions]
        return replace(self, rows=self.rows[positions], keys=keys)


@dataclass(frozen=True)
class Unit:
    """One batch of a job. A call computes its activations, maybe in another process.

    `number` is the place of the unit among all units of the job.
    """

    job: Job
    number: int
    positions: np.ndarray

    def __call__(self) -> Computed:
        """Compute the activations of this batch."""
        (computed,) = in_process([self])
        return computed

    def __reduce__(self) -> tuple[type[Unit], tuple[Job, int, np.ndarray]]:
        part = self.job.part(self.positions)
        return Unit, (part, self.number, np.arange(len(self.positions)))


# Calls each unit once and yields what they return, in any order. A map should iterate over the
# units, and take each shortly before it runs: where processes share a store, units are claimed as
# they are taken. `len` and `reversed` claim all of them, so that no other process shares the work.
UnitMap = Callable[[Sequence[Unit]], Iterable[Computed]]


def in_process(units: Iterable[Unit]) -> Iterator[Computed]:
    """Run units of one job in this process, while threads decode the images of the next ones."""
    rest = iter(units)
    first = next(rest, None)
    if first is None:
        return
    network = first.job.network()
    ours, theirs = tee(chain([first], rest))
    with closing(first.job.inputs(unit.positions for unit in theirs)) as inputs:
        for unit, (values, keys, looks) in zip(ours, inputs, strict=True):
            yield Computed(unit.number, network(values), keys, looks)


def units_of(job: Job, positions: np.ndarray) -> list[Unit]:
    """Return units of all these images."""
    batches = np.split(positions, range(BATCH_SIZE, len(positions), BATCH_SIZE))
    return [Unit(job, number, batch) for number, batch in enumerate(batches)]


@contextmanager
def running(run: UnitMap, units: Sequence[Unit]) -> Iterator[Iterator[Computed]]:
    """Give the results of all units, each once. At the end, the map is closed."""
    results = run(units)

    def each_once() -> Iterator[Computed]:
        done: set[int] = set()
        for computed in results:
            if computed.number in done:
                raise RuntimeError(f"expected each unit of work once, got {computed.number} again")
            done.add(computed.number)
            yield computed
        if missing := set(range(len(units))) - done:
            some = sorted(missing)[:5]
            raise RuntimeError(f"expected {len(units)} units of work, got all but {some}")

    try:
        yield each_once()
    finally:
        if isinstance(results, Generator):
            results.close()


def activation_keys(
    looks: Looks | Sequence[Look], prefix: Prefix, resize: ResizeMode, view: View | None = None
) -> Digests:
    """Return the keys of activations: digests of the image and of everything that computes them."""
    seen = "" if view is None else f" {view.digest}"
    is_square = prefix.size[0] == prefix.size[1] and prefix.sampling.crop_fraction is None
    is_crop_of_square = resize in EXTREME_CROPS and is_square

    before, after = f"{prefix.digest} ", f"{seen} {pillow_version()} "

    def key(look: Look) -> bytes:
        # All square crops of a square image are the image itself.
        mode = "crop" if is_crop_of_square and look.size[0] == look.size[1] else resize
        facts = f"{before}{mode}{after}{look.decoder}"
        return hashlib.sha256(look.digest + facts.encode()).digest()

    return Digests.of(map(key, looks), len(looks))


def varied(pixels: np.ndarray, looks: Sequence[Look], view: View | None) -> np.ndarray:
    """Return one view of each image, or the images where `view` is None."""
    return pixels if view is None else view.of(pixels, [look.digest for look in looks])
