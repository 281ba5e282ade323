"""predict_imagenet: ImageNet's classes in images, by networks that were trained for them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from transferclf._checks import check_choice, check_number, check_verbose
from transferclf.backbones.applications import N_CLASSES
from transferclf.backbones.preprocessing import preprocessing_of
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import PRETRAINED, keras_home, keras_models_folder
from transferclf.engines.engine import Precision
from transferclf.engines.registry import check_engine
from transferclf.exceptions import InvalidParameterError, WeightsError
from transferclf.features.choosing import choose_prefix
from transferclf.features.extraction import Extractor
from transferclf.features.frozen import Prefix
from transferclf.images import check_images
from transferclf.images.geometry import RESIZE_MODES, ResizeMode
from transferclf.images.remarks import remark_on_training_images, sample

if TYPE_CHECKING:
    from transferclf.images.checking import ImageShape
    from transferclf.images.pixels import PixelRange

_CLASSES_FILE = "imagenet_class_index.json"


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
    X: object,
    top: int = 5,
    *,
    weights: str | Path | None = "imagenet",
    image_size: int | tuple[int, int] | None = None,
    resize: ResizeMode | Literal["auto"] = "auto",
    image_shape: ImageShape = None,
    pixel_range: PixelRange = None,
    engine: str = "auto",
    precision: Precision = "float32",
    verbose: int = 0,
) -> list[list[Prediction]]:
    """Return the most probable of ImageNet's 1000 classes, by a network that was trained for them.

    The network has its own classification layer and the preprocessing that it was trained with.
    Images stream through it in batches.

    Parameters
    ----------
    backbone : str
        A network of `keras.applications` or an EfficientNet-Lite, by its name in
        :func:`transferclf.list_backbones`, such as "mobilenet_v2" or "efficientnet_lite0".
    X : array-like or sequence of images, n of them
        Paths, arrays or PIL images of any size; see :func:`transferclf.images.check_images`.
    top : int, default=5
        How many classes are named for each image, 1 to 1000.
    weights : "imagenet", path or None, default="imagenet"
        A path is of weights with the classification layer; None is random weights.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels; None is the network's own. With "imagenet" it must
        be one for which there are weights.
    resize : {"auto", "crop", "stretch", "pad"}, default="auto"
        "crop" takes the largest centred part, "stretch" distorts, "pad" adds black borders.
        "auto" is that of the network's training.
    image_shape : (h, w) or (h, w, c) or None, default=None
        Shape of the image in each row of a 2-D X.
    pixel_range : None, "minmax" or (low, high), default=None
        Numbers of black and white; None reads them off X.
    engine : {"auto", "tensorflow", "onnxruntime", "openvino", "torch", "keras"}, default="auto"
        Engine that runs the network. "auto" is the fastest that can run it here.
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
        If `backbone` has no layer of ImageNet's classes, or another parameter cannot be.
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
keras.applications, such as 'mobilenet_v2', 'resnet50' or 'efficientnet_b0', or \
'efficientnet_lite0'. Got 'tiny' instead.
    """
    check_number("top", top, 1, N_CLASSES, whole=True)
    check_choice("resize", resize, ("auto", *RESIZE_MODES))
    check_verbose(verbose)
    check_engine(engine, precision)
    prefix = _whole_network(backbone, weights, image_size, engine, precision)
    source = check_images(X, image_shape=image_shape, pixel_range=pixel_range)
    source = source.read_with(source.decided_range())
    remark_on_training_images(source, sample(source))
    _ = prefix.weights_digest  # missing weights are an error before missing names
    names = imagenet_classes()
    mode = preprocessing_of(prefix.preprocessing).resize if resize == "auto" else resize
    extractor = Extractor(store=None, resize=mode, verbose=int(verbose))
    probabilities = extractor.rows(source, prefix, title=prefix.backbone.name)
    return [_best(row, names, int(top)) for row in probabilities]


def imagenet_classes() -> list[tuple[str, str]]:
    """Return WordNet number and name of ImageNet's 1000 classes, in the order of the networks.

    They are read from a file among Keras' models, which Keras downloads if it is not there.
    WeightsError is raised if it is damaged or cannot be downloaded.
    """
    # The second where KERAS_HOME may only be read, so that Keras does not look at it.
    places = [folder / _CLASSES_FILE for folder in (keras_models_folder(), keras_home() / "models")]
    file = next((place for place in places if place.is_file()), None)
    return _downloaded_classes() if file is None else _classes_of(file)


def _whole_network(
    name: object,
    weights: str | Path | None,
    image_size: int | tuple[int, int] | None,
    engine: str,
    precision: Precision,
) -> Prefix:
    """Return the network with its classification layer, as a prefix that ends in its classes."""
    backbone = get_backbone(name) if isinstance(name, str) else None
    if backbone is None or not backbone.has_classes:
        got = repr(name) if isinstance(name, str) else type(name).__name__
        raise InvalidParameterError(
            "backbone must be a network of keras.applications, such as 'mobilenet_v2', 'resnet50' "
            f"or 'efficientnet_b0', or 'efficientnet_lite0'. Got {got} instead."
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
    height, width = prefix.size
    trained = backbone.weights_sizes or (backbone.image_size,)
    if prefix.weights in PRETRAINED and (height != width or height not in trained):
        raise InvalidParameterError(
            f"image_size must be {' or '.join(map(str, trained))} for {backbone.name!r} with its "
            f"ImageNet weights. Got {prefix.size} instead."
        )
    whole = backbone.with_top()
    return dataclasses.replace(prefix, backbone=whole, preprocessing=whole.preprocessing)


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
