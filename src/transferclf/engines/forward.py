"""Networks that no longer change, compiled for inference."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.engines.engine import Function, Precision
from transferclf.engines.registry import check_engine, engine_for
from transferclf.exceptions import NetworkError
from transferclf.graphs.isolation import check_eager, check_not_forked

if TYPE_CHECKING:
    import keras

# The only two sizes of a batch. Kernels may sum in another order for another size. With fixed sizes
# a row does not depend on how many images the caller passes.
BATCH_SIZE = 32
FEW = 4


class Forward:
    """A compiled network: pixels in, activations out; made by :func:`compile_forward`.

    May be called by several threads. The values of one row never enter another row: a row at one
    place of a batch has the same bits whatever the other rows are. At another place, or in a batch
    of the other size, it agrees to the rounding of float32, because kernels may sum in another
    order there.

    Parameters
    ----------
    function : callable
        From a batch of fixed size to its activations.
    engine : str, default="keras"
        Name of the engine, never "auto".
    few : int, default=4
        Up to so many images go through one by one, which is faster; more go 32 at a time.

    Attributes
    ----------
    images_seen : int
        Images that have been through the network so far, padding not counted.
    """

    def __init__(self, function: Function, engine: str = "keras", few: int = FEW):
        self._function = function
        self._few = few
        self._counting = threading.Lock()
        self.engine = engine
        self.images_seen = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return the activations (n, ...) of images (n, ...), as float32."""
        check_not_forked()
        check_eager()
        with self._counting:
            self.images_seen += len(images)
        step = 1 if len(images) <= self._few else BATCH_SIZE
        # No images are one part too, so that the result has its width.
        starts = range(0, max(len(images), 1), step)
        parts = [images[start : start + step] for start in starts]
        rows = [self._function(_padded(part, step))[: len(part)] for part in parts]
        return np.concatenate(rows).astype(np.float32, copy=False)


def compile_forward(
    model: keras.Model, engine: str = "auto", precision: Precision = "float32"
) -> Forward:
    """Compile a Keras model for inference; the model itself can be dropped afterwards.

    Parameters
    ----------
    model : keras.Model
        A functional model with one input (n, ...) and one output; batch normalisation is
        folded into the layers before it.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        "tensorflow" traces the model into one graph; "onnxruntime" and "openvino" hand that
        graph to these runtimes, which are extras of this package; "keras" calls the model; "auto"
        is "tensorflow" where that is Keras' backend, else "keras".
    precision : {"float32", "bfloat16"}, default="float32"
        "bfloat16" is several times faster on CPUs with AVX512-BF16 or AMX, with features of three
        digits; for the engines "tensorflow" and "openvino".

    Returns
    -------
    Forward

    Raises
    ------
    InvalidParameterError
        If the engine or the precision is unknown or cannot be had here.
    NetworkError
        If the model has several outputs, or an operation that the engine does not know.

    Examples
    --------
    >>> import keras, numpy as np
    >>> inputs = keras.Input((8, 8, 3))
    >>> model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs))
    >>> compile_forward(model)(np.full((2, 8, 8, 3), 7))
    array([[7., 7., 7.],
           [7., 7., 7.]], dtype=float32)
    """
    return Forward(*compile_network(model, engine, precision, "keras"))


def compile_network(
    network: Any, engine: str, precision: Precision, kind: str
) -> tuple[Function, str]:
    """Return the function that an engine makes of a network of this kind, and the engine's name."""
    check_engine(engine, precision, kind)
    chosen = engine_for(engine, kind)
    prepared = _folded(network) if kind == "keras" else network
    return chosen.compile(prepared, precision), chosen.name


def _folded(model: keras.Model) -> keras.Model:
    from transferclf.graphs.folding import fold_batch_norm

    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise NetworkError(
            "expected a model with one input and one output, got "
            f"{len(model.inputs)} and {len(model.outputs)}"
        )
    return fold_batch_norm(model)


def _padded(images: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(images)
    images = np.ascontiguousarray(images, dtype=np.float32)
    return np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)) if missing else images
