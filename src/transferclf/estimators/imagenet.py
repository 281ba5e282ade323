"""predict_imagenet: what the networks of keras.applications see in images, in words.

The whole network is one frozen prefix that happens to end in the probabilities of ImageNet's 1000
classes, so that it is built, scaled, compiled and shared as every other.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from contextlib import closing
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from transferclf._checks import check_choice, check_number
from transferclf.backbones.registry import Backbone, get_backbone
from transferclf.backbones.weights import (
    PRETRAINED,
    as_for_imagenet,
    built_by_keras,
    keras_home,
    keras_models_folder,
    pretrained_file,
    weights_errors,
)
from transferclf.engines.engine import Precision
from transferclf.engines.registry import check_engine
from transferclf.exceptions import InvalidParameterError, WeightsError
from transferclf.features.choosing import choose_prefix
from transferclf.features.extraction import BATCH_SIZE
from transferclf.features.frozen import Prefix
from transferclf.images import ImageSource, check_images
from transferclf.images.geometry import RESIZE_MODES, ResizeMode
from transferclf.images.loading import load_batches
from transferclf.images.progress import bar_if
from transferclf.images.remarks import remark_on_training_images, sample

if TYPE_CHECKING:
    import keras

N_CLASSES = 1000

_CLASSES_FILE = "imagenet_class_index.json"
# How the names of Keras' files without a classification layer differ from those with one.
_WITHOUT_TOP = re.compile(r"_no_?top(_v2)?")


class Prediction(NamedTuple):
    """One class of ImageNet and how probable it is.

    Attributes
    ----------
    wnid : str
        The class in WordNet, such as "n02099601".
    name : str
        The same in words, such as "golden_retriever".
    probability : float
        Between 0 and 1; over all 1000 classes they sum to 1.
    """

    wnid: str
    name: str
    probability: float


def predict_imagenet(
    backbone: str,
    X: Any,
    top: int = 5,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int | tuple[int, int] | None = None,
    resize: ResizeMode = "crop",
    image_shape: tuple[int, ...] | None = None,
    pixel_range: Any = None,
    engine: str = "auto",
    precision: Precision = "float32",
    verbose: int = 0,
) -> list[list[Prediction]]:
    """Say which of ImageNet's 1000 classes images show, by a network of `keras.applications`.

    The network is taken as it is, with its own classification layer and the preprocessing that
    it was trained with. Images stream through it in batches.

    Parameters
    ----------
    backbone : str
        A network of `keras.applications` by its name in :func:`transferclf.list_backbones`, such
        as "mobilenet_v2" or "resnet50".
    X : array-like or sequence of images, n of them
        Paths, arrays or PIL images of any size; see :func:`transferclf.images.check_images`.
    top : int, default=5
        How many classes are named for each image, 1 to 1000.
    weights : "imagenet", path or None, default="imagenet"
        A path is of weights with the classification layer; None is random weights.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels; None is the network's own. With "imagenet" it must
        be one for which there are weights.
    resize : {"crop", "stretch", "pad"}, default="crop"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders.
    image_shape : (h, w) or (h, w, c) or None, default=None
        What each row of a 2-D X is.
    pixel_range : None, "minmax" or (low, high), default=None
        What black and white are; None reads it off X.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "keras"}, default="auto"
        What runs the network; see :func:`transferclf.engines.forward.compile_forward`.
    precision : {"float32", "bfloat16"}, default="float32"
        Of the network.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    list of n lists of `top` Prediction
        In the order of X, the most probable class first.

    Raises
    ------
    InvalidParameterError
        If `backbone` is not of `keras.applications`, or another parameter cannot be.
    ImageError
        If images cannot be used; all of them are named.
    WeightsError
        If the weights or the names of the classes cannot be had.

    Examples
    --------
    >>> from transferclf.estimators.imagenet import predict_imagenet
    >>> predict_imagenet("mobilenet_v2", ["holiday.jpg"])  # doctest: +SKIP
    [[Prediction(wnid='n09428293', name='seashore', probability=0.81), ...]]
    >>> predict_imagenet("tiny", ["holiday.jpg"])
    Traceback (most recent call last):
      ...
    transferclf.exceptions.InvalidParameterError: backbone must be a network of \
keras.applications, such as 'mobilenet_v2', 'resnet50' or 'efficientnet_b0'. Got 'tiny' instead.
    """
    _check_parameters(top, resize, verbose)
    check_engine(engine, precision)
    prefix = _whole_network(backbone, weights, image_size, engine, precision)
    source = check_images(X, image_shape=image_shape, pixel_range=pixel_range)
    source = ImageSource(source.items, source.decided_range(), source.positions)
    remark_on_training_images(source, sample(source))
    names = imagenet_classes()
    return [
        _best(row, names, int(top)) for row in _probabilities(source, prefix, resize, int(verbose))
    ]


def imagenet_classes() -> list[tuple[str, str]]:
    """WordNet number and name of each of ImageNet's 1000 classes, in the order of the networks.

    They are read from a file among Keras' models; where it is not, Keras downloads it.

    Returns
    -------
    list of (str, str)

    Raises
    ------
    WeightsError
        If the file is damaged, or neither there nor to be had.
    """
    # The second where KERAS_HOME may only be read, so that Keras does not look at it.
    places = [folder / _CLASSES_FILE for folder in (keras_models_folder(), keras_home() / "models")]
    file = next((place for place in places if place.is_file()), None)
    return _downloaded_classes() if file is None else _classes_of(file)


def _check_parameters(top: Any, resize: Any, verbose: Any) -> None:
    is_whole = isinstance(top, Integral) and not isinstance(top, bool)
    if not is_whole or not 1 <= top <= N_CLASSES:
        raise InvalidParameterError(
            f"top must be a whole number from 1 to {N_CLASSES}. Got {top!r} instead."
        )
    check_choice("resize", resize, RESIZE_MODES)
    if not isinstance(verbose, bool):
        check_number("verbose", verbose, 0, whole=True)


def _whole_network(
    name: Any, weights: Any, image_size: Any, engine: str, precision: Precision
) -> Prefix:
    backbone = get_backbone(name) if isinstance(name, str) else None
    if backbone is None or not backbone.is_keras_application:
        got = repr(name) if isinstance(name, str) else type(name).__name__
        raise InvalidParameterError(
            "backbone must be a network of keras.applications, such as 'mobilenet_v2', 'resnet50' "
            f"or 'efficientnet_b0'. Got {got} instead."
        )
    prefix = choose_prefix(
        backbone.name,
        weights=weights,
        image_size=image_size,
        preprocessing="auto",
        pooling="avg",
        layers=(),
        seed=0,
        engine=engine,
        precision=precision,
    )
    if prefix.weights in PRETRAINED:
        _check_trained_size(backbone, prefix.size)
    return dataclasses.replace(prefix, backbone=_with_top(backbone, prefix.weights, prefix.size))


def _check_trained_size(backbone: Backbone, size: tuple[int, int]) -> None:
    trained = backbone.weights_sizes or (backbone.image_size,)
    if size[0] != size[1] or size[0] not in trained:
        raise InvalidParameterError(
            f"image_size must be {' or '.join(map(str, trained))} for {backbone.name!r} with its "
            f"ImageNet weights. Got {size} instead."
        )


def _with_top(backbone: Backbone, weights: Any, size: tuple[int, int]) -> Backbone:
    """The record of the same network with its classification layer."""
    record = dataclasses.replace(
        backbone, weights_file=_WITHOUT_TOP.sub("", str(backbone.weights_file))
    )
    # A file of ImageNet weights is known by its name: an EfficientNet is built differently then.
    is_imagenet = weights in PRETRAINED or (
        weights is not None and Path(weights).name == record.weights_file_for(size)
    )
    # The options are part of the digest, so that it is not that of the network without the layer.
    return dataclasses.replace(
        record,
        builder=functools.partial(_build, record, weights),
        options=(("include_top", True), ("is_imagenet", is_imagenet)),
    )


def _build(record: Backbone, weights: Any, *, is_imagenet: bool, **arguments: Any) -> keras.Model:
    """Build a network with its classification layer."""
    size = arguments["input_shape"][:2]
    if weights in PRETRAINED:
        file = pretrained_file(record, size)
        if file is None or file.parent == keras_models_folder():
            return built_by_keras(record, arguments)
        weights = file
    if weights is None:
        return record.build(weights=None, **arguments)
    ends = f"with its classification layer of {N_CLASSES} classes at {size[0]}x{size[1]} pixels"
    with weights_errors(record, Path(weights), ends):
        network = record.build(weights=None, **arguments)
        network.load_weights(str(weights))
        return as_for_imagenet(network, record) if is_imagenet else network


def _probabilities(
    source: ImageSource, prefix: Prefix, resize: ResizeMode, verbose: int
) -> Iterator[np.ndarray]:
    """Yield the 1000 probabilities of each image."""
    starts = range(0, len(source), BATCH_SIZE)
    batches = [range(start, min(start + BATCH_SIZE, len(source))) for start in starts]
    forward = prefix.forward()
    bar = bar_if(verbose, len(source), prefix.backbone.name)
    loaded = load_batches(source, batches, prefix.size, resize)
    with closing(loaded), bar as advance:
        for pixels in loaded:
            yield from forward(pixels)
            advance(len(pixels))


def _best(row: np.ndarray, names: list[tuple[str, str]], top: int) -> list[Prediction]:
    order = np.argsort(-row, kind="stable")[:top]
    best = ((*names[number], float(row[number])) for number in order)
    return [Prediction(wnid, name, probability) for wnid, name, probability in best]


def _classes_of(file: Path) -> list[tuple[str, str]]:
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
        entries = [index[str(number)] for number in range(N_CLASSES)]
        return [(str(wnid), str(name)) for wnid, name in entries]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(
            f"The names of ImageNet's classes cannot be read from {file}: {error!r}. Delete the "
            "file, and Keras downloads it again."
        ) from error


def _downloaded_classes() -> list[tuple[str, str]]:
    from transferclf.graphs.isolation import undisturbed

    with undisturbed():
        import keras

        # Falling probabilities: the classes come back in their own order.
        falling = np.linspace(1, 0, N_CLASSES)[None]
        try:
            decoded = keras.applications.imagenet_utils.decode_predictions(falling, top=N_CLASSES)
        except Exception as error:  # Keras raises a bare Exception where a download fails
            raise WeightsError(
                "The names of ImageNet's classes cannot be had: "
                f"{keras_models_folder() / _CLASSES_FILE} is not there, and Keras could not "
                f"download it ({error}). Put the file there, or set KERAS_HOME."
            ) from error
    return [(wnid, name) for wnid, name, _ in decoded[0]]
