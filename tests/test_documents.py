"""Files linked by the documents exist; test_documents_blocks.py runs the code blocks."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tools/*/*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_two_commands():
    section = README.split("## Two commands")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(block.strip().splitlines()) == 2
    assert "examples/quickstart.py" in block.splitlines()[0]


def test_the_readme_counts_the_backbones_right():
    from transferclf import list_backbones

    assert f"the {len(list_backbones())} backbones" in README


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_exist(document):
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link
