"""The whole estimator as one flat Keras model: the backbone, and a head on its features."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from transferclf.graphs.constants import as_constants, shifted_and_scaled
from transferclf.graphs.copying import copied
from transferclf.graphs.folding import fold_batch_norm
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import operations_before, replay
from transferclf.heads.building import activated, head_on
from transferclf.heads.fitted import FittedHead
from transferclf.heads.whitening import scaled


def with_head(model: keras.Model, head: FittedHead) -> keras.Model:
    """Return a flat model from pixels to probabilities or values (n, n_outputs).

    `model` is from pixels to features (n, d); its weights are copied. The result has only layers of
    Keras' own. The head and the layers that were tuned are trainable, batch normalisation of a
    pretrained network never. Pixels and features are scaled by constants, because exported models
    would take Keras' Normalization layers as further inputs.
    """
    suffix, tuned = head.suffix, head.tuned()
    with undisturbed():
        if suffix.is_folded:
            model = fold_batch_norm(model)
        inputs, features = model.inputs[0], model.outputs[0]
        if head.scaling is not None:
            inputs = keras.Input(inputs.shape[1:], name="raw_pixels")
            features = replay(model, [scaled(inputs, head.scaling)])[0]
        if suffix.map_shape:
            features = layers.Reshape(suffix.map_shape)(features)
        standardised = _standardised(features, head.mean, head.scale)
        below = {id(layer) for layer in keras.Model(inputs, standardised).layers}
        flat = keras.Model(inputs, head_on(standardised, suffix, _PlainLayers(head)))
        of_head = [layer for layer in flat.layers if id(layer) not in below and layer.weights]
        rest = iter((*head.weights[:-2], *suffix.objective.restored(*head.weights[-2:])))
        for layer in of_head:
            layer.set_weights([next(rest) for _ in layer.weights])
        # The backbone's layers are still part of the graphs they came from.
        whole = copied(flat, replace=as_constants())
        for name, values in tuned.items():
            layer = whole.get_layer(name)
            if layer.weights:  # constants are not tuned
                layer.set_weights(values)
        trained = {*(layer.name for layer in of_head), *tuned}
        from_scratch = suffix.prefix is not None and suffix.prefix.is_scratch
        for layer in whole.layers:
            is_norm = isinstance(layer, layers.BatchNormalization)
            is_pretrained = is_norm and not from_scratch and not layer.name.startswith("hidden_")
            layer.trainable = layer.name in trained and not is_pretrained
        # Keras exports only a model that was called.
        whole(np.zeros((1, *inputs.shape[1:]), np.float32), training=False)
    return whole


class _PlainLayers:
    """Layers of Keras' own, named."""

    def __init__(self, head: FittedHead):
        self._suffix = head.suffix
        self._dropout = head.dropout

    def hidden(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        suffix, name = self._suffix, _free(f"hidden_{number}", x)
        units = suffix.hidden_units[number - 1]
        if suffix.batch_norm is None:
            return layers.Dense(units, suffix.activation, name=name)(x)
        x = layers.Dense(units, name=name)(x)
        return activated(x, suffix.activation, suffix.batch_norm, name)

    def dropout(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        if not any(self._dropout):
            return x
        name = f"dropout_{number}" if self._suffix.hidden_units else "dropout"
        return layers.Dropout(self._dropout[number - 1], name=_free(name, x))(x)

    def last(self, x: keras.KerasTensor) -> keras.KerasTensor:
        suffix, name = self._suffix, _free("predictions", x)
        return layers.Dense(suffix.n_outputs, suffix.objective.activation, name=name)(x)


def _standardised(
    features: keras.KerasTensor, mean: np.ndarray, scale: np.ndarray
) -> keras.KerasTensor:
    if not mean.any() and (scale == 1).all():
        return features
    names = (_free("centre", features), _free("standardize", features))
    return shifted_and_scaled(features, mean, scale, names)


def _free(name: str, x: keras.KerasTensor) -> str:
    """Return the name, with underscores if a layer before x has it."""
    taken = {operation.name for operation in operations_before(x).values()}
    while name in taken:
        name += "_"
    return name
