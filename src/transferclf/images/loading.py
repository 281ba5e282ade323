"""Images read and decoded by threads. All images that fail are reported, not only the first.

Threads are enough, because Pillow and hashlib release the interpreter lock. A few images are
decoded without them, because starting a thread takes longer than a small image.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import chain, islice, tee
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.formats import Look
from transferclf.images.geometry import PLAIN, ResizeMode, Sampling
from transferclf.images.looks import Looks
from transferclf.images.problems import raise_problems
from transferclf.images.progress import Advance, unseen
from transferclf.images.threads import thread_count

if TYPE_CHECKING:
    from transferclf.images.source import ImageSource

T = TypeVar("T")
Indices = Sequence[int] | np.ndarray

# Up to this number of images, or of bytes in arrays, no threads are started.
FEW = 4
FEW_BYTES = 2**25

# Threads where images are read from far away. They mostly wait for the network.
READERS = 16

# How much is decoded ahead of the batch in use, to keep the network busy with little memory.
BATCHES_AHEAD = 2
BYTES_AHEAD = 2**26

# Images in one batch of `load_all`.
LOADED_AT_ONCE = 32

# Images that a thread takes at a time, because a future costs as much as a small image.
SHARE = 8


def content_digests(source: ImageSource, advance: Advance = unseen) -> list[bytes]:
    """Return the SHA-256 of the content of every image; see :func:`looks_at`."""
    return list(looks_at(source, advance).digests)


def looks_at(source: ImageSource, advance: Advance = unseen) -> Looks:
    """Return digest and header of every image.

    `advance` is called with the number of newly finished images. If a file is not an image, the
    others are decoded too, so that one ImageReadError names all that would fail later.
    """
    threads = 0 if _are_small_arrays(source) else _threads(source, len(source))
    looks = Looks(len(source))

    def look(index: int) -> None:
        looks[index] = source.look(index)

    order = source.in_reading_order(np.arange(len(source)))
    _, failed = _outcomes(look, order, threads, advance)
    if failed:
        sound = [index for index in range(len(source)) if index not in failed]
        _raise_failures(source, failed | failures(source, sound))
    return looks


def load_batches(
    source: ImageSource,
    batches: Sequence[Indices],
    size: tuple[int, int],
    resize: ResizeMode,
    reuse: bool = False,
    sampling: Sampling = PLAIN,
) -> Generator[np.ndarray, None, None]:
    """Yield the pixels of :func:`loaded_batches`. An ImageError names all images at fault."""
    with (
        faults_named(source, _order(batches)),
        closing(loaded_batches(source, batches, size, resize, None, reuse, sampling)) as loaded,
    ):
        for pixels, _ in loaded:
            yield pixels


def loaded_batches(
    source: ImageSource,
    batches: Iterable[Indices],
    size: tuple[int, int],
    resize: ResizeMode,
    looks: Looks | Sequence[Look] | None,
    reuse: bool = False,
    sampling: Sampling = PLAIN,
) -> Generator[tuple[np.ndarray, list[Look]], None, None]:
    """Yield batches of pixels (n, h, w, 3), float32, and of looks at the decoded images.

    Batches are taken from the iterable shortly before they are decoded. The first ones show how
    long a batch is. `looks` are at all images of the source. A file that was replaced since then
    gets a new look. With None the lists are empty. With `reuse`, a batch is in the memory of the
    one before, because new memory takes longer than filling it. The first image at fault raises its
    own ImageError.
    """

    def load(index: int) -> tuple[np.ndarray, Look | None]:
        if looks is None:
            return source.load(index, size, resize, sampling), None
        return source.load_looked(index, size, resize, looks[index], sampling)

    first, rest = _more_than_few(batches)
    threads = _threads(source, sum(map(len, first)))
    longest = max(map(len, first), default=0)
    image_bytes = size[0] * size[1] * 3 * np.dtype(np.float32).itemsize
    ahead = max(threads, min(BATCHES_AHEAD * longest, BYTES_AHEAD // image_bytes))
    memory = np.empty((longest if reuse else 0, *size, 3), np.float32)
    ours, theirs = tee(chain(first, rest))
    with closing(_in_order(load, chain.from_iterable(theirs), threads, ahead)) as images:
        for batch in ours:
            if reuse and len(batch) > len(memory):
                memory = np.empty((len(batch), *size, 3), np.float32)
            room = memory[: len(batch)] if reuse else np.empty((len(batch), *size, 3), np.float32)
            seen: list[Look] = []
            for row, image in enumerate(islice(images, len(batch))):
                if isinstance(image, ImageError):
                    raise image
                room[row], look = image
                if look is not None:
                    seen.append(look)
            yield room, seen


@contextmanager
def faults_named(source: ImageSource, indices: Indices) -> Iterator[None]:
    """Turn an ImageError in this context into one that names all of these images at fault."""
    try:
        yield
    except ImageError:
        _raise_failures(source, failures(source, indices))
        raise  # no image is at fault any more: perhaps a file was being written


def load_all(
    source: ImageSource,
    size: tuple[int, int],
    resize: ResizeMode,
    advance: Advance = unseen,
    sampling: Sampling = PLAIN,
) -> np.ndarray:
    """Return the pixels of all images, shape (n, h, w, 3): uint8 if all are whole, else float32.

    `advance` is called with the number of newly finished images. An ImageError names all images
    that cannot be decoded.
    """
    pixels = np.empty((len(source), *size, 3), np.uint8)
    for start, loaded in load_parts(source, size, resize, advance, sampling):
        if loaded.dtype != np.uint8 and pixels.dtype == np.uint8:
            pixels = pixels.astype(np.float32)
        pixels[start : start + len(loaded)] = loaded
    return pixels


def load_parts(
    source: ImageSource,
    size: tuple[int, int],
    resize: ResizeMode,
    advance: Advance = unseen,
    sampling: Sampling = PLAIN,
) -> Generator[tuple[int, np.ndarray], None, None]:
    """Yield the pixels of :func:`load_all` part by part, each with the position of its first image.

    A part is uint8 if its pixels and those of the parts before are whole numbers, else float32.
    """
    starts = range(0, len(source), LOADED_AT_ONCE)
    batches = [range(start, min(start + LOADED_AT_ONCE, len(source))) for start in starts]
    are_whole = True
    with closing(load_batches(source, batches, size, resize, sampling=sampling)) as loaded_in_turn:
        for start, loaded in zip(starts, loaded_in_turn, strict=True):
            whole = loaded.astype(np.uint8) if are_whole else loaded
            are_whole = are_whole and np.array_equal(whole, loaded)
            yield start, whole if are_whole else loaded
            advance(len(loaded))


def _more_than_few(batches: Iterable[Indices]) -> tuple[list[Indices], Iterator[Indices]]:
    """Return the first batches, which have more than a few images if all have, and the others."""
    rest, first, count = iter(batches), [], 0
    for batch in rest:
        first.append(batch)
        count += len(batch)
        if count > FEW:
            break
    return first, rest


def _order(batches: Sequence[Indices]) -> np.ndarray:
    return np.fromiter((index for batch in batches for index in batch), int)


def _are_small_arrays(source: ImageSource) -> bool:
    if source.is_lazy:
        return False
    nbytes = 0
    for index in range(len(source)):
        item = source.item(index)
        nbytes += item.nbytes if isinstance(item, np.ndarray) else FEW_BYTES
        if nbytes >= FEW_BYTES:
            return False
    return True


def _outcomes(
    function: Callable[[int], T], indices: Indices, threads: int, advance: Advance = unseen
) -> tuple[list[T], dict[int, ImageError]]:
    """Return the results of the images that have one, and the errors of the others."""
    results: list[T] = []
    failed: dict[int, ImageError] = {}
    outcomes = _in_order(function, indices, threads, ahead=8 * SHARE * max(threads, 1))
    for index, outcome in zip(indices, outcomes, strict=True):
        if isinstance(outcome, ImageError):
            failed[int(index)] = outcome
        else:
            results.append(outcome)
        advance(1)
    return results, failed


def failures(source: ImageSource, indices: Indices) -> dict[int, ImageError]:
    """Return the errors of images that cannot be decoded."""

    def probe(index: int) -> None:
        source.load(index, (1, 1), "stretch")

    return _outcomes(probe, indices, _threads(source, len(indices)))[1]


def _threads(source: ImageSource, count: int) -> int:
    """Return the number of threads to start for so many images."""
    if source.is_far and count > 1:
        return max(thread_count(), READERS)
    return thread_count() if count > FEW else 0


def _in_order(
    function: Callable[[int], T], indices: Iterable[int], threads: int, ahead: int
) -> Generator[T | ImageError, None, None]:
    """Yield the result or the error of each index, while threads compute at most `ahead` more."""

    def outcome(index: int) -> T | ImageError:
        try:
            return function(index)
        except ImageError as error:
            return error

    if not threads:
        yield from map(outcome, indices)
        return
    share = max(min(SHARE, ahead // (4 * threads)), 1)
    # The share that is being yielded counts too, if it is more than one image.
    most_waiting = max(ahead // share - (share > 1), 1)
    waiting: deque[Future[list[T | ImageError]]] = deque()
    pool, rest = ThreadPoolExecutor(threads, thread_name_prefix="transferclf-images"), iter(indices)
    try:
        while part := list(islice(rest, share)):
            waiting.append(pool.submit(lambda part: list(map(outcome, part)), part))
            if len(waiting) > most_waiting:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        # After an error or Ctrl-C the images that are still queued are not needed.
        pool.shutdown(cancel_futures=True)


def _raise_failures(source: ImageSource, failed: dict[int, ImageError]) -> None:
    raise_problems(source.note(failed), len(source))
