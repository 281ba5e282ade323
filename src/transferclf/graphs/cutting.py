"""The cut: one network becomes a frozen prefix and a trainable suffix.

    pixels -> [ prefix: frozen ] -> activations -> [ suffix: trained ] -> outputs

The suffix is the trainable layers and everything that depends on them. The rest is a constant
function of the pixels, computed once. If skip connections cross the cut, the suffix has several
inputs. A network that ends in its classification layer is best cut below it.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import NamedTuple

import keras
from keras import layers

from transferclf._checks import is_number
from transferclf.exceptions import NetworkError, warn
from transferclf.graphs._private import Node
from transferclf.graphs.walking import functional, nodes_in_order, packed, run_nodes

# Numbers of classes of published networks: those of ImageNet and its larger sets.
PUBLISHED_CLASSES = (1000, 1001, 11221, 21841, 21842, 21843)

# The name of the last layer of keras.applications, in small letters.
_PREDICTIONS = "predictions"

_PROBABILITIES = {"softmax", "sigmoid"}

# Layers that may follow the layer of scores, and keep their number.
_RESHAPING = (layers.Activation, layers.Dropout, layers.Flatten, layers.Reshape, layers.Softmax)


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
    trained = depending(nodes_in_order(model), trainable(model, trainable_layers))
    activations = activations_below(model, trained)
    prefix = keras.Model(packed(model.inputs), packed(activations), name=f"{model.name}_prefix")
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in activations]
    outputs = run_nodes(trained, activations, inputs, model.outputs)
    return Cut(prefix, keras.Model(packed(inputs), packed(outputs), name=f"{model.name}_suffix"))


def belongs(layer: str, block: str) -> bool:
    """Whether a layer has this name or is in the block of this name; block10 is not in block1."""
    rest = layer.removeprefix(block)
    return layer == block or (rest != layer and not (block[-1:].isdigit() and rest[0].isdigit()))


def trainable(model: keras.Model, trainable_layers: int | str) -> set[int]:
    """Return the ids of the layers that `trainable_layers` names."""
    chosen = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    if isinstance(trainable_layers, str):
        if trainable_layers != "all":
            chosen = [layer for layer in chosen if belongs(layer.name, trainable_layers)]
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


def _raise_unknown(model: keras.Model, name: str) -> None:
    names = [layer.name for layer in model.layers if not isinstance(layer, layers.InputLayer)]
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


def depending(nodes: list[Node], chosen: set[int]) -> list[Node]:
    """Return the calls of operations with these ids, and all calls that depend on them."""
    made: set[int] = set()
    found = []
    for node in nodes:
        depends = any(id(tensor) in made for tensor in node.input_tensors)
        if depends or id(node.operation) in chosen:
            found.append(node)
            made.update(id(tensor) for tensor in node.outputs)
    return found


def activations_below(model: keras.Model, trained: list[Node]) -> list[keras.KerasTensor]:
    """Return the tensors that these calls read and do not make, each once, in a fixed order."""
    made = {id(tensor) for node in trained for tensor in node.outputs}
    read = [tensor for node in trained for tensor in node.input_tensors] + list(model.outputs)
    return list({id(tensor): tensor for tensor in read if id(tensor) not in made}.values())


def warn_of_classes(model: keras.Model) -> None:
    """Warn if a network ends in its classification layer, and say where to cut it."""
    found = classification_layer(model)
    if found is None:
        return
    name, n_classes, before = found
    where = "below that layer"
    if before is not None:
        where = (
            f"at {before!r}: keras.Model(model.input, model.get_layer({before!r}).output), or "
            f"CNNFeatureExtractor(model, layer={before!r})"
        )
    warn(
        f"{model.name!r} ends in its classification layer {name!r}, so that the features are the "
        f"scores of {n_classes} classes that it was trained for. The layers before mostly "
        f"separate new classes far better. Cut it {where}."
    )


def classification_layer(model: keras.Model) -> tuple[str, int, str | None] | None:
    """Return the layer of class scores that a network ends in, or None.

    The result is its name, the number of classes, and the name of the layer that gives the
    features, such as ('scores', 5, 'pool'). The last is None for a layer in a nested model.
    """
    model = functional(model)
    makers = {id(tensor): node for node in nodes_in_order(model) for tensor in node.outputs}
    node = makers.get(id(model.outputs[0]))
    if node is None or len(model.outputs) > 1 or len(model.outputs[0].shape) != 2:
        return None
    last = node.operation
    if isinstance(last, keras.Model):
        has_graph = bool(getattr(last, "inputs", None)) and hasattr(last, "operations")
        inner = classification_layer(last) if has_graph else None
        return None if inner is None else (inner[0], inner[1], None)
    width = model.outputs[0].shape[1]
    if not _gives_classes(last, width):
        return None
    while _keeps_numbers(node.operation) and id(node.input_tensors[0]) in makers:
        node = makers[id(node.input_tensors[0])]
    before = makers.get(id(node.input_tensors[0]))
    while before is not None and isinstance(before.operation, layers.Dropout):
        before = makers.get(id(before.input_tensors[0]))
    return last.name, width, None if before is None else before.operation.name


def _keeps_numbers(operation: keras.Operation) -> bool:
    kind = type(operation).__name__.lower()
    return isinstance(operation, _RESHAPING) or kind in _PROBABILITIES


def _gives_classes(operation: keras.Operation, width: int) -> bool:
    kind = type(operation).__name__.lower()
    activation = getattr(getattr(operation, "activation", None), "__name__", None)
    if kind in _PROBABILITIES or activation in _PROBABILITIES:
        return True
    if operation.name.lower() == _PREDICTIONS:
        return True
    is_linear = getattr(operation, "activation", None) is keras.activations.linear
    return isinstance(operation, layers.Dense) and is_linear and width in PUBLISHED_CLASSES
