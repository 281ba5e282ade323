"""A backbone as one flat graph that begins with pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from transferclf.backbones.preprocessing import scale_pixels
from transferclf.exceptions import NetworkError
from transferclf.graphs.walking import functional, packed, replay

if TYPE_CHECKING:
    from transferclf.backbones.preprocessing import Preprocessing


def flat_network(
    backbone: keras.Model, size: tuple[int, int], preprocessing: str | Preprocessing
) -> keras.Model:
    """Return the model from pixels of this size to the output of a backbone.

    It contains the scaling of pixels, and the layers of nested models instead of these. Raises
    NetworkError if the backbone does not take such images.
    """
    network = functional(backbone)
    shapes = [tuple(tensor.shape) for tensor in network.inputs]
    wanted = (None, *size, 3)
    fits = len(shapes[0]) == 4 and all(
        side in (None, other) for side, other in zip(shapes[0][1:], wanted[1:], strict=True)
    )
    if len(shapes) != 1 or not fits:
        raise NetworkError(
            f"expected a network with one input of RGB images {wanted}; {network.name!r} "
            f"takes {shapes}. Check image_size and the channels."
        )
    inputs = keras.Input((*size, 3), name="pixels")
    outputs = replay(network, [scale_pixels(inputs, preprocessing)])
    try:
        return keras.Model(inputs, packed(outputs), name=network.name)
    except ValueError as error:  # two models inside it have layers of the same name
        message = f"{network.name!r} cannot be made one flat model: {error}"
        raise NetworkError(message) from error
