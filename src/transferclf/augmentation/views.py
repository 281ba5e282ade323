"""Fixed views: variations of an image whose draws depend on the image alone.

A view has the same pixels in every batch, process and run, so that its activations can be stored.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from transferclf._checks import check_number
from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.steps import vary
from transferclf.exceptions import ImageError
from transferclf.graphs.isolation import check_not_forked, undisturbed

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

# Raise it whenever the same recipe and number give another variation than before.
FORMAT = 2

# The resize modes for the parts at both ends of the long side.
EXTREME_CROPS: tuple[Literal["first"], Literal["last"]] = ("first", "last")


@dataclass(frozen=True, eq=False)
class View:
    """One of the fixed variations that a copied recipe makes of every image.

    Views are not mixed with each other. An invalid recipe, or a number that is no whole number from
    1 on, raises InvalidParameterError.
    """

    augmentation: Augmentation
    number: int

    def __post_init__(self) -> None:
        self.augmentation.check()
        check_number("the number of a view", self.number, 1, whole=True)
        object.__setattr__(self, "augmentation", copy.deepcopy(self.augmentation))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that determines the variation of an image, except the image."""
        recipe = dataclasses.replace(
            self.augmentation,
            views=1,
            mixup=0.0,
            cutmix=0.0,
            feature_noise=0.0,
            extreme_crops=False,
        )
        facts = json.dumps([FORMAT, recipe.digest, int(self.number)])
        return hashlib.sha256(facts.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, View) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def of(self, pixels: np.ndarray, digests: Sequence[bytes]) -> np.ndarray:
        """Return varied images, float32, of the shape of `pixels`: (n, h, w, 3).

        `digests` are those of the contents of the images. They determine the draws.
        """
        if pixels.ndim != 4 or pixels.shape[3] != 3 or len(digests) != len(pixels):
            raise ImageError(
                "expected pixels of shape (n, h, w, 3) and a digest for each image, got "
                f"{pixels.shape} and {len(digests)} digests"
            )
        check_not_forked()
        result = np.empty(pixels.shape, np.float32)
        # One by one, so that other images of the batch do not change even the last bit.
        for place, digest in enumerate(digests):
            image = pixels[place : place + 1].astype(np.float32)
            result[place] = self._varied(image, digest)
        return result

    def _varied(self, image: np.ndarray, digest: bytes) -> np.ndarray:
        recipe = self.augmentation
        seed = hashlib.sha256(self.digest.encode() + digest).digest()
        drawn = recipe.draw(_OfImage(np.frombuffer(seed, "<u4"), image.shape))
        widths = tuple(None if len(values.shape) == 4 else values.shape[1] for values in drawn)
        return _for_one_image(tuple(step.apply for step in recipe.steps), widths)(image, *drawn)


class _OfImage:
    """Source of the draws for one image."""

    def __init__(self, seed: np.ndarray, shape: tuple[int, ...]):
        # NumPy promises that the stream of a RandomState, unlike a Generator's, never changes.
        self._generator = np.random.RandomState(seed)
        self._shape = shape

    def amounts(self, amplitudes: Sequence[float]) -> np.ndarray:
        draws = self._generator.uniform(-1, 1, (1, len(amplitudes)))
        return draws.astype(np.float32) * np.array(amplitudes, np.float32)

    def noise(self, deviation: float) -> np.ndarray:
        return self._generator.normal(0, deviation, self._shape).astype(np.float32)


@functools.lru_cache(64)  # there are 32 sets of the built-in steps
def _for_one_image(
    functions: tuple[Callable[[Tensor, Tensor], Tensor], ...], widths: tuple[int | None, ...]
) -> Callable[..., np.ndarray]:
    """Compile steps. `widths` are the numbers of amounts, None for draws of the image's shape."""
    with undisturbed():
        import keras

        from transferclf.engines.backend import compiled

        image = keras.KerasTensor((1, None, None, 3), "float32")
        drawn = [image if k is None else keras.KerasTensor((1, k), "float32") for k in widths]
        function = compiled(lambda pixels, *rest: vary(pixels, functions, rest), image, *drawn)
        convert = keras.ops.convert_to_tensor
        return lambda *values: keras.ops.convert_to_numpy(function(*map(convert, values)))[0]
