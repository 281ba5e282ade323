"""Whether an estimator trains its backbone, and whether `partial_fit` can train its head."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from transferclf.backbones.convnet import ConvNet
from transferclf.exceptions import UnavailableMethodError, warn
from transferclf.heads.registry import fit_names
from transferclf.objectives import Objective
from transferclf.training.plan import Images

# `partial_fit` warns if it begins with fewer images.
FIRST_IMAGES = 32


def trains_backbone(estimator: TrainedInParts) -> bool:
    """Return whether `fit` trains layers of the backbone, and so changes the features."""
    layers = estimator.trainable_layers
    return isinstance(layers, str) or layers != 0 or isinstance(estimator.backbone, ConvNet)


class TrainedInParts(Protocol):
    """The parameters that decide whether a head can be trained batch by batch."""

    backbone: object
    class_weight: object
    optimizer: object
    trainable_layers: object


def has_partial_fit(estimator: TrainedInParts) -> bool:
    """Return True if the head can be trained batch by batch; else raise UnavailableMethodError."""
    if isinstance(estimator.optimizer, str) and estimator.optimizer in fit_names():
        raise UnavailableMethodError(
            f"partial_fit trains by a Keras optimizer, and optimizer={estimator.optimizer!r} needs "
            "all images at once; take 'auto' or one of Keras' optimizers."
        )
    if isinstance(estimator.class_weight, str):
        raise UnavailableMethodError(
            "class_weight='balanced' needs all labels at once, and partial_fit sees some; pass a "
            "dict."
        )
    if trains_backbone(estimator):
        raise UnavailableMethodError(
            "partial_fit trains the head on a frozen backbone: leave trainable_layers=0. "
            f"Got backbone={estimator.backbone!r}, "
            f"trainable_layers={estimator.trainable_layers!r}."
        )
    return True


def warn_of_first_images(images: Images, objective: Objective) -> None:
    """Warn if the first images that `partial_fit` gets are few, or of one class."""
    n_images = len(images.targets)
    found = [f"{n_images} images"] if n_images < FIRST_IMAGES else []
    found += ["one class"] if len(np.unique(objective.strata(images.targets))) == 1 else []
    if found:
        warn(
            f"the first call of partial_fit got only {' of '.join(found)}, by which features are "
            "standardised until later calls have shown more. Begin with at least "
            f"{FIRST_IMAGES} images of several classes where you can."
        )
