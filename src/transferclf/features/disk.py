"""Activations in a folder that processes and runs share.

A folder holds segments: files that are only ever appended to, each by the one process that made
it. Therefore nobody needs a lock, and a killed process leaves at worst a block without an end. Each
process keeps the places of all records in memory (about 230 bytes each). If it misses something, it
reads the places that others have appended. Each record is checked by its checksum. Nothing is
mapped: damaged, short or foreign files are found by checksum and dropped.
docs/explanation/design.md compares this with existing libraries.

Beside the segments is a log in which processes tell each other what they are going to compute
(:mod:`transferclf.features.claims`). Entries do not depend on it.

The folder may be on any local disk. The store needs neither locks nor maps and does not trust
records that arrive late or torn, so that on a network file system (NFS, SMB, Lustre) work would at
worst be done twice; but that has not been tested, and each look for new records asks the server. A
synchronising service (Dropbox, OneDrive) would upload every change.

`kill -9` loses only the block that was being written. Nothing is forced onto the disk (`fsync`), so
that a power cut may lose what the operating system had not written yet; checksums find that. They
are CRC-32 over key, shape, dtype and values, against accidents: anybody who can write to the folder
can forge entries.

The bound is on the files in whole blocks of 4 KB. The segment that was not used for longest goes
first (a sixteenth of the store); use is noted to the second. If several processes write at once,
each may exceed the bound by one block (8 MB) until its next write.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import FileIO

import numpy as np

from transferclf.features import segments

Entries = dict[bytes, np.ndarray]

_FOLDER = f"transferclf-features-{segments.FORMAT}"
_SUFFIX = ".features"
_SEGMENTS = 16  # the least number in a full store; one is evicted at a time
_DISK_BLOCK = 4096
_MAX_OPEN = 64  # macOS gives a process 256 files by default
_NOTED_EVERY = 1.0  # seconds between two notes that a segment is in use
_IDLE = 60.0  # seconds after which no process is expected to append to a segment
_SMALL = 32  # a small segment is at most this part of a full one
_TOO_MANY_SMALL = 8  # so many small segments are merged into one


class _Segment:
    """One file of the folder, and how much of it this process has read."""

    def __init__(self, path: str):
        self.path = path
        self.file: FileIO | None = None
        self.size = self.scanned = 0
        self.inode: int | None = None
        self.digests: list[bytes] = []
        self.used = 0.0  # seconds, by the clock of the file system
        self.noted = -_NOTED_EVERY  # when this process last noted its use, by its own clock

    @property
    def taken(self) -> int:
        return _on_disk(self.size)

    def close(self) -> None:
        file, self.file = self.file, None  # first, so that an interrupt leaves no closed file here
        if file is not None:
            with suppress(OSError):  # of a network file system; the file is closed anyway
                file.close()


class DiskEntries:
    """Activations by digest in a folder, bounded in bytes; not safe to use from several threads.

    Errors of the disk are not raised; `trouble` is the last message.
    """

    def __init__(self, path: str, max_bytes: int):
        self.folder = os.path.join(path, _FOLDER)
        self.max_bytes = max_bytes
        self.trouble: str | None = None
        self._segment_bytes = max(max_bytes // _SEGMENTS, _DISK_BLOCK)
        self._segments: dict[str, _Segment] = {}
        self._places: dict[bytes, tuple[_Segment, int, int]] = {}
        self._own_path = ""  # of the segment that this process appends to

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """The size of the files on the disk."""
        return sum(segment.taken for segment in self._segments.values())

    def get_many(self, key_of: Mapping[bytes, bytes]) -> Entries:
        """Return the activations that are there. `key_of` maps digests to keys."""
        found: Entries = {}
        missing = self._find(key_of, key_of, found)
        if missing:
            self.refresh()
            self._find(missing, key_of, found)
        return found

    def places_of(self, digests: Iterable[bytes], refresh: bool) -> set[bytes]:
        """Return the digests that have a place, as of now or as of the last look at the folder."""
        if refresh:
            self.refresh()
        return {digest for digest in digests if digest in self._places}

    def put_many(self, entries: Mapping[bytes, np.ndarray]) -> set[bytes]:
        """Append activations, float32 or float16; return the digests the disk did not take."""
        records = {
            digest: segments.record_of(digest, activation)
            for digest, activation in entries.items()
            if segments.stored_bytes(activation) <= segments.MAX_RECORD_BYTES
            and _on_disk(segments.stored_bytes(activation)) <= self.max_bytes
        }
        left = set(records)
        try:
            if os.path.isfile(self.folder):  # a foreign file under our name: set aside
                os.replace(self.folder, f"{self.folder}.{uuid.uuid4().hex}.aside")
                self.trouble = f"{self.folder} was a file and has been set aside"
            os.makedirs(self.folder, exist_ok=True)
            self.refresh()
            self._merge_small()
            for group in segments.blocks_of(records, self._segment_bytes):
                if len(left) < len(records):  # other processes may have filled the room since
                    self.refresh()
                self._append(segments.block_of((digest, records[digest]) for digest in group))
                left.difference_update(group)
        except OSError as error:
            self._note(error)
        return left

    def refresh(self) -> None:
        """Look for segments that other processes have added or removed."""
        try:
            with os.scandir(self.folder) as listing:
                ours = (file for file in listing if file.name.endswith(_SUFFIX))
                paths = {file.path for file in ours if file.is_file(follow_symlinks=False)}
        except OSError as error:
            self._note_unless_missing(error)
            paths = set()
        for path in self._segments.keys() - paths:
            self._forget(self._segments[path])
        for path in sorted(paths):  # the names begin with the time: newer records win
            self._read_segment(path)

    def clear(self) -> None:
        """Remove all segments, those of other processes too."""
        self.refresh()
        for segment in list(self._segments.values()):
            try:
                self._remove(segment)
            except OSError as error:
                self._note(error)

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        for segment in self._segments.values():
            segment.close()

    def repair(self) -> None:
        """Forget what was read from the files: the next call reads it again."""
        self.close()
        self._segments, self._places = {}, {}

    def start_in_forked_child(self) -> None:
        """Share no open file with the parent, and append to none of its segments."""
        self._own_path = ""
        self.repair()

    @property
    def _own(self) -> _Segment | None:
        return self._segments.get(self._own_path)

    def _find(
        self, digests: Iterable[bytes], key_of: Mapping[bytes, bytes], found: Entries
    ) -> list[bytes]:
        """Add the activations whose place is known to `found`; return the other digests."""
        now = time.monotonic()
        missing = []
        for digest in digests:
            activation = self._activation(digest, now)
            if activation is None:
                missing.append(digest)
            else:
                found[key_of[digest]] = activation
        return missing

    def _activation(self, digest: bytes, now: float) -> np.ndarray | None:
        place = self._places.get(digest)
        if place is None:
            return None
        segment, offset, nbytes = place
        try:
            file = segment.file or self._opened(segment)
            file.seek(offset)
            record = file.read(nbytes)
        except OSError as error:
            self._note_unless_missing(error)
            self._forget(segment)
            return None
        activation = segments.activation_of(digest, record)
        if activation is None:
            self._drop(digest, damaged=len(record) == nbytes)
        elif now - segment.noted >= _NOTED_EVERY:
            segment.noted = now
            with suppress(OSError):  # a process that may only read cannot note its use
                os.utime(segment.path)
        return activation

    def _opened(self, segment: _Segment) -> FileIO:
        if sum(other.file is not None for other in self._segments.values()) >= _MAX_OPEN:
            self.close()
        segment.file = FileIO(segment.path)
        return segment.file

    def _drop(self, digest: bytes, damaged: bool) -> None:
        """Forget a record that was cut off or is damaged."""
        if damaged:
            self.trouble = "an entry is damaged and will be computed again"
            self._own_path = ""  # the next segment is newer, so that its records replace this one
        del self._places[digest]

    def _read_segment(self, path: str) -> None:
        """Read the places of records that were appended since the last look."""
        segment = self._segments.setdefault(path, _Segment(path))
        try:
            status = os.stat(path)  # on Windows, the status in the listing is out of date
            segment.used = status.st_mtime
            if segment.inode not in (None, status.st_ino) or status.st_size < segment.scanned:
                self._forget(segment)  # removed and made anew, or cut off
                segment = self._segments[path] = _Segment(path)
                segment.used = status.st_mtime
            segment.inode = status.st_ino
            if status.st_size != segment.size:
                self._read_places(segment, status.st_size)
        except OSError as error:
            self._note_unless_missing(error)
            self._forget(segment)

    def _read_places(self, segment: _Segment, size: int) -> None:
        segment.size = size
        file = segment.file or self._opened(segment)
        try:
            for places, end in segments.places_in(file, segment.scanned, size):
                segment.scanned = end
                for digest, offset, nbytes in places:
                    self._places[digest] = (segment, offset, nbytes)
                    segment.digests.append(digest)
        except segments.DamagedError:
            self.trouble = f"{os.path.basename(segment.path)} is damaged and has been dropped"
            with suppress(OSError):  # if it cannot be removed, its earlier blocks are still good
                self._remove(segment)

    def _append(self, block: bytes) -> None:
        segment = self._segment_for(len(block))
        self._make_room(len(block))
        with open(segment.path, "ab", buffering=0) as file:
            start = file.tell()
            try:
                left = memoryview(block)
                while left:  # a nearly full disk takes a part, and the next write raises
                    left = left[file.write(left) :]
            except BaseException:  # an interrupt, too, should leave no part of a block
                with suppress(OSError):
                    file.truncate(start)
                raise
        self._read_segment(segment.path)

    def _segment_for(self, nbytes: int) -> _Segment:
        """Return the segment to append to; a new one if the last is full, gone or torn."""
        own = self._own
        fits = own is not None and own.size + nbytes <= self._segment_bytes
        if own is None or not fits or own.scanned < own.size:
            name = f"{time.time_ns():020d}-{uuid.uuid4().hex}{_SUFFIX}"
            own = _Segment(os.path.join(self.folder, name))
            self._own_path = own.path
            self._segments[own.path] = own
        return own

    def _make_room(self, nbytes: int) -> None:
        """Remove the longest unused segments until `nbytes` more can be written."""
        grown = 0 if self._own is None else _on_disk(self._own.size + nbytes) - self._own.taken
        over = self.nbytes + grown - self.max_bytes
        others = [segment for segment in self._segments.values() if segment is not self._own]
        for segment in sorted(others, key=lambda segment: (segment.used, segment.path)):
            if over <= 0:
                return
            over -= segment.taken
            self._remove(segment)

    def _merge_small(self) -> None:
        """Copy small idle segments into one. Short runs leave many of them."""
        if self._own is not None:
            return
        latest = time.time() - _IDLE
        small = [
            segment
            for segment in self._segments.values()
            if segment.used < latest and segment.size <= self._segment_bytes // _SMALL
        ]
        if len(small) < _TOO_MANY_SMALL:
            return
        small = small[:_TOO_MANY_SMALL]
        records = self._records_in(small)
        for group in segments.blocks_of(records, self._segment_bytes):
            self._append(segments.block_of((digest, records[digest]) for digest in group))
        for segment in small:
            if segment.path in self._segments:
                self._remove(segment)

    def _records_in(self, wanted: list[_Segment]) -> dict[bytes, bytes]:
        records = {}
        for digest, (segment, offset, nbytes) in self._places.items():
            if segment in wanted:
                file = segment.file or self._opened(segment)
                file.seek(offset)
                records[digest] = file.read(nbytes)  # its checksum goes with it
        return records

    def _remove(self, segment: _Segment) -> None:
        segment.close()
        try:
            os.unlink(segment.path)
        except FileNotFoundError:
            pass
        except PermissionError:
            # Windows does not remove a file that another process has open, but empties it.
            os.truncate(segment.path, 0)
        self._forget(segment)

    def _forget(self, segment: _Segment) -> None:
        segment.close()
        if segment is self._own:
            self._own_path = ""
        self._segments.pop(segment.path, None)
        for digest in segment.digests:
            if digest in self._places and self._places[digest][0] is segment:
                del self._places[digest]

    def _note(self, error: OSError) -> None:
        self.trouble = f"{type(error).__name__}: {error}"

    def _note_unless_missing(self, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            self._note(error)


def _on_disk(nbytes: int) -> int:
    return -(-nbytes // _DISK_BLOCK) * _DISK_BLOCK
