"""The examples do what the README says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    from PIL import Image

    shown = quickstart()
    accuracy = float(re.search(r"test accuracy +([\d.]+)", shown).group(1))
    assert accuracy >= 0.96
    for word in ("backbone", "images", "classes", "seconds", "precision"):
        assert word in shown
    with Image.open(tmp_path / "confusion_matrix.png") as picture:
        assert min(picture.size) > 300


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "note"),
    [("sports10", "classes        10"), ("blood_smear", "class BASOPHIL has only 3 images")],
)
def test_the_quickstart_on_a_folder(quickstart, data, name, note):
    shown = quickstart(data / name, "--output", "matrix.png")
    assert "test accuracy" in shown
    assert note in shown
