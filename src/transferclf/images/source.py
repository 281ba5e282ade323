"""Images of any kind as one lazy sequence that can be sliced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, cast

import numpy as np
from PIL import Image

from transferclf.exceptions import ImageError, ImageReadError
from transferclf.images import checking
from transferclf.images.checking import Item
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
from transferclf.images.pixels import DtypeRange, PixelRange, is_on_255_scale, range_of
from transferclf.images.places import name_of, place_of
from transferclf.images.places.reading import Reader, UntriedError
from transferclf.images.problems import Problem

# How often a large file is read if it changes meanwhile.
TRIES = 3

# Images that show whether to read with many threads.
FAR_SAMPLE = 32


class ImageSource:
    """A lazy sequence of images, made by :func:`check_images`. Nothing is copied or decoded.

    Estimators take it for X. Slices, masks and indices give lazy sequences again, so that folds of
    scikit-learn are not read before they are needed.

    `items` are an array (n, h, w, c), a sequence of paths, PIL images and arrays, or `LazyItems`.
    `positions` are the indices of these images in `items`, and `places` are those in the caller's
    X. `faults` are all that was found to be wrong with images of this X, by their places; slices
    share them. They are None, and none are noted, where nothing is done without the images at
    fault.
    """

    def __init__(
        self,
        items: Sequence[Item] | np.ndarray | LazyItems,
        pixel_range: PixelRange = None,
        positions: np.ndarray | None = None,
        places: np.ndarray | None = None,
        faults: dict[int, Problem] | None = None,
        reader: Reader | None = None,
    ):
        self.items = items
        self.pixel_range = pixel_range
        self.positions = np.arange(len(items)) if positions is None else positions
        self.places = self.positions if places is None else places
        self.faults = faults
        self._reader = Reader() if reader is None else reader

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
        return self._taken(chosen, self.places[key], self.pixel_range)

    def __reduce__(self) -> tuple[type[ImageSource], tuple[object, ...]]:
        # A slice is pickled with its own images only.
        faults = None if self.faults is None else {it.position: it for it in self.problems()}
        if isinstance(self.items, LazyItems):
            taken = self.items.taken(self.positions)
            if taken is None:
                rest = (self.pixel_range, self.positions, self.places, faults)
                return ImageSource, (self.items, *rest)
            chosen: Any = taken
        elif isinstance(self.items, np.ndarray):
            chosen = self.items[self.positions]
        else:
            items = map(self.item, range(len(self)))
            chosen = [to_be_pickled(it) if isinstance(it, Image.Image) else it for it in items]
        return ImageSource, (chosen, self.pixel_range, None, self.places, faults)

    def __repr__(self) -> str:
        return f"<ImageSource of {len(self)} images>"

    def item(self, index: int) -> Item:
        """Return the image of the caller: a path, bytes, a PIL image or an array (h, w[, c])."""
        return cast(Item, self.items[self.positions[index]])

    def name(self, index: int) -> str | None:
        """Return the path or URL of an image, or None if it has none."""
        if isinstance(self.items, LazyItems):
            return self.items.name(int(self.positions[index]))
        return name_of(self.item(index))

    def contents(
        self, item: Item, held: int | None = None
    ) -> AbstractContextManager[Contents | None]:
        """Return the bytes of an encoded image, else None; see :func:`.contents_behind`.

        Those of remote files are kept as long as this source, up to a limit. A kind of place may
        leave files of more than `held` bytes on the disk.
        """
        place = None if isinstance(item, np.ndarray) else place_of(item)
        return contents_behind(item) if place is None else self._reader.contents(place, held)

    @cached_property
    def is_far(self) -> bool:
        """Whether some of a sample of the images are read from far away."""
        if isinstance(self.items, LazyItems):
            return self.items.is_far
        sound = self.sound()
        step = max(len(sound) // FAR_SAMPLE, 1)
        places = (place_of(self.item(index)) for index in sound[::step])
        return any(place is not None and place.is_far for place in places)

    def problem(self, index: int, error: ImageError) -> Problem:
        """Return the fault of one image, with its position in the caller's X."""
        return Problem(int(self.places[index]), error, self.name(index))

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

    def note(self, failed: Mapping[int, ImageError]) -> list[Problem]:
        """Return the errors of images, given by their indices, in order.

        `faults` note them, but not those of images that nobody has tried to read.
        """
        problems = [self.problem(index, failed[index]) for index in sorted(failed)]
        if self.faults is not None:
            tried = [it for it in problems if not isinstance(it.error, UntriedError)]
            self.faults.update({problem.position: problem for problem in tried})
        return problems

    def sound(self) -> np.ndarray:
        """Return the indices of the images without a known fault."""
        return np.flatnonzero(~np.isin(self.places, list(self.faults or ())))

    def problems(self) -> list[Problem]:
        """Return the known faults of these images, in their order."""
        known = self.faults or {}
        return [known[place] for place in self.places.tolist() if place in known]

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
            with self.contents(item) as contents:
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
        with self.contents(item) as contents:
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
        with self.contents(item) as contents:
            file = cast(Image.Image, item) if contents is None else contents
            return decoded(file, self.pixel_range, reduce_to)[0]

    def _digest(self, contents: Contents) -> bytes:
        """SHA-256 of a file's bytes and of the pixel range. A DtypeRange does not affect files."""
        read_with = None if isinstance(self.pixel_range, DtypeRange) else self.pixel_range
        return contents.digest(f"file {read_with!r} ".encode())

    def read_with(self, pixel_range: PixelRange) -> ImageSource:
        """Return the same images with the same faults, read with another pixel range."""
        return self._taken(self.positions, self.places, pixel_range)

    def given_as(self, pixel_range: PixelRange, faults: dict[int, Problem] | None) -> ImageSource:
        """Return the same images as an X of their own, in which places count from 0.

        They are read with this pixel range if they have none. Servers that did not answer are asked
        again.
        """
        self._reader.ask_again()
        known = pixel_range if self.pixel_range is None else self.pixel_range
        places = np.arange(len(self))
        is_same = known is self.pixel_range and faults is self.faults is None
        if is_same and np.array_equal(self.places, places):
            return self
        return ImageSource(self.items, known, self.positions, places, faults, self._reader)

    def _taken(
        self, positions: np.ndarray, places: np.ndarray, pixel_range: PixelRange
    ) -> ImageSource:
        return ImageSource(self.items, pixel_range, positions, places, self.faults, self._reader)

    def decided_range(self) -> PixelRange:
        """Return the pixel range to keep after fitting: the given one, or that of the arrays.

        None if all images are files or PIL images, whose modes determine it.
        """
        if self.pixel_range is not None or len(self) == 0:
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
