"""From a suffix by name to a network that can be trained."""

from __future__ import annotations

from typing import Protocol

import keras
from keras import layers

from transferclf.graphs.copying import copied
from transferclf.graphs.folding import fold_batch_norm, lower_precision
from transferclf.graphs.isolation import undisturbed
from transferclf.graphs.walking import replay
from transferclf.heads.suffix import Suffix
from transferclf.heads.tunable import Network, Standardize, TunableDense, TunableDropout
from transferclf.heads.whitening import PixelScaler


def build_suffix(suffix: Suffix) -> Network:
    """Build the trainable network of a suffix: the layers after the cut, and a head on them.

    Its model is from rows (n, d), or pixels (n, h, w, 3), to scores (n, n_outputs). Batch
    normalisation of a pretrained network works by its stored statistics and is not trained.
    """
    with undisturbed(suffix.seed):
        tail = _tail(suffix)
        inputs, features = tail.inputs[0], tail.outputs[0]
        if suffix.scaling is not None:
            inputs = keras.Input(inputs.shape[1:], name="raw_pixels")
            features = replay(tail, [PixelScaler(suffix.scaling)(inputs)])[0]
        if suffix.map_shape:
            features = layers.Reshape(suffix.map_shape)(features)
        x = Standardize(name="transferclf_standardize")(features)
        scores = head_on(x, suffix, _TunableLayers(suffix))
        return Network(keras.Model(inputs, scores, name="suffix"), tail.layers)


def _tail(suffix: Suffix) -> keras.Model:
    """Return the layers from rows to features (n, d)."""
    prefix = suffix.prefix
    if prefix is None:
        rows = keras.Input((suffix.width,), name="features")
        return keras.Model(rows, rows)
    tail = prefix.tail()
    if suffix.is_folded:
        tail = fold_batch_norm(tail)
        if prefix.precision == "bfloat16":
            tail = lower_precision(tail, is_trained=True)
    if not prefix.is_scratch:
        for layer in tail.layers:
            # Statistics of small batches of other images would ruin those of the pretraining.
            layer.trainable = not isinstance(layer, layers.BatchNormalization)
    return tail


def below_cut(suffix: Suffix) -> keras.Model:
    """Build the frozen part below a suffix, from pixels to its rows, with layers of its own."""
    assert suffix.prefix is not None
    return fold_batch_norm(copied(suffix.prefix.build()))


class HeadLayers(Protocol):
    """Layers that a head is built of: tunable ones for training, plain ones for `model_`."""

    def hidden(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        """Return the output of hidden layer `number`, counted from 1."""

    def dropout(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        """Return x after the dropout of this number, or x itself if there is none."""

    def last(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Return the outputs."""


def head_on(x: keras.KerasTensor, suffix: Suffix, make: HeadLayers) -> keras.KerasTensor:
    """Return the outputs of a head on standardised features."""
    if suffix.head is not None:
        return make.last(suffix.head.on(x))
    if not suffix.hidden_units:
        x = make.dropout(x, 1)
    for number in range(1, len(suffix.hidden_units) + 1):
        x = make.dropout(make.hidden(x, number), number)
    return make.last(x)


class _TunableLayers:
    """Layers whose penalties and rates are variables, so that one compiled function serves all."""

    def __init__(self, suffix: Suffix):
        self._suffix = suffix

    def hidden(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        suffix = self._suffix
        x = self._dense(suffix.hidden_units[number - 1])(x)
        return activated(x, suffix.activation, suffix.batch_norm)

    def dropout(self, x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        return TunableDropout()(x) if self._suffix.dropout else x

    def last(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self._dense(self._suffix.n_outputs)(x)

    def _dense(self, units: int) -> TunableDense:
        return TunableDense(units, l1=self._suffix.l1, l2=self._suffix.l2)


def activated(
    x: keras.KerasTensor, activation: str, batch_norm: str | None, name: str = ""
) -> keras.KerasTensor:
    """Return x after the activation, with batch normalisation before or after it if wanted."""
    named = {"name": f"{name}_norm"} if name else {}
    if batch_norm == "before":
        x = layers.BatchNormalization(**named)(x)
    x = layers.Activation(activation, **({"name": f"{name}_activation"} if name else {}))(x)
    return layers.BatchNormalization(**named)(x) if batch_norm == "after" else x
