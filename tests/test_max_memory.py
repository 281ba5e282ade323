"""max_memory: training that reads rows from a file gives the result of training in memory."""

import errno
import functools
import shutil
import tempfile

import keras
import numpy as np
import pytest
from counting import open_files
from image_helpers import striped_images
from keras import layers
from sklearn.base import clone

from transferclf import (
    Augmentation,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    load_model,
    save_model,
)
from transferclf.engines.backend import tensor_of
from transferclf.exceptions import DiskSpaceError, ImageError, InvalidParameterError, NetworkError
from transferclf.features import row_space
from transferclf.features.row_file import RowFile, aligned
from transferclf.features.row_space import RowSpace
from transferclf.training import feeding, memory
from transferclf.training.running import CHECKED

N, BATCH, SIDE = 26, 5, 32
IMAGES = striped_images(N, np.random.default_rng(0))
LABELS = np.array(["across", "down", "noise"])[np.arange(N) % 3]
UNEQUAL = np.array(["across"] * 15 + ["down"] * 7 + ["noise"] * 4)
WIDE = np.concatenate([IMAGES, IMAGES[::-1]], axis=2)[:, :, :50]
TURNED = Augmentation(rotation=30, shift=0.1, views=2)
SAID = "are more than max_memory allows"


class Recorded(RowFile):
    """A file of rows that counts itself."""

    made = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        Recorded.made += 1


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Put temporary files into a folder of the test; nothing may be left there."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(row_space, "RowFile", Recorded)
    Recorded.made = 0
    yield tmp_path
    assert list(tmp_path.iterdir()) == []
    assert open_files(tmp_path) == []


@functools.cache
def two_layers():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    for number in (1, 2):
        starting = keras.initializers.GlorotUniform(number)
        x = layers.Conv2D(6, 3, strides=2, kernel_initializer=starting, name=f"conv{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(inputs, x)


def classifier(kind=TransferClassifier, **changes):
    parameters = {
        "backbone": two_layers(),
        "image_size": SIDE,
        "trainable_layers": "conv2",
        "fine_tune_epochs": 2,
        "fine_tune_learning_rate": 1e-3,
        "batch_size": BATCH,
        "soup": 1.0,
        "augmentation": None,
        "random_state": 0,
        "cache": None,
        "max_memory": 1,
    }
    return kind(**(parameters | changes))


def scratch(**changes):
    backbone = ConvNet((4,), dense_units=(), batch_norm="before", dropout=0.2)
    return TransferClassifier(
        backbone, epochs=2, batch_size=BATCH, random_state=0, max_memory=1, **changes
    )


class BatchLosses(keras.callbacks.Callback):
    """Losses after each batch; a callback of batches is called between them."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


# Estimators, their images and targets, and the number of files.
CASES = {
    "cut": (classifier, IMAGES, LABELS, 1),
    "views": (lambda: classifier(augmentation=TURNED), IMAGES, LABELS, 1),
    "oversampled": (lambda: classifier(oversample=True, augmentation=TURNED), IMAGES, UNEQUAL, 1),
    "held out": (
        lambda: classifier(early_stopping=True, validation_fraction=0.3, soup="auto"),
        IMAGES,
        LABELS,
        2,
    ),
    "batches": (lambda: classifier(callbacks=[BatchLosses()]), IMAGES, LABELS, 1),
    "own steps": (lambda: classifier(layer_decay=0.5, hidden_units=(3,)), IMAGES, LABELS, 1),
    "numbers": (lambda: classifier(TransferRegressor), IMAGES, np.arange(N) / 3, 1),
    "pixels": (lambda: classifier(trainable_layers="all"), IMAGES, LABELS, 1),
    "pixels afresh": (
        lambda: classifier(trainable_layers="all", augmentation="light"),
        IMAGES,
        LABELS,
        1,
    ),
    # The crops of some images have fractions, those of others none.
    "crops": (
        lambda: classifier(
            trainable_layers="all", augmentation=Augmentation(extreme_crops=True), resize="crop"
        ),
        [*WIDE[:20], *IMAGES[20:]],
        LABELS,
        1,
    ),
    "scratch": (lambda: scratch(image_size=16, preprocessing="standardize"), IMAGES, LABELS, 1),
    "whitened": (lambda: scratch(image_size=8, preprocessing="zca"), IMAGES, LABELS, 1),
    "tiny": (lambda: classifier(backbone="tiny", trainable_layers="block4"), IMAGES, LABELS, 1),
    "tiny, varied": (
        lambda: classifier(backbone="tiny", trainable_layers="block4", augmentation="light"),
        IMAGES,
        LABELS,
        1,
    ),
    "tiny, all": (lambda: classifier(backbone="tiny", trainable_layers="all"), IMAGES, LABELS, 1),
}
SLOW = [
    pytest.param(name, marks=pytest.mark.slow) if name.startswith("tiny") else name
    for name in CASES
]


def assert_same(first, second):
    assert first.history_ == second.history_
    assert first.phases_ == second.phases_
    for a, b in zip(first.head_.parameters, second.head_.parameters, strict=True):
        np.testing.assert_array_equal(a, b)


def scores(estimator, X):
    return getattr(estimator, "decision_function", estimator.predict)(X)


@pytest.mark.every_parameter
@pytest.mark.parametrize("name", SLOW)
def test_rows_in_a_file_give_the_result_of_rows_in_memory(name, monkeypatch):
    made, X, y, n_files = CASES[name]
    # Each call of the compiled function takes one batch, and each chunk a few rows.
    monkeypatch.setattr(feeding, "READ_AT_ONCE", 1)
    monkeypatch.setattr(row_space, "CHUNK_BYTES", 2**14)
    read = made().fit(X, y)
    assert Recorded.made == n_files
    monkeypatch.undo()
    held = made().set_params(max_memory="1TB").fit(X, y)
    assert len(set(held.history_["loss"][-2:])) == 2
    assert_same(read, held)
    if read.callbacks:
        assert len(read.callbacks[0].losses) == 2 * -(-N // BATCH)
        assert read.callbacks[0].losses == held.callbacks[0].losses
    expected = scores(held, X)
    np.testing.assert_array_equal(scores(read, X), expected)
    np.testing.assert_array_equal(scores(held.set_params(max_memory=1), X), expected)


def test_training_holds_few_rows(monkeypatch):
    most = 2 * BATCH * SIDE * SIDE * 3
    monkeypatch.setattr(feeding, "READ_AT_ONCE", most)
    monkeypatch.setattr(row_space, "CHUNK_BYTES", most)
    read, lengths = RowFile.__getitem__, []

    def noted(rows, positions):
        found = read(rows, positions)
        lengths.append(len(found))
        return found

    monkeypatch.setattr(RowFile, "__getitem__", noted)
    images = np.concatenate([IMAGES, IMAGES[:9]])
    tuned = classifier(trainable_layers="all", fine_tune_epochs=2)
    tuned.fit(images, np.arange(7 * BATCH) % 3)
    # The search for numbers that are not finite, two epochs, and a few scores at the end.
    passes = 3 * [2 * BATCH, 2 * BATCH, 2 * BATCH, BATCH]
    assert lengths == [*passes, CHECKED]


@pytest.mark.parametrize(
    ("bytes_in_call", "expected"), [(1, 1), (100, 1), (100 * 2**20, 4), (10 * 8 * 3, 3)]
)
def test_a_call_takes_some_batches_and_at_least_one(bytes_in_call, expected, monkeypatch):
    monkeypatch.setattr(feeding, "READ_AT_ONCE", bytes_in_call)
    rows = RowFile((5, 2), np.float32)
    data = rows, np.arange(5), np.ones(5)
    assert feeding.batches_per_call(data, 10, 4) == expected
    assert feeding.batches_per_call((rows[:], *data[1:]), 10, 4) == 4
    rows.close()


@pytest.mark.parametrize("augmentation", [None, TURNED])
def test_each_image_passes_the_frozen_part_once(augmentation):
    fitted = classifier(augmentation=augmentation)
    few = clone(fitted).fit(IMAGES[:3], LABELS[:3])
    before = few.prefix_.forward().images_seen
    whole = few.prefix_.whole().forward().images_seen
    fitted.fit(np.concatenate([IMAGES, IMAGES[:4]]), np.concatenate([LABELS, LABELS[:4]]))
    views = 1 if augmentation is None else 1 + augmentation.views
    assert fitted.prefix_.forward().images_seen - before == N * views
    assert fitted.prefix_.whole().forward().images_seen == whole


# --- rows in memory are there once


def shares(array):
    """Return whether the tensor of an array has the memory of the array."""
    expected = array.copy()
    tensor = tensor_of(array)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), expected)
    assert keras.backend.standardize_dtype(tensor.dtype) == array.dtype.name
    if not array.flags.writeable:
        return False
    array += 1
    return bool((keras.ops.convert_to_numpy(tensor) == array).all())


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(100, 50), (40, 4, 4, 3)])
def test_a_tensor_has_the_memory_of_the_rows_of_a_space(dtype, shape):
    space = RowSpace(shape[0])
    space.part()[np.arange(shape[0])] = np.arange(np.prod(shape)).reshape(shape).astype(dtype) % 99
    assert shares(space.rows)


def test_a_tensor_keeps_the_memory_that_it_needs():
    rows = aligned((1000, 1000), np.float32)
    rows[:] = 3
    tensor = tensor_of(rows)
    del rows
    aligned((1000, 1000), np.float32)[:] = 5
    assert float(keras.ops.sum(tensor)) == 3e6


def test_other_arrays_are_copied():
    memory = aligned((2, 100, 40), np.uint8)
    memory[:] = np.arange(40)
    fixed = aligned((3, 4), np.float32)
    fixed[:] = 1
    fixed.flags.writeable = False
    others = {
        "no multiple of 64": memory.ravel()[4:-4].view(np.float32).reshape(-1, 2),
        "not contiguous": memory[0, ::2],
        "one row": memory[0, ::2][:1],
        "read-only": fixed,
    }
    assert [name for name, array in others.items() if shares(array)] == []
    assert tensor_of(memory[:0]).shape == (0, 100, 40)


# --- what is said, and the default


@pytest.mark.parametrize(
    ("layers_", "what"), [("conv2", "activations at the cut"), ("all", "pixels")]
)
def test_a_fit_says_once_that_it_reads_from_a_file(layers_, what, capsys, folder):
    network = classifier(trainable_layers=layers_, augmentation=TURNED, verbose=1)
    network.fit(IMAGES, LABELS, validation_data=(IMAGES[:6], LABELS[:6])).predict(IMAGES)
    said = [line for line in capsys.readouterr().out.splitlines() if SAID in line]
    assert len(said) == 1
    assert said[0].startswith(f"{what}: ")
    assert said[0].endswith(f"(1 bytes), and are read from a temporary file in {folder}")


def test_nothing_is_said_in_memory_or_by_default(capsys):
    classifier(max_memory="1GB", verbose=1).fit(IMAGES, LABELS)
    classifier(max_memory=1, verbose=0).fit(IMAGES, LABELS)
    assert SAID not in capsys.readouterr().out
    assert Recorded.made == 1


def test_auto_is_half_of_the_free_memory(monkeypatch):
    row = 15 * 15 * 6 * 4  # of the activations below conv2
    for free, n_files in ((2 * N * row, 0), (2 * N * row - 1, 1), (None, 1)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: free)
        classifier(max_memory="auto", fine_tune_epochs=1).fit(IMAGES, LABELS)
        assert Recorded.made == n_files
    assert memory.bytes_of("auto") is None


def test_a_frozen_network_has_no_file():
    TransferClassifier(two_layers(), random_state=0, cache=None).fit(IMAGES, LABELS)
    assert Recorded.made == 0


# --- errors


class Stop(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError()])
def test_an_error_in_training_leaves_no_file(error, folder):
    network = classifier(callbacks=[Stop(error)])
    with pytest.raises(type(error)):
        network.fit(IMAGES, LABELS)
    assert Recorded.made == 1
    assert open_files(folder) == []


def test_an_interrupted_fit_goes_on_to_the_same_result():
    class StopLater(Stop):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            if self.epochs == 1:
                raise self.error

        on_train_batch_end = keras.callbacks.Callback.on_train_batch_end

    whole = classifier(fine_tune_epochs=3).fit(IMAGES, LABELS)
    network = classifier(fine_tune_epochs=3, callbacks=[StopLater(KeyboardInterrupt())])
    network.set_params(warm_start=True)
    with pytest.raises(KeyboardInterrupt):
        network.fit(IMAGES, LABELS)
    assert_same(network.fit(IMAGES, LABELS), whole)


@pytest.mark.parametrize("number", range(0, 24, 3))
def test_ctrl_c_anywhere_while_rows_are_read_leaves_no_file(number, folder):
    from test_interrupts import Interruption

    functions = [feeding.fed, feeding._read_ahead, row_space.RowLimit.new, RowFile.__getitem__]
    network = classifier()
    with Interruption(functions, number) as interruption, pytest.raises(KeyboardInterrupt):
        network.fit(IMAGES, LABELS)
    assert interruption.was_raised
    assert open_files(folder) == []


def test_an_error_of_the_disk_in_the_reading_thread_ends_the_fit(monkeypatch, folder):
    read, fail_at = RowFile.__getitem__, 12
    calls = []

    def failing(rows, positions):
        calls.append(positions)
        if len(calls) > fail_at:
            raise OSError(errno.EIO, "Input/output error")
        return read(rows, positions)

    monkeypatch.setattr(feeding, "READ_AT_ONCE", 1)
    monkeypatch.setattr(RowFile, "__getitem__", failing)
    with pytest.raises(OSError, match="Input/output error"):
        classifier(fine_tune_epochs=20).fit(IMAGES, LABELS)
    assert open_files(folder) == []


def test_damaged_images_and_networks_leave_no_file(folder, monkeypatch):
    damaged = [*IMAGES, b"no image"]
    with pytest.raises(ImageError):
        classifier().fit(damaged, [*LABELS, "noise"])
    monkeypatch.setattr(row_space, "CHUNK_BYTES", 1)
    with pytest.raises(NetworkError, match="finite for 1 of 26 images, the first at index 25"):
        classifier(backbone=with_poles()).fit(IMAGES, LABELS)
    assert open_files(folder) == []


def with_poles():
    """Return a network whose activations are not finite for the last image."""
    inputs = keras.Input((SIDE, SIDE, 3))
    total = keras.ops.sum(inputs, axis=(1, 2, 3), keepdims=True)
    x = inputs / (total - float(IMAGES[-1].sum()))
    x = layers.Conv2D(2, 3, name="conv2")(x)
    return keras.Model(inputs, x)


def test_a_full_disk_is_a_clear_error_and_the_estimator_stays_as_it_was(monkeypatch):
    fitted = classifier().fit(IMAGES, LABELS)
    before = fitted.predict_proba(IMAGES)
    usage = shutil.disk_usage(".")
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(DiskSpaceError, match="got: 10 bytes are free.*TMPDIR.*max_memory"):
            fitted.fit(IMAGES[:20], LABELS[:20])
        with pytest.raises(DiskSpaceError):
            fitted.predict(IMAGES)
    np.testing.assert_array_equal(fitted.predict_proba(IMAGES), before)


HOSTILE = [
    0, -1, 0.5, True, np.nan, np.inf, -np.inf, None, b"1GB", [1], (1,), {}, np.array([1, 2]), "",
    "1", "GB", "auto ", "AUTO", "-1GB", "+1GB", "1e9GB", "1 XB", "1ib", "1G", "0GB", "0.0001B",
    ".5GB", "1.GB", "nanGB", "infGB", "1GB 2GB", "1\x00GB", "١GB", "1ＧB", "9" * 400 + "GB",  # noqa: RUF001
]  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize("kind", [TransferClassifier, TransferRegressor])
def test_other_values_are_refused_before_any_work(kind, value):
    estimator = kind(max_memory=value)
    with pytest.raises(InvalidParameterError, match="max_memory must be 'auto', a number of bytes"):
        estimator.fit(["no such file"], [1])
    assert not hasattr(estimator, "prefix_")


@pytest.mark.parametrize(
    ("value", "nbytes"),
    [
        (1, 1), (1.5e9, 1_500_000_000), (np.int64(5), 5), (np.float32(8), 8), (2**70, 2**70),
        ("1GB", 10**9), (" 1.5 gib ", 3 * 2**29), ("500MB", 5 * 10**8), ("1b", 1), ("2TiB", 2**41),
        ("3KiB", 3072), (np.str_("1kB"), 1000), ("0.001TB", 10**9),
    ],
)  # fmt: skip
def test_sizes_are_numbers_of_bytes(value, nbytes):
    assert memory.bytes_of(value) == nbytes


@pytest.mark.parametrize("value", ["auto", "1.5GiB", 123_456, 1e9])
def test_an_archive_keeps_the_parameter(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "saved.model"
    fitted = TransferClassifier("tiny", image_size=32, l2=0.1).fit(IMAGES, LABELS)
    save_model(fitted.set_params(max_memory=value), path)
    loaded = load_model(path)
    assert loaded.max_memory == value
    assert type(loaded.max_memory) is type(value)
