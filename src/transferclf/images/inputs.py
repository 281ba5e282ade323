"""Any X as an ImageSource.

`check_images` checks everything that needs no decoding (kinds, shapes, values of arrays, whether
files exist) and reports all faults at once. `look_over` only notes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError
from transferclf.images import checking
from transferclf.images.checking import ImageShape
from transferclf.images.columns import Column, column_of
from transferclf.images.lazy_arrays import LazyArray, lazily_read
from transferclf.images.loading import failures
from transferclf.images.pixels import PixelRange, check_pixel_range
from transferclf.images.places import name_of
from transferclf.images.problems import Problem, raise_problems
from transferclf.images.source import ImageSource


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
        or a list, 1-D object array or pandas Series of paths, of URLs (read by fsspec), of bytes of
        image files, of dicts with "bytes" and "path", of PIL images or of arrays of different
        sizes. A column of pyarrow, or of a dataset of Hugging Face, with such bytes, paths or
        structs of both, is read a row at a time. An ImageSource is taken as it is, with
        `pixel_range` if it has none.
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
        If X is empty, has a shape, type or values that no image has, or paths do not exist, or the
        package for a URL is missing. All images at fault are named. URLs and columns are not read
        here; their faults are named when the images are looked at.
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
    if isinstance(X, ImageSource):
        return X.given_as(check_pixel_range(pixel_range), None)
    source = look_over(X, image_shape=image_shape, pixel_range=pixel_range)
    if source.faults:
        if isinstance(source.items, list):
            _note_undecodable_files(source)
        raise_problems(source.problems(), len(source))
    return ImageSource(source.items, source.pixel_range)


def look_over(
    X: Any, *, image_shape: ImageShape = None, pixel_range: PixelRange = None
) -> ImageSource:
    """Check images as :func:`check_images` does, but only note which of them are at fault.

    These are in the result too, and fail when they are loaded: `sound` says which are not. An X
    that cannot be images as a whole is an ImageError. An ImageSource that has such notes is
    returned as it is.
    """
    pixel_range = check_pixel_range(pixel_range)
    if isinstance(X, ImageSource):
        return X.given_as(pixel_range, {}) if X.faults is None else X
    shape = checking.check_image_shape(image_shape)
    column = column_of(X)
    if column is not None:
        return _source_of_column(column, pixel_range)
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
    problems: list[Problem] = []
    if checking.has_any_values(array.dtype, pixel_range):
        extremes = array.extremes if isinstance(array, LazyArray) else checking.extremes_of(array)
        problems = checking.value_problems(*extremes, array.dtype, pixel_range)
    return ImageSource(array, pixel_range, faults={each.position: each for each in problems})


def _source_of_column(column: Column, pixel_range: PixelRange) -> ImageSource:
    if len(column) == 0:
        raise ImageError("X is empty: expected at least one image.")
    source = ImageSource(column, pixel_range, faults={})
    source.note(column.faults())
    return source


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
    checked: list[Any] = []
    faults: dict[int, Problem] = {}
    for position, item in enumerate(items):
        try:
            checked.append(checking.checked_item(item, pixel_range))
        except ImageError as error:
            checked.append(item)
            faults[position] = Problem(position, error, name_of(item))
    return ImageSource(checked, pixel_range, faults=faults)


def _note_undecodable_files(source: ImageSource) -> None:
    """Add the faults of files that exist and cannot be decoded to those that are known."""
    others = np.ndarray | Image.Image
    files = [index for index in source.sound() if not isinstance(source.item(index), others)]
    # "minmax" accepts all values.
    any_values = source.read_with("minmax")
    any_values.note(failures(any_values, files))
