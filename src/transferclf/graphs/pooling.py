"""Pool the output of a backbone into one vector of features per image."""

from __future__ import annotations

from typing import Literal

import keras
from keras import layers

Pooling = Literal["avg", "max", "flatten"]


def pool(activations: keras.KerasTensor, pooling: Pooling) -> keras.KerasTensor:
    """Reduce maps (n, h, w, c) or tokens (n, t, c) to one vector (n, d) per image.

    That is their mean, maximum, or all values. Features (n, d) are returned as they are.
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
