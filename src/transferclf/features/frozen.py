"""The frozen part of a network, named before it is built.

The digest of a `Prefix` is part of the key of every stored activation. It is computed without
Keras. The network is built and compiled only if an activation is missing. All equal prefixes in a
process then share it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf._quiet import import_keras
from transferclf.backbones.preprocessing import Preprocessing, preprocessing_of, scale_array
from transferclf.backbones.record import Backbone
from transferclf.backbones.weights import build_backbone
from transferclf.engines.engine import Function, Precision
from transferclf.engines.registry import engine_for
from transferclf.exceptions import NetworkError, warn
from transferclf.graphs.digests import architecture_digest, values_digest
from transferclf.graphs.isolation import check_not_forked, undisturbed
from transferclf.graphs.pooling import pool_array

if TYPE_CHECKING:
    import keras

    from transferclf.engines.forward import Forward
    from transferclf.graphs.costs import CutFacts
    from transferclf.graphs.pooling import Pooling
    from transferclf.images.geometry import Sampling

# To be raised when the same parameters come to mean another function of the pixels.
FORMAT = 3

# Number of compiled networks that are kept. A grid over backbones uses several in turn.
FORWARDS_KEPT = 4


@dataclass(frozen=True)
class Prefix:
    """A frozen function from pixels to features, or to the activations at a cut.

    The fields are the checked parameters of the estimators, with these differences. `model` is the
    user's own model, and `weights` is ignored if there is one. `size` is (height, width). `layers`
    are tapped; () is the output of the backbone. If `trainable_layers` is not 0, the prefix ends in
    the flattened activations at that cut, and :meth:`tail` continues from there.
    """

    backbone: Backbone
    weights: str | Path | None
    seed: int
    size: tuple[int, int]
    preprocessing: str | Preprocessing
    pooling: Pooling
    layers: tuple[str, ...] = ()
    model: keras.Model | None = None
    trainable_layers: int | str = 0
    engine: str = "auto"
    precision: Precision = "float32"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that determines the features of an image of this size."""
        is_own, is_float32 = self.model is not None, self.precision == "float32"
        is_float32 &= self.backbone.is_float32
        network = ["model", self.architecture] if is_own else self.backbone.facts()
        facts = {
            "format": FORMAT,
            "network": [*network, self.weights_digest],
            "size": self.size,
            "preprocessing": self._preparation,
            # Pooling comes after the cut.
            "ends": ["cut", self.trainable_layers] if self.is_cut else [self.pooling, self.layers],
            # Engines agree to the rounding of float32. At a lower precision they do not.
            "rounding": None if is_float32 else [self._chosen, self.precision],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def __getstate__(self) -> dict[str, object]:
        # Another installation computes its own digest. The digest of the weights is pickled, so
        # that the other installation notices different weights.
        left_out = {"digest"}
        # Another version may describe the same model differently. Therefore the description is
        # pickled only for a model that was changed since fit, so that the change is noticed.
        if self.model is not None and not self._has_other_architecture():
            left_out.add("architecture")
        state = {name: value for name, value in self.__dict__.items() if name not in left_out}
        if self.model is not None:
            from transferclf.graphs.copying import travelling

            state["model"] = travelling(self.model)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        if state["model"] is not None:
            from transferclf.graphs.copying import arrived

            state = state | {"model": arrived(state["model"])}
        self.__dict__.update(state)

    @property
    def _preparation(self) -> str | dict[str, object]:
        known = self.preprocessing
        return known.facts() if isinstance(known, Preprocessing) else known

    @property
    def sampling(self) -> Sampling:
        """How images get the size of the network."""
        return preprocessing_of(self.preprocessing).sampling

    @property
    def tokens(self) -> tuple[int, int]:
        """The numbers of class tokens and of others that are no patches."""
        return self.backbone.cls_tokens, self.backbone.other_tokens

    @property
    def is_cut(self) -> bool:
        """Whether layers of the backbone are left to be trained."""
        return self.trainable_layers != 0

    @property
    def is_empty(self) -> bool:
        """Whether the whole backbone is trained, so that the cut is at the pixels."""
        return self.trainable_layers == "all"

    @property
    def is_scratch(self) -> bool:
        """Whether the whole network is trained from random weights."""
        return self.is_empty and self.weights is None and self.model is None

    @cached_property
    def weights_digest(self) -> str:
        """Identifies the weights as they were when this was first computed."""
        return self._weights_now()

    @cached_property
    def architecture(self) -> str:
        """Identifies the layers of the user's own model as they were when this was computed."""
        return "" if self.model is None else architecture_digest(self.model)

    def expect_weights(self, digest: str) -> None:
        """Pin the expected digest of the weights; another one raises when they are used."""
        self.__dict__["weights_digest"] = digest

    def _has_other_architecture(self) -> bool:
        """Whether the user's own model has changed since `architecture` was computed."""
        known = self.__dict__.get("architecture")
        return bool(known) and known != architecture_digest(self.model)

    def _weights_now(self) -> str:
        if self.model is not None:
            return values_digest(self.model)
        return self.backbone.weights_digest(self.weights, self.size, self.seed)

    @property
    def is_keras(self) -> bool:
        """Whether the network is a Keras model, which has layers and can be built."""
        return self.backbone.kind == "keras"

    @property
    def _chosen(self) -> str:
        """The name of the engine that is tried first, never "auto"."""
        shape = (*self.size, 3) if self.is_keras else None
        return engine_for(self.engine, self.backbone.kind, self.precision, shape).name

    @property
    def _allowed(self) -> str:
        # In bfloat16 the key has the engine, before the network is built: no other may take over.
        return self.engine if self.precision == "float32" else self._chosen

    @property
    def engine_used(self) -> str:
        """The name of the engine that runs this part or, before it is compiled, will be tried."""
        if self.is_scratch:
            return "keras"  # which trains the network
        network = self.whole() if self.is_empty else self
        return _engines_used.get(network._key_of("prefix")) or network._chosen

    def forward(self) -> Forward:
        """Return the compiled network; built once for all equal prefixes in this process."""
        return self._kept("prefix", self.build if self.is_keras else None)

    def tail_forward(self) -> Forward:
        """Return the layers after the cut, compiled as they are before any training."""
        return self._kept(f"tail {self.pooling}", self.tail)

    def _key_of(self, part: str) -> tuple[str, ...]:
        return self.digest, self.engine, self.precision, part

    def _kept(self, part: str, build: Callable[[], keras.Model] | None) -> Forward:
        key = self._key_of(part)
        check_not_forked()
        with _forwards_lock:
            if key not in _forwards:
                _forwards[key] = self._compiled(build)
                _engines_used[key] = _forwards[key].engine
            _forwards.move_to_end(key)
            while len(_forwards) > FORWARDS_KEPT:
                _forwards.popitem(last=False)
            return _forwards[key]

    def _compiled(self, build: Callable[[], keras.Model] | None) -> Forward:
        """Return a compiled Keras model, or the backbone itself if it is no Keras model."""
        from transferclf.engines.forward import Forward, compile_forward

        if build is not None:
            with undisturbed():
                return compile_forward(build(), self._allowed, self.precision)
        function, engine = self._function()

        def rows(images: np.ndarray) -> np.ndarray:
            activations = function(scale_array(images, self.preprocessing))
            return pool_array(activations, self.pooling, self.tokens)

        return Forward(rows, engine)

    def _function(self) -> tuple[Function, str]:
        """Return a compiled backbone that is no Keras model, and the name of its engine."""
        from transferclf.engines.forward import compile_network

        network, kind = self.network(), self.backbone.kind
        return compile_network(network, self._allowed, self.precision, kind)

    def build(self) -> keras.Model:
        """Return a new, flat Keras model from pixels between 0 and 255 to rows (n, d).

        The rows are features, or the activations at the cut. Raises NetworkError if the network is
        no Keras model.
        """
        if not self.is_keras:
            raise NetworkError(
                f"{self.backbone.name!r} is {self.backbone.kind_in_words} and no Keras model. "
                "There is no model_ of it, and nothing that needs one, such as Grad-CAM and export."
            )
        import_keras()
        import keras

        from transferclf.graphs.cutting import cut
        from transferclf.graphs.rows import as_rows, side_by_side

        with undisturbed():
            network = self._flat_network()
            if self.is_cut:
                outputs = as_rows(cut(network, self.trainable_layers).prefix.outputs)
            else:
                outputs = side_by_side(self._features(network))
            return keras.Model(network.inputs[0], outputs, name=self.backbone.plain_name)

    def tail(self) -> keras.Model:
        """Return a new Keras model from the rows (n, d) at the cut to features.

        If the prefix is empty, its input is pixels (n, h, w, 3). Its layers are copies that may be
        trained.
        """
        import_keras()
        import keras

        from transferclf.graphs.copying import copied
        from transferclf.graphs.cutting import cut
        from transferclf.graphs.rows import on_rows, pool, side_by_side

        if self.is_empty:
            return copied(self.whole().build())
        with undisturbed():
            suffix = cut(self._flat_network(), self.trainable_layers).suffix
            features = [pool(tensor, self.pooling, self.tokens) for tensor in suffix.outputs]
            rows, outputs = on_rows(keras.Model(suffix.inputs, features))
            features = side_by_side(outputs)
            tail = copied(keras.Model(rows, features, name=f"{self.backbone.plain_name}_tail"))
        if not tail.weights:
            fixed = [it.name for it in suffix.layers if not isinstance(it, keras.layers.InputLayer)]
            warn(
                f"trainable_layers={self.trainable_layers!r} trains nothing of "
                f"{self.backbone.name!r}: {', '.join(fixed)} have no weights. Set a larger number, "
                "or the name of a block."
            )
        return tail

    def widths(self) -> list[int]:
        """Return how many features each tapped layer gives; builds the network."""
        if not self.is_keras:
            blank = np.zeros((1, *self.size, 3), np.float32)
            return list(self.backbone.widths(self.size)) or [self.forward()(blank).shape[1]]
        with undisturbed():
            return [features.shape[-1] for features in self._features(self._flat_network())]

    def map_shape(self) -> tuple[int, ...]:
        """Return the shape that the backbone ends in, for one image; builds the network once.

        Tokens that are no patches and no class tokens are left out.
        """
        if self.digest not in _map_shapes:
            shape = self._map_shape()
            is_tokens = len(shape) == 2
            others = self.backbone.other_tokens if is_tokens else 0
            _map_shapes[self.digest] = (shape[0] - others, *shape[1:])
        return _map_shapes[self.digest]

    def _map_shape(self) -> tuple[int, ...]:
        name = self.backbone.name
        if not self.is_keras:
            blank = scale_array(np.zeros((1, *self.size, 3), np.float32), self.preprocessing)
            return tuple(self._function()[0](blank).shape[1:])
        with undisturbed():
            outputs = self._flat_network().outputs
        if len(outputs) > 1:
            raise NetworkError(
                f"head needs a network with one output. {name!r} has {len(outputs)}: leave "
                "head=None, or make a keras.Model with one of them."
            )
        shape = tuple(outputs[0].shape[1:])
        if None in shape:
            raise NetworkError(f"expected {name!r} to end in maps of a fixed size, got {shape}")
        return shape

    def at_cut(self) -> CutFacts:
        """Return the shapes of activations at the cut, and the cost; builds the network once."""
        if self.digest not in _cuts:
            with undisturbed():
                from transferclf.graphs.costs import CutFacts
                from transferclf.graphs.cutting import cut

                _cuts[self.digest] = CutFacts.of(cut(self._flat_network(), self.trainable_layers))
        return _cuts[self.digest]

    def whole(self) -> Prefix:
        """Return the same network without a cut, pinned to the same weights."""
        return self.changed(trainable_layers=0)

    def changed(self, **fields: Any) -> Prefix:
        """Return the same network with another cut or engine, pinned to the same weights."""
        other = dataclasses.replace(self, **fields)
        other.__dict__.update(weights_digest=self.weights_digest, architecture=self.architecture)
        return other

    def _features(self, network: keras.Model) -> list[keras.KerasTensor]:
        """Return the pooled outputs of the tapped layers, or of the network if none is tapped."""
        from transferclf.graphs.rows import pool
        from transferclf.graphs.walking import nodes_in_order

        by_name = {node.operation.name: node.outputs[0] for node in nodes_in_order(network)}
        for name in self.layers:
            if name not in by_name:
                near = difflib.get_close_matches(name, by_name, n=3) or list(by_name)[-5:]
                raise NetworkError(
                    f"layer={name!r} is no layer of {network.name!r}; there are, among others, "
                    f"{', '.join(map(repr, near))}."
                )
        tapped = [by_name[name] for name in self.layers] or network.outputs
        return [pool(tensor, self.pooling, self.tokens) for tensor in tapped]

    def _flat_network(self) -> keras.Model:
        """Return the model from pixels to the output of the backbone, without nested models."""
        from transferclf.features.flat import flat_network

        return flat_network(self.network(), self.size, self.preprocessing)

    def network(self) -> keras.Model:
        """Return the backbone with its weights: the user's own model, or a new one.

        Raises NetworkError if the weights or layers have changed since they were pinned.
        """
        # Features of a changed network must not be stored under the key of the old one. A head
        # that was fitted to the old features must not get them either.
        if self._weights_now() != self.weights_digest:
            raise NetworkError(
                f"The weights of {self.backbone.name!r} are not those that it was fitted with: "
                "fit again, or put them back. Train a copy of a model further, not the model."
            )
        if self._has_other_architecture():
            raise NetworkError(
                f"The layers of {self.backbone.name!r} are not those that it was fitted with: "
                "fit again. Change a copy of a model, not the model."
            )
        return self.model if self.model is not None else self._new_backbone()

    def _new_backbone(self) -> keras.Model | Function:
        if not self.is_keras:
            return self.backbone.network(self.weights, self.size, self.seed)
        return build_backbone(self.backbone, self.weights, self.size, self.seed)


_forwards: OrderedDict[tuple[str, ...], Forward] = OrderedDict()
_forwards_lock = threading.RLock()
_engines_used: dict[tuple[str, ...], str] = {}  # also of networks that were dropped

# The shapes of the outputs of networks, and facts of cuts, by the digests of their prefixes.
_map_shapes: dict[str, tuple[int, ...]] = {}
_cuts: dict[str, CutFacts] = {}
