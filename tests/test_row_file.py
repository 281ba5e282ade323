"""Rows in a file equal rows in an array, and no file is left."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from counting import open_files
from extraction_helpers import Moments, moments
from hypothesis import given
from hypothesis import strategies as st

from transferclf.exceptions import DiskSpaceError, NetworkError, TransferclfWarning
from transferclf.features import FeatureStore, row_space
from transferclf.features.extraction import Extractor
from transferclf.features.row_file import RowFile, part_of, size_text, temporary_folder
from transferclf.features.row_space import RowLimit, RowSpace
from transferclf.features.work import activation_keys
from transferclf.images import check_images
from transferclf.images.loading import looks_at

N = 12
IN_FILE = 1  # bytes: any row is more


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Put temporary files into a folder of the test; nothing may be left there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


@st.composite
def positions(draw, n):
    """Return numbers of rows: one, a slice, or an array out of order, with repetitions or empty."""
    number = st.integers(-n, n - 1)
    if draw(st.booleans()):
        bound = st.none() | st.integers(-n - 2, n + 2)
        return slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -3])))
    numbers = draw(st.lists(number, max_size=2 * n))
    dtype = draw(st.sampled_from([np.int64, np.int32]))
    return draw(st.sampled_from([np.array(numbers, dtype), numbers[0] if numbers else 0]))


@st.composite
def histories(draw):
    """Return the shape and type of some rows, and what is written and read in turns."""
    n = draw(st.integers(1, N))
    shape = (n, *draw(st.sampled_from([(), (1,), (5,), (2, 3), (0,)])))
    dtype = draw(st.sampled_from([np.uint8, np.float32]))
    return shape, dtype, draw(st.lists(st.tuples(st.booleans(), positions(n)), max_size=12))


def written(shape, dtype, number):
    """Return rows that differ from those of another number."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 + 31 * number).astype(dtype)


@given(histories())
def test_a_file_reads_what_an_array_reads(history):
    shape, dtype, steps = history
    expected = np.zeros(shape, dtype)
    with closing(RowFile(shape, dtype)) as rows:
        for number, (is_written, where) in enumerate(steps):
            if is_written:
                expected[where] = rows[where] = written(expected[where].shape, dtype, number)
            read = rows[where]
            assert read.dtype == dtype
            np.testing.assert_array_equal(read, expected[where])
        np.testing.assert_array_equal(rows[:], expected)
    assert (len(rows), rows.shape, rows.dtype) == (len(expected), expected.shape, expected.dtype)
    assert (rows.ndim, rows.nbytes) == (expected.ndim, expected.nbytes)


@given(histories(), st.integers(0, N), st.integers(0, N))
def test_a_part_is_the_same_rows(history, start, stop):
    shape, dtype, steps = history
    expected = np.zeros(shape, dtype)
    with closing(RowFile(shape, dtype)) as rows:
        for number, (_, where) in enumerate(steps):
            expected[where] = rows[where] = written(expected[where].shape, dtype, number)
        part, same = part_of(rows, start, stop), part_of(expected, start, stop)
        assert part.shape == same.shape
        np.testing.assert_array_equal(part[:], same)
        part[:] = same[:] = written(same.shape, dtype, 100)
        np.testing.assert_array_equal(part.part(1, 3)[:], same[1:3])
        np.testing.assert_array_equal(rows[:], expected)


class Slow:
    """A file that reads and writes a few bytes at a time, as the system may."""

    def __init__(self, file, most=5):
        self.file, self.most = file, most

    def __getattr__(self, name):
        return getattr(self.file, name)

    def readinto(self, memory):
        return self.file.readinto(memory[: self.most])

    def write(self, memory):
        return self.file.write(memory[: self.most])


def test_rows_may_be_read_and_written_in_pieces(monkeypatch):
    made = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: Slow(made(**given)))
    rows, values = RowFile((4, 3), np.float32), written((4, 3), np.float32, 1)
    rows[:] = values
    np.testing.assert_array_equal(rows[np.array([3, 0, 1])], values[[3, 0, 1]])
    rows.close()


@pytest.mark.parametrize("wrong", [3, -4, np.array([0, 3]), 1.0, "1", True, None, [[0]], (0, 1, 5)])
def test_wrong_positions_raise_an_index_error(wrong):
    rows = RowFile((3, 2), np.uint8)
    with pytest.raises(IndexError, match="expected"):
        rows[wrong]
    rows.close()


def test_rows_of_another_shape_are_refused():
    rows = RowFile((3, 2), np.uint8)
    for where, shape in ((0, (1, 2)), (slice(2), (3, 2)), (np.array([1]), (2,)), (1, ())):
        with pytest.raises(ValueError, match="expected rows of shape"):
            rows[where] = np.ones(shape, np.uint8)
    assert not rows[:].any()
    rows.close()


def test_threads_read_their_own_rows():
    rows, values = RowFile((500, 50), np.float32), written((500, 50), np.float32, 2)
    rows[:] = values
    orders = [np.random.default_rng(seed).permutation(500) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for order, read in zip(orders, pool.map(rows.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(read, values[order])
    rows.close()


def test_the_file_has_no_name_and_is_gone_when_it_is_closed(folder):
    rows = RowFile((1000, 1000), np.uint8)
    rows[:] = 1 + np.zeros((1000, 1000), np.uint8)
    if os.name == "posix":
        assert list(folder.iterdir()) == []
    if os.path.isdir("/proc/self/fd"):
        assert len(open_files(folder)) == 1
    rows.close()
    rows.close()
    assert open_files(folder) == []
    with pytest.raises(ValueError, match="closed"):
        rows[0]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_a_killed_process_leaves_no_file(folder):
    script = """
import os, signal
import numpy as np
from transferclf.features.row_file import RowFile
rows = RowFile((1000, 1000), np.uint8)
rows[:] = np.ones((1000, 1000), np.uint8)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert list(folder.iterdir()) == []


def test_a_file_that_someone_has_cut_off_raises_an_error():
    rows = RowFile((3, 2), np.uint8)
    rows._records._file.truncate(3)
    with pytest.raises(OSError, match="expected a temporary file of rows to stay as it is"):
        rows[:]
    rows.close()


# --- where files go, and full disks


def test_tmpdir_names_the_folder(folder):
    assert temporary_folder() == str(folder)


@pytest.mark.skipif(not os.access("/var/tmp", os.W_OK), reason="there is no /var/tmp")
def test_the_usual_folder_is_not_one_that_may_be_in_memory(monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert temporary_folder() == "/var/tmp"
    monkeypatch.setenv("TMPDIR", "/tmp")
    assert temporary_folder() == "/tmp"


class Full(Slow):
    """A file on a disk that is full after some bytes."""

    left = 7

    def write(self, memory):
        if not self.left:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = self.file.write(memory[: self.left])
        self.left -= done
        return done


def test_a_disk_that_fills_up_is_a_clear_error(monkeypatch, folder):
    made = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **given: Full(made(**given)))
    rows = RowFile((3, 4), np.uint8)
    rows[0] = np.ones(4, np.uint8)
    with pytest.raises(DiskSpaceError, match="No space left on device") as caught:
        rows[1:] = np.ones((2, 4), np.uint8)
    assert "expected room for 12 bytes of rows in a temporary file" in str(caught.value)
    assert str(folder) in str(caught.value)
    assert isinstance(caught.value, OSError)
    rows.close()


def test_a_file_that_cannot_be_made_is_a_clear_error(monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(DiskSpaceError, match="Permission denied"):
        RowFile((3, 4), np.uint8)


def test_too_small_a_disk_is_found_before_anything_is_written(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2_000))
    monkeypatch.setattr(row_space, "RowFile", None)  # is not made
    with RowLimit(1000, max_bytes=500) as limit:
        part = RowSpace(10, limit).part()
        with pytest.raises(DiskSpaceError, match=r"room for 4 kB of rows .* got: 2 kB are free"):
            part[np.arange(10)] = np.ones((10, 4), np.uint8)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (5 * 10**12, "5e+03 GB")],
)
def test_sizes_have_units(nbytes, text):
    assert size_text(nbytes) == text


# --- spaces


def test_the_limit_is_for_all_spaces_together():
    for most, kind in ((30 * 8, np.ndarray), (30 * 8 - 1, RowFile), (None, np.ndarray)):
        with RowLimit(30, most) as limit:
            for n in (20, 10):
                space = RowSpace(n, limit)
                space.part()[np.arange(n)] = np.ones((n, 2), np.float32)
                assert isinstance(space.rows, kind)


@pytest.mark.parametrize("most", [None, IN_FILE])
@pytest.mark.parametrize("chunk", [1, 2**25])
def test_whole_numbers_become_float32_when_others_follow(most, chunk, monkeypatch):
    monkeypatch.setattr(row_space, "CHUNK_BYTES", chunk)
    with RowLimit(6, most) as limit:
        space = RowSpace(6, limit)
        first, second = space.part(0, 3), space.part(3, 6)
        first[np.array([2, 0, 1])] = np.array([[30], [10], [20]], np.uint8)
        assert space.rows.dtype == np.uint8
        second[np.array([1])] = np.array([[0.5]], np.float32)
        second[np.array([0, 2])] = np.array([[7], [8]], np.uint8)
        assert (space.rows.dtype, first.rows.dtype) == (np.float32, np.float32)
        np.testing.assert_array_equal(first.rows[:], [[10], [20], [30]])
        np.testing.assert_array_equal(second.rows[:], [[7], [0.5], [8]])
        np.testing.assert_array_equal(second[np.array([1, 1])], [[0.5], [0.5]])
        np.testing.assert_array_equal(space.rows[2:5], [[30], [7], [0.5]])


def test_a_limit_speaks_once(capsys, folder):
    with RowLimit(30, 9, "pixels", verbose=1) as limit:
        for _ in range(3):
            RowSpace(10, limit).part().put(0, np.ones(4, np.float32))
    assert capsys.readouterr().out == (
        "pixels: 480 bytes are more than max_memory allows (9 bytes), and are read from a "
        f"temporary file in {folder}\n"
    )


# --- extraction

PIXELS = np.random.default_rng(3).integers(0, 256, (100, 6, 6, 3), dtype=np.uint8)
PIXELS[50:] = PIXELS[:50]  # each image twice


class CountedMoments(Moments):
    """A substitute for a prefix that counts its images."""

    def __init__(self):
        self.seen = 0

    def forward(self):
        def counted(pixels):
            self.seen += len(pixels)
            return moments(pixels)

        return counted


@pytest.mark.parametrize("cache", [None, "memory"])
def test_activations_in_a_file_equal_those_in_an_array(cache):
    source = check_images(PIXELS)
    store = None if cache is None else FeatureStore()
    if store is not None:  # has some of them
        Extractor(store, "crop").rows(source[10:20], Moments())
    expected = Extractor(None, "crop").rows(source, Moments())
    for most in (None, IN_FILE):
        prefix = CountedMoments()
        with RowLimit(100, most) as limit:
            into = RowSpace(100, limit).part()
            Extractor(store, "crop").fill(into, source, prefix)
            assert into.is_in_file == (most == IN_FILE)
            np.testing.assert_array_equal(into.rows[:], expected)
            after = Extractor(None, "crop").after_cut(source, into.rows, Moments())
        np.testing.assert_array_equal(after, expected[:, :2] * 3)
        if most is None:
            assert prefix.seen == (50 if store is None else 40)


def test_pixels_in_a_file_equal_those_in_an_array():
    halves = PIXELS[:40] / np.float32(2)
    for X, dtype in (
        (PIXELS, np.uint8),
        (halves, np.float32),
        ([*PIXELS[:60], *halves], np.float32),
    ):
        source = check_images(X, pixel_range=(0, 255))
        read = []
        for most in (None, IN_FILE):
            with RowLimit(len(X), most) as limit:
                into = RowSpace(len(X), limit).part()
                Extractor(None, "crop").fill_pixels(into, source, (6, 6))
                read.append(into.rows[:])
        assert read[0].dtype == read[1].dtype == dtype
        np.testing.assert_array_equal(*read)
        np.testing.assert_array_equal(read[0], np.stack(list(X)))


def test_rows_in_a_file_do_not_fill_a_store_in_memory(tmp_path_factory):
    on_disk = FeatureStore(tmp_path_factory.mktemp("store"))
    for store, kept in ((FeatureStore(), 0), (on_disk, 50)):
        with RowLimit(100, IN_FILE) as limit:
            into = RowSpace(100, limit).part()
            Extractor(store, "crop").fill(into, check_images(PIXELS), Moments())
        assert store.info().entries == kept


@pytest.mark.parametrize("most", [None, IN_FILE])
def test_stored_rows_of_another_width_are_computed_again(most):
    source, store = check_images(PIXELS[:50]), FeatureStore()
    keys = activation_keys(looks_at(source), Moments(), "crop")
    store.put_many({keys[3]: np.ones(7, np.float32)})
    expected = Extractor(None, "crop").rows(source, Moments())
    with RowLimit(100, most) as limit:
        space = RowSpace(100, limit)
        with pytest.warns(TransferclfWarning, match="stored activations are not used"):
            Extractor(store, "crop").fill(space.part(0, 50), source, Moments())
        np.testing.assert_array_equal(space.rows[:50], expected)
        # The width of the first variant is known: another one cannot have another width.
        wider = Moments()
        wider.forward = lambda: lambda pixels: np.ones((len(pixels), 4), np.float32)
        with pytest.raises(NetworkError, match=r"expected rows of shape \(3,\) .* got \(4,\)"):
            Extractor(None, "crop").fill(space.part(50, 100), source, wider)


def test_few_rows_are_read_at_once(monkeypatch):
    monkeypatch.setattr(row_space, "CHUNK_BYTES", 100)
    chunks = list(row_space.chunks_of(np.ones((20, 3), np.float32)))
    assert chunks == [(0, 8), (8, 16), (16, 20)]
    assert list(row_space.chunks_of(np.ones((2, 100), np.float32))) == [(0, 1), (1, 2)]
    assert list(row_space.chunks_of(np.ones((0, 3), np.float32))) == []
