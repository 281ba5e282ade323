"""The log of claims: records that all workers append to one file.

::

    log       record record record ...      each record by one write
    record    head names                    a claim; without names, a sign that a worker goes on
    head      magic, checksum of all that follows, worker, host, process, its start, lease,
              number of its claims that are finished, whether it leaves, number of names

A record may be torn where a disk is full or several hosts write. Its checksum shows that, and
reading goes on at the next magic.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

NAME = "claims-1.log"  # to be changed when a byte of the log changes its meaning
NAME_BYTES = 8

_MAGIC = b"tcC1"
_HEAD = struct.Struct("<4sI8s8sQQIIHH")
_CHECKED = 8  # the checksum is over all bytes from here on


class Record(NamedTuple):
    """One record of the log."""

    worker: bytes
    host: bytes
    process: int
    start: int
    lease: int
    n_finished: int
    leaves: int
    names: tuple[bytes, ...]


def encoded(record: Record) -> bytes:
    """Return the bytes of a record."""
    facts, names = record[:-1], record.names
    head = _HEAD.pack(_MAGIC, 0, *facts, len(names))
    body = head[_CHECKED:] + b"".join(names)
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


def decoded(data: bytes) -> tuple[list[Record], bytes]:
    """Return the records in these bytes, and the rest: the begin of a record that is not whole.

    Bytes that are no record are passed over.
    """
    records: list[Record] = []
    start = 0
    while True:
        start = data.find(_MAGIC, start)
        if start < 0:
            return records, data[-len(_MAGIC) + 1 :]
        if start + _HEAD.size > len(data):
            return records, data[start:]
        _, checksum, *facts, count = _HEAD.unpack_from(data, start)
        end = start + _HEAD.size + count * NAME_BYTES
        if zlib.crc32(memoryview(data)[start + _CHECKED : end]) == checksum and end <= len(data):
            names = tuple(_in_parts(data[start + _HEAD.size : end]))
            records.append(Record._make([*facts, names]))
            start = end
        elif end > len(data) and data.find(_MAGIC, start + 1) < 0:
            return records, data[start:]
        else:
            start += 1


def _in_parts(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), NAME_BYTES):
        yield data[start : start + NAME_BYTES]
