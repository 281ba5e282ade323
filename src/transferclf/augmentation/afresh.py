"""Variation afresh: other draws for every batch of training, where training sees pixels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.steps import vary

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor
    from keras.random import SeedGenerator

# Draws of a Beta distribution with a smaller parameter are 0 or 1 in all digits.
_LEAST_ALPHA = 1e-3


class Augmenter:
    """Variation of training batches by a recipe, which is copied: other draws at every call.

    Everything is drawn from its `seed_generator`; assign the `state` of that to begin anew.

    Examples
    --------
    >>> import numpy as np
    >>> augmenter = Augmenter(Augmentation(noise=3))
    >>> pixels, labels, weights = augmenter(np.ones((2, 8, 8, 3)), np.eye(2), np.ones(2))
    >>> tuple(pixels.shape)
    (2, 8, 8, 3)
    """

    def __init__(self, augmentation: Augmentation):
        import keras

        self._recipe = copy.deepcopy(augmentation)
        # It has a name of its own, because Keras numbers objects without one, and the caller's
        # layers would get other names.
        self.seed_generator = keras.random.SeedGenerator(0, name="augmentation")

    def __call__(
        self, pixels: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a varied and mixed batch, of the same shapes, float32.

        `labels` are shares of the classes, such as one-hot labels, shape (n, n_classes). A mixed
        image has the weights of both in their shares, and labels by the weight that each brings.
        """
        from keras import ops

        pixels, labels, weights = (ops.cast(x, "float32") for x in (pixels, labels, weights))
        if self._recipe.varies:
            pixels = self._varied(pixels)
        if self._recipe.mixes:
            return self._mixed(pixels, labels, weights)
        return pixels, labels, weights

    def _varied(self, pixels: Tensor) -> Tensor:
        from keras import ops

        recipe, shape = self._recipe, ops.shape(pixels)
        draws = self._uniform((shape[0], recipe.n_amounts()), -1.0)
        drawn = recipe.draw(_OfBatch(draws, shape, self.seed_generator))
        return vary(pixels, [step.apply for step in recipe.steps], drawn)

    def _mixed(
        self, pixels: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        import keras
        from keras import ops

        n_images, height, width, _ = ops.shape(pixels)
        numbers = ops.arange(n_images, dtype="int32")
        partners = keras.random.shuffle(numbers, seed=self.seed_generator)
        kept = self._kept(n_images, height, width)
        share = ops.mean(kept, axis=(1, 2, 3))
        own, other = share * weights, (1 - share) * ops.take(weights, partners, axis=0)
        # Two images without weight still get labels that sum to 1.
        weighs = own + other > 0
        share = ops.where(weighs, own / ops.where(weighs, own + other, 1.0), share)[:, None]
        return (
            kept * pixels + (1 - kept) * ops.take(pixels, partners, axis=0),
            share * labels + (1 - share) * ops.take(labels, partners, axis=0),
            own + other,
        )

    def _kept(self, n_images: int | Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
        """Share of its own image in each pixel, of a shape like (n, h, w, 1)."""
        from keras import ops

        blended = pasted = None
        if self._recipe.mixup:
            blended = ops.reshape(self._beta(n_images, self._recipe.mixup), (-1, 1, 1, 1))
        if self._recipe.cutmix:
            pasted = self._outside_of_a_box(n_images, height, width)
        if blended is None or pasted is None:
            return pasted if blended is None else blended
        return ops.where(self._uniform((n_images, 1, 1, 1)) < 0.5, blended, pasted)

    def _outside_of_a_box(
        self, n_images: int | Tensor, height: int | Tensor, width: int | Tensor
    ) -> Tensor:
        from keras import ops

        side = ops.sqrt(1 - self._beta(n_images, self._recipe.cutmix))
        inside = [_near(self._uniform((n_images,)), side, length) for length in (height, width)]
        return 1 - inside[0][:, :, None, None] * inside[1][:, None, :, None]

    def _beta(self, n_images: int | Tensor, alpha: float) -> Tensor:
        """Draws of Beta(alpha, alpha): the share of one of two draws of Gamma(alpha)."""
        import keras
        from keras import ops

        alpha = max(float(alpha), _LEAST_ALPHA)
        logarithms = []
        for _ in range(2):
            # As logarithms: for a small alpha both draws may be too small for float32.
            above = keras.random.gamma(
                (n_images,), alpha + 1, dtype="float32", seed=self.seed_generator
            )
            logarithms.append(ops.log(above) + ops.log(self._uniform((n_images,), 1e-7)) / alpha)
        return ops.sigmoid(logarithms[0] - logarithms[1])

    def _uniform(self, shape: tuple[Any, ...], low: float = 0.0) -> Tensor:
        import keras

        return keras.random.uniform(shape, low, 1.0, dtype="float32", seed=self.seed_generator)


class _OfBatch:
    """Source of the draws for a batch. Uniform ones are drawn before and handed out in turn."""

    def __init__(self, draws: Tensor, shape: tuple[Any, ...], seed: SeedGenerator):
        self._draws = draws
        self._shape = shape
        self._seed = seed
        self._n_used = 0

    def amounts(self, amplitudes: Sequence[float]) -> Tensor:
        from keras import ops

        first, self._n_used = self._n_used, self._n_used + len(amplitudes)
        draws = self._draws[:, first : self._n_used]
        return ops.multiply(draws, np.array(amplitudes, np.float32))

    def noise(self, deviation: float) -> Tensor:
        import keras

        return deviation * keras.random.normal(self._shape, dtype="float32", seed=self._seed)


def _near(centre: Tensor, side: Tensor, length: int | Tensor) -> Tensor:
    """1 where a pixel along one edge is within the box, else 0; shape (n, length)."""
    from keras import ops

    pixels = ops.cast(ops.arange(length, dtype="int32"), "float32")[None] + 0.5
    length = ops.cast(length, "float32")
    distance = ops.abs(pixels - (centre * length)[:, None])
    return ops.cast(distance < (side * length / 2)[:, None], "float32")
