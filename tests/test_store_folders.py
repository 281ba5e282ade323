"""Tests of unwritable, full, missing and impossible folders: features then stay in memory."""

import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from store_helpers import (
    CAUGHT,
    CHILD,
    FOLDER,
    assert_right,
    child,
    entries,
    finished,
    keys,
    segment_files,
    warned_by,
)

from transferclf.exceptions import TransferclfWarning
from transferclf.features import FeatureStore

COUNT = 30


def test_the_folder_of_an_open_store_can_be_removed(tmp_path):
    FeatureStore(tmp_path / "store").put_many(entries(range(COUNT)))
    store = FeatureStore(tmp_path / "store")
    assert len(store.get_many(keys(range(COUNT)))) == COUNT
    shutil.rmtree(tmp_path / "store")
    assert_right(store.get_many(keys(range(COUNT + 1))))
    store.put_many(entries(range(COUNT)))
    assert len(store.get_many(keys(range(COUNT)))) == COUNT
    assert len(FeatureStore(tmp_path / "store").get_many(keys(range(COUNT)))) == COUNT


def test_another_process_can_make_the_folder_again(tmp_path):
    path = tmp_path / "store"
    FeatureStore(path).put_many(entries(range(COUNT)))
    store = FeatureStore(path)
    store.put_many(entries([100]))
    shutil.rmtree(path)
    finished(child("store.put_many(entries(range(200, 210)))", path))
    assert len(store.get_many(keys(range(200, 210)))) == 10
    store.put_many(entries([101]))
    assert sorted(FeatureStore(path).get_many(keys([100, 101, 200]))) == [b"101", b"200"]


def make_file(path):
    path.write_text("a file")
    return path


def make_file_above(path):
    return make_file(path) / "inside"


def make_name_of_256(path):
    return path / ("x" * 256)


@pytest.mark.parametrize("make", [make_file, make_file_above, make_name_of_256])
def test_an_impossible_folder_keeps_features_in_memory(tmp_path, make):
    """Features stay in memory, and the file at the path is unchanged."""
    store = FeatureStore(make(tmp_path / "path"))

    def work():
        assert store.get_many(keys([1])) == {}
        store.put_many(entries([1]))
        store.put_many(entries([2]))
        assert store.info().entries == 2
        return store.get_many(keys([1, 2]))

    found, texts = warned_by(work)
    assert sorted(found) == [b"1", b"2"]
    assert_right(found)
    (text,) = texts
    assert text.startswith("expected to read and write features in '")
    assert "Error: [Errno" in text
    if (tmp_path / "path").is_file():
        assert (tmp_path / "path").read_text() == "a file"
    assert warned_by(store.clear) == (None, [])
    assert store.get_many(keys([1])) == {}


def test_other_files_in_the_folder_are_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / "notes.txt").write_text("mine too")
    (folder / "a.features").mkdir()
    try:
        (folder / "b.features").symlink_to(tmp_path / "notes.txt")
        (folder / "c.features").symlink_to("nowhere")
    except OSError:
        pass  # Windows asks for a right to make links
    store = FeatureStore(tmp_path)
    store.put_many(entries(range(3)))
    assert len(FeatureStore(tmp_path).get_many(keys(range(3)))) == 3
    store.clear()
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (folder / "notes.txt").read_text() == "mine too"
    assert (folder / "a.features").is_dir()


def in_namespace(setup, path, code):
    """Run a child with its own temporary mounts; skip the test if that is not allowed."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs the mount namespaces of Linux")
    shell = f'{setup} || exit 77; exec "$PYTHON" -c "$CODE" "$STORE" 0'
    environment = os.environ | {
        "PYTHON": sys.executable,
        "CODE": CHILD + CAUGHT + textwrap.dedent(code),
        "STORE": str(path),
    }
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip(f"may not mount here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_full_disk(tmp_path):
    """Put 5 MB of features on 1 MB: the rest stays in memory, and the file is valid."""
    out = in_namespace(
        'mount -t tmpfs -o size=1m tmpfs "$STORE"',
        tmp_path,
        """
        for start in range(0, 1000, 20):
            store.put_many(entries(range(start, start + 20)))
        found = store.get_many([str(n).encode() for n in range(1000)])
        check(found)
        assert len(found) == 1000
        category, text = caught.pop()
        assert category == "TransferclfWarning" and "No space left" in text, text
        assert not caught
        assert len(os.listdir(store._disk.folder)) == 1
        other = FeatureStore(path, max_bytes=2**26)
        kept = other.get_many([str(n).encode() for n in range(1000)])
        check(kept)
        print(len(kept))
        """,
    )
    assert 100 < int(out) < 250


def test_freed_space_on_a_full_disk_is_used(tmp_path):
    out = in_namespace(
        'mount -t tmpfs -o size=1m tmpfs "$STORE"',
        tmp_path,
        """
        with open(path + "/large", "wb") as large:
            large.write(bytes(900_000))
        store.put_many(entries(range(100)))
        os.unlink(path + "/large")
        store.put_many(entries(range(100)))
        print(len(FeatureStore(path).get_many([str(n).encode() for n in range(100)])))
        assert len(caught) == 1
        """,
    )
    assert int(out) == 100


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_limit_on_the_size_of_files(tmp_path):
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
for start in range(0, 200, 20):
    store.put_many(entries(range(start, start + 20)))
found = store.get_many([str(n).encode() for n in range(200)])
check(found)
assert len(found) == 200
(category, text), = caught
assert category == "TransferclfWarning", text
"""
    process = child(CAUGHT + code, tmp_path)
    finished(process)
    found = FeatureStore(tmp_path).get_many(keys(range(200)))
    assert len(found) == 40
    assert_right(found)


def test_a_read_only_folder_gives_hits(tmp_path):
    FeatureStore(tmp_path).put_many(entries(range(50)))
    before = [(file.name, file.stat().st_size) for file in segment_files(tmp_path)]
    out = in_namespace(
        'mount --bind "$STORE" "$STORE" && mount -o remount,ro,bind "$STORE"',
        tmp_path,
        """
        found = store.get_many([str(n).encode() for n in range(100)])
        check(found)
        print(len(found))
        assert not caught
        store.put_many(entries(range(50, 100)))
        store.put_many(entries(range(100, 150)))
        store.clear()
        (category, text), = caught
        assert category == "TransferclfWarning" and "Read-only" in text, text
        """,
    )
    assert out == "50"
    assert before == [(file.name, file.stat().st_size) for file in segment_files(tmp_path)]
    assert len(FeatureStore(tmp_path).get_many(keys(range(50)))) == 50


def test_a_damaged_file_in_a_read_only_folder(tmp_path):
    store = FeatureStore(tmp_path)
    for number in range(COUNT):
        store.put_many(entries([number]))
    (file,) = segment_files(tmp_path)
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 6000] = bytes(6000)
    file.write_bytes(content)
    out = in_namespace(
        'mount --bind "$STORE" "$STORE" && mount -o remount,ro,bind "$STORE"',
        tmp_path,
        """
        for _ in range(3):
            found = store.get_many([str(n).encode() for n in range(30)])
            assert all((row == float(key)).all() for key, row in found.items())
        print(len(found), len(caught))
        """,
    )
    found, warned = map(int, out.split())
    assert found == COUNT // 2  # the rows before the damage
    assert warned == 1


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="no users on this system")
def test_a_folder_of_another_user(tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    FeatureStore(tmp_path).put_many(entries(range(10)))
    code = """
os.chdir(path)
store = FeatureStore(".")
os.setuid(65534)
found = store.get_many([str(n).encode() for n in range(20)])
check(found)
store.put_many(entries(range(10, 20)))
found = store.get_many([str(n).encode() for n in range(20)])
check(found)
print(len(found), len(caught))
"""
    out = finished(child(CAUGHT + code, tmp_path))
    assert int(out.split()[1]) == 1
    assert int(out.split()[0]) in (10, 20)
    assert len(FeatureStore(tmp_path).get_many(keys(range(20)))) == 10


def test_files_cleared_by_another_store_are_closed(tmp_path):
    """An open file would still take space on the disk."""
    store = FeatureStore(tmp_path)
    store.put_many(entries(range(COUNT)))
    store.get_many(keys([0]))
    files = [segment.file for segment in store._disk._segments.values()]
    FeatureStore(tmp_path).clear()
    assert store.info() == (0, 0, 1, 0)
    assert [file.closed for file in files] == [True]


def test_a_folder_that_becomes_possible_is_used(tmp_path):
    path = make_file(tmp_path / "path")
    store = FeatureStore(path)
    with pytest.warns(TransferclfWarning, match="kept in memory"):
        store.put_many(entries([1, 2], 10))
    path.unlink()
    store.put_many({b"1": entries([5], 10)[b"5"]})
    assert store.get_many([b"1"])[b"1"][0] == 5
    assert sorted(store.get_many(keys([1, 2]))) == [b"1", b"2"]
    assert store.info().entries == 2
    assert sorted(FeatureStore(path).get_many(keys([1, 2]))) == [b"1"]
