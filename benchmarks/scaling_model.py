"""The time and space of an extraction from 10,000 to a billion images, by a simulation.

    python benchmarks/scaling_model.py            # the tables of docs/explanation/scaling_model.md
    python benchmarks/scaling_model.py --measure  # the costs on this machine, by CPU time

The simulation runs the tasks of one calling process: workers compute them, and the process takes
the rows one task after another. Several calling processes have a part of the images each.
"""

from __future__ import annotations

import argparse
import heapq
import pickle
import random
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from measuring import table

TASK = 128  # images; features/parallel.py has the same number as units
IMAGE_BYTES = 50_000
WIDTH = 1280
# Tasks of the same number of images take longer or shorter by this share.
SPREAD = 0.1


@dataclass(frozen=True)
class Costs:
    """CPU seconds and bytes of one image, measured with MobileNetV2 at 160 pixels.

    The calling process looks at each file (digest and header), and keeps each row (in the array and
    in a store on disk). A worker decodes a file and runs the network. `known` is the memory of the
    calling process for what it knows of an image, without the path and the row, and `stored` is the
    size of a row in the store.
    """

    look: float
    keep: float
    decode: float
    network: float
    known: float
    stored: float


@dataclass(frozen=True)
class Setup:
    """A way to run an extraction.

    `callers` processes divide the images, each with `workers` and as many threads as `threads` to
    look at files. `storage` is how many bytes a second the storage gives to all of them.
    """

    images: int
    what: str
    workers: int
    callers: int = 1
    threads: int = 4
    storage: float = 2e9

    @property
    def cores(self) -> int:
        """Cores of all workers."""
        return self.workers * self.callers


@dataclass(frozen=True)
class Outcome:
    """Seconds of looking and of computing, and the share of time that workers are busy."""

    looking: float
    computing: float
    busy: float

    @property
    def seconds(self) -> float:
        """Seconds from the call to its end."""
        return self.looking + self.computing


# From `--measure` on an Intel Xeon with AMX and AVX-512, with one thread.
MEASURED = Costs(
    look=0.000117, keep=1.05e-05, decode=0.00225, network=0.00384, known=269, stored=5160
)

SETUPS = (
    Setup(10**4, "a laptop: `n_jobs=-1`", 4),
    Setup(10**5, "a workstation: `n_jobs=-1`", 16, threads=16),
    Setup(10**6, "a server: `n_jobs=-1`", 64, threads=64),
    Setup(10**7, "4 callers, each with a cluster of 32", 32, 4, 4, 5e9),
    Setup(10**8, "32 callers, each with a cluster of 32", 32, 32, 4, 2e10),
    Setup(10**9, "256 callers, each with a cluster of 16", 16, 256, 4, 1e11),
)


def simulate(setup: Setup, costs: Costs, seed: int = 0) -> Outcome:
    """Simulate one of the calling processes, which all do the same."""
    n_images = -(-setup.images // setup.callers)
    transfer = IMAGE_BYTES * setup.callers / setup.storage  # of one image, for one caller
    looking = n_images * max(costs.look / setup.threads, transfer)
    reading = transfer * setup.workers  # of one image, where all workers read
    each = TASK * max(costs.decode + costs.network, reading)
    rng = random.Random(seed)
    n_tasks = -(-n_images // TASK)
    ends = [each * rng.uniform(1 - SPREAD, 1 + SPREAD) for _ in range(min(setup.workers, n_tasks))]
    heapq.heapify(ends)
    clock, busy, n_started = 0.0, sum(ends), len(ends)
    while ends:
        # The calling process takes the rows of the task that ended first, and sends the next one.
        clock = max(clock, heapq.heappop(ends)) + TASK * costs.keep
        if n_started < n_tasks:
            n_started += 1
            seconds = each * rng.uniform(1 - SPREAD, 1 + SPREAD)
            busy += seconds
            heapq.heappush(ends, clock + seconds)
    return Outcome(looking, clock, busy / (clock * setup.workers))


def tables(costs: Costs = MEASURED) -> str:
    """Return the tables of the page."""
    times, sizes = [], []
    for setup in SETUPS:
        outcome = simulate(setup, costs)
        rate = setup.images / outcome.seconds
        name = f"{setup.images:,}"
        times.append(
            (
                name,
                setup.what,
                f"{setup.cores:,}",
                duration(outcome.looking),
                duration(outcome.computing),
                f"{rate:,.0f}",
                f"{100 * outcome.busy:.0f} %",
            )
        )
        per_caller = setup.images / setup.callers
        sizes.append(
            (
                name,
                size(setup.images * IMAGE_BYTES),
                size(setup.images * costs.stored),
                size(setup.images * WIDTH * 4),
                size(per_caller * (costs.known + WIDTH * 4)),
                size(rate * WIDTH * 4 / setup.callers) + "/s",
            )
        )
    columns = ("images", "set-up", "cores", "looking", "computing", "images/s", "workers busy")
    first = table(columns, times)
    columns = ("images", "files", "store", "rows", "memory of a caller", "rows to a caller")
    return f"{first}\n\n{table(columns, sizes)}"


def costs_table(costs: Costs = MEASURED) -> str:
    """Return a table of the costs of one image."""
    shown = [
        ("calling process: look at a file", f"{1e6 * costs.look:.0f} µs"),
        ("calling process: keep a row, in a store on disk too", f"{1e6 * costs.keep:.0f} µs"),
        ("worker: decode a file", f"{1e3 * costs.decode:.1f} ms"),
        ("worker: run the network", f"{1e3 * costs.network:.1f} ms"),
        ("images/s of a worker", f"{1 / (costs.decode + costs.network):.0f}"),
        ("largest images/s of a calling process", f"{1 / costs.keep:,.0f}"),
        ("file", size(IMAGE_BYTES)),
        ("row", size(WIDTH * 4)),
        ("row in the store", size(costs.stored)),
        ("memory of the calling process, without path and row", size(costs.known)),
    ]
    return table(("of one image", "cost"), shown)


def duration(seconds: float) -> str:
    """Return a duration in the largest unit of which there are two."""
    for name, unit in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * unit:
            return (
                f"{seconds / unit:.0f} {name}"
                if seconds >= 10 * unit
                else f"{seconds / unit:.1f} {name}"
            )
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def size(n_bytes: float) -> str:
    """Return a size in the largest decimal unit of which there is one, with two digits or more."""
    for name, unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= unit:
            value = n_bytes / unit
            return f"{value:.0f} {name}" if value >= 10 else f"{value:.1f} {name}"
    return f"{n_bytes:.0f} bytes"


def measure(n_images: int = 512) -> Costs:
    """Measure the costs by the CPU time of this process, with one thread."""
    import numpy as np
    from cluster import drawn, limit_to_one_thread

    from transferclf import CNNFeatureExtractor, FeatureStore
    from transferclf.features.extraction import Extractor
    from transferclf.features.work import Computed
    from transferclf.images import check_images
    from transferclf.images.loading import loaded_batches, looks_at

    limit_to_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        paths = drawn(Path(folder), n_images)
        n_bytes = np.mean([Path(path).stat().st_size for path in paths])
        print(f"Files of {n_bytes:,.0f} bytes.\n")
        source = check_images(paths)
        tracemalloc.start()
        looks = looks_at(source)
        known = tracemalloc.get_traced_memory()[0] / n_images
        tracemalloc.stop()
        look = cpu(lambda: looks_at(source)) / n_images
        batches = np.split(np.arange(n_images), range(32, n_images, 32))
        load = loaded_batches(source, batches, (160, 160), "crop", looks, reuse=True)
        decode = cpu(lambda: [None for _ in load]) / n_images
        extractor = CNNFeatureExtractor(
            "mobilenet_v2", image_size=160, weights=None, random_state=0, cache=None
        ).fit(paths[:1])
        forward = extractor.prefix_.forward()
        pixels = np.zeros((32, 160, 160, 3), np.float32)
        forward(pixels)
        network = cpu(lambda: [forward(pixels) for _ in range(n_images // 32)]) / n_images

        def result(batch: np.ndarray, number: int) -> bytes:
            rows = np.random.default_rng(number).normal(size=(len(batch), WIDTH))
            seen = [looks[position] for position in batch]
            keys = [look.digest for look in seen]
            return pickle.dumps(Computed(number, rows.astype(np.float32), keys, seen))

        pickled = [result(batch, number) for number, batch in enumerate(batches)]
        store = FeatureStore(Path(folder) / "store")
        read = Extractor(store, "crop", run=lambda units: map(pickle.loads, pickled))
        keep = cpu(lambda: read.rows(source, extractor.prefix_)) / n_images - look
        stored = store.info().nbytes / store.info().entries
    return Costs(look, keep, decode, network, known, stored)


def cpu(run: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the costs here")
    if parser.parse_args().measure:
        costs = measure()
        names = (field.name for field in fields(Costs))
        print("Costs(" + ", ".join(f"{name}={asdict(costs)[name]:.3g}" for name in names) + ")\n")
    else:
        costs = MEASURED
    print(f"{costs_table(costs)}\n\n{tables(costs)}")


if __name__ == "__main__":
    main()
