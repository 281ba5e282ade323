"""Paths that are no ordinary files: each gives an error of one line, without waiting."""

import errno
import gzip
import io
import os
import socket
import stat
import threading

import numpy as np
import pytest
from counting import open_files
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images import check_images, decode_image, files
from transferclf.images.files import LargeContents, contents_of, path_problem
from transferclf.images.loading import content_digests

only_unix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="special files of Unix")


@pytest.fixture
def path(tmp_path):
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def in_time(function, seconds=10):
    """Run a function in a thread with a time limit, so that a blocking call fails the test."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, "it did not come back"
    return result[0]


def error_of(function):
    try:
        function()
    except ImageError as error:
        return type(error), str(error)
    return None


def fifo(folder):
    os.mkfifo(folder / "special")


def listening(folder):
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(str(folder / "special"))


def dangling(folder):
    (folder / "special").symlink_to("gone.png")


def loop(folder):
    (folder / "special").symlink_to("special")


def device(folder):
    (folder / "special").symlink_to("/dev/zero")


def of_the_system(folder):
    (folder / "special").symlink_to("/proc/self/status")


SPECIAL = {
    fifo: (ImageReadError, "expected an image file, got a FIFO"),
    listening: (ImageReadError, "expected an image file, got a socket"),
    dangling: (MissingImageError, "expected a file, got a link to a file that is not there"),
    loop: (ImageReadError, "expected a file, got a link that leads back to itself"),
    device: (ImageReadError, "expected an image file, got a device"),
    of_the_system: (ImageReadError, "expected an image file, got an empty file"),
    os.mkdir: (ImageReadError, "expected an image file, got a folder"),
}


@only_unix
@pytest.mark.parametrize("make", SPECIAL, ids=lambda make: make.__name__)
@pytest.mark.parametrize("when", ["checked", "decoded", "digested after the check"])
def test_special_files_are_named_without_waiting(make, when, tmp_path, path, monkeypatch):
    (tmp_path / "folder").mkdir()
    special = tmp_path / "folder" / "special"
    source = None
    if when == "digested after the check":
        special.write_bytes(path.read_bytes())
        source = check_images([special])
        special.unlink()
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    make(special) if make is os.mkdir else make(special.parent)

    def use():
        if source is not None:
            return content_digests(source)
        return check_images([special]) if when == "checked" else decode_image(special)

    kind, text = in_time(lambda: error_of(use))
    expected, message = SPECIAL[make]
    assert kind is expected
    assert message in text


@only_unix
def test_an_endless_device_is_not_read():
    for name in ("/dev/zero", "/dev/random"):
        assert "got a device" in in_time(lambda name=name: error_of(lambda: decode_image(name)))[1]


@pytest.mark.skipif(not os.path.exists("/proc/kmsg"), reason="Linux only")
def test_a_system_file_that_blocks_is_refused():
    """The system reports it as a regular file of no bytes."""
    kind, text = in_time(lambda: error_of(lambda: decode_image("/proc/kmsg")))
    assert kind is ImageReadError
    assert "empty file" in text or "may not be read" in text


class TestPermissions:
    """The answers of the system are simulated, because root may read everything."""

    @pytest.fixture
    def forbidden(self, monkeypatch):
        def refuse(path, *args, **kwargs):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))

        monkeypatch.setattr(os, "stat", refuse)
        monkeypatch.setattr(os, "open", refuse)

    def test_a_folder_without_search_permission_is_named(self, path, forbidden, monkeypatch):
        closed = str(path.parent)
        monkeypatch.setattr(os, "access", lambda folder, mode: folder != closed)
        for use in (lambda: check_images([path]), lambda: decode_image(path)):
            kind, text = error_of(use)
            assert kind is ImageReadError
            assert f"one in the folder {closed}, which may not be searched" in text

    def test_a_file_without_read_permission_is_named(self, path, forbidden, monkeypatch):
        monkeypatch.setattr(os, "access", lambda folder, mode: True)
        kind, text = error_of(lambda: decode_image(path))
        assert kind is ImageReadError
        assert text == "expected a readable file, got one that may not be read (no permission)"

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
    def test_a_real_folder_without_search_permission_is_named(self, path):
        path.parent.chmod(0o600)
        try:
            assert "may not be searched" in str(path_problem(str(path)))
        finally:
            path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a\0b.png", "a path that cannot be one"),
        ("x" * 3000, "File name too long"),
        ("", "a path where there is none"),
        ("a.png/inside.png", "a path that goes through a file"),
        ("nowhere/a.png", "a path where there is none"),
    ],
)
def test_impossible_paths_raise_an_error(name, message, path):
    file = os.path.join(path.parent, name) if name else name
    for use in (lambda: check_images([file]), lambda: decode_image(file)):
        kind, text = error_of(use)
        assert issubclass(kind, ImageReadError)
        assert message in text


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_other_errors_of_the_system_are_passed_on(number, path, monkeypatch):
    source = check_images([path])

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(
        ImageReadError, match="expected a readable file, got " + os.strerror(number)
    ):
        source.look(0)


def test_every_file_is_closed(path):
    source = check_images([path])
    for _ in range(20):
        source.load(0)
        source.look(0)
        error_of(lambda: decode_image(path.parent))
    assert open_files(path.parent) == []


def test_a_file_with_a_wrong_reported_size_is_read_whole(path, monkeypatch):
    whole = path.read_bytes()
    for claimed in (1, len(whole) - 1, len(whole) + 1, 10 * len(whole)):
        real = os.fstat

        def fstat(file, claimed=claimed, real=real):
            found = list(real(file))
            found[stat.ST_SIZE] = claimed
            return os.stat_result(found)

        monkeypatch.setattr(os, "fstat", fstat)
        with contents_of(str(path)) as contents:
            assert contents.file().read() == whole
        monkeypatch.setattr(os, "fstat", real)


@given(st.binary(min_size=1, max_size=300), st.data())
@settings(max_examples=150, deadline=None)
def test_a_large_file_gives_the_bytes_of_its_content(data, draw):
    """Reads in any order give the right bytes; the blocks have seven bytes."""
    plain = io.BytesIO(data)
    block, files.BLOCK = files.BLOCK, 7
    try:
        contents = LargeContents(lambda at, n: data[at : at + n], len(data), lambda: None)
        assert contents.digest(b"start") == files.Contents(data).digest(b"start")
        large = contents.file()
        for _ in range(draw.draw(st.integers(1, 12))):
            offset = draw.draw(st.integers(-5, len(data) + 5))
            whence = draw.draw(st.sampled_from([os.SEEK_SET, os.SEEK_END, os.SEEK_CUR]))
            count = draw.draw(st.one_of(st.just(-1), st.integers(0, 40)))
            if whence == os.SEEK_SET:
                offset = abs(offset)
            target = {0: 0, 1: plain.tell(), 2: len(data)}[whence] + offset
            if target < 0:
                continue
            assert large.seek(offset, whence) == plain.seek(offset, whence)
            assert large.read(count) == plain.read(count)
    finally:
        files.BLOCK = block


@given(st.binary(min_size=10, max_size=100), st.data())
@settings(max_examples=100, deadline=None)
def test_a_changed_byte_of_a_large_file_is_noticed(data, draw):
    content, block = [data], files.BLOCK
    files.BLOCK = 7
    try:
        contents = LargeContents(lambda at, n: content[0][at : at + n], len(data), lambda: None)
        contents.digest(b"")
        changed = bytearray(data)
        changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
        content[0] = draw.draw(st.sampled_from([bytes(changed), data[:-1], data + b"more"]))
        stream = contents.file()
        with pytest.raises(OSError, match="changed while it was read"):
            stream.read()
        assert contents.has_changed
    finally:
        files.BLOCK = block


def test_files_above_the_memory_limit_are_read_in_blocks(path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 10)
    with contents_of(str(path)) as contents:
        assert isinstance(contents, LargeContents)
        np.testing.assert_array_equal(np.asarray(Image.open(contents.file())), decode_image(path))


@pytest.mark.parametrize("read", [decode_image, lambda image: check_images([image]).load(0)])
def test_the_error_names_a_truncated_compressed_file(tmp_path, read):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    whole = gzip.compress(file.getvalue())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with gzip.open(tmp_path / "cut.gz") as opened, pytest.raises(ImageReadError):
        read(Image.open(opened))
