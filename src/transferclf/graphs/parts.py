"""Describe the layers of installed libraries by the values that they hold.

Keras describes a layer by its `get_config`, which a library may write with less than the layer
needs. The code of such a layer is known, so that its attributes, with those of the layers inside
it, determine what it computes.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from types import EllipsisType, FunctionType

import keras
import numpy as np

from transferclf.graphs.known import UNTOLD, is_of_keras, known_code
from transferclf.graphs.walking import functional, is_graph, nodes_in_order

Facts = object

# What a layer keeps besides the attributes of every `keras.Layer`: shapes from its build, and the
# lists with which TensorFlow tracks it.
_BUILD_SHAPES = "_build_shapes_dict"
_TRACKING = "_self_"


class UnknownCode(Exception):  # noqa: N818
    """A value whose description does not tell what it computes."""


def facts_of_parts(parts: list[keras.Layer]) -> list[Facts]:
    """Return facts that determine what the layers compute, besides the values of their weights.

    Facts are lists, dicts, numbers and texts. Raises UnknownCode if a layer or a value in it has
    code of the user's own.
    """
    numbers = {id(part): number for number, part in enumerate(parts)}
    return [[*_code(type(part)), _facts_of(part, numbers)] for part in parts]


def _code(value: object) -> list[str]:
    code = known_code(value)
    if code is None:
        raise UnknownCode(value)
    return code


def _facts_of(part: keras.Layer, numbers: Mapping[int, int]) -> Facts:
    if is_graph(part):  # it computes its calls, whatever else it holds
        return {"name": part.name, "calls": _calls(part, numbers)}
    if is_of_keras(type(part).__module__):
        # A few layers of Keras have no config if they got a precision.
        with suppress(NotImplementedError):
            return _serialized(part)
    values = [
        [name, _value(value, numbers)]
        for name, value in sorted(vars(part).items())
        if name not in _usual_attributes() and not name.startswith(_TRACKING)
    ]
    facts = {"name": part.name, "values": values}
    if isinstance(part, keras.Layer):
        facts |= {"trainable": part.trainable, "dtype": _serialized(part.dtype_policy)}
    return facts


def _calls(model: keras.Model, numbers: Mapping[int, int]) -> Facts:
    """Return the calls of a graph, with a text in the place of each tensor, and the outputs."""
    model = functional(model)
    nodes = nodes_in_order(model)
    made = [*model.inputs, *(tensor for node in nodes for tensor in node.outputs)]
    texts = {id(tensor): f"tensor {number}" for number, tensor in enumerate(made)}
    calls = [
        [numbers[id(node.operation)], _value(node.arguments.fill_in(texts), numbers)]
        for node in nodes
    ]
    return [*calls, [texts[id(tensor)] for tensor in model.outputs]]


@functools.lru_cache(maxsize=1)
def _usual_attributes() -> frozenset[str]:
    """Return the names of the attributes that every layer has."""
    return frozenset(vars(keras.Layer(name="any"))) | {_BUILD_SHAPES}


def _value(value: object, numbers: Mapping[int, int]) -> Facts:
    """Return facts of the value of an attribute."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return sorted(([_value(each, numbers) for each in it] for it in value.items()), key=repr)
    if isinstance(value, set | frozenset):
        return sorted((_value(item, numbers) for item in value), key=repr)
    if isinstance(value, list | tuple):
        return [_value(item, numbers) for item in value]
    if isinstance(value, keras.Operation):
        return ["layer", numbers[id(value)]]
    return _object(value)


def _object(value: object) -> Facts:
    """Return facts of an object that a layer holds, which is neither plain data nor a layer."""
    if isinstance(value, keras.KerasTensor | keras.Variable):  # values of weights come elsewhere
        return [list(value.shape), str(value.dtype)]
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        array = np.ascontiguousarray(keras.ops.convert_to_numpy(value))
        return [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]
    if isinstance(value, type | FunctionType):
        return _code(value)
    if isinstance(value, slice | EllipsisType | np.dtype):
        return repr(value)
    if not is_of_keras(type(value).__module__) or not hasattr(value, "get_config"):
        raise UnknownCode(value)
    # Random numbers are for training, and a seed that nobody gave is another one in each process.
    is_seed = isinstance(value, keras.random.SeedGenerator)
    return type(value).__name__ if is_seed else _serialized(value)


def _serialized(value: object) -> Facts:
    """Return the description of an object of Keras."""
    if type(value).__name__ in UNTOLD:
        raise UnknownCode(value)
    facts = keras.saving.serialize_keras_object(value)
    if isinstance(facts, dict):
        facts.pop("build_config", None)  # each use may change it
    return facts
