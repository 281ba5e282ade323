"""Facts in exported files: wrong paths, damaged files and made-up facts are refused."""

import io
import json
import zipfile
from dataclasses import asdict

import pytest

from transferclf import read_exported
from transferclf.exceptions import ArchiveError, InvalidParameterError
from transferclf.exporting.facts import MEMBER, Facts, facts_in_zip

FACTS = Facts("classes", ("cat", "dog"), (32, 48), "crop", False, "tiny", "0.2.0", "ab")


def text(**others):
    return json.dumps(asdict(FACTS) | others)


def packed(content=FACTS.text(), name=MEMBER):  # noqa: B008
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


def with_other_bytes(content, after, offset, new):
    """Return a zip with other bytes at an offset from each place of a signature."""
    changed, place = bytearray(content), content.find(after)
    while place >= 0:
        changed[place + offset : place + offset + len(new)] = new
        place = content.find(after, place + 1)
    return bytes(changed)


def test_facts_come_back():
    assert Facts.from_text(FACTS.text()) == FACTS
    assert facts_in_zip(io.BytesIO(b"model" + packed()), "a.tflite") == FACTS


@pytest.mark.parametrize(
    "facts",
    [
        None,
        "no JSON",
        "[1]",
        '{"task": "classes"}',
        "[" * 100_000,
        text(task="code"),
        text(task=["classes"]),
        text(resize="melt"),
        text(names=5),
        text(size=[32]),
        text(size=[0, 32]),
        text(size=[-1, 32]),
        text(size=[float("inf"), 32]),
        text(size=[float("nan"), 32]),
        text(size=None),
        text(more=1),
    ],
    ids=range(16),
)
def test_other_facts_are_refused(facts):
    with pytest.raises(ArchiveError, match="got other facts"):
        Facts.from_text(facts)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
DAMAGED = {
    "no zip": b"no zip",
    "half": packed()[:80],
    "no facts": packed(name="other.json"),
    "no text": packed(b"\xff\xfe"),
    "encrypted": with_other_bytes(with_other_bytes(packed(), LOCAL, 6, b"\1"), CENTRAL, 8, b"\1"),
    "unknown compression": with_other_bytes(packed(), CENTRAL, 10, b"\x63"),
    "no deflated bytes": with_other_bytes(packed(), MEMBER.encode(), len(MEMBER), b"\xff" * 9),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_zips_are_refused(kind):
    with pytest.raises(ArchiveError):
        facts_in_zip(io.BytesIO(DAMAGED[kind]), "a.tflite")


@pytest.mark.parametrize("name", [None, "openvino"])
@pytest.mark.parametrize("path", [5, None, b"a.xml", io.BytesIO()])
def test_a_path_is_text_or_a_path(path, name):
    with pytest.raises(InvalidParameterError, match="path must be a path. Got"):
        read_exported(path, format=name)


def test_no_file_has_an_impossible_name():
    with pytest.raises(FileNotFoundError, match="expected an exported file"):
        read_exported("a\0.xml")
