"""A network in the ONNX format, and how an engine has to feed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferclf.exceptions import NetworkError

Run = Callable[[np.ndarray], np.ndarray]

# How the engines name operators that they do not know.
_UNKNOWN = re.compile(
    r"No conversion rule found for operations: ([^\n]+)"
    r"|No Op registered for (\w+)"
    r"|([\w.]+:\w+)\(-?\d*\) is not a registered"
)


@dataclass(frozen=True)
class OnnxNetwork:
    """A network in an ONNX file or its content, with one input of RGB images.

    Parameters
    ----------
    source : Path or bytes
        The file, or its content where it needs no other file.
    input, output : str
        Names of the input, and of the tensor that is the output. `is_inner` says that this tensor
        is none of the outputs of the file.
    size : (int, int)
        Height and width of the images.
    layout : {"NCHW", "NHWC"}
        Order of the axes of the input.
    element : {"float32", "float16", "uint8"}
        Type of the values of the input.
    batch : int or None
        The only batch size that the network takes; None is any.
    map_layout : {"NCHW", "NHWC"} or None
        Order of the axes of an output of four axes. None decides by its shape.
    """

    source: Path | bytes
    input: str
    output: str
    size: tuple[int, int]
    layout: str = "NCHW"
    element: str = "float32"
    batch: int | None = None
    map_layout: str | None = None
    is_inner: bool = False

    def __str__(self) -> str:
        return str(self.source) if isinstance(self.source, Path) else "an ONNX network"

    def shape(self, batch: int) -> list[int]:
        """Return the shape of the input for a batch of this size; -1 is an open size."""
        if self.layout == "NCHW":
            return [batch, 3, *self.size]
        return [batch, *self.size, 3]

    def function(self, run: Run, engine: str) -> Run:
        """Return a function from float32 images (n, h, w, 3) to float32 activations (n, ...).

        `run` takes the images of one batch, of type uint8 if the network does, and returns the
        output of the network. In maps the channels become the last axis.
        """

        def activations(images: np.ndarray) -> np.ndarray:
            if self.element == "uint8":
                images = np.rint(images).clip(0, 255).astype(np.uint8)
            step = self.batch or len(images)
            with engine_errors(engine, self):
                parts = [
                    self._run(run, images[start : start + step], step)
                    for start in range(0, len(images), step)
                ]
            return self._channels_last(np.concatenate(parts).astype(np.float32, copy=False))

        return activations

    def _run(self, run: Run, images: np.ndarray, step: int) -> np.ndarray:
        missing = step - len(images)
        result = run(np.pad(images, [(0, missing), *[(0, 0)] * 3]) if missing else images)
        if result.ndim not in (2, 3, 4) or len(result) != step:
            raise NetworkError(
                f"expected output {self.output!r} of {self} to be rows (n, d), tokens (n, t, c) or "
                f"maps with four axes, for {step} images. Got the shape {result.shape}."
            )
        return result[: len(images)]

    def _channels_last(self, result: np.ndarray) -> np.ndarray:
        if result.ndim < 4 or (self.map_layout or self._guess(result.shape)) == "NHWC":
            return result
        return np.ascontiguousarray(np.moveaxis(result, 1, -1))

    def _guess(self, shape: tuple[int, ...]) -> str:
        """Return the layout of the input, or the other if only in this a map looks like an image.

        Some transformers take NCHW and return NHWC.
        """
        other = {"NCHW": "NHWC", "NHWC": "NCHW"}[self.layout]
        is_other = not self._is_map(shape, self.layout) and self._is_map(shape, other)
        return other if is_other else self.layout

    def _is_map(self, shape: tuple[int, ...], layout: str) -> bool:
        """Whether height and width are in the proportion of the images, up to a pixel."""
        height, width = shape[2:] if layout == "NCHW" else shape[1:3]
        return abs(height - width * self.size[0] / self.size[1]) <= 1


@contextmanager
def engine_errors(engine: str, network: OnnxNetwork) -> Iterator[None]:
    """Turn the errors of an engine into a NetworkError that names unknown operators."""
    try:
        yield
    except NetworkError:
        raise
    except Exception as error:
        found = _UNKNOWN.search(str(error))
        reason = f"it failed with: {error}"
        if found:
            names = next(filter(None, found.groups())).strip()
            reason = f"it does not know these operators: {names}."
        raise NetworkError(
            f"engine={engine!r} cannot run {network}: {reason}\nTry another engine that runs ONNX "
            "files ('openvino' or 'onnxruntime'), or export the network again with other options."
        ) from error
