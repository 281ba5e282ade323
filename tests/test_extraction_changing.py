"""Files replaced during use: features stay with the content from which they were computed."""

import itertools
import os
import threading

import numpy as np
import pytest
from extraction_helpers import extract, extract_from_cut
from PIL import Image

from transferclf import Augmentation
from transferclf.augmentation.views import View
from transferclf.exceptions import ImageReadError
from transferclf.features import FeatureStore, extraction
from transferclf.features.extraction import Extractor
from transferclf.features.work import activation_keys
from transferclf.images import check_images, files
from transferclf.images.geometry import Sampling
from transferclf.images.loading import looks_at
from transferclf.images.source import ImageSource

SIDE = 8


class Means:
    """Stand-in for a prefix: the mean colour of each image, doubled after the cut."""

    size, sampling = (SIDE, SIDE), Sampling()

    def __init__(self, is_cut=False):
        self.digest, self.is_cut, self.seen = f"means {is_cut}", is_cut, 0

    def forward(self):
        return self

    def __call__(self, images):
        self.seen += len(images)
        return images.mean(axis=(1, 2))

    def whole(self):
        return Means()

    def tail_forward(self):
        return lambda rows: rows * 2


def colour(number):
    return (number % 251, (number * 7) % 251, (number * 31) % 251)


def write(path, number):
    """Replace a file by a picture of one colour, in one step."""
    new = path.with_name(f"{path.name}.{threading.get_ident()}.new")
    Image.new("RGB", (SIDE, SIDE), colour(number)).save(new, "PNG")
    os.replace(new, path)


@pytest.fixture
def path(tmp_path):
    write(tmp_path / "a.png", 1)
    return tmp_path / "a.png"


@pytest.fixture
def between(monkeypatch):
    """Return a function that arranges an action between the first look and the decoding."""

    def arrange(action):
        looks_at = extraction.looks_at

        def looked(source, advance):
            looks = looks_at(source, advance)
            action()
            return looks

        monkeypatch.setattr(extraction, "looks_at", looked)

    return arrange


def test_features_of_the_new_content_are_returned_and_stored_under_its_digest(
    path, tmp_path, between, monkeypatch
):
    write(tmp_path / "old.png", 1)
    between(lambda: write(path, 2))
    store = FeatureStore()
    np.testing.assert_allclose(extract(check_images([path]), Means(), store), [colour(2)])
    monkeypatch.undo()
    assert store.info().entries == 1
    again = Means()
    np.testing.assert_allclose(extract(check_images([path]), again, store), [colour(2)])
    assert again.seen == 0
    np.testing.assert_allclose(
        extract(check_images([tmp_path / "old.png"]), again, store), [colour(1)]
    )
    assert again.seen == 1


@pytest.mark.parametrize("n_copies", [1, 2, 5])
@pytest.mark.parametrize("replaced", [0, 1])
@pytest.mark.parametrize("use_store", [True, False])
def test_copies_of_a_replaced_file_keep_their_own_features(
    tmp_path, between, n_copies, replaced, use_store
):
    paths = [tmp_path / f"{number}.png" for number in range(n_copies + 1)]
    for file in paths:
        write(file, 1)
    between(lambda: write(paths[replaced], 2))
    prefix = Means()
    rows = extract(check_images(paths), prefix, FeatureStore() if use_store else None)
    # The second file is never decoded: it is a copy of the first, which has not changed.
    expected = [colour(2 if replaced == 0 == i else 1) for i in range(n_copies + 1)]
    np.testing.assert_allclose(rows, expected)
    assert prefix.seen == (2 if replaced == 0 else 1)


def test_all_copies_of_an_image_are_replaced_one_by_one(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for file in paths:
        write(file, 1)
    load = ImageSource.load_looked

    def replacing(self, index, *args):
        write(paths[index], 10 + index)
        return load(self, index, *args)

    monkeypatch.setattr(ImageSource, "load_looked", replacing)
    rows = extract(check_images(paths), Means(), FeatureStore())
    np.testing.assert_allclose(rows, [colour(10 + index) for index in range(4)])


def test_views_are_drawn_from_the_new_content(path, tmp_path, between, monkeypatch):
    view = View(Augmentation(brightness=0.5, noise=20), 1)
    write(tmp_path / "new.png", 2)
    right = extract(check_images([tmp_path / "new.png"]), Means(), None, view=view)
    between(lambda: write(path, 2))
    store = FeatureStore()
    np.testing.assert_array_equal(extract(check_images([path]), Means(), store, view=view), right)
    write(path, 1)
    read = Extractor(store, "crop")
    (pixels,) = read.batches(check_images([path]), (SIDE, SIDE), view)
    monkeypatch.undo()
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), right, rtol=1e-5)


def test_features_after_the_cut_are_stored_under_the_content_of_the_activations(path, between):
    between(lambda: write(path, 2))
    store, prefix, source = FeatureStore(), Means(is_cut=True), check_images([path])
    read = Extractor(store, "crop")
    rows = read.rows(source, prefix)
    write(path, 3)
    np.testing.assert_allclose(read.after_cut(source, rows, prefix), 2 * np.array([colour(2)]))
    for number, is_known in ((1, False), (2, True), (3, False)):
        write(path, number)
        (key,) = activation_keys(looks_at(check_images([path])), prefix.whole(), "crop")
        assert (key in store.get_many([key])) == is_known


def test_rows_without_looks_are_stored_under_the_present_content(path):
    store, prefix = FeatureStore(), Means(is_cut=True)
    extract_from_cut(check_images([path]), np.ones((1, 3), np.float32), prefix, store)
    (key,) = activation_keys(looks_at(check_images([path])), prefix.whole(), "crop")
    np.testing.assert_array_equal(store.get_many([key])[key], [2, 2, 2])


def test_the_error_names_a_file_damaged_after_the_look(path, between):
    between(lambda: path.write_bytes(path.read_bytes()[:30]))
    store = FeatureStore()
    with pytest.raises(ImageReadError, match=r"image 0 \(.*a\.png\)"):
        extract(check_images([path]), Means(), store)
    assert store.info().entries == 0


def test_stored_features_match_their_content_while_a_writer_replaces_files(tmp_path):
    """Features stored under a content are those of the content, at any interleaving."""
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, file in enumerate(paths):
        write(file, number)
    store, is_done = FeatureStore(), threading.Event()

    def replace():
        for number in itertools.count(100):
            if is_done.is_set():
                return
            write(paths[number % len(paths)], number % 40)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        rows = [extract(check_images(paths), Means(), store) for _ in range(25)]
    finally:
        is_done.set()
        writer.join()
    colours = np.array([colour(number) for number in range(200)], np.float32)
    for row in np.concatenate(rows):
        assert np.abs(colours - row).sum(axis=1).min() < 1e-3
    single = tmp_path / "one.png"
    known = 0
    for number in range(40):
        write(single, number)
        prefix = Means()
        np.testing.assert_allclose(extract(check_images([single]), prefix, store), [colour(number)])
        known += prefix.seen == 0
    assert known > 0, "the store was not used"


class TestLargeFiles:
    """Files that are not held in memory: decoding checks them block by block."""

    @pytest.fixture(autouse=True)
    def _small_blocks(self, monkeypatch):
        monkeypatch.setattr(files, "LARGE", 100)
        monkeypatch.setattr(files, "BLOCK", 64)

    @pytest.fixture
    def noise(self, tmp_path, rng):
        file = tmp_path / "noise.bmp"
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file)
        return file

    def test_large_files_have_the_digest_and_pixels_of_small_ones(self, noise, monkeypatch):
        source = check_images([noise])
        large = source.look(0), source.load(0, (SIDE, SIDE))
        pixels, look = source.load_looked(0, (SIDE, SIDE), "crop", large[0])
        monkeypatch.undo()
        assert large[0] == source.look(0) == look
        np.testing.assert_array_equal(large[1], source.load(0))
        np.testing.assert_array_equal(pixels, large[1])

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "JPEG2000"])
    def test_large_files_of_every_kind_are_read(self, kind, tmp_path, rng):
        file = tmp_path / "a.bin"
        image = Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
        image.save(file, kind, **options)
        with Image.open(file) as opened:
            expected = np.asarray(opened.convert("RGB"))
        np.testing.assert_array_equal(check_images([file]).load(0), expected)

    def test_a_change_during_decoding_is_never_stored_under_the_old_digest(
        self, noise, monkeypatch
    ):
        digest, times = files.LargeContents.digest, itertools.count()

        def changing(self, start):
            result = digest(self, start)
            if next(times) == 0:
                changed = bytearray(noise.read_bytes())
                changed[100] ^= 255
                with noise.open("r+b") as file:
                    file.write(changed)
            return result

        source = check_images([noise])
        old = source.look(0)
        monkeypatch.setattr(files.LargeContents, "digest", changing)
        pixels, look = source.load_looked(0, (SIDE, SIDE), "crop", old)
        monkeypatch.setattr(files.LargeContents, "digest", digest)
        assert next(times) == 2, "the file was not read again"
        assert look == source.look(0) != old
        np.testing.assert_array_equal(pixels, source.load(0))

    def test_a_file_that_changes_at_each_read_is_an_error(self, noise, monkeypatch):
        digest, times = files.LargeContents.digest, itertools.count()

        def changing(self, start):
            result = digest(self, start)
            changed = bytearray(noise.read_bytes())
            changed[100 + next(times)] ^= 255
            with noise.open("r+b") as file:
                file.write(changed)
            return result

        source = check_images([noise])
        old = source.look(0)
        monkeypatch.setattr(files.LargeContents, "digest", changing)
        with pytest.raises(ImageReadError, match="got one that keeps changing"):
            source.load_looked(0, (SIDE, SIDE), "crop", old)
