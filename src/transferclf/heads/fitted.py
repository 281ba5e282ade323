"""The interface of a learned head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from transferclf.heads.history import History, Phases
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix

if TYPE_CHECKING:
    from transferclf.heads.whitening import PixelScaling


@dataclass(frozen=True)
class Checkpoint:
    """State of training by a Keras optimizer at the end of an epoch.

    `values` are the weights, the state of the optimizer and that of the random generators. `method`
    is the key of the `Method` that was used. `began` are the weights before the phase, if needed.
    """

    values: list[np.ndarray]
    method: tuple[object, ...]
    began: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class FittedHead(ABC):
    """A learned head of any kind.

    A kind of head is a subclass in a file of its own, made by a function that is passed to
    `register_head`. Everything else asks the object and does not look at its class.

    Attributes
    ----------
    kind : str
        Name of the kind, also in archives.
    suffix : Suffix
        Layers of the head, and of the backbone above the cut where these were trained too.
    mean, scale : ndarray of shape (d,)
        Statistics that standardise the features.
    weights : list of ndarray
        Weights of the layers of the head, in the order of the flat model.
    l2 : float, default=0.0
        Penalty in use.
    history : dict of str to list of float, default={}
        Loss and measure after each iteration or epoch.
    phases : tuple of Phase, default=()
        Parts of the history.
    moments : Moments or None, default=None
        Moments of the features so far, where `partial_fit` can go on from them.
    parameters : list of ndarray, default=[]
        All weights of the built suffix. This field and the next ones are for Keras' optimizers.
    checkpoint : Checkpoint or None, default=None
        State of training, to go on from there.
    epochs_done : int, default=0
        Epochs of the last phase before `checkpoint`.
    n_head_iter : int, default=0
        Length of the history before the last phase.
    dropout : tuple of float, default=()
        Rates of dropout in training.
    scaling : PixelScaling or None, default=None
        Scaling of the pixels, if it was fitted to the training images.
    soup : float, default=1.0
        Share of the trained weights in `parameters`; the rest are the weights before the phase.
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

    # Set only where a Keras optimizer trained the head; see TrainedSuffix.
    parameters: Sequence[np.ndarray] = ()
    checkpoint: Checkpoint | None = field(default=None, compare=False, repr=False)
    epochs_done: int = 0
    n_head_iter: int = 0
    dropout: tuple[float, ...] = ()
    scaling: PixelScaling | None = None
    soup: float = 1.0

    @abstractmethod
    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of rows, shape (n, n_outputs)."""

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return the features that the head standardises, shape (n, d)."""
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

    def can_start(self, suffix: Suffix) -> bool:
        """Return whether the training of a suffix can start from these weights."""
        return self.can_resume(suffix)

    def can_resume(self, suffix: Suffix) -> bool:
        """Return whether the training of a suffix can go on from `parameters` and `checkpoint`."""
        return False

    @abstractmethod
    def is_head_of(self, suffix: Suffix, is_linear: bool) -> bool:
        """Return whether this is a finished head as the plan wants one before fine-tuning."""

    def without_checkpoint(self) -> Self:
        """Return the same head without the checkpoint that only further training needs."""
        return self

    def tuned(self) -> Mapping[str, Sequence[np.ndarray]]:
        """Return the weights of the backbone's layers above the cut by name, if trained."""
        return {}
