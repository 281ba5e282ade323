"""The cost of a network on both sides of a cut."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import keras

from transferclf.graphs._private import Node
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
    """Return about how many multiply-adds a flat model does for one image."""
    return sum(map(multiply_adds_of_call, nodes_in_order(model)))


def multiply_adds_of_call(node: Node) -> int:
    """Return about how many multiply-adds the call of a layer does for one image.

    Each number of a kernel counts once for each place of the smaller map: the output of a
    convolution, the input of a transposed one, the tokens of a transformer. Products of activations
    with each other, as in attention, do not count.
    """
    sizes = [prod(kernel.shape) for kernel in kernels(node.operation)]
    if not sizes:
        return 0
    maps = [tensor.shape[1:-1] for tensor in (*node.input_tensors, *node.outputs)]
    return min(prod(side or 1 for side in shape) for shape in maps) * sum(sizes)


def kernels(operation: keras.Operation) -> list[keras.Variable]:
    """Return the weights that are matrices or more, so no biases, means or scales."""
    return [weight for weight in getattr(operation, "weights", ()) if len(weight.shape) > 1]
