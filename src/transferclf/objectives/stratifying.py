"""Dividing samples of several labels so that each part has its share of each label.

Source: Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD
2011 (iterative stratification).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from transferclf._checks import check_number, check_seed
from transferclf.exceptions import InvalidParameterError
from transferclf.objectives.balancing import numbered

TRAINING, HELD_OUT = 0, 1


def rarest_label(targets: np.ndarray) -> np.ndarray:
    """Return the label of each sample that fewest samples have, int (n,); k for none."""
    counts = targets.sum(axis=0)
    order = np.argsort(counts, kind="stable")
    has_any = targets.any(axis=1)
    return np.where(has_any, order[targets[:, order].argmax(axis=1)], targets.shape[1])


def split_of_label_sets(
    targets: np.ndarray, fraction: float, seed: int, groups: Sequence[Hashable]
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted positions to train on and to hold out, every label in proportion.

    Samples of equal groups stay together; a group has the labels that any of its samples has. The
    training part has each label that there is: labels of a single group are not held out.
    InvalidParameterError is raised if the fraction leaves nothing on one side.
    """
    check_number("the validation fraction", fraction, 0, 1, above=True, below=True)
    check_seed(seed)
    group_of, first = numbered(groups, len(targets))
    of_groups = np.zeros((len(first), targets.shape[1]), bool)
    np.logical_or.at(of_groups, group_of, targets > 0)
    n_held_out = int(np.ceil(len(first) * fraction))
    part = _iterative_parts(of_groups, n_held_out, np.random.default_rng(int(seed)))
    _give_back(part, of_groups)
    if part.all() or not part.any():
        raise InvalidParameterError(
            f"a validation fraction of {fraction:g} of {len(first)} different images leaves none "
            f"to {'train on' if part.all() else 'hold out beside one with each label'}. "
            f"Take {'less' if part.all() else 'more'}."
        )
    is_held_out = part[group_of] == HELD_OUT
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _iterative_parts(
    has_label: np.ndarray, n_held_out: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the part of each group: of the label that fewest unassigned groups have first."""
    n = len(has_label)
    room = np.array([n - n_held_out, n_held_out])
    wanted = has_label.sum(axis=0) * (room / n)[:, None]  # of each part and label
    part = np.full(n, -1)
    left = has_label.sum(axis=0)
    while left.any():
        label = np.where(left > 0, left, n + 1).argmin()
        for group in rng.permutation(np.flatnonzero(has_label[:, label] & (part < 0))):
            chosen = max(
                TRAINING, HELD_OUT, key=lambda it: (room[it] > 0, wanted[it, label], room[it])
            )
            part[group] = chosen
            room[chosen] -= 1
            wanted[chosen] -= has_label[group]
            left -= has_label[group]
    others = rng.permutation(np.flatnonzero(part < 0))  # groups without a label
    part[others[: room[TRAINING]]] = TRAINING
    part[others[room[TRAINING] :]] = HELD_OUT
    return part


def _give_back(part: np.ndarray, has_label: np.ndarray) -> None:
    """Move groups to the training part until it has each label, one for each that it lacks."""
    for label in np.argsort(has_label.sum(axis=0), kind="stable"):
        groups = np.flatnonzero(has_label[:, label])
        if len(groups) and (part[groups] == HELD_OUT).all():
            part[groups[0]] = TRAINING
