"""Make a prefix from the parameters of an estimator."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from transferclf._checks import is_number, refuse
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.onnx import OnnxBackbone, onnx_backbone
from transferclf.backbones.onnx_record import OnnxRecord
from transferclf.backbones.own import (
    checked_model,
    record_of,
    registered_model,
    warn_unless_scaling,
)
from transferclf.backbones.preprocessing import Preprocessing, check_preprocessing
from transferclf.backbones.record import Backbone
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import PRETRAINED
from transferclf.engines.engine import Precision
from transferclf.engines.registry import check_engine
from transferclf.exceptions import InvalidParameterError
from transferclf.features.frozen import Prefix

if TYPE_CHECKING:
    import keras

    from transferclf.graphs.pooling import Pooling


def choose_prefix(
    backbone: str | Path | ConvNet | OnnxBackbone | keras.Model,
    *,
    weights: str | Path | None,
    image_size: int | tuple[int, int] | None,
    preprocessing: str | Preprocessing,
    pooling: Pooling | Literal["auto"],
    layers: tuple[str, ...],
    seed: int,
    trainable_layers: int | str = 0,
    engine: str = "auto",
    precision: Precision = "float32",
) -> Prefix:
    """Return the prefix for the parameters of an estimator; builds no network that has a name.

    The parameters are those of the estimators, with `layers` for "layer" and () for None. Raises
    UnknownBackboneError, InvalidParameterError or NetworkError if they do not fit the backbone.
    """
    model, is_scratch = None, isinstance(backbone, ConvNet)
    if isinstance(backbone, ConvNet):
        record = backbone.record()
        weights, trainable_layers = _from_scratch(weights, trainable_layers)
    elif (file := onnx_backbone(backbone)) is not None:
        record = file.record()
    elif isinstance(backbone, str):
        record = get_backbone(backbone)
    else:
        model = checked_model(backbone)
        record = record_of(model)
    record.check_uncut(trainable_layers, layers)
    if record.kind != "keras":  # the estimators check the engine for Keras models themselves
        check_engine(engine, precision, record.kind)
    if pooling not in ("auto", *record.poolings):
        refuse("pooling", f"one of {('auto', *record.poolings)} for {record.name!r}", pooling)
    size = _checked_size(image_size, record, model)
    record = record.tapped(layers, pooling, size) if layers else record.pooled_by(pooling)
    if isinstance(preprocessing, str) and preprocessing == "auto":
        preprocessing = _own_preprocessing(record, model)
    check_preprocessing(preprocessing)
    weights = _checked_weights(weights, record)
    if model is None and not is_scratch and not record.takes_weights and record.kind == "keras":
        model = registered_model(record, size)
    if model is not None:
        # The model replaces the builder, which may be a function that cannot be pickled.
        record = dataclasses.replace(record, builder="")
    return Prefix(
        record,
        weights,
        seed if weights is None else 0,
        size,
        preprocessing,
        record.pooling if pooling == "auto" else pooling,
        layers,
        model,
        trainable_layers,
        engine,
        precision,
    )


def _own_preprocessing(record: Backbone, model: keras.Model | None) -> str | Preprocessing:
    """Return the preprocessing of the network; warn if nobody has said which it is."""
    if model is not None:
        warn_unless_scaling(model)
    elif isinstance(record, OnnxRecord):
        record.warn_if_unscaled()
    return record.preprocessing


def check_own_model(prefix: Prefix) -> None:
    """Warn if a model of the user's own ends in classes, before any work.

    Raises NetworkError if layers that are to be trained cannot be copied.
    """
    if prefix.model is None:
        return
    from transferclf.graphs.cutting import warn_of_classes

    if not prefix.layers:
        warn_of_classes(prefix.model)
    check_can_train(prefix)


def check_can_train(prefix: Prefix) -> None:
    """Raise NetworkError if layers of the user's own that are to be trained cannot be copied."""
    if prefix.model is None or not prefix.is_cut:
        return
    from transferclf.graphs.digests import describe

    if not describe(prefix.model).is_of_keras:
        prefix.tail()


def _from_scratch(weights: object, trainable_layers: object) -> tuple[None, str]:
    """Return weights and trainable_layers for a network that starts from random weights."""
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


def _checked_weights(weights: object, record: Backbone) -> str | Path | None:
    if weights is None or (isinstance(weights, str) and weights in PRETRAINED):
        return weights
    if not isinstance(weights, str | os.PathLike):
        refuse("weights", "'pretrained', 'imagenet', None or a path", weights)
    if not record.takes_weights:
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


def _checked_size(
    image_size: int | tuple[int, int] | None, backbone: Backbone, model: keras.Model | None
) -> tuple[int, int]:
    if image_size is None:
        if model is None:
            return backbone.own_size
        height, width = (side or backbone.image_size for side in model.inputs[0].shape[1:3])
        return (height, width)
    sides = tuple(image_size) if isinstance(image_size, tuple | list) else (image_size,) * 2
    if len(sides) != 2 or not all(is_number(side, whole=True) for side in sides):
        expected = "None, a whole number of pixels or a pair (height, width), at least"
        smallest = f"{backbone.min_image_size} for backbone {backbone.name!r}"
        refuse("image_size", f"{expected} {smallest}", image_size)
    size = (int(sides[0]), int(sides[1]))
    backbone.check_size(size)
    return size
