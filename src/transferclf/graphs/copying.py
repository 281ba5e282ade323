"""Copy Keras models: new layers with the same weights, in this process or another.

Keras copies a layer by its `get_config`. That fails for layers whose config has more than their
`__init__` takes, and for classes that another process cannot import.
"""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType

import keras
import numpy as np

from transferclf.exceptions import NetworkError
from transferclf.graphs._private import Node, constructor_arguments
from transferclf.graphs.digests import own_functions, parts_of
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.known import is_of_keras
from transferclf.graphs.walking import Operation, all_nodes, functional, is_graph, with_replaced

# Gets a layer, and returns the operation to call in its place, or None to copy it.
Replace = Callable[[keras.Layer], Operation | None]

# Layers that are defined by code or a file. Keras does not copy them. They compute the same
# wherever they are called, and are shared.
SHARED = (keras.layers.Lambda, keras.layers.TFSMLayer)

# The largest difference between a layer and its copy, as a share of the largest value.
TOLERANCE = 1e-4

# The length of an open axis when a layer and its copy are compared.
OPEN_SIDE = 8


def copied(model: keras.Model, replace: Replace = lambda layer: None) -> keras.Model:
    """Return the same function as a flat functional model of new layers.

    The layers of a model may also belong to other graphs. Those of the copy do not, as Grad-CAM and
    exporting need. They have the same names and weights; those in :data:`SHARED` are shared.
    `replace` gets each layer and returns what to call in its place, or None to copy it. Raises
    NetworkError if no copy of a layer of the user's own computes the same.
    """
    made: dict[int, Operation] = {}
    pairs: list[tuple[keras.Layer, keras.Layer]] = []
    calls = {id(node.operation): node for node in all_nodes(model)}

    def copy_of(operation: keras.Operation) -> Operation:
        if id(operation) not in made:
            other = replace(operation) or operation
            can_copy = isinstance(operation, keras.Layer) and not isinstance(operation, SHARED)
            if other is operation and can_copy:
                other = copied_layer(operation, calls[id(operation)])
                pairs.append((operation, other))
            made[id(operation)] = other
        return made[id(operation)]

    copy = with_replaced(model, copy_of, keeps_names=True)
    for original, layer in pairs:
        layer.set_weights(original.get_weights())
    _finalize(copy)
    return copy


def copied_layer(layer: keras.Layer, call: Node | None = None) -> keras.Layer:
    """Return a new layer with the same options; its weights are not set.

    `call` is a call of the layer in a graph. A copy of the user's own layer must compute the same
    there, because its config may be incomplete. Raises NetworkError if no copy does.
    """
    is_own = not is_of_keras(type(layer).__module__) or bool(own_functions(layer))
    # Of the ways to copy a layer, the first keeps most.
    own_ways = (_from_arguments, _from_config, _from_accepted, _from_attributes)
    ways = own_ways if is_own else (_from_config,)
    failure: object = None
    for make in ways:
        try:
            copy = make(layer)
        except Exception as error:  # the __init__ of somebody's layer may raise anything
            failure = failure or error
            continue
        if copy.trainable != layer.trainable:
            copy.trainable = layer.trainable
        for name, function in _functions_of(layer).items():
            setattr(copy, name, function)
        if call is None or not is_own or _computes_the_same(layer, copy, call):
            return copy
        failure = "its copy computes something else than the layer."
    raise NetworkError(
        f"the layer {layer.name!r} of class {type(layer).__name__} cannot be copied, as model_ and "
        f"trainable_layers need: {failure} Its get_config() must return everything that its "
        "__init__ needs, and nothing else."
    )


def _functions_of(layer: keras.Layer) -> dict[str, FunctionType]:
    """Return functions that a layer was given, such as its activation, if they are not Keras' own.

    Keras describes such a function by its name alone. Methods belong to the layer itself.
    """
    return {
        name: function
        for name, function in own_functions(layer).items()
        if isinstance(function, FunctionType) and not hasattr(type(layer), name)
    }


def _computes_the_same(layer: keras.Layer, copy: keras.Layer, call: Node) -> bool:
    """Whether a copy with the weights of the layer gives the same for random numbers."""
    numbers = {id(tensor): _random_numbers(tensor) for tensor in call.input_tensors}
    args, kwargs = call.arguments.fill_in(numbers)
    try:
        expected = _arrays(layer(*args, **kwargs))
    except Exception:  # it does not take these numbers, or this length of an open axis
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


def _random_numbers(tensor: keras.KerasTensor) -> keras.KerasTensor:
    shape = [1, *(OPEN_SIDE if side is None else side for side in tensor.shape[1:])]
    numbers = np.random.default_rng(0).normal(size=shape)
    return keras.ops.convert_to_tensor(numbers, dtype=tensor.dtype)


def _arrays(outputs: object) -> list[np.ndarray]:
    tensors = keras.tree.flatten(outputs)
    return [keras.ops.convert_to_numpy(keras.ops.cast(x, "float32")) for x in tensors]


def _from_arguments(layer: keras.Layer) -> keras.Layer:
    """Make a layer from the arguments that it was made with."""
    arguments = constructor_arguments(layer)
    if arguments is None:  # they were more than numbers and texts
        raise NetworkError(f"Keras has not kept the arguments of {layer.name!r}.")
    copy = type(layer)(**(_accepted(type(layer), {"name": layer.name}) | arguments))
    copy.name = layer.name
    return copy


def _from_config(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config(layer.get_config())


def _from_accepted(layer: keras.Layer) -> keras.Layer:
    return type(layer).from_config(_accepted(type(layer), layer.get_config()))


def _from_attributes(layer: keras.Layer) -> keras.Layer:
    """Make a layer from its attributes that have the names of arguments."""
    return type(layer)(**_attributes(layer))


def _attributes(layer: keras.Layer) -> dict[str, object]:
    attributes = {
        # An argument that was a class of layers has become a layer.
        name: type(value) if isinstance(value, keras.Layer) else value
        for name, value in _accepted(type(layer), vars(layer)).items()
    }
    return attributes | {"name": layer.name, "dtype": layer.dtype_policy}


def _accepted(kind: type[keras.Layer], config: Mapping[str, object]) -> dict[str, object]:
    """Return the part of a config that an `__init__` takes, or one that it passes arguments to."""
    names: set[str] = set()
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {parameter.name for parameter in parameters}
        passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        if not passes_on or base is keras.Layer:
            break
    names -= {"self", "args", "kwargs"}
    return {name: value for name, value in config.items() if name in names}


def set_weights(model: keras.Model, values: list[np.ndarray]) -> None:
    """Set all weights of a model, and the values that layers compute from theirs."""
    model.set_weights(values)
    _finalize(model)


def _finalize(model: keras.Model) -> None:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            _finalize(layer)
        elif isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


class Travelling:
    """A model to be pickled with its classes and functions.

    Keras would write only their names, which another process may not know. Pickle writes their
    import path, and joblib's workers get their code.
    """

    def __init__(self, model: keras.Model):
        self.model = model

    def __reduce__(self) -> tuple[object, ...]:
        functions = []
        for part in parts_of(self.model):
            # Keras itself writes the code of lambdas.
            found = _functions_of(part).items()
            named = {name: value for name, value in found if value.__name__ != "<lambda>"}
            if named:
                functions.append((part.name, named))
        own = _own_objects(self.model)
        arguments = _arguments_by_name(self.model) if is_graph(self.model) else {}
        with _described_by_name(self.model, arguments):
            config = self.model.to_json()
        # A model that is built anew has other names where it gives none.
        names = [(type(part).__name__, part.name) for part in parts_of(self.model)] if own else []
        weights = self.model.get_weights()
        return _arrived, (config, own, functions, weights, arguments, names)


def _arguments_by_name(model: keras.Model) -> dict[str, dict[str, object]]:
    """Return arguments for the layers of the user's own and of libraries, by their names.

    The `get_config` of such a layer may have more or less than these, or raise an error.
    """
    found: dict[str, dict[str, object]] = {}
    for node in all_nodes(functional(model)):
        layer = node.operation
        if not isinstance(layer, keras.Layer) or is_of_keras(type(layer).__module__):
            continue
        arguments = constructor_arguments(layer)
        if arguments is None and not _has_config(layer):
            copied_layer(layer, node)  # raises if no arguments make the same layer
            arguments = _attributes(layer)
        if arguments is None:
            continue
        arguments = _accepted(type(layer), {"name": layer.name}) | arguments
        # Layers of nested models may have equal names.
        if found.setdefault(layer.name, arguments) != arguments:
            found[layer.name] = {}
    return {name: arguments for name, arguments in found.items() if arguments}


def _has_config(layer: keras.Layer) -> bool:
    try:
        layer.get_config()
    except Exception:  # it is somebody's
        return False
    return True


@contextmanager
def _described_by_name(model: keras.Model, names: Container[str]) -> Iterator[None]:
    """Make the layers of some names describe themselves by these alone."""
    described = []
    for part in parts_of(model):
        if part.name in names and not is_of_keras(type(part).__module__):
            config = {"name": part.name}
            object.__setattr__(part, "get_config", lambda config=config: config)
            described.append(part)
    try:
        yield
    finally:
        for part in described:
            object.__delattr__(part, "get_config")


def travelling(model: keras.Model) -> Travelling:
    """Return the :class:`Travelling` of a model, one for each model, so that it is pickled once."""
    # The value holds the model, so that its id is not used again while the entry exists.
    return _travelling.setdefault(id(model), Travelling(model))


_travelling: weakref.WeakValueDictionary[int, Travelling] = weakref.WeakValueDictionary()


def arrived(value: object) -> keras.Model:
    """Return the model of a :class:`Travelling`, or the value itself."""
    return value.model if isinstance(value, Travelling) else value


def _arrived(
    config: str,
    own: dict[str, object],
    functions: list[tuple[str, dict[str, FunctionType]]],
    weights: list[np.ndarray],
    arguments: Mapping[str, Mapping[str, object]],
    names: Sequence[tuple[str, str]],
) -> keras.Model:
    made_by = {
        name: _Maker(kind, arguments) if isinstance(kind, type) else kind
        for name, kind in own.items()
    }
    with undisturbed():
        # A pickle can run code anyway.
        model = keras.saving.deserialize_keras_object(
            json.loads(config), custom_objects=made_by, safe_mode=False
        )
        by_name = dict(functions)
        for part in parts_of(model):
            for name, function in by_name.get(getattr(part, "name", ""), {}).items():
                setattr(part, name, function)
        _rename(model, names)
        set_weights(model, weights)
    return model


def _rename(model: keras.Model, names: Sequence[tuple[str, str]]) -> None:
    """Give the layers of a model their names, if it has layers of these classes."""
    parts = list(parts_of(model))
    if [kind for kind, _ in names] == [type(part).__name__ for part in parts]:
        for part, (_, name) in zip(parts, names, strict=True):
            part.name = name


class _Maker:
    """Makes layers of one class, from arguments by name or from configs with too many entries."""

    def __init__(self, kind: type[keras.Layer], arguments: Mapping[str, Mapping[str, object]]):
        self._kind = kind
        self._arguments = arguments
        self.__name__ = kind.__name__

    def from_config(self, config: dict[str, object], **arguments: object) -> keras.Layer:
        """Make a layer."""
        if config.keys() == {"name"} and config["name"] in self._arguments:
            return self._kind(**self._arguments[str(config["name"])])
        try:
            return self._kind.from_config(config, **arguments)
        except (TypeError, ValueError):
            return self._kind.from_config(_accepted(self._kind, config))


def _own_objects(model: keras.Model) -> dict[str, object]:
    """Return classes and functions that are not Keras' own, by their names in Keras."""
    found: dict[str, object] = {}
    for part in parts_of(model):
        held = [value for name, value in vars(part).items() if not hasattr(type(part), name)]
        for value in (part, *held):
            kind = value if isinstance(value, FunctionType) else type(value)
            is_described = isinstance(value, FunctionType) or hasattr(value, "get_config")
            if is_described and not is_of_keras(kind.__module__) and kind.__name__ != "<lambda>":
                found[keras.saving.get_registered_name(kind)] = kind
    return found
