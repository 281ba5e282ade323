"""Findings about doubtful targets, by heads that have not seen the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transferclf.reports.auditing.findings import Audit
from transferclf.reports.auditing.labels import judged_columns, judged_labels
from transferclf.reports.auditing.readable import Readable
from transferclf.reports.auditing.residuals import residuals_of
from transferclf.reports.auditing.rows import ODD, rows_about, worst_first
from transferclf.reports.auditing.targets import Targets
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS

if TYPE_CHECKING:
    from pandas import DataFrame

    from transferclf.reports.tables import Row

    Tables = dict[str, list[Row] | DataFrame]


def _of_classes(
    result: Audit,
    about: DataFrame,
    targets: Targets,
    readable: Readable,
    groups: np.ndarray,
    verbose: int,
) -> Tables:
    """Return likely label errors, by heads that were fitted without the image and its copies."""
    classes, codes = targets.names, about["code"].to_numpy()
    if classes is None:
        return {}
    judged = judged_labels(readable.features, codes, len(classes), groups, verbose)
    result.quality[about["index"]] = judged.quality
    chosen = worst_first(judged.quality, judged.is_suspect)
    suggested = judged.suggested[chosen]
    errors = rows_about(
        about,
        chosen,
        suggested=classes[suggested].tolist(),
        probability=judged.quality[chosen],
        suggested_probability=judged.probabilities[chosen, suggested],
    )
    return {"label_errors": errors}


def _of_labels(
    result: Audit,
    about: DataFrame,
    targets: Targets,
    readable: Readable,
    groups: np.ndarray,
    verbose: int,
) -> Tables:
    """Return labels that are likely missing or wrong, each label judged by heads of its own."""
    assert targets.table is not None
    assert targets.names is not None
    table = targets.table[about["index"]]
    quality, is_suspect = judged_columns(readable.features, table, groups, verbose)
    known = ~np.isnan(quality).all(axis=1)
    result.quality[about["index"][known]] = np.nanmin(quality[known], axis=1)
    rows, columns = np.nonzero(is_suspect)
    order = np.argsort(quality[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    names, probability = targets.names[columns], quality[rows, columns]
    is_missing = table[rows, columns] == 0
    suggested = [
        name if there else f"not {name}"
        for name, there in zip(names.tolist(), is_missing, strict=True)
    ]
    errors = rows_about(
        about,
        rows,
        suggested=suggested,
        probability=probability,
        suggested_probability=1 - probability,
        target=names.tolist(),
    )
    return {"label_errors": errors}


def _of_numbers(
    result: Audit,
    about: DataFrame,
    targets: Targets,
    readable: Readable,
    groups: np.ndarray,
    verbose: int,
) -> Tables:
    """Return numbers that are far from their out-of-fold prediction."""
    assert targets.table is not None
    assert targets.names is not None
    table = targets.table[about["index"]]
    found = residuals_of(readable.features, table, groups)
    far = np.abs(found.deviations)
    rows, columns = np.nonzero(far > ODD)
    order = np.argsort(-far[rows, columns], kind="stable")
    rows, columns = rows[order], columns[order]
    outliers = rows_about(
        about,
        rows,
        target=targets.names[columns].tolist(),
        value=table[rows, columns],
        predicted=found.predicted[rows, columns],
        deviations=found.deviations[rows, columns],
    )
    return {"outlying_values": outliers}


FINDERS = {CLASSES: _of_classes, LABELS: _of_labels, NUMBERS: _of_numbers}
