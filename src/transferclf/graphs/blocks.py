"""The last block of a network, and the share of its work that is above a cut."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import keras
from keras import layers

from transferclf.graphs.costs import kernels, multiply_adds_of_call
from transferclf.graphs.cutting import activations_below, belongs, depending, trainable
from transferclf.graphs.walking import functional, nodes_in_order

# A block holds at least this share of the weights: less has little to learn with.
LEAST_WEIGHTS = 0.1

# Training layers with more than this share of the work is hardly cheaper than training all.
MOST_WORK = 0.75

# A block by name has so many layers with kernels, or so many kernels in one composite layer.
BLOCK_LAYERS, BLOCK_KERNELS = 2, 4

# The ends of the names of blocks: block5, block7a, conv5_block3, stage_3.
_NUMBER = re.compile(r"\d+")
_LETTER = re.compile(r"[a-z](?![a-z])")


class Part(NamedTuple):
    """The part of a network above a cut: its shares of weights and work, and its inputs."""

    weights: float
    work: float
    n_inputs: int


class Parts:
    """The parts of a flat network above its possible cuts."""

    def __init__(self, model: keras.Model):
        self.model = functional(model)
        self._nodes = nodes_in_order(self.model)
        self._work = {id(node): multiply_adds_of_call(node) for node in self._nodes}
        operations = {id(node.operation): node.operation for node in self._nodes}
        self._weights = {name: _n_weights(operation) for name, operation in operations.items()}

    def above(self, trainable_layers: int | str) -> Part:
        """Return the part above a cut."""
        trained = depending(self._nodes, trainable(self.model, trainable_layers))
        weights = sum(self._weights[name] for name in {id(node.operation) for node in trained})
        work = sum(self._work[id(node)] for node in trained)
        return Part(
            weights / max(sum(self._weights.values()), 1),
            work / max(sum(self._work.values()), 1),
            len(activations_below(self.model, trained)),
        )

    def last_block(self) -> int | str | None:
        """Return the last block as a value of `trainable_layers`.

        Most networks tell it by the names of their layers: the names in a block begin with the same
        text up to a number, such as "block5" or "conv5_block3". It is the smallest such block at
        the end that holds a tenth of the weights. Where names say nothing, it is the smallest
        number of last layers that does, and reads fewest activations of the layers before. None is
        returned if there is no such block, or all others are hardly any work.
        """
        found = self._fitting(_block_names(self.model))
        if found:
            # Several names may mean the same block.
            return min(found, key=lambda name: (found[name].weights, len(str(name))))
        found = self._fitting(_numbers_of_last(self.model))
        if not found:
            return None
        number = min(found, key=lambda it: (found[it].n_inputs, found[it].weights))
        name = _layers(self.model)[-int(number)].name
        return name if self.above(name) == found[number] else number

    def _fitting(self, several: Iterable[int | str]) -> dict[int | str, Part]:
        """Return the parts that may be the last block."""
        parts = {cut: self.above(cut) for cut in several}
        return {
            cut: part
            for cut, part in parts.items()
            if part.weights >= LEAST_WEIGHTS and part.work <= MOST_WORK
        }


def _layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers that `trainable_layers` counts."""
    return [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]


def _block_names(model: keras.Model) -> set[str]:
    """Return the names of blocks: beginnings of the names of several layers with kernels."""
    counts = {layer.name: len(kernels(layer)) for layer in _layers(model)}
    counts = {name: count for name, count in counts.items() if count}
    starts = {start for name in counts for start in _starts(name)}
    n_layers: Counter[str] = Counter()
    n_kernels: Counter[str] = Counter()
    for start in starts:
        for name, count in counts.items():
            if belongs(name, start):
                n_layers[start] += 1
                n_kernels[start] += count
    return {
        start
        for start in starts
        if n_layers[start] >= BLOCK_LAYERS or n_kernels[start] >= BLOCK_KERNELS
    }


def _starts(name: str) -> Iterator[str]:
    """Yield the beginnings of a name up to each number, and to a single letter after it.

    Examples
    --------
    >>> list(_starts("block7a_conv2"))
    ['block7', 'block7a', 'block7a_conv2']
    """
    for number in _NUMBER.finditer(name):
        yield name[: number.end()]
        letter = _LETTER.match(name, number.end())
        if letter:
            yield name[: letter.end()]


def _numbers_of_last(model: keras.Model) -> list[int]:
    """Return the numbers of last layers that begin with a layer with a kernel."""
    backwards = reversed(_layers(model))
    return [number for number, layer in enumerate(backwards, start=1) if kernels(layer)]


def _n_weights(operation: keras.Operation) -> int:
    return sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ()))
