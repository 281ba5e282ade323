"""Extraction on clusters: Dask, Ray and Spark by joblib. `tox -e clusters` has these libraries."""

import os
import signal
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from image_helpers import striped_images
from joblib import parallel_config

from transferclf import CNNFeatureExtractor
from transferclf.features.parallel import worker_count
from transferclf.images import check_images

N = 300  # ten units of work

# Deprecated calls between these libraries, and files that they leave open.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:(joblib|py)spark"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def images():
    return striped_images(N, np.random.default_rng(0))


@pytest.fixture(scope="module")
def extractor(images):
    return CNNFeatureExtractor(image_size=32, cache=None).fit(images[:1])


@pytest.fixture(scope="module")
def expected(extractor, images):
    return extractor.transform(images)


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
            yield client


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray")
    joblib = pytest.importorskip("ray.util.joblib")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    joblib.register_ray()
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def spark():
    joblibspark = pytest.importorskip("joblibspark")
    sql = pytest.importorskip("pyspark.sql")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYSPARK_PYTHON", sys.executable)
        joblibspark.register_spark()
        session = sql.SparkSession.builder.master("local[2]").appName("transferclf").getOrCreate()
        yield session
        session.stop()


def test_dask_gives_the_same_rows(dask, extractor, images, expected):
    seen = extractor.prefix_.forward().images_seen
    with parallel_config("dask"):
        np.testing.assert_array_equal(extractor.transform(images), expected)
    assert extractor.prefix_.forward().images_seen == seen
    assert set(dask.run(os.environ.get, "OMP_NUM_THREADS").values()) == {"1"}


def test_within_a_task_of_dask_there_are_no_further_workers(dask):
    with parallel_config("dask"):
        assert worker_count(None) == 2
        assert dask.submit(worker_count, None).result() == 0
        assert dask.submit(worker_count, 2).result() == 0


def test_killing_a_worker_of_dask_changes_nothing_but_time(dask, extractor, images, expected):
    with parallel_config("dask"):
        read = extractor._extractor()
        pids = list(dask.run(os.getpid).values())
        done = []

        def run(units):
            for computed in read.run(units):
                if not done:
                    os.kill(pids[0], signal.SIGKILL)
                done.append(computed.number)
                yield computed

        rows = replace(read, run=run).rows(check_images(images), extractor.prefix_)
    np.testing.assert_array_equal(rows, expected)
    assert sorted(done) == list(range(len(done)))


def test_ray_gives_the_same_rows(ray, extractor, images, expected):
    seen = extractor.prefix_.forward().images_seen
    with parallel_config("ray", n_jobs=2):
        np.testing.assert_array_equal(extractor.transform(images), expected)
    assert extractor.prefix_.forward().images_seen == seen


def test_spark_gives_the_same_rows(spark, extractor, images, expected):
    seen = extractor.prefix_.forward().images_seen
    with parallel_config("spark", n_jobs=2):
        np.testing.assert_array_equal(extractor.transform(images), expected)
    assert extractor.prefix_.forward().images_seen == seen
