"""Whether a network fits into memory, known before any of it is made."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from transferclf._checks import is_number, refuse
from transferclf.exceptions import InvalidParameterError
from transferclf.training import control_groups

# While a weight is trained there are, in float32: itself, its gradient, two numbers that Adam
# remembers, and copies of all but the gradient to restart from and to go back to.
BYTES_PER_WEIGHT = 4 * 10

GIGABYTE = 1e9

# Bytes of each unit in a size such as "1.5GiB".
_PREFIXES = ("", "k", "m", "g", "t")
_UNITS = {f"{name}b": 1000**power for power, name in enumerate(_PREFIXES)}
_UNITS |= {f"{name}ib": 1024**power for power, name in enumerate(_PREFIXES) if name}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?b)\s*", re.ASCII | re.IGNORECASE)

# More features than any backbone gives; a head that fits on so many fits on any.
MANY_FEATURES = {"auto": 2**14, "avg": 2**14, "max": 2**14, "flatten": 2**19}


def n_dense_weights(widths: Sequence[int]) -> int:
    """Return the number of weights of dense layers of these widths, the input first.

    Examples
    --------
    >>> n_dense_weights([10, 4, 3])
    59
    """
    return sum((before + 1) * after for before, after in itertools.pairwise(widths))


def free_memory() -> int | None:
    """Return the memory that this process may still take, or None where the system does not say it.

    Limits of containers and batch systems count. A system other than Linux only tells how much
    memory there is.
    """
    amounts = [each for each in (_available(), control_groups.room()) if each is not None]
    return min(amounts, default=None)


def _available() -> int | None:
    """Return the memory that is free on this machine."""
    try:
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def bytes_of(max_memory: object) -> int | None:
    """Return a size in bytes that is given as a number or a text, such as "1.5GiB" or "500MB".

    "auto" is half of the free memory; it is None, for no limit, where that is not known.
    InvalidParameterError is raised for anything else.

    Examples
    --------
    >>> bytes_of("1.5GiB")
    1610612736
    """
    if isinstance(max_memory, str) and max_memory == "auto":
        free = free_memory()
        return None if free is None else free // 2
    size: float = math.nan
    if isinstance(max_memory, str):
        match = _SIZE.fullmatch(max_memory)
        size = float(match[1]) * _UNITS.get(match[2].lower(), math.nan) if match else math.nan
    elif is_number(max_memory):
        size = max_memory
    if not 1 <= size < math.inf:
        expected = "'auto', a number of bytes of at least 1, or a size such as '1GB' or '1.5GiB'"
        refuse("max_memory", expected, max_memory)
    return int(size)


def fits(n_weights: int) -> bool:
    """Return whether a network of so many weights can be trained in the free memory."""
    free = free_memory()
    return free is None or n_weights * BYTES_PER_WEIGHT <= free


def check_fits(n_weights: int, what: str, hint: str) -> None:
    """Raise InvalidParameterError if a network cannot be trained in the free memory.

    The message names it by `what` and ends in `hint`.
    """
    if not fits(n_weights):
        free = free_memory() or 0
        raise InvalidParameterError(
            f"{what} has {n_weights:,} weights. Training them takes about "
            f"{n_weights * BYTES_PER_WEIGHT / GIGABYTE:,.0f} GB of memory, and "
            f"{free / GIGABYTE:,.1f} GB are free. {hint}"
        )
