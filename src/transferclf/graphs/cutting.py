"""The cut: one network becomes a frozen prefix and a trainable suffix.

    pixels -> [ prefix: frozen ] -> activations -> [ suffix: trained ] -> outputs

The suffix is the trainable layers and everything that depends on them. The rest is a constant
function of the pixels, computed once. If skip connections cross the cut, the suffix has several
inputs.
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
    """A network in two parts that share its layers; `suffix(prefix(x))` is equal to it."""

    prefix: keras.Model
    suffix: keras.Model


def cut(model: keras.Model, trainable_layers: int | str) -> Cut:
    """Cut a functional network below the first layer that is to be trained.

    `trainable_layers` is the number of last layers, "all", the name of a layer, or the common
    beginning of the names in a block ("block5", "conv5_block3"). A name includes everything after
    it. Raises NetworkError if the model has no such layers or no visible graph.
    """
    model = functional(model)
    trained = _suffix_nodes(model, _trainable(model, trainable_layers))
    # The suffix reads these tensors and does not make them. Each comes once, in a fixed order.
    made = {id(tensor) for node in trained for tensor in node.outputs}
    read = [tensor for node in trained for tensor in node.input_tensors] + list(model.outputs)
    activations = list({id(tensor): tensor for tensor in read if id(tensor) not in made}.values())
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
    """Whether a layer has this name or is in the block of this name; block10 is not in block1."""
    rest = layer.removeprefix(block)
    return layer == block or (rest != layer and not (block[-1:].isdigit() and rest[0].isdigit()))


def _raise_unknown(model: keras.Model, name: str) -> None:
    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    # The names of layers in a block share their beginning up to the first number: block5, conv5.
    starts = Counter(start[0] for each in names if (start := re.match(r"\D*\d+", each)))
    blocks = [repr(start) for start, count in starts.items() if count > 1]
    shown = blocks if len(blocks) <= 8 else [*blocks[:3], "...", *blocks[-3:]]
    its_blocks = f"its blocks are {', '.join(shown)}, and " if blocks else ""
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[-3:]
    raise NetworkError(
        f"trainable_layers={name!r} names no layer or block of {model.name!r}; {its_blocks}"
        f"there are the layers, among others, {', '.join(map(repr, near))}."
    )


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
