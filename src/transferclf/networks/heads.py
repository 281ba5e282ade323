"""Heads: from an activation map to features, and from features to class probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import keras
import numpy as np
from keras import layers

from transferclf.networks.graphs import copied
from transferclf.networks.isolation import undisturbed

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


def with_head(
    model: keras.Model,
    mean: np.ndarray,
    scale: np.ndarray,
    dense: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    activation: str = "relu",
    dropout: Sequence[float] = (),
    tuned: Mapping[str, list[np.ndarray]] | None = None,
) -> keras.Model:
    """A flat classifier: the model's features, standardised, and dense layers up to a softmax.

    Parameters
    ----------
    model : keras.Model
        From pixels to features (n, d); its weights are copied.
    mean, scale : ndarray of shape (d,)
        What the features are standardised by.
    dense : sequence of (ndarray, ndarray)
        Kernels and biases of the dense layers; the last one is called "predictions".
    activation : str, default="relu"
        Activation of all but the last.
    dropout : sequence of float, default=()
        Rates of dropout: after each hidden layer, or on the features where there is none.
    tuned : dict of str to list of ndarray, or None, default=None
        Layers of the model that were trained, by name, and their weights.

    Returns
    -------
    keras.Model
        From pixels to probabilities (n, n_classes). Only the dense layers and those in `tuned`
        are trainable, batch normalisation never.
    """
    taken = {operation.name for operation in model.operations}
    with undisturbed():
        features = _standardised(model.outputs[0], mean, scale, taken)
        outputs, names = _dense_layers(features, dense, activation, dropout, taken)
        # The backbone's layers are still part of the graphs they came from.
        whole = copied(keras.Model(model.inputs[0], outputs))
    for name, weights in (tuned or {}).items():
        whole.get_layer(name).set_weights(weights)
    for layer in whole.layers:
        is_trained = layer.name in names or layer.name in (tuned or {})
        layer.trainable = is_trained and not isinstance(layer, layers.BatchNormalization)
    return whole


def _dense_layers(
    x: keras.KerasTensor,
    dense: Sequence[tuple[np.ndarray, np.ndarray]],
    activation: str,
    dropout: Sequence[float],
    taken: set[str],
) -> tuple[keras.KerasTensor, set[str]]:
    """The probabilities, and the names of the dense layers that they come from."""
    hidden = [_free(f"hidden_{number}", taken) for number in range(1, len(dense))]
    names = [*hidden, _free("predictions", taken)]
    if len(dense) == 1 and any(dropout):
        x = layers.Dropout(dropout[0], name=_free("dropout", taken))(x)
    for number, (name, weights) in enumerate(zip(names, dense, strict=True)):
        is_last = name == names[-1]
        units = weights[0].shape[1]
        layer = layers.Dense(units, activation="softmax" if is_last else activation, name=name)
        x = layer(x)
        layer.set_weights(weights)
        if not is_last and any(dropout):
            x = layers.Dropout(dropout[number], name=_free(f"dropout_{number + 1}", taken))(x)
    return x, set(names)


def _standardised(
    features: keras.KerasTensor, mean: np.ndarray, scale: np.ndarray, taken: set[str]
) -> keras.KerasTensor:
    # Two layers, because Normalization takes deviations below 1e-7 for none, which features of
    # untrained networks often have.
    centre = layers.Normalization(
        mean=mean.tolist(), variance=[1.0] * len(mean), name=_free("centre", taken)
    )
    rescale = layers.Rescaling((1.0 / scale).tolist(), name=_free("standardize", taken))
    return rescale(centre(features))


def _free(name: str, taken: set[str]) -> str:
    """The name, or that with underscores if a layer of the backbone has it."""
    while name in taken:
        name += "_"
    return name
