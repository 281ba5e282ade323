"""Run all benchmarks, each in its own process, and write one Markdown page of their tables.

    python benchmarks/run.py [--quick] [--rounds 5] [--only store]
        [--output docs/explanation/benchmarks.md]

With `--only`, an existing page keeps its other sections, and the number of claims that hold is
counted from all its tables. `--only` without names measures nothing and counts again. Tables of
docs/explanation/benchmarks.md are recorded in `benchmarks/results/figures.json` (`figures.py`).

Scripts that need photographs are not run: `accuracy.py`, `defaults.py`, `exporting.py`,
`fine_tuning_quality.py`, `fine_tuning_rules.py`, `numbers_target.py`, `targets.py`,
`tiny_scratch.py` and `unknowns.py`. Neither are `beyond_memory.py`, which needs gigabytes of disk,
`cluster.py`, which needs Dask and two free cores, and `scaling_model.py`, which is a simulation.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import figures
from machine import machine_facts

SCRIPTS = (
    "search",
    "one_pass",
    "forward",
    "tiny_speed",
    "fine_tuning",
    "training_step",
    "heads",
    "pipeline_memory",
    "single_image",
    "decoding",
    "store",
    "scaling",
    "memory",
)
PAGE = "docs/explanation/benchmarks.md"
# The beginning of a section; the group is the name of its script.
SECTION = re.compile(r"^## .+\n\n`python benchmarks/(\w+)\.py`$", re.MULTILINE)
HEADER = """# Benchmarks

With this page you can compare the speed and memory of this package with other ways to the same
result. `python benchmarks/run.py --output docs/explanation/benchmarks.md` writes it.

The candidates of a table take turns in several rounds. CPU seconds are medians over the rounds,
summed over all threads. Wall seconds are the best round. Ratios are of CPU seconds. Images and
weights are random, because speed depends on neither.

A claim is a promised bound; it holds if the measured value keeps it. A "bare" engine is called by a
few lines of code that do nothing else. A "limit" does only the unavoidable work. A cold store is
empty; a warm store holds the features of all images.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test")
    parser.add_argument(
        "--rounds", type=int, help="turns of each candidate; default: the script's own"
    )
    parser.add_argument(
        "--only", nargs="*", metavar="SCRIPT", default=SCRIPTS,
        help=f"sections to measure, from {', '.join(SCRIPTS)}; without names none",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, help="file of the page; by default it is printed")
    arguments = parser.parse_args()
    if unknown := sorted({*arguments.only} - {*SCRIPTS}):
        parser.error(f"expected scripts from {', '.join(SCRIPTS)}; got {', '.join(unknown)}")
    flags = ["--quick"] * arguments.quick
    if arguments.rounds:
        flags.append(f"--rounds={arguments.rounds}")
    page = Page("", {})
    if arguments.output and arguments.output.exists():
        page = read_page(arguments.output.read_text(encoding="utf-8"))
    if not arguments.only and not page.sections:
        parser.error("--only without names needs an --output that this program wrote before")
    page = page.updated(
        Page(machine_facts(), {name: section(name, flags) for name in arguments.only})
    )
    if arguments.output:
        arguments.output.write_text(page.text(), encoding="utf-8")
        if arguments.output.resolve() == figures.ROOT / PAGE and not arguments.quick:
            before = figures.read()
            after = with_records(before, page, arguments.only)
            figures.write_pages(before, after)
            figures.write(after)
    else:
        print(page.text())


class Page(NamedTuple):
    """A page of measurements.

    Attributes
    ----------
    facts : str
        The machine and the libraries, a Markdown list.
    sections : dict of str to str
        What each script printed, with its heading, by the name of the script.
    """

    facts: str
    sections: dict[str, str]

    def text(self) -> str:
        """Return the page as Markdown, with claims counted from the tables of the sections."""
        sections = [self.sections[name] for name in SCRIPTS if name in self.sections]
        return "\n".join([HEADER, self.facts, summary(sections), *sections])

    def updated(self, new: Page) -> Page:
        """Return the new page, with the sections of this page that were not measured again."""
        kept = {name: text for name, text in self.sections.items() if name not in new.sections}
        if not kept:
            return new
        note = "Measured after the rest of this page, in a run of its own."
        if new.facts != self.facts:
            note += f"\n\n{new.facts.strip()}"
        noted = {name: with_note(text, note) for name, text in new.sections.items()}
        return Page(self.facts, kept | noted)


def with_records(records: figures.Records, page: Page, measured: Iterable[str]) -> figures.Records:
    """Return the records with the tables of new sections in the place of their old ones."""
    headline = summary([page.sections[name] for name in SCRIPTS if name in page.sections])
    scripts = {name: (name, page.sections[name]) for name in measured}
    for name, (script, text) in {"claims that do not hold": ("run", headline), **scripts}.items():
        new = figures.numbered(name, [*figures.tables(text)])
        number = re.compile(rf"{re.escape(name)}( \d+)?")
        kept = {it: records[it] for it in records if it in new or not number.fullmatch(it)}
        command = f"python benchmarks/{script}.py"
        records = figures.recorded(kept, new, command, figures.machine_line(), PAGE)
    return records


def read_page(text: str) -> Page:
    """Return the page from a text that this program wrote."""
    starts = [(match[1], match.start()) for match in SECTION.finditer(text)]
    names = [name for name, _ in starts]
    places = [place for _, place in starts] + [len(text)]
    parts = (text[place:end].strip() for place, end in itertools.pairwise(places))
    head = text[: places[0]].splitlines()
    facts = "".join(f"{line}\n" for line in head if line.startswith("- "))
    return Page(facts, {name: f"{part}\n" for name, part in zip(names, parts, strict=True)})


def with_note(section: str, note: str) -> str:
    """Return a section with a paragraph added below its heading and its command."""
    heading, command, rest = section.split("\n\n", 2)
    return "\n\n".join([heading, command, note, rest])


def section(name: str, flags: list[str]) -> str:
    """Return the output of a script, under the first line of its docstring."""
    print(f"{name}.py", file=sys.stderr, flush=True)
    script = Path(__file__).with_name(f"{name}.py")
    command = [sys.executable, str(script), *flags]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    printed = done.stdout.strip()
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        printed += f"\n\n`{name}.py` ended with exit status {done.returncode}."
    return f"## {title(script)}\n\n`python benchmarks/{name}.py`\n\n{printed.strip()}\n"


def title(script: Path) -> str:
    """Return the first line of a script's docstring, without its full stop."""
    first = script.read_text(encoding="utf-8").splitlines()[0]
    return first.strip('"').rstrip(".")


def summary(sections: list[str]) -> str:
    """Return the number of claims that hold, and a table of those that do not."""
    lines = [line for each in sections for line in each.splitlines()]
    held = [line for line in lines if line.endswith("| holds |")]
    missed = [line for line in lines if line.endswith("| does not hold |")]
    text = f"{len(held)} of {len(held) + len(missed)} claims hold."
    if missed:
        text += " These do not:\n\n| claim | promised | measured | result |\n|---|---:|---:|---:|\n"
        text += "\n".join(missed)
    return text + "\n"


if __name__ == "__main__":
    main()
