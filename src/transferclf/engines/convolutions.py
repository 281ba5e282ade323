"""Where the operations of a graph lie: before, between or after its convolutions.

Between convolutions eight bits are enough. In the resize, the scaling of pixels, the first
convolution and the head they are too few, in every format.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """An operation of a graph: whether it is a convolution, what it reads and what it makes."""

    is_convolution: bool
    entries: tuple[Hashable, ...]
    results: tuple[Hashable, ...]


def after_convolutions(steps: Sequence[Step]) -> set[int]:
    """Return the indices of the steps that read, at any distance, what a convolution makes.

    The steps are in the order of computation.
    """
    tensors: set[Hashable] = set()
    found = set()
    for index, step in enumerate(steps):
        is_after = not tensors.isdisjoint(step.entries)
        if is_after:
            found.add(index)
        if is_after or step.is_convolution:
            tensors.update(step.results)
    return found


def before_convolutions(steps: Sequence[Step]) -> set[int]:
    """Return the indices of the steps whose results a convolution reads, at any distance."""
    backwards = [Step(step.is_convolution, step.results, step.entries) for step in reversed(steps)]
    return {len(steps) - 1 - index for index in after_convolutions(backwards)}


def not_between(steps: Sequence[Step]) -> list[int]:
    """Return the indices of the first convolution and of all steps that are not between two.

    The last convolution of each path is no such step.
    """
    convolutions = [index for index, step in enumerate(steps) if step.is_convolution]
    between = after_convolutions(steps) & before_convolutions(steps) | {*convolutions[1:]}
    return [index for index in range(len(steps)) if index not in between]
