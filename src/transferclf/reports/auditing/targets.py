"""The targets that an audit compares: classes, several labels, or numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from transferclf._checks import check_choice
from transferclf.objectives.label_sets import has_several
from transferclf.objectives.labels import known_targets
from transferclf.objectives.registry import kind_of
from transferclf.reports.indicators import indicators_of, label_names
from transferclf.reports.kinds import CLASSES, LABELS, NUMBERS
from transferclf.reports.numbers import numbers_of
from transferclf.reports.predictions import check_is_of_classes, few_of_each_class


@dataclass(frozen=True)
class Targets:
    """The targets of n images.

    `code` numbers the different targets, and `shown` is the value of the column "label" of each
    image: None without targets. `names` are the classes, labels or outputs; `table` has one column
    for each label or output. `within` numbers the images among which odd ones are looked for.
    """

    kind: str
    code: np.ndarray
    shown: list[Any] | None = None
    names: np.ndarray | None = None
    within: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    table: np.ndarray | None = None

    @property
    def stated(self) -> tuple[list[Any], np.ndarray]:
        """All labels that images have, and the position of the image of each."""
        if self.kind == LABELS:
            assert self.table is not None
            assert self.names is not None
            rows, columns = np.nonzero(self.table)
            return self.names[columns].tolist(), rows
        if self.kind == NUMBERS or self.shown is None:
            return [], np.zeros(0, int)
        return self.shown, np.arange(len(self.shown))


def targets_of(y: Any, n_samples: int, kind: str | None) -> Targets:
    """Check y and return it as the targets of an audit; `kind` None takes the kind from y."""
    check_choice("kind", kind, (None, CLASSES, LABELS, NUMBERS))
    if y is None:
        none = np.zeros(n_samples, int)
        return Targets(CLASSES, none, within=none)
    kind = kind or _kind_in(y)
    if kind == LABELS:
        return _of_labels(y, n_samples)
    if kind == NUMBERS:
        return _of_numbers(y, n_samples)
    return _of_classes(y, n_samples)


def _kind_in(y: Any) -> str:
    """Return the kind of target that y is: numbers are those with fractions."""
    kind = kind_of(y)
    if kind.kind not in (CLASSES, LABELS, NUMBERS):
        check_is_of_classes(kind, "audit")
    if _has_fractions(y):
        return NUMBERS
    return LABELS if has_several(y) else CLASSES


def _has_fractions(y: Any) -> bool:
    """Return whether y is an array or list of finite numbers that are not all whole."""
    try:
        values = np.asarray(y)
    except ValueError:  # label sets of different sizes
        return False
    if values.dtype.kind != "f" or values.size == 0 or not np.isfinite(values).all():
        return False
    return bool((values != np.rint(values)).any())


@few_of_each_class()
def _of_classes(y: Any, n_samples: int) -> Targets:
    labels = np.asarray(y)
    known_targets(labels, n_samples, labels)  # checks y, which may be of one class
    classes, code = np.unique(labels.ravel(), return_inverse=True)
    return Targets(CLASSES, code, classes[code].tolist(), classes, code)


def _of_labels(y: Any, n_samples: int) -> Targets:
    names = label_names(y)
    table = indicators_of(y, n_samples, names)
    texts = [str(name) for name in names.tolist()]
    shown = [", ".join(texts[column] for column in np.flatnonzero(row)) for row in table]
    return Targets(LABELS, _codes(table), shown, names, np.zeros(n_samples, int), table)


def _of_numbers(y: Any, n_samples: int) -> Targets:
    table, names = numbers_of(y, n_samples)
    shown: list[Any] = table[:, 0].tolist()
    if len(names) > 1:
        shown = [", ".join(f"{value:.6g}" for value in row) for row in table]
    return Targets(NUMBERS, _codes(table), shown, names, np.zeros(n_samples, int), table)


def _codes(table: np.ndarray) -> np.ndarray:
    """Return the same number for equal rows."""
    return np.unique(table, axis=0, return_inverse=True)[1].ravel()
