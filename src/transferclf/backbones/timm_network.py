"""Build the networks of timm, with weights from a file or from a seed. Imports torch."""

from __future__ import annotations

import functools
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from transferclf.exceptions import NetworkError, WeightsError

Size = tuple[int, int]
State = dict[str, torch.Tensor]

# Under these names a checkpoint of a training holds the weights, the averaged ones first.
_IN_CHECKPOINTS = ("state_dict_ema", "model_ema", "state_dict", "model")

# So many names of weights are in an error.
_NAMED = 4


class Features(NamedTuple):
    """The features of a model before its head.

    `axes` is "nchw" or "nhwc" of maps, "ntc" of tokens and "nd" of vectors. The first tokens are
    class tokens, then come others, then those of the patches.
    """

    axes: str
    cls_tokens: int = 0
    other_tokens: int = 0


class Network(torch.nn.Module):
    """A model of timm from pixels (n, h, w, 3) to the features that it gives to a classifier."""

    def __init__(self, model: torch.nn.Module, size: Size) -> None:
        super().__init__()
        self.model = model
        self.image_size = size

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return rows (n, d)."""
        return self.model(pixels.permute(0, 3, 1, 2))


class UnpooledNetwork(Network):
    """A model of timm from pixels to maps (n, h, w, c) or tokens, class token and patches."""

    def __init__(self, model: torch.nn.Module, size: Size, features: Features) -> None:
        super().__init__(model, size)
        self.features = features

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return maps or tokens, without tokens that are neither."""
        result = self.model.forward_features(pixels.permute(0, 3, 1, 2))
        axes, n_cls, n_others = self.features
        if axes == "nchw":
            return result.permute(0, 2, 3, 1)
        if n_others:
            return torch.cat([result[:, :n_cls], result[:, n_cls + n_others :]], dim=1)
        return result


@functools.lru_cache(maxsize=16)
def features_of(name: str, size: Size) -> Features | None:
    """Return the features of a model, or None if they have no form that can be pooled.

    Raises a RuntimeError or AssertionError if the model cannot take images of this size.
    """
    with torch.device("meta"):  # shapes without numbers
        model = create(name, size).eval()
        with torch.inference_mode():
            result = model.forward_features(torch.empty(1, 3, *size))
    if not isinstance(result, torch.Tensor) or result.ndim not in (2, 3, 4):
        return None
    if result.ndim == 2:
        return Features("nd")
    if result.ndim == 4:
        # Hybrids and mixers of windows keep the channels last.
        is_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        is_last |= result.shape[3] == model.num_features != result.shape[1]
        return Features("nhwc" if is_last else "nchw")
    n_cls = int(getattr(model, "cls_token", None) is not None)
    n_prefix = int(getattr(model, "num_prefix_tokens", n_cls))
    n_cls = min(n_cls, n_prefix)
    if result.shape[1] <= n_prefix:  # no patches
        return None
    return Features("ntc", n_cls, n_prefix - n_cls)


def create(name: str, size: Size, **arguments: object) -> torch.nn.Module:
    """Return a model of timm without its classification layer, for images of a size."""
    config = timm.models.get_pretrained_cfg(name)
    if config.fixed_input_size and tuple(config.input_size[1:]) != size:
        arguments["img_size"] = size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated functions of torch that timm calls
        return timm.create_model(name, num_classes=0, **arguments)


def patch_of(name: str, size: Size) -> tuple[int, int] | None:
    """Return height and width of the patches of a transformer; None for other networks."""
    with torch.device("meta"):
        embedding = getattr(create(name, size), "patch_embed", None)
    patch = getattr(embedding, "patch_size", None)
    if patch is None:
        return None
    return (patch, patch) if isinstance(patch, int) else (int(patch[0]), int(patch[1]))


def build(name: str, size: Size, file: Path | None, seed: int, is_pooled: bool) -> Network:
    """Return the network with the weights of a file, or with random ones drawn from a seed.

    Raises WeightsError if the file is no file of weights, or of another model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create(name, size) if file is None else _loaded(name, size, file)
    model.eval()
    if is_pooled:
        return Network(model, size)
    features = features_of(name, size)
    if features is None:
        raise NetworkError(f"the features of {name!r} before its head are no maps and no tokens.")
    return UnpooledNetwork(model, size, features)


def _loaded(name: str, size: Size, file: Path) -> torch.nn.Module:
    config = timm.models.get_pretrained_cfg(name)
    state = _without_head(read_weights(file), config.classifier)
    # timm renames the weights of other projects, and resizes position embeddings.
    strict = {"state_dict": state, "num_classes": 0, "label_offset": None}
    try:
        try:
            model = create(name, size, pretrained=True, pretrained_cfg_overlay=strict)
        except RuntimeError as error:
            if not _is_of_head(error, config.classifier):
                raise
            # The file has a head under another project's name. timm leaves it out.
            given = {"state_dict": state}
            model = create(name, size, pretrained=True, pretrained_cfg_overlay=given)
    except Exception as error:  # timm converts files of many projects, and fails in many ways
        raise WeightsError(
            f"The weights in {file} do not fit 'timm:{name}': {_shortened(str(error))} The file "
            f"itself is whole. Take a state dict of this very model, as timm {timm.__version__} "
            "builds it."
        ) from error
    model.pretrained_cfg.pop("state_dict", None)  # a copy of all weights
    return model


def read_weights(file: Path) -> State:
    """Return the weights of a safetensors file, or of a file of torch.save that runs no code.

    Raises WeightsError if there is no such file, or it is another or damaged.
    """
    try:
        with file.open("rb") as opened:
            is_safetensors = opened.read(9)[8:] == b"{"
        if is_safetensors:
            return dict(load_file(file))
        # Only tensors and containers are read: a pickle that calls anything else is refused.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that are refused
            content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(
            f"The weights file {file} cannot be read: {error.strerror or error}"
        ) from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{file} is no file of weights: it is a pickle that contains more than tensors and "
            "could run code when it is read. Save model.state_dict() by safetensors."
        ) from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, LookupError) as error:
        raise WeightsError(
            f"{file} is damaged, or no safetensors or torch file of weights: {error}"
        ) from error
    return _state_dict(content, file)


def _state_dict(content: object, file: Path) -> State:
    if isinstance(content, Mapping):
        inner = (content[key] for key in _IN_CHECKPOINTS if isinstance(content.get(key), Mapping))
        state = dict(next(inner, content))
        if state and all(isinstance(value, torch.Tensor) for value in state.values()):
            return {re.sub(r"^(module\.|_orig_mod\.)+", "", key): it for key, it in state.items()}
    raise WeightsError(f"{file} has no state dict, names of weights with their tensors.")


def _without_head(state: State, classifier: str | tuple[str, ...] | None) -> State:
    names = _classifiers(classifier)
    return {key: value for key, value in state.items() if key.rpartition(".")[0] not in names}


def _classifiers(classifier: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())


def _is_of_head(error: RuntimeError, classifier: str | tuple[str, ...] | None) -> bool:
    """Whether a model refused a state dict for nothing but the weights of its head."""
    found = re.search(r"Unexpected key\(s\) in state_dict: ([^\n]*)", str(error))
    if found is None or "Missing key" in str(error) or "size mismatch" in str(error):
        return False
    names = _classifiers(classifier)
    return all(key.rpartition(".")[0] in names for key in re.findall('"([^"]+)"', found[1]))


def _shortened(message: str) -> str:
    """Return the message of torch, with the first few names of each list."""
    lines = []
    for line in message.splitlines()[: _NAMED + 2]:
        parts = line.strip().split(", ")
        more = len(parts) - _NAMED
        lines.append(", ".join(parts[:_NAMED]) + (f" and {more} more." if more > 0 else ""))
    return " ".join(lines)
