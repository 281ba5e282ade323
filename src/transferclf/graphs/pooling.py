"""How activations become features, and how this is done for networks that are no Keras models.

Importing this module does not import Keras.
"""

from __future__ import annotations

from typing import Literal, TypeVar

import numpy as np

from transferclf.exceptions import NetworkError

Pooling = Literal["avg", "max", "flatten", "cls", "cls+avg"]

# Numbers of class tokens, and of further tokens that are no patches of the image.
Tokens = tuple[int, int]

Activations = TypeVar("Activations")


def pool_array(activations: np.ndarray, pooling: Pooling, tokens: Tokens = (0, 0)) -> np.ndarray:
    """Return activations (n, ...) of a network that is no Keras model as features, as `pool`."""
    if activations.ndim == 2:
        return activations
    n_images = len(activations)
    if activations.ndim == 3:
        cls, patches = parts_of(activations, pooling, tokens)
        if pooling == "cls":
            return cls.reshape(n_images, -1)
        if pooling == "cls+avg":
            return np.hstack([cls.reshape(n_images, -1), patches.mean(axis=1)])
        if pooling == "flatten" and tokens[1]:
            return np.hstack([cls.reshape(n_images, -1), patches.reshape(n_images, -1)])
        activations = activations if pooling == "flatten" else patches
    elif "cls" in pooling:
        raise no_class_token(pooling, activations.shape)
    if pooling == "flatten":
        return activations.reshape(n_images, -1)
    axes = tuple(range(1, activations.ndim - 1))
    return activations.max(axis=axes) if pooling == "max" else activations.mean(axis=axes)


def parts_of(
    activations: Activations, pooling: Pooling, tokens: Tokens
) -> tuple[Activations, Activations]:
    """Return the class tokens, and the tokens of the patches."""
    n_cls, n_others = tokens
    # In a network that nothing is known of, the first token is the one that is asked for.
    n_cls = max(n_cls, 1) if "cls" in pooling else n_cls
    start = n_cls + n_others
    parts: tuple[Activations, Activations] = (
        activations[:, :n_cls],  # type: ignore[index]
        activations[:, start:] if start else activations,  # type: ignore[index]
    )
    return parts


def no_class_token(pooling: str, shape: tuple[int | None, ...]) -> NetworkError:
    """Return the error for activations that are no tokens."""
    return NetworkError(
        f"pooling={pooling!r} needs a network that ends in tokens (n, t, c), with a class token "
        f"first. Got activations of shape {shape}; take 'avg', 'max' or 'flatten'."
    )
