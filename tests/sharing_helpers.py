"""Worker processes that share a store on disk, and the images that each of them computed.

The processes are forked from one that has imported no TensorFlow, so that they start together.
Their network is a function of NumPy.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from transferclf.features import FeatureStore, claims, segments
from transferclf.features.extraction import Extractor
from transferclf.features.work import in_process
from transferclf.images import check_images
from transferclf.images.geometry import Sampling

SIDE = 4


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def sums(pixels):
    """Return whole numbers, so that they are exact in any batch."""
    rows = pixels.reshape(len(pixels), -1)
    return (rows @ np.stack([np.ones(rows.shape[1]), np.arange(rows.shape[1])], 1)).astype("f4")


class Sums:
    """Substitute for a prefix, which counts its images and batches."""

    size, digest, is_cut, sampling = (SIDE, SIDE), "sums", False, Sampling()

    def __init__(self):
        self.computed = self.n_batches = 0

    def forward(self):
        return self

    def __call__(self, pixels):
        self.n_batches += 1
        self.computed += len(pixels)
        return sums(pixels)


def extract(X, prefix, store, run=in_process):
    return Extractor(store, "crop", run=run).rows(check_images(X), prefix)


def work(folder, number, task):
    """Compute the features of the images of some folds, as a worker of a search does."""
    claims.LEASE = task.get("lease", claims.LEASE)
    X = pictures(task["count"])
    counts = os.open(Path(folder, f"{number}.computed"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Counted(Sums):
        def __call__(self, pixels):
            rows = super().__call__(pixels)
            os.write(counts, b"%d\n" % len(pixels))  # also the images of a process that is killed
            time.sleep(task["pause"])
            if "stop_at" not in task:  # no worker is done before another has begun
                wait_until(lambda: len(begun(folder)) > 1)
            if number == 0 and self.n_batches == task.get("stop_at"):
                os.kill(os.getpid(), getattr(signal, task["signal"]))
            return rows

    if number and "stop_at" in task:  # the first worker must not come too late to be stopped
        wait_until(lambda: 0 in begun(folder))
    prefix, store = Counted(), FeatureStore(Path(folder, "store"))
    for fold in task["folds"]:
        some = np.arange(len(X)) % 5 != (number + fold) % 5 if fold is not None else slice(None)
        np.testing.assert_array_equal(extract(X[some], prefix, store), sums(X[some]))


def begun(folder):
    """Return the numbers of the workers that have computed something."""
    return {int(path.stem) for path in Path(folder).glob("*.computed") if path.stat().st_size}


def wait_until(condition):
    stop = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.005)


def serve(folder, n_workers, task):
    """Fork the workers, and print their exit statuses once all that are not stopped have ended."""
    pids = []
    for number in range(n_workers):
        pid = os.fork()
        if pid == 0:
            try:
                work(folder, number, task)
                status = 0
            except BaseException:
                traceback.print_exc()
                status = 1
            os._exit(status)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids[1:]]
    if task.get("signal") == "SIGSTOP":
        os.kill(pids[0], signal.SIGKILL)
    print([os.waitstatus_to_exitcode(status) for status in [os.waitpid(pids[0], 0)[1], *statuses]])


def run_workers(folder, n_workers, count, *, folds=(0, 1, None), pause=0.005, **task):
    """Return the exit codes of workers, and how many images they computed and stored."""
    code = "import json, sys, sharing_helpers as h; h.serve(*json.loads(sys.argv[1]))"
    asked = [str(folder), n_workers, {"count": count, "folds": folds, "pause": pause, **task}]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, json.dumps(asked)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    computed = [sum(map(int, path.read_text().split())) for path in folder.glob("*.computed")]
    assert len(computed) == n_workers
    return json.loads(done.stdout), computed, n_stored(folder / "store")


def n_stored(path):
    """Return the number of records in a folder, also those of the same image."""
    count = 0
    for file in path.rglob("*.features"):
        with open(file, "rb", buffering=0) as opened:
            places = segments.places_in(opened, 0, file.stat().st_size)
            count += sum(len(block) for block, _ in places)
    return count
