"""Backbones of the user's own: Keras models, functions that build these, functions of arrays."""

from __future__ import annotations

import functools
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from transferclf.backbones.record import Backbone, Size, Weights
from transferclf.backbones.weights import build_backbone
from transferclf.exceptions import InvalidParameterError, NetworkError, warn

if TYPE_CHECKING:
    import keras

Function = Callable[[np.ndarray], np.ndarray]

# Where the Keras 2 that TensorFlow once contained keeps its models.
_KERAS_2 = "tensorflow.python.keras."

# A network that scales its pixels itself does it in one of its first layers.
_EARLY = 6
_SCALING_LAYERS = {"Rescaling", "Normalization"}
# The operations of `preprocess_input` when it is called on a symbolic tensor.
_SCALING_ARITHMETIC = {"TrueDivide", "Divide", "Multiply", "Subtract", "Add"}


def checked_model(
    model: object, wanted: str = "backbone must be a name of transferclf.list_backbones() or"
) -> keras.Model:
    """Return the model if it is one of Keras 3 with one input whose graph can be seen."""
    keras = sys.modules.get("keras")  # a Keras model exists only after Keras was imported
    modules = [base.__module__ for base in type(model).__mro__]
    if any(name.split(".")[0] == "tf_keras" or name.startswith(_KERAS_2) for name in modules):
        raise InvalidParameterError(
            f"{wanted} a keras.Model of Keras 3. Got a {type(model).__name__} of "
            f"{type(model).__module__.split('.')[0]}, which is Keras 2: save it by "
            "model.save('model.h5') and load it by keras.models.load_model('model.h5'), or build "
            "it with keras and set its weights; leave TF_USE_LEGACY_KERAS unset."
        )
    if keras is None or not isinstance(model, keras.Model):
        raise InvalidParameterError(f"{wanted} a keras.Model. Got {type(model).__name__} instead.")
    from transferclf.graphs.walking import functional

    if len(functional(model).inputs) != 1:
        raise NetworkError(
            f"expected a model with one input, of images (n, h, w, 3), got {model.name!r} with "
            f"{len(model.inputs)} inputs"
        )
    return model


@functools.lru_cache(maxsize=4)
def registered_model(record: Backbone, size: tuple[int, int]) -> keras.Model:
    """Return the model of a registered builder, which is called once for all clones."""
    # A builder with random weights would give each clone another network.
    model = build_backbone(record, None, size, seed=0)
    return checked_model(model, f"the builder of backbone {record.name!r} must return")


def record_of(model: keras.Model) -> Backbone:
    """Return the record of a model, which takes RGB images."""
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[3] not in (3, None):
        raise NetworkError(
            f"expected a model with an input of RGB images (n, h, w, 3), got {model.name!r} with "
            f"input {tuple(shape)}"
        )
    side = next((side for side in shape[1:3] if side is not None), 224)
    ends_in = {2: "vector", 3: "tokens", 4: "map"}.get(len(model.outputs[0].shape))
    return Backbone(model.name, "", image_size=side, min_image_size=1, ends_in=ends_in)


def warn_unless_scaling(model: keras.Model) -> None:
    """Warn if a model does not scale pixels from 0 to 255 in its first layers."""
    if not _scales_its_pixels(model):
        warn(
            f"{model.name!r} gets pixels from 0 to 255 as they are; if it was trained on scaled "
            "pixels, say so with preprocessing='caffe', 'tf' or 'torch' (or 'none' if this is "
            "meant)"
        )


def _scales_its_pixels(model: keras.Model) -> bool:
    return any(map(_is_scaling, getattr(model, "operations", model.layers)[:_EARLY]))


def _is_scaling(operation: keras.Operation) -> bool:
    if hasattr(operation, "layers"):
        return _scales_its_pixels(operation)
    is_layer = hasattr(operation, "weights")
    return type(operation).__name__ in (_SCALING_LAYERS if is_layer else _SCALING_ARITHMETIC)


class Identity:
    """A text that one registered function has and no other ever had, not even its copies.

    The code of a function may read anything, and may have changed when it is unpickled.
    """

    def __init__(self) -> None:
        self.text = uuid.uuid4().hex

    def __reduce__(self) -> tuple[type[Identity], tuple[()]]:
        return Identity, ()


@dataclass(frozen=True)
class FunctionBackbone(Backbone):
    """A function from pixels (n, h, w, 3) to rows (n, d), tokens (n, t, c) or maps (n, h, w, c).

    Its name and `version` identify it. If `version` is None, `identity` does, which is new for each
    registration and in each process.
    """

    version: str | None = None
    identity: Identity = field(default_factory=Identity, repr=False)

    kind: ClassVar[str] = "function"
    can_be_cut: ClassVar[bool] = False

    def network(self, weights: Weights, size: Size, seed: int) -> Function:
        """Return the function, which raises NetworkError if its result has a wrong shape."""

        def checked(images: np.ndarray) -> np.ndarray:
            # A copy, because a function may scale pixels in place.
            result = np.array(self.build()(images.copy()), np.float32)
            if result.ndim not in (2, 3, 4) or len(result) != len(images):
                raise NetworkError(
                    f"the function of backbone {self.name!r} must return rows (n, d) or maps "
                    f"(n, h, w, c), one for each of {len(images)} images. Got {result.shape}."
                )
            return result

        return checked

    def build(self, **arguments: object) -> Function:
        """Return the function itself."""
        assert callable(self.builder)
        return self.builder

    def facts(self) -> list[object]:
        """Return the name, and the version or the identity."""
        is_by_name = self.version is not None
        return [self.name, self.kind, is_by_name, self.version or self.identity.text]

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the version, or "" if there is none."""
        return self.version or ""
