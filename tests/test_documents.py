"""Files linked by the documents exist; test_documents_blocks.py runs the code blocks."""

import re

import pytest
from page_helpers import PAGES, ROOT, read


def test_the_readme_has_two_commands():
    section = read("README.md").split("## Two commands")[1].split("\n## ")[0]
    (block,) = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert len(block.strip().splitlines()) == 2
    assert "examples/quickstart.py" in block.splitlines()[0]


def sentences(text):
    """Return the sentences of a page, without its code, tables and addresses of links."""
    text = re.sub(r"^(```+).*?^\1\s*$", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(\||#).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    paragraphs = re.split(r"\n\s*\n|\n(?=- )", text)
    return [one for each in paragraphs for one in re.split(r"(?<=[.?!])\s+|:\s*\n", each)]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/start/index.md"])
def test_sentences_of_the_first_pages_are_short(page):
    found = sentences(read(page))
    assert len(found) > 10
    assert [one for one in found if len(re.findall(r"[\w'`\"]+", one)) > 30] == []


def test_sentences_are_told_apart():
    found = sentences(
        "# A b\n\nOne two. Three\nfour?\n\n```python\nx. y\n```\n\n- [a b](c.d)\n- e\n"
    )
    assert [one.strip() for one in found if one.strip()] == [
        "One two.", "Three\nfour?", "- [a b]", "- e"
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_linked_files_exist(page):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(page)):
        if "://" not in link:
            assert (ROOT / page).parent.joinpath(link).exists(), link
