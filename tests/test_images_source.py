"""Accepted and refused kinds of X, and properties of a source that need no decoding."""

import io
import os
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy.sparse import csr_matrix

from transferclf.exceptions import (
    ImageError,
    ImageReadError,
    InvalidParameterError,
    MissingImageError,
    TransferclfWarning,
)
from transferclf.images import ImageSource, check_images
from transferclf.images import source as source_module
from transferclf.images.checking import check_image_shape, inferred_shape
from transferclf.images.decoding import decoded
from transferclf.images.pixels import DtypeRange, ValueRange


@pytest.fixture
def colours(rng):
    return rng.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


@pytest.fixture
def paths(colours, tmp_path):
    files = [tmp_path / f"image {i}.png" for i in range(len(colours))]
    for file, pixels in zip(files, colours, strict=True):
        Image.fromarray(pixels).save(file)
    return files


def loaded(source):
    return [source.load(index) for index in range(len(source))]


def assert_shows(source, images):
    assert isinstance(source, ImageSource)
    assert len(source) == len(images)
    for index, image in enumerate(images):
        np.testing.assert_array_equal(source.load(index), image)


def objects(items, *shape):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape or -1)


class TestKinds:
    @pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 1), (4, 6, 5, 3), (4, 6, 5, 4)])
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int64, np.float16, float])
    def test_arrays_are_accepted_without_a_copy(self, shape, dtype):
        X = np.ones(shape, dtype)
        source = check_images(X)
        assert len(source) == 4
        assert source.load(3).shape == (6, 5, 3)
        assert np.shares_memory(source.items, X), "copied"

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_arrays_of_either_memory_order_are_accepted(self, colours, order):
        assert_shows(check_images(np.array(colours, order=order)), colours)
        assert_shows(check_images(np.array(colours / 255, order=order)), colours)

    @pytest.mark.parametrize("image_shape", [(5, 7, 3), [5, 7, 3], np.array([5, 7, 3])])
    def test_rows_are_accepted(self, colours, image_shape):
        rows = colours.reshape(6, -1)
        assert_shows(check_images(rows, image_shape=image_shape), colours)

    @pytest.mark.parametrize("shape", [(8, 8), (8, 3), (8, 4), (2, 4, 3), (4, 4, 4), (6, 6, 1)])
    def test_rows_of_any_image_shape_are_accepted(self, shape, rng):
        rows = rng.integers(0, 256, (3, np.prod(shape)), dtype=np.uint8)
        source = check_images(rows, image_shape=shape)
        assert source.load(0).shape == (*shape[:2], 3)
        np.testing.assert_array_equal(source.item(2), rows[2].reshape(shape))

    @pytest.mark.parametrize(
        ("length", "shape"),
        [
            (1, (1, 1)),
            (2, (1, 2)),
            (3, (1, 1, 3)),
            (4, (2, 2)),
            (12, (2, 2, 3)),
            (30, (1, 30)),
            (784, (28, 28)),
            (3072, (32, 32, 3)),
            (48, (4, 4, 3)),
            (36, (6, 6)),
        ],
    )
    def test_rows_of_an_inferred_shape_are_accepted(self, length, shape, rng):
        rows = rng.integers(0, 256, (2, length), dtype=np.uint8)
        source = check_images(rows, image_shape="infer")
        np.testing.assert_array_equal(source.item(1), rows[1].reshape(shape))

    @given(st.integers(1, 10**6))
    def test_inferred_shapes_keep_every_number(self, length):
        shape = inferred_shape(length)
        assert np.prod(shape) == length
        assert shape == (1, length) or shape[0] == shape[1]
        assert check_image_shape(shape) == shape

    def test_numbers_with_dtype_object_are_accepted(self, colours):
        rows = colours.reshape(6, -1).astype(object)
        assert_shows(check_images(rows, image_shape=(5, 7, 3)), colours)

    def test_rows_as_nested_lists_are_accepted(self):
        rows = [[0, 255, 255, 0], [255, 255, 0, 0]]
        source = check_images(rows, image_shape=(2, 2))
        np.testing.assert_array_equal(source.load(1)[..., 0], [[255, 255], [0, 0]])

    def test_images_as_nested_lists_are_accepted(self, colours):
        assert_shows(check_images(colours.tolist()), colours)

    def test_rows_as_a_data_frame_are_accepted(self, colours):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(colours.reshape(6, -1), index=list("fedcba"))
        assert_shows(check_images(frame, image_shape=(5, 7, 3)), colours)

    @pytest.mark.parametrize(
        "kind",
        {
            "list of Path": list,
            "list of str": lambda paths: [str(path) for path in paths],
            "tuple": tuple,
            "list of np.str_": lambda paths: [np.str_(path) for path in paths],
            "array of str": lambda paths: np.array([str(path) for path in paths]),
            "object array": objects,
            "column": lambda paths: objects(paths, -1, 1),
            "nested lists": lambda paths: [[str(path)] for path in paths],
        }.items(),
        ids=lambda kind: kind[0],
    )
    def test_paths_are_accepted(self, kind, paths, colours):
        assert_shows(check_images(kind[1](paths)), colours)

    @pytest.mark.skipif(
        not hasattr(np.dtypes, "StringDType"), reason="this NumPy has no StringDType"
    )
    def test_paths_in_numpy_strings_are_accepted(self, paths, colours):
        names = np.array([str(path) for path in paths], dtype=np.dtypes.StringDType())
        assert_shows(check_images(names), colours)

    def test_paths_in_pandas_are_accepted(self, paths, colours):
        pd = pytest.importorskip("pandas")
        names = [str(path) for path in paths]
        shuffled = pd.Series(names, index=[5, 3, 1, 0, 2, 4])
        assert_shows(check_images(shuffled), colours)
        assert_shows(check_images(shuffled.astype("category")), colours)
        assert_shows(check_images(shuffled.astype("string")), colours)
        assert_shows(check_images(pd.Series(paths)), colours)
        assert_shows(check_images(shuffled.to_frame("file")), colours)
        with ExitStack() as opened:
            images = [opened.enter_context(Image.open(path)) for path in paths]
            assert_shows(check_images(pd.Series(images)), colours)

    def test_paths_in_polars_are_accepted(self, paths, colours):
        pl = pytest.importorskip("polars")
        assert_shows(check_images(pl.Series([str(path) for path in paths])), colours)

    def test_a_path_like_object_of_bytes_is_accepted(self, paths, colours):
        class BytesPath:
            def __fspath__(self):
                return os.fsencode(paths[0])

        assert_shows(check_images([BytesPath()]), colours[:1])

    def test_kinds_may_be_mixed(self, paths, colours):
        X = [paths[0], str(paths[1]), Image.open(paths[2]), colours[3], colours[4] / 255]
        assert_shows(check_images(X), colours[:5])
        assert_shows(check_images(objects(X)), colours[:5])

    def test_arrays_of_different_sizes_and_depths_are_accepted(self, rng):
        sizes = [(4, 5, 3), (6, 3), (2, 2, 1), (3, 3, 4)]
        X = [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]
        shapes = [image.shape for image in loaded(check_images(X))]
        assert shapes == [(4, 5, 3), (6, 3, 3), (2, 2, 3), (3, 3, 3)]

    def test_a_list_of_arrays_of_one_size_is_accepted(self, colours):
        assert_shows(check_images(list(colours)), colours)

    def test_other_array_types_are_accepted(self, colours):
        class Tensor:
            def __init__(self, values):
                self.values = values

            def __array__(self, dtype=None, copy=None):
                return np.asarray(self.values, dtype)

        assert_shows(check_images(Tensor(colours)), colours)
        assert_shows(check_images([Tensor(image) for image in colours]), colours)

    def test_a_source_of_a_source_is_the_same_object(self, colours):
        source = check_images(colours)
        assert check_images(source) is source

    def test_kinds_agree_after_resizing(self, paths, colours):
        for X in (paths, colours, [Image.fromarray(image) for image in colours], colours / 255):
            for mode in ("crop", "stretch", "pad"):
                expected = check_images(colours).load(2, (4, 4), mode)
                np.testing.assert_array_equal(check_images(X).load(2, (4, 4), mode), expected)

    def test_read_only_input_is_not_changed(self, colours):
        for X in (colours, colours / 300, colours.astype(np.uint16) * 257):
            before = X.copy()
            X.flags.writeable = False
            source = check_images(X)
            source.decided_range()
            source.load(0, (3, 3))
            source.look(0)
            np.testing.assert_array_equal(X, before)


def test_rows_may_be_in_a_list(colours):
    rows = list(colours.reshape(len(colours), -1))
    source = check_images(rows, image_shape=colours.shape[1:])
    np.testing.assert_array_equal(source.load(1), colours[1])


def test_missing_unreadable_and_impossible_images_are_reported_together(tmp_path, colours):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path in paths:
        Image.fromarray(colours[0]).save(path)
    paths[0].write_text("no picture")
    paths[2].unlink()
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageReadError, match=r"4 of 5 images") as caught:
        check_images([*paths, None])
    lines = str(caught.value).splitlines()[1:]
    assert [line.split()[1].rstrip(":") for line in lines[:-1]] == ["0", "2", "3", "4"]
    assert caught.value.indices == [0, 2, 3, 4]
    assert "no known image format" in lines[0]


class TestLaziness:
    @pytest.fixture
    def no_decoding(self, monkeypatch):
        def refuse(*args, **kwargs):
            raise AssertionError("decoded")

        monkeypatch.setattr(source_module, "decoded", refuse)

    def test_paths_are_not_decoded(self, no_decoding, paths):
        source = check_images(paths)[1:][::-1]
        assert source.decided_range() is None
        assert source.places[0] == 5
        assert len({source.look(i).digest for i in range(len(source))}) == 5
        with pytest.raises(AssertionError, match="decoded"):
            source.load(0)

    def test_pil_images_are_not_decoded(self, no_decoding, paths):
        with ExitStack() as opened:
            images = [opened.enter_context(Image.open(path)) for path in paths]
            source = check_images(images)[1:]
            assert source.decided_range() is None
            assert source.problem(0, ImageError()).place == "1"
            assert all(image.tile for image in images), "Pillow has loaded one"

    def test_slices_do_not_copy_the_array(self, colours):
        source = check_images(colours)[2:]
        assert np.shares_memory(source.item(0), colours)
        assert source.items is check_images(source).items

    def test_large_uint8_is_not_read(self):
        # 8 TiB of addresses: reading or copying them would take hours.
        endless = np.lib.stride_tricks.as_strided(
            np.zeros((1, 1), np.uint8), (1000, 2**17, 2**16), (0, 0, 0)
        )
        assert check_images(endless).decided_range() == DtypeRange(0, 255)


class TestSlicing:
    @pytest.mark.parametrize(
        ("key", "positions"),
        [
            (slice(2, 5), [2, 3, 4]),
            (slice(None, None, -2), [5, 3, 1]),
            ([3, 3, 0], [3, 3, 0]),
            (np.array([-1, 0]), [5, 0]),
            (np.array([True, False, False, True, False, False]), [0, 3]),
            (slice(0, 0), []),
        ],
    )
    @pytest.mark.parametrize("kind", ["paths", "colours"])
    def test_slices_masks_and_indices_select_images(self, key, positions, kind, request):
        source = check_images(request.getfixturevalue(kind))[key]
        assert_shows(source, request.getfixturevalue("colours")[positions])

    def test_nested_slices_keep_the_original_positions(self, paths):
        part = check_images(paths)[1:][[4, 2]][::-1]
        assert part.problem(0, ImageError()).place == f"3 ({paths[3]})"
        assert part.problem(1, ImageError()).place == f"5 ({paths[5]})"

    def test_pixel_range_is_kept(self, colours):
        assert check_images(colours, pixel_range="minmax")[1:].pixel_range == "minmax"

    @pytest.mark.parametrize("key", [0, np.int64(2), [[0, 1]]])
    def test_one_index_is_refused(self, colours, key):
        with pytest.raises(TypeError, match="sliced by a slice, mask or indices"):
            check_images(colours)[key]

    @pytest.mark.parametrize("key", [[6], np.array([True, False])])
    def test_keys_beyond_the_end_raise_an_error(self, colours, key):
        with pytest.raises(IndexError):
            check_images(colours)[key]

    def test_repr_shows_the_number_of_images(self, colours):
        assert repr(check_images(colours)[1:]) == "<ImageSource of 5 images>"


def digest(image, **options):
    return check_images([image], **options).look(0).digest


SMALL = hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))


class TestDigest:
    @given(SMALL, st.sampled_from([np.float16, np.float32, np.float64, np.int64]))
    @settings(max_examples=100, deadline=None)
    def test_equal_content_has_equal_digests(self, pixels, dtype):
        expected = digest(pixels)
        assert digest(pixels.copy(order="F")) == expected
        assert digest(Image.fromarray(pixels)) == expected
        assert check_images(pixels[None]).look(0).digest == expected
        if np.dtype(dtype).kind == "i" or pixels.max() > 1:
            assert digest(pixels.astype(dtype)) == expected

    @given(SMALL, st.data())
    @settings(max_examples=100, deadline=None)
    def test_any_pixel_changes_the_digest(self, pixels, data):
        other = pixels.copy()
        index = tuple(data.draw(st.integers(0, side - 1)) for side in pixels.shape)
        other[index] ^= data.draw(st.integers(1, 255))
        assert digest(other) != digest(pixels)

    def test_the_shape_changes_the_digest(self):
        digests = {digest(np.zeros((h, w, 3), np.uint8)) for h, w in [(2, 6), (6, 2), (3, 4)]}
        assert len(digests) == 3

    def test_fractions_change_the_digest(self):
        almost = np.full((2, 2), 100.5, np.float32)
        assert digest(almost) != digest(almost + np.float32(0.1))

    def test_equal_bytes_of_uint8_and_float_have_other_digests(self):
        floats = np.full((1, 1), 0.3, np.float32)
        assert digest(floats) != digest(floats.view(np.uint8).reshape(1, 4))

    def test_the_pixel_range_changes_the_digest(self, colours, paths):
        ranges = [None, "minmax", (0, 255), (0, 300), ValueRange(0, 255)]
        assert len({digest(paths[0], pixel_range=r) for r in ranges}) == len(ranges)
        different = [None, "minmax", (0, 300)]
        assert len({digest(colours[0], pixel_range=r) for r in different}) == 3

    def test_files_are_digested_by_their_bytes(self, paths, tmp_path):
        copy = tmp_path / "another name.png"
        copy.write_bytes(paths[0].read_bytes())
        assert digest(copy) == digest(paths[0])
        copy.write_bytes(paths[0].read_bytes() + b"\0")
        assert digest(copy) != digest(paths[0])

    def test_slices_keep_digests(self, colours):
        source = check_images(colours)
        assert source[[4]].look(0).digest == source.look(4).digest

    def test_a_text_file_is_an_error(self, tmp_path):
        (tmp_path / "a.png").write_text("text")
        with pytest.raises(ImageReadError, match="no known image format"):
            digest(tmp_path / "a.png")

    def test_a_deleted_file_is_an_error(self, paths):
        source = check_images(paths)
        paths[1].unlink()
        with pytest.raises(MissingImageError, match="expected a file"):
            source.look(1)

    def test_a_file_replaced_by_a_folder_is_an_error(self, paths):
        source = check_images(paths)
        paths[1].unlink()
        paths[1].mkdir()
        with pytest.raises(ImageReadError, match="expected an image file, got a folder"):
            source.look(1)


class TestDecidedRange:
    @pytest.mark.parametrize(
        ("X", "decided"),
        [
            (np.zeros((2, 4, 5), np.uint8), DtypeRange(0, 255)),
            (np.zeros((2, 4, 5), np.uint16), DtypeRange(0, 65535)),
            (np.zeros((2, 4, 5), bool), DtypeRange(0, 1)),
            (np.full((2, 4, 5), 0.5), ValueRange(0, 1)),
            (np.full((2, 4, 5), 100.0), ValueRange(0, 255)),
            (np.full((2, 4, 5), 100), ValueRange(0, 255)),
            (np.full((2, 4, 5), 30000), ValueRange(0, 65535)),
            ([np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint16)], DtypeRange(0, 65535)),
            ([np.full((4, 4), 0.2), np.full((3, 3), 200.0)], ValueRange(0, 255)),
            ([Image.new("L", (2, 2)), np.full((3, 3), 0.2)], ValueRange(0, 1)),
            ([Image.new("L", (2, 2))], None),
        ],
    )
    def test_the_range_is_decided_by_the_values(self, X, decided):
        result = check_images(X).decided_range()
        assert result == decided
        assert type(result) is type(decided)

    @pytest.mark.parametrize("given_range", ["minmax", (0.0, 9.0)])
    def test_given_range_is_kept(self, given_range):
        source = check_images(np.ones((2, 4, 5)), pixel_range=given_range)
        assert source.decided_range() == given_range

    def test_only_the_images_of_a_slice_decide_the_range(self):
        X = np.zeros((3, 4, 5))
        X[0], X[1:] = 200, 0.5
        assert check_images(X).decided_range() == ValueRange(0, 255)
        assert check_images(X)[1:].decided_range() == ValueRange(0, 1)
        assert check_images(X)[[]].decided_range() is None

    def test_alpha_does_not_decide_the_range(self):
        X = np.full((2, 4, 5, 4), 0.5)
        X[..., 3] = 255
        assert check_images(X).decided_range() == ValueRange(0, 1)

    @pytest.mark.parametrize(
        "X",
        [
            np.full((2, 8, 8), 16.0),
            np.full((2, 8, 8), 16),
            np.ones((2, 8, 8), int),
            np.ones((2, 8, 8), np.uint8),
            np.full((2, 8, 8), 4095, np.uint16),
            np.full((2, 8, 8), 1 / 255),
        ],
        ids=["float digits", "int digits", "masks", "8-bit masks", "12 bits", "divided twice"],
    )
    def test_dark_images_give_a_warning(self, X):
        with pytest.warns(TransferclfWarning, match=rf"brightest pixel .* is {X.max():g},.* black"):
            check_images(X).decided_range()

    @pytest.mark.parametrize("X", [np.full((2, 8, 8), 16, np.uint8), np.zeros((2, 8, 8), int)])
    def test_unambiguous_values_give_no_warning(self, X):
        check_images(X).decided_range()

    def test_values_on_no_known_scale_raise_an_error(self):
        with pytest.raises(ImageError, match=r"at most 255, got 4095; say pixel_range"):
            check_images(np.full((2, 8, 8), 4095.0)).decided_range()

    def test_floats_and_integers_on_one_scale_are_accepted(self):
        X = [np.full((3, 3), 100), np.full((3, 3), 99.5)]
        assert check_images(X).decided_range() == ValueRange(0, 255)

    @pytest.mark.parametrize("integer", [200, 2000])
    def test_floats_and_integers_on_two_scales_raise_an_error(self, integer):
        X = [np.full((3, 3), integer), np.full((3, 3), 0.5)]
        with pytest.raises(ImageError, match=rf"floats up to 0\.5 with integers up to {integer}: "):
            check_images(X).decided_range()

    def test_the_decided_range_applies_to_later_images(self):
        decided = check_images(np.full((1, 4, 5), 200.0)).decided_range()
        dark = check_images(np.ones((1, 4, 5)), pixel_range=decided)
        assert dark.load(0).max() == 1


HUGE = b"\x89PNG" + bytes(100_000)
NUMBERS = objects([1, 2.5, "three", None])

HOSTILE = {
    "empty list": ([], ImageError, "empty: expected at least one image"),
    "empty tuple": ((), ImageError, "X is empty"),
    "empty array": (np.array([]), ImageError, r"X is empty.*\(0,\)"),
    "no images": (np.zeros((0, 8, 8, 3)), ImageError, r"X is empty.*\(0, 8, 8, 3\)"),
    "no rows": (np.zeros((0, 64)), ImageError, "X is empty"),
    "empty objects": (np.empty((0, 1), object), ImageError, "X is empty"),
    "empty table": (np.empty((0, 0), object), ImageError, "X is empty"),
    "None": (None, ImageError, "X must be an array .* or a sequence .* Got NoneType instead"),
    "number": (7, ImageError, "Got int instead"),
    "scalar array": (np.array(7), ImageError, r"got 0-D of shape \(\)"),
    "scalar object": (np.array(None), ImageError, r"Got object of shape \(\)"),
    "text": ("cat.png", ImageError, r"Got one str, 'cat.png': pass it in a list, \[image\]"),
    "bytes": (b"abc", ImageError, r"Got one bytes: pass it in a list, \[image\]"),
    "PIL image": (Image.new("L", (2, 3)), ImageError, r"one Image of PIL, 2 x 3.*\[image\]"),
    "a path": (
        Path("a/cat.png"),
        ImageError,
        r"Got one \w*Path, 'a/cat.png': pass .*, \[image\]\.$",
    ),
    "a URL": ("s3://a/b", ImageError, r"Got one str, 's3://a/b': .*, \[image\]\.$"),
    "a scalar text": (np.array("cat.png"), ImageError, r"Got one str, 'cat.png': .* \[image\]"),
    "a bytearray": (bytearray(b"abc"), ImageError, r"Got one bytearray: pass it .* \[image\]"),
    "a view of bytes": (memoryview(b"abc"), ImageError, r"Got one memoryview: .* \[image\]"),
    "a dict with an image": ({"bytes": b"abc"}, ImageError, r"Got one dict: .* \[image\]"),
    "an open file": (io.BytesIO(b"abc"), ImageError, r"Got one open file: .*\[file\.read\(\)\]"),
    "a folder that is missing": (
        "photos",
        ImageError,
        r"\[image\]\. transferclf\.load_image_folder",
    ),
    "dict": ({"a": 1}, ImageError, "Got dict instead"),
    "set": ({"a.png"}, ImageError, "Got set instead"),
    "generator": ((path for path in ["a.png"]), ImageError, "Got generator, which is an iterator"),
    "sparse": (csr_matrix((3, 64)), ImageError, r"Got a sparse matrix; pass X\.toarray\(\)"),
    "complex": (np.ones((2, 4, 5), complex), ImageError, "real numbers. Got an array of complex"),
    "dates": (np.zeros((2, 4, 5), "M8[s]"), ImageError, "Got an array of datetime64"),
    "list of dates": ([datetime(2020, 1, 1)], ImageError, "image 0: expected a path.* datetime"),
    "mixed numbers": (NUMBERS[:2], ImageError, r"2 of 2 .*\n.*image 0: .*int 1\n.*image 1: .*2\.5"),
    "numbers as objects": (np.ones((2, 4), object), ImageError, r"2-D with shape \(2, 4\)"),
    "a text among numbers": (np.array([[1, "a"]], object), ImageError, "real numbers only: .*'a'"),
    "rows of nothing": (np.zeros((3, 0)), ImageError, r"0 feature\(s\) \(shape=\(3, 0\)\)"),
    "NaN": (np.array([[[0.5, np.nan]]]), ImageError, "1 of 1 .*\n  image 0: .*NaN or infinity"),
    "infinity": (np.array([[[0.5, np.inf]]]), ImageError, "image 0: .*NaN or infinity"),
    "negative": (
        np.full((2, 4, 5), -0.5),
        ImageError,
        r"2 images: 0, 1: .*0, got -0\.5.*preprocess_input",
    ),
    "negative ints": (np.full((1, 4, 5), -1), ImageError, "at least 0, got -1"),
    "list with NaN": ([np.full((4, 4), np.nan)], ImageError, "image 0: expected finite"),
    "1-D": (np.arange(5), ImageError, r"got 1-D of shape \(5,\)"),
    "1-D list": ([1, 2, 3], ImageError, "got 1-D"),
    "5-D": (np.zeros((1, 2, 4, 4, 3)), ImageError, "got 5-D"),
    "ragged lists": ([[1, 2], [3]], ImageError, "nested lists of unequal lengths"),
    "channels first": (np.zeros((2, 3, 8, 8)), ImageError, r"8 channels; channels come last.*move"),
    "one colour image": (np.zeros((9, 8, 3)), ImageError, r"looks like one image: pass X\[None\]"),
    "one RGBA image": (np.zeros((9, 8, 4)), ImageError, r"X\[\.\.\., None\] if these are 9 gray"),
    "2 channels": (np.zeros((2, 8, 8, 2)), ImageError, "2 channels"),
    "5 channels": ([np.zeros((8, 8, 5))], ImageError, r"image 0: expected .*3\|4.*5 channels"),
    "no height": (np.zeros((2, 0, 8, 3)), ImageError, r"image of shape \(0, 8, 3\)"),
    "no width in a list": ([np.zeros((8, 0))], ImageError, r"image of shape \(8, 0\)"),
    "rows": (np.zeros((3, 64)), ImageError, r"2-D .*\(3, 64\).*image_shape=\(h, w\).*\[image\]"),
    "list of rows": ([np.zeros(64)], ImageError, r"2-D with shape \(1, 64\).*image_shape=\(h, w\)"),
    "None in a list": (
        [None],
        ImageError,
        "expected a path, a URL, bytes, a PIL image or an array, got NoneType",
    ),
    "contents": ([(HUGE,)], ImageError, r"^[^\n]*\n.{0,200}$"),
    "array of bytes": (np.array([b"a.png"]), ImageError, "lacks zeros at its end; pass a list"),
    "list of complex": ([np.ones((2, 2), complex)], ImageError, "image 0: .*array of complex128"),
    "list of texts as arrays": ([np.array(["a"])], ImageError, "image 0: expected real numbers"),
    "records": (np.zeros(3, "i4,f4"), ImageError, "real numbers"),
    "missing": (["no/such.png"], MissingImageError, r"image 0 \(no/such\.png\): expected a file"),
    "empty path": ([""], MissingImageError, r"image 0 \(\): expected a file"),
    "two columns": (np.array([["a", "b"]]), ImageError, r"Got <U1 of shape \(1, 2\)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_gets_a_clear_message(name):
    X, error, message = HOSTILE[name]
    with pytest.raises(error, match=message) as raised:
        check_images(X)
    assert type(raised.value) is error


class TestHostilePaths:
    def test_a_folder_is_an_error(self, tmp_path):
        for X in (tmp_path, str(tmp_path)):
            with pytest.raises(ImageError, match="load_image_folder reads a folder"):
                check_images(X)

    def test_all_missing_files_are_named(self, paths):
        X = [paths[0], "gone 1.png", paths[1], Path("gone 2.png")]
        with pytest.raises(MissingImageError) as raised:
            check_images(X)
        lines = str(raised.value).splitlines()
        assert lines[0] == "2 of 4 images cannot be used:"
        assert lines[1].startswith("  2 images: 1 (gone 1.png), 3 (gone 2.png): expected a file")
        assert len(lines) == 3
        assert raised.value.indices == [1, 3]
        assert isinstance(raised.value, FileNotFoundError)

    def test_all_problems_are_named_at_once(self, paths, tmp_path):
        X = [paths[0], tmp_path, "gone.png", None, np.zeros((3, 3, 5)), np.full((3, 3), -1)]
        with pytest.raises(ImageReadError) as raised:
            check_images(X)
        message = str(raised.value)
        assert "5 of 6 images cannot be used" in message
        assert f"image 1 ({tmp_path}): expected an image file, got a folder" in message
        for part in ("image 2 (gone.png)", "image 3: ", "image 4: ", "image 5: "):
            assert part in message
        assert not isinstance(raised.value, MissingImageError)

    @pytest.mark.parametrize("missing", [None, float("nan")])
    def test_missing_values_in_a_series_are_named(self, paths, missing):
        pd = pytest.importorskip("pandas")
        with pytest.raises(ImageError, match=r"1 of 2 .*\n  image 1: expected a path.* got"):
            check_images(pd.Series([str(paths[0]), missing]))

    def test_an_empty_series_is_an_error(self):
        pd = pytest.importorskip("pandas")
        for X in (pd.Series([], dtype=object), pd.Series([], dtype=float), pd.DataFrame()):
            with pytest.raises(ImageError, match="X is empty"):
                check_images(X)

    def test_a_broken_link_is_an_error(self, tmp_path):
        link = tmp_path / "link.png"
        link.symlink_to(tmp_path / "gone.png")
        with pytest.raises(MissingImageError, match=r"link\.png"):
            check_images([link])


class TestParameters:
    @pytest.mark.parametrize(
        "bad",
        [
            *(28, "28", (28,), (28, 28, 3, 1), (28, 28, 2), (0, 28), (-8, -8), (8.5, 8)),
            *(("8", "8"), (None, 8), (np.inf, 8), (np.nan, 8), [], {}),
        ],
    )
    def test_an_invalid_image_shape_is_an_error(self, bad):
        with pytest.raises(InvalidParameterError, match=r"image_shape must be \(h, w\) or") as it:
            check_images(np.zeros((2, 64)), image_shape=bad)
        assert repr(bad) in str(it.value)

    def test_rows_of_another_length_are_an_error(self):
        with pytest.raises(ImageError, match=r"X has 63 features a row, but .* expecting 64"):
            check_images(np.zeros((2, 63)), image_shape=(8, 8))

    @pytest.mark.parametrize("bad", ["max", (1, 0), (0,), 255, "01", (0, np.nan)])
    def test_an_invalid_pixel_range_is_an_error(self, bad):
        with pytest.raises(InvalidParameterError, match="pixel_range must be None"):
            check_images(np.zeros((2, 4, 5)), pixel_range=bad)

    def test_values_outside_a_given_range_are_all_named(self):
        X = np.full((4, 2, 2), 50.0)
        X[1], X[3] = 120, 5
        with pytest.raises(ImageError) as raised:
            check_images(X, pixel_range=(10, 100))
        reasons = [
            f"expected pixel values from 10 to 100, got {value} to {value}; "
            "np.clip(X, 10, 100) if the rest is of no interest, or say pixel_range=(low, high)"
            for value in (120, 5)
        ]
        assert str(raised.value).splitlines()[:-1] == [
            "2 of 4 images cannot be used:",
            f"  2 images: 1, 3: {reasons[0]} (this is of image 1)",
        ]
        assert raised.value.problems == [f"image 1: {reasons[0]}", f"image 3: {reasons[1]}"]

    def test_a_given_range_allows_negative_values(self):
        X = np.array([[[-1.0, 1.0]]])
        np.testing.assert_array_equal(
            check_images(X, pixel_range=(-1, 1)).load(0)[0, :, 0], [0, 255]
        )
        assert check_images(X, pixel_range="minmax").load(0).max() == 255

    @pytest.mark.parametrize("as_list", [False, True])
    def test_a_given_range_does_not_apply_to_alpha(self, as_list):
        X = np.full((2, 4, 5, 4), 100, np.uint8)
        X[..., 3] = 255
        source = check_images(list(X) if as_list else X, pixel_range=(0, 100))
        np.testing.assert_array_equal(source.load(1), np.full((4, 5, 3), 255))

    def test_a_decided_range_refuses_values_beyond_it(self):
        with pytest.raises(ImageError, match=r"image 1: .*from 0 to 1, got 200 to 200"):
            check_images([np.ones((2, 2)), np.full((2, 2), 200.0)], pixel_range=ValueRange(0, 1))


def test_a_jpeg_is_decoded_at_reduced_scale_for_a_small_size(monkeypatch, tmp_path):
    seen = []

    def spy(item, pixel_range, reduce_to):
        seen.append(reduce_to)
        return decoded(item, pixel_range, reduce_to)

    monkeypatch.setattr(source_module, "decoded", spy)
    file = io.BytesIO()
    Image.new("RGB", (800, 600), (9, 99, 199)).save(file, "JPEG")
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    source = check_images([tmp_path / "a.jpg"])
    assert source.load(0).shape == (600, 800, 3)
    assert source.load(0, (20, 30)).shape == (20, 30, 3)
    assert seen == [None, 30]
