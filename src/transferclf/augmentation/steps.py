"""Augmentation steps: one class for each way of varying an image by itself.

A step has parameters, random draws, and a function that applies the draws to a batch. Draws are
made apart, because those of a fixed view depend on the image, and those of training do not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

import numpy as np

from transferclf._parameters import ParameterSet
from transferclf.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor

Kind = TypeVar("Kind", bound="BuiltInStep")

# From red, green and blue to lightness and the two axes of colour of NTSC television (YIQ).
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

# Smaller factors would need pixels at coordinates beyond 32-bit numbers.
_LEAST_ZOOM = 0.01


class Source(Protocol):
    """Source of random numbers for a batch of n images."""

    def amounts(self, amplitudes: Sequence[float]) -> Tensor:
        """Return uniform draws from -a to a for each amplitude a, shape (n, k), float32."""

    def noise(self, deviation: float) -> Tensor:
        """Return normal draws of the shape of the pixels, float32."""


@dataclass
class Step(ParameterSet):
    """One way of varying images by themselves; base class of all steps.

    A subclass is a dataclass whose fields are its parameters. It has to override `apply`, which
    gets everything from the draws, so that recipes with other numbers share a compiled function.

    Attributes
    ----------
    limits : dict of str to (low, high)
        The limits of parameters that are numbers.
    version : int
        Raise it whenever the same parameters give another variation than before, so that stored
        features of the old variation are not used for the new one.

    Examples
    --------
    >>> from transferclf.augmentation.recipe import Augmentation
    >>> @dataclass
    ... class Fade(Step):
    ...     limits: ClassVar = {"fade": (0, 1)}
    ...     fade: float = 0.0
    ...
    ...     @staticmethod
    ...     def apply(pixels, drawn):
    ...         return pixels * (1 - abs(drawn[:, :, None, None]))
    >>> Augmentation(rotation=5, own_steps=[Fade(0.5)]).check()
    """

    limits: ClassVar[dict[str, tuple[float, float]]] = {}
    version: ClassVar[int] = 1

    def check(self) -> None:
        """Raise InvalidParameterError unless the parameters are within their limits."""
        for name, (low, high) in self.limits.items():
            self._check_number(name, low, high)

    @property
    def is_on(self) -> bool:
        """Whether the step varies anything: by default, if a parameter is not zero or False."""
        return any(self.get_params().values())

    def amplitudes(self) -> tuple[float, ...]:
        """Return the ends of the ranges of the draws: by default, one for each parameter."""
        return tuple(map(float, self.get_params().values()))

    def draw(self, source: Source) -> Tensor:
        """Return the draws for `apply`: by default, amounts of shape (n, k)."""
        return source.amounts(self.amplitudes())

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        """Return varied pixels, by operations of `keras.ops`.

        Parameters
        ----------
        pixels : tensor of shape (n, h, w, 3), float32
            On the scale 0 to 255. They are clipped to it after the last step only.
        drawn : tensor
            As `draw` has returned it.

        Returns
        -------
        tensor of shape (n, h, w, 3), float32
        """
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """SHA-256 of the class, its version and the parameters."""
        kind = type(self)
        return self._digest_with(kind.__module__, kind.__qualname__, self.version)


class BuiltInStep(Step):
    """Step whose parameters are fields of `Augmentation`."""

    _shown_as = "Augmentation"

    @classmethod
    def of(cls: type[Kind], recipe: ParameterSet) -> Kind:
        """Return the step with the values of the recipe."""
        return cls(**{field.name: getattr(recipe, field.name) for field in dataclasses.fields(cls)})


@dataclass
class Geometry(BuiltInStep):
    """Rotation, shift, zoom, shear and flips: one resampling, so that pixels are blurred once."""

    limits: ClassVar = {"rotation": (0, 180), "shear": (0, 60)}
    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False

    def check(self) -> None:
        super().check()
        for name in ("shift", "zoom"):
            self._check_number(name, 0, 1, below=True)
        for name in ("horizontal_flip", "vertical_flip"):
            self._check_flag(name)

    def amplitudes(self) -> tuple[float, ...]:
        # Two for shift: down and to the right.
        rotation, shift, *others = super().amplitudes()
        return (rotation, shift, shift, *others)

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        from keras import ops

        _, height, width, _ = ops.shape(pixels)
        transforms = _affine(drawn, height, width)
        # Beyond the edges the image is mirrored.
        return ops.image.affine_transform(
            pixels, transforms, "bilinear", fill_mode="reflect", data_format="channels_last"
        )


def _affine(amounts: Tensor, height: int | Tensor, width: int | Tensor) -> Tensor:
    """Return the coefficients of `affine_transform`, shape (n, 8).

    `amounts` has shape (n, 7): degrees anticlockwise, shares down and to the right, zoom factor
    less 1, degrees that the top leans to the right, and flips where negative.
    """
    from keras import ops

    rotation, shift_y, shift_x, zoom, shear, flip_x, flip_y = (amounts[:, k] for k in range(7))
    radians = math.pi / 180
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    cosine, sine = ops.cos(rotation * radians), ops.sin(rotation * radians)
    tangent = ops.tan(shear * radians)
    scale = 1 / ops.maximum(1 + zoom, _LEAST_ZOOM)
    scale_x, scale_y = scale * _sign(flip_x), scale * _sign(flip_y)
    # From the varied image back to the original: rotation, then shear, then zoom and flips.
    a0, a1 = scale_x * (cosine + tangent * sine), scale_x * (tangent * cosine - sine)
    b0, b1 = scale_y * sine, scale_y * cosine
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = centre_y + shift_y * height, centre_x + shift_x * width
    a2, b2 = centre_x - (a0 * x + a1 * y), centre_y - (b0 * x + b1 * y)
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def _sign(amounts: Tensor) -> Tensor:
    from keras import ops

    return ops.cast(amounts >= 0, "float32") * 2 - 1


@dataclass
class Contrast(BuiltInStep):
    """Factor of all differences from the mean of the image."""

    limits: ClassVar = {"contrast": (0, 1)}
    contrast: float = 0.0

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        from keras import ops

        mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
        return mean + ops.reshape(1 + drawn, (-1, 1, 1, 1)) * (pixels - mean)


@dataclass
class Brightness(BuiltInStep):
    """Factor of all pixels."""

    limits: ClassVar = {"brightness": (0, 1)}
    brightness: float = 0.0

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        from keras import ops

        return ops.reshape(1 + drawn, (-1, 1, 1, 1)) * pixels


@dataclass
class Colour(BuiltInStep):
    """Saturation and hue, which keep the lightness of each pixel."""

    limits: ClassVar = {"saturation": (0, 1), "hue": (0, 180)}
    saturation: float = 0.0
    hue: float = 0.0

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        from keras import ops

        shares = ops.transpose(_recolouring(drawn), (2, 0, 1))[:, :, None, None]
        return sum(shares[old] * pixels[..., old : old + 1] for old in range(3))


def _recolouring(amounts: Tensor) -> Tensor:
    """Return the share of each old channel in each new one, shape (n, 3, 3).

    `amounts` has shape (n, 2): the factor of colour less 1, and the turn of hues in degrees. Each
    row sums to 1, so that gray stays.
    """
    from keras import ops

    factor, angle = 1 + amounts[:, 0], amounts[:, 1] * (math.pi / 180)
    cosine, sine = factor * ops.cos(angle), factor * ops.sin(angle)
    one, zero = ops.ones_like(cosine), ops.zeros_like(cosine)
    rows = [[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]]
    turned = ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)
    to, back = (ops.cast(matrix, "float32") for matrix in (_TO_YIQ, np.linalg.inv(_TO_YIQ)))
    return ops.matmul(back, ops.matmul(turned, to))


@dataclass
class Noise(BuiltInStep):
    """Gaussian noise, drawn for each channel of each pixel."""

    limits: ClassVar = {"noise": (0, 255)}
    noise: float = 0.0

    def amplitudes(self) -> tuple[float, ...]:
        return ()

    def draw(self, source: Source) -> Tensor:
        return source.noise(float(self.noise))

    @staticmethod
    def apply(pixels: Tensor, drawn: Tensor) -> Tensor:
        from keras import ops

        return ops.add(pixels, drawn)


# In the order in which they are applied.
BUILT_IN: tuple[type[BuiltInStep], ...] = (Geometry, Contrast, Brightness, Colour, Noise)

# In the order in which their amounts are drawn. Another order would give other amounts for the same
# image and seed, and stored views would not be found again.
DRAWN: tuple[type[BuiltInStep], ...] = (Geometry, Brightness, Contrast, Colour)

# Steps of the user's own that archives may name.
STEPS: dict[str, type[Step]] = {}


def register_step(kind: type[Step]) -> type[Step]:
    """Let archives contain steps of this class; also a decorator.

    An archive contains the name of the class and its parameters. A class of that name has to be
    registered before the archive is loaded.

    Raises
    ------
    InvalidParameterError
        If it is no subclass of `Step`, or another class of that name is registered.
    """
    if not (isinstance(kind, type) and issubclass(kind, Step)):
        raise InvalidParameterError(f"a step must be a subclass of Step. Got {kind!r} instead.")
    known = STEPS.get(kind.__name__, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):
        raise InvalidParameterError(
            f"a step must have a name of its own. {kind.__name__!r} is that of {known!r}."
        )
    STEPS[kind.__name__] = kind
    return kind


def vary(
    pixels: np.ndarray | Tensor,
    functions: Sequence[Callable[[Tensor, Tensor], Tensor]],
    drawn: Sequence[np.ndarray | Tensor],
) -> Tensor:
    """Apply the `apply` functions of steps in turn, each to its draws, and clip to 0 to 255."""
    from keras import ops

    pixels = ops.convert_to_tensor(pixels, "float32")
    for function, values in zip(functions, drawn, strict=True):
        pixels = function(pixels, ops.convert_to_tensor(values, "float32"))
    return ops.clip(pixels, 0, 255)
