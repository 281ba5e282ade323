"""Tables that reports return: data frames where pandas is installed, lists of rows elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transferclf._printing import printable
from transferclf.reports.names import short_name

Row = dict[str, Any]

# Cells are cut to so many characters in text, and tables to so many rows.
CELL = 40
SHOWN = 60


class Rows(list[Row]):
    """A table without pandas: a list of dicts with the same keys, and a readable text.

    Parameters
    ----------
    rows : sequence of dict
        From column to value.
    columns : sequence of str
        The columns in order.

    Examples
    --------
    >>> print(Rows([{"name": "a", "score": 0.5}], ["name", "score"]))
    name  score
    a     0.500
    """

    def __init__(self, rows: Sequence[Row] = (), columns: Sequence[str] = ()):
        super().__init__(rows)
        self.columns = list(columns)

    def __str__(self) -> str:
        return printable(text_of(self, self.columns))


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Any:
    """Rows as a table.

    Parameters
    ----------
    rows : sequence of dict
        From column to value; a column that is missing is None.
    columns : sequence of str
        The columns in order, also of a table without rows.

    Returns
    -------
    pandas.DataFrame or Rows
        A data frame where pandas is installed.

    Examples
    --------
    >>> len(table_of([{"name": "a"}], ["name", "score"]))
    1
    """
    whole = [{column: row.get(column) for column in columns} for row in rows]
    pandas = _pandas()
    return pandas.DataFrame(whole, columns=list(columns)) if pandas else Rows(whole, columns)


def rows_of(table: Any) -> list[Row]:
    """The rows of a table of either kind as dicts; what is not a number there is None.

    Examples
    --------
    >>> rows_of(table_of([{"name": "a"}], ["name", "score"]))
    [{'name': 'a', 'score': None}]
    """
    rows = table.to_dict("records") if hasattr(table, "to_dict") else table
    return [{name: _none_for_nan(value) for name, value in row.items()} for row in rows]


def text_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table as lines of text, cut where it is long or wide.

    Examples
    --------
    >>> print(text_of([{"name": "a", "n": 3}, {"name": "bb", "n": None}], ["name", "n"]))
    name  n
    a     3
    bb
    """
    cells = [
        [short_name(name, CELL) for name in columns],
        *([_cell(row.get(name)) for name in columns] for row in rows[:SHOWN]),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    more = [f"... and {len(rows) - SHOWN} more rows"] if len(rows) > SHOWN else []
    return "\n".join(lines + more)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        return None
    return pandas


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else short_name(value, CELL)
