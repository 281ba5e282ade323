"""The file format of a store on disk: records in blocks, blocks one after the other.

::

    segment   block block block ...         only ever appended to, by the process that made it
    block     header rows records           written by one call
    header    magic, number of rows, checksum of the rows, size of the records, checksum of this
    row       digest of the key, size of the record
    record    checksum of all that follows and of the digest, dtype, shape, the values

The rows show what a block holds, so that its records need not be read. A block without its end is
ignored. Everything is checked by its checksum before it is used, sizes first of all.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO

import numpy as np

from transferclf.features.memory import as_float32

FORMAT = 1  # part of the folder's name; to be raised when a byte below changes its meaning

_MAGIC = b"tclffeat"
_HEADER = struct.Struct("<8sIIQI")
_ROW = struct.Struct("<16sI")
_RECORD = struct.Struct("<IBBH")
_DTYPES = (np.dtype("<f4"), np.dtype("<f2"))

MAX_RECORD_BYTES = 2**32 - 1  # the largest size that a row can hold
_BLOCK_BYTES = 2**23


class DamagedError(Exception):
    """The header or rows of a block are damaged."""


Place = tuple[bytes, int, int]  # the digest of a key, and the offset and length of its record


def key_digest(key: bytes, dtype: str) -> bytes:
    """Return the digest under which a key is filed; float32 and float16 have different ones."""
    return hashlib.blake2b(key, digest_size=16, person=dtype.encode()).digest()


def record_of(digest: bytes, activation: np.ndarray) -> bytes:
    """Return the record of one activation, float32 or float16, with its checksum."""
    code = int(activation.dtype == np.float16)
    shape = struct.pack(f"<{activation.ndim}I", *activation.shape)
    values = activation.astype(_DTYPES[code], copy=False).tobytes()
    head = _RECORD.pack(0, code, activation.ndim, 0)[4:] + shape
    checksum = zlib.crc32(values, zlib.crc32(head, zlib.crc32(digest)))
    return checksum.to_bytes(4, "little") + head + values


def activation_of(digest: bytes, record: bytes) -> np.ndarray | None:
    """Return the activation in a record, float32 and read-only; None if it is damaged."""
    if len(record) < _RECORD.size:
        return None
    checksum, code, ndim, _ = _RECORD.unpack_from(record)
    if zlib.crc32(memoryview(record)[4:], zlib.crc32(digest)) != checksum:
        return None
    values = as_float32(np.frombuffer(record, _DTYPES[code], offset=_RECORD.size + 4 * ndim))
    if ndim == 1:
        return values
    return values.reshape(struct.unpack_from(f"<{ndim}I", record, _RECORD.size))


def stored_bytes(activation: np.ndarray) -> int:
    """Return the size of an activation in a segment, in a block of its own."""
    record = _RECORD.size + 4 * activation.ndim + activation.nbytes
    return _HEADER.size + _ROW.size + record


def blocks_of(records: Mapping[bytes, bytes], limit: int) -> Iterator[list[bytes]]:
    """Yield the digests of groups of records whose blocks stay below the limit.

    A record larger than the limit is a group of its own.
    """
    group: list[bytes] = []
    nbytes = _HEADER.size
    for digest, record in records.items():
        more = len(record) + _ROW.size
        if group and nbytes + more > min(limit, _BLOCK_BYTES):
            yield group
            group, nbytes = [], _HEADER.size
        group.append(digest)
        nbytes += more
    if group:
        yield group


def block_of(records: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return records by digest as the block that is appended to a segment."""
    pairs = list(records)
    rows = b"".join(_ROW.pack(digest, len(record)) for digest, record in pairs)
    nbytes = sum(len(record) for _, record in pairs)
    head = _HEADER.pack(_MAGIC, len(pairs), zlib.crc32(rows), nbytes, 0)[:-4]
    checksum = zlib.crc32(head).to_bytes(4, "little")
    return b"".join([head, checksum, rows, *(record for _, record in pairs)])


def places_in(file: FileIO, start: int, size: int) -> Iterator[tuple[list[Place], int]]:
    """Yield the places of the records and the end of each whole block from `start` on.

    Raises DamagedError if the header or rows of a block are damaged. Blocks before it are good.
    """
    while (block := _block_at(file, start, size)) is not None:
        yield block
        start = block[1]


def _block_at(file: FileIO, start: int, size: int) -> tuple[list[Place], int] | None:
    if start + _HEADER.size > size:
        return None
    file.seek(start)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:  # cut off since its size was taken
        return None
    magic, count, rows_checksum, nbytes, checksum = _HEADER.unpack(header)
    if magic != _MAGIC or zlib.crc32(header[:-4]) != checksum:
        raise DamagedError
    offset = start + _HEADER.size + count * _ROW.size
    end = offset + nbytes
    if end > size:  # still being written, or its writer was killed
        return None
    rows = file.read(count * _ROW.size)
    if len(rows) < count * _ROW.size:
        return None
    if zlib.crc32(rows) != rows_checksum:
        raise DamagedError
    places: list[Place] = []
    for digest, length in _ROW.iter_unpack(rows):
        places.append((digest, offset, length))
        offset += length
    return places, end
