"""Arrays that are read a block at a time: NumPy's memmap, and those of h5py, Zarr or Dask."""

from __future__ import annotations

import math
import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from transferclf.exceptions import ImageError
from transferclf.images import checking
from transferclf.images.lazy import LazyItems, Lock
from transferclf.images.pixels import PixelRange, dtype_limits, is_wide, limits_for_maximum
from transferclf.images.pixels import warn_if_dark as warn_if_dark_on_scale

# The size of a block. A larger chunk of the array is a block too, because reading a part of a
# chunk mostly takes as long as all of it.
BLOCK_BYTES = 2**24

# Threads read images in order, so that two blocks are in use at a time.
BLOCKS_HELD = 2

# Systems map more pages than the one that was read, in aligned groups of at most this size. All of
# them are given back together.
NEIGHBOURS = 2**21

# Up to this size, pickles contain the images. Larger ones name the file, or contain the array.
PICKLED_BYTES = 2**26


def lazily_read(X: Any) -> LazyArray | None:
    """Return an array that is not in memory as one that is read in blocks; None for other X.

    These are arrays over a file that is mapped into memory, and objects with a shape, a dtype of
    NumPy and slicing that no buffer in memory stands behind. ImageError is raised if the shape is
    not known.
    """
    if isinstance(X, np.ndarray):
        mapped = _mapped(X)
        is_numbers = X.dtype.kind in "biuf" and X.ndim > 1
        return MappedArray(X, mapped) if mapped is not None and is_numbers else None
    shape, dtype = getattr(X, "shape", None), getattr(X, "dtype", None)
    dtype = getattr(dtype, "numpy_dtype", dtype)  # tensorstore
    if not isinstance(shape, tuple) or not isinstance(dtype, np.dtype):
        return None
    is_array = hasattr(X, "__array__") and hasattr(X, "__getitem__")
    # Arrays in memory have a buffer. Tables and sparse matrices have methods of their own.
    others = ("__dlpack__", "__array_interface__", "iloc", "toarray")
    if not is_array or any(hasattr(X, name) for name in others):
        return None
    if any(side is None or math.isnan(side) for side in shape):
        raise ImageError(
            f"X has the shape {shape}: expected a known number of images. Call "
            "X.compute_chunk_sizes() first, which computes the sizes of the chunks of a Dask array"
        )
    return LazyArray(X, dtype) if dtype.kind in "biufc" and len(shape) > 0 else None


class LazyArray(LazyItems):
    """An array of images (n, h, w[, c]), or of rows, that is read a block at a time.

    Blocks consist of whole chunks where the array has chunks. The last two blocks are kept, so
    that each is read once while images are read in order.

    Parameters
    ----------
    array : array-like
        Anything with `shape` and slices that NumPy can turn into arrays.
    dtype : dtype
        Type of the values.
    image_shape : tuple of int, default=None
        Shape of the image in each row; None is that of the array.
    """

    image_shape: tuple[int, ...]

    def __init__(self, array: Any, dtype: np.dtype, image_shape: tuple[int, ...] | None = None):
        self.array, self.dtype = array, np.dtype(dtype)
        self.image_shape = tuple(array.shape[1:]) if image_shape is None else image_shape
        self._lock = Lock()
        self._blocks: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return int(self.array.shape[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """Number and shape of the images."""
        return (len(self), *self.image_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def image_bytes(self) -> int:
        """Size of an image."""
        return math.prod(self.image_shape) * self.dtype.itemsize

    def reshape(self, length: int, *image_shape: int) -> LazyArray:
        """Return rows as images of a shape; `length` is their number as always."""
        return type(self)(self.array, self.dtype, image_shape)

    def __getitem__(self, position: int) -> np.ndarray:
        block = int(np.searchsorted(self._starts, position, side="right")) - 1
        return self._block(block)[position - self._starts[block]]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.array, self.dtype, self.image_shape)

    def taken(self, positions: np.ndarray) -> np.ndarray | None:
        """Return images in memory to be pickled; None where they are many."""
        if len(positions) * self.image_bytes > PICKLED_BYTES:
            return None
        images = np.empty((len(positions), *self.image_shape), self.dtype)
        for place in np.argsort(positions, kind="stable"):
            images[place] = self[int(positions[place])]
        return images

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield all images block by block, each with the position of its first image."""
        for number, start in enumerate(self._starts):
            yield int(start), self._read(number)

    @cached_property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of each image without alpha, shape (n,) each."""
        lows, highs = np.empty(len(self), self.dtype), np.empty(len(self), self.dtype)
        for start, block in self.blocks():
            part = slice(start, start + len(block))
            lows[part], highs[part] = checking.extremes_of(block)
        return lows, highs

    def decided_range(self, positions: np.ndarray) -> PixelRange:
        """Return the range that type and values decide; warn if the images are nearly black."""
        decided: PixelRange = dtype_limits(self.dtype)
        if is_wide(self.dtype):
            decided = limits_for_maximum(float(self.extremes[1][positions].max()), self.dtype)
        colours = [checking.colours_of(np.asarray(image)) for image in self.sample(positions)]
        warn_if_dark_on_scale(colours, decided)
        return decided

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first position of each block."""
        n_images, most = len(self), max(BLOCK_BYTES // max(self.image_bytes, 1), 1)
        lengths = self._chunk_lengths()
        if isinstance(lengths, int):
            return np.arange(0, n_images, max(most // lengths, 1) * lengths)
        starts, end = [0], 0
        for length in lengths:
            if end > starts[-1] and end + length - starts[-1] > most:
                starts.append(end)
            end += length
        return np.array(starts)

    def _chunk_lengths(self) -> int | tuple[int, ...]:
        """Return the number of images of all chunks, or of each."""
        chunks = getattr(self.array, "chunks", None) or (1,)
        lengths = chunks[0]
        return tuple(map(int, lengths)) if isinstance(lengths, tuple) else max(int(lengths), 1)

    def _block(self, number: int) -> np.ndarray:
        with self._lock:
            if number not in self._blocks:
                while len(self._blocks) >= BLOCKS_HELD:
                    self._blocks.popitem(last=False)
                self._blocks[number] = self._read(number)
            self._blocks.move_to_end(number)
            return self._blocks[number]

    def _read(self, number: int) -> np.ndarray:
        start = int(self._starts[number])
        stop = int(self._starts[number + 1]) if number + 1 < len(self._starts) else len(self)
        block = np.asarray(self.array[start:stop])
        expected = (stop - start, *self.array.shape[1:])
        if block.shape != expected:
            raise ImageError(f"X[{start}:{stop}] must have shape {expected}. Got {block.shape}.")
        return block.reshape(stop - start, *self.image_shape)


class MappedArray(LazyArray):
    """An array over a file that is mapped into memory; see :class:`LazyArray`.

    Images are copied. Pages that were read are given back to the system, because they count as
    memory of the process.
    """

    def __init__(
        self, array: np.ndarray, file: np.memmap, image_shape: tuple[int, ...] | None = None
    ):
        super().__init__(array.view(np.ndarray), array.dtype, image_shape)
        self._file = file
        self._mapping = _mapping(file)

    def reshape(self, length: int, *image_shape: int) -> MappedArray:
        """Return rows as images of a shape."""
        return MappedArray(self.array, self._file, image_shape)

    def __reduce__(self) -> tuple[object, ...]:
        array, file = self.array, self._file
        if file.filename is None:  # a temporary file has no name
            return _from_memory, (np.array(array), self.image_shape)
        offset = _address(array) - _address(file) + file.offset
        place = (os.fspath(file.filename), offset, array.shape, array.strides)
        return _opened, (*place, array.dtype, self.image_shape)

    def __getitem__(self, position: int) -> np.ndarray:
        return self._copied(self.array[position]).reshape(self.image_shape)

    def _read(self, number: int) -> np.ndarray:
        start = int(self._starts[number])
        stop = int(self._starts[number + 1]) if number + 1 < len(self._starts) else len(self)
        return self._copied(self.array[start:stop]).reshape(stop - start, *self.image_shape)

    def _copied(self, part: np.ndarray) -> np.ndarray:
        copy = np.array(part)
        # Pages of a private mapping may have been changed: they are not given back.
        if hasattr(mmap, "MADV_DONTNEED") and self._file.mode != "c" and part.size:
            low, high = _bounds(part)
            start = _address(self._file) - self._file.offset % mmap.ALLOCATIONGRANULARITY
            first = (low - start) // NEIGHBOURS * NEIGHBOURS
            length = -(-(high - start - first) // NEIGHBOURS) * NEIGHBOURS
            self._mapping.madvise(mmap.MADV_DONTNEED, first, length)
        return copy


def _mapped(array: np.ndarray) -> np.memmap | None:
    """Return the mapped file behind an array, which may be a view of it."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap) and isinstance(base.base, mmap.mmap):
            return base
        base = base.base
    return None


def _mapping(file: np.memmap) -> mmap.mmap:
    assert isinstance(file.base, mmap.mmap)
    return file.base


def _opened(
    path: str,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: np.dtype,
    image_shape: tuple[int, ...],
) -> MappedArray:
    """Open the file of a pickled array again."""
    file = np.memmap(path, np.uint8, "r")
    array: np.ndarray = np.ndarray(shape, dtype, file, offset, strides)
    return MappedArray(array, file, image_shape)


def _from_memory(array: np.ndarray, image_shape: tuple[int, ...]) -> LazyArray:
    return LazyArray(array, array.dtype, image_shape)


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _bounds(array: np.ndarray) -> tuple[int, int]:
    """Return the addresses of the first byte of an array and of the one after its last."""
    steps = [(length - 1) * step for length, step in zip(array.shape, array.strides, strict=True)]
    low = _address(array) + sum(step for step in steps if step < 0)
    return low, low + sum(map(abs, steps)) + array.itemsize
