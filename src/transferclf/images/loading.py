"""Threads that read and decode images; every image that fails is reported, not the first.

Pillow and hashlib release the interpreter lock while they work, so threads are enough.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import joblib
import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images.geometry import ResizeMode
from transferclf.images.problems import Problem, raise_problems
from transferclf.images.source import ImageSource

T = TypeVar("T")

# Batches decoded ahead of the one in use: enough to keep the network busy, few in memory.
BATCHES_AHEAD = 2

# Files read by one round of threads; bounds what is queued, not what is read.
ROUND = 1024


def content_digests(source: ImageSource) -> list[bytes]:
    """SHA-256 of the content of every image, in order.

    Raises
    ------
    ImageReadError
        If files are not images; then the others are decoded too, so that the one error names
        all that would have failed later.
    """
    with _pool() as pool:
        digests, failed = _outcomes(pool, source.digest, range(len(source)))
        if failed:
            sound = [index for index in range(len(source)) if index not in failed]
            failed |= _outcomes(pool, lambda index: _probe(source, index), sound)[1]
    _raise_failures(source, failed)
    return digests


def load_batches(
    source: ImageSource,
    batches: Sequence[Sequence[int]],
    size: tuple[int, int],
    resize: ResizeMode,
) -> Iterator[np.ndarray]:
    """Yield batches of decoded and resized images, the next ones being decoded meanwhile.

    Parameters
    ----------
    source : ImageSource
        The images.
    batches : sequence of sequences of int
        Which images make each batch.
    size : (int, int)
        Height and width.
    resize : {"crop", "stretch", "pad"}
        How to get there.

    Yields
    ------
    ndarray of shape (len(batch), size[0], size[1], 3), float32

    Raises
    ------
    ImageError
        If images cannot be decoded. All the images of all batches that cannot are named.
    """

    def load(index: int) -> np.ndarray:
        return source.load(index, size, resize)

    with _pool() as pool:
        for batch, futures in zip(batches, _ahead(pool, load, batches), strict=True):
            images, failed = _gathered(batch, futures)
            if failed:
                _raise_failures(source, _all_failures(pool, source, batches))
            yield np.stack([image.astype(np.float32) for image in images])


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(joblib.cpu_count(), thread_name_prefix="transferclf-images")
    try:
        yield pool
    finally:
        # After an error or Ctrl-C nobody wants what is still queued.
        pool.shutdown(cancel_futures=True)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[int], T], batches: Iterable[Sequence[int]]
) -> Iterator[list[Future[T]]]:
    """Yield the futures of one batch after the other, with the next ones already submitted."""
    waiting: deque[list[Future[T]]] = deque()
    for batch in batches:
        waiting.append([pool.submit(function, index) for index in batch])
        if len(waiting) > BATCHES_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _outcomes(
    pool: ThreadPoolExecutor, function: Callable[[int], T], indices: Sequence[int]
) -> tuple[list[T], dict[int, ImageError]]:
    results: list[T] = []
    failed: dict[int, ImageError] = {}
    rounds = [indices[start : start + ROUND] for start in range(0, len(indices), ROUND)]
    for part, futures in zip(rounds, _ahead(pool, function, rounds), strict=True):
        done, wrong = _gathered(part, futures)
        results += done
        failed |= wrong
    return results, failed


def _gathered(
    indices: Sequence[int], futures: Sequence[Future[T]]
) -> tuple[list[T], dict[int, ImageError]]:
    results, failed = [], {}
    for index, future in zip(indices, futures, strict=True):
        try:
            results.append(future.result())
        except ImageError as error:
            failed[index] = error
    return results, failed


def _all_failures(
    pool: ThreadPoolExecutor, source: ImageSource, batches: Sequence[Sequence[int]]
) -> dict[int, ImageError]:
    indices = [index for batch in batches for index in batch]
    return _outcomes(pool, lambda index: _probe(source, index), indices)[1]


def _probe(source: ImageSource, index: int) -> None:
    """Decode an image only to see whether it can be; its pixels are dropped at once."""
    source.load(index)


def _raise_failures(source: ImageSource, failed: dict[int, ImageError]) -> None:
    problems = [Problem(source.describe(index), failed[index]) for index in sorted(failed)]
    raise_problems(problems, len(source))
