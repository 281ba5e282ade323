"""The cost of a network on both sides of a cut."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import keras

from transferclf.graphs.cutting import Cut
from transferclf.graphs.walking import nodes_in_order


class CutFacts(NamedTuple):
    """Shapes of the activations at a cut, for one image, and the share of the cost below it."""

    shapes: tuple[tuple[int, ...], ...]
    share_below: float

    @classmethod
    def of(cls, parts: Cut) -> CutFacts:
        """Return the facts of a flat network that is cut."""
        below, above = map(multiply_adds, parts)
        shapes = tuple(tuple(tensor.shape[1:]) or (1,) for tensor in parts.prefix.outputs)
        return cls(shapes, below / max(below + above, 1))


def multiply_adds(model: keras.Model) -> int:
    """Return about how many multiply-adds a flat model does for one image.

    Each number of a kernel counts once for each place of its layer's output. Products of
    activations with each other, as in attention, do not count.
    """
    total = 0
    for node in nodes_in_order(model):
        places = prod(side or 1 for side in node.outputs[0].shape[1:-1])
        weights = getattr(node.operation, "weights", ())
        total += places * sum(prod(weight.shape) for weight in weights if len(weight.shape) > 1)
    return total
