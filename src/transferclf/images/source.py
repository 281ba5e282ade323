"""Images of any kind as one lazy sequence that can be sliced.

`check_images` checks everything that needs no decoding (kinds, shapes, values of arrays, whether
files exist) and reports all faults at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images import checking
from transferclf.images.checking import ImageShape, Item
from transferclf.images.decoding import contents_behind, decoded, header, to_be_pickled
from transferclf.images.deep import (
    Picture,
    array_numbers,
    picture_digest,
    picture_of,
    rgb_array,
    sides,
)
from transferclf.images.files import Contents
from transferclf.images.formats import Header, Look
from transferclf.images.geometry import (
    PLAIN,
    ResizeMode,
    Sampling,
    average_blocks,
    reduction_factor,
    resize_image,
)
from transferclf.images.lazy import LazyItems
from transferclf.images.lazy_arrays import LazyArray, lazily_read
from transferclf.images.loading import failures
from transferclf.images.pixels import (
    DtypeRange,
    PixelRange,
    check_pixel_range,
    is_on_255_scale,
    range_of,
)
from transferclf.images.problems import Problem, raise_problems

# How often a large file is read if it changes meanwhile.
TRIES = 3


class ImageSource:
    """A lazy sequence of images, made by :func:`check_images`. Nothing is copied or decoded.

    Estimators take it for X. Slices, masks and indices give lazy sequences again, so that folds of
    scikit-learn are not read before they are needed.

    `items` are an array (n, h, w, c), a sequence of paths, PIL images and arrays, or `LazyItems`.
    `positions` are the indices of these images in `items`, and `places` are those in the caller's
    X.
    """

    def __init__(
        self,
        items: Sequence[Item] | np.ndarray | LazyItems,
        pixel_range: PixelRange = None,
        positions: np.ndarray | None = None,
        places: np.ndarray | None = None,
    ):
        self.items = items
        self.pixel_range = pixel_range
        self.positions = np.arange(len(items)) if positions is None else positions
        self.places = self.positions if places is None else places

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def shape(self) -> tuple[int]:
        """The number of images, as of an array; scikit-learn then slices by arrays of indices."""
        return (len(self),)

    def __getitem__(self, key: Any) -> ImageSource:
        if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis:
            key = key[0]  # scikit-learn's X[indices, ...]
        if not isinstance(key, slice):
            key = np.asarray(key)
            key = key if key.size else key.astype(int)  # NumPy makes floats of []
        chosen = self.positions[key]
        if chosen.ndim != 1:
            raise TypeError(f"an ImageSource is sliced by a slice, mask or indices. Got {key!r}.")
        return ImageSource(self.items, self.pixel_range, chosen, self.places[key])

    def __reduce__(self) -> tuple[type[ImageSource], tuple[object, ...]]:
        # A slice is pickled with its own images only.
        if isinstance(self.items, LazyItems):
            taken = self.items.taken(self.positions)
            if taken is None:
                return ImageSource, (self.items, self.pixel_range, self.positions, self.places)
            chosen: Any = taken
        elif isinstance(self.items, np.ndarray):
            chosen = self.items[self.positions]
        else:
            items = map(self.item, range(len(self)))
            chosen = [to_be_pickled(it) if isinstance(it, Image.Image) else it for it in items]
        return ImageSource, (chosen, self.pixel_range, None, self.places)

    def __repr__(self) -> str:
        return f"<ImageSource of {len(self)} images>"

    def item(self, index: int) -> Item:
        """Return the image of the caller: a path, a PIL image or an array (h, w[, c])."""
        return cast(Item, self.items[self.positions[index]])

    def problem(self, index: int, error: ImageError) -> Problem:
        """Return the fault of one image, with its position in the caller's X."""
        # Reading an image again to look for its path may fail again.
        path = None if self.is_lazy else _path(self.item(index))
        return Problem(int(self.places[index]), error, path)

    @property
    def is_lazy(self) -> bool:
        """Whether the images themselves are read only when they are needed."""
        return isinstance(self.items, LazyItems)

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Shape (h, w[, c]) of all images, where it is known without reading."""
        return self.items.image_shape if isinstance(self.items, LazyItems) else None

    def in_reading_order(self, indices: np.ndarray) -> np.ndarray:
        """Return indices in the order in which images are read fastest."""
        if not self.is_lazy:
            return indices
        return indices[np.argsort(self.positions[indices], kind="stable")]

    def load(
        self,
        index: int,
        size: tuple[int, int] | None = None,
        resize: ResizeMode = "crop",
        sampling: Sampling = PLAIN,
    ) -> np.ndarray:
        """Decode one image to RGB (h, w, 3) on the scale 0 to 255, resized when `size` is given."""
        item = self.item(index)
        if size is None:
            return rgb_array(self._picture(item, None))
        reduce_to = max(size) if sampling.may_reduce else None
        return resize_image(self._picture(item, reduce_to), size, resize, sampling)

    def load_looked(
        self,
        index: int,
        size: tuple[int, int],
        resize: ResizeMode,
        known: Look,
        sampling: Sampling = PLAIN,
    ) -> tuple[np.ndarray, Look]:
        """Load one image, and return the look at exactly the content that was decoded.

        `known` is an earlier look. It is returned where nothing could have been replaced.
        """
        reduce_to = max(size) if sampling.may_reduce else None
        for _ in range(TRIES):
            item = self.item(index)
            with contents_behind(item) as contents:
                if contents is None:
                    # An item that was read again may be another image now.
                    seen = self._look_at(item) if self.is_lazy else known
                    picture = self._picture(item, reduce_to)
                    return resize_image(picture, size, resize, sampling), seen
                digest = self._digest(contents)
                try:
                    picture, found = decoded(contents, self.pixel_range, reduce_to)
                except ImageReadError:
                    if not contents.has_changed:
                        raise
                    continue
                pixels = resize_image(picture, size, resize, sampling)
                return pixels, Look(digest, *cast(Header, found))
        raise ImageReadError("expected a file that stays as it is, got one that keeps changing")

    def look(self, index: int) -> Look:
        """Return the digest and the header of one image."""
        return self._look_at(self.item(index))

    def _look_at(self, item: Item) -> Look:
        with contents_behind(item) as contents:
            if contents is not None:
                seen = header(contents)
                return Look(self._digest(contents), *seen)
        picture = self._picture(item, None)
        return Look(picture_digest(picture), sides(picture))

    def _picture(self, item: Item, reduce_to: int | None) -> Picture:
        if isinstance(item, np.ndarray):
            is_rgb = item.shape[2:] == (3,) and is_on_255_scale(item.dtype, self.pixel_range)
            picture = item if is_rgb else picture_of(array_numbers(item), self.pixel_range)
            return average_blocks(picture, reduction_factor(sides(item), reduce_to))
        with contents_behind(item) as contents:
            file = cast(Image.Image, item) if contents is None else contents
            return decoded(file, self.pixel_range, reduce_to)[0]

    def _digest(self, contents: Contents) -> bytes:
        """SHA-256 of a file's bytes and of the pixel range. A DtypeRange does not affect files."""
        read_with = None if isinstance(self.pixel_range, DtypeRange) else self.pixel_range
        return contents.digest(f"file {read_with!r} ".encode())

    def read_with(self, pixel_range: PixelRange) -> ImageSource:
        """Return the same images, read with another pixel range; see :func:`check_images`."""
        return ImageSource(self.items, pixel_range, self.positions, self.places)

    def decided_range(self) -> PixelRange:
        """Return the pixel range to keep after fitting: the given one, or that of the arrays.

        None if all images are files or PIL images, whose modes determine it.
        """
        if self.pixel_range is not None:
            return self.pixel_range
        if isinstance(self.items, LazyItems):
            return self.items.decided_range(self.positions)
        arrays = self.colours()
        return range_of(arrays) if arrays else None

    def colours(self) -> list[np.ndarray]:
        """Return views of all images that are arrays, without alpha; of `LazyItems` a sample."""
        if isinstance(self.items, LazyItems):
            items: Iterable[Item] = self.items.sample(self.positions)
        else:
            items = (self.item(index) for index in range(len(self)))
        return [checking.colours_of(item) for item in items if isinstance(item, np.ndarray)]


def check_images(
    X: Any, *, image_shape: ImageShape = None, pixel_range: PixelRange = None
) -> ImageSource:
    """Check images of any kind and return them as one lazy sequence. Nothing is decoded or copied.

    Arrays that are not in memory (NumPy's memmap; arrays of h5py, Zarr or Dask) are read a block at
    a time when they are needed. They are read once here if values have to be checked.

    Parameters
    ----------
    X : array-like or sequence of images
        An array (n, h, w) or (n, h, w, 1|3|4) of any real type; rows (n, h*w*c) with `image_shape`;
        or a list, 1-D object array or pandas Series of paths, of PIL images or of arrays of
        different sizes. An ImageSource is returned as it is, with `pixel_range` if it has none.
    image_shape : (h, w), (h, w, c), "infer" or None, default=None
        Shape of the image in each row of a 2-D X. "infer" takes a square gray or RGB image if the
        length of the rows allows it, else a strip of gray pixels. None refuses rows.
    pixel_range : None, "minmax" or (low, high), default=None
        Numbers of black and white. None takes 0 to 255 for 8-bit, 0 to 65535 for 16-bit integers, 0
        to 1 or 0 to 255 for floats. "minmax" stretches each image on its own.

    Returns
    -------
    ImageSource
        The images; each is decoded when it is loaded.

    Raises
    ------
    ImageError
        If X is empty, has a shape, type or values that no image has, or paths do not exist. All
        images at fault are named.
    InvalidParameterError
        If `image_shape` or `pixel_range` is not as above.

    Examples
    --------
    >>> import numpy as np
    >>> from transferclf.images import check_images
    >>> source = check_images(np.zeros((4, 8, 8), np.uint8))
    >>> len(source), source[1:3].load(0).shape
    (4, (8, 8, 3))
    """
    pixel_range = check_pixel_range(pixel_range)
    if isinstance(X, ImageSource):
        return X if X.pixel_range is not None or pixel_range is None else X.read_with(pixel_range)
    shape = checking.check_image_shape(image_shape)
    checking.check_kind(X)
    lazy = lazily_read(X)
    if lazy is not None:
        return _source_of_array(lazy, shape, pixel_range)
    array = X if isinstance(X, list | tuple) else np.asarray(X)
    if isinstance(array, list | tuple) and checking.is_rows(array):
        array = checking.array_of_rows(array)
    if isinstance(array, np.ndarray) and array.dtype == object:
        array = checking.numbers_of_objects(array)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "OSTU":
        return _source_of_array(array, shape, pixel_range)
    return _source_of_sequence(array, pixel_range)


def _source_of_array(
    array: np.ndarray | LazyArray, image_shape: ImageShape, pixel_range: PixelRange
) -> ImageSource:
    if array.dtype.kind not in "biuf":
        reason = "Complex data not supported: " if array.dtype.kind == "c" else ""
        raise ImageError(
            f"{reason}X must hold real numbers. Got an array of {array.dtype} instead."
        )
    if array.shape[:1] == (0,):
        raise ImageError(f"X is empty: expected at least one image, got shape {array.shape}.")
    if array.ndim == 2:
        array = checking.images_of_rows(array, image_shape)
    elif problem := checking.batch_problem(array.shape):
        raise ImageError(f"X must be {checking.KINDS}; {problem}.")
    if checking.has_any_values(array.dtype, pixel_range):
        lows, highs = (
            array.extremes if isinstance(array, LazyArray) else checking.extremes_of(array)
        )
        checking.check_extremes(lows, highs, array.dtype, pixel_range)
    return ImageSource(array, pixel_range)


def _source_of_sequence(
    items: Sequence[object] | np.ndarray, pixel_range: PixelRange
) -> ImageSource:
    if isinstance(items, np.ndarray):
        # A ColumnTransformer hands on a table with one column of paths.
        items = items[:, 0] if items.shape[1:] == (1,) else items
        if items.ndim != 1 and (items.ndim == 0 or len(items) > 0):
            got = f"{items.dtype} of shape {items.shape}"
            raise ImageError(f"X must be {checking.KINDS}. Got {got} instead.")
    if len(items) == 0:
        raise ImageError("X is empty: expected at least one image.")
    checked: list[Item] = []
    failed: dict[int, ImageError] = {}
    for position, item in enumerate(items):
        try:
            checked.append(checking.checked_item(item, pixel_range))
        except ImageError as error:
            failed[position] = error
    if failed:
        # Files that cannot be decoded are named too. "minmax" accepts all values.
        positions = [position for position in range(len(items)) if position not in failed]
        files = [number for number, item in enumerate(checked) if isinstance(item, str)]
        for number, fault in failures(ImageSource(checked, "minmax"), files).items():
            failed[positions[number]] = fault
        problems = [Problem(i, failed[i], _path(items[i])) for i in sorted(failed)]
        raise_problems(problems, len(items))
    return ImageSource(checked, pixel_range)


def _path(item: object) -> str | None:
    return str(item) if isinstance(item, str | os.PathLike) else None
