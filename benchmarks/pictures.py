"""Draw pictures for the benchmarks: random pixels, and JPEG files as large as photographs."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CELLS = 4  # patches along each side


def labelled_images(n_images: int, side: int, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return square uint8 images of random patches and noise, and arbitrary labels.

    Patches are needed because all images of noise alone have nearly the same features.
    """
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 193, (n_images, CELLS, CELLS, 3), dtype=np.uint8)
    cells = np.arange(side) * CELLS // side
    # Indexing leaves the axes in an unusual order in memory.
    images = np.ascontiguousarray(patches[:, cells][:, :, cells])
    images += rng.integers(0, 64, images.shape, dtype=np.uint8)
    return images, np.arange(n_images) % n_classes


def jpeg_of(height: int, width: int, seed: int = 0, finest: int = 2) -> bytes:
    """Return a JPEG file with structure at all scales down to `finest` pixels, like photographs."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 127.5, np.float32)
    cell = max(height, width)
    while cell >= finest:
        coarse = rng.normal(size=(height // cell + 2, width // cell + 2, 3)).astype(np.float32)
        picture += _enlarged(coarse, height, width) * 8 * cell**0.15
        cell //= 2
    contents = io.BytesIO()
    pixels = picture.clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(contents, "JPEG", quality=90)
    return contents.getvalue()


def _enlarged(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(coarse, -1, 0)]
    resized = [plane.resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(plane) for plane in resized], axis=-1)
