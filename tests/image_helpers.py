"""Small pictures that several test modules draw."""

import numpy as np


def striped_images(n, rng):
    """Stripes that run across (class 0) or down (class 1), or noise (class 2), in turns."""
    wave = np.where(np.arange(32) % 8 < 4, 200, 50).astype(np.uint8)
    across = np.broadcast_to(wave[:, None], (32, 32))
    stack = [across, across.T, np.full((32, 32), 120)]
    noise = rng.integers(0, 40, (n, 32, 32, 3))
    return np.stack([stack[i % 3][..., None] + noise[i] for i in range(n)]).astype(np.uint8)


def keras_state():
    """Where Keras' own random numbers stand."""
    from keras.src.random.seed_generator import global_seed_generator

    return np.asarray(global_seed_generator().state).tolist()
