"""Measure candidates in turns: the median of CPU seconds and the best of wall seconds.

Other processes on the same cores increase wall time and hardly change CPU time. So ratios are
of medians of CPU time, and the best wall time is shown beside them.

A candidate that could use compiled networks or stored features of an earlier one runs in a new
process each time. It measures itself there, so starting Python and importing are not counted
unless a table says so.

Needs a system that has the `resource` module: Linux or macOS.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS = 3


class Usage(NamedTuple):
    """CPU seconds of all threads, and wall seconds, of one run."""

    cpu: float
    wall: float

    def __mul__(self, factor: float) -> Usage:
        return Usage(self.cpu * factor, self.wall * factor)


class Timing(NamedTuple):
    """Median of CPU seconds and best of wall seconds of several runs."""

    cpu: float
    wall: float

    def __mul__(self, factor: float) -> Timing:
        return Timing(self.cpu * factor, self.wall * factor)


class Claim(NamedTuple):
    """A promised bound and the measured value.

    Attributes
    ----------
    what : str
        Description, with its unit.
    measured, bound : float
        The measured value and its promised bound.
    at_least : bool
        Whether `bound` is the least value; else it is the largest.
    """

    what: str
    measured: float
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the value keeps the promise; NaN does not."""
        if self.at_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


class Options(NamedTuple):
    """Options of the command line; results of `quick` have no meaning."""

    quick: bool = False
    rounds: int = ROUNDS


def usage_of(run: Callable[[], Any]) -> Usage:
    """Run a function once, and return its time in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Usage(time.process_time() - cpu, time.perf_counter() - wall)


def timings(candidates: Mapping[str, Callable[[], Usage]], rounds: int) -> dict[str, Timing]:
    """Let the candidates take turns; each returns the time of its turn."""
    usages: dict[str, list[Usage]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            usages[name].append(run())
    return {name: timing(each) for name, each in usages.items()}


def timing(usages: Sequence[Usage]) -> Timing:
    """Return the median of CPU seconds and the best of wall seconds."""
    return Timing(statistics.median(it.cpu for it in usages), min(it.wall for it in usages))


def timings_here(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """Time functions of this process; each runs once before, which is not counted."""
    for run in candidates.values():
        run()
    return timings({name: _turn(run) for name, run in candidates.items()}, rounds)


def _turn(run: Callable[[], Any]) -> Callable[[], Usage]:
    return lambda: usage_of(run)


def ratio_of(timed: Mapping[str, Timing], slow: str, fast: str) -> float:
    """Return the CPU seconds of `slow` divided by those of `fast`."""
    return timed[slow].cpu / timed[fast].cpu


def timing_table(
    timed: Mapping[str, Timing], *, what: str = "what", unit: float = 1.0, name: str = "s"
) -> str:
    """Return a table with a row per candidate and its ratio to the first; `unit` is in seconds."""
    first = next(iter(timed.values())).cpu
    rows = [
        (each, number(it.cpu / unit), number(it.wall / unit), number(it.cpu / first))
        for each, it in timed.items()
    ]
    return table((what, f"CPU {name}, median", f"wall {name}, best", "ratio of CPU"), rows)


def claims_table(claims: Iterable[Claim]) -> str:
    """Return a table of claims, measured values and results; empty without claims."""
    rows = [
        (
            claim.what,
            f"{'≥' if claim.at_least else '≤'} {number(claim.bound)}",
            _measured(claim),
            "holds" if claim.holds else "does not hold",
        )
        for claim in claims
    ]
    return table(("claim", "promised", "measured", "result"), rows) if rows else ""


def _measured(claim: Claim) -> str:
    """Return the value of a claim, with < or > if it misses its bound by less than a digit."""
    shown = number(claim.measured)
    if claim.holds or shown != number(claim.bound):
        return shown
    return f"{'<' if claim.at_least else '>'} {shown}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, with the first column to the left and figures to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent if possible."""
    if value != value or value == 0 or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:#.3g}"


def resident_bytes(pid: int | str = "self") -> int:
    """Return the bytes that a process uses now; for this process its peak on some systems."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        if pid != "self":
            raise
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """Return the most bytes that this process has used so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child_result(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a function of a script in a new process, and return its result.

    The script must give the function to :func:`start`, or to :func:`answer`.

    Raises
    ------
    RuntimeError
        If the function failed; the message has the whole output of the process.
    """
    script = inspect.getfile(function)
    command = [sys.executable, script, "--child", function.__name__, json.dumps(arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(
            f"expected {function.__name__} of {Path(script).name} to succeed, "
            f"got exit status {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def usage_in_child(function: Callable[..., Any], **arguments: Any) -> Callable[[], Usage]:
    """Return a candidate for :func:`timings`: each turn is the "usage" of a new process."""
    return lambda: Usage(*child_result(function, **arguments)["usage"])


def start(main: Callable[[Options], None], children: Sequence[Callable[..., Any]] = ()) -> None:
    """Run a whole script, or one of its functions for the parent process."""
    parser = argparse.ArgumentParser(description=inspect.getmodule(main).__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    parser.add_argument("--rounds", type=int, default=None, help=f"turns of each, default {ROUNDS}")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        answer(arguments.child, children)
        return
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    main(Options(arguments.quick, rounds))


def answer(child: Sequence[str], children: Sequence[Callable[..., Any]]) -> None:
    """Call one of the functions, as :func:`child_result` asks for it, and print its result."""
    name, values = child
    function = {each.__name__: each for each in children}[name]
    print("\n" + json.dumps(function(**json.loads(values))))
