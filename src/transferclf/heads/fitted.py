"""The interface of a learned head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from transferclf.heads.history import History, Phases
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling


@dataclass(frozen=True, kw_only=True)
class FittedHead(ABC):
    """A learned head, whatever it was fitted by.

    A kind of head is a subclass in a file of its own, made by a function that is passed to
    `register_head`. Everything else asks the object and does not look at its class.

    Attributes
    ----------
    kind : str
        Name of the kind, also in archives.
    suffix : Suffix
        Layers of the head, and of the backbone above the cut where these were trained too.
    mean, scale : ndarray of shape (d,)
        Statistics that features are standardised by.
    weights : list of ndarray
        Weights of the layers of the head, in the order of the flat model.
    l2 : float
        Penalty in use.
    history : dict of str to list of float
        Loss and measure after each iteration or epoch.
    phases : tuple of Phase
        Parts of the history.
    moments : Moments or None
        Moments of the features so far, where `partial_fit` can go on from them.
    """

    kind: ClassVar[str]

    suffix: Suffix
    mean: np.ndarray
    scale: np.ndarray
    weights: list[np.ndarray]
    l2: float = 0.0
    history: History = field(default_factory=dict, compare=False)
    phases: Phases = field(default=(), compare=False)
    moments: Moments | None = field(default=None, compare=False, repr=False)

    # What only a head that a Keras optimizer trained has; see TrainedSuffix.
    checkpoint: Any = field(default=None, compare=False, repr=False)
    epochs_done: int = 0
    dropout: tuple[float, ...] = ()
    scaling: PixelScaling | None = None

    @abstractmethod
    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of rows, shape (n, n_outputs)."""

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return what the head sees of rows before it standardises them, shape (n, d)."""
        return rows

    @property
    def is_at_cut(self) -> bool:
        """Whether rows are activations at the cut, not features of the whole backbone."""
        return self.suffix.prefix is not None

    @property
    def n_iter(self) -> int:
        """Number of iterations and epochs in all."""
        return len(self.history.get("loss", ()))

    @property
    def n_iter_of_head(self) -> int:
        """Number of them before layers of the backbone were trained."""
        return self.n_iter

    @abstractmethod
    def can_start(self, suffix: Suffix) -> bool:
        """Return whether the training of a suffix can start from these weights."""

    @abstractmethod
    def is_head_of(self, suffix: Suffix, is_linear: bool) -> bool:
        """Return whether this is a finished head as the plan wants one before fine-tuning."""

    def without_checkpoint(self) -> Self:
        """Return the same head without what is only needed to go on training."""
        return self

    def tuned(self) -> Mapping[str, Sequence[np.ndarray]]:
        """Return the weights of the backbone's layers above the cut by name, if trained."""
        return {}
