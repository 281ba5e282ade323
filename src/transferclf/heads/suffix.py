"""The trainable suffix, named before it is built (by heads/building.py).

A `Suffix` says the shape of what is trained: the layers after the cut, if any, and a head.
Everything else (penalties, dropout rates, the statistics that features are standardised by) is a
variable of the network, so that one compiled training function serves all fits of a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transferclf.objectives import Objective

if TYPE_CHECKING:
    from transferclf.features.frozen import Prefix
    from transferclf.heads.own import HeadGraph

# Ways to scale pixels that are fitted to the training images.
PIXEL_SCALINGS = ("standardize", "zca")


@dataclass(frozen=True)
class Suffix:
    """A trainable function from rows to scores.

    Parameters
    ----------
    objective : Objective
        Number of outputs, and what they mean.
    hidden_units : tuple of int, default=()
        Widths of the dense layers before the last.
    activation : str, default="relu"
        Their activation, one of Keras' names.
    batch_norm : {None, "before", "after"}, default=None
        Batch normalisation in the hidden layers, before or after the activation.
    dropout, l1, l2 : bool, default=False
        Whether there is any of it at all; how much is set on the built network.
    width : int, default=0
        Length of the rows; only for a suffix on features.
    prefix : Prefix or None, default=None
        The cut below which everything is constant; None is a head on features.
    head : HeadGraph or None, default=None
        Layers of the user's own, in the place of the hidden layers.
    map_shape : tuple of int, default=()
        What the features are as activations, for `head`; () is what they are.
    scaling : {None, "standardize", "zca"}, default=None
        What happens to the pixels first, fitted to them; only where the cut is at the pixels.
    seed : int, default=0
        What the initial weights of `head` are drawn from.
    """

    objective: Objective
    hidden_units: tuple[int, ...] = ()
    activation: str = "relu"
    batch_norm: str | None = None
    dropout: bool = False
    l1: bool = False
    l2: bool = False
    width: int = 0
    prefix: Prefix | None = None
    head: HeadGraph | None = None
    map_shape: tuple[int, ...] = ()
    scaling: str | None = None
    seed: int = 0

    @property
    def shape(self) -> tuple[Any, ...]:
        """What two suffixes have in common of which one can go on from the other's weights."""
        below = self.width if self.prefix is None else (self.prefix.digest, self.prefix.pooling)
        penalties = (self.dropout, self.l1, self.l2)
        layers = (self.hidden_units, self.activation, self.batch_norm, self.head, self.map_shape)
        return (self.objective.key, *layers, *penalties, below, self.scaling, self.seed)

    @property
    def key(self) -> tuple[Any, ...]:
        """What two suffixes have in common that can share one compiled training function."""
        return (self.shape, "" if self.head is None else self.head.token)

    @property
    def has_layers(self) -> bool:
        """Whether the head has layers before the last one."""
        return bool(self.hidden_units) or self.head is not None

    def has_layers_of(self, other: Suffix) -> bool:
        """Whether the hidden layers are those of another suffix."""
        names = ("hidden_units", "activation", "batch_norm", "head")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def n_outputs(self) -> int:
        """Number of scores for each sample."""
        return self.objective.n_outputs

    @property
    def is_on_pixels(self) -> bool:
        """Whether the rows are images."""
        return self.prefix is not None and self.prefix.is_empty
