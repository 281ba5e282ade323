"""The file: a zip of one JSON text and of arrays as NumPy writes them, nothing compressed.

Reading allocates no more memory than the file is long, whatever the file claims: members that are
not compressed cannot grow, and together they cannot be longer than the file.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import re
import stat
import struct
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np

from transferclf.exceptions import ArchiveError
from transferclf.persistence.facts import Facts, Written, facts_text, parsed_facts

FACTS = "model.json"
MAX_FACTS_BYTES = 2**23
MAX_MEMBERS = 2**14
MAX_DIMENSIONS = 8
# A larger zip needs an extension, which would have to be checked too.
MAX_BYTES = 2**31 - 2**20

Arrays = dict[str, np.ndarray]

# Little-endian, so that the same numbers are the same bytes everywhere.
DTYPES = ("<f4", "<f8", "<i4", "<i8")

_NAME = re.compile(r"[a-z_]+(/[a-z_0-9]+){0,3}")
_END = struct.Struct("<4s4H2LH")
_MAX_ENTRY_BYTES = 46 + 128
_MAX_HEADER_BYTES = 256
_STORED_AT = (1980, 1, 1, 0, 0, 0)


def write_archive(place: Path | IO[bytes], facts: Written, arrays: Arrays) -> None:
    """Write a whole archive or nothing: an old file is replaced when the new one is complete.

    The facts get a part "arrays", with type, shape and digest of each. Numbers that are not finite,
    or more than an archive holds, are an ArchiveError.
    """
    contents = {name: _standard(name, array) for name, array in arrays.items()}
    if sum(array.nbytes for array in contents.values()) > MAX_BYTES:
        raise ArchiveError(f"expected at most {MAX_BYTES:,} bytes of numbers; pickle the estimator")
    with _target(place) as file, zipfile.ZipFile(file, "w", allowZip64=False) as archive:
        declared = {}
        for name, array in contents.items():
            npy = io.BytesIO()
            np.lib.format.write_array(npy, array, version=(1, 0), allow_pickle=False)
            declared[name] = {
                "dtype": array.dtype.str,
                "shape": list(array.shape),
                "sha256": hashlib.sha256(npy.getvalue()).hexdigest(),
            }
            archive.writestr(_entry(f"{name}.npy"), npy.getvalue())
        text = facts_text(facts | {"arrays": declared})
        if len(text) > MAX_FACTS_BYTES:
            raise ArchiveError(
                f"expected at most {MAX_FACTS_BYTES:,} bytes of parameters, classes and history. "
                f"Got {len(text):,} instead; pickle the estimator."
            )
        archive.writestr(_entry(FACTS), text)


@contextmanager
def _target(place: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(place, Path):
        with replaced(place) as file:
            yield file
        return
    # The zip module seeks in the file that it writes, which not all file objects allow.
    content = io.BytesIO()
    yield content
    place.write(content.getvalue())


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that replaces this one at the end, or is removed if anything fails."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:  # Ctrl-C too
        beside.unlink(missing_ok=True)
        raise


def _standard(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    if array.dtype.str not in DTYPES:
        raise ArchiveError(f"{name} must be one of {', '.join(DTYPES)}. Got {array.dtype} instead.")
    _check_finite(name, array)
    return array


def _check_finite(name: str, array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise ArchiveError(f"{name} must be finite. Got NaN or infinity instead.")


def _entry(name: str) -> zipfile.ZipInfo:
    # The same model gives the same bytes, whenever and wherever it is saved.
    entry = zipfile.ZipInfo(name, _STORED_AT)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


@contextmanager
def opened_archive(place: Path | IO[bytes]) -> Iterator[tuple[Facts, StoredArrays]]:
    """Open an archive, and return its facts and its arrays. Each array is read when it is taken."""
    # Reading a pipe would wait for ever, and reading a device would never end.
    if isinstance(place, Path) and not stat.S_ISREG(place.stat().st_mode):
        raise ArchiveError("expected a file. Got a folder or a device instead.")
    # A file object stays open, because the caller has opened it.
    with place.open("rb") if isinstance(place, Path) else nullcontext(place) as file:
        _check_end(file)
        with _damage_reported():
            archive = zipfile.ZipFile(file)
        with archive:
            members = _members(archive)
            facts = parsed_facts(_content(archive, members[FACTS]))
            yield facts, StoredArrays(archive, members, facts)


def _check_end(file: IO[bytes]) -> None:
    """Raise ArchiveError unless the list of members is whole, short, and the end of the file.

    Python's zip module would read any list, in many times the memory of its size.
    """
    size = file.seek(0, os.SEEK_END)
    if size < _END.size:
        raise ArchiveError(f"expected a zip file, got {size} bytes.")
    file.seek(size - _END.size)
    mark, disk, first, here, count, length, start, comment = _END.unpack(file.read(_END.size))
    if mark != b"PK\x05\x06" or comment:
        raise ArchiveError("this is no archive of transferclf, or its end is missing.")
    if (disk, first) != (0, 0) or here != count or start + length + _END.size != size:
        raise ArchiveError("its list of members does not fit the file: it is damaged.")
    if not 0 < count <= MAX_MEMBERS or length > count * _MAX_ENTRY_BYTES:
        raise ArchiveError(f"expected 1 to {MAX_MEMBERS} members with short names. Got {count}.")


@contextmanager
def _damage_reported() -> Iterator[None]:
    """Turn all errors that the zip module raises for a damaged file into an ArchiveError."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        OverflowError,
        struct.error,
    ) as error:
        raise ArchiveError(f"the zip file is damaged: {error}") from error


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if len(members) < len(entries):
        raise ArchiveError("two members have the same name.")
    for entry in entries:
        name = entry.orig_filename  # the filename ends at a NUL
        if name != FACTS and not (name.endswith(".npy") and _NAME.fullmatch(name[:-4])):
            raise ArchiveError(f"{name[:100]!r} is no name of a member of an archive.")
        is_stored = entry.compress_type == zipfile.ZIP_STORED
        if not is_stored or entry.compress_size != entry.file_size or entry.flag_bits:
            raise ArchiveError(f"{name} must be neither compressed nor encrypted.")
    if FACTS not in members:
        raise ArchiveError(f"this is no archive of transferclf: it has no {FACTS}.")
    if sum(entry.file_size for entry in entries) > archive.start_dir:
        raise ArchiveError("its members claim to be longer than the file: it is a zip bomb.")
    if members[FACTS].file_size > MAX_FACTS_BYTES:
        raise ArchiveError(f"{FACTS} must be of at most {MAX_FACTS_BYTES:,} bytes.")
    return members


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with _damage_reported():
        content = archive.read(entry)
    if len(content) != entry.file_size:
        raise ArchiveError(f"{entry.filename} is cut short.")
    return content


class StoredArrays:
    """Arrays of an archive. Each is taken once, and checked against "arrays" of the facts.

    Raises ArchiveError if a member is missing, has another size, or is not in the facts.
    """

    def __init__(self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], facts: Facts):
        self._archive = archive
        self._members = members
        declared = facts.part("arrays")
        self._declared = {name: _Declared(name, declared.part(name)) for name in declared.names()}
        expected = {FACTS, *(f"{name}.npy" for name in self._declared)}
        if odd := sorted(expected ^ set(members)):
            raise ArchiveError(f"members are missing, or too many: {', '.join(odd[:5])[:500]}")
        for name, array in self._declared.items():
            size = members[f"{name}.npy"].file_size
            if not 0 <= size - array.count * array.dtype.itemsize <= _MAX_HEADER_BYTES:
                raise ArchiveError(f"{name} must have shape {array.shape}. Got {size} bytes.")
        self.n_arrays = len(self._declared)
        self.n_numbers = sum(array.count for array in self._declared.values())

    def __contains__(self, name: str) -> bool:
        return name in self._declared

    def take(self, name: str, shape: tuple[int | None, ...], kind: str = "f") -> np.ndarray:
        """Return a finite array of this shape, where None is any length, and kind of numbers."""
        array = self._pop(name)
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
        )
        if not fits or array.dtype.kind != kind:
            raise ArchiveError(
                f"{name} must be an array of shape {shape} and kind {kind!r}. Got {array.shape} "
                f"and {array.dtype} instead."
            )
        return self._read(array)

    def take_all(self, stem: str, count: int) -> list[np.ndarray]:
        """Return the arrays "stem/0", "stem/1" and so on, of any shape."""
        if count > self.n_arrays:
            raise ArchiveError(f"expected {count} arrays {stem}. Got {self.n_arrays} in all.")
        return [self._read(self._pop(f"{stem}/{number}")) for number in range(count)]

    def finish(self) -> None:
        """Raise ArchiveError if there are arrays that have not been taken."""
        if self._declared:
            raise ArchiveError(f"there are more arrays than expected: {min(self._declared)}")

    def _pop(self, name: str) -> _Declared:
        if name not in self._declared:
            raise ArchiveError(f"there is no array {name!r}.")
        return self._declared.pop(name)

    def _read(self, array: _Declared) -> np.ndarray:
        content = _content(self._archive, self._members[f"{array.name}.npy"])
        if hashlib.sha256(content).hexdigest() != array.digest:
            raise ArchiveError(f"{array.name} is damaged: its digest is not what it was.")
        array.check_header(content)
        values = np.load(io.BytesIO(content), allow_pickle=False)
        _check_finite(array.name, values)
        return values


class _Declared:
    """Array as the facts describe it."""

    def __init__(self, name: str, facts: Facts):
        self.name = name
        self.dtype = np.dtype(facts.text("dtype", DTYPES))
        self.shape = facts.wholes("shape", 0)
        if len(self.shape) > MAX_DIMENSIONS:
            raise facts.wrong(f"of at most {MAX_DIMENSIONS} dimensions", self.shape, "shape")
        self.digest = facts.text("sha256")
        self.count = math.prod(self.shape)
        facts.finish()

    def check_header(self, content: bytes) -> None:
        """Raise ArchiveError unless the header of a .npy file fits its length and this array."""
        # NumPy would allocate the size in the header before it reads the numbers.
        file = io.BytesIO(content)
        try:
            version = np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except (ValueError, EOFError, RecursionError, MemoryError, SyntaxError) as error:
            raise ArchiveError(f"{self.name} is no array: {error}") from error
        rest = len(content) - file.tell()
        is_right = (version, shape, dtype) == ((1, 0), self.shape, self.dtype)
        if not is_right or is_fortran or rest != self.count * self.dtype.itemsize:
            raise ArchiveError(
                f"{self.name} must be {self.dtype} of shape {self.shape}. Got {dtype} of shape "
                f"{shape} instead."
            )
