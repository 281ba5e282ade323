"""Turn activations into one row of numbers per image, by pooling or as they are, and back."""

from __future__ import annotations

from math import prod

import keras
from keras import layers

from transferclf.exceptions import NetworkError
from transferclf.graphs.pooling import Pooling, Tokens, no_class_token, parts_of
from transferclf.graphs.walking import replay


def pool(
    activations: keras.KerasTensor, pooling: Pooling, tokens: Tokens = (0, 0)
) -> keras.KerasTensor:
    """Return maps (n, h, w, c) or tokens (n, t, c) as features (n, d).

    They are the mean, the maximum or all values over the image, or the class token. `tokens` says
    how many tokens come before those of the image's patches. Means and maxima are of patches only,
    and tokens that are neither are left out. Features (n, d) are returned as they are. Raises
    NetworkError if there is no class token.
    """
    dimensions = len(activations.shape)
    if dimensions == 2:
        return activations
    if dimensions == 3:
        cls, patches = parts_of(activations, pooling, tokens)
        if pooling == "cls":
            return layers.Flatten()(cls)
        if pooling == "cls+avg":
            mean = layers.GlobalAveragePooling1D()(patches)
            return side_by_side([layers.Flatten()(cls), mean])
        if pooling == "flatten" and tokens[1]:
            return as_rows([cls, patches])
        activations = activations if pooling == "flatten" else patches
    elif "cls" in pooling:
        raise no_class_token(pooling, tuple(activations.shape))
    if pooling == "flatten" or dimensions not in (3, 4):
        return layers.Flatten()(activations)
    if pooling == "max":
        kind = layers.GlobalMaxPooling1D if dimensions == 3 else layers.GlobalMaxPooling2D
    else:
        kind = layers.GlobalAveragePooling1D if dimensions == 3 else layers.GlobalAveragePooling2D
    return kind()(activations)


def as_rows(activations: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the numbers of all activations side by side, of shape (n, d)."""
    return side_by_side([layers.Flatten()(tensor) for tensor in activations])


def side_by_side(rows: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Return several rows of each image as one."""
    return layers.Concatenate()(rows) if len(rows) > 1 else rows[0]


def on_rows(model: keras.Model) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """Return a new input (n, d) for rows, and the outputs of a model for it.

    :func:`as_rows` makes such rows of the model's inputs. Layers are shared. Raises NetworkError if
    an input has no fixed shape.
    """
    shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs]
    if any(None in shape for shape in shapes):
        raise NetworkError(
            f"expected activations of a fixed size at the cut of {model.name!r}, got {shapes}; "
            "cut it at another layer"
        )
    rows = keras.Input((sum(map(prod, shapes)),), name="activations")
    if len(shapes) == 1:
        return rows, replay(model, [layers.Reshape(shapes[0])(rows)])
    parts, start = [], 0
    for shape in shapes:
        stop = start + prod(shape)
        parts.append(layers.Reshape(shape)(rows[:, start:stop]))
        start = stop
    return rows, replay(model, parts)
