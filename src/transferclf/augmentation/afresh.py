"""Random variation of training batches, with new draws for every batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.steps import vary

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor
    from keras.random import SeedGenerator

    Shape = tuple[int | Tensor, ...]

# Draws of a Beta distribution with a smaller parameter are 0 or 1 in all digits.
_LEAST_ALPHA = 1e-3


class Augmenter:
    """Variation of training batches by a copied recipe, with new draws at every call.

    Everything is drawn from `seed_generator`. Its `state` can be assigned to repeat draws.
    """

    def __init__(self, augmentation: Augmentation):
        import keras

        self._recipe = copy.deepcopy(augmentation)
        # Keras numbers objects without a name, and the caller's layers would get other numbers.
        self.seed_generator = keras.random.SeedGenerator(0, name="augmentation")

    def __call__(
        self, pixels: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a varied and mixed batch, of the same shapes, float32.

        `labels` are shares of the classes, shape (n, n_classes). The weight of a mixed image is the
        mean weight of both images by their shares of pixels, and its labels are mixed by weight.
        """
        from keras import ops

        pixels, labels, weights = (ops.cast(x, "float32") for x in (pixels, labels, weights))
        recipe, shape = self._recipe, ops.shape(pixels)
        if recipe.varies:
            draws = self._uniform((shape[0], recipe.n_amounts()), -1.0)
            drawn = recipe.draw(_OfBatch(draws, shape, self.seed_generator))
            pixels = vary(pixels, [step.apply for step in recipe.steps], drawn)
        return self._mixed(pixels, labels, weights) if recipe.mixes else (pixels, labels, weights)

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
        """Return the share of the own image in each pixel, of a shape like (n, h, w, 1)."""
        from keras import ops

        shares = []
        if self._recipe.mixup:
            shares.append(ops.reshape(self._beta(n_images, self._recipe.mixup), (-1, 1, 1, 1)))
        if self._recipe.cutmix:
            side = ops.sqrt(1 - self._beta(n_images, self._recipe.cutmix))
            down, across = (_near(self._uniform((n_images,)), side, k) for k in (height, width))
            shares.append(1 - down[:, :, None, None] * across[:, None, :, None])
        if len(shares) == 1:
            return shares[0]
        return ops.where(self._uniform((n_images, 1, 1, 1)) < 0.5, *shares)

    def _beta(self, n_images: int | Tensor, alpha: float) -> Tensor:
        """Draw from Beta(alpha, alpha): the share of one of two draws of Gamma(alpha)."""
        import keras
        from keras import ops

        alpha = max(float(alpha), _LEAST_ALPHA)
        logarithms = []
        for _ in range(2):
            # Logarithms, because both draws may be too small for float32 if alpha is small.
            above = keras.random.gamma(
                (n_images,), alpha + 1, dtype="float32", seed=self.seed_generator
            )
            logarithms.append(ops.log(above) + ops.log(self._uniform((n_images,), 1e-7)) / alpha)
        return ops.sigmoid(logarithms[0] - logarithms[1])

    def _uniform(self, shape: Shape, low: float = 0.0) -> Tensor:
        import keras

        return keras.random.uniform(shape, low, 1.0, dtype="float32", seed=self.seed_generator)


class _OfBatch:
    """Source of the draws for a batch. It gives out uniform draws that were made before."""

    def __init__(self, draws: Tensor, shape: Shape, seed: SeedGenerator):
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
    """Return 1 where a pixel along one edge is within the box, else 0; shape (n, length)."""
    from keras import ops

    pixels = ops.cast(ops.arange(length, dtype="int32"), "float32")[None] + 0.5
    length = ops.cast(length, "float32")
    distance = ops.abs(pixels - (centre * length)[:, None])
    return ops.cast(distance < (side * length / 2)[:, None], "float32")
