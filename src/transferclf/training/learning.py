"""The phases of training that a plan asks for.

First the head is fitted to the features of the whole frozen network. Then, if the plan trains
layers of the backbone, head and layers are trained together on the activations at the cut. A
network that starts from random weights has one phase, on its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from transferclf._printing import say
from transferclf.exceptions import NetworkError, warn
from transferclf.features.extraction import Extractor
from transferclf.features.row_file import Rows, part_of
from transferclf.features.row_space import RowLimit, RowPart, RowSpace, chunks_of
from transferclf.heads.fitted import FittedHead
from transferclf.heads.linear import few_threads
from transferclf.heads.registry import RIDGE, fit_of
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.training.batches import Samples
from transferclf.training.leave_one_out import choose_ridge_l2
from transferclf.training.phases import Start, TrainedSuffix, fit_phase, going_on
from transferclf.training.plan import Images, Plan, Variant
from transferclf.training.recipe import Recipe
from transferclf.training.regularization import choose_l2

if TYPE_CHECKING:
    from transferclf.images.geometry import ResizeMode

# Where l2 is "auto" and no cross-validation says better.
HIDDEN_L2 = 0.01

# A unit that is all but dead in the images that set the scale may be alive in later ones. Divided
# by its deviation it would be thousands there, and no gradient step small enough.
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class _Data:
    """Samples to train on and to measure."""

    train: Samples
    validation: Samples | None


@dataclass(frozen=True)
class Learner:
    """A plan with its images.

    `read` gives activations and pixels. `validation` is measured after each epoch and never learned
    from. `holds_out` says that it is a part of the training images. `previous` is a head to go on
    from. If training is interrupted, `keep` is called with the result so far.
    """

    plan: Plan
    images: Images
    read: Extractor
    validation: Images | None = None
    holds_out: bool = False
    previous: FittedHead | None = None
    keep: Callable[[FittedHead], None] | None = None
    verbose: int = 0

    def learn(self) -> FittedHead:
        """Fit a head to the images, and layers of the backbone with it."""
        with self._limit:
            return self._whole_network() if self.plan.prefix.is_scratch else self._in_two_phases()

    def held_out_scores(self, *heads: FittedHead) -> list[np.ndarray]:
        """Return the scores of the validation images by each of these heads of the same layers."""
        assert self.validation is not None
        n_images = len(self.validation.targets)
        with RowLimit(n_images, self.plan.max_memory, self._what) as limit:
            part = RowSpace(n_images, limit).part()
            self._fill(part, self.validation, Variant())
            rows = part.rows
            return [
                np.concatenate([head.scores(rows[i:j]) for i, j in chunks_of(rows)])
                for head in heads
            ]

    def _whole_network(self) -> FittedHead:
        """Train all layers from random weights."""
        assert self.plan.head is not None
        recipe = replace(self.plan.head, l2=self.plan.l2 or 0.0)
        suffix = replace(self._suffix(recipe), prefix=self.plan.prefix)
        data = self._data(self._fill, self.plan.variants, self._limit)
        before = self._before(suffix)
        if before is not None:
            return self._phase(suffix, recipe, data, going_on(before, suffix))
        scaling = None
        if suffix.scaling is not None:
            from transferclf.heads.whitening import fit_pixel_scaling

            rows, weights = data.train.rows, np.tile(data.train.weights, data.train.n_views)
            scaling = fit_pixel_scaling(suffix.scaling, rows, weights, self.plan.zca_epsilon)
        return self._phase(suffix, recipe, data, Start(np.zeros(1), np.ones(1), scaling))

    def _in_two_phases(self) -> FittedHead:
        """Train the head on the frozen network, then head and layers above the cut together."""
        plan, previous = self.plan, self.previous
        if self.verbose and plan.runs_prefix:
            share = plan.prefix.at_cut().share_below
            say(f"images are varied afresh: the frozen part does {share:.0%} of the multiply-adds")
        data = self._data(self._fill, plan.variants_at_cut, self._limit)
        if not plan.prefix.is_cut:
            return self._head(data)
        if previous is not None and previous.is_head_of(plan.suffix, plan.head is None):
            head, features = previous, None
        else:
            features = self._after_cut(data)
            head = self._head(features)
        assert plan.fine_tuning is not None
        recipe = replace(plan.fine_tuning, l2=head.l2)
        suffix = replace(self._suffix(recipe), prefix=plan.prefix, is_folded=True)
        tuned = self._phase(suffix, recipe, data, going_on(self._before(suffix) or head, suffix))
        if tuned.soup > 0 or plan.head is not None or not self.holds_out:
            return tuned
        # An interrupted phase that went on began with a head of the same images, too.
        is_first = head.checkpoint is not None and len(head.phases) == 2
        if features is None and not is_first:
            return tuned
        # Nothing of the fine-tuned weights is used, so the head may learn from the images that
        # were held out to find that.
        every = _joined(features or self._after_cut(data))
        return tuned.with_head(self._fitted(every, head.l2))

    def _head(self, data: _Data) -> FittedHead:
        """Fit a head to features: to its optimum where it is linear."""
        if self.plan.head is not None:
            return self._head_by_keras(data, self.plan.head)
        head = self._fitted(data, self._chosen_l2(data.train))
        if self.verbose:
            loss = head.history["loss"][-1]
            say(f"{head.kind} head: {head.n_iter} iterations, loss {loss:.4g}, l2 {head.l2:.3g}")
        return head

    def _fitted(self, data: _Data, l2: float) -> FittedHead:
        rows, targets, weights = data.train.unrolled()
        return fit_of(self.plan.fit)(
            rows,
            targets,
            self.plan.suffix.objective,
            l2=l2,
            sample_weight=weights,
            max_iter=self.plan.max_iter or 1,  # ridge needs no more
            validation=None if data.validation is None else data.validation.unrolled(),
        )

    def _chosen_l2(self, train: Samples) -> float:
        if self.plan.l2 is not None:
            return self.plan.l2
        n_images = len(train.targets)
        # Views of an image are no images of their own, and would make the choice slow.
        n_plain = sum(variant.view is None for variant in self.plan.variants)
        originals = replace(train, rows=part_of(train.rows, 0, n_plain * n_images))
        rows, targets, weights = originals.unrolled()
        is_ridge = self.plan.fit == RIDGE
        if self.verbose:
            how = "leave-one-out" if is_ridge else "cross-validation"
            say(f"choosing l2 by {how} on {n_images} images")
        return (choose_ridge_l2 if is_ridge else choose_l2)(
            rows,
            targets,
            self.plan.suffix.objective,
            sample_weight=weights,
            # Crops of one image are held out together.
            groups=originals.unrolled_images if n_plain > 1 else None,
            verbose=self.verbose,
        )

    def _head_by_keras(self, data: _Data, recipe: Recipe) -> TrainedSuffix:
        rows, _, weights = data.train.unrolled()
        recipe = replace(recipe, l2=HIDDEN_L2 if self.plan.l2 is None else self.plan.l2)
        suffix = replace(self._suffix(recipe), width=rows.shape[1])
        previous = self.previous
        if previous is not None and previous.can_start(suffix):
            start = going_on(previous, suffix)
            if self.plan.is_partial:
                start = self._with_more(start, rows, weights)
        else:
            if previous is not None:
                warn(
                    "what was learned before is of a head of another shape (its layers, or whether "
                    "it has dropout, l1 or l2 at all), and training starts anew"
                )
            start = self._first_start(rows, weights, suffix.map_shape)
        return self._phase(suffix, recipe, data, start)

    def _phase(self, suffix: Suffix, recipe: Recipe, data: _Data, start: Start) -> TrainedSuffix:
        return fit_phase(
            suffix,
            recipe,
            data.train,
            start,
            validation=data.validation,
            keep=self.keep,
            verbose=self.verbose,
        )

    def _first_start(self, rows: Rows, weights: np.ndarray, map_shape: tuple[int, ...]) -> Start:
        """Start from random weights, with the mean and scale of these features."""
        if map_shape:
            assert isinstance(rows, np.ndarray)
            # Activation maps are standardised channel by channel, for layers of the user's own.
            n_places = int(np.prod(map_shape[:-1]))
            rows, weights = rows.reshape(-1, map_shape[-1]), np.repeat(weights, n_places)
        moments = self._moments(rows, weights)
        rule = moments.scale_so_far if self.plan.is_partial else moments.scale
        # The effect of other statistics on the user's own layers cannot be known, so that there are
        # no moments to go on from: the statistics stay.
        return Start(moments.mean, rule(LEAST_SCALE), moments=None if map_shape else moments)

    def _with_more(self, start: Start, rows: Rows, weights: np.ndarray) -> Start:
        """Standardise by these images, too; scores of the head stay as they are."""
        if start.moments is None:
            return start
        # A head that `fit` began keeps the rule of its scale: another rule would not change the
        # scores, but the weights and so their penalty.
        is_careful = np.array_equal(start.scale, start.moments.scale_so_far(LEAST_SCALE))
        moments = start.moments.merged(self._moments(rows, weights))
        rule = moments.scale_so_far if is_careful else moments.scale
        mean, scale = moments.mean, rule(LEAST_SCALE)
        carried_from = (start.mean, start.scale)
        if np.array_equal(mean, start.mean) and np.array_equal(scale, start.scale):
            return replace(start, moments=moments)
        return replace(start, mean=mean, scale=scale, moments=moments, carried_from=carried_from)

    def _moments(self, rows: Rows, weights: np.ndarray) -> Moments:
        with few_threads(math.prod(rows.shape)):
            return Moments.of(rows, weights, len(self.images.targets))

    def _suffix(self, recipe: Recipe) -> Suffix:
        has_dropout = any(recipe.dropout)
        return replace(self.plan.suffix, dropout=has_dropout, l1=recipe.l1 > 0, l2=recipe.l2 > 0)

    def _before(self, suffix: Suffix) -> FittedHead | None:
        """Return this very suffix as it was trained before, if it was."""
        previous = self.previous
        return previous if previous is not None and previous.can_resume(suffix) else None

    @cached_property
    def _limit(self) -> RowLimit:
        """The limit of memory for all rows at the cut."""
        n_held_out = 0 if self.validation is None else len(self.validation.targets)
        n_rows = len(self.plan.variants_at_cut) * len(self.images.targets) + n_held_out
        return RowLimit(n_rows, self.plan.max_memory, self._what, self.verbose)

    @property
    def _what(self) -> str:
        """What the rows at the cut are."""
        prefix = self.plan.prefix
        if prefix.is_empty or self.plan.runs_prefix:
            return "pixels"
        return "activations at the cut" if prefix.is_cut else "features"

    def _fill(self, into: RowPart, images: Images, variant: Variant) -> None:
        """Write the rows at the cut: pixels, activations or features."""
        prefix, read = self.plan.prefix, self._readers[variant.crop]
        title = self._title(self._what, images, variant)
        if prefix.is_empty or (self.plan.runs_prefix and images is self.images):
            read.fill_pixels(into, images.source, prefix.size, title, prefix.sampling)
        else:
            read.fill(into, images.source, prefix, variant.view, title)

    @cached_property
    def _readers(self) -> dict[ResizeMode | None, Extractor]:
        # A reader remembers the contents that it has read. A file may be replaced between two
        # crops, so that each crop has a reader of its own.
        crops = [variant.crop for variant in self.plan.variants if variant.crop is not None]
        own = {crop: replace(self.read, resize=crop, _looks_of={}) for crop in crops}
        return {None: self.read} | own

    def _title(self, what: str, images: Images, variant: Variant) -> str:
        """Return the title of a progress bar."""
        if images is self.validation:
            return f"{what}, validation"
        title = variant.title(len(self.plan.views))
        return f"{what}, {title}" if title else what

    def _after_cut(self, data: _Data) -> _Data:
        """Return features of the whole frozen network."""
        prefix = self.plan.prefix

        def fill(into: RowPart, images: Images, variant: Variant) -> None:
            title, read = self._title("features", images, variant), self._readers[variant.crop]
            is_training = images is self.images
            if prefix.is_empty or (self.plan.runs_prefix and is_training):
                read.fill(into, images.source, prefix.whole(), variant.view, title)
                return
            samples = data.train if is_training else data.validation
            assert samples is not None
            start = len(images.targets) * (self.plan.variants.index(variant) if is_training else 0)
            rows = part_of(samples.rows, start, start + len(images.targets))
            read.after_cut(images.source, rows, prefix, variant.view, title, into)

        return self._data(fill, self.plan.variants)

    def _data(
        self,
        fill: Callable[[RowPart, Images, Variant], None],
        variants: Sequence[Variant],
        limit: RowLimit | None = None,
    ) -> _Data:
        """Return rows of these variants of the training images, and of the validation images."""
        n_images = len(self.images.targets)
        # One space for all variants: there is no moment at which they are in memory twice.
        space = RowSpace(n_images * len(variants), limit)
        for number, variant in enumerate(variants):
            part = space.part(number * n_images, (number + 1) * n_images)
            fill(part, self.images, variant)
            _check_finite(part.rows)
        train = self.images.samples(space.rows)
        if self.validation is None:
            return _Data(train, None)
        part = RowSpace(len(self.validation.targets), limit).part()
        fill(part, self.validation, Variant())
        _check_finite(part.rows)
        return _Data(train, self.validation.samples(part.rows))


def _joined(data: _Data) -> _Data:
    """Return all samples, also those for validation, as samples to train on."""
    assert data.validation is not None
    rows, *others = data.train.unrolled()
    more_rows, *more = data.validation.unrolled()
    # Features above a cut are in memory.
    assert isinstance(rows, np.ndarray)
    assert isinstance(more_rows, np.ndarray)
    targets, weights = (np.concatenate(pair) for pair in zip(others, more, strict=True))
    return _Data(Samples.of(np.concatenate([rows, more_rows]), targets, weights), None)


def _check_finite(rows: Rows) -> None:
    """Raise NetworkError if any row is not finite."""
    broken: list[int] = []
    for start, stop in chunks_of(rows):
        part = rows[start:stop]
        if not np.isfinite(part.sum()):  # also where the sum of finite numbers is too large
            is_finite = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
            broken += (start + np.flatnonzero(~is_finite)).tolist()
    if broken:
        raise NetworkError(
            f"The backbone gives numbers that are not finite for {len(broken)} of {len(rows)} "
            f"images, the first at index {broken[0]}: check its weights and preprocessing."
        )
