"""Drawing what a recipe leaves to chance.

A `View` draws by the image, so that what becomes of it can be stored as the image's own
activations are. An `Augmenter` draws afresh at every step of training, where training sees pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from transferclf.augmentation.recipe import COLUMNS, Augmentation, apply_amounts
from transferclf.exceptions import ImageError, InvalidParameterError
from transferclf.graphs.forking import check_not_forked
from transferclf.graphs.isolation import undisturbed

# Raised whenever the same recipe and number come to mean another variation.
FORMAT = 2

# Draws of a Beta distribution with a smaller parameter are 0 or 1 in all digits.
_LEAST_ALPHA = 1e-3


@dataclass(frozen=True, eq=False)
class View:
    """One of the fixed variations that a recipe makes of every image.

    What an image becomes is a function of the image, the recipe and the number: the same in every
    batch, process and run, so that activations of it can be stored.

    Parameters
    ----------
    augmentation : Augmentation
        The recipe, of which a copy is kept; views are not mixed with each other.
    number : int
        Which of them, from 1 on.

    Raises
    ------
    InvalidParameterError
        If the recipe or the number cannot be one.

    Examples
    --------
    >>> import numpy as np
    >>> view = View(Augmentation(rotation=30), 1)
    >>> image = np.full((1, 8, 8, 3), 7, np.uint8)
    >>> view.of(image, [b"digest of the image"])[0, 0, 0].round(3).tolist()
    [7.0, 7.0, 7.0]
    """

    augmentation: Augmentation
    number: int

    def __post_init__(self) -> None:
        self.augmentation.check()
        number = self.number
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise InvalidParameterError(
                f"the number of a view must be a whole number of at least 1. Got {number!r}."
            )
        object.__setattr__(self, "augmentation", dataclasses.replace(self.augmentation))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that determines what an image becomes, but the image."""
        recipe = dataclasses.replace(self.augmentation, views=1, mixup=0.0, cutmix=0.0)
        facts = json.dumps([FORMAT, recipe.digest, int(self.number)])
        return hashlib.sha256(facts.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, View) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def of(self, pixels: np.ndarray, digests: Sequence[bytes]) -> np.ndarray:
        """Vary images.

        Parameters
        ----------
        pixels : ndarray of shape (n, h, w, 3)
            Between 0 and 255.
        digests : sequence of bytes
            What each image is known by.

        Returns
        -------
        ndarray of shape (n, h, w, 3), float32

        Raises
        ------
        ImageError
            If the pixels have another shape, or there is not one digest for each image.
        """
        if pixels.ndim != 4 or pixels.shape[3] != 3 or len(digests) != len(pixels):
            raise ImageError(
                "expected pixels of shape (n, h, w, 3) and a digest for each image, got "
                f"{pixels.shape} and {len(digests)} digests"
            )
        check_not_forked()
        result = np.empty(pixels.shape, np.float32)
        # One by one, so that the others in the batch change nothing, not even the last bit.
        for place, digest in enumerate(digests):
            image = pixels[place : place + 1].astype(np.float32)
            result[place] = self._varied(image, digest)
        return result

    def _varied(self, image: np.ndarray, digest: bytes) -> np.ndarray:
        recipe = self.augmentation
        # The stream of a RandomState never changes; numpy promises less of its successor.
        generator = np.random.RandomState(self._seed(digest))
        draws = generator.uniform(-1, 1, (1, len(COLUMNS))).astype(np.float32)
        inputs = [image, draws * recipe.amplitudes()]
        if "noise" in recipe.steps:
            inputs.append(generator.normal(0, recipe.noise, image.shape).astype(np.float32))
        return _for_one_image(recipe.steps)(*inputs)

    def _seed(self, digest: bytes) -> np.ndarray:
        return np.frombuffer(hashlib.sha256(self.digest.encode() + digest).digest(), "<u4")


@functools.cache  # for the thirty-two sets of steps that there are
def _for_one_image(steps: tuple[str, ...]) -> Callable[..., np.ndarray]:
    with undisturbed():
        import keras

        from transferclf.engines.backend import compiled

        def varied(pixels: Any, amounts: Any, noise: Any = None) -> Any:
            return apply_amounts(pixels, amounts, noise, steps)

        image = keras.KerasTensor((1, None, None, 3), "float32")
        arguments = [image, keras.KerasTensor((1, len(COLUMNS)), "float32")]
        function = compiled(varied, *arguments, *([image] if "noise" in steps else []))
        convert = keras.ops.convert_to_tensor
        return lambda *values: keras.ops.convert_to_numpy(function(*map(convert, values)))[0]


class Augmenter:
    """A recipe at work inside a step of training: other variations at every call.

    Parameters
    ----------
    augmentation : Augmentation
        The recipe as it is now.

    Attributes
    ----------
    seed_generator : keras.random.SeedGenerator
        What everything is drawn from; assign its `state` to begin anew.

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

        self._recipe = dataclasses.replace(augmentation)
        # A name of its own, so that the names of the caller's layers do not count on.
        self.seed_generator = keras.random.SeedGenerator(0, name="augmentation")

    def __call__(self, pixels: Any, labels: Any, weights: Any) -> tuple[Any, Any, Any]:
        """Vary and mix a batch.

        Parameters
        ----------
        pixels : tensor of shape (n, h, w, 3)
            Between 0 and 255.
        labels : tensor of shape (n, n_classes)
            Shares of the classes, such as one-hot labels.
        weights : tensor of shape (n,)
            Of the samples.

        Returns
        -------
        pixels, labels, weights : tensors of the same shapes, float32
            A mixed image has the weights of both in their shares, and labels by the weight that
            each brings.
        """
        from keras import ops

        pixels, labels, weights = (ops.cast(x, "float32") for x in (pixels, labels, weights))
        if self._recipe.varies:
            pixels = self._varied(pixels)
        if self._recipe.mixes:
            return self._mixed(pixels, labels, weights)
        return pixels, labels, weights

    def _varied(self, pixels: Any) -> Any:
        import keras
        from keras import ops

        shape, steps = ops.shape(pixels), self._recipe.steps
        draws = self._uniform((shape[0], len(COLUMNS)), -1.0)
        amounts = ops.multiply(draws, self._recipe.amplitudes())
        noise = None
        if "noise" in steps:
            normal = keras.random.normal(shape, dtype="float32", seed=self.seed_generator)
            noise = float(self._recipe.noise) * normal
        return apply_amounts(pixels, amounts, noise, steps)

    def _mixed(self, pixels: Any, labels: Any, weights: Any) -> tuple[Any, Any, Any]:
        import keras
        from keras import ops

        n_images, height, width, _ = ops.shape(pixels)
        numbers = ops.arange(n_images, dtype="int32")
        partners = keras.random.shuffle(numbers, seed=self.seed_generator)
        kept = self._kept(n_images, height, width)
        share = ops.mean(kept, axis=(1, 2, 3))
        own, other = share * weights, (1 - share) * ops.take(weights, partners, axis=0)
        # Two images without weight have labels all the same.
        weighs = own + other > 0
        share = ops.where(weighs, own / ops.where(weighs, own + other, 1.0), share)[:, None]
        return (
            kept * pixels + (1 - kept) * ops.take(pixels, partners, axis=0),
            share * labels + (1 - share) * ops.take(labels, partners, axis=0),
            own + other,
        )

    def _kept(self, n_images: Any, height: Any, width: Any) -> Any:
        """How much of each pixel is the image's own, of a shape like (n, h, w, 1)."""
        from keras import ops

        blended = pasted = None
        if self._recipe.mixup:
            blended = ops.reshape(self._beta(n_images, self._recipe.mixup), (-1, 1, 1, 1))
        if self._recipe.cutmix:
            pasted = self._outside_of_a_box(n_images, height, width)
        if blended is None or pasted is None:
            return pasted if blended is None else blended
        return ops.where(self._uniform((n_images, 1, 1, 1)) < 0.5, blended, pasted)

    def _outside_of_a_box(self, n_images: Any, height: Any, width: Any) -> Any:
        from keras import ops

        side = ops.sqrt(1 - self._beta(n_images, self._recipe.cutmix))
        inside = [_near(self._uniform((n_images,)), side, length) for length in (height, width)]
        return 1 - inside[0][:, :, None, None] * inside[1][:, None, :, None]

    def _beta(self, n_images: Any, alpha: float) -> Any:
        """Draws of Beta(alpha, alpha): the share of one of two draws of Gamma(alpha)."""
        import keras
        from keras import ops

        alpha = max(float(alpha), _LEAST_ALPHA)
        logarithms = []
        for _ in range(2):
            # As a logarithm, for with small alpha both may be too small for float32.
            above = keras.random.gamma(
                (n_images,), alpha + 1, dtype="float32", seed=self.seed_generator
            )
            logarithms.append(ops.log(above) + ops.log(self._uniform((n_images,), 1e-7)) / alpha)
        return ops.sigmoid(logarithms[0] - logarithms[1])

    def _uniform(self, shape: tuple[Any, ...], low: float = 0.0) -> Any:
        import keras

        return keras.random.uniform(shape, low, 1.0, dtype="float32", seed=self.seed_generator)


def _near(centre: Any, side: Any, length: Any) -> Any:
    """1 for the pixels of an edge that are within a box, else 0, of shape (n, length)."""
    from keras import ops

    pixels = ops.cast(ops.arange(length, dtype="int32"), "float32")[None] + 0.5
    length = ops.cast(length, "float32")
    distance = ops.abs(pixels - (centre * length)[:, None])
    return ops.cast(distance < (side * length / 2)[:, None], "float32")
