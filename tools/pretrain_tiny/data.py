"""Load the training images of ``tiny`` and compute the teachers' features."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN_SHARDS = ("train-0.npz", "train-1.npz")
VALIDATION_SHARDS = ("validation.npz",)
IMAGE_SIZE = 64
TEACHERS = (1.0, 0.35)  # widths of MobileNetV2
TEACHER_SIZE = 128  # at this size the wider teacher has accuracy 0.39, at 96 pixels 0.33
TEACHER_BATCH = 120

# Lightness and two axes of colour (YIQ) from red, green and blue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class View:
    """The input of the teachers for each image: a part of it, perhaps in other colours."""

    boxes: np.ndarray  # (n, 4): top, left, bottom, right, as shares of the image
    colours: np.ndarray  # (n, 3, 3): weights of the old colours in the new red, green and blue
    keeps_label: bool = True  # whether the class is still recognisable


def views(n_images: int, seed: int) -> list[View]:
    """Return three views: whole images, large parts, and close-ups in any colours for texture."""
    same = np.tile(np.eye(3, dtype="float32"), (n_images, 1, 1))
    return [
        View(whole_boxes(n_images), same),
        View(random_boxes(n_images, seed, 0.6, 0.9), same),
        View(
            random_boxes(n_images, seed + 1, 0.35, 0.7),
            random_colours(n_images, seed + 2),
            keeps_label=False,
        ),
    ]


def load_images(folder: Path, shards: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Decode shards of WebP images into one uint8 array, with the labels beside it."""
    images, labels = [], []
    for shard in shards:
        with np.load(folder / shard) as stored:
            images.append(_decode_all(stored["data"], stored["offsets"]))
            labels.append(stored["labels"].astype("int64"))
    return np.concatenate(images), np.concatenate(labels)


def _decode_all(data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    images = np.empty((len(offsets) - 1, IMAGE_SIZE, IMAGE_SIZE, 3), "uint8")
    for i, (start, stop) in enumerate(pairwise(offsets)):
        with Image.open(io.BytesIO(data[start:stop].tobytes())) as image:
            images[i] = np.asarray(image.convert("RGB"))
    return images


def whole_boxes(n_images: int) -> np.ndarray:
    """Return boxes (top, left, bottom, right; fractions) that contain the whole images."""
    return np.tile(np.array([0, 0, 1, 1], "float32"), (n_images, 1))


def random_boxes(n_images: int, seed: int, least: float, most: float) -> np.ndarray:
    """Draw one square box per image; its width is between two shares of the image's width."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(least, most, (n_images, 1))
    corner = rng.uniform(0, 1, (n_images, 2)) * (1 - side)
    return np.concatenate([corner, corner + side], axis=1).astype("float32")


def random_colours(n_images: int, seed: int) -> np.ndarray:
    """Draw a matrix per image that turns its hue by any angle and scales its saturation."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, n_images)
    factor = rng.uniform(0.5, 1.5, n_images)
    turned = np.zeros((n_images, 3, 3))
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = factor * np.cos(angle)
    turned[:, 2, 1] = factor * np.sin(angle)
    turned[:, 1, 2] = -turned[:, 2, 1]
    return (np.linalg.inv(_TO_YIQ) @ turned @ _TO_YIQ).astype("float32")


def teacher_features(images: np.ndarray, view: View, alpha: float) -> np.ndarray:
    """Return pooled MobileNetV2 features of a view, upsampled; needs TensorFlow and weights."""
    import tensorflow as tf

    network = tf.keras.applications.MobileNetV2(
        (TEACHER_SIZE, TEACHER_SIZE, 3), alpha, include_top=False, pooling="avg"
    )

    @tf.function
    def embed(pixels, boxes, colours):
        size, which = (TEACHER_SIZE, TEACHER_SIZE), tf.range(tf.shape(pixels)[0])
        x = tf.image.crop_and_resize(tf.cast(pixels, tf.float32), boxes, which, size)
        x = tf.clip_by_value(tf.einsum("nhwc,ndc->nhwd", x, colours), 0, 255)
        return network(x / 127.5 - 1, training=False)

    features, began = np.empty((len(images), network.output_shape[-1]), "float16"), time.monotonic()
    for start in range(0, len(images), TEACHER_BATCH):
        part = slice(start, start + TEACHER_BATCH)
        given = (images[part], view.boxes[part], view.colours[part])
        features[part] = embed(*map(tf.constant, given)).numpy()
        if start % (100 * TEACHER_BATCH) == 0:
            print(f"teacher: {start} images, {time.monotonic() - began:.0f} s", flush=True)
    return features


def features_path(folder: Path, alpha: float, view: int) -> Path:
    """Return the path of a teacher's features of a view."""
    return folder / f"teacher_{alpha:g}_{view}.npy"


def cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array stored at ``path``; the first call makes and stores it."""
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, make())
        os.replace(partial, path)
    return np.load(path)
