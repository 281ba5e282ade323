"""What the tests of the store on disk share: known entries, child processes, the files."""

import subprocess
import sys
import warnings

import numpy as np

from transferclf.exceptions import TransferclfWarning
from transferclf.features import segments

SIZE = 1280
FOLDER = f"transferclf-features-{segments.FORMAT}"

# What the child processes share: the values that belong to a key, and a check of all that come.
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


# A child that keeps the warnings instead of failing on them.
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
    """What a child printed; it must have ended well and in time, and warned of nothing."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def segment_files(path):
    return sorted((path / FOLDER).glob("*.features"))


def taken(path):
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in segment_files(path))


def assert_whole(path):
    """Every file of the folder ends where a block ends."""
    for file in segment_files(path):
        with open(file, "rb", buffering=0) as opened:
            size = file.stat().st_size
            ends = [end for _, end in segments.places_in(opened, 0, size)]
            assert max(ends, default=0) == size


def warned_by(work):
    """What work() returns, and the texts of the warnings, all of which must be ours."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    assert {warning.category for warning in caught} <= {TransferclfWarning}
    return result, [str(warning.message) for warning in caught]
