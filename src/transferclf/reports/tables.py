"""Tables that reports return, and the libraries of the extra `reports`, imported when used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.exceptions import how_to_install

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]


def extra(name: str) -> Any:
    """Import a module of the extra `reports`; the ImportError says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError(
            f"This part of transferclf.reports needs {name.partition('.')[0]}, which is not "
            "installed. " + how_to_install("reports")
        ) from None


def table_of(rows: Sequence[Row] | DataFrame, columns: Sequence[str]) -> DataFrame:
    """Return a data frame with these columns, also where there are no rows."""
    return extra("pandas").DataFrame(rows, columns=list(columns))


def rows_of(table: DataFrame | Sequence[Mapping[str, object]]) -> list[Row]:
    """Return the rows of a table as dicts, with None in the place of NaN."""
    rows: Any = table if isinstance(table, Sequence) else table.to_dict("records")
    return [
        {
            str(name): None if isinstance(value, float) and np.isnan(value) else value
            for name, value in row.items()
        }
        for row in rows
    ]
