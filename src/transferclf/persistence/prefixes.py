"""The network of an estimator as facts: its name, and where its weights come from.

Weights are in the archive only where they could not be had again by name. An archive holds no code:
a network of the user's own is handed in when it is loaded, and recognised by its weights.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from transferclf.backbones.applications import as_for_imagenet
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.preprocessing import PREPROCESSINGS
from transferclf.backbones.record import POOLINGS, Backbone
from transferclf.backbones.registry import get_backbone
from transferclf.backbones.weights import (
    PRETRAINED,
    build_backbone,
    has_imagenet_graph,
    pretrained_file,
)
from transferclf.engines.engine import PRECISIONS
from transferclf.engines.registry import check_engine, engine_names
from transferclf.exceptions import (
    ArchiveError,
    InvalidParameterError,
    NetworkError,
    WeightsError,
)
from transferclf.features.choosing import choose_prefix
from transferclf.features.frozen import Prefix
from transferclf.graphs.digests import file_digest, values_digest
from transferclf.persistence.archive import StoredArrays
from transferclf.persistence.facts import MAX_TEXT, Facts, as_archive_error
from transferclf.persistence.parameters import fields_of, restored_fields

if TYPE_CHECKING:
    import keras

# Larger than images that networks are used with.
MAX_SIDE = 2**14

# How much features of one image may differ for the same network, as a share of the largest feature.
# Another version of Keras adds up in another order, and bfloat16 has three digits.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


def prefix_facts(
    prefix: Prefix, arrays: dict[str, np.ndarray], include_weights: bool
) -> dict[str, Any]:
    """Return facts for `restored_prefix`, and add arrays to `arrays`."""
    return {
        "backbone": _backbone_facts(prefix),
        "weights": _weights_facts(prefix, arrays, include_weights),
        "size": list(prefix.size),
        "preprocessing": prefix.preprocessing,
        "pooling": prefix.pooling,
        "layers": list(prefix.layers),
        "seed": prefix.seed,
        "trainable_layers": prefix.trainable_layers,
        "engine": prefix.engine,
        "precision": prefix.precision,
    }


def _backbone_facts(prefix: Prefix) -> dict[str, Any]:
    convnet = _convnet_of(prefix.backbone)
    if convnet is not None:
        return {"convnet": fields_of(convnet)}
    return {"own" if _is_own(prefix) else "registered": prefix.backbone.name}


def _convnet_of(record: Backbone) -> ConvNet | None:
    builder = getattr(record.builder, "__self__", None)
    return builder if isinstance(builder, ConvNet) else None


def _is_own(prefix: Prefix) -> bool:
    """Whether it is code of the user's: a model, a builder or a function of arrays."""
    return prefix.backbone.builder == "" or not prefix.is_keras


def _own_digest(prefix: Prefix) -> str:
    """The weights of a model, or the version of a function, which is "" where it has none."""
    return values_digest(prefix.model) if prefix.is_keras else prefix.weights_digest


def _weights_facts(
    prefix: Prefix, arrays: dict[str, np.ndarray], include_weights: bool
) -> dict[str, Any]:
    if prefix.is_scratch:
        return {"kind": "trained"}  # all of them, so that the head has them
    if _is_own(prefix):
        prefix.network()  # raises if it was changed since fit
        arrays["backbone/probe"] = _probe(prefix)
        return {"kind": "own", "digest": _own_digest(prefix)}
    if not include_weights and prefix.model is None and prefix.weights in PRETRAINED:
        return {"kind": "file", "name": prefix.weights, "digest": prefix.weights_digest}
    model = prefix.network()
    if not include_weights and prefix.model is None and prefix.weights is None:
        return {"kind": "seed", "digest": values_digest(model)}
    values = model.get_weights()
    arrays |= {f"backbone/{number}": value for number, value in enumerate(values)}
    is_imagenet = has_imagenet_graph(prefix.backbone, prefix.weights, prefix.size)
    return {"kind": "values", "count": len(values), "imagenet_graph": is_imagenet}


def _probe(prefix: Prefix) -> np.ndarray:
    """Return the features of one image that is always the same."""
    height, width = prefix.size
    pixels = np.arange(height * width * 3, dtype=np.float32) * 37 % 256
    return prefix.whole().forward()(pixels.reshape(1, height, width, 3))[0]


def restored_prefix(facts: Facts, arrays: StoredArrays, backbone: Any) -> Prefix:
    """Return the network that an archive describes.

    `backbone` is the model that the user has handed in, or None. Raises ArchiveError if there is no
    such network or the arrays are not its weights, InvalidParameterError if it has to be handed in,
    and WeightsError if the weights on this machine are others.
    """
    network, weights = facts.part("backbone"), facts.part("weights")
    words = _words(facts)
    check_engine(words["engine"], words["precision"])
    kind = weights.text("kind", ("trained", "file", "seed", "values", "own"))
    if backbone is not None and kind != "own":
        raise InvalidParameterError(
            "backbone is for networks of your own, and this one is rebuilt without: leave it out."
        )
    if kind == "own":
        return _own(network, weights, arrays, words, backbone)
    named = _named(network, kind)
    prefix = _chosen(named, weights.text("name", PRETRAINED) if kind == "file" else None, words)
    if prefix.is_scratch != (kind == "trained") and kind != "values":
        raise ArchiveError("only networks that were trained as a whole have no weights.")
    if kind == "file":
        prefix = _with_file(prefix, weights.text("digest"))
    elif kind == "seed":
        _check_seed(prefix, weights.text("digest"))
    elif kind == "values":
        prefix = _with_values(prefix, weights, arrays)
    weights.finish()
    return prefix


def _words(facts: Facts) -> dict[str, Any]:
    """Return the arguments of `choose_prefix` that an archive holds as they are."""
    words = {
        "image_size": facts.wholes("size", 1, MAX_SIDE),
        "preprocessing": facts.text("preprocessing", PREPROCESSINGS),
        "pooling": facts.text("pooling", POOLINGS),
        "layers": facts.texts("layers"),
        "seed": facts.whole("seed", 0),
        "trainable_layers": _trainable_layers(facts),
        "engine": facts.text("engine", engine_names()),
        "precision": facts.text("precision", PRECISIONS),
    }
    facts.finish()
    return words


def _trainable_layers(facts: Facts) -> int | str:
    value = facts.take("trainable_layers")
    if isinstance(value, str) and 0 < len(value) < MAX_TEXT:
        return value
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_TEXT**2:
        raise facts.wrong("a whole number or a name", value, "trainable_layers")
    return value


def _named(network: Facts, kind: str) -> str | ConvNet:
    """Return a network for `choose_prefix`; never one that code of the user's builds."""
    if kind == "trained" and "convnet" in network.names():
        convnet = restored_fields(ConvNet, network.part("convnet"))
        network.finish()
        return convnet
    name = network.text("registered")
    network.finish()
    with as_archive_error():
        record = get_backbone(name)
    if record.name != name or not (record.is_bundled or record.is_keras_application):
        raise ArchiveError(f"{name!r} is no backbone that this package or Keras builds.")
    return name


def _chosen(named: Any, weights: str | None, words: dict[str, Any]) -> Prefix:
    if isinstance(named, ConvNet):
        if words["trainable_layers"] != "all":
            raise ArchiveError("a ConvNet is trained as a whole: trainable_layers must be 'all'.")
        weights = "pretrained"  # the default of the estimators; a ConvNet ignores it
    with as_archive_error("there is no such network: "):
        return choose_prefix(named, weights=weights, **words)


def _with_file(prefix: Prefix, digest: str) -> Prefix:
    """Return the prefix; weights with another digest are an error from now on."""
    file = pretrained_file(prefix.backbone, prefix.size)
    if file is not None and file_digest(file) != digest:
        raise WeightsError(
            f"The weights of {prefix.backbone.name!r} in {file} are not those that the model was "
            "fitted with. Take the version of the package that the archive names, or fit again; "
            "save_model(..., include_weights=True) puts them into the archive."
        )
    # A file that is downloaded later is compared with the digest then.
    prefix.expect_weights(digest)
    return prefix


def _check_seed(prefix: Prefix, digest: str) -> None:
    if values_digest(prefix.network()) != digest:
        raise WeightsError(
            f"The random weights of {prefix.backbone.name!r} are not those that the model was "
            "fitted with: this version of Keras draws others. Take the version that the archive "
            "names; save_model(..., include_weights=True) puts them into the archive."
        )


def _with_values(prefix: Prefix, facts: Facts, arrays: StoredArrays) -> Prefix:
    """Return the prefix with a model that has the weights of the archive."""
    count, is_imagenet = facts.whole("count", 1), facts.flag("imagenet_graph")
    expected = prefix.backbone.parameters
    if expected is None or not expected <= arrays.n_numbers:
        raise ArchiveError(f"expected {expected} weights of {prefix.backbone.name!r} at least.")
    model = build_backbone(prefix.backbone, None, prefix.size, seed=0)
    if is_imagenet:
        model = as_for_imagenet(model, prefix.backbone)
    _set_weights(model, arrays.take_all("backbone", count))
    weights = PRETRAINED[0] if is_imagenet else None
    return dataclasses.replace(prefix, model=model, weights=weights, seed=0)


def _set_weights(model: keras.Model, values: list[np.ndarray]) -> None:
    from transferclf.graphs.copying import set_weights

    shapes = [tuple(variable.shape) for variable in model.weights]
    if [value.shape for value in values] != shapes:
        raise ArchiveError(f"the arrays are no weights of {model.name!r}: their shapes are others.")
    set_weights(model, values)


def features_below(prefix: Prefix, arrays: StoredArrays) -> int:
    """Return how many features the network ends in.

    ArchiveError is raised if what is built above the cut would be larger than the archive.
    """
    convnet = _convnet_of(prefix.backbone)
    if convnet is None:
        _check_room(prefix.backbone.parameters if prefix.is_empty else 0, 0, arrays)
        return int(prefix.whole().build().outputs[0].shape[-1])
    _check_room(convnet.n_kernel_weights(*prefix.size, 3), convnet.n_kernels, arrays)
    return convnet.n_features


def _check_room(n_weights: int | None, n_layers: int, arrays: StoredArrays) -> None:
    if (n_weights or 0) > arrays.n_numbers or n_layers > arrays.n_arrays:
        raise ArchiveError(
            f"expected {n_weights:,} numbers or more, the weights of the network. Got "
            f"{arrays.n_numbers:,} in {arrays.n_arrays} arrays instead."
        )


def _own(
    network: Facts, weights: Facts, arrays: StoredArrays, words: dict[str, Any], backbone: Any
) -> Prefix:
    """Return the prefix of the model that was handed in, or of a registered builder."""
    name, digest = network.text("own"), weights.text("digest")
    network.finish()
    weights.finish()
    if isinstance(backbone, str | ConvNet):
        raise InvalidParameterError(
            f"backbone must be a keras.Model. Got {type(backbone).__name__} instead."
        )
    known = _registered(name) if backbone is None else backbone
    try:
        prefix = choose_prefix(known, weights="pretrained", **words)
    except NetworkError as error:
        raise InvalidParameterError(
            f"backbone must be the network {name!r} that the model was fitted with: {error}"
        ) from error
    # The model may have another name each time it is built, but names of features must stay.
    prefix = dataclasses.replace(prefix, backbone=dataclasses.replace(prefix.backbone, name=name))
    if _own_digest(prefix) != digest or not _gives(prefix, arrays):
        raise InvalidParameterError(
            f"backbone must be the network {name!r} that the model was fitted with. Got one with "
            "other weights or other features instead."
        )
    prefix.expect_weights(digest)
    return prefix


def _registered(name: str) -> str:
    try:
        record = get_backbone(name)
    except InvalidParameterError:
        record = None
    if record is None or record.is_bundled or record.is_keras_application:
        raise InvalidParameterError(
            f"the model was fitted with a network of your own, {name!r}, which an archive cannot "
            "hold: hand it in, load_model(path, backbone=MODEL), or register_backbone it first."
        )
    return record.name


def _gives(prefix: Prefix, arrays: StoredArrays) -> bool:
    """Whether the network gives the same features as when it was saved."""
    then = arrays.take("backbone/probe", (None,))
    now = _probe(prefix)
    tolerance = TOLERANCES[prefix.precision] * np.abs(then).max(initial=0)
    return now.shape == then.shape and bool(np.abs(now - then).max(initial=0) <= tolerance)
