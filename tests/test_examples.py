"""The examples do what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def quickstart(tmp_path):
    """Run the quickstart in an empty folder and return what it prints."""

    def run(*arguments):
        finished = subprocess.run(
            [sys.executable, str(EXAMPLES / "quickstart.py"), *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    return run


def test_the_quickstart_on_digits(quickstart, tmp_path):
    shown = quickstart()
    accuracy = float(re.search(r"test accuracy +([\d.]+)", shown).group(1))
    assert accuracy >= 0.96
    for word in ("backbone", "images", "classes", "seconds", "precision"):
        assert word in shown
    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        assert min(picture.size) > 300


@pytest.fixture
def folder(tmp_path, rng):
    """Make class folders of noise: {"train/cat": 5} makes five images."""

    def make(counts):
        for name, count in counts.items():
            place = tmp_path / "my photos" / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
        return tmp_path / "my photos"

    return make


@pytest.mark.parametrize(
    "counts",
    [
        {"train/a": 6, "train/b": 6},
        {"Train/a": 6, "Train/b": 6, "Test/a": 2, "Test/b": 2},
        {"train/a": 6, "train/b": 6, "test/a": 2, "test/b": 2, "valid": 0},
    ],
    ids=["train only", "capitals", "an empty split"],
)
def test_the_quickstart_on_folders_as_people_have_them(quickstart, folder, counts):
    shown = quickstart(folder(counts))
    assert "test accuracy" in shown
    assert "class a has only" in shown


@pytest.mark.parametrize("counts", [{"a": 9, "b": 1}, {"a": 2, "b": 2}])
def test_the_quickstart_says_when_there_is_too_little(folder, counts):
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / "quickstart.py"), str(folder(counts))],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 1
    assert "cannot be split 75/25" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "note"),
    [("sports10", "classes        10"), ("blood_smear", "class BASOPHIL has only 3 images")],
)
def test_the_quickstart_on_a_folder(quickstart, data, name, note):
    shown = quickstart(data / name, "--output", "matrix.png")
    assert "test accuracy" in shown
    assert note in shown
