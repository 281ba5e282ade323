"""Heads: from an activation map to features, and from features to class probabilities."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
from keras import layers

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


def with_linear_head(
    model: keras.Model,
    mean: np.ndarray,
    scale: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
) -> keras.Model:
    """A flat classifier: the model's features, standardised, and one softmax layer.

    Parameters
    ----------
    model : keras.Model
        From pixels to features (n, d); its weights are copied.
    mean, scale : ndarray of shape (d,)
        What the features are standardised by.
    coef : ndarray of shape (d, n_classes)
        Kernel of the dense layer "predictions".
    intercept : ndarray of shape (n_classes,)
        Its bias.

    Returns
    -------
    keras.Model
        From pixels to probabilities (n, n_classes). Only the dense layer is trainable.
    """
    taken = {operation.name for operation in model.operations}
    with undisturbed():
        predictions = layers.Dense(
            coef.shape[1], activation="softmax", name=_free("predictions", taken)
        )
        features = _standardised(model.outputs[0], mean, scale, taken)
        shared = keras.Model(model.inputs[0], predictions(features))
        # The backbone's layers are still part of the graphs they came from; in a clone each layer
        # has one input and one output, as Grad-CAM and exporting need.
        whole = keras.models.clone_model(shared, clone_function=_cloned)
    predictions.set_weights([coef, intercept])
    whole.set_weights(shared.get_weights())
    for layer in whole.layers:
        layer.trainable = layer.name == predictions.name
    return whole


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


def _cloned(layer: Any) -> Any:
    # Keras refuses to make a Lambda from its description; it has no weights and can be shared.
    is_lambda = isinstance(layer, layers.Lambda)
    return layer if is_lambda else type(layer).from_config(layer.get_config())


def _free(name: str, taken: set[str]) -> str:
    """The name, or that with underscores if a layer of the backbone has it."""
    while name in taken:
        name += "_"
    return name
