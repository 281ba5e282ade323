"""The record of a backbone: all that is known about a network before it is built."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from transferclf._checks import refuse
from transferclf.backbones.preprocessing import Preprocessing
from transferclf.engines.engine import keras_backend
from transferclf.exceptions import InvalidParameterError
from transferclf.graphs.digests import values_digest, version_of

if TYPE_CHECKING:
    import keras

    from transferclf.graphs.pooling import Pooling

Weights = str | Path | None
Size = tuple[int, int]

# How the output of a network becomes features. The last two need a class token.
POOLINGS: tuple[Pooling, ...] = ("avg", "max", "flatten", "cls", "cls+avg")


@dataclass(frozen=True)
class Backbone:
    """All that is known about one backbone.

    Another source of networks is a subclass in a file of its own. It sets the class attributes
    below, and writes `network` and, if it has weights to choose from, `weights_digest`.

    Parameters
    ----------
    name : str
        The name in `list_backbones`.
    builder : callable or str
        Called with `input_shape=(h, w, 3)`, returns a keras.Model that ends in an activation
        map or in pooled features; or "module:function" of such a callable.
    image_size, min_image_size : int
        Side in pixels of the default and of the smallest square input.
    preprocessing : {"none", "rescale", "caffe", "tf", "torch"} or Preprocessing
        Scaling of pixels between 0 and 255 before the network, in the words of
        `keras.applications.imagenet_utils.preprocess_input`; "none" leaves them, "rescale" is to
        the scale 0 to 1. A :class:`Preprocessing` describes any other, and the resize too.
    parameters : int or None
        Number of weights, without a classification layer.
    weights_file : str or None
        Name of the pretrained weights in Keras' cache; ``{size}`` stands for the input size.
    weights_sizes : tuple of int
        Sizes for which there are weights of their own; others take those of `image_size`.
    options : tuple of (str, value)
        Further keyword arguments of the builder.
    ends_in : {"map", "vector", "tokens", None}
        The kind of output for one image: (h, w, c), (d,) or (t, c). None: unknown before it is
        built.
    pooling : {"avg", "max", "flatten", "cls", "cls+avg"}
        What `pooling="auto"` stands for: the features that the network's own library takes.
    cls_tokens, other_tokens : int
        Numbers of tokens before those of the image's patches, if it ends in tokens: class tokens,
        then registers and the like, which no pooling takes.

    Attributes
    ----------
    kind : str
        Which engines can run it: "keras" is a functional keras.Model, "function" a function of
        arrays, "onnx" an ONNX file.
    layout : str
        The `image_data_format` of Keras that it needs.
    takes_weights : bool
        Whether `weights=` chooses among several.
    can_be_cut : bool
        Whether it is a Keras graph, whose layers can be tapped, trained and put into `model_`.
    is_bundled, is_keras_application : bool
        Whether its weights come with this package, and whether Keras builds it.
    has_classes : bool
        Whether `with_top` gives the network with its layer of ImageNet's 1000 classes.
    is_named : bool
        Whether its name alone says which network it is, so that an archive need not hold it.
    """

    name: str
    builder: str | Callable[..., keras.Model]
    image_size: int = 224
    min_image_size: int = 32
    preprocessing: str | Preprocessing = "none"
    parameters: int | None = None
    weights_file: str | None = None
    weights_sizes: tuple[int, ...] = ()
    options: tuple[tuple[str, object], ...] = ()
    ends_in: str | None = None
    pooling: Pooling = "avg"
    cls_tokens: int = 0
    other_tokens: int = 0

    kind: ClassVar[str] = "keras"
    layout: ClassVar[str] = "channels_last"
    takes_weights: ClassVar[bool] = False
    can_be_cut: ClassVar[bool] = True
    has_classes: ClassVar[bool] = False
    is_bundled: ClassVar[bool] = False
    is_keras_application: ClassVar[bool] = False

    @property
    def is_named(self) -> bool:
        """Whether its name alone says which network it is."""
        return self.is_bundled or self.is_keras_application

    @property
    def kind_in_words(self) -> str:
        """The kind for messages, such as "a function"."""
        return f"a {self.kind}"

    @property
    def plain_name(self) -> str:
        """The name in letters that Keras takes for a model."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "_", self.name)

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """How its output can become a vector."""
        return POOLINGS[:3] if self.ends_in in ("map", "vector") else POOLINGS

    @property
    def is_float32(self) -> bool:
        """Whether it computes in float32, so that all engines give the same features."""
        return True

    @property
    def own_size(self) -> Size:
        """Height and width of images, if no other size is asked for."""
        return (self.image_size, self.image_size)

    def pooled_by(self, pooling: Pooling | Literal["auto"]) -> Backbone:
        """Return the record of the network whose output is pooled so.

        A library may have features of its own for "auto", which no pooling of the output gives.
        """
        return self

    def tapped(
        self, layers: tuple[str, ...], pooling: Pooling | Literal["auto"], size: Size
    ) -> Backbone:
        """Return the record of the network that ends in the pooled outputs of these layers.

        A Keras model ends as it is, because the prefix taps its layers.
        """
        return self

    def widths(self, size: Size) -> tuple[int, ...]:
        """Return how many features each layer gives that the network itself taps; () if none."""
        return ()

    def check_size(self, size: Size) -> None:
        """Raise InvalidParameterError if images cannot have this height and width."""
        if min(size) < self.min_image_size:
            expected = "None, a whole number of pixels or a pair (height, width), at least"
            smallest = f"{self.min_image_size} for backbone {self.name!r}"
            got = size[0] if size[0] == size[1] else size
            refuse("image_size", f"{expected} {smallest}", got)

    def build(self, **arguments: object) -> keras.Model:
        """Call the builder; imports Keras."""
        builder = self.builder
        if isinstance(builder, str):
            module, function = builder.split(":")
            builder = getattr(importlib.import_module(module), function)
        return builder(**dict(self.options), **arguments)

    def network(
        self, weights: Weights, size: Size, seed: int
    ) -> keras.Model | Callable[[np.ndarray], np.ndarray]:
        """Return the network with its weights, a keras.Model unless `kind` says otherwise.

        Parameters
        ----------
        weights : {"pretrained", "imagenet"}, path or None
            None is random weights, drawn from `seed`.
        size : (int, int)
            Height and width of the input in pixels.
        seed : int
            Keras draws from it already.
        """
        return self.build(input_shape=(*size, 3))

    def facts(self) -> list[object]:
        """Return a description that identifies the network without its weights, for JSON."""
        # Another version of Keras may change an architecture under its name.
        return [self.name, self.options, version_of("keras")]

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return a text that identifies the weights; builds the network only if it has to."""
        # Each backend of Keras draws other numbers from a seed.
        backend = keras_backend()
        return f"random {seed}" if backend == "tensorflow" else f"random {seed} by {backend}"

    def values_digest(self, network: object) -> str:
        """Return a digest of the values of the weights of a built network."""
        return values_digest(network)

    def weights_file_for(self, size: Size) -> str | None:
        """Return the name of the pretrained weights file for an input of this height and width."""
        if self.weights_file is None:
            return None
        square = size[0] if size[0] == size[1] and size[0] in self.weights_sizes else None
        return self.weights_file.format(size=square or self.image_size)

    def weights_places(self, size: Size) -> list[Path] | None:
        """Return where the file of the pretrained weights may be; None is among Keras' models."""
        return None

    def with_top(self) -> Backbone:
        """Return the record of the same network with its layer of ImageNet's classes."""
        raise NotImplementedError

    def check_uncut(self, trainable_layers: int | str, layers: tuple[str, ...]) -> None:
        """Raise InvalidParameterError if layers of a network without layers are asked for."""
        defaults = {"trainable_layers": trainable_layers == 0, "layer": not layers}
        for name, is_default in defaults.items():
            if not self.can_be_cut and not is_default:
                raise InvalidParameterError(
                    f"{name} needs a backbone that is a Keras model. {self.name!r} is "
                    f"{self.kind_in_words}, which cannot be cut: leave {name} as it is."
                )
