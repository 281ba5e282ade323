"""Pixels: reading, scaling and resizing images. Nothing here imports Keras."""

from transferclf.images.decoding import decode_image
from transferclf.images.geometry import extreme_square_crops, resize_image
from transferclf.images.inputs import check_images
from transferclf.images.source import ImageSource

__all__ = ["ImageSource", "check_images", "decode_image", "extreme_square_crops", "resize_image"]
