"""tools/check_gpu.py: a table of speed and agreement on the device that Keras sees."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "check_gpu.py"


@pytest.mark.scripts
@pytest.mark.slow
def test_it_prints_a_table_of_the_device():
    finished = subprocess.run(
        [sys.executable, SCRIPT, "--images", "36", "--size", "32"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert "No GPU: Keras sees none" in finished.stdout
    assert "tiny, 36 images of 32 x 32 pixels" in finished.stdout
    rows = re.findall(
        r"^\| (.+) \| (\w+) \| (.+) \| (\d+) \| .* ([\d.e+-]+) \|$", finished.stdout, re.M
    )
    assert [row[2].split(",")[0] for row in rows] == [
        "extraction", "network alone", "network alone", "fine-tuning"
    ]  # fmt: skip
    assert all(int(row[3]) > 0 for row in rows)
    extraction, alone, low, tuned = (float(row[4]) for row in rows)
    assert max(extraction, alone) <= 1e-4
    assert 0.99 < low < 1
    assert tuned <= 1e-2


def test_its_measures_of_agreement():
    script = runpy.run_path(str(SCRIPT))
    expected = np.array([[3.0, 4.0], [1.0, 0.0]])
    assert script["difference"](expected + np.eye(2) * 0.4, expected) == pytest.approx(0.1)
    assert script["smallest_cosine"](expected[:, ::-1], expected) == 0
    assert script["smallest_cosine"](2 * expected, expected) == pytest.approx(1)
