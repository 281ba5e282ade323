"""The registry of backbones: their records by name. Importing it does not import Keras."""

from __future__ import annotations

import difflib
import fnmatch
import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from transferclf._checks import refuse
from transferclf.backbones.applications import RECORDS
from transferclf.backbones.efficientnet_lite import LITE_RECORDS
from transferclf.backbones.onnx import onnx_backbone
from transferclf.backbones.onnx_record import OnnxRecord
from transferclf.backbones.own import FunctionBackbone
from transferclf.backbones.preprocessing import Preprocessing, check_preprocessing
from transferclf.backbones.record import Backbone
from transferclf.backbones.weights import TINY
from transferclf.exceptions import InvalidParameterError, UnknownBackboneError
from transferclf.graphs.definitions import same_definition

if TYPE_CHECKING:
    import keras
    import numpy as np

_REGISTRY: dict[str, Backbone] = {record.name: record for record in (*RECORDS, *LITE_RECORDS, TINY)}


class Source(Protocol):
    """A library with many networks, named as "library:NAME"."""

    def record(self, name: str) -> Backbone:
        """Return the record of the network of this name, without the library's prefix.

        Raises UnknownBackboneError if there is none, and InvalidParameterError if the library is
        not installed.
        """

    def names(self) -> list[str]:
        """Return the names of all networks, without the library's prefix."""


# The modules in this room that have a `SOURCE`, by their prefixes. They import their libraries only
# in functions.
_SOURCES: dict[str, str] = {
    "keras_hub": "transferclf.backbones.keras_hub",
    "timm": "transferclf.backbones.timm",
}


def list_backbones(pattern: str | None = None) -> list[str]:
    """Return the names of backbones, sorted.

    Parameters
    ----------
    pattern : str or None, default=None
        With the wildcards ``*`` and ``?``, such as ``"mobilenet*"``; None is all that are
        registered. ``"timm:*dinov2*"`` and ``"keras_hub:*"`` list the networks of a library, which
        must be installed.

    Returns
    -------
    list of str

    Raises
    ------
    InvalidParameterError
        If there is no such library, or it is not installed.

    Examples
    --------
    >>> from transferclf import list_backbones
    >>> "resnet50" in list_backbones()
    True
    >>> list_backbones("vgg*")
    ['vgg16', 'vgg19']
    """
    if pattern is None:
        return sorted(_REGISTRY)
    library, colon, rest = str(pattern).partition(":")
    if not colon:
        return sorted(name for name in _REGISTRY if fnmatch.fnmatch(name, pattern))
    names = (name for name in _source(library).names() if fnmatch.fnmatch(name, rest))
    return sorted(f"{library}:{name}" for name in names)


def _source(library: str) -> Source:
    if library not in _SOURCES:
        known = ", ".join(f"'{name}:'" for name in _SOURCES)
        raise UnknownBackboneError(
            f"There is no library {library!r} of backbones; there are {known}."
        )
    source: Source = importlib.import_module(_SOURCES[library]).SOURCE
    return source


def get_backbone(name: str) -> Backbone:
    """Look up one backbone; case, dashes and underscores do not matter.

    Parameters
    ----------
    name : str
        One of `list_backbones`; Keras' own spelling ("MobileNetV2") works too. "timm:NAME" and
        "keras_hub:NAME" are networks of these libraries.

    Returns
    -------
    Backbone

    Raises
    ------
    UnknownBackboneError
        If there is none of this name; the message names similar ones.

    Examples
    --------
    >>> from transferclf import get_backbone
    >>> get_backbone("MobileNetV2").image_size
    224
    """
    by_plain_name = {_plain(known): backbone for known, backbone in _REGISTRY.items()}
    plain = _plain(str(name))
    if plain in by_plain_name:
        return by_plain_name[plain]
    library, colon, rest = str(name).partition(":")
    if colon and library in _SOURCES:
        return _source(library).record(rest)
    near = difflib.get_close_matches(plain, by_plain_name, n=3, cutoff=0.5)
    hint = ", ".join(repr(by_plain_name[match].name) for match in near)
    raise UnknownBackboneError(
        f"There is no backbone {name!r}"
        + (f"; did you mean {hint}?" if near else ".")
        + " transferclf.list_backbones() names them all."
    )


def kind_of(backbone: object) -> str:
    """Return the kind of a network, for which its engine is checked; "keras" of unknown names."""
    if onnx_backbone(backbone) is not None:
        return OnnxRecord.kind
    try:
        return get_backbone(backbone).kind if isinstance(backbone, str) else Backbone.kind
    except InvalidParameterError:
        return Backbone.kind


def register_backbone(
    name: str,
    builder: Callable[..., keras.Model] | None = None,
    *,
    function: Callable[[np.ndarray], np.ndarray] | None = None,
    version: str | None = None,
    preprocessing: str | Preprocessing = "none",
    image_size: int = 224,
    min_image_size: int = 1,
    overwrite: bool = False,
) -> Backbone:
    """Add a backbone of your own, which can then be used by its name.

    It is a Keras model that `builder` returns, or a `function` of arrays.

    The builder is called once for each image size, and its result is kept. If it depends on things
    that have changed, register it again. The same definition may be registered again at any time,
    for example when a notebook cell is run twice; the new one replaces the old one.

    Another process, such as a worker of joblib, has to register the backbone itself before it fits
    with it. Fitted estimators contain it.

    A function gives features for :class:`CNNFeatureExtractor` and for the head of
    :class:`TransferClassifier`. It has no layers to tap, to train or to put into `model_`, and no
    engine changes how it runs.

    Parameters
    ----------
    name : str
        A new name, or one of your own.
    builder : callable or None, default=None
        Called with `input_shape=(h, w, 3)`; returns a functional keras.Model with its weights that
        ends in an activation map (n, h, w, c) or in features (n, d).
    function : callable or None, default=None
        Called with pixels (n, h, w, 3), float32; returns rows (n, d) or maps (n, h, w, c), which
        are pooled. The result for an image must not depend on the other images.
    version : str or None, default=None
        Identifies the function together with the name, so that other processes and later runs find
        its features on disk. Change it with the function. With None, stored features are used only
        while this registration lasts.
    preprocessing : {"none", "rescale", "caffe", "tf", "torch"} or Preprocessing, default="none"
        The scaling of pixels from 0 to 255 that the network expects.
    image_size, min_image_size : int, default=224 and 1
        Side of the default and of the smallest square input, in pixels.
    overwrite : bool, default=False
        Whether to replace another definition of your own with this name. Networks that come with
        this package cannot be replaced.

    Returns
    -------
    Backbone
        The new record.

    Raises
    ------
    InvalidParameterError
        If the name is taken or no valid name, there is not exactly one callable of `builder` and
        `function`, `preprocessing` is unknown, or the sizes contradict each other.

    Examples
    --------
    >>> import keras
    >>> from transferclf import CNNFeatureExtractor, register_backbone
    >>> def edges(input_shape):
    ...     inputs = keras.Input(input_shape)
    ...     return keras.Model(inputs, keras.layers.Conv2D(8, 3)(inputs))
    >>> register_backbone("edges", edges, image_size=32).name
    'edges'
    >>> def mean_colour(pixels):
    ...     return pixels.mean(axis=(1, 2))
    >>> record = register_backbone("mean_colour", function=mean_colour, version="1", image_size=32)
    >>> white = [[[255, 255, 255]]]
    >>> CNNFeatureExtractor("mean_colour").fit_transform([white]).tolist()
    [[255.0, 255.0, 255.0]]
    """
    if "/" in name or not _plain(name):  # Keras takes no slash in the name of a model
        raise InvalidParameterError(
            f"name must have a letter or digit, and be without '/'. Got {name!r} instead."
        )
    if image_size < min_image_size:
        refuse("image_size", f"at least min_image_size, {min_image_size}", image_size)
    check_preprocessing(preprocessing)
    if (builder is None) == (function is None):
        raise InvalidParameterError("give either builder or function, and not both.")
    kind, given = ("builder", builder) if function is None else ("function", function)
    if not callable(given):
        raise InvalidParameterError(f"{kind} must be callable. Got {type(given).__name__} instead.")
    is_text = isinstance(version, str) and version != ""
    if version is not None and not (is_text and function is not None):
        raise InvalidParameterError(f"version must be a text, for a function. Got {version!r}.")
    facts = (name, given, image_size, min_image_size, preprocessing)
    backbone = Backbone(*facts) if function is None else FunctionBackbone(*facts, version=version)
    known = next((one for one in _REGISTRY.values() if _plain(one.name) == _plain(name)), None)
    if known is not None:
        _check_replaceable(known, backbone, overwrite)
        del _REGISTRY[known.name]
    _REGISTRY[name] = backbone
    return backbone


def _check_replaceable(known: Backbone, new: Backbone, overwrite: bool) -> None:
    if known.takes_weights:
        raise InvalidParameterError(
            f"There is a backbone {new.name!r} already, which comes with this package and cannot "
            "be replaced; choose another name."
        )
    same = ("image_size", "min_image_size", "preprocessing", "kind", "version")
    is_same = all(getattr(known, name, None) == getattr(new, name, None) for name in same)
    if not overwrite and not (is_same and same_definition(known.builder, new.builder)):
        raise InvalidParameterError(
            f"There is a backbone {new.name!r} already, with another builder or other parameters; "
            "choose another name, or register_backbone(..., overwrite=True) to replace it."
        )


@functools.lru_cache(maxsize=256)  # of all names for each fit
def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
