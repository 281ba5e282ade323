"""From the words of an estimator's parameters to the prefix they mean."""

from __future__ import annotations

import copy
import dataclasses
import functools
import os
import sys
import warnings
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.registry import Backbone, check_preprocessing, get_backbone
from transferclf.backbones.weights import PRETRAINED, build_backbone
from transferclf.engines.engine import Precision
from transferclf.exceptions import InvalidParameterError, NetworkError, TransferclfWarning
from transferclf.features.frozen import Prefix

if TYPE_CHECKING:
    import keras

    from transferclf.graphs.pooling import Pooling

_KERAS_2 = "tensorflow.python.keras."

# Side in pixels at which a ConvNet sees images unless it is said.
CONVNET_SIZE = 64

# A network that scales its pixels itself does so in one of its first layers.
_EARLY = 6
_SCALING_LAYERS = {"Rescaling", "Normalization"}
# What `preprocess_input` leaves behind when it is called on a symbolic tensor.
_SCALING_ARITHMETIC = {"TrueDivide", "Divide", "Multiply", "Subtract", "Add"}


def choose_prefix(
    backbone: str | ConvNet | keras.Model,
    *,
    weights: str | Path | None,
    image_size: int | tuple[int, int] | None,
    preprocessing: str,
    pooling: Pooling,
    layers: tuple[str, ...],
    seed: int,
    trainable_layers: int | str = 0,
    engine: str = "auto",
    precision: Precision = "float32",
) -> Prefix:
    """Return the prefix that these parameters mean; builds no registered network.

    Parameters
    ----------
    backbone : str, ConvNet or keras.Model
        A registered name, a network to be trained from random weights, or one of the user's own.
    weights : {"pretrained", "imagenet"}, path or None
        Which weights; only for names.
    image_size : int, (int, int) or None
        Side, or height and width, in pixels; None is the backbone's own.
    preprocessing : {"auto", "none", "rescale", "caffe", "tf", "torch"}
        "auto" is what the backbone was trained with.
    pooling : {"avg", "max", "flatten"}
        How activation maps become vectors.
    layers : tuple of str
        Layers to tap; () is the output.
    seed : int
        What random weights are drawn from, where they are.
    trainable_layers : int or str, default=0
        Where the backbone is cut.
    engine, precision : str, default="auto" and "float32"
        What runs the network.

    Returns
    -------
    Prefix

    Raises
    ------
    UnknownBackboneError, InvalidParameterError, NetworkError
        If the backbone is unknown, or its parameters do not fit it.
    """
    if isinstance(backbone, ConvNet):
        record, model = _record_of_convnet(backbone), None
        weights, trainable_layers = _from_scratch(weights, trainable_layers)
    elif isinstance(backbone, str):
        record, model = get_backbone(backbone), None
    else:
        model = _checked_model(backbone)
        record = _record_of(model)
    size = _checked_size(image_size, record, model)
    if preprocessing == "auto":
        preprocessing = record.preprocessing
        if model is not None:
            _warn_unless_scaling(model)
    check_preprocessing(preprocessing)
    weights = _checked_weights(weights, record)
    if model is None and not _takes_weights(record) and not isinstance(backbone, ConvNet):
        model = _registered_model(record, size)
    if model is not None:
        # The model stands in the builder's place, and a function may not be picklable.
        record = dataclasses.replace(record, builder="")
    return Prefix(
        record,
        weights,
        seed if weights is None else 0,
        size,
        preprocessing,
        pooling,
        layers,
        model,
        trainable_layers,
        engine,
        precision,
    )


def check_own_model(prefix: Prefix) -> None:
    """Say what is known to go wrong with a model of the user's own, before any work.

    Parameters
    ----------
    prefix : Prefix
        Of any network; only models of the user's own are looked at.

    Raises
    ------
    NetworkError
        If layers are to be trained that cannot be copied.

    Warns
    -----
    TransferclfWarning
        If the model ends in a classification layer.
    """
    if prefix.model is None:
        return
    from transferclf.graphs.digests import describe
    from transferclf.graphs.endings import warn_of_classes

    if not prefix.layers:
        warn_of_classes(prefix.model)
    if prefix.is_cut and describe(prefix.model).has_unknown_code:
        prefix.tail()


def _record_of_convnet(backbone: ConvNet) -> Backbone:
    backbone.check()
    return Backbone(
        f"convnet_{backbone.digest[:16]}",
        copy.deepcopy(backbone).build,
        image_size=max(CONVNET_SIZE, backbone.min_image_size),
        min_image_size=backbone.min_image_size,
        preprocessing="rescale",
    )


def _from_scratch(weights: Any, trainable_layers: Any) -> tuple[None, str]:
    """What a network without pretrained weights means by the defaults of these parameters."""
    if weights is not None and not (isinstance(weights, str) and weights == "pretrained"):
        raise InvalidParameterError(
            f"a ConvNet starts from random weights: leave weights as it is. Got {weights!r}."
        )
    if trainable_layers not in (0, "all") or isinstance(trainable_layers, bool):
        raise InvalidParameterError(
            "a ConvNet is trained as a whole: leave trainable_layers as it is, or 'all'. "
            f"Got {trainable_layers!r}."
        )
    return None, "all"


def _takes_weights(record: Backbone) -> bool:
    return record.is_keras_application or record.is_bundled


def _checked_weights(weights: Any, record: Backbone) -> str | Path | None:
    if weights is None or (isinstance(weights, str) and weights in PRETRAINED):
        return weights
    if not isinstance(weights, str | os.PathLike):
        raise InvalidParameterError(
            f"weights must be 'pretrained', 'imagenet', None or a path. Got {weights!r} instead."
        )
    if not _takes_weights(record):
        raise InvalidParameterError(
            f"{record.name!r} brings its own weights, so that weights must be left as it is. "
            f"Got {weights!r} instead; load them into the model."
        )
    try:
        return Path(os.path.expanduser(weights)).absolute()
    except FileNotFoundError as error:
        raise InvalidParameterError(
            f"weights={str(weights)!r} is relative to the working folder, which was removed. Name "
            "an absolute path, or change to another folder."
        ) from error


def _checked_model(
    model: Any, wanted: str = "backbone must be a name of transferclf.list_backbones() or"
) -> keras.Model:
    # Whoever has a Keras model has imported Keras.
    keras = sys.modules.get("keras")
    if _is_keras_2(model):
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


def _is_keras_2(model: Any) -> bool:
    """Whether this is a model of tf_keras, or of the Keras that TensorFlow once had inside."""
    modules = [base.__module__ for base in type(model).__mro__]
    return any(name.split(".")[0] == "tf_keras" or name.startswith(_KERAS_2) for name in modules)


@functools.lru_cache(maxsize=4)
def _registered_model(record: Backbone, size: tuple[int, int]) -> keras.Model:
    # Called once for all clones: a builder that draws random weights would give each another.
    model = build_backbone(record, None, size, seed=0)
    return _checked_model(model, f"the builder of backbone {record.name!r} must return")


def _record_of(model: keras.Model) -> Backbone:
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[3] not in (3, None):
        raise NetworkError(
            f"expected a model with an input of RGB images (n, h, w, 3), got {model.name!r} with "
            f"input {tuple(shape)}"
        )
    side = next((side for side in shape[1:3] if side is not None), 224)
    return Backbone(model.name, "", image_size=side, min_image_size=1)


def _warn_unless_scaling(model: keras.Model) -> None:
    if not _scales_its_pixels(model):
        warnings.warn(
            f"{model.name!r} gets pixels from 0 to 255 as they are; if it was trained on scaled "
            "pixels, say so with preprocessing='caffe', 'tf' or 'torch' (or 'none' if this is "
            "meant)",
            TransferclfWarning,
            stacklevel=3,
        )


def _scales_its_pixels(model: keras.Model) -> bool:
    return any(map(_is_scaling, getattr(model, "operations", model.layers)[:_EARLY]))


def _is_scaling(operation: Any) -> bool:
    if hasattr(operation, "layers"):
        return _scales_its_pixels(operation)
    is_layer = hasattr(operation, "weights")
    return type(operation).__name__ in (_SCALING_LAYERS if is_layer else _SCALING_ARITHMETIC)


def _checked_size(
    image_size: int | tuple[int, int] | None, backbone: Backbone, model: keras.Model | None
) -> tuple[int, int]:
    if image_size is None:
        own = model.inputs[0].shape[1:3] if model is not None else (None, None)
        height, width = (side or backbone.image_size for side in own)
        return (height, width)
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size,) * 2
    right = len(sides) == 2 and all(
        isinstance(side, Integral) and not isinstance(side, bool) for side in sides
    )
    if not right or min(sides) < backbone.min_image_size:
        raise InvalidParameterError(
            "image_size must be None, a whole number of pixels or a pair (height, width), at "
            f"least {backbone.min_image_size} for backbone {backbone.name!r}. "
            f"Got {image_size!r} instead."
        )
    return (int(sides[0]), int(sides[1]))
