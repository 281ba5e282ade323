"""What the documents say can be done, and the files they name are there."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tools/*/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch, rng):
    images = rng.integers(0, 256, (20, 40, 40, 3), dtype=np.uint8)
    labels = np.arange(20) % 2
    images[labels == 1] //= 3
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "photos" / f"class {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.jpg")
    Image.fromarray(images[0]).save(tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    names = {"X": images, "y": labels}
    blocks = fenced("python")
    assert len(blocks) >= 2
    for block in blocks:
        # Workers of an earlier test's search live on, in the folder that was the current one then.
        exec(block.replace('"features"', repr(str(tmp_path / "features"))), names)
    assert (tmp_path / "features").is_dir()
    assert names["classifier"].score(names["photos"].data, names["photos"].target) == 1.0
    assert len(names["search"].cv_results_["params"]) == 6


def test_there_are_two_commands():
    section = README.split("## Two commands")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(block.strip().splitlines()) == 2
    assert "examples/quickstart.py" in block.splitlines()[0]


def test_the_readme_counts_the_backbones_right():
    from transferclf import list_backbones

    assert f"the {len(list_backbones())} backbones" in README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link
