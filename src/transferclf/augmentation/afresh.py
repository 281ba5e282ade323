"""Random variation of training batches, with new draws for every batch."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.steps import vary

if TYPE_CHECKING:
    import keras
    from keras import KerasTensor as Tensor
    from keras import Variable
    from keras.random import SeedGenerator

    Shape = tuple[int | Tensor, ...]

# Shapes of activations for one image, with channels last.
Shapes = Sequence[tuple[int, ...]]

# Draws of a Beta distribution with a smaller parameter are 0 or 1 in all digits.
_LEAST_ALPHA = 1e-3


class Augmenter:
    """Variation of training batches by a copied recipe, with new draws at every call.

    Rows are pixels (n, h, w, 3), or activations (n, d) that were flattened from these `shapes`.
    Pixels are varied and mixed, and then go through the frozen network `below`, if there is one.
    Activations are mixed, if they were no pixels before, and get noise, for which `measure` has to
    be called first. Everything is drawn from `seed_generator`. Its `state` can be assigned to
    repeat draws.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        shapes: Shapes | None = None,
        below: keras.Model | None = None,
    ):
        import keras

        self._recipe = copy.deepcopy(augmentation)
        self._shapes = shapes
        self._below = below
        self._is_on_pixels = shapes is None or below is not None
        # Keras numbers objects without a name, and the caller's layers would get other numbers.
        self.seed_generator = keras.random.SeedGenerator(0, name="augmentation")
        self._deviations: Variable | None = None
        if shapes is not None and augmentation.feature_noise:
            # A variable, because it differs between fits that share a compiled function.
            zeros = np.zeros(sum(map(prod, shapes)), np.float32)
            self._deviations = keras.Variable(zeros, trainable=False, name="feature_noise")

    def measure(self, parts: Iterable[np.ndarray]) -> None:
        """Set the deviations of feature noise by those of activations, given in parts."""
        if self._deviations is not None and self._shapes is not None:
            deviations = channel_deviations(parts, self._shapes)
            self._deviations.assign(float(self._recipe.feature_noise) * deviations)

    def __call__(
        self, rows: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a varied and mixed batch, float32; activations where the network below is run.

        `labels` are shares of the classes, shape (n, n_classes). The weight of a mixed image is the
        mean weight of both images by their shares of pixels, and its labels are mixed by weight.
        """
        import keras
        from keras import ops

        rows, labels, weights = (ops.cast(x, "float32") for x in (rows, labels, weights))
        if self._is_on_pixels and self._recipe.varies:
            rows = self._varied(rows)
        if self._recipe.mixes:
            shape = ops.shape(rows)
            tensor, labels, weights = self._mixed(self._as_maps(rows), labels, weights)
            rows = ops.reshape(tensor, shape)
        if self._below is not None:
            rows = ops.stop_gradient(self._below(rows, training=False))
        if self._deviations is not None:  # after mixing, which would average noise
            shape = ops.shape(rows)
            normal = keras.random.normal(shape, dtype="float32", seed=self.seed_generator)
            rows += self._deviations * normal
        return rows, labels, weights

    def _varied(self, pixels: Tensor) -> Tensor:
        from keras import ops

        recipe, shape = self._recipe, ops.shape(pixels)
        draws = self._uniform((shape[0], recipe.n_amounts()), -1.0)
        drawn = recipe.draw(_OfBatch(draws, shape, self.seed_generator))
        return vary(pixels, [step.apply for step in recipe.steps], drawn)

    def _as_maps(self, rows: Tensor) -> Tensor:
        """Return rows as maps (n, h, w, c) where parts of these are pasted, else as they are."""
        from keras import ops

        if self._is_on_pixels or self._shapes is None or not self._recipe.cutmix:
            return rows
        return ops.reshape(rows, (-1, *self._shapes[0]))

    def _mixed(
        self, tensor: Tensor, labels: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        import keras
        from keras import ops

        shape = ops.shape(tensor)
        numbers = ops.arange(shape[0], dtype="int32")
        partners = keras.random.shuffle(numbers, seed=self.seed_generator)
        kept = self._kept(shape)
        share = ops.mean(kept, axis=tuple(range(1, len(shape))))
        own, other = share * weights, (1 - share) * ops.take(weights, partners, axis=0)
        # Two images without weight still get labels that sum to 1.
        weighs = own + other > 0
        share = ops.where(weighs, own / ops.where(weighs, own + other, 1.0), share)[:, None]
        return (
            kept * tensor + (1 - kept) * ops.take(tensor, partners, axis=0),
            share * labels + (1 - share) * ops.take(labels, partners, axis=0),
            own + other,
        )

    def _kept(self, shape: Shape) -> Tensor:
        """Return the share of the own image in each place, of shape (n, h, w, 1) or (n, 1)."""
        from keras import ops

        shares, n_images, ones = [], shape[0], (1,) * (len(shape) - 1)
        if self._recipe.mixup:
            shares.append(ops.reshape(self._beta(n_images, self._recipe.mixup), (-1, *ones)))
        if self._recipe.cutmix:
            side = ops.sqrt(1 - self._beta(n_images, self._recipe.cutmix))
            down, across = (_near(self._uniform((n_images,)), side, k) for k in shape[1:3])
            shares.append(1 - down[:, :, None, None] * across[:, None, :, None])
        if len(shares) == 1:
            return shares[0]
        return ops.where(self._uniform((n_images, *ones)) < 0.5, *shares)

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


def channel_deviations(parts: Iterable[np.ndarray], shapes: Shapes) -> np.ndarray:
    """Return the standard deviation of the channel of each number in a row, shape (d,).

    All rows and all places of a map count equally. `parts` are some rows each, shape (n, d).

    Examples
    --------
    >>> channel_deviations([np.array([[0.0, 5, 4, 5]]), np.array([[8.0, 5, 4, 5]])], [(2, 2)])
    array([2.82842712, 0.        , 2.82842712, 0.        ])
    """
    ends = np.cumsum([*map(prod, shapes)])[:-1]
    moments: list[list[tuple[int, np.ndarray, np.ndarray]]] = [[] for _ in shapes]
    for rows in parts:
        tensors = np.split(rows.astype(float), ends, axis=1)
        for tensor, shape, known in zip(tensors, shapes, moments, strict=True):
            values = tensor.reshape(-1, shape[-1])
            known.append((len(values), values.mean(axis=0), values.var(axis=0)))
    deviations = map(_deviations, moments)
    repeats = [prod(shape[:-1]) for shape in shapes]
    return np.concatenate([np.tile(*each) for each in zip(deviations, repeats, strict=True)])


def _deviations(moments: list[tuple[int, np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the deviations of all values, given number, means and variances of each part."""
    counts, means, variances = map(np.array, zip(*moments, strict=True))
    mean = np.average(means, axis=0, weights=counts)
    return np.sqrt(np.average(variances + (means - mean) ** 2, axis=0, weights=counts))


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
