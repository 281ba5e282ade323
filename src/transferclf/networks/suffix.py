"""The trainable suffix, named before it is built.

A `Suffix` says the shape of what is trained: the layers after the cut, if any, and a head of dense
layers. Everything else (penalties, dropout rates, the statistics that features are standardised
by) is a variable of the network, so that one compiled training function serves all fits of a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transferclf.networks.isolation import undisturbed

if TYPE_CHECKING:
    import keras

    from transferclf.networks.prefix import Prefix


@dataclass(frozen=True)
class Suffix:
    """A trainable function from rows to class scores.

    Parameters
    ----------
    n_classes : int
        Number of classes.
    hidden_units : tuple of int, default=()
        Widths of the dense layers before the last.
    activation : str, default="relu"
        Their activation, one of Keras' names.
    dropout, l1, l2 : bool, default=False
        Whether there is any of it at all; how much is set on the built network.
    width : int, default=0
        Length of the rows; only for a suffix without a prefix.
    prefix : Prefix or None, default=None
        The cut below which everything is constant; None is a head on features.
    """

    n_classes: int
    hidden_units: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: bool = False
    l1: bool = False
    l2: bool = False
    width: int = 0
    prefix: Prefix | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two suffixes have in common that can share one compiled training function."""
        below = self.width if self.prefix is None else (self.prefix.digest, self.prefix.pooling)
        penalties = (self.dropout, self.l1, self.l2)
        return (self.n_classes, self.hidden_units, self.activation, *penalties, below)

    def build(self) -> keras.Model:
        """A new Keras model from rows (n, d) to class scores (n, n_classes).

        Batch normalisation works by its stored statistics and is not trained.
        """
        import keras

        from transferclf.networks.tunable import tunable_head

        with undisturbed():
            tail = self._tail()
            scores = tunable_head(
                tail.outputs[0],
                self.n_classes,
                hidden_units=self.hidden_units,
                activation=self.activation,
                dropout=self.dropout,
                l1=self.l1,
                l2=self.l2,
            )
            return keras.Model(tail.inputs[0], scores, name="suffix")

    def _tail(self) -> keras.Model:
        import keras

        if self.prefix is None:
            rows = keras.Input((self.width,), name="features")
            return keras.Model(rows, rows)
        tail = self.prefix.tail()
        for layer in tail.layers:
            # Statistics of small batches of one's own images would ruin those it came with.
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
        return tail
