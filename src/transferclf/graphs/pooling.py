"""From what a backbone ends in to one vector of features per image."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers

Pooling = Literal["avg", "max", "flatten"]


def pool(activations: keras.KerasTensor, pooling: Pooling) -> keras.KerasTensor:
    """Reduce activations to one vector per image.

    Parameters
    ----------
    activations : keras.KerasTensor of shape (n, h, w, c), (n, t, c) or (n, d)
        What a backbone ends in: a map, the tokens of a transformer, or features, which are
        returned as they are.
    pooling : {"avg", "max", "flatten"}
        Mean or maximum over the map or the tokens, or all of the values.

    Returns
    -------
    keras.KerasTensor of shape (n, d)
    """
    dimensions = len(activations.shape)
    if dimensions == 2:
        return activations
    if pooling == "flatten" or dimensions not in (3, 4):
        return layers.Flatten()(activations)
    if pooling == "max":
        kind = layers.GlobalMaxPooling1D if dimensions == 3 else layers.GlobalMaxPooling2D
    else:
        kind = layers.GlobalAveragePooling1D if dimensions == 3 else layers.GlobalAveragePooling2D
    return kind()(activations)
