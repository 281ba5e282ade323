"""The same architectures by timm and PyTorch, as candidates for `forward.py`.

They begin with the same uint8 images. "Eager" and "compiled" scale all pixels of a batch in
PyTorch. "One by one" prepares each image alone, as the image processors of the library transformers
do: resize by Pillow, rescale, normalise and transpose in NumPy, then stack. The weights are random.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

NAMES = {
    "mobilenet_v2": "mobilenetv2_100",
    "resnet50": "resnet50",
    "efficientnet_b0": "efficientnet_b0",
    "vgg16": "vgg16",
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 32


def peers(
    backbone: str, images: np.ndarray
) -> tuple[dict[str, Callable[[], np.ndarray]], dict[str, str]]:
    """Return the candidates that run here, and the reasons of those left out."""
    missing = [name for name in ("timm", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        return {}, {"timm and PyTorch": f"{' and '.join(missing)} cannot be imported"}
    import timm
    import torch

    model = timm.create_model(NAMES[backbone], pretrained=False, num_classes=0).eval()
    candidates = {
        "timm, eager": in_batches(model, scaled, images),
        "timm, eager, images one by one": in_batches(model, one_by_one, images),
    }
    compiled = in_batches(torch.compile(model), scaled, images)
    try:
        compiled()
    except Exception as error:  # without a C++ compiler, for example
        return candidates, {"timm, compiled": str(error).splitlines()[0]}
    return candidates | {"timm, compiled": compiled}, {}


def in_batches(
    model: Callable[[Any], Any], prepare: Callable[[np.ndarray], Any], images: np.ndarray
) -> Callable[[], np.ndarray]:
    import torch

    def run() -> np.ndarray:
        with torch.inference_mode():
            starts = range(0, len(images), BATCH)
            parts = [model(prepare(images[start : start + BATCH])) for start in starts]
            return torch.cat(parts).numpy()

    return run


def scaled(images: np.ndarray) -> Any:
    """Return uint8 images (n, h, w, 3) as a normalised tensor (n, 3, h, w)."""
    import torch

    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels / 255 - mean) / std


def one_by_one(images: np.ndarray) -> Any:
    """Return the same tensor up to rounding, prepared image by image."""
    import torch

    return torch.from_numpy(np.stack([prepared(image) for image in images]))


def prepared(image: np.ndarray) -> np.ndarray:
    """Return one uint8 image (h, w, 3) as normalised numbers (3, h, w)."""
    resized = Image.fromarray(image).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(resized).astype(np.float32) * (1 / 255)
    normalised = (pixels - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))
