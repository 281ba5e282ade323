"""The kinds of targets there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from transferclf.objectives.base import Objective
from transferclf.objectives.classes import Classes

_KINDS: dict[str, type[Objective]] = {Classes.kind: Classes}


def register_objective(objective: type[Objective]) -> type[Objective]:
    """Add a kind of target, which is asked before those that are known already.

    Parameters
    ----------
    objective : subclass of Objective
        A kind of the same name is replaced.

    Returns
    -------
    type
        The same class, so that this serves as a decorator.
    """
    _KINDS[objective.kind] = objective
    return objective


def kind_of(y: Any) -> type[Objective]:
    """Return the kind of target that takes y."""
    for kind in reversed(_KINDS.values()):
        if kind.takes(y):
            return kind
    return Classes  # its errors say what is expected


def objective_for(y: Any, n_samples: int) -> tuple[Objective, np.ndarray]:
    """Return the objective that takes y, and y encoded."""
    return kind_of(y).encode(y, n_samples)


def announced(classes: Any, known: Objective | None) -> Objective:
    """Return the objective of `partial_fit`, given its argument `classes`.

    Parameters
    ----------
    classes : array-like or None
        Needed in the first call, where nothing is known.
    known : Objective or None
        The objective of the first call.
    """
    if known is None:
        return Classes.announced(classes)
    if classes is not None and not known.is_same(known.announced(classes)):
        raise ValueError(
            f"classes must be those of the first call, {known.description()}. "
            f"Got {np.asarray(classes).tolist()} instead."
        )
    return known


def restored_objective(kind: str, facts: Mapping[str, Any]) -> Objective:
    """Return the objective of a kind from what its `to_json` gave."""
    return _KINDS[kind].from_json(facts)


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds."""
    return tuple(_KINDS)
