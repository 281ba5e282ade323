"""Datasets of pairs of an image and a label, as torch, tf.data and Keras have them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from transferclf._npy import SUFFIX, NpyFile
from transferclf.exceptions import ImageError, ImageReadError, InvalidParameterError
from transferclf.images.checking import Item, batch_problem, checked_item, is_iterator
from transferclf.images.lazy import LazyItems, Lock
from transferclf.images.pixels import CHANNELS, PixelRange, is_wide, range_of
from transferclf.images.source import ImageSource

# Pickles of more images than this contain the dataset, not the images.
PICKLED = 1024


def load_image_dataset(
    dataset: Any, *, target: object = None, output: str | os.PathLike | None = None
) -> Bunch:
    """Take images and labels apart from a dataset of (image, label) pairs.

    Of a dataset whose pairs have numbers (`dataset[i]`, as of torch), each image is read when it is
    needed, by one thread at a time. Any other one (`tf.data`, `DataLoader`, batches of Keras) is
    read once from its beginning to its end, and its images are written to a file.

    Parameters
    ----------
    dataset : dataset of (image, label) pairs, or of batches of them
        Images are paths, PIL images or arrays; tensors of torch have their channels first. Random
        transforms are drawn anew each time an image is read, so leave them out.
    target : array-like of shape (n,), default=None
        The labels of a dataset with numbers, such as `dataset.targets`. None reads all its pairs
        once to find them.
    output : path, default=None
        File of type .npy for the images of a dataset without numbers. They must be of one shape.

    Returns
    -------
    Bunch
        With `data`, a lazy sequence of images or a `numpy.memmap`, for X; `target`, the labels, for
        y; and `DESCR`. Slices of `data` by scikit-learn are lazy too where it is a sequence.

    Raises
    ------
    ImageError
        If an element is no pair, there is none, or images have different shapes.
    InvalidParameterError
        If `output` is missing or exists, or `target` has another length.
    DiskSpaceError
        If the disk has no room for the file.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf import load_image_dataset
    >>> pairs = [(np.full((8, 8), number, np.uint8), number % 2) for number in range(4)]
    >>> bunch = load_image_dataset(pairs)
    >>> bunch.data, bunch.target
    (<ImageSource of 4 images>, array([0, 1, 0, 1]))
    """
    has_numbers = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    if is_iterator(dataset) or not (has_numbers or hasattr(dataset, "__iter__")):
        raise InvalidParameterError(
            "dataset must be a dataset of (image, label) pairs with an end, which can be read "
            f"again. Got {type(dataset).__name__} instead."
        )
    if has_numbers:
        if len(dataset) == 0:
            raise ImageError("dataset is empty: expected at least one image.")
        if not _is_batch(*_first_pair(dataset)):
            return _numbered(dataset, target)
    if target is not None:
        raise InvalidParameterError("target is for a dataset with numbers (dataset[i]) only.")
    return _written(dataset, output)


class DatasetImages(LazyItems):
    """The images of a dataset of pairs, read when they are needed, by one thread at a time."""

    def __init__(self, dataset: Any):
        self.dataset = dataset
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Item:
        # Values are checked when they are decoded, with the range that was decided.
        return self._read(position, "minmax")

    def decided_range(self, positions: np.ndarray) -> PixelRange:
        """Return the range of images that are arrays; all of floats are read for it.

        Images at fault do not count.
        """
        brightest: np.ndarray | None = None
        for position in positions:
            try:
                image = self._read(int(position), None)
            except ImageError:
                continue  # decoding will raise it
            if not isinstance(image, np.ndarray):
                if brightest is None:
                    break
            elif brightest is None:
                brightest = image
                if not is_wide(image.dtype):
                    break
            elif image.max() > brightest.max():
                brightest = image
        return None if brightest is None else range_of([brightest])

    def _read(self, position: int, pixel_range: PixelRange) -> Item:
        with self._lock:
            try:
                image, _ = _pair(self.dataset[position], position)
            except OSError as error:
                raise ImageReadError(f"the dataset cannot read it: {error}") from error
        return checked_item(image, pixel_range)

    def taken(self, positions: np.ndarray) -> LazyItems | list[Item] | np.ndarray | None:
        """Return images to be pickled; None pickles the dataset."""
        return super().taken(positions) if len(positions) <= PICKLED else None


def _numbered(dataset: Any, target: object) -> Bunch:
    if target is None:
        target = [_label(dataset, position) for position in range(len(dataset))]
    labels = _labels(target)
    if len(labels) != len(dataset):
        raise InvalidParameterError(
            f"target must have one label for each of {len(dataset)} images. Got {len(labels)}."
        )
    description = f"{len(labels)} images of a {type(dataset).__name__}"
    return Bunch(data=ImageSource(DatasetImages(dataset)), target=labels, DESCR=description)


def _first_pair(dataset: Any) -> tuple[Any, Any]:
    """Return the first pair that can be read."""
    for position in range(len(dataset)):
        with suppress(OSError):
            return _pair(dataset[position], position)
    return _pair(dataset[0], 0)  # raises the error


def _label(dataset: Any, position: int) -> Any:
    try:
        return _pair(dataset[position], position)[1]
    except OSError as error:
        raise ImageReadError(
            f"element {position}: the dataset cannot read it: {error}. With its labels as target, "
            "it is not read now, and estimators with on_error='skip' leave it out."
        ) from error


def _written(dataset: Any, output: str | os.PathLike | None) -> Bunch:
    """Write the images of a dataset without numbers to a file."""
    name = type(dataset).__name__
    if not isinstance(output, str | os.PathLike) or Path(output).suffix != SUFFIX:
        raise InvalidParameterError(
            f"{name} is read once, from its beginning to its end, and its images are written to a "
            f"file: output must be the name of a file that ends in .npy. Got {output!r} instead."
        )
    cardinality = getattr(dataset, "cardinality", None)
    if callable(cardinality) and int(cardinality()) == -1:  # tf.data.INFINITE_CARDINALITY
        raise ImageError(f"{name} has no end: leave out repeat(), or call take(n) first.")
    labels: list[np.ndarray] = []
    n_images = 0
    with NpyFile(Path(output), "output") as file:
        for images, its_labels in _batches(dataset):
            if not n_images:
                shape, dtype = images.shape[1:], images.dtype
                file.begin(shape, dtype)
            if (images.shape[1:], images.dtype) != (shape, dtype):
                raise ImageError(
                    f"image {n_images}: expected shape {shape} and type {dtype} as of the images "
                    f"before, got {images.shape[1:]} and {images.dtype}. Resize and convert all "
                    "images alike first."
                )
            file.append(images)
            labels.append(its_labels)
            n_images += len(images)
        if not n_images:
            raise ImageError("dataset is empty: expected at least one image.")
    data = np.load(output, mmap_mode="r")
    description = f"{n_images} images of a {name}, in {os.fspath(output)}"
    return Bunch(data=data, target=np.concatenate(labels), DESCR=description)


def _batches(dataset: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images (n, h, w[, c]) and labels (n, ...) of each element."""
    for number, element in enumerate(_elements(dataset)):
        image, label = _pair(element, number)
        is_batch = _is_batch(image, label)
        images = np.asarray(image) if is_batch else np.asarray(image)[None]
        if images.dtype.kind not in "biuf" or (problem := batch_problem(images.shape)):
            got = problem if images.dtype.kind in "biuf" else f"got {images.dtype}"
            raise ImageError(f"element {number}: expected images of (h, w[, 1|3|4]); {got}.")
        labels = _labels(label if is_batch else [label])
        if len(labels) != len(images):
            raise ImageError(
                f"element {number}: expected a label for each of {len(images)} images, got "
                f"{len(labels)}."
            )
        yield images, labels


def _elements(dataset: Any) -> Iterable[Any]:
    if hasattr(dataset, "as_numpy_iterator"):
        elements: Iterable[Any] = dataset.as_numpy_iterator()
        return elements
    if hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):  # batches of Keras
        return (dataset[number] for number in range(len(dataset)))
    return iter(dataset)


def _pair(element: Any, number: int) -> tuple[Any, Any]:
    """Return image and label of an element, as arrays where they are tensors."""
    if not isinstance(element, tuple | list) or len(element) != 2:
        raise ImageError(
            f"element {number}: expected a pair (image, label), got {type(element).__name__}. Map "
            "the dataset to pairs first."
        )
    image, label = element
    return _image(image), _array(label)


def _image(image: Any) -> Any:
    """Return an image, or a batch of them, with the channels last."""
    is_of_torch = type(image).__module__.partition(".")[0] in ("torch", "torchvision")
    array = _array(image)
    if is_of_torch and array.ndim in (3, 4) and array.shape[-3] in CHANNELS:
        return np.moveaxis(array, -3, -1)
    return array


def _array(value: Any) -> Any:
    """Return a tensor as an array, and anything else as it is."""
    is_tensor = hasattr(value, "numpy") and hasattr(value, "shape")
    return np.asarray(value) if is_tensor and not isinstance(value, Image.Image) else value


def _is_batch(image: Any, label: Any) -> bool:
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if len(shape) == 4:
        return True
    is_gray = len(shape) == 3 and shape[-1] not in CHANNELS
    return is_gray and np.ndim(label) > 0 and len(label) == shape[0]


def _labels(labels: object) -> np.ndarray:
    """Return labels as an array; bytes, as of tf.data, become text."""
    array = np.asarray(labels)
    if array.dtype.kind == "O" and all(isinstance(label, bytes) for label in array.ravel()):
        array = array.astype("S")
    return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
