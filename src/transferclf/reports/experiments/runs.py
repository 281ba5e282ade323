"""The folder of one run: a JSON file for each fold, written whole when the fold ends.

A run's folder is named by its name, and by digests of the name and of parameters and data. So no
two names share a folder on any file system, and neither do two different runs of one name. Nothing
is overwritten, and a run that goes back to old parameters finds its folds. Every file names its
run; a file that does not is not used.
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
from typing import Any

from transferclf.exceptions import InvalidParameterError, warn
from transferclf.persistence.archive import replaced
from transferclf.reports.names import jsonable

try:
    import fcntl
except ImportError:  # Windows: two processes may do the same fold twice, to the same end
    fcntl = None  # type: ignore[assignment]

# Raised when older versions could not read the files.
FORMAT = 1

RUN = "run.json"
MODEL = "model.transferclf"

_LONGEST = 40  # characters of a name that go into the folder's
_DIGITS = 12  # of each digest
_OURS = re.compile(f"(-[0-9a-f]{{{_DIGITS}}}){{2}}$")


class RunFolder:
    """The folder of one run; `key` is the SHA-256 of its parameters and data."""

    def __init__(self, directory: Path, name: str, key: str):
        self.name, self.key = name, key
        self.path = directory / f"{_stem(name)}-{key[:_DIGITS]}"

    @property
    def model(self) -> Path:
        """The file of the model."""
        return self.path / MODEL

    def siblings(self) -> list[Path]:
        """Return the folders of runs of the same name with another key, the latest first."""
        stem = _stem(self.name)
        others = [
            path
            for path in self.path.parent.glob(f"{stem}-*")
            if path != self.path and len(path.name) == len(self.path.name)
        ]
        times = {path: (known_facts(path / RUN) or {}).get("begun", 0) for path in others}
        return sorted((path for path in others if times[path]), key=times.__getitem__, reverse=True)

    def begin(self, facts: dict[str, Any]) -> None:
        """Make the folder, and write the run's facts as those of the latest run of its name.

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

    def fold(self, number: int) -> dict[str, Any] | None:
        """Return the facts of a fold that has ended, or None."""
        path = self._file(number)
        facts = _read(path)
        if facts is None:
            return None
        if facts.get("key") != self.key or facts.get("fold") != number or "metrics" not in facts:
            _warn_of_damage(path, "it belongs to another run")
            return None
        return facts

    def keep_fold(self, number: int, facts: dict[str, Any]) -> None:
        """Write the facts of a fold that has ended."""
        write_json(self._file(number), facts | {"key": self.key, "fold": number})

    def failure(self) -> dict[str, Any] | None:
        """Return the error that ended the run when it was last tried, or None."""
        facts = _read(self.path / "error.json")
        return facts if facts is not None and facts.get("key") == self.key else None

    def keep_failure(self, facts: dict[str, Any] | None) -> None:
        """Write the facts of an error; None removes it."""
        if facts is not None:
            write_json(self.path / "error.json", facts | {"key": self.key})
            return
        with suppress(FileNotFoundError):
            os.remove(self.path / "error.json")

    @contextmanager
    def claimed(self, what: str, wait: bool) -> Iterator[bool]:
        """Lock a piece of the run for this process, and yield whether that was possible.

        The system gives the lock back when a process ends, however it ends. Where there are no
        such locks nobody is held up: files are replaced whole, so nothing is damaged.
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


def begun_runs(directory: Path) -> dict[str, tuple[RunFolder, dict[str, Any]]]:
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


def write_json(path: Path, facts: dict[str, Any]) -> None:
    """Write facts to a file, whole or not at all; numbers that are not finite become null."""
    text = json.dumps(jsonable(facts), allow_nan=False, indent=1)
    with replaced(path) as file:
        file.write(text.encode())


def _stem(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain or 'run'}-{digest[:_DIGITS]}"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the facts of a file; None where there is none, or it is damaged, with a warning."""
    if not path.exists():
        return None
    facts = known_facts(path)
    if facts is None or not isinstance(facts.get("key"), str):
        _warn_of_damage(path, "it is damaged or was written by something else")
        return None
    return facts


def known_facts(path: Path) -> dict[str, Any] | None:
    """Return the dict in a JSON file, or None where there is none that can be read."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _warn_of_damage(path: Path, problem: str) -> None:
    warn(f"{path} is not used: {problem}. What it should hold is done again")


def _is_locked(descriptor: int, wait: bool) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
