"""All private API of Keras and TensorFlow that this package uses, one function for each name.

Another version of either library may change these names without notice. Nothing else in the
package touches them, and `tests/test_graphs_private.py` has one test for each, which says what no
longer works where a name has changed. Importing this module imports neither library.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import keras


class Arguments(Protocol):
    """The arguments of a call; `fill_in` puts values in the place of symbolic tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def fill_in(self, values: Mapping[int, object]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments with the value of each tensor, by its id."""


class Node(Protocol):
    """A call of an operation in a graph: the part of `keras.src.ops.node.Node` that is used."""

    operation: keras.Operation
    input_tensors: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    is_input: bool
    arguments: Arguments


def nodes_by_depth(model: keras.Model) -> dict[int, list[Node]]:
    """Return the calls that make up the graph of a model, by their distance from its outputs.

    The public `model.layers` lacks the order of the calls and what each layer was called with.
    """
    nodes: dict[int, list[Node]] = model._nodes_by_depth
    return nodes


def maker_of(tensor: keras.KerasTensor) -> tuple[keras.Operation, int]:
    """Return the operation that made a symbolic tensor, and which of its calls did.

    The public graph of a model ends at its inputs; this one goes on below them.
    """
    operation, number, _ = tensor._keras_history
    return operation, number


def inputs_of_call(operation: keras.Operation, number: int) -> list[keras.KerasTensor]:
    """Return what an operation was called with.

    The public `operation.input` fails for an operation that was called more than once.
    """
    tensors: list[keras.KerasTensor] = operation._inbound_nodes[number].input_tensors
    return tensors


def constructor_arguments(layer: keras.Layer) -> dict[str, Any] | None:
    """Return the arguments that a layer was made with, or None where Keras has not kept them.

    A layer of the user's own may lack a `get_config` that says them.
    """
    kept = getattr(layer, "_auto_config", None)
    return None if kept is None else dict(kept.config)


class KerasState(NamedTuple):
    """The state of Keras in this process that a new network depends on.

    Attributes
    ----------
    names : mapping or None
        How often each name of a layer was given.
    policy : DTypePolicy or None
        The default precision of layers.
    """

    names: Any
    policy: Any


def fresh_keras_state() -> KerasState:
    """Return the state of a Keras that has just been imported."""
    return KerasState(defaultdict(int), None)


def exchange_keras_state(state: KerasState) -> KerasState:
    """Set the state of Keras, and return the one before.

    The public getters would set the defaults where nothing was set yet, and
    `keras.utils.clear_session` forgets the caller's state for good.
    """
    from keras.src.backend.common import global_state

    names = ("object_name_uids", "dtype_policy")
    before = KerasState(*map(global_state.get_global_attribute, names))
    for name, value in zip(names, state, strict=True):
        global_state.set_global_attribute(name, value)
    return before


def is_tensorflow_running() -> bool:
    """Return whether TensorFlow has started its threads, which a forked process would lack.

    Each public function that could tell starts them.
    """
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    return bool(getattr(context, "_initialized", context is not None))


def take_gradients_as_they_are(optimizer: keras.optimizers.Optimizer) -> None:
    """Have an optimizer on TensorFlow no longer sum gradients over replicas; there is only one.

    TensorFlow keeps a function for each such sum for ever, and with it the graph of the training
    step around it: a few megabytes for each step that was ever compiled.
    """
    optimizer._all_reduce_sum_gradients = lambda pairs: [
        (gradient, variable) for gradient, variable in pairs if gradient is not None
    ]


def forget_kernels() -> None:
    """Have TensorFlow drop what it keeps for each shape of a variable that there ever was.

    `keras.utils.clear_session` is the only public way, and it clears the caller's state too.
    """
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()
