"""The memory that control groups leave to this process: containers and batch systems limit it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Where Linux says which groups a process is in, and what they may use.
OWN_GROUPS, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class _Names(NamedTuple):
    """The files of a group, and the entry of its statistics that counts what files have cached."""

    most: str
    used: str
    cached: str


_SECOND = _Names("memory.max", "memory.current", "inactive_file")
_FIRST = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def room() -> int | None:
    """Return the bytes that all groups of this process leave to it, or None without a limit.

    Memory that holds contents of files counts as free, because it is given back when it is needed.
    Source: "Control Group v2" and "Memory Resource Controller", in the documentation of Linux.
    """
    left = [_left(folder, names) for folder, names in _groups()]
    return min((each for each in left if each is not None), default=None)


def _groups() -> Iterator[tuple[Path, _Names]]:
    """Yield the group of this process and those around it, of both versions."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, group_of = line.partition(":")
        controllers, _, path = group_of.partition(":")
        if not controllers:
            names, root = _SECOND, GROUPS
        elif "memory" in controllers.split(","):
            names, root = _FIRST, GROUPS / "memory"
        else:
            continue
        # In a container the files of its own group may be at the root, and `path` outside of it.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            yield folder, names
            if folder == root:
                break


def _left(group: Path, names: _Names) -> int | None:
    """Return the bytes that a group leaves, or None if it has no limit."""
    try:
        most, used = (int((group / name).read_text()) for name in (names.most, names.used))
    except (OSError, ValueError):  # "max" is no number, and no limit
        return None
    return max(0, most - used + _cached(group, names))


def _cached(group: Path, names: _Names) -> int:
    try:
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(facts[names.cached])
    except (OSError, KeyError, ValueError):
        return 0
