"""The cut: one network becomes a frozen prefix and a trainable suffix.

    pixels -> [ prefix: frozen ] -> activations -> [ suffix: trained ] -> outputs

The suffix is the trainable layers and everything that depends on them. The rest is a constant
function of the pixels, computed once. Where skip connections cross the cut, several activations
are handed over.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import NamedTuple

import keras

from transferclf._checks import is_number
from transferclf.exceptions import NetworkError
from transferclf.graphs._private import Node
from transferclf.graphs.walking import functional, nodes_in_order, packed, run_nodes


class Cut(NamedTuple):
    """A network cut in two, with `suffix(prefix(x))` equal to it; both parts share its layers."""

    prefix: keras.Model
    suffix: keras.Model


def cut(model: keras.Model, trainable_layers: int | str) -> Cut:
    """Cut a functional network below the first layer that is to be trained.

    `trainable_layers` is the number of last layers, "all", or a name: of a layer, or the beginning
    of the names of a block ("block5", "conv5_block3"), which stands for everything after it too.
    Raises NetworkError if the model has no such layers or no visible graph.


    Examples
    --------
    >>> import keras
    >>> x = inputs = keras.Input((4,))
    >>> for name in ("first", "second", "third"):
    ...     x = keras.layers.Dense(4, name=name)(x)
    >>> [layer.name for layer in cut(keras.Model(inputs, x), 1).suffix.layers[1:]]
    ['third']
    """
    model = functional(model)
    trained = _suffix_nodes(model, _trainable(model, trainable_layers))
    activations = _handed_over(model, trained)
    prefix = keras.Model(packed(model.inputs), packed(activations), name=f"{model.name}_prefix")
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in activations]
    outputs = run_nodes(trained, activations, inputs, model.outputs)
    return Cut(prefix, keras.Model(packed(inputs), packed(outputs), name=f"{model.name}_suffix"))


def _trainable(model: keras.Model, trainable_layers: int | str) -> set[int]:
    """Return the ids of the layers that `trainable_layers` names."""
    chosen = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    if isinstance(trainable_layers, str):
        if trainable_layers != "all":
            chosen = [layer for layer in chosen if _belongs(layer.name, trainable_layers)]
        if not chosen:
            _raise_unknown(model, trainable_layers)
        return {id(layer) for layer in chosen}
    if not is_number(trainable_layers, whole=True):
        raise NetworkError(
            "trainable_layers must be a whole number, 'all' or the name of a layer or block. "
            f"Got {trainable_layers!r} instead."
        )
    if not 0 <= trainable_layers <= len(chosen):
        raise NetworkError(
            f"trainable_layers must be from 0 to {len(chosen)}, the layers of {model.name!r}. "
            f"Got {trainable_layers} instead."
        )
    return {id(layer) for layer in chosen[len(chosen) - trainable_layers :]}


def _belongs(layer: str, block: str) -> bool:
    """Whether a layer is the named one or in the named block; block10 is not in block1."""
    rest = layer.removeprefix(block)
    return layer == block or (rest != layer and not (block[-1:].isdigit() and rest[0].isdigit()))


def _raise_unknown(model: keras.Model, name: str) -> None:
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    blocks, near = _blocks(names), difflib.get_close_matches(name, names, n=3, cutoff=0.3)
    its_blocks = f"its blocks are {_few(blocks)}, and " if blocks else ""
    raise NetworkError(
        f"trainable_layers={name!r} names no layer or block of {model.name!r}; {its_blocks}"
        f"there are the layers, among others, {', '.join(map(repr, near or names[-3:]))}."
    )


def _blocks(names: list[str]) -> list[str]:
    """Return the beginnings that several names share, up to their first number: block5, conv5."""
    starts = [name[: match.end()] for name in names if (match := re.search(r"\d+", name))]
    return [start for start, count in Counter(starts).items() if count > 1]


def _few(names: list[str]) -> str:
    shown = list(map(repr, names))
    return ", ".join(shown if len(names) <= 8 else [*shown[:3], "...", *shown[-3:]])


def _suffix_nodes(model: keras.Model, trainable: set[int]) -> list[Node]:
    """Return the calls of trainable layers, and all calls that depend on them."""
    made_by_suffix: set[int] = set()
    suffix = []
    for node in nodes_in_order(model):
        depends = any(id(tensor) in made_by_suffix for tensor in node.input_tensors)
        if depends or id(node.operation) in trainable:
            suffix.append(node)
            made_by_suffix.update(id(tensor) for tensor in node.outputs)
    return suffix


def _handed_over(model: keras.Model, suffix: list[Node]) -> list[keras.KerasTensor]:
    """Return the tensors that the suffix reads and does not make, each once, in a fixed order."""
    made = {id(tensor) for node in suffix for tensor in node.outputs}
    read = [tensor for node in suffix for tensor in node.input_tensors] + list(model.outputs)
    return list({id(tensor): tensor for tensor in read if id(tensor) not in made}.values())
