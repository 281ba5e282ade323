"""Files of LiteRT with weights and activations of 8 bits.

Operations that are not between convolutions stay float32. Activations get the range that makes the
mean squared error smallest: a few large values are cut off, and all others get finer steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from transferclf.engines.convolutions import not_between
from transferclf.engines.litert_file import named_steps, ranges, with_ranges

# Operations that need more than 8 bits between convolutions too.
OF_HEAD = ["MEAN", "SUB", "MUL", "DIV", "FULLY_CONNECTED", "SOFTMAX", "LOGISTIC"]

# Enough for the squared errors; the values of all images would take gigabytes.
IMAGES = 100  # at most
VALUES = 2000  # of an activation of an image

SHARES = np.linspace(0.2, 1, 41)  # of a range, that are tried
STEPS = 255


def quantized(converter: Any, images: np.ndarray) -> bytes:
    """Return the file with weights and activations of 8 bits between convolutions."""
    import tensorflow as tf

    def one_by_one() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = one_by_one
    # The tool is made to find operations that need more bits, and writes the file without them.
    quantizer = tf.lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=one_by_one,
        debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=OF_HEAD),
    )
    whole = bytes(quantizer.calibrated_model)  # float32, with the ranges of all values
    names, steps = named_steps(whole)
    quantizer.calibrated_model = with_ranges(whole, _best_ranges(whole, images))
    quantizer.options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=OF_HEAD, denylisted_nodes=[names[index] for index in not_between(steps)]
    )
    return quantizer.get_nondebug_quantized_model()


def _best_ranges(content: bytes, images: np.ndarray) -> dict[int, tuple[float, float]]:
    """Return the range of each activation of a float32 file, by the number of the tensor."""
    found = ranges(content)
    values = _values(content, images, set(found))
    return {number: best_range(values[number], *found[number]) for number in values}


def best_range(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Return the part of a range, with 0 in it, whose 256 steps have the least squared error."""
    best, least = (low, high), np.inf
    for share in SHARES:
        bottom, top = min(share * low, 0.0), max(share * high, 0.0)
        step = (top - bottom) / STEPS or 1.0
        rounded = np.clip(np.rint((values - bottom) / step), 0, STEPS) * step + bottom
        error = np.mean((rounded - values) ** 2)
        if error <= least:
            best, least = (bottom, top), error
    return best


def _values(content: bytes, images: np.ndarray, wanted: set[int]) -> dict[int, np.ndarray]:
    """Return some values of each activation, for some of the images."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        # Others compute several operations at once, and have no values between them.
        experimental_op_resolver_type=(
            tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    interpreter.allocate_tensors()
    pixels = interpreter.get_input_details()[0]["index"]
    random = np.random.default_rng(0)
    found: dict[int, list[np.ndarray]] = {number: [] for number in wanted}
    for image in images[:: -(-len(images) // IMAGES)]:
        interpreter.set_tensor(pixels, image[None])
        interpreter.invoke()
        for number, parts in found.items():
            values = interpreter.get_tensor(number).ravel()
            parts.append(values[random.integers(0, values.size, VALUES)])
    return {number: np.concatenate(parts) for number, parts in found.items()}
