"""The number of threads to use, and that TensorFlow uses no more."""

import os
import subprocess
import sys
from importlib.util import find_spec

import joblib
import pytest

from transferclf.graphs.isolation import VARIABLES, limit_threads
from transferclf.images.threads import thread_count, thread_limit


@pytest.fixture
def omp(monkeypatch):
    def assign(value):
        if value is None:
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("OMP_NUM_THREADS", value)

    for variable in VARIABLES:
        # Set and deleted, so that monkeypatch undoes changes by the test.
        monkeypatch.setenv(variable, "0")
        monkeypatch.delenv(variable)
    return assign


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (None, None),
        ("", None),
        ("many", None),
        ("-2", None),
        ("1", 1),
        (" 3 ", 3),
        ("4,2", 4),
        ("0", 1),
    ],
)
def test_the_limit_is_read_from_the_environment(omp, value, limit):
    omp(value)
    assert thread_limit() == limit


def test_the_count_is_the_smaller_of_limit_and_processors(omp, monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: 6)
    for value, count in [(None, 6), ("1", 1), ("4", 4), ("64", 6), ("many", 6)]:
        omp(value)
        assert thread_count() == thread_count(physical=True) == count


def test_cores_may_be_fewer_than_processors(omp, monkeypatch):
    omp(None)
    monkeypatch.setattr(
        joblib, "cpu_count", lambda only_physical_cores: 4 if only_physical_cores else 8
    )
    assert (thread_count(), thread_count(physical=True)) == (8, 4)


def test_the_limit_is_passed_to_tensorflow(omp):
    omp("3")
    limit_threads()
    assert [os.environ[variable] for variable in VARIABLES] == ["3", "3"]


def test_without_a_limit_tensorflow_is_not_configured(omp):
    omp(None)
    limit_threads()
    assert not set(VARIABLES) & set(os.environ)


def test_settings_of_the_user_are_kept(omp, monkeypatch):
    omp("3")
    monkeypatch.setenv(VARIABLES[0], "7")
    limit_threads()
    assert [os.environ[variable] for variable in VARIABLES] == ["7", "3"]


COUNTING = """
import os, sys
from transferclf.graphs.isolation import limit_threads
assert not {"keras", "tensorflow"} & set(sys.modules)
limit_threads()
import keras, numpy as np
from transferclf.engines.forward import compile_forward
inputs = keras.Input((64, 64, 3))
x = keras.layers.Conv2D(32, 3, padding="same")(inputs)
for _ in range(4):
    x = keras.layers.Conv2D(32, 3, padding="same")(x)
model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
images = np.zeros((128, 64, 64, 3), np.float32)

def cpu_by_thread():
    seconds = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        seconds[thread] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds

for engine in sys.argv[1:]:
    forward = compile_forward(model, engine)
    forward(images[:32])
    counts = []
    for turn in range(3):  # on a busy machine one thread may do the work of another
        before = cpu_by_thread()
        forward(images)
        used = [after - before.get(thread, 0) for thread, after in cpu_by_thread().items()]
        # Threads that share the work have about the same of it; one that hands it over has little.
        counts.append(sum(seconds > 0.2 * sum(used) for seconds in used))
    print(max(counts))
"""


def busy_threads(engines, limit):
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, *engines],
        env=os.environ | {"OMP_NUM_THREADS": str(limit)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return [int(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_uses_as_many_threads_as_the_limit(omp):
    needs = {"tensorflow": [], "onnxruntime": ["onnxruntime", "tf2onnx"], "openvino": ["openvino"]}
    engines = [engine for engine, names in needs.items() if all(map(find_spec, names))]
    assert busy_threads(engines, 1) == [1] * len(engines)
    if joblib.cpu_count() > 1:
        assert busy_threads(engines, 2) == [2] * len(engines)
