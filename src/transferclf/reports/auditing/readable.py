"""The images of X that can be read, their sizes and formats, and the part that a network sees."""

from __future__ import annotations

import functools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image

from transferclf.estimators.reading import images_of
from transferclf.exceptions import ImageError
from transferclf.images.columns import Column, column_of
from transferclf.images.formats import open_image
from transferclf.images.geometry import largest_box
from transferclf.images.inputs import check_images
from transferclf.images.loading import failures
from transferclf.images.places import name_of
from transferclf.images.problems import Problem
from transferclf.images.source import ImageSource
from transferclf.images.threads import thread_count
from transferclf.reports.tables import Row

if TYPE_CHECKING:
    from transferclf.estimators.extractor import CNNFeatureExtractor

QUARTER_TURNS = range(5, 9)  # EXIF orientations with which width and height change places


class Readable(NamedTuple):
    """The images of X that can be read, their features and positions, and problems by position."""

    source: ImageSource | None
    features: np.ndarray
    positions: np.ndarray
    problems: dict[int, str]


def readable_images(
    X: Any, n_samples: int, extractor: CNNFeatureExtractor, on_error: str = "skip"
) -> Readable:
    """Fit the extractor to all images that can be read.

    If X as a whole cannot be images, that is an ImageError.
    """
    given, positions, problems = X, np.arange(n_samples), dict[int, str]()
    while True:
        try:
            features = extractor.fit_transform(given)
            return Readable(images_of(extractor, given), features, positions, problems)
        except ImageError as error:
            if on_error == "raise" or not error.indices:
                raise  # or no single image is at fault
            given = given if isinstance(given, list | tuple) else np.asarray(given)
            faults = _problems_in(error, given)
        sound = np.setdiff1d(np.arange(len(positions)), list(faults))
        # A fit ends at the first damaged file that it decodes. All others are found at once here.
        damaged = _undecodable(_at(given, sound), extractor)
        faults |= {int(sound[index]): text for index, text in damaged.items()}
        problems |= {int(positions[index]): text for index, text in faults.items()}
        sound = np.setdiff1d(np.arange(len(positions)), list(faults))
        given, positions = _at(given, sound), positions[sound]
        if len(positions) == 0:
            return Readable(None, np.empty((0, 1), np.float32), positions, problems)


def cells_of(X: Any) -> Any:
    """Return a column of encoded images as the list of its cells; other X as they are."""
    column, positions = column_of(X), None
    if isinstance(X, ImageSource) and isinstance(X.items, Column):
        column, positions = X.items, X.positions
    if column is None:
        return X
    chosen = range(len(X)) if positions is None else positions.tolist()
    return [column.cell(index) for index in chosen]


def _at(items: Any, positions: np.ndarray) -> Any:
    return items[positions] if isinstance(items, np.ndarray) else [items[i] for i in positions]


def _problems_in(error: ImageError, items: Any) -> dict[int, str]:
    """Return the problems of an error by position, without the places that they begin with."""
    found = {}
    for index, text in zip(error.indices, error.problems, strict=True):
        place = Problem(index, error, file_of(items[index]) or None).place
        found[index] = text.removeprefix(f"image {place}: ")
    return found


def _undecodable(X: Any, extractor: CNNFeatureExtractor) -> dict[int, str]:
    """Return the problems of images that cannot be decoded; none if X fails its first checks."""
    try:
        source = check_images(
            X, image_shape=extractor.image_shape, pixel_range=extractor.pixel_range
        )
    except ImageError:
        return {}  # the next fit raises it again
    return {index: str(error) for index, error in failures(source, range(len(source))).items()}


def file_of(item: object) -> str:
    """Return the path or URL of an image, or an empty text if it has none."""
    if isinstance(item, np.ndarray) and item.shape == (1,):
        item = item[0]  # of a table with one column of paths
    return name_of(item) or ""


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
        return list(pool.map(functools.partial(_facts, source), range(len(source))))


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


def _facts(source: ImageSource, index: int) -> Facts:
    item = source.item(index)
    if isinstance(item, np.ndarray):
        channels = item.shape[2] if item.ndim == 3 else 1
        return Facts(item.shape[1], item.shape[0], f"{channels} x {item.dtype}", "array")
    if isinstance(item, Image.Image):
        return _facts_of_image(item)
    with source.contents(item, held=0) as contents:
        assert contents is not None
        with open_image(contents.file(), contents.size) as image:
            return _facts_of_image(image)


def _facts_of_image(image: Image.Image) -> Facts:
    is_turned = image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS
    return Facts(image.width, image.height, image.mode, image.format or "PIL image", is_turned)
