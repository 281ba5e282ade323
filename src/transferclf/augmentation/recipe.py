"""Augmentation: a recipe for varying images at random, and the steps that vary them.

Drawing and applying are apart: here is what is done to pixels once the amounts are known, and
`views.py` draws them.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from transferclf._parameters import ParameterSet
from transferclf.exceptions import InvalidParameterError

GEOMETRY = ("rotation", "shift", "zoom", "shear", "horizontal_flip", "vertical_flip")

# What the draws of an image mean, in this order; the first seven are geometry.
COLUMNS = (
    "rotation",
    "shift_y",
    "shift_x",
    "zoom",
    "shear",
    "horizontal_flip",
    "vertical_flip",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)

# From red, green and blue to lightness and the two axes of colour of NTSC television (YIQ).
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])

# Smaller factors would ask for pixels at coordinates that are no 32-bit numbers.
_LEAST_ZOOM = 0.01


@dataclass
class Augmentation(ParameterSet):
    """How images are varied at random while a network is trained.

    All amounts are drawn uniformly, for each image on its own. Rotation, shift, zoom, shear and
    flips are one resampling, and what comes from beyond the edges is the image mirrored; then
    come contrast, brightness, colour and noise, and the pixels are clipped to 0 to 255.

    Parameters
    ----------
    rotation : float, default=0.0
        Up to how many degrees either way, at most 180.
    shift : float, default=0.0
        Up to which share of the height and of the width either way, below 1.
    zoom : float, default=0.0
        The factor, the same for both axes, is from 1 - zoom to 1 + zoom, though never below 0.01;
        below 1.
    shear : float, default=0.0
        Up to how many degrees either way, at most 60.
    horizontal_flip, vertical_flip : bool, default=False
        Whether every other image is mirrored, left and right or top and bottom.
    brightness : float, default=0.0
        The factor of all pixels is from 1 - brightness to 1 + brightness; at most 1.
    contrast : float, default=0.0
        The factor of all differences from the image's own mean is from 1 - contrast to
        1 + contrast; at most 1.
    saturation : float, default=0.0
        The factor of all colour, which is the difference of a pixel from its gray, is from
        1 - saturation to 1 + saturation; at most 1. Stains and lamps differ in it.
    hue : float, default=0.0
        Up to how many degrees colours are turned about gray either way, at most 180: 120 takes
        red towards green or blue. Lightness stays.
    noise : float, default=0.0
        Standard deviation of Gaussian noise, in levels of 0 to 255.
    mixup : float, default=0.0
        Parameter of the Beta distribution by which images and labels are blended [1]_; 0 is off.
    cutmix : float, default=0.0
        Parameter of the Beta distribution by which a part of another image is pasted [2]_; 0 is
        off. With both, each image is blended or pasted into, either with probability one half.
    views : int, default=4
        How many fixed variations of each image there are besides itself, where the first trained
        layer is not the network's first.

    References
    ----------
    .. [1] Zhang et al. (2018), mixup: Beyond Empirical Risk Minimization.
    .. [2] Yun et al. (2019), CutMix: Regularization Strategy to Train Strong Classifiers with
       Localizable Features.

    Examples
    --------
    >>> augmentation = Augmentation(rotation=15, horizontal_flip=True)
    >>> augmentation.check()
    >>> augmentation.varies, augmentation.mixes
    (True, False)
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    horizontal_flip: bool = False
    vertical_flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    noise: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    views: int = 4

    @property
    def mixes(self) -> bool:
        """Whether images are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def varies(self) -> bool:
        """Whether an image is varied by itself."""
        return bool(self.steps)

    @property
    def steps(self) -> tuple[str, ...]:
        """Which it needs of geometry, contrast, brightness, colour and noise, in this order."""
        needed = {
            "geometry": any(getattr(self, name) for name in GEOMETRY),
            "contrast": self.contrast > 0,
            "brightness": self.brightness > 0,
            "colour": self.saturation > 0 or self.hue > 0,
            "noise": self.noise > 0,
        }
        return tuple(step for step, is_needed in needed.items() if is_needed)

    def check(self) -> None:
        """Raise InvalidParameterError unless every field has a value it can have."""
        self._check_number("rotation", 0, 180)
        self._check_number("shift", 0, 1, below=True)
        self._check_number("zoom", 0, 1, below=True)
        self._check_number("shear", 0, 60)
        self._check_flag("horizontal_flip")
        self._check_flag("vertical_flip")
        self._check_number("brightness", 0, 1)
        self._check_number("contrast", 0, 1)
        self._check_number("saturation", 0, 1)
        self._check_number("hue", 0, 180)
        self._check_number("noise", 0, 255)
        self._check_number("mixup", 0, 100)
        self._check_number("cutmix", 0, 100)
        self._check_number("views", 1, whole=True)
        if not self.varies and not self.mixes:
            raise InvalidParameterError(
                "An Augmentation must have something to vary, such as rotation=15, shift=0.1 or "
                "horizontal_flip=True. Got none instead; augmentation=None is no augmentation."
            )

    def amplitudes(self) -> np.ndarray:
        """What draws between -1 and 1 are multiplied by, shape (11,), for COLUMNS."""
        values = {name: float(value) for name, value in self.get_params().items()}
        values |= {"shift_y": values["shift"], "shift_x": values["shift"]}
        return np.array([values[name] for name in COLUMNS], np.float32)


PRESETS = {
    "light": Augmentation(rotation=5, shift=0.05, horizontal_flip=True, brightness=0.1),
    "medium": Augmentation(
        rotation=15, shift=0.1, zoom=0.1, horizontal_flip=True, brightness=0.2, contrast=0.2
    ),
    "strong": Augmentation(
        rotation=30,
        shift=0.15,
        zoom=0.25,
        shear=10,
        horizontal_flip=True,
        brightness=0.3,
        contrast=0.3,
        noise=5,
    ),
}


def augmentation_from(value: Any) -> Augmentation | None:
    """The checked recipe that a parameter means.

    Parameters
    ----------
    value : None, {"light", "medium", "strong"} or Augmentation
        None is no augmentation.

    Returns
    -------
    Augmentation or None
        That given, or a copy of the preset.

    Raises
    ------
    InvalidParameterError
        If it is none of these, or its fields have values they cannot have.

    Examples
    --------
    >>> augmentation_from("light").rotation
    5
    """
    if isinstance(value, str) and value in PRESETS:
        return dataclasses.replace(PRESETS[value])
    if isinstance(value, Augmentation):
        value.check()
    elif value is not None:
        near = difflib.get_close_matches(value, PRESETS, n=1) if isinstance(value, str) else []
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidParameterError(
            f"augmentation must be None, {', '.join(map(repr, PRESETS))} or an Augmentation. "
            f"Got {value!r} instead.{hint}"
        )
    return value


def affine(amounts: Any, height: Any, width: Any) -> Any:
    """Where each pixel of the varied images comes from, as `affine_transform` takes it.

    Parameters
    ----------
    amounts : tensor of shape (n, 11)
        For COLUMNS: degrees anticlockwise, shares down and to the right, zoom factor less 1,
        degrees that the top leans to the right, and flips where negative.
    height, width : int or tensor
        Of the images, in pixels.

    Returns
    -------
    tensor of shape (n, 8), float32

    Examples
    --------
    >>> import keras, numpy as np
    >>> flip = np.array([[0, 0, 0, 0, 0, -1] + 5 * [0]], np.float32)
    >>> keras.ops.convert_to_numpy(affine(flip, 4, 5))[0, [0, 2]].tolist()  # x comes from 4 - x
    [-1.0, 4.0]
    """
    from keras import ops

    columns = [amounts[:, number] for number in range(7)]
    rotation, shift_y, shift_x, zoom, shear, flip_x, flip_y = columns
    radians = math.pi / 180
    height, width = ops.cast(height, "float32"), ops.cast(width, "float32")
    cosine, sine = ops.cos(rotation * radians), ops.sin(rotation * radians)
    tangent = ops.tan(shear * radians)
    scale = 1 / ops.maximum(1 + zoom, _LEAST_ZOOM)
    scale_x, scale_y = scale * _flipped(flip_x), scale * _flipped(flip_y)
    # Back from the varied image: the rotation, then the shear, then zoom and flips.
    a0, a1 = scale_x * (cosine + tangent * sine), scale_x * (tangent * cosine - sine)
    b0, b1 = scale_y * sine, scale_y * cosine
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y, x = centre_y + shift_y * height, centre_x + shift_x * width
    a2, b2 = centre_x - (a0 * x + a1 * y), centre_y - (b0 * x + b1 * y)
    zero = ops.zeros_like(a0)
    return ops.stack([a0, a1, a2, b0, b1, b2, zero, zero], axis=1)


def _flipped(amounts: Any) -> Any:
    from keras import ops

    return ops.cast(amounts >= 0, "float32") * 2 - 1


def recolouring(saturation: Any, hue: Any) -> Any:
    """What each pixel's red, green and blue are made of once colours are changed.

    Parameters
    ----------
    saturation : tensor of shape (n,)
        Factor of colour less 1.
    hue : tensor of shape (n,)
        Degrees.

    Returns
    -------
    tensor of shape (n, 3, 3), float32
        Of each new channel, the shares of the old ones; every row sums to 1, so gray stays.

    Examples
    --------
    >>> import keras, numpy as np
    >>> gray = recolouring(np.float32([-1]), np.float32([0]))  # no colour left
    >>> [f"{share:.3f}" for share in keras.ops.convert_to_numpy(gray)[0, 0]]
    ['0.299', '0.587', '0.114']
    """
    from keras import ops

    factor, angle = 1 + saturation, hue * (math.pi / 180)
    cosine, sine = factor * ops.cos(angle), factor * ops.sin(angle)
    one, zero = ops.ones_like(cosine), ops.zeros_like(cosine)
    rows = [[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]]
    turned = ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)
    to, back = (ops.cast(matrix, "float32") for matrix in (_TO_YIQ, np.linalg.inv(_TO_YIQ)))
    return ops.matmul(back, ops.matmul(turned, to))


def apply(
    pixels: Any,
    transforms: Any = None,
    gains: Any = None,
    contrasts: Any = None,
    colours: Any = None,
    noise: Any = None,
) -> Any:
    """Vary images by amounts that are given; what is None is left out.

    Parameters
    ----------
    pixels : tensor of shape (n, h, w, 3), float32
        Between 0 and 255.
    transforms : tensor of shape (n, 8), optional
        Where pixels come from, see :func:`affine`.
    gains, contrasts : tensor of shape (n,), optional
        Factors of the pixels, and of their differences from the image's mean.
    colours : tensor of shape (n, 3, 3), optional
        See :func:`recolouring`.
    noise : tensor of shape (n, h, w, 3), optional
        What is added.

    Returns
    -------
    tensor of shape (n, h, w, 3), float32
        Clipped to 0 to 255.
    """
    from keras import ops

    pixels = ops.convert_to_tensor(pixels, "float32")
    if transforms is not None:
        pixels = ops.image.affine_transform(
            pixels,
            ops.copy(transforms),  # with PyTorch, Keras writes into them
            interpolation="bilinear",
            fill_mode="reflect",
            data_format="channels_last",
        )
    if contrasts is not None:
        mean = ops.mean(pixels, axis=(1, 2, 3), keepdims=True)
        pixels = mean + ops.reshape(contrasts, (-1, 1, 1, 1)) * (pixels - mean)
    if gains is not None:
        pixels = ops.reshape(gains, (-1, 1, 1, 1)) * pixels
    if colours is not None:
        shares = ops.transpose(colours, (2, 0, 1))[:, :, None, None]
        pixels = sum(shares[old] * pixels[..., old : old + 1] for old in range(3))
    return ops.clip(pixels if noise is None else ops.add(pixels, noise), 0, 255)


def apply_amounts(pixels: Any, amounts: Any, noise: Any, steps: tuple[str, ...]) -> Any:
    """Vary images by their amounts; steps that are not named are left out.

    Parameters
    ----------
    pixels : tensor of shape (n, h, w, 3), float32
        Between 0 and 255.
    amounts : tensor of shape (n, 11)
        For COLUMNS.
    noise : tensor of shape (n, h, w, 3) or None
        What is added.
    steps : tuple of str
        As in `Augmentation.steps`.

    Returns
    -------
    tensor of shape (n, h, w, 3), float32
    """
    from keras import ops

    _, height, width, _ = ops.shape(pixels)
    return apply(
        pixels,
        affine(amounts, height, width) if "geometry" in steps else None,
        1 + amounts[:, 7] if "brightness" in steps else None,
        1 + amounts[:, 8] if "contrast" in steps else None,
        recolouring(amounts[:, 9], amounts[:, 10]) if "colour" in steps else None,
        noise,
    )
