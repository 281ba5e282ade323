"""How much of each image a network sees, where its resize mode cuts something off."""

from __future__ import annotations

import numpy as np

from transferclf.images.geometry import largest_box
from transferclf.reports.auditing.readable import Facts


def seen_shares(facts: list[Facts], size: tuple[int, int], resize: str) -> np.ndarray:
    """Return the share of each image's area that a network sees.

    Parameters
    ----------
    facts : list of Facts of length n
        The images as they came.
    size : (int, int)
        Height and width of what the network gets, in pixels.
    resize : {"crop", "stretch", "pad"}
        How images get there. Only "crop" cuts something off.

    Returns
    -------
    ndarray of shape (n,)
        Above 0, at most 1.

    Examples
    --------
    >>> seen_shares([Facts(320, 64, "RGB", "PNG"), Facts(64, 64, "L", "PNG")], (96, 96), "crop")
    array([0.2, 1. ])
    """
    if resize != "crop":
        return np.ones(len(facts))
    return np.array([_seen_share(one.upright, size) for one in facts])


def _seen_share(source: tuple[int, int], size: tuple[int, int]) -> float:
    left, top, right, bottom = largest_box(source, size)
    return (right - left) * (bottom - top) / (source[0] * source[1])
