"""The part of each image that a network sees."""

from __future__ import annotations

import numpy as np

from transferclf.images.geometry import largest_box
from transferclf.reports.auditing.readable import Facts


def seen_shares(facts: list[Facts], size: tuple[int, int], resize: str) -> np.ndarray:
    """Return the share of each image's area that a network with this input size sees: (n,)."""
    if resize != "crop":
        return np.ones(len(facts))
    return np.array([_seen_share(one.upright, size) for one in facts])


def _seen_share(source: tuple[int, int], size: tuple[int, int]) -> float:
    left, top, right, bottom = largest_box(source, size)
    return (right - left) * (bottom - top) / (source[0] * source[1])
