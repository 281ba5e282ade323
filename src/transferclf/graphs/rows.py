"""Turn the activations at a cut into one row of numbers per image for the store, and back."""

from __future__ import annotations

from math import prod

import keras
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.walking import replay


def as_rows(activations: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the numbers of all activations side by side, of shape (n, d)."""
    return side_by_side([layers.Flatten()(tensor) for tensor in activations])


def side_by_side(rows: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return several rows of each image as one."""
    return layers.Concatenate()(rows) if len(rows) > 1 else rows[0]


def on_rows(model: keras.Model) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return a new input (n, d) for rows, and the outputs of a model for it.

    The rows are those that :func:`as_rows` makes of the model's inputs. Layers are shared. Raises
    NetworkError if an input has no fixed shape.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if any(None in shape for shape in shapes):
        raise NetworkError(
            f"expected activations of a fixed size at the cut of {model.name!r}, got {shapes}; "
            "cut it at another layer"
        )
    rows = keras.Input((sum(map(prod, shapes)),), name="activations")
    return rows, replay(model, _parts(rows, shapes))


def _parts(rows: keras.KerasTensor, shapes: list[tuple[int, ...]]) -> list[keras.KerasTensor]:
    if len(shapes) == 1:
        return [layers.Reshape(shapes[0])(rows)]
    parts, start = [], 0
    for shape in shapes:
        stop = start + prod(shape)
        parts.append(layers.Reshape(shape)(rows[:, start:stop]))
        start = stop
    return parts
