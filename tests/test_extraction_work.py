"""Extraction with other maps than the one in process: pickled units, processes, threads."""

import io
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from extraction_helpers import SIDE, Moments, extract, extract_from_cut, moments
from image_helpers import striped_images
from joblib import Parallel, delayed
from PIL import ExifTags, Image

from transferclf import Augmentation, CNNFeatureExtractor
from transferclf.augmentation.views import View
from transferclf.exceptions import ImageReadError
from transferclf.features import FeatureStore
from transferclf.features.extraction import BATCH_SIZE, Extractor
from transferclf.features.work import in_process
from transferclf.images import check_images


def by_pickle(units):
    """Run units from the last to the first, each from its pickle."""
    for unit in reversed(units):
        yield pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(unit))()))


def by_threads(units):
    run = Parallel(n_jobs=2, backend="threading", return_as="generator_unordered")
    return run(delayed(unit)() for unit in units)


def call(unit):
    return unit()


def by_processes(units):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(call, reversed(units))


MAPS = pytest.mark.parametrize("run", [by_pickle, by_threads])


@pytest.fixture
def pictures(rng):
    return rng.integers(0, 256, (3 * BATCH_SIZE + 5, SIDE, SIDE, 3), dtype=np.uint8)


def assert_the_same(X, run, prefix=None, **options):
    """Check that rows and stored features equal those of an extraction in process."""
    prefix = prefix or Moments()
    stores = FeatureStore(), FeatureStore()
    expected = extract(check_images(X), prefix, stores[0], **options)
    rows = extract(check_images(X), prefix, stores[1], run=run, **options)
    np.testing.assert_array_equal(rows, expected)
    keys = [set(store._memory._entries) for store in stores]
    assert keys[0] == keys[1]


@MAPS
def test_every_map_gives_the_same_rows_and_computes_each_image_once(pictures, run):
    ran = []

    def counted(units):
        for computed in run(units):
            ran.append((computed.number, len(computed.rows)))
            yield computed

    twice = np.concatenate([pictures, pictures[::-1]])
    assert_the_same(twice, counted)
    assert sorted(ran) == [(0, BATCH_SIZE), (1, BATCH_SIZE), (2, BATCH_SIZE), (3, 5)]


@MAPS
def test_every_map_gives_the_same_rows_of_files_and_views(pictures, tmp_path, run):
    paths = []
    for number, picture in enumerate(pictures[:40]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(paths[-1])
    assert_the_same(paths, run)
    assert_the_same(paths[::-2], run, resize="stretch")
    view = View(Augmentation(rotation=30, noise=3), 1)
    assert_the_same(paths[:5], run, view=view)


@MAPS
def test_every_map_gives_the_same_features_of_a_keras_network(run, rng):
    X = striped_images(40, rng)
    prefix = CNNFeatureExtractor("tiny", image_size=32).fit(X[:2]).prefix_
    assert_the_same(X, run, prefix)


def images_of_pillow(folder, rng):
    """Return images of Pillow that lose information when Pillow pickles them."""
    colours = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
    whole = Image.fromarray(colours)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    whole.save(folder / "turned.jpg", exif=exif)
    whole.quantize(5).save(folder / "palette.png", transparency=2)
    opened = [
        Image.open(io.BytesIO((folder / name).read_bytes()))
        for name in ("turned.jpg", "palette.png", "turned.jpg")
    ]
    opened[2].getexif()[ExifTags.Base.Orientation] = 3  # changed by the caller
    loaded = Image.open(folder / "palette.png")
    loaded.load()
    see_through = whole.quantize(4)
    see_through.putpalette(rng.integers(0, 256, 16, dtype=np.uint8).tobytes(), "RGBA")
    gray = whole.convert("L")
    deep = Image.fromarray(rng.integers(0, 2**16, (9, 7), dtype=np.uint16))
    deep.info["transparency"] = int(np.asarray(deep)[0, 0])
    alpha = gray.copy()
    alpha.putalpha(Image.fromarray(colours[..., 0]))
    modes = [whole.convert(mode) for mode in ("1", "CMYK", "YCbCr", "HSV", "F")]
    return [*opened, loaded, see_through, gray, deep, alpha, *modes]


def test_pickled_pillow_images_have_the_same_features(tmp_path, rng):
    images = images_of_pillow(tmp_path, rng)
    source = check_images(images)
    again = pickle.loads(pickle.dumps(source))
    for index in range(len(images)):
        np.testing.assert_array_equal(again.load(index), source.load(index))
        assert again.look(index).digest == source.look(index).digest
    assert_the_same(images, by_pickle)
    np.testing.assert_array_equal(images[2].getexif()[ExifTags.Base.Orientation], 3)


def test_pickled_units_give_the_same_rows_of_16_bit_and_float_arrays(rng):
    deep = rng.integers(0, 2**16, (5, 8, 8), dtype=np.uint16)
    assert_the_same(deep, by_pickle)
    assert_the_same([deep[0], deep[1][:, 2:] / 65535], by_pickle)
    source = check_images(deep, pixel_range=(0, 2**16))[[4, 2]]
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.load(1), source.load(1))
    assert again.places[1] == source.places[1] == 2


def test_the_pickle_of_a_unit_holds_only_its_own_images(pictures):
    sizes = []

    def measured(units):
        sizes.extend(len(pickle.dumps(unit)) for unit in units)
        return in_process(units)

    extract(check_images(pictures), Moments(), None, run=measured)
    batch = pictures[:BATCH_SIZE].nbytes
    assert batch < max(sizes) < batch + 8000


@MAPS
def test_every_map_names_all_bad_images(pictures, tmp_path, run):
    paths = []
    for number, picture in enumerate(pictures[:70]):
        paths.append(tmp_path / f"{number}.bmp")
        Image.fromarray(picture).save(paths[-1])
    for number in (3, 40, 69):
        paths[number].write_bytes(paths[number].read_bytes()[:-20])
    errors = []
    for way in (in_process, run):
        with pytest.raises(ImageReadError) as error:
            extract(check_images(paths), Moments(), None, run=way)
        errors.append(error.value)
    assert errors[0].indices == errors[1].indices == [3, 40, 69]
    assert errors[0].problems == errors[1].problems


@MAPS
def test_every_map_gives_the_same_features_after_the_cut(pictures, run):
    source, prefix, store = check_images(pictures), Moments(), FeatureStore()
    read = Extractor(None, "crop", run=run)
    rows = read.rows(source, prefix)
    expected = moments(pictures.astype(np.float32))[:, :2] * 3
    np.testing.assert_allclose(read.after_cut(source, rows, prefix), expected, rtol=1e-4)
    np.testing.assert_array_equal(
        extract_from_cut(source, rows, prefix, store, run=run),
        extract_from_cut(source, rows, prefix, None),
    )
    assert store.info().entries == len(pictures)


def test_a_file_replaced_before_its_unit_runs_is_stored_under_its_new_content(pictures, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path, picture in zip(paths, pictures[:2], strict=True):
        Image.fromarray(picture).save(path)

    def late(units):
        Image.fromarray(pictures[2]).save(paths[0])
        return by_pickle(units)

    store = FeatureStore()
    rows = extract(check_images(paths), Moments(), store, run=late)
    np.testing.assert_allclose(rows, moments(pictures[[2, 1]].astype(np.float32)), rtol=1e-4)
    fresh = extract(check_images(paths), Moments(), store, run=lambda _: pytest.fail("not stored"))
    np.testing.assert_array_equal(fresh, rows)


def test_maps_that_omit_or_repeat_units_raise_an_error(pictures):
    with pytest.raises(RuntimeError, match=r"expected 4 units of work, got all but \[0\]"):
        extract(check_images(pictures), Moments(), None, run=lambda u: list(in_process(u))[1:])
    with pytest.raises(RuntimeError, match="expected each unit of work once, got 3 again"):
        extract(check_images(pictures), Moments(), None, run=lambda u: 2 * list(in_process(u))[3:])


def test_other_processes_give_the_same_rows(pictures):
    assert_the_same(pictures, by_processes)
