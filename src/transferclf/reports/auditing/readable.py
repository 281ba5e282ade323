"""The images of X that can be read, their sizes and formats, and the part that a network sees."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from transferclf.exceptions import ImageError
from transferclf.images.checking import batch_problem, checked_item
from transferclf.images.geometry import largest_box
from transferclf.images.kinds import is_iterator
from transferclf.images.pixels import PixelRange
from transferclf.images.source import ImageSource, check_images
from transferclf.images.threads import thread_count
from transferclf.reports.tables import Row

if TYPE_CHECKING:
    from transferclf.estimators.extractor import CNNFeatureExtractor

# EXIF orientations with which width and height change places.
QUARTER_TURNS = range(5, 9)


def features_of_readable(
    X: object, extractor: CNNFeatureExtractor
) -> tuple[np.ndarray, ImageSource | None, dict[int, str]]:
    """Fit the extractor; return features of readable images, these images, and problems.

    Problems are by position in X. The images are None if none is readable. If X as a whole cannot
    be images, that is an ImageError.
    """
    source, problems = _checked(X, extractor.image_shape, extractor.pixel_range)
    if source is not None:
        try:
            return extractor.fit_transform(_as_given(X, source, problems)), source, problems
        except ImageError:
            failed = _undecodable(source)
            if not failed:
                raise  # no single image is at fault
            problems |= {int(source.positions[index]): text for index, text in failed.items()}
            sound = np.setdiff1d(np.arange(len(source)), list(failed))
            positions, items = source.positions[sound], source.items
            source = ImageSource(items, source.pixel_range, positions) if len(sound) else None
    if source is None:
        return np.empty((0, 1), np.float32), None, problems
    return extractor.fit_transform(_as_given(X, source, problems)), source, problems


class Facts(NamedTuple):
    """Size, mode and format of an image as in its file, before decoding.

    `is_turned` says that width and height change places when it is shown upright.
    """

    width: int
    height: int
    mode: str
    format: str
    is_turned: bool = False

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width of the image as it is shown."""
        return (self.width, self.height) if self.is_turned else (self.height, self.width)


def facts_of(source: ImageSource) -> list[Facts]:
    """Return sizes, modes and formats of images; of files only the headers are read."""
    with ThreadPoolExecutor(thread_count()) as pool:
        return list(pool.map(_facts, (source.item(index) for index in range(len(source)))))


def kinds_of(facts: list[Facts]) -> list[Row]:
    """Return sizes, modes and formats of images as they came, the most frequent first."""
    names = ("width", "height", "mode", "format")
    kinds = Counter(one[: len(names)] for one in facts)
    return [dict(zip(names, kind, strict=True)) | {"count": n} for kind, n in kinds.most_common()]


def seen_shares(facts: list[Facts], size: tuple[int, int], resize: str) -> np.ndarray:
    """Return the share of each image's area that a network with this input size sees, (n,)."""
    if resize != "crop":
        return np.ones(len(facts))
    boxes = np.array([largest_box(one.upright, size) for one in facts])
    left, top, right, bottom = boxes.T
    return (right - left) * (bottom - top) / [one.width * one.height for one in facts]


def _checked(
    X: object, image_shape: Any, pixel_range: PixelRange
) -> tuple[ImageSource | None, dict[int, str]]:
    """Return the images that pass all checks without decoding, and problems of the others."""
    try:
        return check_images(X, image_shape=image_shape, pixel_range=pixel_range), {}
    except ImageError:
        items = _single(X)
        if items is None:
            raise
    checked: list[Any] = [None] * len(items)
    problems: dict[int, str] = {}
    for position, item in enumerate(items):
        try:
            checked[position] = checked_item(item, pixel_range)
        except ImageError as error:
            problems[position] = str(error)
    if not problems:  # each is right, and only all of them together are not
        check_images(X, image_shape=image_shape, pixel_range=pixel_range)
    sound = np.setdiff1d(np.arange(len(items)), list(problems))
    return (ImageSource(checked, pixel_range, sound) if len(sound) else None), problems


def _single(X: Any) -> list[Any] | None:
    """Return the items of X if each is an image of its own, else None."""
    is_one = isinstance(X, str | os.PathLike | bytes | Image.Image | dict)
    if is_one or not hasattr(X, "__len__") or is_iterator(X):
        return None
    array = X if isinstance(X, list | tuple) else np.asarray(X)
    if isinstance(array, np.ndarray):
        if array.ndim in (0, 2) or len(array) == 0:
            return None
        if array.ndim > 2 and batch_problem(array.shape) is not None:
            return None
    return list(array) or None


def _as_given(X: object, source: ImageSource, problems: dict[int, str]) -> object:
    """Return X itself if nothing is wrong with it, else a list of the sound images."""
    return [source.item(index) for index in range(len(source))] if problems else X


def _undecodable(source: ImageSource) -> dict[int, str]:
    """Return the problems of images that cannot be decoded, by their index."""

    def problem(index: int) -> str | None:
        try:
            source.load(index)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(thread_count()) as pool:
        problems = list(pool.map(problem, range(len(source))))
    return {index: text for index, text in enumerate(problems) if text is not None}


def _facts(item: Any) -> Facts:
    if isinstance(item, np.ndarray):
        channels = item.shape[2] if item.ndim == 3 else 1
        return Facts(item.shape[1], item.shape[0], f"{channels} x {item.dtype}", "array")
    if not isinstance(item, Image.Image):
        with Image.open(item) as image:
            return _facts(image)
    is_turned = item.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
    return Facts(item.width, item.height, item.mode, item.format or "PIL image", is_turned)
