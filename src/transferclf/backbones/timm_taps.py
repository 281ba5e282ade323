"""Tap modules inside the networks of timm: their outputs, pooled, side by side. Imports torch."""

from __future__ import annotations

import difflib
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from transferclf._checks import refuse
from transferclf.backbones.timm_network import Features, Network, Size, create, features_of
from transferclf.exceptions import NetworkError

if TYPE_CHECKING:
    from transferclf.graphs.pooling import Pooling

# With two images, the first axis of an output shows whether it is that of the images.
_N_IMAGES = 2


class Tap(NamedTuple):
    """A module by its name, the form of its output, its pooling, and its number of features."""

    layer: str
    form: Features
    pooling: Pooling
    width: int


class TappedNetwork(Network):
    """A model of timm from pixels (n, h, w, 3) to the pooled outputs of some of its modules."""

    def __init__(self, model: torch.nn.Module, size: Size, taps: tuple[Tap, ...]) -> None:
        super().__init__(model, size)
        self.taps = {tap.layer: tap for tap in taps}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return rows (n, d), the features of all taps side by side."""
        rows: dict[str, torch.Tensor] = {}

        def keep(layer: str, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
            tap = self.taps[layer]
            # Operations that follow may write into the output.
            rows[layer] = pooled(output, tap.form, tap.pooling).clone()
            if len(rows) == len(self.taps):
                raise _AllTappedError

        # The modules after the last tap are not needed.
        with _hooked(self.model, tuple(self.taps), keep), suppress(_AllTappedError):
            self.model.forward_features(pixels.permute(0, 3, 1, 2))
        return torch.cat([rows[layer] for layer in self.taps], dim=1)


class _AllTappedError(Exception):
    """Ends a pass through a model after the last tapped module."""


@contextmanager
def _hooked(
    model: torch.nn.Module, layers: tuple[str, ...], hook: Callable[..., None]
) -> Iterator[None]:
    """Call `hook(layer, module, inputs, output)` after each call of one of these modules."""
    with ExitStack() as stack:
        for layer in layers:
            part = functools.partial(hook, layer)
            stack.enter_context(model.get_submodule(layer).register_forward_hook(part))
        yield


def pooled(output: torch.Tensor, form: Features, pooling: Pooling) -> torch.Tensor:
    """Return rows (n, d) of the output of a module, as `pool_array` makes them."""
    if form.axes == "nd":
        return output
    if form.axes == "nchw":
        output = output.permute(0, 2, 3, 1)
    tokens = output if form.axes == "ntc" else output.flatten(1, 2)
    cls = tokens[:, : form.cls_tokens].flatten(1)
    patches = tokens[:, form.cls_tokens + form.other_tokens :]
    if pooling == "cls":
        return cls
    if pooling == "flatten":
        return torch.cat([cls, patches.flatten(1)], dim=1)
    if pooling == "max":
        return patches.amax(dim=1)
    average = patches.mean(dim=1)
    return torch.cat([cls, average], dim=1) if pooling == "cls+avg" else average


@functools.lru_cache(maxsize=16)
def taps_of(
    name: str, size: Size, layers: tuple[str, ...], pooling: Pooling | Literal["auto"]
) -> tuple[Tap, ...]:
    """Return the taps of a model by the shapes of a pass without numbers.

    Raises NetworkError for a name of no module and for an output of another form, and
    InvalidParameterError if `pooling` needs a class token that is not there.
    """
    outputs: dict[str, list[object]] = {layer: [] for layer in layers}

    def keep(layer: str, module: torch.nn.Module, inputs: object, output: object) -> None:
        outputs[layer].append(output)

    with torch.device("meta"):
        model = create(name, size).eval()
        _check_names(name, model, layers)
        with torch.inference_mode(), _hooked(model, layers, keep):
            last = model.forward_features(torch.empty(_N_IMAGES, 3, *size))
    known = _Known(name, size, model, last, features_of(name, size))
    return tuple(known.tap(layer, outputs[layer], pooling) for layer in layers)


def _check_names(name: str, model: torch.nn.Module, layers: tuple[str, ...]) -> None:
    names = [one for one, _ in model.named_modules(remove_duplicate=False) if one]
    for layer in layers:
        if layer not in names:
            outer = [one for one, _ in model.named_children()]
            near = difflib.get_close_matches(layer, names, n=3) or outer
            raise NetworkError(
                f"layer={layer!r} is no module of 'timm:{name}'; there are, among others, "
                f"{', '.join(map(repr, near))}."
            )


class _Known(NamedTuple):
    """All that tells the form of an output: the model, and its features before the head."""

    name: str
    size: Size
    model: torch.nn.Module
    last: object
    features: Features | None

    def tap(self, layer: str, outputs: list[object], pooling: Pooling | Literal["auto"]) -> Tap:
        """Return the tap of a module that gave these outputs in one pass."""
        if len(outputs) != 1:
            raise self._error(layer, f"is called {len(outputs)} times before the head, not once")
        [output] = outputs
        if not isinstance(output, torch.Tensor):
            raise self._error(layer, f"gives a {type(output).__name__}, not one tensor")
        form = self._form(layer, tuple(output.shape))
        if pooling == "auto":
            is_own = form.cls_tokens and getattr(self.model, "global_pool", None) == "token"
            pooling = "cls" if is_own else "avg"
        if "cls" in pooling and form.axes != "nd" and not form.cls_tokens:
            refuse(
                "pooling",
                f"another for layer={layer!r} of 'timm:{self.name}', which has no class token",
                pooling,
            )
        return Tap(layer, form, pooling, pooled(output, form, pooling).shape[1])

    def _form(self, layer: str, shape: tuple[int, ...]) -> Features:
        if len(shape) not in (2, 3, 4) or shape[0] != _N_IMAGES:
            found = f"gives an array of shape {shape} for {_N_IMAGES} images"
            raise self._error(layer, f"{found}, not maps, tokens or vectors")
        if len(shape) == 2:
            return Features("nd")
        return self._map(shape) if len(shape) == 4 else self._tokens(layer, shape)

    def _map(self, shape: tuple[int, ...]) -> Features:
        """Return where a map has its channels: its sides have the ratio of those of the image."""

        def skew(height: int, width: int) -> float:
            return abs(math.log((height / self.size[0]) / (width / self.size[1])))

        skews = {"nchw": skew(*shape[2:]), "nhwc": skew(*shape[1:3])}
        is_last = self.features is not None and self.features.axes == "nhwc"
        # If both are possible, it is as the features of the model are.
        return Features(min(skews, key=lambda axes: (skews[axes], (axes == "nhwc") != is_last)))

    def _tokens(self, layer: str, shape: tuple[int, ...]) -> Features:
        """Return which tokens are no patches, by the numbers of those before the head."""
        _, n_cls, n_others = self.features or Features("")
        in_tokens = self.features is not None and self.features.axes == "ntc"
        n_last = self.last.shape[1] if in_tokens and isinstance(self.last, torch.Tensor) else 0
        n_tokens, n_channels = shape[1:]
        if n_tokens == n_last:
            return Features("ntc", n_cls, n_others)
        if n_channels == n_last:
            raise self._error(layer, "has its channels before its tokens")
        n_prefix = n_cls + n_others if in_tokens else getattr(self.model, "num_prefix_tokens", 0)
        if n_prefix and n_tokens != n_last - n_prefix:
            message = f"gives {n_tokens} tokens, and it is not known which are those of patches"
            raise self._error(layer, message)
        return Features("ntc")

    def _error(self, layer: str, message: str) -> NetworkError:
        return NetworkError(
            f"layer={layer!r} of 'timm:{self.name}' {message}: name another module, such as a "
            "block or a stage."
        )
