"""All private API of Keras and TensorFlow that this package uses, one function for each name.

Another version of either library may change these names without notice. No other module uses them.
`tests/test_graphs_private.py` has one test for each name, which says what breaks without it.
Importing this module imports neither library.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import keras


class Arguments(Protocol):
    """The arguments of a call; `fill_in` puts values in the place of symbolic tensors."""

    args: tuple[object, ...]
    kwargs: dict[str, object]

    def fill_in(self, values: Mapping[int, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return the arguments with values, by the ids of tensors, in the place of tensors."""


class Node(Protocol):
    """A call of an operation in a graph: the part of `keras.src.ops.node.Node` that is used."""

    operation: keras.Operation
    input_tensors: list[keras.KerasTensor]
    outputs: list[keras.KerasTensor]
    is_input: bool
    arguments: Arguments


def nodes_by_depth(model: keras.Model) -> dict[int, list[Node]]:
    """Return the calls in the graph of a model, by their distance from its outputs.

    The public `model.layers` lacks the order of the calls and their arguments.
    """
    nodes: dict[int, list[Node]] = model._nodes_by_depth
    return nodes


def maker_of(tensor: keras.KerasTensor) -> tuple[keras.Operation, int]:
    """Return the operation that made a symbolic tensor, and the number of the call.

    The public graph of a model ends at its inputs; this one continues below them.
    """
    operation, number, _ = tensor._keras_history
    return operation, number


def inputs_of_call(operation: keras.Operation, number: int) -> list[keras.KerasTensor]:
    """Return the inputs of a call of an operation.

    The public `operation.input` fails for an operation that was called more than once.
    """
    tensors: list[keras.KerasTensor] = operation._inbound_nodes[number].input_tensors
    return tensors


def constructor_arguments(layer: keras.Layer) -> dict[str, object] | None:
    """Return the arguments that a layer was made with, or None if Keras has not kept them.

    The `get_config` of a layer of the user's own may lack them.
    """
    kept = getattr(layer, "_auto_config", None)
    return None if kept is None else dict(kept.config)


class KerasState(NamedTuple):
    """The state of Keras in this process that new networks depend on.

    `names` counts how often each name of a layer was given. `policy` is the default precision.
    """

    names: dict[str, int] | None
    policy: keras.dtype_policies.DTypePolicy | None


def fresh_keras_state() -> KerasState:
    """Return the state of a Keras that has just been imported."""
    return KerasState(defaultdict(int), None)


def exchange_keras_state(state: KerasState) -> KerasState:
    """Set the state of Keras, and return the one before.

    The public getters would set defaults if nothing was set yet, and `keras.utils.clear_session`
    would delete the caller's state.
    """
    from keras.src.backend.common import global_state

    names = ("object_name_uids", "dtype_policy")
    before = KerasState(*map(global_state.get_global_attribute, names))
    for name, value in zip(names, state, strict=True):
        global_state.set_global_attribute(name, value)
    return before


class Seeds(Protocol):
    """A source of seeds, such as Python's module `random`."""

    def randint(self, a: int, b: int) -> int:
        """Return a whole number from a to b."""


def exchange_seeds(source: Seeds) -> Seeds:
    """Set where Keras draws the seeds of layers, and return the source before.

    It is Python's `random` by default, from which any thread may draw meanwhile.
    """
    from keras.src.random import seed_generator

    before: Seeds = seed_generator.python_random
    seed_generator.python_random = source
    return before


def is_tensorflow_running() -> bool:
    """Return whether TensorFlow has started its threads, which a forked process would lack.

    The public functions that could say it start the threads.
    """
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    return bool(getattr(context, "_initialized", context is not None))


def take_gradients_as_they_are(optimizer: keras.optimizers.Optimizer) -> None:
    """Stop an optimizer on TensorFlow from summing gradients over replicas; there is only one.

    TensorFlow keeps a function for each such sum for ever, and with it the graph of the training
    step around it: a few megabytes for each compiled step.
    """
    optimizer._all_reduce_sum_gradients = lambda pairs: [
        (gradient, variable) for gradient, variable in pairs if gradient is not None
    ]


def forget_kernels() -> None:
    """Drop the kernels that TensorFlow keeps for each shape that a variable ever had.

    `keras.utils.clear_session` is the only public way, and it clears the caller's state too.
    """
    from tensorflow.python.eager import context

    context.context().clear_kernel_cache()


def litert_files() -> tuple[ModuleType, ModuleType]:
    """Return two modules: the types in files of LiteRT, and the functions that read and write them.

    The public converter stores all constants with 16 bits, or none.
    """
    from tensorflow.lite.python import schema_py_generated
    from tensorflow.lite.tools import flatbuffer_utils

    return schema_py_generated, flatbuffer_utils
