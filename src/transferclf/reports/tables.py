"""Tables that reports return: data frames of pandas, and their rows as plain dicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from transferclf.reports.extras import extra

if TYPE_CHECKING:
    from pandas import DataFrame

Row = dict[str, Any]


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> DataFrame:
    """A data frame with these columns, also where there are no rows."""
    return extra("pandas").DataFrame(list(rows), columns=list(columns))


def rows_of(table: DataFrame | Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of a data frame, or of a list of dicts, as dicts with None in the place of NaN."""
    rows = table if isinstance(table, Sequence) else table.to_dict("records")
    return [{str(name): _none_for_nan(value) for name, value in row.items()} for row in rows]


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
