"""Keep the measured tables of all pages in one file, `benchmarks/results/figures.json`.

    python benchmarks/figures.py run NAME benchmarks/accuracy.py [ARGUMENTS]
    python benchmarks/figures.py take NAME PAGE HEADING --command "python ..." [--table 2]
    python benchmarks/figures.py pages

"run" runs a script, records the tables that it prints as NAME, "NAME 2" and so on, and writes them
over their former figures on all pages. "take" records a table that you put together by hand; it is
read from the page, below a heading. "pages" notes on which pages each recorded table stands; call
it after you moved, copied or removed one. `run.py` records its tables itself.

A record has the command, date and machine of the measurement, the pages, and the cells as text. For
measurements before this file was made, the date is that of the page.
`tests/test_documents_measured.py` compares all tables with the records, and
`tests/test_documents_sentences.py` sentences.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("results") / "figures.json"
LINES = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
# A cell ends at a bar between blanks: bars inside of code have none.
BAR = re.compile(r"(?<=\s)\|(?=\s)")

Records = dict[str, dict[str, Any]]


class Table(NamedTuple):
    """The cells of a Markdown table, as text."""

    columns: list[str]
    rows: list[list[str]]


def tables(text: str) -> Iterator[Table]:
    """Return the tables of a Markdown text."""
    return map(parsed, LINES.findall(text))


def parsed(lines: str) -> Table:
    """Return the table that is written in these lines."""
    columns, _, *rows = [
        [cell.strip() for cell in BAR.split(line.strip()[1:-1])] for line in lines.splitlines()
    ]
    return Table(columns, rows)


def table_of(record: dict[str, Any]) -> Table:
    return Table(record["columns"], record["rows"])


def read(file: Path = FILE) -> Records:
    return json.loads(file.read_text(encoding="utf-8"))


def write(records: Records, file: Path = FILE) -> None:
    """Write the records, with a line for each row of a table."""
    parts = []
    for name, record in records.items():
        facts = [f"  {dump(key)}: {dump(record[key])}" for key in record if key != "rows"]
        rows = ",\n".join(f"   {dump(row)}" for row in record["rows"])
        body = ",\n".join([*facts, f'  "rows": [\n{rows}\n  ]'])
        parts.append(f" {dump(name)}: {{\n{body}\n }}")
    file.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def pages(root: Path = ROOT) -> dict[str, str]:
    """Return the texts of all pages that are written by hand or by `run.py`, by name."""
    found = [
        path
        for pattern in ("*.md", "docs/**/*.md", "tools/*/*.md")
        for path in root.glob(pattern)
        if "generated" not in path.parts and "_build" not in path.parts
    ]
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(found)
    }


def numbered(name: str, found: list[Table]) -> dict[str, Table]:
    """Return tables by name: NAME, "NAME 2" and so on."""
    return {name if i == 0 else f"{name} {i + 1}": table for i, table in enumerate(found)}


def recorded(
    records: Records, new: dict[str, Table], command: str, machine: str, page: str | None = None
) -> Records:
    """Return the records with new tables; each keeps the pages of its former figures."""
    facts = {"command": command, "date": f"{datetime.date.today()}", "machine": machine}
    fresh = {}
    for name, table in new.items():
        on = records.get(name, {}).get("pages", [])
        on = sorted({*on, page}) if page else on
        fresh[name] = {**facts, "pages": on, "columns": table.columns, "rows": table.rows}
    return records | fresh


def write_pages(before: Records, after: Records, root: Path = ROOT) -> None:
    """Write new figures over the former ones on the pages."""
    for name in before.keys() & after.keys():
        old, new = table_of(before[name]), table_of(after[name])
        for page in after[name]["pages"] if old != new else []:
            path = root / page
            text, n_found = replaced(path.read_text(encoding="utf-8"), old, new)
            path.write_text(text, encoding="utf-8")
            print(f"{name}: written to {page} {n_found} times", file=sys.stderr)


def replaced(text: str, old: Table, new: Table) -> tuple[str, int]:
    """Return the text with a table in the place of another, and how often that stood there."""
    n_found = 0

    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |\n".replace("|  |", "| |")

    def exchange(match: re.Match[str]) -> str:
        nonlocal n_found
        if parsed(match[0]) != old:
            return match[0]
        n_found += 1
        ruler = match[0].splitlines(keepends=True)[1]
        if len(old.columns) != len(new.columns):
            ruler = line(["---"] + ["---:"] * (len(new.columns) - 1))
        return line(new.columns) + ruler + "".join(map(line, new.rows))

    return LINES.sub(exchange, text), n_found


def run(name: str, command: list[str], root: Path = ROOT, file: Path = FILE) -> None:
    """Run a script, record what it prints, and write it into the pages."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env=environment, check=False
    )
    print(done.stdout)
    found = [*tables(done.stdout + "\n")]
    if done.returncode or not found:
        sys.exit(f"nothing is recorded: exit status {done.returncode}, {len(found)} tables")
    before = read(file)
    shown = shlex.join(["python", *command])
    after = recorded(before, numbered(name, found), shown, machine_line())
    write_pages(before, after, root)
    write(after, file)


def take(
    name: str, page: str, heading: str, nth: int, command: str, root: Path = ROOT, file: Path = FILE
) -> None:
    """Record a table of a page."""
    _, _, below = (root / page).read_text(encoding="utf-8").partition(f"\n{heading}\n")
    found = [*tables(re.split(r"^#+ ", below, flags=re.MULTILINE)[0] + "\n")]
    if len(found) < nth:
        sys.exit(f"expected table {nth} below {heading!r} in {page}, got {len(found)} tables")
    write(recorded(read(file), {name: found[nth - 1]}, command, machine_line(), page), file)


def find_pages(root: Path = ROOT, file: Path = FILE) -> None:
    """Note on which pages each recorded table stands."""
    records = read(file)
    found = {page: [*tables(text + "\n")] for page, text in pages(root).items()}
    for name, record in records.items():
        now = [page for page, those in found.items() if table_of(record) in those]
        if now != record["pages"]:
            print(f"{name}: {record['pages']} before, {now} now")
        record["pages"] = now
    write(records, file)


def machine_line() -> str:
    """Return the machine in general words, in one line."""
    from machine import machine_facts

    machine, flags, *_ = machine_facts().splitlines()
    return f"{machine.removeprefix('- ')}, {flags.removeprefix('- ')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = parser.add_subparsers(dest="job", required=True)
    job = jobs.add_parser("run", help="run a script, and record its tables")
    job.add_argument("name")
    job.add_argument("script")
    job.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script")
    job = jobs.add_parser("take", help="record a table of a page")
    job.add_argument("name")
    job.add_argument("page")
    job.add_argument("heading", help='as it is written, such as "## How good"')
    job.add_argument("--table", type=int, default=1, help="which one below the heading")
    job.add_argument("--command", required=True, help="what measured it")
    jobs.add_parser("pages", help="find the pages of all recorded tables again")
    asked = parser.parse_args()
    if asked.job == "run":
        run(asked.name, [asked.script, *asked.arguments])
    elif asked.job == "take":
        take(asked.name, asked.page, asked.heading, asked.table, asked.command)
    else:
        find_pages()


if __name__ == "__main__":
    main()
