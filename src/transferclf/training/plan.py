"""What is to be learned, on which images, and how."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.views import EXTREME_CROPS, View
from transferclf.features.frozen import Prefix
from transferclf.heads.registry import LBFGS
from transferclf.heads.suffix import Suffix
from transferclf.images import ImageSource
from transferclf.images.geometry import ResizeMode
from transferclf.training.batches import Samples
from transferclf.training.recipe import Recipe


class Variant(NamedTuple):
    """A stored variation of each image: how it is resized, None as always, and how it is varied."""

    crop: ResizeMode | None = None
    view: View | None = None

    def title(self, n_views: int) -> str:
        """Return the name of the variation in progress bars, empty for the image itself."""
        parts = [] if self.crop is None else [f"{self.crop} crop"]
        of_view = [] if self.view is None else [f"view {self.view.number} of {n_views}"]
        return ", ".join([*parts, *of_view])


@dataclass(frozen=True)
class Images:
    """Images with targets.

    Parameters
    ----------
    source : ImageSource
        The images.
    targets : ndarray of shape (n, ...)
        Targets as the objective encodes them.
    weights : ndarray of shape (n,)
        Weight of each image.
    positions : ndarray of int or None, default=None
        The images that are samples, repeated where classes are oversampled; None is all once.
    """

    source: ImageSource
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray | None = None

    def part(self, chosen: np.ndarray) -> Images:
        """Some of them."""
        return Images(self.source[chosen], self.targets[chosen], self.weights[chosen])

    def samples(self, rows: np.ndarray) -> Samples:
        """These images as samples, given their rows."""
        return Samples.of(rows, self.targets, self.weights, self.positions)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be learned, and how; recipes that are not needed are None.

    Parameters
    ----------
    prefix : Prefix
        The network and its cut.
    suffix : Suffix
        Objective and layers of the head; the rest follows from the recipes and the data.
    l2 : float or None
        Penalty; None chooses it by the data where the head is linear.
    head : Recipe or None, default=None
        For the head on the frozen network, or for a whole network from random weights. None is a
        linear head, fitted by L-BFGS.
    fine_tuning : Recipe or None, default=None
        For the head and the layers above the cut.
    max_iter : int or None, default=None
        L-BFGS iterations at most.
    fit : str, default="lbfgs"
        Name of what fits the head where it is linear.
    augmentation : Augmentation or None, default=None
        What training images are varied by.
    zca_epsilon : float, default=0.01
        What keeps whitening from dividing by nothing.
    validation_fraction : float or None, default=None
        How much of the images is held out.
    is_partial : bool, default=False
        Whether the images are a part of those to come, so that what features are standardised by
        changes with each part.
    """

    prefix: Prefix
    suffix: Suffix
    l2: float | None
    head: Recipe | None = None
    fine_tuning: Recipe | None = None
    max_iter: int | None = None
    fit: str = LBFGS
    augmentation: Augmentation | None = None
    zca_epsilon: float = 0.01
    validation_fraction: float | None = None
    is_partial: bool = False

    @property
    def is_linear(self) -> bool:
        """Whether the head is linear, fitted by L-BFGS."""
        return self.head is None

    @property
    def views(self) -> list[View]:
        """The stored views of each training image, without the image itself."""
        if self.augmentation is None or self.prefix.is_empty:
            return []
        return views_of(self.augmentation)

    @cached_property
    def variants(self) -> list[Variant]:
        """The stored variations of each training image, those that are not varied first."""
        has_crops = self.augmentation is not None and self.augmentation.extreme_crops
        crops = EXTREME_CROPS if has_crops else (None,)
        return [Variant(crop, view) for view in (None, *self.views) for crop in crops]


def views_of(augmentation: Augmentation) -> list[View]:
    """The fixed views that a recipe makes of each image; none where it only mixes images."""
    numbers = range(1, augmentation.views + 1) if augmentation.varies else ()
    return [View(augmentation, number) for number in numbers]
