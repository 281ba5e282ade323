"""Mixing the weights before and after a phase of training.

The mixed weights lie on the line from the one to the other. On validation samples, some point of it
is mostly better than both ends, and its beginning is the head on the frozen network: so fine-tuning
ends no worse than it began.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

# Shares of the trained weights that are tried.
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

# The share where there are no validation samples.
UNVALIDATED = 0.5


def mixed(before: Sequence[np.ndarray], after: Sequence[np.ndarray], share: float) -> list:
    """Return weights with `share` of the ones after training; others than floats are those after.

    Examples
    --------
    >>> mixed([np.zeros(2)], [np.ones(2)], 0.25)
    [array([0.25, 0.25])]
    """
    if share == 1:
        return list(after)
    return [_mixed(old, new, share) for old, new in zip(before, after, strict=True)]


def best_share(loss_at: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """Return the share of the lowest loss, and the losses of all shares that were tried.

    Losses that are not finite count as the highest. Of equal losses the smaller share is taken,
    which is nearer to the weights before.
    """
    losses = {share: loss_at(share) for share in SHARES}
    finite = {share: loss for share, loss in losses.items() if np.isfinite(loss)}
    return (min(finite, key=finite.__getitem__) if finite else 0.0), losses


def _mixed(old: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
    # bfloat16 is a float, too, of a kind that NumPy does not know.
    if "float" not in new.dtype.name:
        return new
    # The difference may overflow, which must not reach the weights before.
    return old if share == 0 else old + (new - old) * new.dtype.type(share)
