"""Backbones of `keras-hub <https://keras.io/keras_hub/>`_: its presets for images.

A preset is a folder: the architecture in ``config.json``, the preparation of images in
``image_converter.json`` or ``preprocessor.json``, and the weights. The record of a backbone is read
from the first two, so that features are found without importing keras-hub.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from transferclf._checks import refuse
from transferclf.backbones.preprocessing import Preprocessing
from transferclf.backbones.presets import (
    CONFIG,
    IMAGE_CONVERTER,
    METADATA,
    PREPROCESSOR,
    built_in,
    is_built_in,
    library_folder,
    preset_file,
    read_json,
    weights_digest,
    weights_files,
)
from transferclf.backbones.record import Backbone, Size, Weights
from transferclf.backbones.weights import PRETRAINED, weights_errors
from transferclf.exceptions import (
    InvalidParameterError,
    NetworkError,
    UnknownBackboneError,
    WeightsError,
    warn,
)
from transferclf.graphs.digests import file_digest, version_of

if TYPE_CHECKING:
    import keras

    from transferclf.graphs.pooling import Pooling

PREFIX = "keras_hub:"


@dataclass(frozen=True)
class Family:
    """What is known of all presets of one class.

    `folder` has their names in keras-hub. `sizes` says which inputs the network can take: "any",
    "patches" (whole patches, as its position embeddings are interpolated or relative), "squares"
    (the same, with equal sides) or "own" (that of its position embeddings). `part` is the attribute
    with the network of images, where there is one of texts too. `pooling` is that of keras-hub's
    ImageClassifier. For others it is the class token, which their authors use.
    """

    folder: str
    ends_in: str = "map"
    pooling: Pooling = "avg"
    sizes: Literal["any", "patches", "squares", "own"] = "any"
    part: str = ""
    other_tokens: int | str = 0

    def tokens(self, config: Mapping[str, object]) -> tuple[int, int]:
        """Return the numbers of class tokens and of others before the patches."""
        if self.pooling != "cls" or not config.get("use_class_token", True):
            return 0, 0
        others = self.other_tokens
        return 1, others if isinstance(others, int) else cast(int, config.get(others, 0))


FAMILIES = {
    "CLIPBackbone": Family("clip", "tokens", "cls", "own", "vision_encoder"),
    "CSPNetBackbone": Family("cspnet"),
    "DINOV2Backbone": Family(
        "dinov2", "tokens", "cls", "squares", other_tokens="num_register_tokens"
    ),
    "DINOV3Backbone": Family(
        "dinov3", "tokens", "cls", "squares", other_tokens="num_register_tokens"
    ),
    "DeiTBackbone": Family("deit", "tokens", "cls", "own", other_tokens=1),
    "DenseNetBackbone": Family("densenet"),
    "EfficientNetBackbone": Family("efficientnet"),
    "HGNetV2Backbone": Family("hgnetv2"),
    "MetaCLIP2Backbone": Family("metaclip_2", "tokens", "cls", "own", "vision_encoder"),
    "MiTBackbone": Family("mit"),
    "MobileNetBackbone": Family("mobilenet"),
    "MobileNetV5Backbone": Family("mobilenetv5"),
    "ResNetBackbone": Family("resnet"),
    "SigLIPBackbone": Family("siglip", "vector", "avg", "own", "vision_encoder"),
    "SwinTransformerBackbone": Family("swin_transformer", "tokens", "avg", "patches"),
    "VGGBackbone": Family("vgg"),
    "ViTBackbone": Family("vit", "tokens", "cls", "own"),
    "XceptionBackbone": Family("xception"),
}


@dataclass(frozen=True)
class KerasHubBackbone(Backbone):
    """A preset of keras-hub, as one graph from pixels to tokens, maps or rows.

    `preset` is a folder or a handle, `family` the name of its class, and `patch` the side of its
    patches in pixels.
    """

    preset: str = ""
    family: str = ""
    patch: int = 1

    takes_weights: ClassVar[bool] = True

    @property
    def is_named(self) -> bool:
        """Whether an archive may name it; a handle would download files of anybody's."""
        return "://" not in self.name

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """How its output can become a vector."""
        return super().poolings if self.cls_tokens else ("avg", "max", "flatten")

    def check_size(self, size: Size) -> None:
        """Raise InvalidParameterError if images cannot have this height and width."""
        super().check_size(size)
        sizes = FAMILIES[self.family].sizes
        if sizes == "own" and size != (self.image_size,) * 2:
            refuse(
                "image_size",
                f"{self.image_size}, because keras-hub interpolates no position embeddings of "
                f"{self.family},",
                size,
            )
        if sizes in ("patches", "squares") and (size[0] % self.patch or size[1] % self.patch):
            refuse("image_size", f"a multiple of {self.patch} for backbone {self.name!r}", size)
        if sizes == "squares" and size[0] != size[1]:
            refuse("image_size", f"a number, because {self.family} takes squares only", size)

    def facts(self) -> list[object]:
        """Return the class, the digest of the architecture, and the versions that build it."""
        config = preset_file(self.preset, CONFIG)
        digest = "" if config is None else file_digest(config)
        return [PREFIX, self.family, digest, version_of("keras-hub"), version_of("keras")]

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the digest of the files with the weights, or the seed; may download the files."""
        if weights is None:
            return super().weights_digest(weights, size, seed)
        if weights in PRETRAINED:
            return weights_digest(self.preset)
        return f"file {file_digest(Path(weights))}"

    def network(self, weights: Weights, size: Size, seed: int) -> keras.Model:
        """Return the network with its weights, from pixels to one output."""
        library_folder()
        import keras

        from transferclf.graphs.opening import opened

        whole = self._whole(weights, size)
        part = FAMILIES[self.family].part
        network = getattr(whole, part) if part else whole
        output = network.output
        if isinstance(output, dict):  # maps of several stages
            output = output[_last_stage(network, output)]
        graph = keras.Model(network.inputs[0], output, name=self.plain_name)
        try:
            return opened(graph)
        except ValueError:  # two layers inside have one name
            return graph

    def _whole(self, weights: Weights, size: Size) -> keras.Model:
        """Return the model of keras-hub, with the weights."""
        import keras_hub

        config = preset_file(self.preset, CONFIG)
        if config is None:
            raise WeightsError(f"The preset {self.preset!r} has no {CONFIG} any more.")
        is_pretrained = weights in PRETRAINED
        files = weights_files(self.preset) if is_pretrained else []
        if {file.parent for file in files} - {config.parent}:
            raise WeightsError(f"The files of the preset {self.preset!r} are of several versions.")
        shape = {} if FAMILIES[self.family].sizes == "own" else {"image_shape": (*size, 3)}
        try:
            model = keras_hub.models.Backbone.from_preset(
                str(config.parent), load_weights=is_pretrained, dtype="float32", **shape
            )
        except Exception as error:  # keras-hub and h5py raise many kinds
            raise NetworkError(
                f"keras-hub cannot make {self.name!r} for images of {size[0]}x{size[1]} pixels: "
                f"{error}"
            ) from error
        if weights is not None and not is_pretrained:
            with weights_errors(self, Path(weights), "as keras-hub's own model"):
                model.load_weights(str(weights))
        return model


def _last_stage(network: Any, outputs: Mapping[str, object]) -> str:
    """Return the name of the last of several maps."""
    names = getattr(network, "stage_names", None) or list(outputs)
    return str(next(name for name in reversed(names) if name in outputs))


class _Source:
    """The presets of keras-hub."""

    def names(self) -> list[str]:
        """Return the names of all presets for images that keras-hub itself offers."""
        library_folder()
        return list(built_in(_FOLDERS))

    def record(self, name: str) -> KerasHubBackbone:
        """Return the record of a preset: a name of keras-hub, a handle or a folder."""
        library_folder()
        handle = built_in(_FOLDERS).get(name)
        preset = handle or _own_preset(name)
        config = read_json(preset, CONFIG)
        if config is None:
            raise UnknownBackboneError(f"{preset!r} is no preset of keras-hub: it has no {CONFIG}.")
        return _record(name if handle or "://" in name else preset, preset, config)


_FOLDERS = tuple(family.folder for family in FAMILIES.values())

SOURCE = _Source()


def _own_preset(name: str) -> str:
    """Return the folder or handle that a name stands for; UnknownBackboneError if there is none."""
    if "://" in name:
        return name
    folder = Path(os.path.expanduser(name)).absolute()
    if folder.is_dir():
        return str(folder)
    if is_built_in(name):
        raise UnknownBackboneError(
            f"{PREFIX}{name} is no network of single images: list_backbones('{PREFIX}*') names "
            "those that can be used."
        )
    near = difflib.get_close_matches(name, built_in(_FOLDERS), n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(repr(PREFIX + one) for one in near)}? " if near else ""
    raise UnknownBackboneError(
        f"There is no preset {name!r} in keras-hub {version_of('keras-hub')}, and no such folder; "
        f"{hint}list_backbones('{PREFIX}*') names them all."
    )


def _record(name: str, preset: str, config: Mapping[str, Any]) -> KerasHubBackbone:
    kind = config.get("class_name")
    family = FAMILIES.get(str(kind))
    if family is None or config.get("registered_name") != f"keras_hub>{kind}":
        expected = ", ".join(FAMILIES)
        raise UnknownBackboneError(
            f"the preset {preset!r} must be one that keras-hub saved, of one of {expected}. Got "
            f"{kind or config.get('model_type') or config.get('architecture')!r} instead. "
            "keras_hub.models.Backbone.from_preset(PRESET).save_to_preset(FOLDER) converts other "
            "formats."
        )
    fields = config["config"]
    tower = fields[family.part]["config"] if family.part else fields
    converter = _converter(preset)
    cls_tokens, other_tokens = family.tokens(tower)
    patch = tower.get("patch_size", 1)
    side = _side(family, tower, converter)
    metadata = None if family.part else read_json(preset, METADATA)
    count = (metadata or {}).get("parameter_count")
    return KerasHubBackbone(
        f"{PREFIX}{name}",
        f"keras_hub:{kind}",
        image_size=side,
        min_image_size=side if family.sizes == "own" else 32,
        preprocessing=_preprocessing(preset, converter),
        parameters=count if isinstance(count, int) else None,
        ends_in=family.ends_in,
        pooling=family.pooling if cls_tokens else "avg",
        cls_tokens=cls_tokens,
        other_tokens=other_tokens,
        preset=preset,
        family=str(kind),
        patch=patch if isinstance(patch, int) else 1,
    )


def _converter(preset: str) -> Mapping[str, Any]:
    """Return the options of the preset's ImageConverter."""
    config = read_json(preset, IMAGE_CONVERTER)
    if config is None:
        preprocessor = cast("dict[str, Any]", read_json(preset, PREPROCESSOR) or {})
        config = preprocessor.get("config", {}).get("image_converter")
    return cast("dict[str, Any]", (config or {}).get("config") or {})


def _side(family: Family, tower: Mapping[str, Any], converter: Mapping[str, Any]) -> int:
    """Return the side of images in pixels that the preset was made for."""
    size = converter.get("image_size") or (converter.get("height"),)
    shape = tower.get("image_shape") or (None,)
    sides = [shape[0], size[0]] if family.sizes == "own" else [size[0], shape[0]]
    return next((int(side) for side in sides if side), 224)


def _preprocessing(preset: str, converter: Mapping[str, Any]) -> Preprocessing:
    """Return the preparation of images that an ImageConverter makes: pixel * scale + offset."""
    if not converter:
        if preset not in _warned:
            _warned.add(preset)
            warn(
                f"the preset {preset!r} has no {IMAGE_CONVERTER}, so that its network gets pixels "
                "from 0 to 255 as they are: save its image converter there too, or set "
                "preprocessing."
            )
        return Preprocessing()
    scale, offset = converter.get("scale"), converter.get("offset")
    if "mean" in converter and "variance" in converter:  # the words of the first versions
        deviations = [variance**0.5 for variance in converter["variance"]]
        means = zip(converter["mean"], deviations, strict=True)
        offset = [-mean / deviation for mean, deviation in means]
        scale = [(scale or 1.0) / deviation for deviation in deviations]
    is_padded = converter.get("pad_to_aspect_ratio", False)
    is_cropped = converter.get("crop_to_aspect_ratio", True)
    try:
        return Preprocessing(
            scale=1.0 if scale is None else scale,
            mean=0.0 if offset is None else _negative(offset),
            interpolation=converter.get("interpolation", "bilinear"),
            antialias=converter.get("antialias", False),
            resize="pad" if is_padded else "crop" if is_cropped else "stretch",
            whole_pixels=True,
        )
    except InvalidParameterError as error:
        raise NetworkError(
            f"the preset {preset!r} prepares images in a way that is not known here: {error}"
        ) from error


# Presets without an image converter, of which a warning has told.
_warned: set[str] = set()


def _negative(offset: float | list[float]) -> float | tuple[float, ...]:
    return tuple(-value for value in offset) if isinstance(offset, list | tuple) else -offset
