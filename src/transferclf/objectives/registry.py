"""The kinds of targets there are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from transferclf.objectives.base import Objective
from transferclf.objectives.classes import Classes
from transferclf.objectives.multilabel import MultiLabel
from transferclf.objectives.numbers import Numbers

_KINDS: dict[str, type[Objective]] = {kind.kind: kind for kind in (Classes, MultiLabel, Numbers)}


def register_objective(objective: type[Objective]) -> type[Objective]:
    """Add a kind of target, or replace the one of this name; returns it, as a decorator does.

    Kinds that were added later are asked first whether they take y.
    """
    _KINDS[objective.kind] = objective
    return objective


def kind_of(y: object) -> type[Objective]:
    """Return the kind of target that takes y."""
    for kind in reversed(_KINDS.values()):
        if kind.takes(y):
            return kind
    return Classes  # its errors say what is expected


def objective_for(y: object, n_samples: int) -> tuple[Objective, np.ndarray]:
    """Return the objective that takes y, and y encoded."""
    return kind_of(y).encode(y, n_samples)


def announced(classes: object, known: Objective | None, y: object) -> Objective:
    """Return the objective of `partial_fit`, given its argument `classes`.

    `known` is the objective of the first call; where it is None, `classes` are needed, and the kind
    is that of y.
    """
    if known is None:
        return kind_of(y).announced(classes)
    if classes is not None and not known.is_same(known.announced(classes)):
        raise ValueError(
            f"classes must be those of the first call, {known.description()}. "
            f"Got {np.asarray(classes).tolist()} instead."
        )
    return known


def restored_objective(kind: str, facts: Mapping[str, object]) -> Objective:
    """Return the objective of a kind, made again from the result of its `to_json`."""
    return _KINDS[kind].from_json(facts)


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds."""
    return tuple(_KINDS)
