"""Errors about several images: short messages with complete attributes; refused kinds of X."""

import io
import itertools
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import (
    ImageError,
    ImageReadError,
    MissingImageError,
)
from transferclf.images import check_images
from transferclf.images.checking import row_length
from transferclf.images.loading import load_all
from transferclf.images.problems import Problem, raise_problems
from transferclf.reports import audit


def error_of(problems, total):
    with pytest.raises(ImageError) as raised:
        raise_problems(problems, total)
    return raised.value


def png(number=0):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


class TestGroups:
    def test_equal_faults_share_one_line_with_a_count_and_the_first_few(self):
        error = error_of([Problem(2 * n, ImageError("bad")) for n in range(300)], 1000)
        lines = str(error).splitlines()
        assert lines[:2] == [
            "300 of 1000 images cannot be used:",
            "  300 images: 0, 2, 4, 6, 8, ...: bad",
        ]
        assert lines[2].startswith("To go on without them")
        assert error.indices == list(range(0, 600, 2))
        assert error.problems[-1] == "image 598: bad"

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("got 52 bytes", "got 9 bytes"),
            ("got -1000 to 2.5e3", "got 3 to 4"),
            ("got bytes b'\\x89...'", "got bytes b'JFIF'"),
            ("got BytesIO <_io.BytesIO ...x7f4d>", "got BytesIO <_io.BytesIO ...x8a11>"),
        ],
    )
    def test_faults_that_differ_in_details_are_one_group(self, one, other):
        error = error_of([Problem(1, ImageError(one)), Problem(5, ImageError(other))], 9)
        assert str(error).splitlines()[1] == f"  2 images: 1, 5: {one} (this is of image 1)"
        assert error.problems == [f"image 1: {one}", f"image 5: {other}"]

    def test_many_kinds_do_not_make_a_long_message(self):
        kinds = ["".join(pair) for pair in itertools.product("abcdefgh", repeat=2)]
        error = error_of([Problem(n, ImageError(kind)) for n, kind in enumerate(kinds)], 99)
        lines = str(error).splitlines()
        assert len(lines) == 1 + 20 + 1 + 1
        assert lines[21] == "  44 images more: other faults"
        assert len(error.problems) == len(error.indices) == 64

    def test_the_error_proposes_no_rest_if_all_images_are_bad(self):
        error = error_of([Problem(n, ImageError("bad")) for n in range(3)], 3)
        assert str(error) == "3 of 3 images cannot be used:\n  3 images: 0, 1, 2: bad"

    def test_pickled_errors_keep_all_attributes(self):
        error = error_of([Problem(3, MissingImageError("gone"), "a.png")], 4)
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is MissingImageError
        assert str(again) == str(error)
        assert (again.indices, again.problems) == ([3], ["image 3 (a.png): gone"])

    def test_errors_about_x_as_a_whole_have_no_indices(self):
        with pytest.raises(ImageError) as raised:
            check_images([])
        assert list(raised.value.indices) == list(raised.value.problems) == []

    @pytest.mark.slow
    @given(st.dictionaries(st.integers(0, 10**6), st.text(), min_size=1, max_size=40))
    def test_any_faults_are_listed_completely_in_a_short_message(self, faults):
        problems = [Problem(position, ImageError(faults[position])) for position in sorted(faults)]
        error = error_of(problems, 10**6 + 2)
        assert error.indices == sorted(faults)
        assert error.problems == [f"image {it}: {faults[it]}" for it in sorted(faults)]
        assert sum(line.startswith("  ") for line in str(error).split("\n")) <= 21 + sum(
            text.count("\n") for text in faults.values()
        )


class TestRemainingImages:
    @pytest.fixture
    def files(self, tmp_path):
        for number in range(8):
            (tmp_path / f"{number}.png").write_bytes(png(number))
        return [tmp_path / f"{number}.png" for number in range(8)]

    def test_fit_works_on_the_images_without_problems(self, files):
        files[2].write_bytes(files[2].read_bytes()[:45])
        files[5].write_bytes(b"")
        files[6].write_bytes(b"<html><body>404</body></html>")
        y = np.arange(8)
        with pytest.raises(ImageReadError) as raised:
            CNNFeatureExtractor("tiny", image_size=32, cache=None).fit_transform(files)
        indices = raised.value.indices
        assert indices == [2, 5, 6]
        assert np.delete(y, indices).tolist() == [0, 1, 3, 4, 7]
        sound = [file for n, file in enumerate(files) if n not in indices]
        assert load_all(check_images(sound), (8, 8), "crop")[:, 0, 0, 0].tolist() == [0, 1, 3, 4, 7]

    def test_the_code_of_the_page_about_images_works(self):
        page = Path(__file__).resolve().parents[1] / "docs/how_to/images.md"
        block, *_ = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
        names = {}
        exec(block, names)
        assert names["y"].tolist() == ["night", "dusk"]
        assert len(names["features"]) == 2
        assert not np.array_equal(*names["features"])

    def test_positions_refer_to_all_of_x(self, files):
        source = check_images(files)
        files[6].unlink()
        with pytest.raises(MissingImageError) as raised:
            load_all(source[5:], (8, 8), "crop")
        assert raised.value.indices == [6]


@pytest.mark.parametrize(
    ("item", "hint"),
    [
        (io.BytesIO(png()), r"pass the bytes in such files: item\.read\(\)"),
        ({"bytes": None, "path": None}, "with 'bytes' or 'path', got one with neither"),
        ({"bytes": str(png())}, "expected bytes in 'bytes', got str"),
        ({"bytes": png(), "path": 3}, "expected a text in 'path', got int"),
        ({"image": Image.new("L", (3, 3)), "label": 1}, "and labels apart"),
    ],
    ids=["file", "empty dict", "no bytes", "no path", "row"],
)
def test_many_unreadable_images_make_a_short_message(item, hint):
    with pytest.raises(ImageError, match=hint) as raised:
        check_images([item] * 400)
    assert len(str(raised.value)) < 400
    assert raised.value.indices == list(range(400))


class Endless:
    """Iterator with a length, like the generators of Keras."""

    def __init__(self):
        self.asked = 0

    def __len__(self):
        return 3

    def __iter__(self):
        return self

    def __next__(self):
        self.asked += 1
        if self.asked > 1000:
            raise AssertionError("read without end")
        return np.zeros((2, 8, 8, 3)), np.zeros(2)

    def __getitem__(self, index):
        return next(self)


class EndlessArray(Endless):
    def __array__(self, dtype=None, copy=None):
        return np.asarray(next(self)[0])


@pytest.mark.parametrize("kind", [Endless, EndlessArray])
@pytest.mark.parametrize(
    "use",
    [
        check_images,
        lambda X: TransferClassifier("tiny", image_size=32).fit(X),
        lambda X: TransferClassifier("tiny", image_size=32).fit(X, [0, 1]),
        lambda X: CNNFeatureExtractor("tiny", image_size=32).fit_transform(X),
        lambda X: audit(X, [0, 1, 0]),
    ],
    ids=["check", "fit", "fit with y", "transform", "audit"],
)
def test_an_iterator_is_refused_without_a_call(kind, use):
    X = kind()
    with pytest.raises(ImageError, match=r"Got Endless.* may never end; pass images and labels ap"):
        use(X)
    assert X.asked == 0


def test_a_fitted_classifier_refuses_iterators(rng):
    rows = rng.integers(0, 255, (6, 64)).astype(np.uint8)
    classifier = TransferClassifier("tiny", image_size=32, image_shape=(8, 8), l2=0.1)
    classifier.fit(rows, [0, 1] * 3)
    X = Endless()
    with pytest.raises(ImageError, match="may never end"):
        classifier.predict(X)
    assert row_length(X) is None
    assert X.asked == 0


@pytest.mark.parametrize("kind", [iter, map, zip, enumerate, reversed])
def test_iterators_of_python_are_refused(kind):
    paths = ["a.png", "b.png"]
    X = map(str, paths) if kind is map else kind(paths)
    with pytest.raises(ImageError, match="which is an iterator"):
        check_images(X)


class Pairs:
    """Dataset like those of torch."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


@pytest.mark.parametrize(
    "pair",
    [
        (Image.new("RGB", (8, 8)), 1),
        (np.zeros((8, 8, 3), np.uint8), "cat"),
        (np.zeros((8, 8)), np.int64(2)),
        ("a.png", 0),
        ("a.png", "cat"),
        (np.zeros((3, 8, 8), np.float32), np.eye(4)[1]),
        (np.zeros((8, 8)), None),
    ],
    ids=["PIL", "name", "number", "path", "path and name", "one-hot", "nothing"],
)
@pytest.mark.parametrize("kind", [list, tuple, Pairs])
def test_the_error_names_pairs_of_image_and_label(pair, kind):
    with pytest.raises(ImageError, match="pass images and labels apart"):
        check_images(kind([pair] * 3))
    with pytest.raises(ImageError, match="pass images and labels apart"):
        TransferClassifier("tiny", image_size=32).fit(kind([pair] * 3))


@pytest.mark.parametrize("row", [(0.5, 1), [3, 4], (1, 2, 3)])
def test_short_rows_of_numbers_are_not_taken_for_pairs(row):
    assert len(check_images([row] * 3, image_shape=(1, len(row)))) == 3


def test_the_error_names_datasets_of_tensorflow_and_keras(tmp_path):
    keras = pytest.importorskip("keras")
    tf = pytest.importorskip("tensorflow")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(png())
    folder = keras.utils.image_dataset_from_directory(tmp_path, image_size=(8, 8), verbose=False)
    pairs = tf.data.Dataset.from_tensor_slices((np.zeros((4, 8, 8)), np.zeros(4))).repeat()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 10**9

        def __getitem__(self, index):
            return np.zeros((2, 8, 8)), np.zeros(2)

    for X in (folder, pairs, pairs.batch(2), Batches()):
        for use in (check_images, TransferClassifier("tiny", image_size=32).fit):
            with pytest.raises(ImageError, match="pass images and labels apart"):
                use(X)


def test_the_generators_of_keras_are_refused(tmp_path):
    legacy = pytest.importorskip("keras.src.legacy.preprocessing.image")
    generator = legacy.ImageDataGenerator().flow(np.zeros((4, 8, 8, 3)), np.zeros(4))
    outcome = []

    def refused():
        try:
            check_images(generator)
        except ImageError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=refused, daemon=True)
    thread.start()
    thread.join(20)
    assert "may never end" in outcome[0]
