"""How the benchmarks measure: in turns, the median of CPU seconds and the best of wall seconds.

A process may share its cores with others, which stretches its wall time and leaves its CPU time
much as it is: ratios are therefore of medians of CPU time, and the best wall time stands beside.
What would profit from what came before it (compiled networks, warm stores) runs in a new process
each time, and measures itself there, so that starting Python and importing is not counted unless
a table says so.

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
    """What one run took: CPU seconds of all threads, and wall seconds."""

    cpu: float
    wall: float

    def __mul__(self, factor: float) -> Usage:
        return Usage(self.cpu * factor, self.wall * factor)


class Timing(NamedTuple):
    """What several runs took: the median of CPU seconds, and the best of wall seconds."""

    cpu: float
    wall: float

    def __mul__(self, factor: float) -> Timing:
        return Timing(self.cpu * factor, self.wall * factor)


class Claim(NamedTuple):
    """Something that was promised, and what was measured.

    Attributes
    ----------
    what : str
        In words, with its unit.
    measured, bound : float
        The figure and where it may end.
    at_least : bool
        Whether `bound` is the least, and not the most, that is promised.
    """

    what: str
    measured: float
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the figure keeps the promise; one that is no number does not."""
        if self.at_least:
            return self.measured >= self.bound
        return self.measured <= self.bound


class Options(NamedTuple):
    """What the command line says: `quick` tries the script out and shows nothing."""

    quick: bool = False
    rounds: int = ROUNDS


def usage_of(run: Callable[[], Any]) -> Usage:
    """Run it once, and return what that took in this process."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Usage(time.process_time() - cpu, time.perf_counter() - wall)


def timings(candidates: Mapping[str, Callable[[], Usage]], rounds: int) -> dict[str, Timing]:
    """Let the candidates take turns; each says itself what its turn took."""
    usages: dict[str, list[Usage]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            usages[name].append(run())
    return {name: timing(each) for name, each in usages.items()}


def timing(usages: Sequence[Usage]) -> Timing:
    """The median of CPU seconds and the best of wall seconds."""
    return Timing(statistics.median(it.cpu for it in usages), min(it.wall for it in usages))


def timings_here(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Timing]:
    """The same for functions of this process, each of which has one turn before, not counted."""
    for run in candidates.values():
        run()
    return timings({name: _turn(run) for name, run in candidates.items()}, rounds)


def _turn(run: Callable[[], Any]) -> Callable[[], Usage]:
    return lambda: usage_of(run)


def ratio_of(timed: Mapping[str, Timing], slow: str, fast: str) -> float:
    """How many times the CPU seconds of `fast` those of `slow` are."""
    return timed[slow].cpu / timed[fast].cpu


def timing_table(
    timed: Mapping[str, Timing], *, what: str = "what", unit: float = 1.0, name: str = "s"
) -> str:
    """A line for each candidate; ratios are to the first, and figures in units of seconds."""
    first = next(iter(timed.values())).cpu
    rows = [
        (each, number(it.cpu / unit), number(it.wall / unit), number(it.cpu / first))
        for each, it in timed.items()
    ]
    return table((what, f"CPU {name}, median", f"wall {name}, best", "ratio of CPU"), rows)


def claims_table(claims: Iterable[Claim]) -> str:
    """A line for each promise, with what was measured and whether it holds; empty without any."""
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
    """The figure of a claim; one that misses its bound by less than its last digit says so."""
    shown = number(claim.measured)
    if claim.holds or shown != number(claim.bound):
        return shown
    return f"{'<' if claim.at_least else '>'} {shown}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left and figures to the right."""
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three digits that say something, and no exponent where there need be none."""
    if value != value or value == 0 or not 1e-3 <= abs(value) < 1e7:
        return f"{value:.3g}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:#.3g}"


def resident_bytes(pid: int | str = "self") -> int:
    """Memory that a process has in use now; of this one its peak where only that is known."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        if pid != "self":
            raise
        return peak_bytes()
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most memory that this process has had in use so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def child_result(function: Callable[..., Any], **arguments: Any) -> Any:
    """Call a function of a script in a new process of its own, and return what it returned.

    The function must be one of those that the script gives to :func:`start`.

    Raises
    ------
    RuntimeError
        If it failed; with all that the process wrote.
    """
    script = inspect.getfile(function)
    command = [sys.executable, script, "--child", function.__name__, json.dumps(arguments)]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(
            f"expected {function.__name__} of {Path(script).name} to end well, "
            f"got exit status {done.returncode}:\n{done.stdout}\n{done.stderr}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def usage_in_child(function: Callable[..., Any], **arguments: Any) -> Callable[[], Usage]:
    """For :func:`timings`: each turn in a new process, whose "usage" is what counts."""
    return lambda: Usage(*child_result(function, **arguments)["usage"])


def start(main: Callable[[Options], None], children: Sequence[Callable[..., Any]] = ()) -> None:
    """Do what the command line says: all of a script, or one of its functions for the parent."""
    parser = argparse.ArgumentParser(description=inspect.getmodule(main).__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the script out")
    parser.add_argument("--rounds", type=int, default=None, help=f"turns each, {ROUNDS} if not set")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, values = arguments.child
        function = {child.__name__: child for child in children}[name]
        print("\n" + json.dumps(function(**json.loads(values))))
        return
    rounds = arguments.rounds or (1 if arguments.quick else ROUNDS)
    main(Options(arguments.quick, rounds))
