"""load_image_dataset: images and labels of torch, tf.data and Keras, not read all at once."""

import pickle

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import train_test_split

from transferclf import load_image_dataset
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.images import check_images
from transferclf.images.loading import content_digests

N = 11
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3)).astype(np.uint8)
LABELS = np.arange(N) % 3


class Pairs:
    """A dataset with numbers that records what is read."""

    def __init__(self, make=lambda pixels: pixels, pixels=PIXELS):
        self.make, self.pixels, self.read = make, pixels, []

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, number):
        if not 0 <= number < len(self):
            raise IndexError(number)
        self.read.append(number)
        return self.make(self.pixels[number]), int(LABELS[number])


class Stream:
    """A dataset without numbers."""

    def __init__(self, *elements):
        self.elements = elements

    def __iter__(self):
        return iter(self.elements)


def digests(X):
    return content_digests(check_images(X))


@pytest.mark.parametrize("make", [np.asarray, Image.fromarray])
def test_images_with_numbers_are_read_when_they_are_needed(make):
    pairs = Pairs(make)
    bunch = load_image_dataset(pairs, target=LABELS)
    assert pairs.read == [0]
    train, test, y_train, _ = train_test_split(bunch.data, bunch.target, random_state=0)
    assert pairs.read == [0]
    assert digests(train) + digests(test) == digests(
        np.concatenate(train_test_split(PIXELS, random_state=0))
    )
    np.testing.assert_array_equal(y_train, train_test_split(LABELS, random_state=0)[0])
    assert digests(pickle.loads(pickle.dumps(bunch.data))) == digests(PIXELS)


def test_labels_are_read_from_the_pairs_without_a_target():
    np.testing.assert_array_equal(load_image_dataset(Pairs()).target, LABELS)


def test_the_range_of_floats_is_that_of_all_of_them():
    pixels = PIXELS.astype(np.float32)
    pixels[:-1] /= 255
    source = load_image_dataset(Pairs(pixels=pixels), target=LABELS).data
    assert source.decided_range() == check_images(pixels).decided_range()


def test_an_element_that_is_no_image_is_named_when_it_is_read():
    pixels = [*PIXELS[:7], PIXELS[:2, 0, 0, 0], *PIXELS[8:]]
    source = load_image_dataset(Pairs(pixels=pixels), target=LABELS).data
    with pytest.raises(ImageError, match=r"image 7: expected \(h, w\)") as caught:
        content_digests(source)
    assert caught.value.indices == [7]


def streams():
    """Return the images in datasets that are read from the beginning to the end."""
    import tensorflow as tf

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, number):
            part = slice(4 * number, 4 * number + 4)
            return PIXELS[part], LABELS[part]

    data = tf.data.Dataset.from_tensor_slices((PIXELS, LABELS))
    return {
        "tf.data": data,
        "tf.data, batches": data.batch(4),
        "tf.data, unknown length": data.filter(lambda image, label: label >= 0),
        "Keras": Batches(),
        "generator": Stream(*zip(PIXELS, LABELS, strict=True)),
    }


STREAMS = ["tf.data", "tf.data, batches", "tf.data, unknown length", "Keras", "generator"]


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_written_to_a_file(name, tmp_path):
    bunch = load_image_dataset(streams()[name], output=tmp_path / "images.npy")
    assert isinstance(bunch.data, np.memmap)
    np.testing.assert_array_equal(bunch.data, PIXELS)
    np.testing.assert_array_equal(bunch.target, LABELS)


@pytest.mark.parametrize("kind", ["map", "loader"])
def test_tensors_of_torch_have_their_channels_first(kind, tmp_path):
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(np.moveaxis(PIXELS, -1, 1).copy())
    data = torch.utils.data.TensorDataset(pixels, torch.tensor(LABELS))
    if kind == "loader":
        data = torch.utils.data.DataLoader(data, batch_size=4)
    bunch = load_image_dataset(data, output=tmp_path / "images.npy")
    assert digests(bunch.data) == digests(PIXELS)
    np.testing.assert_array_equal(bunch.target, LABELS)


def test_bytes_become_text(tmp_path):
    stream = Stream((PIXELS[0], b"cat"), (PIXELS[1], "dög".encode()))
    bunch = load_image_dataset(stream, output=tmp_path / "images.npy")
    assert bunch.target.tolist() == ["cat", "dög"]


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ([], "dataset is empty"),
        ([(PIXELS[0], 1), PIXELS[1]], r"element 1: expected a pair \(image, label\), got ndarray"),
        ([(PIXELS[0], 1), (PIXELS[1, :4], 1)], r"image 1: expected shape \(6, 5, 3\)"),
        ([(PIXELS[0], 1), (PIXELS[1] / 2, 1)], "image 1: .* type uint8.* got .*float64"),
        ([(PIXELS[:2], [1])], "element 0: expected a label for each of 2 images, got 1"),
        ([(np.array(["a.png"]), 1)], "element 0: expected images .*; got <U5"),
        ([(PIXELS[0, ..., :2], 1)], "with 2 channels"),
    ],
)
def test_wrong_streams_are_named_and_leave_no_file(elements, message, tmp_path):
    with pytest.raises(ImageError, match=message):
        load_image_dataset(Stream(*elements), output=tmp_path / "images.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": Stream()}, "Stream is read once.* output must be the name of a file"),
        ({"dataset": Stream(), "output": "images.zip"}, "ends in .npy. Got 'images.zip'"),
        ({"dataset": Stream(), "target": [1]}, "target is for a dataset with numbers"),
        ({"dataset": iter([])}, "which can be read again. Got list_iterator"),
        ({"dataset": 3}, "dataset must be a dataset of .* pairs"),
        ({"dataset": Pairs(), "target": [1, 2]}, "one label for each of 11 images. Got 2"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(InvalidParameterError, match=message):
        load_image_dataset(**arguments)


def test_a_dataset_without_an_end_is_refused(tmp_path):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((PIXELS, LABELS)).repeat()
    with pytest.raises(ImageError, match=r"has no end: leave out repeat\(\)"):
        load_image_dataset(data, output=tmp_path / "images.npy")


def test_an_empty_dataset_with_numbers_is_refused():
    with pytest.raises(ImageError, match="dataset is empty"):
        load_image_dataset(Pairs(pixels=PIXELS[:0]))
