"""Extraction in worker processes: the same rows, one network a worker, errors, lost workers."""

import os
import pickle
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from extraction_helpers import SIDE, Moments, extract, moments
from image_helpers import striped_images
from joblib import Parallel, delayed, parallel_config
from parallel_helpers import Deadly, Places
from PIL import Image

from transferclf import CNNFeatureExtractor, TransferClassifier, register_backbone
from transferclf.exceptions import (
    ImageReadError,
    InvalidParameterError,
    LostWorkerError,
    NetworkError,
    TransferclfWarning,
)
from transferclf.features import FeatureStore, parallel
from transferclf.features.extraction import BATCH_SIZE
from transferclf.features.parallel import Packed, Workers, worker_count
from transferclf.features.work import ImageJob, in_process, units_of
from transferclf.images import check_images
from transferclf.images.loading import looks_at
from transferclf.reports import audit

N = 5 * BATCH_SIZE + 5


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def paths(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [str(folder / f"{number}.png") for number in range(N)]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def stored(store):
    return {key: row.tobytes() for key, row in store._memory._entries.items()}


def test_workers_give_the_same_rows_in_the_same_order(paths, pictures, capsys):
    for X in (paths, pictures, [*paths[:40], *pictures[::-1]]):
        stores = FeatureStore(), FeatureStore()
        expected = extract(check_images(X), Moments(), stores[0])
        rows = extract(check_images(X), Moments(), stores[1], verbose=1, run=Workers(2))
        np.testing.assert_array_equal(rows, expected)
        assert stored(stores[0]) == stored(stores[1])
        assert f": {len(X)}/{len(X)} in" in capsys.readouterr().out


def is_running(pid):
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return not Path("/proc").exists()  # other systems do not tell more
    return state != b"Z"  # ended, but its parent has not noticed


def test_each_worker_gets_the_network_once(pictures):
    for _ in range(2):
        rows = extract(check_images(pictures), Places(), None, run=Workers(2))
        assert os.getpid() not in rows[:, 0]
        assert set(rows[:, 1]) == {1}
    here = extract(check_images(pictures[:BATCH_SIZE]), Places(), None, run=Workers(2))
    assert set(here[:, 0]) == {os.getpid()}


def test_joblib_says_how_many_workers_there_are():
    assert [worker_count(n_jobs) for n_jobs in (None, 1, 2)] == [0, 0, 2]
    with parallel_config(n_jobs=3):
        assert [worker_count(n_jobs) for n_jobs in (None, 1, 2)] == [3, 0, 2]
    for backend in ("threading", "sequential"):
        with parallel_config(backend, n_jobs=2):
            assert worker_count(None) == worker_count(2) == 0
    assert Parallel(n_jobs=2)(delayed(worker_count)(n) for n in (None, 2, -1)) == [0, 0, 0]


class Waiting(Moments):
    """Substitute for a prefix whose rows say in which process it ran; late images take a minute."""

    def __init__(self, late):
        self.late = late

    def forward(self):
        return self.rows

    def rows(self, pixels):
        if (pixels[0] == self.late).all(axis=(1, 2, 3)).any():
            time.sleep(60)
        return np.full((len(pixels), 2), os.getpid(), np.float32)


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_keeps_what_was_stored(pictures):
    def interrupted(units):
        for number, computed in enumerate(Workers(2)(units)):
            if number == 2:
                raise KeyboardInterrupt
            pids.add(int(computed.rows[0, 0]))
            yield computed

    pids, store = set(), FeatureStore()
    prefix = Waiting(pictures[3 * BATCH_SIZE :].astype(float))
    with pytest.raises(KeyboardInterrupt):
        extract(check_images(pictures[:-5]), prefix, store, run=interrupted)
    assert store.info().entries == 2 * BATCH_SIZE
    limit = time.monotonic() + 30
    while any(map(is_running, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def test_images_of_a_lost_worker_are_computed_by_another(pictures, tmp_path):
    kept = []

    def run(units):
        for computed in Workers(2)(units):
            yield computed
            kept.extend(units[computed.number].positions)
            if len(kept) >= 4 * BATCH_SIZE:
                (tmp_path / "go").touch()

    prefix = Deadly(tmp_path, pictures[7].astype(float))
    with pytest.warns(TransferclfWarning, match=r"a worker process ended \(TerminatedWorkerError"):
        rows = extract(check_images(pictures), prefix, FeatureStore(), run=run)
    np.testing.assert_array_equal(rows, extract(check_images(pictures), Moments(), None))
    assert sorted(kept) == list(range(N))
    log = (tmp_path / "computed").read_bytes()
    computed = [log[start : start + 3] for start in range(0, len(log), 3)]
    before = [pictures[position, 0, 0].tobytes() for position in kept[: 4 * BATCH_SIZE]]
    assert [computed.count(image) for image in before] == [1] * len(before)


@pytest.fixture
def threads(monkeypatch):
    """Let tasks run in threads, which start in no time."""
    monkeypatch.setattr(parallel, "worker_count", lambda n_jobs: 2)
    with parallel_config("threading", n_jobs=2):
        yield


class Claimed(Sequence):
    """Units that are claimed as they are taken, as of processes that share a store."""

    def __init__(self, units):
        self.units, self.taken = units, 0

    def __iter__(self):
        for unit in self.units:
            self.taken += 1
            yield unit

    def __len__(self):
        raise AssertionError("all of them are claimed")

    __getitem__ = __len__


def test_units_of_a_shared_store_are_claimed_some_at_a_time(pictures, threads, monkeypatch):
    monkeypatch.setattr(parallel, "TASKS_PER_ROUND", 1)
    monkeypatch.setattr(parallel, "UNITS_AT_ONCE", 1)
    source = check_images(pictures)
    job = ImageJob(source, looks_at(source), Moments(), "crop", None)
    for count, most in ((0, 4), (2, 2)):  # in this process, images are decoded ahead
        monkeypatch.setattr(parallel, "worker_count", lambda n_jobs, count=count: count)
        units = Claimed(units_of(job, np.arange(N)))
        results = Workers(2)(units)
        numbers = [next(iter(results)).number]
        assert units.taken <= most
        numbers += [computed.number for computed in results]
        assert sorted(numbers) == list(range(6))


class TerminatedWorkerError(Exception):
    """Substitute for the error of joblib that has this name."""


class Lost(Moments):
    def __init__(self, image):
        self.image = image

    def forward(self):
        return self.rows

    def rows(self, pixels):
        if (pixels == self.image).all(axis=(1, 2, 3)).any():
            raise TerminatedWorkerError("it was killed")
        return moments(pixels)


def test_workers_that_end_again_and_again_are_an_error(pictures, threads):
    prefix, store = Lost(pictures[-1].astype(float)), FeatureStore()
    with (
        pytest.warns(TransferclfWarning, match="a worker process ended") as warned,
        pytest.raises(LostWorkerError, match=r"ended before \d of 6 batches") as error,
    ):
        extract(check_images(pictures), prefix, store, run=Workers(2))
    assert len(warned) == parallel.RESTARTS
    n_missing = int(re.search(r"(\d+) images are missing", str(error.value))[1])
    assert store.info().entries == N - n_missing < N


def test_errors_of_workers_name_all_bad_images(paths, tmp_path):
    X, bad = list(paths), [3, 70, N - 1]
    for index in bad:
        X[index] = str(tmp_path / f"{index}.png")
        Path(X[index]).write_bytes(Path(paths[index]).read_bytes()[:-30])
    source = check_images([paths[0], *X])[np.arange(N, 0, -1)]
    errors = []
    for run in (in_process, Workers(2)):
        with pytest.raises(ImageReadError) as error:
            extract(source, Moments(), None, run=run)
        errors.append(error.value)
    assert errors[0].indices == errors[1].indices == [index + 1 for index in bad[::-1]]
    assert errors[0].problems == errors[1].problems
    assert X[3] in errors[1].problems[-1]


def test_an_image_that_only_workers_cannot_read_is_an_error_of_its_own(paths):
    source = check_images(paths)[[4, 2]]
    error = ImageReadError("1 of 2 images cannot be used:\n  image 2 (2.png): no such file")
    error.indices, error.problems = [2], ["image 2 (2.png): no such file"]
    other = parallel._seen_from_here(error, source)
    assert "image 2 (2.png)" in str(other)
    assert "Files must have the same paths for all workers" in str(other)
    assert (other.indices, other.problems) == (error.indices, error.problems)
    error.indices = [3]  # of no image here
    assert parallel._seen_from_here(error, source) is error


class Undecided(Moments):
    """Substitute for a prefix with engine="auto", whose first engine cannot run the network."""

    def __init__(self, engine="auto"):
        self.engine, self.engine_used = engine, "tensorflow" if engine == "auto" else engine

    def changed(self, engine):
        return Undecided(engine)

    def forward(self):
        if self.engine == "auto":
            self.engine_used = "keras"
        elif self.engine == "tensorflow":
            raise NetworkError("an unknown operation")
        return moments


def test_workers_use_the_engine_that_this_process_finds(pictures, threads):
    rows = extract(check_images(pictures), Undecided(), None, run=Workers(2))
    np.testing.assert_array_equal(rows, extract(check_images(pictures), Moments(), None))
    with pytest.raises(NetworkError, match="an unknown operation"):
        extract(check_images(pictures), Undecided("tensorflow"), None, run=Workers(2))


def test_a_network_that_cannot_be_pickled_is_an_error_before_any_work(pictures):
    lock, seen = threading.Lock(), []

    def function(pixels):
        with lock:
            seen.append(len(pixels))
            return pixels.mean((1, 2))

    register_backbone("locked", function=function, image_size=SIDE, preprocessing="none")
    extractor = CNNFeatureExtractor("locked", n_jobs=2, cache=None).fit(pictures[:1])
    before = list(seen)
    with pytest.raises(NetworkError, match="n_jobs needs a network that can be pickled"):
        extractor.transform(pictures)
    assert seen == before


def test_a_model_of_the_users_own_keeps_its_key_in_a_worker(rng):
    X = striped_images(8, rng)
    inputs = keras.Input((32, 32, 3))
    outputs = keras.layers.Conv2D(4, 5)(keras.layers.Lambda(lambda x: x / 255)(inputs))
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(outputs))
    prefix = CNNFeatureExtractor(model, preprocessing="none").fit(X[:2]).prefix_
    packed = Packed.of(prefix)
    there = pickle.loads(pickle.dumps(packed)).network()
    assert there is packed.network()
    assert there.digest == prefix.digest
    assert there.engine == prefix.engine_used != "auto"
    pixels = X.astype(np.float32)
    np.testing.assert_array_equal(there.forward()(pixels), prefix.forward()(pixels))


def test_a_worker_with_another_network_of_the_same_name_is_an_error(rng):
    prefix = CNNFeatureExtractor("tiny", image_size=32).fit(striped_images(2, rng)).prefix_
    packed = Packed.of(prefix)
    assert packed.is_known_by_digest
    other = Packed(b"other", packed.content, "digest of another version", True)
    with pytest.raises(NetworkError, match="would compute other features than the process"):
        other.network()


@pytest.mark.slow
def test_estimators_and_audits_pass_n_jobs_on(rng, tmp_path):
    X, y = striped_images(70, rng), np.arange(70) % 3
    paths = [str(tmp_path / f"{number}.png") for number in range(70)]
    for path, image in zip(paths, X, strict=True):
        Image.fromarray(image).save(path)
    options = {"image_size": 32, "random_state": 0, "cache": None}
    here = CNNFeatureExtractor(**options).fit(paths)
    there = CNNFeatureExtractor(**options, n_jobs=2).fit(paths)
    np.testing.assert_array_equal(there.transform(paths), here.transform(paths))
    assert there.prefix_.forward().images_seen == here.prefix_.forward().images_seen
    one, two = (TransferClassifier(**options, l2=0.1, n_jobs=n).fit(paths, y) for n in (1, 2))
    np.testing.assert_array_equal(one.predict_proba(paths), two.predict_proba(paths))
    seen = here.prefix_.forward().images_seen
    found = audit(paths, extractor=here, n_jobs=2)
    assert found.n_images == 70
    assert here.prefix_.forward().images_seen <= seen + 1  # the image of fit


@pytest.mark.parametrize("n_jobs", [0, 1.5, True, "all", [2]])
def test_other_values_of_n_jobs_are_refused(n_jobs, pictures):
    with pytest.raises(InvalidParameterError, match="n_jobs must be None, a number of processes"):
        CNNFeatureExtractor(n_jobs=n_jobs).fit(pictures)
    with pytest.raises(InvalidParameterError, match="n_jobs must be None, a number of processes"):
        audit(pictures, n_jobs=n_jobs)
