"""The plan of a fit, and the images with their targets."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.views import EXTREME_CROPS, View
from transferclf.features.frozen import Prefix
from transferclf.features.row_file import Rows
from transferclf.heads.registry import LBFGS
from transferclf.heads.suffix import Suffix
from transferclf.images import ImageSource
from transferclf.images.geometry import ResizeMode
from transferclf.training.batches import Samples
from transferclf.training.recipe import Recipe

# Images are varied afresh at the pixels where the frozen part does less than this share of the
# multiply-adds of the network. A step of training does those of the other layers three times.
CHEAP = 0.1


class Variant(NamedTuple):
    """A stored variation of each image: its crop, None as always, and its augmented view."""

    crop: ResizeMode | None = None
    view: View | None = None

    def title(self, n_views: int) -> str:
        """Return the name of the variation in progress bars, empty for the image itself."""
        parts = [] if self.crop is None else [f"{self.crop} crop"]
        of_view = [] if self.view is None else [f"view {self.view.number} of {n_views}"]
        return ", ".join([*parts, *of_view])


@dataclass(frozen=True)
class Images:
    """Images with encoded targets (n, ...) and weights (n,).

    `positions` are the images that are samples, repeated where classes are oversampled; None is
    each image once.
    """

    source: ImageSource
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray | None = None

    def part(self, chosen: np.ndarray) -> Images:
        """Return some of the images."""
        return Images(self.source[chosen], self.targets[chosen], self.weights[chosen])

    def samples(self, rows: Rows) -> Samples:
        """Return these images as samples, given their rows."""
        return Samples.of(rows, self.targets, self.weights, self.positions)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a fit; recipes that are not needed are None.

    `suffix` has the objective and the layers of the head; the rest of it follows from the recipes
    and the data.
    """

    prefix: Prefix
    suffix: Suffix
    l2: float | None  # None chooses it by cross-validation where the head is linear
    # For the head on the frozen network, or for a whole network from random weights. None is a
    # linear head, fitted by `fit` in at most `max_iter` iterations.
    head: Recipe | None = None
    fine_tuning: Recipe | None = None  # for the head and the layers above the cut
    max_iter: int | None = None
    fit: str = LBFGS
    augmentation: Augmentation | None = None
    zca_epsilon: float = 0.01
    validation_fraction: float | None = None
    # Bytes of activations at the cut, or of pixels, that may be in memory; None is no limit.
    max_memory: int | None = None
    # Whether more images are to come, which change the mean and scale of the features.
    is_partial: bool = False

    @property
    def stops_early(self) -> bool:
        """Whether a phase ends where the validation loss no longer falls."""
        recipes = (self.head, self.fine_tuning)
        return any(recipe is not None and recipe.patience is not None for recipe in recipes)

    @property
    def runs_prefix(self) -> bool:
        """Whether each step runs the frozen part, so that rows of training images are pixels."""
        return self.fine_tuning is not None and self.fine_tuning.method.runs_prefix

    @property
    def views(self) -> list[View]:
        """The stored views of each training image, without the image itself."""
        if self.augmentation is None or self.prefix.is_empty:
            return []
        return views_of(self.augmentation)

    @cached_property
    def variants(self) -> list[Variant]:
        """The stored variations of each training image, those without augmentation first."""
        has_crops = self.augmentation is not None and self.augmentation.extreme_crops
        crops = EXTREME_CROPS if has_crops else (None,)
        return [Variant(crop, view) for view in (None, *self.views) for crop in crops]

    @property
    def variants_at_cut(self) -> list[Variant]:
        """Those whose rows are trained on; pixels are varied in the steps instead."""
        return [each for each in self.variants if each.view is None or not self.runs_prefix]


def runs_prefix(augmentation: Augmentation | None, prefix: Prefix) -> bool:
    """Return whether the frozen part is so cheap that each step may run it on varied pixels."""
    if augmentation is None or not augmentation.varies or not prefix.is_cut or prefix.is_empty:
        return False
    # At a lower precision, other activations would be trained on than are predicted from.
    return prefix.precision == "float32" and prefix.at_cut().share_below < CHEAP


def views_of(augmentation: Augmentation) -> list[View]:
    """Return the fixed views that a recipe makes of each image; none if it only mixes images."""
    numbers = range(1, augmentation.views + 1) if augmentation.varies else ()
    return [View(augmentation, number) for number in numbers]
