"""Frozen networks, compiled for inference."""

from __future__ import annotations

import threading
from textwrap import shorten
from typing import TYPE_CHECKING, Protocol

import numpy as np

from transferclf.engines.engine import BATCH_SIZE, Engine, Function, Precision
from transferclf.engines.registry import check_engine, engines_for
from transferclf.exceptions import NetworkError, warn
from transferclf.graphs.isolation import check_eager, check_not_forked

if TYPE_CHECKING:
    import keras

FEW = 4


class Images(Protocol):
    """Images or rows in an array, or in a file that reads a few at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> np.ndarray: ...


class Forward:
    """A compiled network from pixels to activations; made by :func:`compile_forward`.

    May be called by several threads. The values of one row never enter another row: a row at one
    place of a batch has the same bits whatever the other rows are. At another place, or in a batch
    of the other size, it agrees to the rounding of float32, because kernels may sum in another
    order there.

    `function` takes a batch of fixed size. `engine` is the name of the engine, never
    "auto". Up to `few` images go through one by one, which is faster; more go 32 at a time. The
    attribute `images_seen` counts the images so far, without padding.
    """

    def __init__(self, function: Function, engine: str = "keras", few: int = FEW):
        self._function = function
        self._few = few
        self._counting = threading.Lock()
        self.engine = engine
        self.images_seen = 0

    def __call__(self, images: Images) -> np.ndarray:
        """Return the activations (n, ...) of images (n, ...), as float32."""
        check_not_forked()
        check_eager()
        with self._counting:
            self.images_seen += len(images)
        step = 1 if len(images) <= self._few else BATCH_SIZE
        # Without images there is one empty part, so that the result has its width. Rows in a file
        # are read here, part by part.
        starts = range(0, max(len(images), 1), step)
        parts = (images[start : start + step] for start in starts)
        rows = [self._function(_padded(part, step))[: len(part)] for part in parts]
        return np.concatenate(rows).astype(np.float32, copy=False)


def compile_forward(
    model: keras.Model, engine: str = "auto", precision: Precision = "float32"
) -> Forward:
    """Compile a Keras model with one input (n, ...) and one output for inference.

    Raises InvalidParameterError if the engine or the precision is unknown or not available here,
    and NetworkError if the engine does not know an operation of the model.
    """
    return Forward(*compile_network(model, engine, precision, "keras"))


def compile_network(
    network: keras.Model | Function, engine: str, precision: Precision, kind: str
) -> tuple[Function, str]:
    """Return the function that an engine makes of a network of this kind, and the engine's name.

    In a Keras model, batch normalisation is folded into the layers before it. If the engine that
    "auto" chose does not know an operation of the network, the next engine takes it, with a
    warning.
    """
    check_engine(engine, precision, kind)
    name, shape = getattr(network, "name", None) or kind, None
    if kind == "keras":
        from transferclf.graphs.folding import fold_batch_norm

        model: keras.Model = network
        counts = len(model.inputs), len(model.outputs)
        if counts != (1, 1):
            raise NetworkError(
                f"expected a model with one input and one output, got {counts[0]} and {counts[1]}"
            )
        shape = model.inputs[0].shape[1:]
        network = fold_batch_norm(model)
    engines = engines_for(engine, kind, precision, shape)
    return _first_that_runs(engines, network, precision, name)


def _first_that_runs(
    engines: list[Engine], network: keras.Model | Function, precision: Precision, name: str
) -> tuple[Function, str]:
    reasons = []
    for engine in engines:
        try:
            function = engine.compile(network, precision)
        except NetworkError as error:
            if engine is engines[-1]:
                raise
            reasons.append(f"engine={engine.name!r} cannot: {_in_one_line(error)}")
        else:
            break
    if reasons:
        warn(f"{name!r} runs on engine={engine.name!r}, because {'; '.join(reasons)}")
    return function, engine.name


def _in_one_line(error: NetworkError) -> str:
    """Return the reason that a runtime gives for an error."""
    return shorten(str(error.__cause__ or error), 300, placeholder=" ...")


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(images)
    images = np.ascontiguousarray(images, dtype=np.float32)
    return np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)) if missing else images
