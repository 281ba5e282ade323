"""Small images for several test modules."""

import numpy as np
from PIL import Image
from sklearn.base import clone

from transferclf.heads.registry import fit_names


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


# Parameters of fine-tuning, and of training by Keras' optimizers, where these alone use them.
OF_TUNING = (
    "fine_tune_epochs", "fine_tune_learning_rate", "global_clipnorm", "layer_decay", "soup",
    "warmup_fraction", "weight_decay",
)  # fmt: skip
BY_KERAS = (
    "batch_size", "callbacks", "early_stopping", "epochs", "lr_schedule", "patience",
    "validation_fraction",
)  # fmt: skip


def head_alone(classifier, **changes):
    """Return a clone that fits the head only, with the defaults of all that this does not use."""
    defaults = type(classifier)().get_params()
    # L-BFGS has no epochs.
    is_by_keras = classifier.hidden_units or classifier.optimizer not in ("auto", *fit_names())
    unused = OF_TUNING if is_by_keras else OF_TUNING + BY_KERAS
    head = clone(classifier).set_params(**{name: defaults[name] for name in unused})
    return head.set_params(trainable_layers=0, **changes)


def keras_state():
    """Return the state of Keras' global random numbers."""
    from keras.src.random.seed_generator import global_seed_generator

    return np.asarray(global_seed_generator().state).tolist()
