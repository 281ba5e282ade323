"""A fitted estimator as one Keras graph, from uint8 pixels to probabilities, values or features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from transferclf.exporting.resizing import ResizeImages
from transferclf.graphs.folding import fold_batch_norm
from transferclf.graphs.isolation import undisturbed

if TYPE_CHECKING:
    from transferclf.exporting.facts import Exportable


def network_of(estimator: Exportable) -> keras.Model:
    """Return the network from float32 pixels (0 to 255) of its own size to the results."""
    if hasattr(estimator, "head_"):
        return estimator.model_
    return estimator.prefix_.build()


def graph_of(estimator: Exportable, takes_any_size: bool, is_final: bool) -> keras.Model:
    """Return a graph from uint8 images (n, h, w, 3) to the results, float32.

    h and w are open if the graph is to take images of any size, else those of the network. A graph
    that is final, and will not be trained, has no batch normalization: it is part of the layers
    before.
    """
    network, size = network_of(estimator), estimator.prefix_.size
    with undisturbed():
        network = fold_batch_norm(network) if is_final else network
        if takes_any_size:
            images = keras.Input((None, None, 3), dtype="uint8", name="images")
            pixels = ResizeImages(size, estimator.resize_, name="resize")(images)
        else:
            images = keras.Input((*size, 3), dtype="uint8", name="images")
            pixels = keras.ops.cast(images, "float32")
        return keras.Model(images, network(pixels), name="transferclf")
