"""Helpers for the tests of the reports."""

import keras
import numpy as np
from keras import layers

# Names that a display must show unchanged, or shortened to the room it has.
HOSTILE = (
    "<script>alert(1)</script>",
    "$x$ or $\\frac{1}{",
    "_hidden",
    "two\x00\nlines",
    "W" * 200,
)


def small_backbone():
    """Return a network of two convolutions, from 16 × 16 pixels to 6 features."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255, name="scale")(inputs)
    x = layers.Conv2D(4, 3, 2, activation="relu", name="first_conv")(x)
    x = layers.Conv2D(6, 3, 2, activation="relu", name="second_conv")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool")(x), name="small")


def text_of(legend):
    """Return the drawn texts of a legend, without the escapes of `$`."""
    return [text.get_text().replace(r"\$", "$") for text in legend.get_texts()]


def covers(legend, axes):
    """Return whether a legend overlaps its axes after the layout."""
    axes.figure.draw_without_rendering()
    return legend.get_window_extent().overlaps(axes.get_window_extent())


def is_inside(artist, figure):
    """Return whether an artist is completely inside its figure."""
    box, whole = artist.get_window_extent(), figure.bbox
    return bool(np.all(box.min >= whole.min - 1) and np.all(box.max <= whole.max + 1))
