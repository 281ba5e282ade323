"""Extraction on a Dask cluster with two workers of one thread, compared with one such worker.

Both clusters run on this machine, which needs two free cores and a system that binds processes to
cores. Each worker is bound to one: the threads that read files beside it would use a second, and a
row shows how fast that is. joblib computes for one worker in the process that asks, so
that this one is bound. Images are JPEG files, drawn here or photographs below TRANSFERCLF_DATA.
MobileNetV2 has random weights, and nothing is stored. Workers have built the network before they
are timed. All rows are compared bit by bit with those of one process, also where a worker is killed
half way.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from measuring import Claim, Options, claims_table, number, start, table
from pictures import jpeg_of

from transferclf import CNNFeatureExtractor
from transferclf.features.work import Computed, Unit
from transferclf.images import check_images

BACKBONE, SIDE = "mobilenet_v2", 160
FILE_SIZE = (375, 500)
FREE = "one worker that reads files on a second core"
N_DRAWN = 50  # distinct pictures; the files differ by a few bytes at their ends


def main(options: Options) -> None:
    limit_to_one_thread()
    n_images = 300 if options.quick else 2000
    extractor = CNNFeatureExtractor(
        BACKBONE, image_size=SIDE, weights=None, random_state=0, cache=None
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = photographs(n_images) or drawn(Path(folder), n_images)
        extractor.fit(paths[:1])
        expected = extractor.transform(paths)
        with cluster(1) as one, cluster(2) as two:
            clusters = {FREE: one, "one worker": one, "two workers": two}
            timed = rounds(extractor, paths, expected, clusters, options.rounds)
            killed = seconds_with_a_killed_worker(extractor, paths, expected, two)
    best = {name: min(each[1:]) for name, each in timed.items()}
    rows = [
        (name, number(timed[name][0]), number(best[name]), number(n_images / best[name]))
        for name in clusters
    ]
    rows.append(("two workers, one killed half way", "", number(killed), number(n_images / killed)))
    print(f"{n_images} JPEG files, {BACKBONE} at {SIDE} pixels.\n")
    print(table(("cluster", "first call, wall s", "wall s, best", "images/s"), rows) + "\n")
    ratio = best["one worker"] / best["two workers"]
    name = "two workers of one thread, times as fast as one, by wall time"
    print(claims_table([Claim(name, ratio, 1.6)]))


def limit_to_one_thread() -> None:
    """Limit networks of this process, too: other numbers of threads may give other last bits."""
    for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ[variable] = "1"


def photographs(n_images: int) -> list[str]:
    """Return JPEG files below TRANSFERCLF_DATA, or none if there are too few."""
    folder = os.environ.get("TRANSFERCLF_DATA")
    found = sorted(map(str, Path(folder).rglob("*.jpg")))[:n_images] if folder else []
    return found if len(found) == n_images else []


def drawn(folder: Path, n_images: int) -> list[str]:
    """Draw JPEG files of different contents."""
    contents = [jpeg_of(*FILE_SIZE, seed) for seed in range(min(N_DRAWN, n_images))]
    paths = []
    for number_ in range(n_images):
        path = folder / f"{number_}.jpg"
        # Bytes after the end of a picture change its digest and no pixel.
        path.write_bytes(contents[number_ % len(contents)] + b"%06d" % number_)
        paths.append(str(path))
    return paths


@contextmanager
def cluster(n_workers: int) -> Iterator[Any]:
    """Give a client of a new cluster on this machine, with workers of one thread."""
    from distributed import Client, LocalCluster

    options = {"n_workers": n_workers, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as workers, Client(workers, set_as_default=False) as client:
        yield client


def rounds(
    extractor: CNNFeatureExtractor,
    paths: Sequence[str],
    expected: np.ndarray,
    clusters: dict[str, Any],
    n_rounds: int,
) -> dict[str, list[float]]:
    """Return wall seconds of each cluster in turns. In the first, workers build the network."""
    seconds: dict[str, list[float]] = {name: [] for name in clusters}
    for _ in range(1 + n_rounds):
        for name, client in clusters.items():
            cores = os.sched_getaffinity(0)
            if name != FREE:
                bind_each(client, sorted(cores))
            with parallel_config("dask", client=client):
                begin = time.perf_counter()
                check(extractor.transform(paths), expected)
                seconds[name].append(time.perf_counter() - begin)
            bind(cores)
    return seconds


def bind_each(client: Any, cores: Sequence[int]) -> None:
    """Bind each worker to a core of its own, or this process if it is to compute for one worker."""
    workers = list(client.scheduler_info()["workers"])
    if len(workers) == 1:
        bind(cores[:1])
    for core, worker in zip(cores, workers, strict=False):
        client.run(bind, [core], workers=[worker])


def bind(cores: Collection[int]) -> None:
    """Let all threads of this process run on these cores only."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread), cores)


def seconds_with_a_killed_worker(
    extractor: CNNFeatureExtractor, paths: Sequence[str], expected: np.ndarray, client: Any
) -> float:
    """Return wall seconds where one worker is killed after half of the batches."""
    pid = next(iter(client.run(os.getpid).values()))
    with parallel_config("dask", client=client):
        read = extractor._extractor()

        def run(units: Sequence[Unit]) -> Iterable[Computed]:
            for n_done, computed in enumerate(read.run(units), 1):
                if n_done == len(units) // 2:
                    os.kill(pid, signal.SIGKILL)
                yield computed

        begin = time.perf_counter()
        rows = replace(read, run=run).rows(check_images(paths), extractor.prefix_)
        seconds = time.perf_counter() - begin
    check(rows, expected)
    return seconds


def check(rows: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(rows, expected):
        raise RuntimeError("expected the rows of one process, bit for bit, got others")


if __name__ == "__main__":
    start(main)
