"""Small images for several test modules."""

import numpy as np
from PIL import Image
from sklearn.base import clone


def in_kind(images, kind, folder):
    """Return images as "arrays", as "paths" of files in a folder, or as "PIL" images."""
    if kind == "arrays":
        return images
    pictures = [Image.fromarray(image) for image in images]
    if kind == "PIL":
        return pictures
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    return [str(path) for path in paths]


def taken(X, positions):
    """Return some of the images, for any type of X."""
    return X[positions] if isinstance(X, np.ndarray) else [X[i] for i in positions]


def striped_images(n, rng):
    """Return images of horizontal stripes (class 0), vertical ones (1) and noise (2), in turns."""
    wave = np.where(np.arange(32) % 8 < 4, 200, 50).astype(np.uint8)
    across = np.broadcast_to(wave[:, None], (32, 32))
    stack = [across, across.T, np.full((32, 32), 120)]
    noise = rng.integers(0, 40, (n, 32, 32, 3))
    return np.stack([stack[i % 3][..., None] + noise[i] for i in range(n)]).astype(np.uint8)


def head_alone(classifier, **changes):
    """Return a clone that fits the head only, without the parameters of fine-tuning."""
    tuning = {"fine_tune_epochs": 10, "fine_tune_learning_rate": 1e-5, "layer_decay": None}
    head = clone(classifier).set_params(trainable_layers=0, **tuning)
    if not head.hidden_units:  # because L-BFGS has no epochs
        by_keras = {"batch_size": 32, "early_stopping": False, "epochs": 20, "patience": 5}
        head.set_params(**by_keras, callbacks=None, validation_fraction=0.1)
    return head.set_params(**changes)


def keras_state():
    """Return the state of Keras' global random numbers."""
    from keras.src.random.seed_generator import global_seed_generator

    return np.asarray(global_seed_generator().state).tolist()
