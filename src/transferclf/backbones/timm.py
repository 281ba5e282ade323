"""Networks of `timm <https://huggingface.co/docs/timm>`_, which PyTorch runs.

timm is imported when one of its networks is named. Names, input sizes and preprocessing are those
of its own list; weights come from the cache of the Hugging Face hub, or from a file.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from transferclf._checks import refuse
from transferclf.backbones.preprocessing import Preprocessing
from transferclf.backbones.record import POOLINGS, Backbone, Size, Weights
from transferclf.backbones.weights import PRETRAINED
from transferclf.engines.torch import keep_triton_out
from transferclf.exceptions import (
    InvalidParameterError,
    UnknownBackboneError,
    WeightsError,
    how_to_install,
)
from transferclf.graphs.digests import file_digest, version_of

if TYPE_CHECKING:
    import torch

    from transferclf.backbones.timm_taps import Tap
    from transferclf.graphs.pooling import Pooling
    from transferclf.images.geometry import Interpolation, ResizeMode

PREFIX = "timm:"

# The files of weights on the Hugging Face hub, in the order in which timm looks for them.
_FILES = ("model.safetensors", "pytorch_model.bin")

_RESIZES: dict[str, ResizeMode] = {"center": "crop", "squash": "stretch", "border": "pad"}
_INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic")

# The beginnings of names in timm, and a Keras network of the same family that can be fine-tuned.
_KERAS = (
    ("vit_small_patch14_dinov2", "keras_hub:dinov2_small"),
    ("vit_base_patch14_dinov2", "keras_hub:dinov2_base"),
    ("vit_large_patch14_dinov2", "keras_hub:dinov2_large"),
    ("vit_giant_patch14_dinov2", "keras_hub:dinov2_giant"),
    ("vit_small_patch14_reg4_dinov2", "keras_hub:dinov2_with_registers_small"),
    ("vit_base_patch14_reg4_dinov2", "keras_hub:dinov2_with_registers_base"),
    ("vit_large_patch14_reg4_dinov2", "keras_hub:dinov2_with_registers_large"),
    ("vit_large", "keras_hub:vit_large_patch16_224_imagenet"),
    ("vit_", "keras_hub:vit_base_patch16_224_imagenet"),
    ("deit_tiny", "keras_hub:deit_tiny_distilled_patch16_224_imagenet"),
    ("deit_small", "keras_hub:deit_small_distilled_patch16_224_imagenet"),
    ("deit", "keras_hub:deit_base_distilled_patch16_224_imagenet"),
    ("convnext_small", "convnext_small"),
    ("convnext_base", "convnext_base"),
    ("convnext_large", "convnext_large"),
    ("convnext_xlarge", "convnext_xlarge"),
    ("convnext", "convnext_tiny"),
    ("mobilenetv3_small", "mobilenet_v3_small"),
    ("mobilenetv3", "mobilenet_v3_large"),
    ("mobilenetv2", "mobilenet_v2"),
    ("mobilenet", "mobilenet_v3_large"),
    ("efficientnetv2_rw_s", "efficientnet_v2_s"),
    ("efficientnet_lite", "efficientnet_lite0"),
    ("resnet101", "resnet101"),
    ("resnet152", "resnet152"),
    ("resnet", "resnet50"),
    ("densenet", "densenet121"),
    ("vgg19", "vgg19"),
    ("vgg", "vgg16"),
)


class Config(Protocol):
    """The parts of a `pretrained_cfg` of timm that say how images are prepared."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


@dataclass(frozen=True)
class TimmBackbone(Backbone):
    """A network of timm.

    `pooling="auto"` is the features that the model itself gives to its classifier. `is_pooled` says
    whether the network ends in these, or in the maps or tokens before them. If there are `layers`,
    it ends in their outputs, pooled by `pooling`.
    """

    pooling: Pooling = "auto"  # type: ignore[assignment]
    ends_in: str | None = "vector"
    is_pooled: bool = True
    layers: tuple[str, ...] = ()

    kind: ClassVar[str] = "torch"
    takes_weights: ClassVar[bool] = True
    can_be_cut: ClassVar[bool] = False

    @property
    def is_named(self) -> bool:
        """Whether its name alone says which network it is."""
        return True

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """How its output can become a vector."""
        return POOLINGS

    @property
    def model_name(self) -> str:
        """The name in timm."""
        return self.name.removeprefix(PREFIX)

    def pooled_by(self, pooling: Pooling | Literal["auto"]) -> TimmBackbone:
        """Return the record of the network that ends before its own pooling, unless it is used.

        Raises InvalidParameterError if the model has no maps and tokens, or no class token.
        """
        if pooling == "auto":
            return self
        found = _network().features_of(self.model_name, (self.image_size,) * 2)
        kinds = {"nchw": "map", "nhwc": "map", "ntc": "tokens", "nd": "vector"}
        if found is None:
            refuse("pooling", f"'auto' for {self.name!r}, which has no maps and no tokens", pooling)
        if "cls" in pooling and not found.cls_tokens:
            refuse("pooling", f"another for {self.name!r}, which has no class token", pooling)
        return dataclasses.replace(
            self, is_pooled=False, ends_in=kinds[found.axes], cls_tokens=found.cls_tokens
        )

    def tapped(
        self, layers: tuple[str, ...], pooling: Pooling | Literal["auto"], size: Size
    ) -> TimmBackbone:
        """Return the record of the network that ends in the pooled outputs of these modules.

        Raises NetworkError if one is no module whose output can be pooled, and
        InvalidParameterError if the pooling needs a class token that is not there.
        """
        tapped = dataclasses.replace(self, layers=layers, pooling=pooling)  # type: ignore[arg-type]
        tapped.widths(size)
        return tapped

    def widths(self, size: Size) -> tuple[int, ...]:
        """Return how many features each tapped module gives, without a forward pass."""
        return tuple(tap.width for tap in self._taps(size)) if self.layers else ()

    def check_size(self, size: Size) -> None:
        """Raise InvalidParameterError if the model cannot take images of this size."""
        own = (self.image_size, self.image_size)
        if size == own:
            return
        patch = _network().patch_of(self.model_name, own)
        if patch is not None and (size[0] % patch[0] or size[1] % patch[1]):
            refuse("image_size", f"whole patches of {patch[0]} x {patch[1]} pixels", size)
        try:
            _network().features_of(self.model_name, size)
        except (RuntimeError, AssertionError, ValueError, TypeError) as error:
            raise InvalidParameterError(
                f"image_size={size} is no size that {self.name!r} can take: {error} Its own is "
                f"{own}."
            ) from error

    def check_uncut(self, trainable_layers: int | str, layers: tuple[str, ...]) -> None:
        """Raise InvalidParameterError if layers are to be trained, which only Keras can."""
        if trainable_layers != 0:
            raise InvalidParameterError(
                f"trainable_layers={trainable_layers!r} fine-tunes layers of a Keras graph. "
                f"{self.name!r} is a network of PyTorch, which is used frozen: leave "
                f"trainable_layers=0, or take backbone={_nearest_in_keras(self.model_name)!r}."
            )

    def network(self, weights: Weights, size: Size, seed: int) -> torch.nn.Module:
        """Return the network with its weights, a module from pixels (n, h, w, 3)."""
        file = None if weights is None else self._file(weights)
        network = _network().build(self.model_name, size, file, seed, self.is_pooled)
        if not self.layers:
            return network
        from transferclf.backbones.timm_taps import TappedNetwork

        return TappedNetwork(network.model, size, self._taps(size))

    def facts(self) -> list[object]:
        """Return the name, the versions that determine the network, and the end of it."""
        versions = [version_of("timm"), version_of("torch")]
        return [self.name, self.kind, *versions, "pooled" if self.is_pooled else "unpooled"]

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the digest of the file, or the seed; downloads a file that is not there yet."""
        return f"random {seed}" if weights is None else file_digest(self._file(weights))

    def values_digest(self, network: torch.nn.Module) -> str:
        """Return a digest of the values of the weights of a built network."""
        digest = hashlib.sha256()
        for value in network.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _taps(self, size: Size) -> tuple[Tap, ...]:
        _timm()
        from transferclf.backbones.timm_taps import taps_of

        return taps_of(self.model_name, size, self.layers, self.pooling)

    def _file(self, weights: str | Path) -> Path:
        return _pretrained_file(self.model_name) if weights in PRETRAINED else Path(weights)


class TimmSource:
    """All networks of timm."""

    def record(self, name: str) -> TimmBackbone:
        """Return the record of a network; "resnet18" is the first of "resnet18.TAG".

        Raises UnknownBackboneError if there is none, and InvalidParameterError without timm.
        """
        return _record(name)

    def names(self) -> list[str]:
        """Return the names of all networks, with the tags of their weights."""
        names: list[str] = _timm().list_models(include_tags=True)
        return names


SOURCE = TimmSource()


@functools.lru_cache(maxsize=256)
def _record(name: str) -> TimmBackbone:
    timm = _timm()
    known = {*timm.list_models(), *SOURCE.names()}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = ", ".join(repr(PREFIX + match) for match in near)
        raise UnknownBackboneError(
            f"There is no backbone {PREFIX + name!r} in timm {version_of('timm')}"
            + (f"; did you mean {hint}?" if near else ".")
            + f" transferclf.list_backbones({PREFIX + '*'!r}) names them all."
        )
    config = timm.models.get_pretrained_cfg(name)
    architecture = name.partition(".")[0]
    return TimmBackbone(
        PREFIX + (f"{architecture}.{config.tag}" if config.tag else architecture),
        "",
        image_size=max(config.input_size[1:]),
        min_image_size=1,
        preprocessing=_preprocessing(config),
    )


def _preprocessing(config: Config) -> Preprocessing:
    """Return how timm prepares images for a model, by its `pretrained_cfg`."""
    known = (it for it in _INTERPOLATIONS if it == config.interpolation)
    return Preprocessing(
        scale=1 / 255,
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation=next(known, "bicubic"),
        # Three networks have more than 1, a border around the image, which is left out here.
        crop_fraction=min(config.crop_pct, 1.0),
        resize=_RESIZES.get(config.crop_mode, "crop"),
    )


def _pretrained_file(name: str) -> Path:
    """Return the file with the pretrained weights, which is downloaded if it is not there yet.

    Raises WeightsError if it is not there and cannot be downloaded.
    """
    import torch
    from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache

    config = _timm().models.get_pretrained_cfg(name)
    if not config.has_weights:
        raise WeightsError(f"There are no pretrained weights of '{PREFIX}{name}' in timm.")
    if not config.hf_hub_id:
        return _file_of_url(name, config.url, Path(torch.hub.get_dir(), "checkpoints"))
    repository, _, revision = config.hf_hub_id.partition("@")
    place = {"repo_id": repository, "revision": revision or None}
    files = (config.hf_hub_filename,) if config.hf_hub_filename else _FILES
    for file in files:
        found = try_to_load_from_cache(filename=file, **place)
        if isinstance(found, str):
            return Path(found)
    for file in files:
        try:
            return Path(hf_hub_download(filename=file, **place))
        except Exception as error:  # the hub and its network raise many kinds
            is_elsewhere = isinstance(error, errors.RemoteEntryNotFoundError) and file != files[-1]
            if is_elsewhere:
                continue
            raise WeightsError(
                f"The pretrained weights of '{PREFIX}{name}' are not available: "
                f"{' or '.join(files)} of the repository {repository!r} is not in "
                f"{constants.HF_HUB_CACHE}, the cache of the Hugging Face hub, and could not be "
                f"downloaded ({_first_line(error)}). Put it there (or set HF_HOME), or pass "
                "weights=PATH or weights=None."
            ) from error
    raise AssertionError("the last file is returned or raises")


def _file_of_url(name: str, url: str, folder: Path) -> Path:
    """Return the file that torch keeps of an address."""
    import torch

    file = folder / os.path.basename(url)
    if not file.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), progress=False)
        except Exception as error:  # the network raises many kinds
            raise WeightsError(
                f"The pretrained weights of '{PREFIX}{name}' are not available: {file} is not "
                f"there, and {url} could not be downloaded ({_first_line(error)}). Put the file "
                "there (or set TORCH_HOME), or pass weights=PATH or weights=None."
            ) from error
    return file


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _nearest_in_keras(name: str) -> str:
    """Return the backbone with a Keras graph that is most like a network of timm."""
    plain = name.removeprefix("tf_")
    for start, keras_name in _KERAS:
        if plain.startswith(start):
            return keras_name
    from transferclf.backbones.registry import list_backbones

    near = difflib.get_close_matches(plain.partition(".")[0], list_backbones(), n=1, cutoff=0.0)
    return near[0]


def _timm() -> ModuleType:
    """Return timm, or raise an InvalidParameterError that says how to install it."""
    missing = [name for name in ("torch", "timm", "safetensors") if find_spec(name) is None]
    if missing:
        raise InvalidParameterError(
            f"backbone='{PREFIX}...' needs {' and '.join(missing)}, which cannot be imported. "
            + how_to_install("timm")
        )
    keep_triton_out()
    import timm

    return timm


def _network() -> ModuleType:
    """Return the module that builds the networks, which imports torch."""
    _timm()
    from transferclf.backbones import timm_network

    return timm_network
