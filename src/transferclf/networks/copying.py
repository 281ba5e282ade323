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
from transferclf.networks.digests import is_of_keras, own_functions, parts_of
from transferclf.networks.graphs import constructor_arguments, packed, replay

# Keras does not make these again from their description, for it is code or a file. They compute
# the same wherever they are called, and are shared.
SHARED = (keras.layers.Lambda, keras.layers.TFSMLayer)

# What the values of a copy may differ by, as a share of the largest.
TOLERANCE = 1e-4


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
        If a layer of the user's own cannot be copied, or its copy computes something else.
    """
    made: dict[int, Any] = {}
    pairs: list[tuple[Any, Any]] = []

    def copy_of(operation: Any) -> Any:
        if id(operation) not in made:
            made[id(operation)] = replace(operation) or _copied_operation(operation, pairs)
        return made[id(operation)]

    inputs = [
        keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x._keras_history.operation.name)
        for x in model.inputs
    ]
    copy = keras.Model(packed(inputs), packed(replay(model, inputs, copy_of)), name=model.name)
    for original, layer in pairs:
        layer.set_weights(original.get_weights())
    _finalize(copy)
    if any(_is_own(layer) for layer, _ in pairs):
        _check_same(model, copy)
    return copy


def _copied_operation(operation: Any, pairs: list[tuple[Any, Any]]) -> Any:
    if not isinstance(operation, keras.Layer) or isinstance(operation, SHARED):
        return operation
    layer = copied_layer(operation)
    pairs.append((operation, layer))
    return layer


def copied_layer(layer: Any) -> Any:
    """A new layer with the same options; its weights are yet to be set.

    Raises
    ------
    NetworkError
        If it cannot be made from its description.
    """
    first_error = None
    for make in (_from_description, _from_accepted, _from_arguments):
        try:
            copy = make(layer)
        except Exception as error:  # whatever the __init__ of somebody's layer raises
            first_error = first_error or error
            continue
        for name, function in own_functions(layer).items():
            # Keras knows the functions of an attribute by their names alone. Methods stay out:
            # they are of the original.
            if isinstance(function, FunctionType) and not hasattr(type(layer), name):
                setattr(copy, name, function)
        return copy
    raise NetworkError(
        f"the layer {layer.name!r} of class {type(layer).__name__} cannot be copied, as model_ and "
        f"trainable_layers need: {first_error} Its get_config() must return what its __init__ "
        "takes, and no more."
    ) from first_error


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


def _check_same(model: keras.Model, copy: keras.Model) -> None:
    """Raise NetworkError unless both compute the same of some numbers."""
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        return
    rng = np.random.default_rng(0)
    numbers = [rng.uniform(0, 255, (1, *x.shape[1:])).astype(np.float32) for x in model.inputs]
    expected, got = (
        [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(m(packed(numbers)))]
        for m in (model, copy)
    )
    for right, other in zip(expected, got, strict=True):
        limit = TOLERANCE * max(np.abs(right).max(initial=0), np.finfo(np.float32).tiny)
        if not np.abs(right - other).max(initial=0) <= limit:
            own = {type(part).__name__ for part in parts_of(model) if _is_own(part)}
            raise NetworkError(
                f"a copy of {model.name!r} computes something else than the model: the "
                f"get_config() of {', '.join(sorted(own))} must return everything that the "
                "__init__ is given, and nothing may be changed afterwards."
            )


def _is_own(part: Any) -> bool:
    return not is_of_keras(type(part).__module__) or bool(own_functions(part))


class Travelling:
    """A model on its way into a pickle, with the classes and functions that it is made of.

    Keras would write their names alone, which another process may not know. Here they are pickled
    as such: by name where they can be imported, and by joblib's workers as they are.
    """

    def __init__(self, model: keras.Model):
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.model.to_json(), _own_objects(self.model), self.model.get_weights())


def travelling(model: keras.Model) -> Travelling:
    """The model as it is pickled; the same object for one model, so that it is pickled once."""
    # Kept by its number only as long as somebody holds the result, which holds the model.
    return _travelling.setdefault(id(model), Travelling(model))


_travelling: weakref.WeakValueDictionary[int, Travelling] = weakref.WeakValueDictionary()


def arrived(value: Any) -> Any:
    """The model of a :class:`Travelling`, or the value itself."""
    return value.model if isinstance(value, Travelling) else value


def _arrived(config: str, own: dict[str, Any], weights: list[np.ndarray]) -> keras.Model:
    from transferclf.networks.isolation import undisturbed

    made_by = {name: _Maker(kind) if isinstance(kind, type) else kind for name, kind in own.items()}
    with undisturbed():
        # A pickle is trusted, or else it would not be loaded.
        model = keras.saving.deserialize_keras_object(
            json.loads(config), custom_objects=made_by, safe_mode=False
        )
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
