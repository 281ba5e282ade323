"""Features as files of type .npy, for more of them than memory should hold."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np

from transferclf._npy import SUFFIX, NpyFile
from transferclf.exceptions import InvalidParameterError
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.features.row_file import Records, RowFile
from transferclf.features.row_space import RowLimit, RowSpace
from transferclf.images.looks import Digests, Looks
from transferclf.images.source import ImageSource

_FIX = (
    "Name another file, or a folder (a name without .npy), in which the features of each X have a "
    "file of their own."
)


def check_output(output: object) -> Path | None:
    """Return the path of `output`, which is None, a file in an existing folder, or a folder.

    InvalidParameterError is raised for anything else.
    """
    if output is None:
        return None
    if not isinstance(output, str | os.PathLike) or isinstance(os.fspath(output), bytes):
        raise InvalidParameterError(
            "output must be None, the path of a file that ends in .npy, or that of a folder. "
            f"Got {output!r} instead."
        )
    path = Path(output)
    is_folder = path.suffix != SUFFIX
    folder = path if is_folder else path.parent
    if is_folder and path.exists() and not path.is_dir():
        problem = "is a file that does not end in .npy"
    elif not is_folder and path.is_dir():
        problem = "is a folder, and the name ends in .npy"
    elif not is_folder and not folder.is_dir():
        problem = f"is in {str(folder)!r}, which is no folder"
    else:
        return path
    raise InvalidParameterError(f"output={str(path)!r} {problem}.")


def write_features(path: Path, read: Extractor, source: ImageSource, prefix: Prefix) -> np.memmap:
    """Write the features of all images to a file, and return it as a read-only array.

    In a folder, the file is named after the images and the network. If it is there already,
    nothing is computed or written.
    """
    if path.suffix == SUFFIX:
        if path.exists():
            message = f"output={str(path)!r} exists, and no file is overwritten. {_FIX}"
            raise InvalidParameterError(message)
        return _written(path, read, source, prefix)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"output={str(path)!r} is a folder that cannot be made: {error}"
        raise InvalidParameterError(message) from error
    looks, keys = read.first_look(source, prefix)
    file = path / _name(keys, read)
    if not file.exists():
        try:
            return _written(file, read, source, prefix, looks)
        except InvalidParameterError:  # another process may have written the same features
            if not file.exists():
                raise
    return _opened(file)


def _written(
    path: Path,
    read: Extractor,
    source: ImageSource,
    prefix: Prefix,
    looks: Looks | None = None,
) -> np.memmap:
    with NpyFile(path, "output") as file:
        part = RowSpace(len(source), _NamedFile(file, len(source))).part()
        keys = read.fill(part, source, prefix, looks=looks)
        if looks is not None:  # files may have been replaced since the first look
            file.path = path.with_name(_name(keys, read))
    return _opened(file.path)


def _name(keys: Digests, read: Extractor) -> str:
    """Return the name of a file in a folder, from the keys of all features in it."""
    dtype = "float32" if read.store is None else read.store.dtype
    digest = hashlib.sha256(dtype.encode())
    for key in keys:
        digest.update(key)
    return f"features-{digest.hexdigest()[:32]}{SUFFIX}"


def _opened(path: Path) -> np.memmap:
    features: np.memmap = np.load(path, mmap_mode="r")
    return features


class _NamedFile(RowLimit):
    """Room for rows in a file of type .npy."""

    def __init__(self, file: NpyFile, n_rows: int):
        super().__init__(n_rows)
        self._file = file

    def new(self, shape: tuple[int, ...], dtype: np.dtype) -> RowFile:
        """Return room for all rows; a shape that was begun before is forgotten."""
        start = self._file.begin(shape[1:], dtype, shape[0])
        size = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        return RowFile(shape, dtype, Records(self._file.file, start, size, self._file.no_room))
