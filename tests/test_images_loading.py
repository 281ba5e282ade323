"""Threads read and decode: order is kept, all failures are named, and all threads end."""

import gc
import threading
import time

import numpy as np
import pytest
from PIL import Image

from transferclf.exceptions import ImageError, ImageReadError, MissingImageError
from transferclf.images import check_images, loading
from transferclf.images.loading import BYTES_AHEAD, content_digests, load_batches
from transferclf.images.threads import thread_count

SIZE = (6, 6)


@pytest.fixture
def files(tmp_path, rng):
    """Return 50 valid image files of several formats."""
    paths = []
    for index in range(50):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        paths.append(tmp_path / f"{index:02}.{['png', 'jpg', 'bmp'][index % 3]}")
        Image.fromarray(pixels).save(paths[-1])
    return paths


@pytest.fixture
def damaged(files, tmp_path):
    """Return the same files with a text file as image 7 and a truncated JPEG as image 40."""
    text, cut = tmp_path / "notes.png", tmp_path / "cut.jpg"
    text.write_text("not an image")
    contents = files[1].read_bytes()
    cut.write_bytes(contents[:-30])
    return [*files[:7], text, *files[7:39], cut, *files[39:]]


def threads():
    return [thread for thread in threading.enumerate() if "transferclf" in thread.name]


def in_batches(count, size):
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def assert_both_are_named(error, damaged):
    lines = str(error).splitlines()
    assert lines[0] == "2 of 52 images cannot be used:"
    assert lines[1].startswith(f"  image 7 ({damaged[7]}): expected an image file")
    assert lines[2].startswith(f"  image 40 ({damaged[40]}): expected a whole image")
    assert lines[3].startswith("To go on without them")
    assert len(lines) == 4
    assert error.indices == [7, 40]


class TestDigests:
    def test_the_order_is_kept(self, files):
        source = check_images(files)
        assert content_digests(source) == [source.look(i).digest for i in range(len(files))]
        assert content_digests(source[::-2]) == content_digests(source)[::-2]

    def test_many_images_have_digests(self):
        count = 3048
        X = np.arange(count).astype(np.uint16)[:, None, None] * np.ones((1, 2, 2), np.uint16)
        digests = content_digests(check_images(X))
        assert len(set(digests)) == count
        assert digests[-1] == check_images(X[-1:]).look(0).digest

    def test_no_images_have_no_digests(self, files):
        assert content_digests(check_images(files)[:0]) == []

    def test_digests_name_all_bad_files(self, damaged):
        with pytest.raises(ImageReadError) as raised:
            content_digests(check_images(damaged))
        assert_both_are_named(raised.value, damaged)
        assert not threads()

    def test_digests_name_deleted_files(self, files):
        source = check_images(files)
        files[3].unlink()
        files[44].unlink()
        with pytest.raises(MissingImageError) as raised:
            content_digests(source)
        assert "2 of 50 images cannot be used" in str(raised.value)
        assert f"2 images: 3 ({files[3]}), 44 ({files[44]}): " in str(raised.value)

    def test_the_error_gives_positions_in_all_of_x(self, damaged):
        with pytest.raises(ImageReadError, match=r"1 of 6 .*\n  image 7 "):
            content_digests(check_images(damaged)[5:11])

    def test_the_error_names_values_of_arrays(self):
        X = [np.full((2, 2), 100.0), np.full((2, 2), 300.0)]
        with pytest.raises(ImageError, match="image 1: expected float64 pixels of at most 255"):
            content_digests(check_images(X))


class TestBatches:
    @pytest.mark.parametrize("size", [1, 7, 50, 64])
    def test_the_order_is_kept(self, files, size):
        source = check_images(files)
        batches = list(load_batches(source, in_batches(50, size), SIZE, "crop"))
        assert [len(batch) for batch in batches] == [len(b) for b in in_batches(50, size)]
        images = np.concatenate(batches)
        assert images.dtype == np.float32
        expected = np.stack([source.load(index, SIZE) for index in range(50)])
        np.testing.assert_array_equal(images, expected)
        assert not threads()

    def test_batches_take_images_in_any_order_and_twice(self, files):
        source = check_images(files)
        (batch,) = load_batches(source, [[9, 2, 9]], SIZE, "stretch")
        expected = [source.load(index, SIZE, "stretch") for index in (9, 2, 9)]
        np.testing.assert_array_equal(batch, expected)

    def test_batches_of_a_slice(self, files):
        source = check_images(files)
        (batch,) = load_batches(source[10:], [[0, 1]], SIZE, "pad")
        np.testing.assert_array_equal(batch[0], source.load(10, SIZE, "pad"))

    def test_no_batches(self, files):
        assert list(load_batches(check_images(files), [], SIZE, "crop")) == []

    def test_batches_of_3000_tiny_images(self):
        X = np.arange(3000).astype(np.uint16)[:, None, None] * np.ones((1, 1, 1), np.uint16)
        batches = load_batches(check_images(X), in_batches(3000, 13), (1, 1), "crop")
        values = np.concatenate([batch[:, 0, 0, 0] for batch in batches])
        np.testing.assert_allclose(values, np.arange(3000) / 257, rtol=1e-6)

    def test_batches_do_not_share_memory_with_the_callers_images(self, rng):
        X = rng.integers(0, 256, (2, *SIZE, 3), dtype=np.uint8).astype(np.float32) + 0.5
        X = np.clip(X, 0, 255)
        (batch,) = load_batches(check_images(X), [[0, 1]], SIZE, "crop")
        np.testing.assert_array_equal(batch, X)
        assert not np.shares_memory(batch, X)

    def test_batches_are_loaded_ahead_but_not_all_at_once(self, files):
        source, loaded = check_images(files), []
        load = source.load

        def spy(index, *args):
            loaded.append(index)
            return load(index, *args)

        source.load = spy
        batches = load_batches(source, in_batches(50, 5), SIZE, "crop")
        assert loaded == []
        next(batches)
        time.sleep(0.2)  # the queued images are loaded now
        assert 5 < len(loaded) <= 15
        batches.close()

    def test_failures_of_all_batches_are_named(self, damaged):
        batches = load_batches(check_images(damaged), in_batches(52, 5), SIZE, "crop")
        next(batches)
        with pytest.raises(ImageReadError) as raised:
            list(batches)
        assert_both_are_named(raised.value, damaged)
        assert not threads()

    def test_a_deleted_file_is_named(self, files):
        source = check_images(files)
        files[3].unlink()
        with pytest.raises(MissingImageError, match=r"1 of 50 .*\n  image 3 .*03\.png.*expected a"):
            list(load_batches(source, in_batches(50, 8), SIZE, "crop"))

    @pytest.mark.parametrize("how", ["close", "forget", "fail"])
    def test_all_threads_end(self, files, how):
        batches = load_batches(check_images(files), in_batches(50, 2), SIZE, "crop")
        next(batches)
        assert threads()
        if how == "close":
            batches.close()
        elif how == "forget":
            del batches
            gc.collect()
        else:
            with pytest.raises(KeyboardInterrupt):
                batches.throw(KeyboardInterrupt)
        assert not threads()

    def test_other_errors_are_passed_on(self, files, monkeypatch):
        source = check_images(files)
        monkeypatch.setattr(source, "load", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(load_batches(source, in_batches(50, 8), SIZE, "crop"))
        assert not threads()


def test_many_threads_read_one_pil_image(files):
    with Image.open(files[0]) as image:
        source = check_images([image] * 200)
        batches = list(load_batches(source, in_batches(200, 50), SIZE, "crop"))
    expected = check_images(files[:1]).load(0, SIZE)
    np.testing.assert_array_equal(np.concatenate(batches), np.stack([expected] * 200))


def test_read_ahead_of_large_images_is_limited_by_bytes():
    X = np.arange(60).astype(np.uint16)[:, None, None] * np.ones((1, 2, 2), np.uint16)
    source, loaded = check_images(X), []
    load = source.load

    def spy(index, *args):
        loaded.append(index)
        return load(index, *args)

    source.load = spy
    side = 1200
    batches = load_batches(source, in_batches(60, 10), (side, side), "crop")
    next(batches)
    time.sleep(0.5)  # the queued images are loaded now
    batches.close()
    ahead = len(loaded) - 10
    assert 0 < ahead <= max(BYTES_AHEAD // (side * side * 3 * 4), thread_count()) < 20


def test_the_number_of_threads_is_that_of_the_process(files, monkeypatch):
    monkeypatch.setattr(loading, "thread_count", lambda: 1)
    source, names = check_images(files), set()
    load = source.load

    def spy(index, *args):
        names.add(threading.current_thread().name)
        return load(index, *args)

    source.load = spy
    list(load_batches(source, in_batches(50, 8), SIZE, "crop"))
    assert len(names) == 1
    assert names != {threading.main_thread().name}


@pytest.mark.parametrize("reuse", [False, True])
def test_batches_in_the_same_memory_have_the_same_pixels(rng, reuse):
    images = rng.integers(0, 256, (11, 9, 9, 3), dtype=np.uint8)
    batches = [[0, 1, 2, 3], [7, 6], [5, 4, 8, 9], [10]]
    memories = []
    loading = load_batches(check_images(images), batches, (9, 9), "crop", reuse=reuse)
    for batch, pixels in zip(batches, loading, strict=True):
        np.testing.assert_array_equal(pixels, images[batch])
        memories.append(pixels)
    assert all(np.shares_memory(memories[0], other) == reuse for other in memories[1:])
