"""Pixel scaling: what each backbone expects to happen to pixels between 0 and 255.

"rescale" is to the scale 0 to 1; the other ways are those of
`keras.applications.imagenet_utils.preprocess_input`. They are built from layers, so that they
travel inside the model and no caller can forget or double them.
"""

from __future__ import annotations

import keras
from keras import layers

from transferclf.backbones.registry import check_preprocessing

# Means and deviations of ImageNet: BGR on the scale 0 to 255 as the original Caffe networks were
# trained, and RGB on the scale 0 to 1 as in torchvision.
CAFFE_BGR_MEAN = (103.939, 116.779, 123.68)
TORCH_RGB_MEAN = (0.485, 0.456, 0.406)
TORCH_RGB_DEVIATION = (0.229, 0.224, 0.225)


def scale_pixels(pixels: keras.KerasTensor, preprocessing: str) -> keras.KerasTensor:
    """Scale RGB pixels between 0 and 255 as a backbone expects them.

    Parameters
    ----------
    pixels : keras.KerasTensor of shape (n, h, w, 3)
        RGB pixels between 0 and 255.
    preprocessing : {"none", "rescale", "caffe", "tf", "torch"}
        "rescale" is to [0, 1]; "tf" is to [-1, 1]; "torch" is to [0, 1], then by ImageNet's mean
        and deviation; "caffe" is BGR minus ImageNet's mean; "none" leaves them to the network
        itself.

    Returns
    -------
    keras.KerasTensor of shape (n, h, w, 3)
    """
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
