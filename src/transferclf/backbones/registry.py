"""The registry of backbones: one frozen record says all about a network, one dict holds them.

Importing this module does not import Keras; a record builds its network when asked to.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transferclf._checks import check_choice
from transferclf.backbones.applications import (
    APPLICATIONS,
    MOBILENET_V2_WIDTHS,
    MOBILENET_WIDTHS,
)
from transferclf.exceptions import InvalidParameterError, UnknownBackboneError
from transferclf.graphs.definitions import same_definition

if TYPE_CHECKING:
    import keras

PREPROCESSINGS = ("none", "rescale", "caffe", "tf", "torch")


@dataclass(frozen=True)
class Backbone:
    """All that is known about one backbone.

    Parameters
    ----------
    name : str
        The name in `list_backbones`.
    builder : callable or str
        Called with `input_shape=(h, w, 3)`, returns a keras.Model that ends in an activation
        map or in pooled features; or "module:function" of such a callable.
    image_size, min_image_size : int
        Side in pixels of the default and of the smallest square input.
    preprocessing : {"none", "rescale", "caffe", "tf", "torch"}
        What happens to pixels between 0 and 255 before the network, in the words of
        `keras.applications.imagenet_utils.preprocess_input`; "none" leaves them, "rescale" is to
        the scale 0 to 1.
    parameters : int or None
        Number of weights, without a classification layer.
    weights_file : str or None
        Name of the pretrained weights in Keras' cache; ``{size}`` stands for the input size.
    weights_sizes : tuple of int
        Sizes for which there are weights of their own; others take those of `image_size`.
    options : tuple of (str, value)
        Further keyword arguments of the builder.
    """

    name: str
    builder: str | Callable[..., keras.Model]
    image_size: int = 224
    min_image_size: int = 32
    preprocessing: str = "none"
    parameters: int | None = None
    weights_file: str | None = None
    weights_sizes: tuple[int, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def is_keras_application(self) -> bool:
        """Whether Keras builds this network and knows where its ImageNet weights are."""
        return isinstance(self.builder, str) and self.builder.startswith("keras.applications:")

    @property
    def is_bundled(self) -> bool:
        """Whether the weights lie inside this package."""
        return self.builder == TINY_BUILDER

    def build(self, **arguments: Any) -> keras.Model:
        """Call the builder; imports Keras."""
        builder = self.builder
        if isinstance(builder, str):
            module, function = builder.split(":")
            builder = getattr(importlib.import_module(module), function)
        return builder(**dict(self.options), **arguments)

    def weights_file_for(self, size: tuple[int, int]) -> str | None:
        """Name of the pretrained weights file for an input of this height and width."""
        if self.weights_file is None:
            return None
        square = size[0] if size[0] == size[1] and size[0] in self.weights_sizes else None
        return self.weights_file.format(size=square or self.image_size)


TINY_BUILDER = "transferclf.backbones.tiny:build_tiny"


def _application(
    name: str,
    function: str,
    image_size: int,
    min_image_size: int,
    preprocessing: str,
    parameters: int,
    weights_file: str,
) -> Backbone:
    return Backbone(
        name,
        f"keras.applications:{function}",
        image_size,
        min_image_size,
        preprocessing,
        parameters,
        weights_file.format(name=name, keras=function.lower()),
    )


def _mobilenet(suffix: str, alpha: float, parameters: int, alpha_text: str) -> Backbone:
    return Backbone(
        f"mobilenet{suffix}",
        "keras.applications:MobileNet",
        preprocessing="tf",
        parameters=parameters,
        weights_file=f"mobilenet_{alpha_text}_{{size}}_tf_no_top.h5",
        weights_sizes=(128, 160, 192, 224),
        options=(("alpha", alpha),),
    )


def _mobilenet_v2(suffix: str, alpha: float, parameters: int, alpha_text: str) -> Backbone:
    stem = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels"
    return Backbone(
        f"mobilenet_v2{suffix}",
        "keras.applications:MobileNetV2",
        preprocessing="tf",
        parameters=parameters,
        weights_file=f"{stem}_{alpha_text}_{{size}}_no_top.h5",
        weights_sizes=(96, 128, 160, 192, 224),
        options=(("alpha", alpha),),
    )


_TINY = Backbone(
    "tiny",
    TINY_BUILDER,
    image_size=96,
    preprocessing="tf",
    parameters=1_728_112,
    weights_file="tiny_weights.npz",
)

_REGISTRY: dict[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        *(_application(*line) for line in APPLICATIONS),
        *(_mobilenet(*line) for line in MOBILENET_WIDTHS),
        *(_mobilenet_v2(*line) for line in MOBILENET_V2_WIDTHS),
        _TINY,
    )
}


def list_backbones() -> list[str]:
    """Names of all registered backbones, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from transferclf import list_backbones
    >>> "resnet50" in list_backbones()
    True
    """
    return sorted(_REGISTRY)


def get_backbone(name: str) -> Backbone:
    """Look up one backbone; case, dashes and underscores do not matter.

    Parameters
    ----------
    name : str
        One of `list_backbones`; Keras' own spelling ("MobileNetV2") works too.

    Returns
    -------
    Backbone

    Raises
    ------
    UnknownBackboneError
        If there is none of this name; the message names the nearest.

    Examples
    --------
    >>> from transferclf import get_backbone
    >>> get_backbone("MobileNetV2").image_size
    224
    """
    by_plain_name = {_plain(known): backbone for known, backbone in _REGISTRY.items()}
    plain = _plain(name)
    if plain in by_plain_name:
        return by_plain_name[plain]
    near = difflib.get_close_matches(plain, by_plain_name, n=3, cutoff=0.5)
    hint = ", ".join(repr(by_plain_name[match].name) for match in near)
    raise UnknownBackboneError(
        f"There is no backbone {name!r}"
        + (f"; did you mean {hint}?" if near else ".")
        + " transferclf.list_backbones() names them all."
    )


def register_backbone(
    name: str,
    builder: Callable[..., keras.Model],
    *,
    preprocessing: str = "none",
    image_size: int = 224,
    min_image_size: int = 1,
    overwrite: bool = False,
) -> Backbone:
    """Add a backbone of one's own, to be used by its name like all others.

    The builder is called once for each image size, and what it returned is kept: where it reads
    what has changed since, register it again. The same definition may be registered again at any
    time, as when a cell of a notebook is run twice; the new one takes its place.

    Parameters
    ----------
    name : str
        A new name, or one of your own.
    builder : callable
        Called with `input_shape=(h, w, 3)`; returns a functional keras.Model, its weights loaded,
        that ends in an activation map (n, h, w, c) or in features (n, d).
    preprocessing : {"none", "rescale", "caffe", "tf", "torch"}, default="none"
        What the network expects to happen to pixels from 0 to 255 first.
    image_size, min_image_size : int, default=224 and 1
        Side of the default and of the smallest square input, in pixels.
    overwrite : bool, default=False
        Whether another definition under a name of your own is replaced. Networks that come with
        this package cannot be.

    Returns
    -------
    Backbone
        The new record.

    Raises
    ------
    InvalidParameterError
        If the name is taken or cannot be one, `builder` cannot be called, `preprocessing` is
        unknown, or the sizes contradict each other.

    Examples
    --------
    >>> import keras
    >>> from transferclf import register_backbone
    >>> def edges(input_shape):
    ...     inputs = keras.Input(input_shape)
    ...     return keras.Model(inputs, keras.layers.Conv2D(8, 3)(inputs))
    >>> register_backbone("edges", edges, image_size=32).name
    'edges'
    """
    if "/" in name or not _plain(name):  # Keras takes no slash in the name of a model
        raise InvalidParameterError(
            f"name must have a letter or digit, and be without '/'. Got {name!r} instead."
        )
    if not callable(builder):
        raise InvalidParameterError(
            f"builder must be callable. Got {type(builder).__name__} instead."
        )
    if image_size < min_image_size:
        raise InvalidParameterError(
            f"image_size must be at least min_image_size, {min_image_size}. Got {image_size}."
        )
    check_preprocessing(preprocessing)
    backbone = Backbone(name, builder, image_size, min_image_size, preprocessing)
    known = next((one for one in _REGISTRY.values() if _plain(one.name) == _plain(name)), None)
    if known is not None:
        _check_replaceable(known, backbone, overwrite)
        del _REGISTRY[known.name]
    _REGISTRY[name] = backbone
    return backbone


def _check_replaceable(known: Backbone, new: Backbone, overwrite: bool) -> None:
    if known.is_bundled or known.is_keras_application:
        raise InvalidParameterError(
            f"There is a backbone {new.name!r} already, which comes with this package and cannot "
            "be replaced; choose another name."
        )
    same = ("image_size", "min_image_size", "preprocessing")
    is_same = all(getattr(known, name) == getattr(new, name) for name in same)
    if not overwrite and not (is_same and same_definition(known.builder, new.builder)):
        raise InvalidParameterError(
            f"There is a backbone {new.name!r} already, with another builder or other parameters; "
            "choose another name, or register_backbone(..., overwrite=True) to replace it."
        )


def check_preprocessing(preprocessing: str) -> None:
    """Raise InvalidParameterError unless `preprocessing` is one of the known names."""
    check_choice("preprocessing", preprocessing, PREPROCESSINGS)


def _plain(name: str) -> str:
    return "".join(letter for letter in str(name).lower() if letter.isalnum())
