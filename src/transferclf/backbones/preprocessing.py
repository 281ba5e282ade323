"""Prepare pixels from 0 to 255 as a backbone expects them.

A name stands for a common scaling. "rescale" gives [0, 1] and "tf" [-1, 1]. "torch" gives [0, 1],
standardised by ImageNet's mean and deviation. "caffe" is BGR minus ImageNet's mean. "none" leaves
the pixels to the network. The names but "rescale" are those of
`keras.applications.imagenet_utils.preprocess_input`. Any other preparation is a
:class:`Preprocessing`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from transferclf._checks import check_choice, check_flag, check_number, refuse
from transferclf.images.geometry import INTERPOLATIONS, RESIZE_MODES, Sampling

if TYPE_CHECKING:
    import keras

    from transferclf.images.geometry import Interpolation, ResizeMode

PREPROCESSINGS = ("none", "rescale", "caffe", "tf", "torch")

# Means and deviations of ImageNet: BGR on the scale 0 to 255 as the original Caffe networks were
# trained, and RGB on the scale 0 to 1 as in torchvision.
CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)
TORCH_RGB_MEAN = (0.485, 0.456, 0.406)
TORCH_RGB_DEVIATION = (0.229, 0.224, 0.225)

CHANNELS = ("rgb", "bgr")


@dataclass(frozen=True)
class Preprocessing:
    """How images become the input of a network: geometry and scaling.

    A value p between 0 and 255 becomes ``(p * scale - mean) / std``.

    Parameters
    ----------
    scale, mean, std : float or sequence of 3 floats, default=1, 0 and 1
        For all channels, or one for each, in the order of `channels`.
    interpolation : {"bilinear", "bicubic", "nearest", "lanczos3"}, default="bilinear"
        Filter of the resize.
    crop_fraction : float or None, default=None
        Share of the resized image that is kept, in (0, 1]: 0.875 resizes the short side to 256
        pixels and takes the centre of 224 x 224. The sides of the resized image are rounded as
        torchvision does. None takes the largest centred part, without rounding.
    antialias : bool, default=True
        Whether all pixels of a large image count. False looks only at the pixels next to each
        point, as Keras' `Resizing` layer does by default.
    resize : {"crop", "stretch", "pad"}, default="crop"
        The mode that ``resize="auto"`` of the estimators takes.
    channels : {"rgb", "bgr"}, default="rgb"
        Order of the channels in the input of the network.
    whole_pixels : bool, default=False
        Whether the image is cropped or padded in whole pixels before it is resized, as Keras'
        `Resizing` layer does. Without `antialias` this is always so.

    Raises
    ------
    InvalidParameterError
        If a value is none of the above, or `scale` or `std` is not above 0.

    See Also
    --------
    transferclf.TransferClassifier : Its parameter `preprocessing` takes one.

    Examples
    --------
    >>> from transferclf import CNNFeatureExtractor, Preprocessing
    >>> dinov2 = Preprocessing(
    ...     scale=1 / 255,
    ...     mean=(0.485, 0.456, 0.406),
    ...     std=(0.229, 0.224, 0.225),
    ...     interpolation="bicubic",
    ...     crop_fraction=0.875,
    ... )
    >>> extractor = CNNFeatureExtractor("tiny", preprocessing=dinov2)
    """

    scale: float | tuple[float, ...] = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    interpolation: Interpolation = "bilinear"
    crop_fraction: float | None = None
    antialias: bool = True
    resize: ResizeMode = "crop"
    channels: Literal["rgb", "bgr"] = "rgb"
    whole_pixels: bool = False

    def __post_init__(self) -> None:
        for name in ("scale", "mean", "std"):
            object.__setattr__(self, name, _numbers(name, getattr(self, name)))
        for name in ("scale", "std"):
            if min(np.atleast_1d(getattr(self, name))) <= 0:
                refuse(name, "above 0", getattr(self, name))
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("resize", self.resize, RESIZE_MODES)
        check_choice("channels", self.channels, CHANNELS)
        check_flag("antialias", self.antialias)
        check_flag("whole_pixels", self.whole_pixels)
        if self.crop_fraction is not None:
            check_number("crop_fraction", self.crop_fraction, 0, 1, above=True)
            object.__setattr__(self, "crop_fraction", float(self.crop_fraction))

    @property
    def sampling(self) -> Sampling:
        """How the pixels of the network's size are computed."""
        return Sampling(
            self.interpolation, bool(self.antialias), self.crop_fraction, bool(self.whole_pixels)
        )

    @property
    def factor(self) -> np.ndarray:
        """The factor of each channel, shape (3,)."""
        return np.broadcast_to(np.asarray(self.scale) / np.asarray(self.std), 3)

    @property
    def offset(self) -> np.ndarray:
        """What is added to each channel after the factor, shape (3,)."""
        return np.broadcast_to(-np.asarray(self.mean) / np.asarray(self.std), 3)

    def facts(self) -> dict[str, object]:
        """Return the fields that differ from their defaults, for JSON."""
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def check_preprocessing(preprocessing: object) -> None:
    """Raise InvalidParameterError unless this is a known name or a Preprocessing."""
    if not isinstance(preprocessing, Preprocessing) and not (
        isinstance(preprocessing, str) and preprocessing in PREPROCESSINGS
    ):
        refuse("preprocessing", f"one of {PREPROCESSINGS} or a Preprocessing", preprocessing)


def preprocessing_of(preprocessing: str | Preprocessing) -> Preprocessing:
    """Return the record that a name stands for, or the record itself."""
    check_preprocessing(preprocessing)
    return _NAMED[preprocessing] if isinstance(preprocessing, str) else preprocessing


def scale_pixels(
    pixels: keras.KerasTensor, preprocessing: str | Preprocessing
) -> keras.KerasTensor:
    """Scale pixels by layers, so that the scaling travels inside the model."""
    import keras
    from keras import layers

    record = preprocessing_of(preprocessing)
    if record.channels == "bgr":
        pixels = keras.ops.flip(pixels, axis=-1)
    mean, std = (np.broadcast_to(value, 3).tolist() for value in (record.mean, record.std))
    if mean == [0.0] * 3 and std == [1.0] * 3 and record.scale == 1:
        return pixels
    if isinstance(record.scale, float) and isinstance(record.mean, float) and record.std == 1:
        offset = -record.mean
        return layers.Rescaling(record.scale, offset=offset, name="scale_pixels")(pixels)
    # (p - mean / scale) / (std / scale), so that one layer does it.
    scale = np.broadcast_to(record.scale, 3).tolist()
    centre = [value / factor for value, factor in zip(mean, scale, strict=True)]
    variance = [(value / factor) ** 2 for value, factor in zip(std, scale, strict=True)]
    return layers.Normalization(mean=centre, variance=variance, name="scale_pixels")(pixels)


def scale_array(pixels: np.ndarray, preprocessing: str | Preprocessing) -> np.ndarray:
    """Scale pixels (n, h, w, 3) for a network that is no Keras model; float32."""
    record = preprocessing_of(preprocessing)
    if record.channels == "bgr":
        pixels = pixels[..., ::-1]
    if np.all(record.factor == 1) and np.all(record.offset == 0):
        return np.asarray(pixels, np.float32)
    # One image and long rows at a time is eight times as fast as the three channels of all images.
    n_images, height, width, _ = pixels.shape
    scaled = np.empty((n_images, height, 3 * width), np.float32)
    factor, offset = (np.tile(it, width) for it in (record.factor, record.offset))
    for image, result in zip(pixels, scaled, strict=True):
        # The products are float64, so that only the result is rounded.
        product = image.reshape(result.shape) * factor
        result[:] = np.add(product, offset, out=product)
    return scaled.reshape(pixels.shape)


def _numbers(name: str, value: object) -> float | tuple[float, ...]:
    """Return a number as a float, and three numbers as a tuple of floats."""
    if isinstance(value, Real) and not isinstance(value, bool):
        numbers = [value]
    elif isinstance(value, list | tuple | np.ndarray) and np.shape(value) in ((1,), (3,)):
        numbers = list(value)
    else:
        numbers = []
    is_number = [isinstance(it, Real) and not isinstance(it, bool) for it in numbers]
    if not numbers or not all(is_number) or not all(map(isfinite, map(float, numbers))):
        refuse(name, "a number or three of them", value)
    floats = tuple(float(cast(float, it)) for it in numbers)
    return floats if len(floats) == 3 else floats[0]


_NAMED = {
    "none": Preprocessing(),
    "rescale": Preprocessing(scale=1 / 255),
    "caffe": Preprocessing(mean=CAFFE_BGR_MEAN, channels="bgr"),
    "tf": Preprocessing(scale=1 / 127.5, mean=1.0),
    "torch": Preprocessing(scale=1 / 255, mean=TORCH_RGB_MEAN, std=TORCH_RGB_DEVIATION),
}
