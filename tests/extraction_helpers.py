"""A stand-in for a prefix, in a module that other processes can import."""

import numpy as np

SIDE = 6


class Moments:
    """A stand-in for a prefix: numbers that tell images apart by any of their pixels."""

    size, digest, is_cut = (SIDE, SIDE), "moments", True

    def forward(self):
        return moments

    def tail_forward(self):
        return lambda rows: rows[:, :2] * 3

    def whole(self):
        return self


def moments(pixels):
    rows = pixels.reshape(len(pixels), -1)
    return np.stack([rows.mean(1), rows.std(1), rows @ np.arange(rows.shape[1])], axis=1)
