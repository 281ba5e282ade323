"""Walking a functional Keras graph: its nodes, and running them again on other tensors.

A layer may be used in several models, so its own `input` and `output` say nothing about one of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from transferclf.exceptions import NetworkError
from transferclf.graphs._private import inputs_of_call, maker_of, nodes_by_depth

Operation = Callable[..., Any]


def functional(model: keras.Model) -> keras.Model:
    """Return the model as a functional graph that shares its layers.

    Raises
    ------
    NetworkError
        If the model is subclassed, so that its graph cannot be seen, or was never built.
    """
    if _is_graph(model):
        if not isinstance(model, keras.Sequential):
            return model
        return keras.Model(packed(model.inputs), packed(model.outputs), name=model.name)
    raise NetworkError(
        f"expected a functional or built sequential Keras model, got {type(model).__name__} "
        f"{model.name!r}, whose graph cannot be seen; wrap it: inputs = keras.Input((HEIGHT, "
        "WIDTH, 3)) and keras.Model(inputs, model(inputs))"
    )


def _is_graph(operation: Any) -> bool:
    """Whether this is a model that does what its graph says: one with its own `call` may not."""
    if not (isinstance(operation, keras.Model) and getattr(operation, "inputs", None)):
        return False
    definer = next(kind for kind in type(operation).__mro__ if "call" in vars(kind))
    return definer.__module__.startswith("keras.")


def nodes_in_order(model: keras.Model) -> list[Any]:
    """The calls that make up this model's graph, each after those it depends on.

    Each has `operation`, `input_tensors` and `outputs`; input layers are left out.
    """
    by_depth = nodes_by_depth(model)
    ordered = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    return [node for node in ordered if not node.is_input]


def all_nodes(model: keras.Model) -> list[Any]:
    """The calls of a graph, with those of the graphs inside it in the place of their own calls."""
    nodes: list[Any] = []
    for node in nodes_in_order(model):
        inner = _is_graph(node.operation)
        nodes += all_nodes(functional(node.operation)) if inner else [node]
    return nodes


def operations_before(tensor: keras.KerasTensor) -> dict[int, Any]:
    """The operations that a tensor depends on, by their ids; input layers are among them."""
    found: dict[int, Any] = {}
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
    inputs: list[keras.KerasTensor],
    replace: Callable[[Operation], Operation] = lambda operation: operation,
) -> list[keras.KerasTensor]:
    """Call all operations of a functional graph again, on other inputs.

    Models inside the model are replayed too, so that the result is flat.

    Parameters
    ----------
    model : keras.Model
        A functional model.
    inputs : list of keras.KerasTensor
        What to call it on, one for each of its inputs.
    replace : callable, default=identity
        Gets each operation and returns the one to call in its place.

    Returns
    -------
    list of keras.KerasTensor
        One for each output of the model.
    """
    return run_nodes(nodes_in_order(model), model.inputs, inputs, model.outputs, replace)


def with_replaced(model: keras.Model, replace: Callable[[Operation], Operation]) -> keras.Model:
    """A flat model that calls other operations in the place of some.

    Parameters
    ----------
    model : keras.Model
        A functional model; not modified.
    replace : callable
        Gets each operation and returns the one to call in its place.

    Returns
    -------
    keras.Model
        Shares the layers that stay; those put in their place have been built by being called.
    """
    inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in model.inputs]
    return keras.Model(packed(inputs), packed(replay(model, inputs, replace)))


def run_nodes(
    nodes: list[Any],
    old_inputs: list[keras.KerasTensor],
    new_inputs: list[keras.KerasTensor],
    old_outputs: list[keras.KerasTensor],
    replace: Callable[[Operation], Operation] = lambda operation: operation,
) -> list[keras.KerasTensor]:
    """Repeat some calls of a graph with `new_inputs` in the place of `old_inputs`.

    Returns
    -------
    list of keras.KerasTensor
        What now stands in the place of `old_outputs`.
    """
    now = {id(old): new for old, new in zip(old_inputs, new_inputs, strict=True)}
    for node in nodes:
        args, kwargs = node.arguments.fill_in(now)
        results = _flattened_operation(node.operation, replace)(*args, **kwargs)
        now |= {id(old): new for old, new in zip(node.outputs, _flat(results), strict=True)}
    return [now[id(output)] for output in old_outputs]


def _flattened_operation(
    operation: Operation, replace: Callable[[Operation], Operation]
) -> Operation:
    if _is_graph(operation):
        return lambda *args, **_: replay(functional(operation), _flat(args), replace)
    return replace(operation)


def _flat(tensors: Any) -> list[keras.KerasTensor]:
    return list(keras.tree.flatten(tensors))


def packed(tensors: list[keras.KerasTensor]) -> Any:
    """One tensor as itself, several as a list: what Keras wants for a model's ends."""
    return tensors[0] if len(tensors) == 1 else tensors
