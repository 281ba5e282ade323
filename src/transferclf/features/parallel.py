"""Units of work in the worker processes of joblib: loky, or a cluster of Dask, Ray or Spark.

``joblib.parallel_config`` says which workers there are. Each builds the network once and keeps it.
A worker returns rows. Only this process writes to the store, as soon as it has rows.

Rows are the same bits as in one process, if the numbers of threads are the same: a unit is the same
batch in any process, and the engine that this process has chosen runs it.
"""

from __future__ import annotations

import hashlib
import pickle
import socket
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed, wrap_non_picklable_objects
from joblib.parallel import get_active_backend

from transferclf.engines.registry import engine_names
from transferclf.exceptions import (
    ImageError,
    ImageReadError,
    LostWorkerError,
    NetworkError,
    warn,
)
from transferclf.features.frozen import FORWARDS_KEPT
from transferclf.features.work import Computed, ImageJob, Unit, in_process
from transferclf.images.loading import failures, faults_named

if TYPE_CHECKING:
    from transferclf.augmentation.views import View
    from transferclf.features.frozen import Prefix
    from transferclf.images.formats import Look
    from transferclf.images.geometry import ResizeMode
    from transferclf.images.source import ImageSource

# Most units of one task. More would cost less overhead, but rows would reach the store later, and a
# lost worker would lose more.
UNITS_AT_ONCE = 4

# Least number of tasks for each worker, so that all end at about the same time.
TASKS_PER_WORKER = 4

# Tasks for each worker after which rows arrive, where the backend returns all results of a call
# together at its end: Ray and Spark. So many are claimed together where processes share a store.
TASKS_PER_ROUND = 8

# How often new workers are started after one was lost.
RESTARTS = 2

# Errors by which joblib's backends say that a worker ended. Dask has retried before.
_LOST = {"TerminatedWorkerError", "RayActorError", "WorkerCrashedError", "KilledWorker"}


@dataclass(frozen=True)
class Workers:
    """A map that runs units in `n_jobs` worker processes, as :mod:`transferclf.features.work` asks.

    The units run in this process if `n_jobs` means one worker, if joblib's backend has
    threads (the network uses all cores already), if this is a worker itself, and if there is only
    one unit. So do activations that are computed from the rows at a cut, because sending these rows
    would take longer.
    """

    n_jobs: int | None

    def __call__(self, units: Sequence[Unit]) -> Iterable[Computed]:
        """Yield the results of all units, in any order."""
        count = worker_count(self.n_jobs)
        if count == 0:
            return in_process(units)
        if isinstance(units, list):
            return _divided(units, self.n_jobs, count)
        return _in_turns(units, self.n_jobs, count)


def _in_turns(
    units: Iterable[Unit], n_jobs: int | None, count: int
) -> Generator[Computed, None, None]:
    """Yield the results of units that are claimed as they are taken, some at a time."""
    remaining = iter(units)
    while some := list(islice(remaining, count * TASKS_PER_ROUND * UNITS_AT_ONCE)):
        yield from _divided(some, n_jobs, count)


def _divided(units: Sequence[Unit], n_jobs: int | None, count: int) -> Iterator[Computed]:
    if len(units) < 2 or not isinstance(units[0].job, ImageJob):
        return in_process(units)
    return _in_workers(units, n_jobs, count)


def worker_count(n_jobs: int | None) -> int:
    """Return how many workers joblib would use; 0 means that work is to stay in this process."""
    backend, usual = get_active_backend()
    # joblib gives threads or nothing to work within a worker. Only Dask would use its cluster.
    if n_jobs == 1 or getattr(backend, "uses_threads", False) or _is_in_task_of_dask():
        return 0
    count = int(backend.effective_n_jobs(usual if n_jobs is None else n_jobs))
    # joblib does the work of one worker in this process, also if that is the only one of a cluster.
    return 0 if count == 1 else count


def _is_in_task_of_dask() -> bool:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


@dataclass(frozen=True, eq=False)
class Packed:
    """A network to be sent to workers. A worker unpacks it once.

    `content` is its pickle, and `name` the digest of it. joblib puts a large array into memory that
    local workers share. `digest` is that of the prefix in this process, and `is_known_by_digest`
    says whether a copy has the same.
    """

    name: bytes
    content: np.ndarray
    digest: str
    is_known_by_digest: bool

    @classmethod
    def of(cls, prefix: Prefix) -> Packed:
        """Pack a network. Raise NetworkError if it cannot be pickled."""
        engine = prefix.engine_used
        # Some engines have no name that a user could choose; they are the only ones of their kind.
        chosen = prefix.changed(engine=engine) if engine in engine_names() else prefix
        try:
            # Like joblib's workers, it takes along classes and functions of a script or notebook.
            content = pickle.dumps(wrap_non_picklable_objects(chosen, keep_wrapper=False))
            copy = pickle.loads(content)
        except Exception as error:  # code of the user's own may raise anything
            raise NetworkError(
                "n_jobs needs a network that can be pickled, to send it to worker processes. Got "
                f"{type(error).__name__}: {error} Set n_jobs=1, or change the network's own code."
            ) from error
        name, array = hashlib.sha256(content).digest(), np.frombuffer(content, np.uint8)
        return cls(name, array, prefix.digest, copy.digest == prefix.digest)

    def network(self) -> Prefix:
        """Return the network, the same object for each call in this process."""
        with _unpacking:
            if self.name not in _unpacked:
                _unpacked[self.name] = self._unpacked()
            _unpacked.move_to_end(self.name)
            while len(_unpacked) > FORWARDS_KEPT:
                _unpacked.popitem(last=False)
            return _unpacked[self.name]

    def _unpacked(self) -> Prefix:
        prefix = pickle.loads(self.content.tobytes())
        if self.is_known_by_digest and prefix.digest != self.digest:
            raise NetworkError(
                f"a worker on {socket.gethostname()} would compute other features than the process "
                "that called it: its versions of packages differ, or its weights. Install the same "
                "versions and weights for all workers."
            )
        # Rows get the keys that they would have in the calling process.
        prefix.__dict__["digest"] = self.digest
        return prefix


_unpacked: OrderedDict[bytes, Prefix] = OrderedDict()
_unpacking = threading.Lock()


def _compute(
    packed: Packed,
    source: ImageSource,
    looks: list[Look],
    resize: ResizeMode,
    view: View | None,
    sizes: Sequence[tuple[int, int]],
) -> list[Computed]:
    """Compute units in a worker. `sizes` has the number of each unit and of its images."""
    job = ImageJob(source, looks, packed.network(), resize, view)
    positions = np.arange(len(source))
    batches = np.split(positions, np.cumsum([size for _, size in sizes])[:-1])
    units = [Unit(job, number, batch) for (number, _), batch in zip(sizes, batches, strict=True)]
    with faults_named(source, positions):
        return list(in_process(units))


def _call(packed: Packed, units: Sequence[Unit]) -> Any:
    """Return the call that joblib sends to a worker: the network and the images of these units."""
    job = units[0].job
    assert isinstance(job, ImageJob)
    part = job.part(np.concatenate([unit.positions for unit in units]))
    sizes = [(unit.number, len(unit.positions)) for unit in units]
    return delayed(_compute)(packed, part.source, part.looks, part.resize, part.view, sizes)


def _tasks(units: Sequence[Unit], count: int) -> list[Sequence[Unit]]:
    """Divide units among tasks for `count` workers."""
    size = min(max(len(units) // (TASKS_PER_WORKER * count), 1), UNITS_AT_ONCE)
    return [units[start : start + size] for start in range(0, len(units), size)]


def _in_workers(
    units: Sequence[Unit], n_jobs: int | None, count: int
) -> Generator[Computed, None, None]:
    """Yield the results of all units. Units of a lost worker go to new ones."""
    job = units[0].job
    assert isinstance(job, ImageJob)
    missing = {unit.number: unit for unit in units}
    n_lost = 0
    while missing:
        packed = Packed.of(job.prefix)
        calls = (_call(packed, task) for task in _tasks(list(missing.values()), count))
        try:
            with _results(calls, n_jobs, count) as results:
                for computed in results:
                    for one in computed:
                        del missing[one.number]
                        yield one
        except ImageError as error:
            raise _seen_from_here(error, job.source) from None
        except NetworkError:
            # Building it here raises the error again, or finds another engine for "auto".
            if not _has_other_engine(job.prefix):
                raise
        except Exception as error:
            if _LOST.isdisjoint(kind.__name__ for kind in type(error).__mro__):
                raise
            n_lost += 1
            _check_lost(error, n_lost, missing, len(units))


@contextmanager
def _results(
    calls: Iterable[Any], n_jobs: int | None, count: int
) -> Generator[Iterable[list[Computed]], None, None]:
    """Give the results of calls as they come. At the end, calls that still run are stopped."""
    backend, _ = get_active_backend()
    if not backend.supports_return_generator:
        with Parallel(n_jobs) as run:  # keeps its workers for all rounds
            yield _in_rounds(calls, run, TASKS_PER_ROUND * count)
        return
    results = Parallel(n_jobs, return_as="generator_unordered")(calls)
    try:
        yield results
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of results that nobody takes after an error
            results.close()


def _in_rounds(
    calls: Iterable[Any], run: Parallel, size: int
) -> Generator[list[Computed], None, None]:
    """Yield results after every `size` calls, for backends that return all results at the end."""
    remaining = iter(calls)
    while some := list(islice(remaining, size)):
        yield from run(some)


def _seen_from_here(error: ImageError, source: ImageSource) -> ImageError:
    """Return the error of a worker, or one that says that only workers cannot read the images."""
    faulty = np.flatnonzero(np.isin(source.places, error.indices))
    if len(faulty) == 0 or failures(source, faulty):
        return error
    other = ImageReadError(
        f"{error}\nThe process that called the workers can read them. Files must have the same "
        "paths for all workers: put them into a shared folder, or take n_jobs=1."
    )
    other.indices, other.problems = error.indices, error.problems
    return other


def _has_other_engine(prefix: Prefix) -> bool:
    before = prefix.engine_used
    prefix.forward()
    return prefix.engine_used != before


def _check_lost(error: Exception, n_lost: int, missing: dict[int, Unit], total: int) -> None:
    """Warn that a worker was lost, or raise LostWorkerError if it was not the first."""
    n_images = sum(len(unit.positions) for unit in missing.values())
    if n_lost > RESTARTS or type(error).__name__ == "KilledWorker":
        raise LostWorkerError(
            f"worker processes ended before {len(missing)} of {total} batches were computed: "
            f"{n_images} images are missing. Perhaps memory was short, or an image ends the "
            "program that decodes it. Set a smaller n_jobs; n_jobs=1 goes through the images in "
            "order. A store keeps what was computed."
        ) from error
    warn(
        f"a worker process ended ({type(error).__name__}): {n_images} images that it and others "
        "had still to compute go to new workers"
    )
