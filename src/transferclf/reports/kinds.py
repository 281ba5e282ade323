"""The kind of target that a report is about."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_regressor

from transferclf.estimators.transfer import TransferEstimator
from transferclf.reports.indicators import gives_labels
from transferclf.reports.predictions import objective_of, unwrapped

CLASSES, LABELS, NUMBERS = "classes", "multilabel", "numbers"


def kind_of_estimator(estimator: Any, y: object = None) -> str:
    """Return the kind of target that a fitted estimator predicts: classes, labels or numbers.

    Of classifiers that do not say it, y decides. Estimators of other kinds count as of classes,
    since the reports about classes say what they expected.
    """
    last = unwrapped(estimator)[1]
    if isinstance(last, TransferEstimator) and hasattr(last, "head_"):
        kind = objective_of(last).kind
        return kind if kind in (LABELS, NUMBERS) else CLASSES
    if is_regressor(estimator):
        return NUMBERS
    return LABELS if gives_labels(estimator, y) else CLASSES
