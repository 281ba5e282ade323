"""Open layers that hold a list of layers, so that each of these can be tapped and trained."""

from __future__ import annotations

from collections import Counter

import keras

from transferclf.graphs.digests import parts_of
from transferclf.graphs.known import is_of_keras
from transferclf.graphs.walking import Operation, all_nodes, is_graph, with_replaced


def opened(model: keras.Model) -> keras.Model:
    """Return the same function as a flat model in which stacks of blocks are their blocks.

    Libraries write the encoder of a transformer as one layer. A layer is opened if it holds a list
    of layers and has no weights besides theirs. Layers are shared, and get the name of the stack
    before their own where two would be equal.
    """
    stacks = [node.operation for node in all_nodes(model) if _is_stack(node.operation)]
    if not stacks:
        return model
    _name_apart(model, stacks)
    ids = {id(stack) for stack in stacks}

    def replaced(operation: Operation) -> Operation:
        # With symbolic tensors, the `call` of a layer adds the calls inside it to the graph.
        return operation.call if id(operation) in ids else operation  # type: ignore[attr-defined]

    flat = with_replaced(model, replaced, keeps_names=True)
    # Some layers compute shapes by hand, which hides the sizes that a cut needs.
    return model if _has_open_axes(flat) and not _has_open_axes(model) else flat


def _has_open_axes(model: keras.Model) -> bool:
    return any(None in tensor.shape[1:] for node in all_nodes(model) for tensor in node.outputs)


def _is_stack(layer: object) -> bool:
    if not isinstance(layer, keras.Layer) or is_graph(layer) or is_of_keras(type(layer).__module__):
        return False
    inside = [part for part in parts_of(layer) if part is not layer]
    theirs = {id(weight) for part in inside for weight in getattr(part, "weights", ())}
    holds_list = any(
        isinstance(value, list) and value and all(isinstance(it, keras.Layer) for it in value)
        for name, value in vars(layer).items()
        if name != "_layers"
    )
    return holds_list and all(id(weight) in theirs for weight in layer.weights)


def _name_apart(model: keras.Model, stacks: list[keras.Layer]) -> None:
    """Give layers inside stacks names that no other layer of the graph has."""
    names = Counter(node.operation.name for node in all_nodes(model))
    inside = {
        id(part): (stack, part)
        for stack in stacks
        for part in parts_of(stack)
        if part is not stack and isinstance(part, keras.Layer)
    }
    names.update(part.name for _, part in inside.values())
    for stack, part in inside.values():
        if names[part.name] > 1:
            part.name = f"{stack.name}_{part.name}"
