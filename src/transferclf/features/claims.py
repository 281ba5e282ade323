"""Claims: how processes that fill one store at the same time divide the images among them.

Each extraction that computes features for a store on disk is a worker. Before it computes a batch
it claims it: it appends the names of the features to a log in the folder, and reads what others
have appended. The first live claim of a name counts. A worker sets the claims of others aside, and
later finds their rows in the store.

The log is no lock, and nobody waits for it. It only has to be right most of the time: a claim that
is lost or read late costs double work, because the rows themselves come from the store alone. So a
network file system may tear or delay records, and a folder that takes no log is used without one.

A claim ends when its worker has stored the features, leaves, or has ended (which is asked of the
system if the worker is on the same host). It also ends when its worker has not been heard of for
the time of its lease, by the clock of the reader.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from io import FileIO
from types import TracebackType
from typing import Self

from transferclf.features.claim_log import NAME, Record, decoded, encoded

# Seconds without a sign of a worker after which its claims end. The first batch takes long, because
# the network is built. A worker that has shown to be slower asks for more.
LEASE = 120.0
_SLOWNESS = 4
_MAX_LEASE = 3600.0

_LARGE = 2**16  # bytes of a log that is removed at the end
_PART = 2**20  # bytes of the log that are read at a time
_TRIES = 3  # at a log that others remove meanwhile


@dataclass
class _Worker:
    """What the log says of another worker. `heard` is in seconds by the clock of this process."""

    record: Record
    heard: float
    n_finished: int = 0
    claims: deque[frozenset[bytes]] = field(default_factory=deque)  # those not finished

    def take(self, record: Record, heard: float) -> bool:
        """Add a record; return whether features were finished since the last one."""
        self.record, self.heard = record, heard
        n_finished = min(record.n_finished - self.n_finished, len(self.claims))
        for _ in range(n_finished):
            self.claims.popleft()
        self.n_finished = max(record.n_finished, self.n_finished)
        if record.names:
            self.claims.append(frozenset(record.names))
        return n_finished > 0

    def held(self, names: Set[bytes]) -> set[bytes]:
        """Return those of the names that this worker has claimed and not finished."""
        return {name for claim in self.claims for name in names & claim}


class Claims:
    """The claims of one worker on the features of a folder; safe to use from several threads.

    Errors of the disk are not raised: then everything is granted, as if there were no other worker.
    Use it as a context, or close it. `has_news` is True if others have finished features since it
    was last set to False.
    """

    def __init__(self, folder: str):
        self.path = os.path.join(folder, NAME)
        self.has_news = False
        self._id = os.urandom(8)
        self._process = os.getpid(), _start_of(os.getpid()) or 0
        self._others: dict[bytes, _Worker] = {}
        self._own: deque[set[bytes]] = deque()
        self._n_finished = self._n_announced = 0
        self._granted: set[bytes] | None = None
        self._file: FileIO | None = None
        self._is_off = self._has_written = False
        self._written, self._slowest = time.monotonic(), 0.0
        self._age = 0.0
        self._scanned, self._rest = 0, b""
        self._lock = threading.Lock()

    def claim(self, names: Iterable[bytes]) -> set[bytes]:
        """Claim features. Return the names that are granted: no other worker computes them."""
        wanted = set(names)
        with self._lock:
            try:
                self._open()
                free = wanted - self._taken(wanted)
                if free:
                    free = self._claimed(free)
            except OSError:
                self._turn_off()
                return wanted
            return free

    def taken(self, names: Iterable[bytes]) -> set[bytes]:
        """Return the names that others have claimed, as the log now says."""
        wanted = set(names)
        with self._lock:
            self._look()
            self._announce()
            return self._taken(wanted)

    def finish(self, names: Iterable[bytes]) -> None:
        """Note that features are stored, or that this worker does not compute them any more."""
        finished = set(names)
        with self._lock:
            for claim in self._own:
                claim -= finished
            self._count_finished()
            self._announce()

    def wait(self, seconds: float) -> None:
        """Wait until others have finished features, at most for these seconds."""
        end, pause = time.monotonic() + seconds, 0.01
        while not self.has_news and (left := end - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(2 * pause, 0.25)
            with self._lock:
                self._look()

    def close(self) -> None:
        """Give up all claims. The last worker removes a large log.

        Another worker may begin at that moment. It would be alone in a log without a name, so that
        others computed its first batches too; therefore small logs stay.
        """
        with self._lock:
            if self._scanned > _LARGE:
                self._look()
            if self._file is not None:
                if self._scanned > _LARGE and self._is_last():
                    with suppress(OSError):  # Windows keeps a file that another process has open
                        os.unlink(self.path)
                elif self._has_written:
                    self._write(leaves=1)
            self._turn_off()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _claimed(self, names: set[bytes]) -> set[bytes]:
        """Append a claim, and return the names that nobody had claimed before it."""
        for _ in range(_TRIES):
            self._granted = None
            self._append(tuple(sorted(names)))
            if self._read():
                break
        # A record that is not found was torn or overwritten.
        granted = names if self._granted is None else self._granted
        self._own.append(set(granted))
        self._count_finished()
        return granted

    def _count_finished(self) -> None:
        """Count own claims of which nothing is left to do."""
        while self._own and not self._own[0]:
            self._own.popleft()
            self._n_finished += 1

    def _announce(self) -> None:
        """Tell others which claims are finished. Without others, the next claim says it."""
        if self._others and self._n_finished > self._n_announced:
            self._write()

    def _taken(self, names: set[bytes]) -> set[bytes]:
        taken: set[bytes] = set()
        for worker in list(self._others.values()):
            held = worker.held(names)
            if held and not self._has_ended(worker):
                taken |= held
        return taken

    def _has_ended(self, worker: _Worker) -> bool:
        """Return whether the claims of a worker do not count, and forget it if it has ended."""
        record = worker.record
        if record.host == _host():
            start = _start_of(record.process)
            if start is None or (record.start and start and start != record.start):
                self._others.pop(record.worker, None)
                return True
        return time.monotonic() - worker.heard > min(record.lease, _MAX_LEASE)

    def _is_last(self) -> bool:
        return all(self._has_ended(worker) for worker in list(self._others.values()))

    def _open(self) -> None:
        """Open the log and read it, unless it is open. Raise OSError if there can be none."""
        if self._is_off:
            raise OSError("expected a log of claims that can be written to")
        if self._file is not None:
            return
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        for name in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
            flags |= getattr(os, name, 0)
        number = os.open(self.path, flags, 0o666)
        self._file = FileIO(number, "r+b")
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"expected {self.path} to be a file")
        # The workers of a log that nobody has written to for long are not heard of since then.
        self._age = max(time.time() - status.st_mtime, 0.0)
        self._others, self._scanned, self._rest = {}, 0, b""
        self._scan(self._file)
        self._age = 0.0

    def _append(self, names: tuple[bytes, ...] = (), leaves: int = 0) -> None:
        self._open()
        now = time.monotonic()
        if self._own:
            self._slowest = max(self._slowest, now - self._written)
        self._written, self._has_written, self._n_announced = now, True, self._n_finished
        lease = int(max(LEASE, _SLOWNESS * self._slowest)) + 1
        facts = (_host(), *self._process, lease, self._n_finished, leaves, names)
        data = encoded(Record(self._id, *facts))
        assert self._file is not None
        if self._file.write(data) != len(data):
            raise OSError("expected room for a record of claims")

    def _read(self) -> bool:
        """Read what was appended. Return False, with the log closed, if it was removed."""
        file = self._file
        assert file is not None
        try:
            self._scan(file)
            is_there = os.stat(self.path).st_ino == os.fstat(file.fileno()).st_ino
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            is_there = False
        if not is_there:  # by the last worker that was known
            self._file, self._others, self.has_news = None, {}, True
            with suppress(OSError):
                file.close()
        return is_there

    def _scan(self, file: FileIO) -> None:
        heard = time.monotonic() - self._age
        if os.fstat(file.fileno()).st_size < self._scanned:  # emptied
            self._others, self._scanned, self._rest = {}, 0, b""
        part = bytes(_PART)
        while len(part) == _PART:
            file.seek(self._scanned)
            part = file.read(_PART)
            self._scanned += len(part)
            records, self._rest = decoded(self._rest + part)
            for record in records:
                self._note(record, heard)

    def _note(self, record: Record, heard: float) -> None:
        if record.worker == self._id:
            if record.names:
                names = set(record.names)
                self._granted = names - self._taken(names)
            return
        if record.leaves:
            self._others.pop(record.worker, None)
            self.has_news = True
            return
        worker = self._others.get(record.worker)
        if worker is None:
            # Its first record may be of an older log, in which it finished other claims.
            worker = _Worker(record, heard, record.n_finished)
            self._others[record.worker] = worker
            self.has_news = True
        self.has_news |= worker.take(record, heard)

    def _look(self) -> None:
        """Read the log, if there is one."""
        if self._is_off:
            return
        try:
            self._open()
            self._read()
        except OSError:
            self._turn_off()

    def _write(self, leaves: int = 0) -> None:
        """Append a sign of this worker, if there is a log."""
        if self._is_off:
            return
        try:
            self._append(leaves=leaves)
        except OSError:
            self._turn_off()

    def _turn_off(self) -> None:
        """Forget the others, and close the log for good."""
        file, self._file, self._is_off, self._others = self._file, None, True, {}
        if file is not None:
            with suppress(OSError):
                file.close()


@cache
def _host() -> bytes:
    """Return a name of this host as far as the numbers of its processes have one meaning."""
    facts = [os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")]
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            facts.append(file.read().strip())
        facts.append(os.readlink("/proc/self/ns/pid"))  # of a container
    return hashlib.blake2b("\n".join(facts).encode(), digest_size=8).digest()


def _start_of(process: int) -> int | None:
    """Return when a process of this host began, 0 if that cannot be told, None if it has ended."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, *facts = file.read().rpartition(b")")[2].split()
        return None if state in (b"Z", b"X") else int(facts[18])
    except (OSError, ValueError, IndexError):
        if os.name == "nt":  # os.kill would end the process
            return 0
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return 0
