"""Scale pixels from 0 to 255 to the values that a backbone expects.

"rescale" gives [0, 1] and "tf" [-1, 1]. "torch" gives [0, 1], standardised by ImageNet's mean and
deviation. "caffe" is BGR minus ImageNet's mean. "none" leaves the pixels to the network. All but
the first are those of `keras.applications.imagenet_utils.preprocess_input`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from transferclf._checks import refuse

if TYPE_CHECKING:
    import keras

PREPROCESSINGS = ("none", "rescale", "caffe", "tf", "torch")

# Means and deviations of ImageNet: BGR on the scale 0 to 255 as the original Caffe networks were
# trained, and RGB on the scale 0 to 1 as in torchvision.
CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)
TORCH_RGB_MEAN = (0.485, 0.456, 0.406)
TORCH_RGB_DEVIATION = (0.229, 0.224, 0.225)


def check_preprocessing(preprocessing: str) -> None:
    """Raise InvalidParameterError unless `preprocessing` is one of the known names."""
    if preprocessing not in PREPROCESSINGS:
        refuse("preprocessing", f"one of {PREPROCESSINGS}", preprocessing)


def scale_pixels(pixels: keras.KerasTensor, preprocessing: str) -> keras.KerasTensor:
    """Scale pixels by layers, so that the scaling travels inside the model."""
    import keras
    from keras import layers

    check_preprocessing(preprocessing)
    if preprocessing == "rescale":
        return layers.Rescaling(1 / 255, name="scale_pixels")(pixels)
    if preprocessing == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_pixels")(pixels)
    if preprocessing == "torch":
        mean = [255 * value for value in TORCH_RGB_MEAN]
        variance = [(255 * value) ** 2 for value in TORCH_RGB_DEVIATION]
        return layers.Normalization(mean=mean, variance=variance, name="scale_pixels")(pixels)
    if preprocessing == "caffe":
        bgr = keras.ops.flip(pixels, axis=-1)
        mean = list(CAFFE_BGR_MEAN)
        return layers.Normalization(mean=mean, variance=[1.0] * 3, name="scale_pixels")(bgr)
    return pixels


def scale_array(pixels: np.ndarray, preprocessing: str) -> np.ndarray:
    """Scale pixels (n, h, w, 3) for a network that is no Keras model; float32."""
    check_preprocessing(preprocessing)
    if preprocessing == "rescale":
        pixels = pixels / 255
    elif preprocessing == "tf":
        pixels = pixels / 127.5 - 1
    elif preprocessing == "torch":
        pixels = (pixels / 255 - TORCH_RGB_MEAN) / TORCH_RGB_DEVIATION
    elif preprocessing == "caffe":
        pixels = pixels[..., ::-1] - CAFFE_BGR_MEAN
    return np.asarray(pixels, np.float32)
