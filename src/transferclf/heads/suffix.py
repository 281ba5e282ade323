"""The trainable suffix, named before it is built (by heads/building.py).

A `Suffix` says the shape of the trained part: the layers after the cut, if any, and a head.
Everything else (penalties, dropout rates, the mean and scale of the features) is a variable of the
network, so that one compiled training function serves all fits of a shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transferclf.objectives import Objective

if TYPE_CHECKING:
    from transferclf.features.frozen import Prefix
    from transferclf.heads.own import HeadGraph

# Ways to scale pixels that are fitted to the training images.
PIXEL_SCALINGS = ("standardize", "zca")


@dataclass(frozen=True)
class Suffix:
    """A trainable function from rows to scores.

    `dropout`, `l1` and `l2` say whether there is any of it; the amounts are set on the built
    network.
    """

    objective: Objective
    hidden_units: tuple[int, ...] = ()
    activation: str = "relu"
    batch_norm: str | None = None  # or "before" or "after" the activation of hidden layers
    dropout: bool = False
    l1: bool = False
    l2: bool = False
    width: int = 0  # of the rows; only for a suffix on features
    prefix: Prefix | None = None  # all below its cut is constant; None is a head on features
    head: HeadGraph | None = None  # the user's own layers in the place of the hidden ones
    map_shape: tuple[int, ...] = ()  # of the activations for `head`, where features are flat
    scaling: str | None = None  # of the pixels, one of PIXEL_SCALINGS; only for a cut at the pixels
    seed: int = 0  # of the initial weights of `head`
    # Whether batch normalisation of the pretrained network is part of the layers before it. It is a
    # constant there. A step of training takes a tenth less time so.
    is_folded: bool = False

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for suffixes if one can go on from the weights of the other."""
        below = self.width if self.prefix is None else (self.prefix.digest, self.prefix.pooling)
        penalties = (self.dropout, self.l1, self.l2)
        layers = (self.hidden_units, self.activation, self.batch_norm, self.head, self.map_shape)
        others = (self.scaling, self.seed, self.is_folded)
        return (self.objective.key, *layers, *penalties, below, *others)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for suffixes that can share one compiled training function."""
        return (self.shape, self.objective.loss_key, "" if self.head is None else self.head.token)

    @property
    def has_layers(self) -> bool:
        """Whether the head has layers before the last one."""
        return bool(self.hidden_units) or self.head is not None

    def has_layers_of(self, other: Suffix) -> bool:
        """Return whether the hidden layers are those of another suffix."""
        names = ("hidden_units", "activation", "batch_norm", "head")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    @property
    def n_outputs(self) -> int:
        """Number of scores for each sample."""
        return self.objective.n_outputs

    def row_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the activations in a row, for one image."""
        if self.prefix is not None:
            return self.prefix.at_cut().shapes
        return (self.map_shape or (self.width,),)

    @property
    def is_on_pixels(self) -> bool:
        """Whether the rows are images."""
        return self.prefix is not None and self.prefix.is_empty
