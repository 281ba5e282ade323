"""Results as text, CSV and JSON, safe to show and to open.

Names of files and classes may come from anybody. In a terminal, control characters would move the
cursor or change titles. A spreadsheet would compute a cell that begins like a formula.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from numbers import Integral, Real

import click

from transferclf._printing import printable

# Spreadsheets take the wide forms for formulas too.
_BEGIN_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def escaped(text: str) -> str:
    r"""Return a text with escapes such as \x1b for all characters but printable ones and "\n"."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else _code(letter) for letter in text
    )


def one_line(text: object) -> str:
    """Return a text on one line, with escapes for other characters that cannot be printed."""
    return escaped(" ".join(str(text).split()))


def named(name: object) -> str:
    r"""Return the name of a file or class, with escapes also for line breaks."""
    return escaped(str(name)).replace("\n", "\\n")


def _code(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def show(text: str) -> None:
    """Print a result on the standard output."""
    click.echo(printable(text))


def show_json(value: object) -> None:
    """Print a result as JSON, in ASCII; numbers that are not finite are null."""
    from transferclf.reports.names import jsonable

    show(json.dumps(jsonable(value), indent=1, allow_nan=False))


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values in two columns, without values that are None or empty."""
    kept = {name: str(value) for name, value in facts.items() if value not in (None, "", [], {})}
    width = max(map(len, kept), default=0)
    show("\n".join(f"{name.ljust(width)}  {value}" for name, value in kept.items()))


def show_table(rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns of equal widths, without a header."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        show("  ".join(map(str.ljust, row, widths)).rstrip())


def show_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as CSV. A cell that begins like a formula gets an apostrophe before it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_harmless, header))
    writer.writerows(map(_harmless, row) for row in rows)
    show(text.getvalue().rstrip("\n"))


def _harmless(value: object) -> str:
    text = _cell(value, digits=6)
    is_formula = not isinstance(value, Real) and text.lstrip().startswith(_BEGIN_FORMULA)
    return f"'{text}" if is_formula else text


def _cell(value: object, digits: int = 3) -> str:
    if value is None:
        return ""
    if isinstance(value, Real) and not isinstance(value, Integral):
        return f"{float(value):.{digits}f}"
    return named(value)


@contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Let everything that the package prints while it works go to the standard error."""
    with redirect_stdout(sys.stderr):
        yield
