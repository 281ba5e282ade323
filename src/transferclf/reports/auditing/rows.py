"""Rows of the tables of an audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame

# An image is odd if its distance is more deviations above the median than this: Iglewicz and
# Hoaglin, "How to Detect and Handle Outliers" (1993), propose 3.5.
ODD = 3.5


def rows_about(about: DataFrame, chosen: list[int] | np.ndarray, **columns: Any) -> DataFrame:
    """Return the rows of a table about chosen images, with further columns."""
    return about.iloc[chosen].reset_index(drop=True).assign(**columns)


def worst_first(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the positions of chosen values, the lowest value first."""
    order = np.argsort(values, kind="stable")
    return order[chosen[order]]
