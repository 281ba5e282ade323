"""compare: test the differences between runs over the folds that they share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from transferclf._checks import check_number
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.reports.tables import Row, extra, rows_of, table_of

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("first", "second", "difference", "low", "high", "p", "p_holm", "holds")

# The standard deviation of the difference of two numbers that are each rounded to whole ones.
_ROUNDING = math.sqrt(2 / 12)


def compare(
    table: DataFrame | Sequence[Row], *, metric: str | None = None, alpha: float = 0.05
) -> DataFrame:
    """Test which differences between runs hold up.

    The best mean is often best by chance. Runs on the same folds are compared fold by fold, by a
    t-test whose variance is corrected for the training samples that the folds share.

    Parameters
    ----------
    table : DataFrame or list of dict
        From :func:`transferclf.reports.run_experiments`, with at least two runs on the same data
        and folds. Rows may be left out.
    metric : str or None, default=None
        A measure, such as "accuracy" or "loss"; None is the one by which the table is sorted.
    alpha : float, default=0.05
        The error rate over all pairs together; the intervals cover 1 - `alpha` each.

    Returns
    -------
    pandas.DataFrame
        One row a pair, in the order of the table: "first" and "second"; "difference" of the means,
        first minus second; "low" and "high", the ends of its confidence interval; "p"; "p_holm",
        adjusted for the number of pairs; and "holds", whether that is at most `alpha`.

    Raises
    ------
    ImportError
        If pandas is not installed.
    InvalidParameterError
        If there is one fold, or fewer than two runs, or they are of different data or folds, or
        the table has no such metric.

    Warns
    -----
    TransferclfWarning
        If runs with errors, or without this metric, are left out.

    Notes
    -----
    Let d_1 ... d_k be the differences of two runs on k folds, m their mean and s² their variance
    (with k - 1 in the denominator), and q the number of test samples over that of training samples.
    Then

        t = m / sqrt((1/k + q) s²)

    is compared with Student's distribution of k - 1 degrees of freedom, on both sides. The
    uncorrected test divides by sqrt(s²/k), as if the folds were independent, and too often finds
    differences that are not there: Nadeau and Bengio, "Inference for the Generalization Error",
    Machine Learning 52 (2003). With five folds, small differences do not hold even if they exist.

    P-values are adjusted by Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    Scandinavian Journal of Statistics 6 (1979).

    If all k differences are 0, p is 1. If they are the same and not 0, s is taken to be 0.41 /
    n_test, the deviation by rounding of the difference of two shares of n_test samples.

    Examples
    --------
    >>> scores = {"deep": [0.9, 0.94, 0.92, 0.95, 0.91], "flat": [0.8, 0.82, 0.83, 0.84, 0.8]}
    >>> table = [
    ...     {"name": name, "mean_accuracy": sum(folds) / 5}
    ...     | {"n_train": 400, "n_test": 100, "data": "the same"}
    ...     | {f"split{k}_accuracy": score for k, score in enumerate(folds)}
    ...     for name, folds in scores.items()
    ... ]
    >>> pairs = compare(table)
    >>> float(round(pairs["difference"][0], 3)), bool(pairs["holds"][0])
    (0.106, True)
    """
    extra("pandas")
    rows = rows_of(table)
    check_number("alpha", alpha, 0, 1, above=True, below=True)
    metric = metric or _sorted_by(rows)
    kept = _comparable(rows, metric)
    pairs = [_pair(one, other, metric, alpha) for one, other in itertools.combinations(kept, 2)]
    for pair, p in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair |= {"p_holm": p, "holds": bool(p <= alpha)}
    return table_of(pairs, COLUMNS)


def corrected_t_test(
    differences: npt.ArrayLike, n_train: float, n_test: float, alpha: float = 0.05
) -> tuple[float, float]:
    """Return p and the half width of the confidence interval of the corrected t-test.

    There is one difference for each of k >= 2 folds; see the notes of :func:`compare`.
    """
    values = np.asarray(differences, float)
    mean, deviation = values.mean(), values.std(ddof=1)
    if np.ptp(values) <= 1e-12:
        if abs(mean) <= 1e-12:
            return 1.0, 0.0
        deviation = _ROUNDING / n_test
    error = deviation * math.sqrt(1 / len(values) + n_test / n_train)
    freedom = len(values) - 1
    p = 2 * student.sf(abs(mean) / error, freedom)
    return float(p), float(student.ppf(1 - alpha / 2, freedom) * error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number by Holm's procedure, in the same order."""
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _pair(one: Row, other: Row, metric: str, alpha: float) -> Row:
    differences = np.subtract(_scores(one, metric), _scores(other, metric))
    p, half_width = corrected_t_test(differences, one["n_train"], one["n_test"], alpha)
    mean = float(differences.mean())
    return {
        "first": one["name"],
        "second": other["name"],
        "difference": mean,
        "low": mean - half_width,
        "high": mean + half_width,
        "p": p,
    }


def _sorted_by(rows: Sequence[Row]) -> str:
    """Return the metric by which a table is sorted: its first mean."""
    columns = list(rows[0]) if rows else []
    for name in columns:
        if name.startswith("mean_"):
            return name.removeprefix("mean_")
    raise InvalidParameterError(
        "table must be what run_experiments or load_experiments returns. "
        f"Got a table {f'with the columns {columns}' if rows else 'without rows'}."
    )


def _scores(row: Row, metric: str) -> list[float]:
    """Return the scores of all folds, or [] where one is missing."""
    n_columns = next(k for k in itertools.count() if f"split{k}_{metric}" not in row)
    # Tables have as many columns as the run with most folds.
    n_folds = min(int(row.get("n_folds") or n_columns), n_columns)
    scores = [row[f"split{number}_{metric}"] for number in range(n_folds)]
    return [] if None in scores else scores


def _comparable(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return the rows with scores, or raise InvalidParameterError if they cannot be compared."""
    if not any(f"split0_{metric}" in row for row in rows):
        raise InvalidParameterError(
            f"the table has no scores of {metric!r}: choose another metric."
        )
    left_out = [row["name"] for row in rows if not _scores(row, metric)]
    kept = [row for row in rows if row["name"] not in left_out]
    if len(kept) < 2:
        raise InvalidParameterError(
            f"expected at least two finished runs with scores of {metric!r} to compare. "
            f"Got {len(kept)}."
        )
    if len({(row["data"], len(_scores(row, metric))) for row in kept}) > 1:
        raise InvalidParameterError(
            "expected runs on the same data and folds, got several "
            f"({', '.join(str(row['name']) for row in kept)}): run all of them in one call."
        )
    if len(_scores(kept[0], metric)) < 2:
        raise InvalidParameterError(
            "expected at least two folds, got one: a single split says nothing about how much "
            "scores vary. Run with cv=5 or more instead of validation_data."
        )
    if left_out:
        warn(f"runs without scores of {metric!r} are left out: {', '.join(map(str, left_out))}")
    return kept
