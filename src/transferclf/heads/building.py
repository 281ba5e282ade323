"""From a suffix by name to a network that can be trained."""

from __future__ import annotations

import keras
from keras import layers

from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import replay
from transferclf.heads.suffix import Suffix
from transferclf.heads.tunable import Network, Standardize, TunableDense, TunableDropout
from transferclf.heads.whitening import PixelScaler


def build_suffix(suffix: Suffix) -> Network:
    """Build the trainable network of a suffix: what comes after the cut, and a head on it.

    Batch normalisation of a pretrained network works by its stored statistics and is not trained.

    Parameters
    ----------
    suffix : Suffix
        What it is made of.

    Returns
    -------
    Network
        Its model is from rows (n, d), or pixels (n, h, w, 3), to scores (n, n_classes) before the
        softmax.
    """
    with undisturbed(suffix.seed):
        return _on_tail(suffix, _tail(suffix))


def _tail(suffix: Suffix) -> keras.Model:
    """From rows to features (n, d)."""
    prefix = suffix.prefix
    if prefix is None:
        rows = keras.Input((suffix.width,), name="features")
        return keras.Model(rows, rows)
    tail = prefix.tail()
    if not prefix.is_scratch:
        for layer in tail.layers:
            # Statistics of small batches of one's own images would ruin those it came with.
            layer.trainable = not isinstance(layer, layers.BatchNormalization)
    return tail


def _on_tail(suffix: Suffix, tail: keras.Model) -> Network:
    inputs, features = tail.inputs[0], tail.outputs[0]
    if suffix.scaling is not None:
        inputs = keras.Input(inputs.shape[1:], name="raw_pixels")
        features = replay(tail, [PixelScaler(suffix.scaling)(inputs)])[0]
    model = keras.Model(inputs, _scores(suffix, features), name="suffix")
    return Network(model, tail.layers)


def _scores(suffix: Suffix, features: keras.KerasTensor) -> keras.KerasTensor:
    if suffix.map_shape:
        features = layers.Reshape(suffix.map_shape)(features)
    x = Standardize(name="transferclf_standardize")(features)
    x = _hidden(suffix, x) if suffix.head is None else suffix.head.on(x)
    return TunableDense(suffix.n_classes, l1=suffix.l1, l2=suffix.l2)(x)


def _hidden(suffix: Suffix, x: keras.KerasTensor) -> keras.KerasTensor:
    if suffix.dropout and not suffix.hidden_units:
        return TunableDropout()(x)
    for units in suffix.hidden_units:
        x = TunableDense(units, l1=suffix.l1, l2=suffix.l2)(x)
        x = activated(x, suffix.activation, suffix.batch_norm)
        x = TunableDropout()(x) if suffix.dropout else x
    return x


def activated(
    x: keras.KerasTensor, activation: str, batch_norm: str | None, name: str = ""
) -> keras.KerasTensor:
    """The activation, with batch normalisation before or after it if that is wanted."""
    named = {"name": f"{name}_norm"} if name else {}
    if batch_norm == "before":
        x = layers.BatchNormalization(**named)(x)
    x = layers.Activation(activation, **({"name": f"{name}_activation"} if name else {}))(x)
    return layers.BatchNormalization(**named)(x) if batch_norm == "after" else x
