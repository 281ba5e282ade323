"""The images and the teacher's features that the pretraining of ``tiny`` learns from."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

TRAIN_SHARDS = ("train-0.npz", "train-1.npz")
VALIDATION_SHARDS = ("validation.npz",)
IMAGE_SIZE = 64
TEACHER_SIZE = 128  # the teacher names 39 % of the upsampled images right, 33 % at 96 pixels
TEACHER_BATCH = 120


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
    """Boxes (top, left, bottom, right; fractions of the image) that take all of each image."""
    return np.tile(np.array([0, 0, 1, 1], "float32"), (n_images, 1))


def random_boxes(n_images: int, seed: int) -> np.ndarray:
    """Draw one square box for each image, 60 to 90 % of it wide."""
    rng = np.random.default_rng(seed)
    side = rng.uniform(0.6, 0.9, (n_images, 1))
    corner = rng.uniform(0, 1, (n_images, 2)) * (1 - side)
    return np.concatenate([corner, corner + side], axis=1).astype("float32")


def teacher_features(images: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Pooled MobileNetV2 features of the boxes, upsampled; needs TensorFlow and its weights."""
    import tensorflow as tf

    network = tf.keras.applications.MobileNetV2(
        (TEACHER_SIZE, TEACHER_SIZE, 3), include_top=False, pooling="avg"
    )

    @tf.function
    def embed(pixels, boxes):
        size, which = (TEACHER_SIZE, TEACHER_SIZE), tf.range(tf.shape(pixels)[0])
        x = tf.image.crop_and_resize(tf.cast(pixels, tf.float32), boxes, which, size)
        return network(x / 127.5 - 1, training=False)

    features, began = np.empty((len(images), network.output_shape[-1]), "float16"), time.monotonic()
    for start in range(0, len(images), TEACHER_BATCH):
        part = slice(start, start + TEACHER_BATCH)
        features[part] = embed(tf.constant(images[part]), tf.constant(boxes[part])).numpy()
        if start % (100 * TEACHER_BATCH) == 0:
            print(f"teacher: {start} images, {time.monotonic() - began:.0f} s", flush=True)
    return features


def cached(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array stored at ``path``; the first call makes and stores it."""
    if not path.exists():
        partial = path.with_suffix(".partial.npy")
        np.save(partial, make())
        os.replace(partial, path)
    return np.load(path)
