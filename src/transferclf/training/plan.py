"""The plan of a fit, and the images with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.views import EXTREME_CROPS, View
from transferclf.exceptions import warn
from transferclf.features.frozen import Prefix
from transferclf.features.row_file import Rows
from transferclf.heads.registry import LBFGS
from transferclf.heads.suffix import Suffix
from transferclf.images import ImageSource
from transferclf.images.geometry import ResizeMode
from transferclf.images.loading import content_digests
from transferclf.objectives.base import Split
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

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return len(self.targets if self.positions is None else self.positions)

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
        return _stored_views(self.augmentation, self.prefix)

    @cached_property
    def variants(self) -> list[Variant]:
        """The stored variations of each training image, those without augmentation first."""
        return variants_of(self.augmentation, self.prefix)

    @property
    def variants_at_cut(self) -> list[Variant]:
        """Those whose rows are trained on; pixels are varied in the steps instead."""
        return [each for each in self.variants if each.view is None or not self.runs_prefix]


def variants_of(augmentation: Augmentation | None, prefix: Prefix) -> list[Variant]:
    """Return the stored variations of each training image, those without augmentation first."""
    has_crops = augmentation is not None and augmentation.extreme_crops
    crops = EXTREME_CROPS if has_crops else (None,)
    views = (None, *_stored_views(augmentation, prefix))
    return [Variant(crop, view) for view in views for crop in crops]


def _stored_views(augmentation: Augmentation | None, prefix: Prefix) -> list[View]:
    return [] if augmentation is None or prefix.is_empty else views_of(augmentation)


def runs_prefix(augmentation: Augmentation | None, prefix: Prefix) -> bool:
    """Return whether the frozen part is so cheap that each step may run it on varied pixels."""
    if augmentation is None or not augmentation.varies or not prefix.is_cut or prefix.is_empty:
        return False
    # At a lower precision, other activations would be trained on than are predicted from.
    return prefix.precision == "float32" and prefix.at_cut().share_below < CHEAP


def split(
    images: Images, plan: Plan, seed: int, oversample: bool = False, is_needed: bool = False
) -> tuple[Images, Images | None, np.ndarray]:
    """Return the images to learn from, those held out, and the positions of the former.

    ValueError is raised if images cannot be held out. Where only the soup needs them, and unless
    `is_needed`, none are held out then, with a warning.
    """
    held_out, train, chosen = None, images, np.arange(len(images.targets))
    if plan.validation_fraction is not None:
        digests = content_digests(images.source)
        try:
            chosen, others = _held_out(images, plan, seed, digests)
            train, held_out = images.part(chosen), images.part(others)
        except ValueError as error:
            if is_needed or plan.stops_early:
                raise
            warn(
                f"soup='auto' needs validation images: {error} Without them, the result has three "
                "quarters of the fine-tuned weights."
            )
    if oversample:
        positions = plan.suffix.objective.oversampled(train.targets, seed)
        train, chosen = replace(train, positions=positions), chosen[positions]
    return train, held_out, chosen


def _held_out(images: Images, plan: Plan, seed: int, digests: Sequence[bytes]) -> Split:
    """Return the positions to learn from and to hold out, more of them where that is needed."""
    of_objective, fraction = plan.suffix.objective.validation_split, plan.validation_fraction
    assert fraction is not None
    try:
        return of_objective(images.targets, fraction, seed, digests)
    except ValueError:
        if plan.stops_early:
            raise
        return of_objective(images.targets, min(2 * fraction, 0.5), seed, digests)


def views_of(augmentation: Augmentation) -> list[View]:
    """Return the fixed views that a recipe makes of each image; none if it only mixes images."""
    numbers = range(1, augmentation.views + 1) if augmentation.varies else ()
    return [View(augmentation, number) for number in numbers]
