"""The cut: one network becomes a frozen prefix and a trainable suffix.

    pixels -> [ prefix: frozen ] -> activations -> [ suffix: trained ] -> outputs

The suffix is made of the trainable layers and of everything that depends on them; all the rest
is a constant function of the pixels and belongs to the prefix, so that training repeats as
little as possible. Where skip connections cross, several activations are handed over.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import Any, NamedTuple

import keras

from transferclf._checks import is_number
from transferclf.exceptions import NetworkError
from transferclf.graphs.walking import functional, nodes_in_order, packed, run_nodes


class Cut(NamedTuple):
    """A network cut in two; both parts share its layers.

    Attributes
    ----------
    prefix : keras.Model
        From the network's inputs to the activations at the cut.
    suffix : keras.Model
        From those activations to the network's outputs.
    """

    prefix: keras.Model
    suffix: keras.Model


def cut(model: keras.Model, trainable_layers: int | str) -> Cut:
    """Cut a functional network below the first layer that is to be trained.

    Parameters
    ----------
    model : keras.Model
        Any functional or sequential model; not modified.
    trainable_layers : int or str
        0 trains nothing, n the last n of `model.layers`, "all" everything; the name of a layer,
        or what the names of a block begin with ("block5", "conv5_block3"), that and everything
        after it.

    Returns
    -------
    Cut
        `suffix(prefix(x))` equals `model(x)`.

    Raises
    ------
    NetworkError
        If the model's graph cannot be seen, there are not as many layers, or none of that name,
        or `trainable_layers` is neither a whole number nor a name.

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
    """The ids of the layers that `trainable_layers` names."""
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
    """Whether a layer is the named one or in the named block; block1 is no part of block10."""
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
    """What the names of several layers begin with, up to their first number: block5, conv5."""
    starts = [name[: match.end()] for name in names if (match := re.search(r"\d+", name))]
    return [start for start, count in Counter(starts).items() if count > 1]


def _few(names: list[str]) -> str:
    shown = list(map(repr, names))
    return ", ".join(shown if len(names) <= 8 else [*shown[:3], "...", *shown[-3:]])


def _suffix_nodes(model: keras.Model, trainable: set[int]) -> list[Any]:
    """The calls of trainable layers, and all that depend on one."""
    made_by_suffix: set[int] = set()
    suffix = []
    for node in nodes_in_order(model):
        depends = any(id(tensor) in made_by_suffix for tensor in node.input_tensors)
        if depends or id(node.operation) in trainable:
            suffix.append(node)
            made_by_suffix.update(id(tensor) for tensor in node.outputs)
    return suffix


def _handed_over(model: keras.Model, suffix: list[Any]) -> list[keras.KerasTensor]:
    """The tensors that the suffix reads and does not make, in a fixed order, each once."""
    made = {id(tensor) for node in suffix for tensor in node.outputs}
    read = [tensor for node in suffix for tensor in node.input_tensors] + list(model.outputs)
    return list({id(tensor): tensor for tensor in read if id(tensor) not in made}.values())
