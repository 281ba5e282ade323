"""The whole classifier as one flat Keras model: a backbone's features, and a head on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from transferclf.graphs.constants import as_constants, shifted_and_scaled
from transferclf.graphs.copying import copied
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import operations_before, replay
from transferclf.heads.building import activated
from transferclf.heads.suffix import Suffix
from transferclf.heads.whitening import PixelScaling, scaled


def with_head(
    model: keras.Model,
    suffix: Suffix,
    mean: np.ndarray,
    scale: np.ndarray,
    weights: Sequence[np.ndarray],
    *,
    dropout: Sequence[float] = (),
    tuned: Mapping[str, list[np.ndarray]] | None = None,
    scaling: PixelScaling | None = None,
) -> keras.Model:
    """A flat classifier: the model's features, standardised, and a head up to a softmax.

    Parameters
    ----------
    model : keras.Model
        From pixels to features (n, d); its weights are copied.
    suffix : Suffix
        What the head is made of.
    mean, scale : ndarray of shape (d,)
        What the features are standardised by.
    weights : sequence of ndarray
        Of the head's layers, one after the other.
    dropout : sequence of float, default=()
        Rates of dropout: after each hidden layer, or on the features where there is none.
    tuned : dict of str to list of ndarray, or None, default=None
        Layers of the model that were trained, by name, and their weights.
    scaling : PixelScaling or None, default=None
        What happens to the pixels before the model.

    Returns
    -------
    keras.Model
        From pixels to probabilities (n, n_classes), in layers of Keras' own. Only the head and the
        layers in `tuned` are trainable, batch normalisation of a pretrained network never. What
        scales pixels or features is constants, in the place of Keras' Normalization layers, which
        exported models would take as further inputs; and the model was called once, without which
        Keras exports nothing.
    """
    taken = {operation.name for operation in model.operations}
    with undisturbed():
        inputs, features = model.inputs[0], model.outputs[0]
        if scaling is not None:
            inputs = keras.Input(inputs.shape[1:], name="raw_pixels")
            features = replay(model, [scaled(inputs, scaling)])[0]
        standardised = _standardised(_as_map(features, suffix), mean, scale, taken)
        below = {id(layer) for layer in keras.Model(inputs, standardised).layers}
        classifier = keras.Model(inputs, _classes(standardised, suffix, dropout, taken))
        above = [layer for layer in classifier.layers if id(layer) not in below]
        head = [layer for layer in above if layer.weights]
        _set_weights(head, weights)
        # The backbone's layers are still part of the graphs they came from.
        whole = copied(classifier, replace=as_constants())
        for name, values in (tuned or {}).items():
            layer = whole.get_layer(name)
            if layer.weights:  # constants are not tuned
                layer.set_weights(values)
        _free_to_train(whole, {*(layer.name for layer in head), *(tuned or {})}, suffix)
        # Keras exports no model that was never called.
        whole(np.zeros((1, *inputs.shape[1:]), np.float32), training=False)
    return whole


def _as_map(features: keras.KerasTensor, suffix: Suffix) -> keras.KerasTensor:
    return layers.Reshape(suffix.map_shape)(features) if suffix.map_shape else features


def _classes(
    x: keras.KerasTensor, suffix: Suffix, dropout: Sequence[float], taken: set[str]
) -> keras.KerasTensor:
    """The probabilities."""
    if suffix.head is not None:
        x = suffix.head.on(x)
        taken = taken | {operation.name for operation in operations_before(x).values()}
    elif not suffix.hidden_units and any(dropout):
        x = layers.Dropout(dropout[0], name=_free("dropout", taken))(x)
    for number, units in enumerate(suffix.hidden_units, 1):
        x = _hidden_layer(x, suffix, units, _free(f"hidden_{number}", taken))
        if any(dropout):
            rate = dropout[number - 1]
            x = layers.Dropout(rate, name=_free(f"dropout_{number}", taken))(x)
    return layers.Dense(suffix.n_classes, "softmax", name=_free("predictions", taken))(x)


def _hidden_layer(x: keras.KerasTensor, suffix: Suffix, units: int, name: str) -> keras.KerasTensor:
    if suffix.batch_norm is None:
        return layers.Dense(units, suffix.activation, name=name)(x)
    return activated(layers.Dense(units, name=name)(x), suffix.activation, suffix.batch_norm, name)


def _set_weights(head: Sequence[Any], weights: Sequence[np.ndarray]) -> None:
    """Give the layers of a head their weights, one after the other."""
    rest = iter(weights)
    for layer in head:
        layer.set_weights([next(rest) for _ in layer.weights])


def _free_to_train(whole: keras.Model, trained: set[str], suffix: Suffix) -> None:
    from_scratch = suffix.prefix is not None and suffix.prefix.is_scratch
    for layer in whole.layers:
        is_norm = isinstance(layer, layers.BatchNormalization)
        is_pretrained = is_norm and not from_scratch and not layer.name.startswith("hidden_")
        layer.trainable = layer.name in trained and not is_pretrained


def _standardised(
    features: keras.KerasTensor, mean: np.ndarray, scale: np.ndarray, taken: set[str]
) -> keras.KerasTensor:
    if not mean.any() and (scale == 1).all():
        return features
    names = (_free("centre", taken), _free("standardize", taken))
    return shifted_and_scaled(features, mean, scale, names)


def _free(name: str, taken: set[str]) -> str:
    """The name, or that with underscores if a layer of the backbone has it."""
    while name in taken:
        name += "_"
    return name
