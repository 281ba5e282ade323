"""Walk a functional Keras graph: list its nodes, and run them again on other tensors.

A layer may be used in several models. Its own `input` and `output` belong to one of them only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from transferclf.exceptions import NetworkError
from transferclf.graphs._private import Node, inputs_of_call, maker_of, nodes_by_depth

Operation = Callable[..., Any]
Tensors = list[keras.KerasTensor]


def functional(model: keras.Model) -> keras.Model:
    """Return the model as a functional graph that shares its layers.

    Raises NetworkError if the graph cannot be seen: the model is subclassed or not built.
    """
    if is_graph(model):
        if not isinstance(model, keras.Sequential):
            return model
        return keras.Model(packed(model.inputs), packed(model.outputs), name=model.name)
    raise NetworkError(
        f"expected a functional or built sequential Keras model, got {type(model).__name__} "
        f"{model.name!r}, whose graph cannot be seen; wrap it: inputs = keras.Input((HEIGHT, "
        "WIDTH, 3)) and keras.Model(inputs, model(inputs))"
    )


def is_graph(operation: Operation) -> bool:
    """Whether this is a model that computes its graph; one with its own `call` may not."""
    if not (isinstance(operation, keras.Model) and getattr(operation, "inputs", None)):
        return False
    definer = next(kind for kind in type(operation).__mro__ if "call" in vars(kind))
    return definer.__module__.startswith("keras.")


def nodes_in_order(model: keras.Model) -> list[Node]:
    """Return the calls of a graph without input layers, each after the calls it depends on."""
    by_depth = nodes_by_depth(model)
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in ordered if not node.is_input]


def all_nodes(model: keras.Model) -> list[Node]:
    """Return the calls of a graph. Nested models are replaced by the calls inside them."""
    nodes: list[Node] = []
    for node in nodes_in_order(model):
        inner = is_graph(node.operation)
        nodes += all_nodes(functional(node.operation)) if inner else [node]
    return nodes


def operations_before(tensor: keras.KerasTensor) -> dict[int, keras.Operation]:
    """Return the operations that a tensor depends on, with input layers, by their ids."""
    found: dict[int, keras.Operation] = {}
    waiting, visited = [tensor], set()
    while waiting:
        operation, number = maker_of(waiting.pop())
        found[id(operation)] = operation
        if (id(operation), number) not in visited:
            visited.add((id(operation), number))
            waiting += inputs_of_call(operation, number)
    return found


def replay(
    model: keras.Model,
    inputs: Tensors,
    replace: Callable[[Operation], Operation] = lambda operation: operation,
) -> Tensors:
    """Call all operations of a functional graph again on other inputs, and return its outputs.

    Nested models are replayed too, so that the result is flat. `replace` gets each operation and
    returns the one to call in its place.
    """
    return run_nodes(nodes_in_order(model), model.inputs, inputs, model.outputs, replace)


def with_replaced(
    model: keras.Model, replace: Callable[[Operation], Operation], *, keeps_names: bool = False
) -> keras.Model:
    """Return a flat model of the same name in which some operations are replaced.

    The other layers are shared. A new layer is built by its call. `keeps_names` gives the inputs
    their names, which a layer of a nested model may have too.
    """
    names = [maker_of(x)[0].name if keeps_names else None for x in model.inputs]
    inputs = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=name)
        for x, name in zip(model.inputs, names, strict=True)
    ]
    return keras.Model(packed(inputs), packed(replay(model, inputs, replace)), name=model.name)


def run_nodes(
    nodes: list[Node],
    old_inputs: Tensors,
    new_inputs: Tensors,
    old_outputs: Tensors,
    replace: Callable[[Operation], Operation] = lambda operation: operation,
) -> Tensors:
    """Repeat some calls of a graph with other inputs, and return its new outputs."""

    def flattened(operation: Operation) -> Operation:
        if is_graph(operation):
            return lambda *args, **_: replay(functional(operation), _flat(args), replace)
        return replace(operation)

    now = {id(old): new for old, new in zip(old_inputs, new_inputs, strict=True)}
    for node in nodes:
        args, kwargs = node.arguments.fill_in(now)
        results = flattened(node.operation)(*args, **kwargs)
        now |= {id(old): new for old, new in zip(node.outputs, _flat(results), strict=True)}
    return [now[id(output)] for output in old_outputs]


def _flat(tensors: object) -> Tensors:
    return list(keras.tree.flatten(tensors))


def packed(tensors: Tensors) -> keras.KerasTensor | Tensors:
    """Return a single tensor as itself, several as a list, as `keras.Model` takes them."""
    return tensors[0] if len(tensors) == 1 else tensors
