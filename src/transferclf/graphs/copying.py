"""Copies of Keras models: new layers with the same weights, in this process or another.

Keras makes a layer again from its `get_config`. That fails for layers that describe more than
their `__init__` takes, and for classes that another process does not know by name.
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

import keras
import numpy as np

from transferclf.exceptions import NetworkError
from transferclf.graphs._private import constructor_arguments, maker_of
from transferclf.graphs.digests import is_of_keras, own_functions, parts_of
from transferclf.graphs.walking import all_nodes, packed, replay

# Keras does not make these again from their description, for it is code or a file. They compute
# the same wherever they are called, and are shared.
SHARED = (keras.layers.Lambda, keras.layers.TFSMLayer)

# What the values of a copy may differ by, as a share of the largest.
TOLERANCE = 1e-4

# What stands for a side that is open where a layer and its copy are compared.
OPEN_SIDE = 8


def copied(
    model: keras.Model, replace: Callable[[Any], Callable[..., Any] | None] = lambda layer: None
) -> keras.Model:
    """Return the same function as a flat functional model of new layers.

    The layers of a model are still part of the graphs they came from; in the copy each has only
    the inputs and outputs it has there, as Grad-CAM and exporting need.

    Parameters
    ----------
    model : keras.Model
        A functional model; not modified.
    replace : callable, default=none
        Gets each layer, and returns what is to be called in its place, or None to copy it.

    Returns
    -------
    keras.Model
        Its layers have the same names and weights; those in :data:`SHARED` are the same objects.

    Raises
    ------
    NetworkError
        If a layer of the user's own cannot be made again so that it computes the same.
    """
    made: dict[int, Any] = {}
    pairs: list[tuple[Any, Any]] = []
    calls = {id(node.operation): node for node in all_nodes(model)}

    def copy_of(operation: Any) -> Any:
        if id(operation) not in made:
            made[id(operation)] = replace(operation) or new_one(operation)
        return made[id(operation)]

    def new_one(operation: Any) -> Any:
        if not isinstance(operation, keras.Layer) or isinstance(operation, SHARED):
            return operation
        copy = copied_layer(operation, calls[id(operation)])
        pairs.append((operation, copy))
        return copy

    inputs = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=maker_of(x)[0].name)
        for x in model.inputs
    ]
    copy = keras.Model(packed(inputs), packed(replay(model, inputs, copy_of)), name=model.name)
    for original, layer in pairs:
        layer.set_weights(original.get_weights())
    _finalize(copy)
    return copy


def copied_layer(layer: Any, call: Any = None) -> Any:
    """A new layer with the same options; its weights are yet to be set.

    Parameters
    ----------
    layer : keras.Layer
        Any; not modified.
    call : node of a graph or None, default=None
        A call of the layer. If it is the user's own, whose description may lack something, the
        copy must compute the same there.

    Raises
    ------
    NetworkError
        If it cannot be made again so that it computes the same.
    """
    failure: Any = None
    for make in _roads(layer):
        try:
            copy = make(layer)
        except Exception as error:  # whatever the __init__ of somebody's layer raises
            failure = failure or error
            continue
        if copy.trainable != layer.trainable:
            copy.trainable = layer.trainable
        for name, function in functions_of(layer).items():
            setattr(copy, name, function)
        if call is None or not _is_own(layer) or _computes_the_same(layer, copy, call):
            return copy
        failure = "its copy computes something else than the layer."
    raise NetworkError(
        f"the layer {layer.name!r} of class {type(layer).__name__} cannot be copied, as model_ and "
        f"trainable_layers need: {failure} Its get_config() must return everything that its "
        "__init__ needs, and nothing else."
    )


def _roads(layer: Any) -> tuple[Callable[[Any], Any], ...]:
    """The ways to make a layer again, those first that lose the least."""
    if not _is_own(layer):
        return (_from_description,)
    return (_from_arguments, _from_description, _from_accepted)


def _is_own(layer: Any) -> bool:
    return not is_of_keras(type(layer).__module__) or bool(own_functions(layer))


def functions_of(layer: Any) -> dict[str, FunctionType]:
    """The functions that a layer was given, such as its activation, if they are not Keras' own.

    Keras knows such a function by its name alone. Methods are left out: they are of this layer.
    """
    return {
        name: function
        for name, function in own_functions(layer).items()
        if isinstance(function, FunctionType) and not hasattr(type(layer), name)
    }


def _computes_the_same(layer: Any, copy: Any, call: Any) -> bool:
    """Whether a copy gives what the layer gives for some numbers, with its weights."""
    numbers = {id(tensor): _numbers(tensor) for tensor in call.input_tensors}
    args, kwargs = call.arguments.fill_in(numbers)
    try:
        expected = _arrays(layer(*args, **kwargs))
    except Exception:  # these numbers, or sizes that are open, mean nothing to it
        return True
    try:
        copy(*args, **kwargs)
        copy.set_weights(layer.get_weights())
        got = _arrays(copy(*args, **kwargs))
    except Exception:  # with another number of weights, say
        return False
    return [x.shape for x in expected] == [x.shape for x in got] and all(
        np.abs(right - other).max(initial=0) <= TOLERANCE * np.abs(right).max(initial=0)
        for right, other in zip(expected, got, strict=True)
    )


def _numbers(tensor: keras.KerasTensor) -> Any:
    shape = [1, *(OPEN_SIDE if side is None else side for side in tensor.shape[1:])]
    numbers = np.random.default_rng(0).normal(size=shape)
    return keras.ops.convert_to_tensor(numbers, dtype=tensor.dtype)


def _arrays(outputs: Any) -> list[np.ndarray]:
    tensors = keras.tree.flatten(outputs)
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in tensors]


def _from_description(layer: Any) -> Any:
    return type(layer).from_config(layer.get_config())


def _from_accepted(layer: Any) -> Any:
    """From that part of the description which the class takes."""
    return from_accepted(type(layer), layer.get_config())


def from_accepted(kind: type, config: dict[str, Any]) -> Any:
    """Make a layer from those of the values that its class takes."""
    names = _accepted(kind)
    return kind.from_config(  # type: ignore[attr-defined]
        {name: value for name, value in config.items() if name in names}
    )


def _from_arguments(layer: Any) -> Any:
    """From the arguments that it was made with."""
    arguments = constructor_arguments(layer)
    if arguments is None:  # they were more than numbers and texts
        raise NetworkError(f"Keras has not kept the arguments of {layer.name!r}.")
    copy = type(layer)(**arguments)
    if "name" not in arguments:
        copy.name = layer.name
    return copy


def _accepted(kind: type) -> set[str]:
    """The names of what an `__init__` takes, and of what it hands on."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {parameter.name for parameter in parameters}
        hands_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not hands_on or base is keras.Layer:
            break
    return names - {"self", "args", "kwargs"}


def set_weights(model: keras.Model, values: list[Any]) -> None:
    """Set all weights of a model, and what layers have computed from theirs."""
    model.set_weights(values)
    _finalize(model)


def _finalize(model: keras.Model) -> None:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            _finalize(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


class Travelling:
    """A model on its way into a pickle, with the classes and functions that it is made of.

    Keras would write their names alone, which another process may not know. Here they are pickled
    as such: by name where they can be imported, and by joblib's workers as they are.
    """

    def __init__(self, model: keras.Model):
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        parts = [part for part in parts_of(self.model) if _named_functions(part)]
        functions = [(part.name, _named_functions(part)) for part in parts]
        own = _own_objects(self.model)
        return _arrived, (self.model.to_json(), own, functions, self.model.get_weights())


def _named_functions(layer: Any) -> dict[str, FunctionType]:
    """The functions of a layer; lambdas are written by Keras itself, with their code."""
    found = functions_of(layer)
    return {name: value for name, value in found.items() if value.__name__ != "<lambda>"}


def travelling(model: keras.Model) -> Travelling:
    """The model as it is pickled; the same object for one model, so that it is pickled once."""
    # Kept by its number only as long as somebody holds the result, which holds the model.
    return _travelling.setdefault(id(model), Travelling(model))


_travelling: weakref.WeakValueDictionary[int, Travelling] = weakref.WeakValueDictionary()


def arrived(value: Any) -> Any:
    """The model of a :class:`Travelling`, or the value itself."""
    return value.model if isinstance(value, Travelling) else value


def _arrived(
    config: str,
    own: dict[str, Any],
    functions: list[tuple[str, dict[str, FunctionType]]],
    weights: list[np.ndarray],
) -> keras.Model:
    from transferclf.graphs.isolation import undisturbed

    made_by = {name: _Maker(kind) if isinstance(kind, type) else kind for name, kind in own.items()}
    with undisturbed():
        # A pickle is trusted, or else it would not be loaded.
        model = keras.saving.deserialize_keras_object(
            json.loads(config), custom_objects=made_by, safe_mode=False
        )
        by_name = dict(functions)
        for part in parts_of(model):
            for name, function in by_name.get(getattr(part, "name", ""), {}).items():
                setattr(part, name, function)
        set_weights(model, weights)
    return model


class _Maker:
    """Makes layers of one class from their descriptions, which may say more than it takes."""

    def __init__(self, kind: type):
        self._kind: Any = kind
        self.__name__ = kind.__name__

    def from_config(self, config: dict[str, Any], **arguments: Any) -> Any:
        """Make a layer."""
        try:
            return self._kind.from_config(config, **arguments)
        except (TypeError, ValueError):
            return from_accepted(self._kind, config)


def _own_objects(model: keras.Model) -> dict[str, Any]:
    """Classes and functions that are not Keras' own, by the names that Keras looks them up by."""
    found: dict[str, Any] = {}
    for part in parts_of(model):
        held = [value for name, value in vars(part).items() if not hasattr(type(part), name)]
        for value in (part, *held):
            kind = value if isinstance(value, FunctionType) else type(value)
            is_described = isinstance(value, FunctionType) or hasattr(value, "get_config")
            if is_described and not is_of_keras(kind.__module__) and kind.__name__ != "<lambda>":
                found[keras.saving.get_registered_name(kind)] = kind
    return found
