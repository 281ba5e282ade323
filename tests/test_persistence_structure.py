"""Tests of edited zips: members renamed, doubled, added, linked, moved, resized, nested.

Loading raises an ArchiveError, or the edit is harmless and the predictions stay the same. Loading
is quick, needs no more memory than the file is large, and runs no code of the file.
"""

import contextlib
import io
import json
import os
import random
import stat
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from counting import counted_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_helpers import striped_images
from zip_helpers import Member, members_in, written

from transferclf import TransferClassifier, load_model, save_model
from transferclf.exceptions import ArchiveError, WeightsError

IMAGES = striped_images(12, np.random.default_rng(1))
FACTS, COEF, MEAN = b"model.json", b"head/coef.npy", b"head/mean.npy"
HUGE = 2**32 - 1


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Members of an archive, in order, and predictions of its classifier."""
    classifier = TransferClassifier(image_size=32, l2=0.01, random_state=0)
    classifier.fit(IMAGES, np.array(["cat", "dog", "owl"])[np.arange(12) % 3])
    path = tmp_path_factory.mktemp("archive") / "good.model"
    save_model(classifier, path)
    members = members_in(path.read_bytes())
    assert {FACTS, COEF, MEAN} < {member.name for member in members}
    return members, classifier.predict_proba(IMAGES)


@pytest.fixture(scope="module")
def good(archive):
    """Return a function that gives the archive, as Hypothesis would print the archive itself."""
    return lambda: archive


def edited(members, name, /, **fields):
    return [member.changed(**fields) if member.name == name else member for member in members]


def renamed(members, name, new):
    """Return the members with a new name in the list, the member and the facts."""
    facts = json.loads(named(members, FACTS).content)
    stem, _, suffix = os.fsdecode(new).rpartition(".npy")
    if not suffix:
        facts["arrays"][stem] = facts["arrays"].pop(name.decode().removesuffix(".npy"))
    return with_facts(edited(members, name, name=new), facts)


def with_facts(members, facts):
    return edited(members, FACTS, content=json.dumps(facts).encode())


def named(members, name):
    return next(member for member in members if member.name == name)


def array_of(values):

    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def zip64(size=0, packed=0, start=0):
    return struct.pack("<HHQQQ", 1, 24, size, packed, start)


def zip64_end(entries):
    """Return the two records with the place of a list of 64 bit."""
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 2**40, 2**40)
    return record + struct.pack("<4sLQL", b"PK\6\7", 0, entries, 1)


# Edits of members or of the whole file that must be refused.
REFUSED = {
    "renamed in the list": lambda m: written(edited(m, COEF, name=b"head/coff.npy", own_name=COEF)),
    "renamed in itself": lambda m: written(edited(m, COEF, own_name=b"head/coff.npy")),
    "renamed everywhere": lambda m: written(renamed(m, COEF, b"head/coff.npy")),
    "facts renamed": lambda m: written(edited(m, FACTS, name=b"models.json")),
    "two exchanged": lambda m: written(
        [each.changed(name={COEF: MEAN, MEAN: COEF}.get(each.name, each.name)) for each in m]
    ),
    "doubled": lambda m: written([*m, named(m, COEF)]),
    "doubled with other numbers": lambda m: written([Member(COEF, array_of(np.zeros(3))), *m]),
    "facts doubled": lambda m: written([*m, Member(FACTS, b"{}")]),
    "listed twice": lambda m: written([*m, named(m, COEF).changed(start=0)]),
    "doubled in capitals": lambda m: written([*m, named(m, COEF).changed(name=COEF.upper())]),
    "added array": lambda m: written([*m, Member(b"head/more.npy", array_of(np.zeros(3)))]),
    "added empty member": lambda m: written([*m, Member(b"head/more.npy", b"")]),
    "added text": lambda m: written([*m, Member(b"readme.txt", b"hello")]),
    "added code": lambda m: written([*m, Member(b"__init__.py", b"import os; os.system('true')")]),
    "added folder": lambda m: written([*m, Member(b"head/", b"", mode=stat.S_IFDIR | 0o755)]),
    "added archive": lambda m: written([*m, Member(b"inner.npy", written(m))]),
    "left out": lambda m: written([each for each in m if each.name != COEF]),
    "none but the facts": lambda m: written([named(m, FACTS)]),
    "linked": lambda m: written(edited(m, COEF, content=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)),
    "facts linked": lambda m: written(edited(m, FACTS, content=b"/dev/zero", mode=stat.S_IFLNK)),
    "huge": lambda m: written(edited(m, COEF, size=HUGE, own_size=HUGE)),
    "huge facts": lambda m: written(edited(m, FACTS, size=HUGE - 1, own_size=HUGE - 1)),
    "huge where it is unpacked": lambda m: written(edited(m, COEF, size=2**30, packed=100)),
    "empty": lambda m: written(edited(m, COEF, size=0, own_size=0)),
    "one byte less": lambda m: written(
        edited(m, COEF, size=len(named(m, COEF).content) - 1, checksum=0)
    ),
    "all of the file": lambda m: written(edited(edited(m, COEF, start=0), MEAN, start=0)),
    "beyond the end": lambda m: written(edited(m, COEF, start=HUGE - 1)),
    "within another": lambda m: written(edited(m, COEF, start=7)),
    "wrong check sum": lambda m: written(edited(m, COEF, checksum=0)),
    "64 bit sizes": lambda m: written(
        edited(m, COEF, size=HUGE, extra=zip64(2**40, 2**40), version=45)
    ),
    "64 bit start": lambda m: written(
        edited(m, COEF, start=HUGE, extra=struct.pack("<HHQ", 1, 8, 2**63), version=45)
    ),
    "64 bit sizes cut short": lambda m: written(
        edited(m, COEF, size=HUGE, extra=struct.pack("<HHL", 1, 4, 1), version=45)
    ),
    "64 bit end": lambda m: written(m, before_end=zip64_end(0)),
    "64 bit end only": lambda m: written(m, before_end=zip64_end(0), here=0xFFFF, count=0xFFFF),
    "comment": lambda m: written(m, comment=b"hello"),
    "comment with an end": lambda m: written(m, comment=written([])),
    "long comment of a member": lambda m: written(edited(m, COEF, comment=b"c" * 60_000)),
    "encrypted": lambda m: written(edited(m, COEF, flags=1, own_flags=1)),
    "strongly encrypted": lambda m: written(edited(m, COEF, flags=0x40)),
    "size after the content": lambda m: written(edited(m, COEF, flags=8, own_flags=8, own_size=0)),
    "patched": lambda m: written(edited(m, COEF, flags=0x20)),
    "compressed": lambda m: written(
        edited(m, FACTS, method=8, content=zlib.compress(named(m, FACTS).content)[2:-4])
    ),
    "unknown compression": lambda m: written(edited(m, COEF, method=99)),
    "unknown version": lambda m: written(edited(m, COEF, version=255)),
    "counts differ": lambda m: written(m, here=len(m) - 1),
    "other disk": lambda m: written(m, disk=1),
    "list elsewhere": lambda m: written(m, start=0),
    "list of all": lambda m: written(m, start=0, length=HUGE - 100),
    "more before": lambda m: b"#!/bin/sh\nexit 0\n" + written(m),
    "more after": lambda m: written(m) + b"\0" * 100,
    "twice": lambda m: written(m) * 2,
}  # fmt: skip

# Bad names of an array, used in list, member and facts.
NAMES = [
    b"../coef.npy", b"/etc/coef.npy", b"head/../coef.npy", b"./head/coef.npy", b"head//coef.npy",
    b"head\\coef.npy", b"C:\\coef.npy", b"//host/share/coef.npy", b"~/coef.npy", b"head/coef",
    b"os:system.npy", b"os:system", b"os.system.npy", b"HEAD/COEF.NPY", b"head/coef.npy ",
    b"head/coef.npy\n", b"head/coef.npy\0.txt", b"head/c\xc3\xb6ef.npy", b"\xff\xfe.npy", b".npy",
    b"", b"head/" * 9 + b"coef.npy", b"h" * 200 + b".npy", b"h" * 65_000 + b".npy", b"con.npy:",
    b"%s.npy", b"{}.npy", b"-rf.npy", b"\xe2\x80\xae.npy", b"model.json/", b"model.json.npy",
]  # fmt: skip

# Edits of unread fields: the predictions stay the same.
HARMLESS = {
    "other order": lambda m: written(m[::-1]),
    "space between members": lambda m: written(m, between=bytes(1000)),
    "a member that is not listed": lambda m: written(
        m, between=Member(COEF, b"x").head() + b"x"
    ),
    "a link with the right content": lambda m: written(edited(m, COEF, mode=stat.S_IFLNK | 0o777)),
    "more counted": lambda m: written(m, here=len(m) + 1, count=len(m) + 1),
    "fewer counted": lambda m: written(m, here=len(m) - 1, count=len(m) - 1),
    "may be run": lambda m: written(edited(m, COEF, mode=stat.S_IFREG | 0o4777)),
    "other flags in itself": lambda m: written(edited(m, COEF, own_size=5, own_method=8)),
    "short comment of a member": lambda m: written(edited(m, COEF, comment=b"hello")),
}  # fmt: skip


def loaded(path, content):
    path.write_bytes(content)
    before = sorted(os.listdir(path.parent))
    try:
        return load_model(path)
    finally:
        assert sorted(os.listdir(path.parent)) == before


def assert_refused(path, content):
    with pytest.raises(ArchiveError) as caught:
        loaded(path, content)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("edit", REFUSED)
def test_bad_edits_are_refused(edit, archive, tmp_path):
    assert_refused(tmp_path / "bad.model", REFUSED[edit](archive[0]))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:30]))
def test_bad_names_are_refused(name, archive, tmp_path):
    members, _ = archive
    assert_refused(tmp_path / "bad.model", written(renamed(members, COEF, name)))
    added = Member(name, named(members, COEF).content)
    assert_refused(tmp_path / "bad.model", written([*members, added]))
    assert sorted(os.listdir(tmp_path)) == ["bad.model"]


@pytest.mark.parametrize("edit", HARMLESS)
def test_harmless_edits_keep_the_predictions(edit, archive, tmp_path):
    members, expected = archive
    again = loaded(tmp_path / "same.model", HARMLESS[edit](members))
    np.testing.assert_array_equal(again.predict_proba(IMAGES), expected)


def test_zip_helpers_write_the_zip_of_the_package(archive, tmp_path):
    members, expected = archive
    again = loaded(tmp_path / "same.model", written(members))
    np.testing.assert_array_equal(again.predict_proba(IMAGES), expected)


# --- facts


TEXTS = ["os:system", "os.system", "__import__('os')", "posix:system", "../../x", "\u202e", "%s{}"]


def places_in(facts, place=()):
    """Yield the path to each value of nested objects and lists."""
    for key in facts if isinstance(facts, dict) else range(min(len(facts), 2)):
        yield (*place, key)
        if isinstance(facts[key], dict | list):
            yield from places_in(facts[key], (*place, key))


def part_at(facts, place):
    for key in place:
        facts = facts[key]
    return facts


def variants(members):
    """Yield facts with each value replaced, removed, renamed or joined by names of functions."""
    facts, generator = json.loads(named(members, FACTS).content), random.Random(0)
    for place in places_in(facts):
        *above, last = place
        for change in ("replaced", "nested", "left out", "renamed", "joined"):
            new = json.loads(json.dumps(facts))
            part, text = part_at(new, above), generator.choice(TEXTS)
            if change == "replaced":
                part[last] = text
            elif change == "nested":
                part[last] = {text: part[last]}
            elif change == "left out":
                del part[last]
            elif isinstance(part, list):
                part.append(text)
            elif change == "renamed":
                part[text] = part.pop(last)
            else:
                part[text] = part[last]
            yield place, change, new


def test_facts_cannot_name_functions(archive, tmp_path):
    """Only the texts of versions can be any text; loading looks up no function by its name."""
    members, expected = archive
    path = tmp_path / "odd.model"
    taken = set()
    for place, change, new in variants(members):
        path.write_bytes(written(with_facts(members, new)))
        try:
            again = load_model(path)
        except ArchiveError:
            continue
        except WeightsError:  # no file of this machine has such a digest
            assert place[-1] == "digest"
            continue
        taken.add((place[0], change))
        if ("fitted", "prefix", "weights") not in (place, place[:3]):
            np.testing.assert_array_equal(again.predict_proba(IMAGES), expected)
    assert {place for place, _ in taken} <= {"versions", "parameters", "fitted"}


@pytest.mark.parametrize("depth", [10, 100, 900, 5000, 10**6])
@pytest.mark.parametrize("opened", ["[", '{"a":', '[{"tuple":'])
@pytest.mark.parametrize("place", ["parameters/epochs", "parameters/class_weight", "history", ""])
def test_deep_nesting_is_refused(depth, opened, place, archive, tmp_path):
    members, _ = archive
    closed = "".join({"[": "]", "{": "}"}[mark] for mark in reversed(opened) if mark in "[{")
    nested = opened * depth + "1" + closed * depth
    facts = json.loads(named(members, FACTS).content)
    if place == "history":
        facts["fitted"]["head"]["history"]["loss"] = "HERE"
    elif place:
        facts["parameters"][place.split("/")[1]] = "HERE"
    text = json.dumps(facts).replace('"HERE"', nested) if place else nested
    assert_refused(tmp_path / "deep.model", written(edited(members, FACTS, content=text.encode())))


# --- time, memory, and code that must not run


def test_all_edits_take_few_calls_and_little_memory(archive, tmp_path):
    members, _ = archive
    path = tmp_path / "bad.model"
    tracemalloc.start()
    try:
        for edit in REFUSED.values():
            path.write_bytes(edit(members))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with counted_calls() as calls, pytest.raises(ArchiveError):
                load_model(path)
            assert sum(calls.values()) < 100_000
            assert tracemalloc.get_traced_memory()[1] - before < 2**21 + 8 * path.stat().st_size
    finally:
        tracemalloc.stop()


RUNNING = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen",
           "pickle.find_class", "socket.connect", "ctypes.dlopen", "shutil.")  # fmt: skip
CHANGING = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod",
            "os.chown", "os.truncate", "os.utime")  # fmt: skip


class Watch:
    """Record processes, imports of pickles, writes, links and removals of Python while `is_on`."""

    def __init__(self):
        self.is_on, self.seen = False, []
        sys.addaudithook(self._note)  # stays until the process ends

    def _note(self, event, arguments):
        if not self.is_on:
            return
        mode = arguments[1] if event == "open" else ""
        is_writing = isinstance(mode, str) and not set("wax+").isdisjoint(mode)
        if is_writing or event.startswith(RUNNING + CHANGING):
            self.seen.append((event, repr(arguments)))


def test_loading_runs_and_unpacks_no_content(archive, tmp_path):
    members, _ = archive
    path = tmp_path / "bad.model"
    watch = Watch()
    contents = [edit(members) for edit in REFUSED.values()]
    contents += [written(renamed(members, COEF, name)) for name in NAMES]
    contents += [written(with_facts(members, new)) for *_, new in variants(members)]
    for content in contents:
        path.write_bytes(content)
        watch.is_on = True
        with contextlib.suppress(ArchiveError, WeightsError):
            load_model(path)
        watch.is_on = False
    assert watch.seen == []
    watch.is_on = True
    (tmp_path / "seen").write_text("as it should be")
    watch.is_on = False
    assert [event for event, _ in watch.seen] == ["open"]
    assert sorted(os.listdir(tmp_path)) == ["bad.model", "seen"]


# --- random edits

FIELDS = {
    "name": st.sampled_from([COEF, MEAN, FACTS, b"x.npy", b"../x.npy", b"os:system"]),
    "own_name": st.sampled_from([COEF, MEAN, b"", b"\xff"]),
    "content": st.binary(max_size=50),
    "checksum": st.integers(0, HUGE),
    "size": st.integers(0, 5000) | st.integers(0, HUGE),
    "packed": st.integers(0, 5000) | st.integers(0, HUGE),
    "own_size": st.integers(0, HUGE),
    "start": st.integers(0, 30_000) | st.integers(0, HUGE),
    "flags": st.integers(0, 0xFFFF),
    "own_flags": st.integers(0, 0xFFFF),
    "method": st.sampled_from([0, 8, 12, 14, 93, 99]),
    "own_method": st.sampled_from([0, 8, 99]),
    "version": st.integers(0, 255),
    "extra": st.binary(max_size=40) | st.just(zip64(2**40, 2**40, 2**40)),
    "own_extra": st.binary(max_size=40),
    "comment": st.binary(max_size=100),
    "mode": st.integers(0, 0xFFFF),
}
PLACES = st.integers(0, 9)
EDITS = st.lists(
    st.one_of(
        *(st.tuples(st.just(field), PLACES, values) for field, values in FIELDS.items()),
        st.tuples(st.sampled_from(["doubled", "left out", "moved"]), PLACES, PLACES),
    ),
    min_size=1,
    max_size=3,
)
LAST_FIELDS = ("disk", "first", "here", "count", "length", "start")
ENDS = st.none() | st.tuples(st.sampled_from(LAST_FIELDS), st.integers(0, 0xFFFF))


def edit_at_random(members, kind, place, value):
    place %= len(members)
    if kind == "doubled":
        members.append(members[place])
    elif kind == "moved":
        members.insert(value, members.pop(place))
    elif kind == "left out":
        del members[place]
    else:
        members[place] = members[place].changed(**{kind: value})


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=EDITS, end=ENDS, between=st.just(b"") | st.binary(max_size=99))
def test_edits_in_any_combination(edits, end, between, good, tmp_path):
    members, expected = good()
    members = list(members)
    for edit in edits:
        edit_at_random(members, *edit)
    content = written(members, between=between, **dict([end] if end else []))
    try:
        again = loaded(tmp_path / "any.model", content)
    except ArchiveError:
        return
    np.testing.assert_array_equal(again.predict_proba(IMAGES), expected)
