"""Draw random views of a batch: crop, flip, size, light, colour and sharpness."""

from __future__ import annotations

import torch
from torch.nn import functional


def random_views(
    pixels: torch.Tensor, boxes: torch.Tensor, colours: torch.Tensor, size: int
) -> torch.Tensor:
    """Turn uint8 images (n, h, w, 3) into network inputs (n, 3, size, size) in [-1, 1].

    ``boxes`` (top, left, bottom, right) and ``colours`` (3 x 3) are the teachers' view of each
    image. The random view stays close to it, because the teachers' features describe that view.
    """
    x = torch.einsum("nhwc,ndc->ndhw", pixels.float().div_(255.0), colours).clamp_(0, 1)
    x = _crop(x.contiguous(), _jitter(boxes), size)
    x = _blur_some(_recolour(x), share=0.15)
    return x.mul_(2).sub_(1).contiguous(memory_format=torch.channels_last)


def plain_views(pixels: torch.Tensor, size: int) -> torch.Tensor:
    """Turn uint8 images into network inputs of ``size`` without any randomness."""
    x = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    if size != x.shape[-1]:
        x = functional.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


def _uniform(n: int, low: float, high: float, *trailing: int) -> torch.Tensor:
    return torch.rand(n, *trailing) * (high - low) + low


def _jitter(boxes: torch.Tensor) -> torch.Tensor:
    """Shift each box by up to 8 % of its side and scale it by 0.8 to 1.15."""
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    centre = centre + side * _uniform(len(boxes), -0.08, 0.08, 2)
    side = side * _uniform(len(boxes), -0.223, 0.14, 1).exp() * _uniform(len(boxes), 0.93, 1.07, 2)
    return torch.cat([centre - side / 2, centre + side / 2], dim=1)


def _crop(x: torch.Tensor, boxes: torch.Tensor, size: int) -> torch.Tensor:
    """Sample each box at ``size`` x ``size``, half of them mirrored."""
    centre, side = boxes[:, :2] + boxes[:, 2:] - 1, boxes[:, 2:] - boxes[:, :2]
    mirror = (torch.rand(len(x)) < 0.5).float() * -2 + 1
    matrix = torch.zeros(len(x), 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 2] = side[:, 1] * mirror, centre[:, 1]
    matrix[:, 1, 1], matrix[:, 1, 2] = side[:, 0], centre[:, 0]
    grid = functional.affine_grid(matrix, [len(x), 3, size, size], align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def _recolour(x: torch.Tensor) -> torch.Tensor:
    """Change brightness, contrast and saturation mildly.

    The hue stays that of the teachers' view, because it distinguishes species.
    """
    shape = (len(x), 1, 1, 1)
    saturation = _uniform(len(x), 0.7, 1.3)
    saturation[torch.rand(len(x)) < 0.06] = 0  # grey photographs, drawings, digits
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey.expand_as(x), x, saturation.view(shape))
    contrast = _uniform(len(x), 0.75, 1.25).view(shape)
    shift = grey.mean((2, 3), keepdim=True) * (_uniform(len(x), 0.8, 1.2).view(shape) - contrast)
    return x.mul_(contrast).add_(shift).clamp_(0, 1)


def _blur_some(x: torch.Tensor, share: float) -> torch.Tensor:
    """Halve and restore the resolution of the first images.

    Users upsample small images, so the network must recognise blurred ones.
    """
    n_blurred = int(len(x) * share)
    small = functional.avg_pool2d(x[:n_blurred], 2)
    x[:n_blurred] = functional.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False)
    return x
