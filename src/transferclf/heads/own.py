"""Heads of the user's own, kept as the graph that they built and not as the code that builds it.

A function may read values that change later: a variable of the notebook, an attribute, a file. So
it is called once in each fit. The graph is trained, kept with the estimator and compared.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import keras

from transferclf.exceptions import NetworkError
from transferclf.graphs.copying import arrived, copied, copied_layer, travelling
from transferclf.graphs.digests import describe, values_digest
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import operations_before, replay

# From a Keras tensor of activations to one of features (n, d).
OwnHead = Callable[[keras.KerasTensor], keras.KerasTensor]


@dataclass(frozen=True)
class HeadGraph:
    """The layers of a user's own head, with their initial weights.

    `model`, from activations (n, h, w, c) to features (n, d), is copied and never trained. `digest`
    is the SHA-256 of its layers and of the values of its weights; heads of one digest are equal.
    `token` is another one in each fit if the description of the head lacks some of its code, such
    as that of a Lambda layer: such heads share no compiled training function. Otherwise it is "".
    """

    model: keras.Model = field(compare=False)
    digest: str
    token: str = field(default="", compare=False)

    def on(self, activations: keras.KerasTensor) -> keras.KerasTensor:
        """Return features (n, d) of activations, by new layers with the initial weights."""
        features = replay(copied(self.model), [activations])[0]
        _name_apart(activations, features)
        return features

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"model": travelling(self.model)}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update({name: arrived(value) for name, value in state.items()})


def head_graph(head: OwnHead, shape: tuple[int, ...], seed: int) -> HeadGraph:
    """Build the layers of a user's own head, and return them as a graph.

    A function makes layers; a layer or model is copied. `shape` is that of the activations of one
    image. Initial weights are drawn from `seed`. NetworkError is raised if the result is no tensor
    of features (n, d), or a function calls layers that it did not make.
    """
    with undisturbed(seed):
        activations = keras.Input(shape, name="head_activations")
        if isinstance(head, keras.Layer):
            features = _checked(_private(head)(activations), activations)
        else:
            features = _checked(head(activations), activations)
            _check_new_layers(head, activations, features)
        features = replay(keras.Model(activations, features), [activations])[0]  # now flat
        _name_apart(activations, features)
        model = copied(keras.Model(activations, features, name="head"))
        digest, has_unknown_code, _ = describe(model, with_training=True)
        facts = json.dumps([digest, values_digest(model)])
        token = uuid.uuid4().hex if has_unknown_code else ""
        return HeadGraph(model, hashlib.sha256(facts.encode()).hexdigest(), token)


def _private(head: keras.Layer) -> keras.Layer:
    """Return the layer, or a copy of it where a call would give it its first weights."""
    if head.built:
        return head  # with the initial weights of the head; the graph is copied later
    if isinstance(head, keras.Sequential):
        return keras.Sequential([_private(layer) for layer in head.layers])
    return copied_layer(head)


def _checked(features: object, activations: keras.KerasTensor) -> keras.KerasTensor:
    if not isinstance(features, keras.KerasTensor):
        raise NetworkError(
            "head must return a Keras tensor: build it of Keras layers. "
            f"Got {type(features).__name__} instead."
        )
    if len(features.shape) != 2 or features.shape[1] is None:
        raise NetworkError(
            "head must end in features of shape (n, d), such as those of Flatten or "
            f"GlobalAveragePooling2D. Got {tuple(features.shape)} from activations of shape "
            f"{tuple(activations.shape)}."
        )
    return features


# Functions that made new layers when they were called a second time.
_known_to_make: weakref.WeakSet[OwnHead] = weakref.WeakSet()


def _check_new_layers(
    head: OwnHead, activations: keras.KerasTensor, features: keras.KerasTensor
) -> None:
    """Raise NetworkError if a head calls layers that it did not make.

    Their first weights would be those that another fit trained.
    """
    # Some objects take no weak references, or have no hash. They are checked in each fit.
    with suppress(TypeError):
        if head in _known_to_make:
            return
    again = operations_before(head(activations))
    for key, operation in operations_before(features).items():
        if key in again and getattr(operation, "weights", None):
            raise NetworkError(
                "head must make new layers whenever it is called. Got the same layer "
                f"{operation.name!r} twice instead: make it inside of head, or pass the layer or "
                "the keras.Sequential itself as head."
            )
    with suppress(TypeError):
        _known_to_make.add(head)


def _name_apart(activations: keras.KerasTensor, features: keras.KerasTensor) -> None:
    """Give the layers of a head names that no layer before it has, as one model needs."""
    before = operations_before(activations)
    taken = {operation.name for operation in before.values()}
    for key, operation in operations_before(features).items():
        if key not in before:
            while operation.name in taken:
                operation.name += "_"
            taken.add(operation.name)
