"""The folder of one run: a JSON file for each fold, written whole when the fold ends.

A run's folder is named by its name, and by digests of the name and of parameters and data. So no
two names share a folder on any file system, and neither do two different runs of one name. Nothing
is overwritten, and a run that goes back to old parameters finds its folds. Every file holds the key
of its run; files with another key are not used.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transferclf.exceptions import InvalidParameterError, warn
from transferclf.persistence.archive import replaced
from transferclf.reports.names import jsonable
from transferclf.reports.tables import Row

try:
    import fcntl
except ImportError:  # Windows: two processes may do the same fold, with the same result
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # increased when older versions cannot read the files

RUN = "run.json"
MODEL = "model.transferclf"

_AGAIN = "Its part of the run is done again"

_LONGEST = 40  # characters of a run's name in the name of its folder
_DIGITS = 12  # of each digest in the name of a folder
_OURS = re.compile(f"(-[0-9a-f]{{{_DIGITS}}}){{2}}$")


class RunFolder:
    """The folder of one run; `key` is the SHA-256 of its parameters and data."""

    def __init__(self, directory: Path, name: str, key: str):
        self.name, self.key = name, key
        self.path = directory / f"{_stem(name)}-{key[:_DIGITS]}"
        self.model = self.path / MODEL

    def siblings(self) -> list[Path]:
        """Return the folders of runs of the same name with another key, the latest first."""
        times = {
            path: (known_facts(path / RUN) or {}).get("begun", 0)
            for path in self.path.parent.glob(f"{_stem(self.name)}-*")
            if path != self.path and len(path.name) == len(self.path.name)
        }
        return sorted(filter(times.get, times), key=times.__getitem__, reverse=True)

    def begin(self, facts: Row) -> None:
        """Make the folder, and write the run's facts with the time.

        A file in the way, or a folder of a newer format, is an InvalidParameterError.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InvalidParameterError(f"expected {self.path} to be a folder, got a file: move it")
        self.path.mkdir(parents=True, exist_ok=True)
        known = _read(self.path / RUN) or {}
        if known.get("format", FORMAT) > FORMAT:
            raise InvalidParameterError(
                f"{self.path} has format {known['format']}, and this version of transferclf reads "
                f"formats up to {FORMAT}: upgrade the package or choose another directory"
            )
        mark = {"format": FORMAT, "name": self.name, "key": self.key, "begun": time.time()}
        write_json(self.path / RUN, facts | mark)

    def fold(self, number: int) -> Row | None:
        """Return the facts of a fold that has ended, or None."""
        facts = _read(path := self._file(number))
        if facts is None:
            return None
        if facts.get("key") != self.key or facts.get("fold") != number or "metrics" not in facts:
            warn(f"{path} is not used: it belongs to another run. {_AGAIN}")
            return None
        return facts

    def keep_fold(self, number: int, facts: Row) -> None:
        """Write the facts of a fold that has ended."""
        write_json(self._file(number), facts | {"key": self.key, "fold": number})

    def failure(self) -> Row | None:
        """Return the error that ended the run when it was last tried, or None."""
        facts = _read(self.path / "error.json")
        return facts if facts is not None and facts.get("key") == self.key else None

    def keep_failure(self, facts: Row | None) -> None:
        """Write the facts of an error; None removes it."""
        path = self.path / "error.json"
        if facts is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, facts | {"key": self.key})

    @contextmanager
    def claimed(self, what: str, wait: bool) -> Iterator[bool]:
        """Lock a piece of the run for this process, and yield whether that was possible.

        The system releases the lock when the process ends, even if it is killed. On file systems
        without locks every process may work; nothing is damaged, since files are replaced whole.
        """
        path = self.path / f"{what}.lock"
        with open(path, "a") as file:
            if not _is_locked(file.fileno(), wait):
                yield False
                return
            try:
                yield True
            finally:
                # A process that waits for the removed file then looks for the result again.
                with suppress(OSError):
                    os.remove(path)

    def _file(self, number: int) -> Path:
        return self.path / f"fold-{number:03}.json"


def begun_runs(directory: Path) -> dict[str, tuple[RunFolder, Row]]:
    """Return the latest run of each name in a folder with its facts, in order of their begin."""
    found = []
    for path in sorted(directory.glob(f"*/{RUN}")):
        if not _OURS.search(path.parent.name):
            continue
        facts = _read(path)
        if facts is None or not {"name", "key", "begun", "folds", "metric"} <= set(facts):
            continue
        folder = RunFolder(directory, facts["name"], facts["key"])
        if folder.path == path.parent and facts["format"] <= FORMAT:
            found.append((facts["begun"], facts["name"], folder, facts))
    found.sort(key=lambda run: run[:2])
    return {name: (folder, facts) for _, name, folder, facts in found}


def write_json(path: Path, facts: Row) -> None:
    """Write facts to a file, whole or not at all; numbers that are not finite become null."""
    text = json.dumps(jsonable(facts), allow_nan=False, indent=1)
    with replaced(path) as file:
        file.write(text.encode())


def _stem(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain or 'run'}-{digest[:_DIGITS]}"


def _read(path: Path) -> Row | None:
    """Return the facts of a file; None where there is none, or it is damaged, with a warning."""
    if not path.exists():
        return None
    facts = known_facts(path)
    if facts is None or not isinstance(facts.get("key"), str):
        warn(f"{path} is not used: it is damaged or was written by something else. {_AGAIN}")
        return None
    return facts


def known_facts(path: Path) -> Row | None:
    """Return the dict in a JSON file, or None where there is none that can be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _is_locked(descriptor: int, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
