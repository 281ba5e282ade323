"""Fixed views: variations of an image that are drawn by the image.

A view gives the same pixels in every batch, process and run. Its activations can therefore be
stored like those of the image itself.
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
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from transferclf._checks import check_number
from transferclf.augmentation.recipe import Augmentation
from transferclf.augmentation.steps import vary
from transferclf.exceptions import ImageError
from transferclf.graphs.isolation import check_not_forked, undisturbed

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

# Raise it whenever the same recipe and number come to mean another variation.
FORMAT = 2

# How images are resized to the part at either end of their long side.
EXTREME_CROPS: tuple[Literal["first"], Literal["last"]] = ("first", "last")

# Compiled sets of steps that are kept. There are 32 sets of the built-in ones.
SETS_KEPT = 64


@dataclass(frozen=True, eq=False)
class View:
    """One of the fixed variations that a recipe makes of every image.

    The recipe is copied. Views are not mixed with each other. InvalidParameterError is raised if
    the recipe has values it cannot have, or the number is no whole number from 1 on.

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
        check_number("the number of a view", self.number, 1, whole=True)
        object.__setattr__(self, "augmentation", copy.deepcopy(self.augmentation))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that determines what becomes of an image, except the image."""
        recipe = dataclasses.replace(
            self.augmentation, views=1, mixup=0.0, cutmix=0.0, extreme_crops=False
        )
        facts = json.dumps([FORMAT, recipe.digest, int(self.number)])
        return hashlib.sha256(facts.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, View) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)

    def of(self, pixels: np.ndarray, digests: Sequence[bytes]) -> np.ndarray:
        """Return varied images, float32, of the shape of `pixels`: (n, h, w, 3).

        `digests` are of the contents of the images, and decide what is drawn for them.
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
        drawn: list[Any] = recipe.draw(_OfImage(self._seed(digest), image.shape))
        widths = tuple(None if values.ndim == 4 else values.shape[1] for values in drawn)
        return _for_one_image(tuple(step.apply for step in recipe.steps), widths)(image, *drawn)

    def _seed(self, digest: bytes) -> np.ndarray:
        return np.frombuffer(hashlib.sha256(self.digest.encode() + digest).digest(), "<u4")


class _OfImage:
    """Source of the draws for one image."""

    def __init__(self, seed: np.ndarray, shape: tuple[int, ...]):
        # The stream of a RandomState never changes; numpy promises less of its successor.
        self._generator = np.random.RandomState(seed)
        self._shape = shape

    def amounts(self, amplitudes: Sequence[float]) -> Any:
        draws = self._generator.uniform(-1, 1, (1, len(amplitudes)))
        return draws.astype(np.float32) * np.array(amplitudes, np.float32)

    def noise(self, deviation: float) -> Any:
        return self._generator.normal(0, deviation, self._shape).astype(np.float32)


@functools.lru_cache(SETS_KEPT)
def _for_one_image(
    functions: tuple[Callable[[Tensor, Tensor], Tensor], ...], widths: tuple[int | None, ...]
) -> Callable[..., np.ndarray]:
    """Compile steps. `widths` are the numbers of amounts, None for draws as large as the image."""
    with undisturbed():
        import keras

        from transferclf.engines.backend import compiled

        image = keras.KerasTensor((1, None, None, 3), "float32")
        drawn = [image if k is None else keras.KerasTensor((1, k), "float32") for k in widths]
        function = compiled(lambda pixels, *rest: vary(pixels, functions, rest), image, *drawn)
        convert = keras.ops.convert_to_tensor
        return lambda *values: keras.ops.convert_to_numpy(function(*map(convert, values)))[0]
