"""Files about the project agree with each other: versions, dates, releases, and named tests."""

import json
import re
import runpy
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import transferclf

ROOT = Path(__file__).resolve().parents[1]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def releases():
    """Return the versions and dates of the changelog, the newest first."""
    return re.findall(r"^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$", read("CHANGELOG.md"), re.M)


def fact(name):
    """Return the value of a name in CITATION.cff."""
    return re.search(rf"^\s*(?:- )?{name}: (.*)$", read("CITATION.cff"), re.MULTILINE)[1].strip('"')


def test_the_newest_release_is_this_version():
    (version, date), *_ = releases()
    assert version == transferclf.__version__ == fact("version")
    assert date == fact("date-released")


def test_each_section_of_the_changelog_has_a_version_and_a_known_kind():
    text = read("CHANGELOG.md")
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == len(releases())
    kinds = ["Added", "Changed", "Deprecated", "Fixed", "Removed"]
    for section in text.split("\n## ")[1:]:
        found = re.findall(r"^### (.*)$", section, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found]


def test_citation_names_the_declared_authors_and_license():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert [fact("name")] == [author["name"] for author in project["authors"]]
    assert fact("license") == project["license"]
    assert "urls" not in project  # there is no address yet


def test_the_tests_have_an_archive_of_every_release():
    kept = set()
    for path in ROOT.glob("tests/archives/*.model"):
        with zipfile.ZipFile(path) as archive:
            kept.add(json.loads(archive.read("model.json"))["versions"]["transferclf"])
    assert {version for version, _ in releases()} <= kept


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md"])
def test_named_tests_exist(page):
    named = re.findall(r"`(tests/[\w/*]+\.py)`", read(page))
    assert named
    assert [name for name in named if not [*ROOT.glob(name)]] == []


def test_the_sdist_has_all_that_its_tests_read():
    build = tomllib.loads(read("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]["sdist"]
    assert [name for name in build["include"] if not (ROOT / name[1:]).exists()] == []
    pages = {f"/{path.name}" for path in ROOT.glob("*.md")} - {
        "/README.md"
    }  # a page of its own key
    assert pages <= {*build["include"]}


def test_the_check_of_sdist_and_wheel_deletes_nothing(tmp_path, monkeypatch):
    (tmp_path / "letter.txt").write_text("kept")
    monkeypatch.setattr(sys, "argv", ["check_dist.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="expected a new or an empty folder"):
        runpy.run_path(str(ROOT / "tools/check_dist.py"), run_name="__main__")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
