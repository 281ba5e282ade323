"""Helpers for the tests of the store on disk: known entries, child processes, files."""

import subprocess
import sys
import warnings

import numpy as np

from transferclf.exceptions import TransferclfWarning
from transferclf.features import segments

SIZE = 1280
FOLDER = f"transferclf-features-{segments.FORMAT}"

# Code of all child processes: the values of a key, and a check of the values that are found.
CHILD = f"""
import os, random, sys, time
import numpy as np
from transferclf.features import FeatureStore

path, worker = sys.argv[1], int(sys.argv[2])
store = FeatureStore(path, max_bytes=2**26)

def entries(numbers):
    return {{str(n).encode(): np.full({SIZE}, n, np.float32) for n in numbers}}

def check(found):
    for key, activation in found.items():
        assert activation.shape == ({SIZE},) and (activation == float(key)).all(), key
"""


def entries(numbers, size=SIZE):
    return {str(n).encode(): np.full(size, n, np.float32) for n in numbers}


# Code of a child that collects warnings instead of failing on them.
CAUGHT = """
import warnings
warnings.resetwarnings()
caught = []
def keep(message, category, *_):
    caught.append((category.__name__, str(message)))
warnings.showwarning = keep
warnings.simplefilter("always")
"""


def keys(numbers):
    return [str(n).encode() for n in numbers]


def assert_right(found, size=SIZE):
    for key, activation in found.items():
        np.testing.assert_array_equal(activation, np.full(size, float(key), np.float32))


def child(code, path, worker=0):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD + code, str(path), str(worker)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """Return the output of a child; it must end in time, without an error or warning."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def segment_files(path):
    return sorted((path / FOLDER).glob("*.features"))


def sizes(path):
    """Return the bytes that each file of the folder takes on disk."""
    return {file: -(-file.stat().st_size // 4096) * 4096 for file in segment_files(path)}


def taken(path):
    return sum(sizes(path).values())


def assert_whole(path):
    """Check that every file of the folder ends at the end of a block."""
    for file in segment_files(path):
        with open(file, "rb", buffering=0) as opened:
            size = file.stat().st_size
            ends = [end for _, end in segments.places_in(opened, 0, size)]
            assert max(ends, default=0) == size


def warned_by(work):
    """Return the result of work() and the texts of its warnings, which must be the package's."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    assert {warning.category for warning in caught} <= {TransferclfWarning}
    return result, [str(warning.message) for warning in caught]
