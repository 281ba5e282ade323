"""Find out whether a network ends in features or in classes."""

from __future__ import annotations

import keras
from keras import layers

from transferclf.exceptions import warn
from transferclf.graphs.walking import functional, nodes_in_order

# Numbers of classes of published networks: those of ImageNet and its larger sets.
PUBLISHED_CLASSES = (1000, 1001, 11221, 21841, 21842, 21843)

# The name of the last layer of keras.applications, in small letters.
_PREDICTIONS = "predictions"

_PROBABILITIES = {"softmax", "sigmoid"}

# Layers that may follow the layer of scores, and keep their number.
_RESHAPING = (layers.Activation, layers.Dropout, layers.Flatten, layers.Reshape, layers.Softmax)


def warn_of_classes(model: keras.Model) -> None:
    """Warn if a network ends in its classification layer, and say where to cut it."""
    found = classification_layer(model)
    if found is None:
        return
    name, n_classes, before = found
    where = "below that layer"
    if before is not None:
        where = (
            f"at {before!r}: keras.Model(model.input, model.get_layer({before!r}).output), or "
            f"CNNFeatureExtractor(model, layer={before!r})"
        )
    warn(
        f"{model.name!r} ends in its classification layer {name!r}, so that the features are the "
        f"scores of {n_classes} classes that it was trained for. What comes before mostly tells "
        f"new classes apart far better. Cut it {where}."
    )


def classification_layer(model: keras.Model) -> tuple[str, int, str | None] | None:
    """Return the layer of class scores that a network ends in, or None.

    The result is its name, the number of classes, and the name of the layer that gives the
    features, such as ('scores', 5, 'pool'). The last is None for a layer in a nested model.
    """
    model = functional(model)
    makers = {id(tensor): node for node in nodes_in_order(model) for tensor in node.outputs}
    node = makers.get(id(model.outputs[0]))
    if node is None or len(model.outputs) > 1 or len(model.outputs[0].shape) != 2:
        return None
    last = node.operation
    if isinstance(last, keras.Model):
        has_graph = bool(getattr(last, "inputs", None)) and hasattr(last, "operations")
        inner = classification_layer(last) if has_graph else None
        return None if inner is None else (inner[0], inner[1], None)
    width = model.outputs[0].shape[1]
    if not _gives_classes(last, width):
        return None
    while _keeps_numbers(node.operation) and id(node.input_tensors[0]) in makers:
        node = makers[id(node.input_tensors[0])]
    before = makers.get(id(node.input_tensors[0]))
    while before is not None and isinstance(before.operation, layers.Dropout):
        before = makers.get(id(before.input_tensors[0]))
    return last.name, width, None if before is None else before.operation.name


def _keeps_numbers(operation: keras.Operation) -> bool:
    kind = type(operation).__name__.lower()
    return isinstance(operation, _RESHAPING) or kind in _PROBABILITIES


def _gives_classes(operation: keras.Operation, width: int) -> bool:
    kind = type(operation).__name__.lower()
    activation = getattr(getattr(operation, "activation", None), "__name__", None)
    if kind in _PROBABILITIES or activation in _PROBABILITIES:
        return True
    if operation.name.lower() == _PREDICTIONS:
        return True
    is_linear = getattr(operation, "activation", None) is keras.activations.linear
    return isinstance(operation, layers.Dense) and is_linear and width in PUBLISHED_CLASSES
