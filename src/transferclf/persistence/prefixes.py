"""The network of an estimator as facts: its name, and where its weights come from.

Weights are in the archive only if they cannot be loaded by a name. An archive holds no code: the
user passes a network of their own when the archive is loaded, and it is recognised by its weights.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from transferclf.backbones.applications import as_for_imagenet
from transferclf.backbones.convnet import ConvNet
from transferclf.backbones.onnx import onnx_backbone
from transferclf.backbones.record import POOLINGS, Backbone
from transferclf.backbones.registry import get_backbone, kind_of
from transferclf.backbones.weights import (
    PRETRAINED,
    build_backbone,
    has_imagenet_graph,
    pretrained_file,
)
from transferclf.engines.engine import PRECISIONS
from transferclf.engines.registry import check_engine, engine_names
from transferclf.exceptions import ArchiveError, InvalidParameterError, NetworkError, WeightsError
from transferclf.features.choosing import choose_prefix
from transferclf.features.frozen import Prefix
from transferclf.graphs.digests import file_digest, values_digest
from transferclf.persistence.archive import Arrays, StoredArrays
from transferclf.persistence.facts import MAX_TEXT, Facts, Written, as_archive_error, is_whole
from transferclf.persistence.parameters import (
    fields_of,
    preprocessing_facts,
    restored_fields,
    restored_preprocessing,
)

if TYPE_CHECKING:
    import keras

# Fields of a prefix that an archive holds as they are, in the order of the file.
PARAMETERS = ("size", "pooling", "layers", "seed", "trainable_layers", "engine", "precision")

# No network is used with larger images.
MAX_SIDE = 2**14

# The largest difference between features of one image by the same network, as a share of the
# largest feature. Versions of Keras sum in different orders, and bfloat16 has three digits.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}


def prefix_facts(prefix: Prefix, arrays: Arrays, include_weights: bool) -> Written:
    """Return facts for `restored_prefix`, and add arrays to `arrays`."""
    convnet = _convnet_of(prefix.backbone)
    kind = "own" if _is_own(prefix) else "registered"
    if kind == "registered" and convnet is None:
        _check_named(prefix.backbone)
    return {
        "backbone": {"convnet": fields_of(convnet)} if convnet else {kind: prefix.backbone.name},
        "weights": _weights_facts(prefix, arrays, include_weights),
        "preprocessing": preprocessing_facts(prefix.preprocessing),
    } | {name: getattr(prefix, name) for name in PARAMETERS}


def _convnet_of(record: Backbone) -> ConvNet | None:
    builder = getattr(record.builder, "__self__", None)
    return builder if isinstance(builder, ConvNet) else None


def _is_own(prefix: Prefix) -> bool:
    """Whether it is code of the user's: a model, a builder or a function of arrays."""
    is_own = prefix.backbone.builder == "" or not prefix.is_keras
    return is_own and not prefix.backbone.is_named


def _own_digest(prefix: Prefix) -> str:
    """Return the digest of a model's weights, or the version of a function ("" if it has none)."""
    return values_digest(prefix.model) if prefix.is_keras else prefix.weights_digest


def _weights_facts(prefix: Prefix, arrays: Arrays, include_weights: bool) -> Written:
    if prefix.is_scratch:
        return {"kind": "trained"}  # the head has all of them
    if _is_own(prefix):
        prefix.network()  # raises if it was changed since fit
        arrays["backbone/probe"] = _probe(prefix)
        return {"kind": "own", "digest": _own_digest(prefix)}
    if not include_weights and prefix.model is None and prefix.weights in PRETRAINED:
        return {"kind": "file", "name": prefix.weights, "digest": prefix.weights_digest}
    if not prefix.is_keras and (include_weights or prefix.weights is not None):
        raise InvalidParameterError(
            f"an archive cannot hold the weights of {prefix.backbone.name!r}, which is no Keras "
            "model: leave include_weights=False and fit with weights='pretrained', or pickle it."
        )
    model = prefix.network()
    if not include_weights and prefix.model is None and prefix.weights is None:
        return {"kind": "seed", "digest": prefix.backbone.values_digest(model)}
    values = model.get_weights()
    arrays |= {f"backbone/{number}": value for number, value in enumerate(values)}
    is_imagenet = has_imagenet_graph(prefix.backbone, prefix.weights, prefix.size)
    return {"kind": "values", "count": len(values), "imagenet_graph": is_imagenet}


def _check_named(record: Backbone) -> None:
    if not record.is_named:
        raise InvalidParameterError(
            f"an archive cannot name {record.name!r}, because whoever writes an archive could make "
            "its reader download any files. Save the preset in a folder, "
            "keras_hub.models.Backbone.from_preset(HANDLE).save_to_preset(FOLDER), and fit with "
            "backbone='keras_hub:FOLDER'."
        )


def _probe(prefix: Prefix) -> np.ndarray:
    """Return the features of one image that is always the same."""
    height, width = prefix.size
    pixels = np.arange(height * width * 3, dtype=np.float32) * 37 % 256
    return prefix.whole().forward()(pixels.reshape(1, height, width, 3))[0]


def restored_prefix(facts: Facts, arrays: StoredArrays, backbone: keras.Model | None) -> Prefix:
    """Return the network that an archive describes.

    `backbone` is the model that the user has passed. Raises ArchiveError if there is no such
    network or the arrays are not its weights, InvalidParameterError if the user has to pass it, and
    WeightsError if this machine has other weights.
    """
    network, weights = facts.part("backbone"), facts.part("weights")
    words = _words(facts)
    kind = weights.text("kind", ("trained", "file", "seed", "values", "own"))
    if backbone is not None and kind != "own":
        raise InvalidParameterError(
            "backbone is for networks of your own, and this one is rebuilt without: leave it out."
        )
    if kind == "own":
        return _own(network, weights, arrays, words, backbone)
    name = weights.text("name", PRETRAINED) if kind == "file" else None
    prefix = _named(network, kind, name, words)
    check_engine(prefix.engine, prefix.precision, prefix.backbone.kind)
    if prefix.is_scratch != (kind == "trained") and kind != "values":
        raise ArchiveError("only networks that were trained as a whole have no weights.")
    if kind == "values":
        prefix = _with_values(prefix, weights, arrays)
    elif kind != "trained":
        _check_weights(prefix, kind, weights.text("digest"))
    weights.finish()
    return prefix


def _words(facts: Facts) -> dict[str, Any]:
    """Return the arguments of `choose_prefix` that an archive holds as they are."""
    cut = facts.take("trainable_layers")
    is_name = isinstance(cut, str) and 0 < len(cut) < MAX_TEXT
    if not is_name and not (is_whole(cut) and 0 <= cut < MAX_TEXT**2):
        raise facts.wrong("a whole number or a name", cut, "trainable_layers")
    words = {
        "image_size": facts.wholes("size", 1, MAX_SIDE),
        "preprocessing": restored_preprocessing(facts.take("preprocessing")),
        "pooling": facts.text("pooling", ("auto", *POOLINGS)),
        "layers": facts.texts("layers"),
        "seed": facts.whole("seed", 0),
        "trainable_layers": cut,
        "engine": facts.text("engine", engine_names()),
        "precision": facts.text("precision", PRECISIONS),
    }
    facts.finish()
    return words


def _named(network: Facts, kind: str, weights: str | None, words: dict[str, Any]) -> Prefix:
    """Return a ConvNet or a network known by name; never one that code of the user builds."""
    named: str | ConvNet
    if kind == "trained" and "convnet" in network.names():
        named = restored_fields(ConvNet, network.part("convnet"))
        if words["trainable_layers"] != "all":
            raise ArchiveError("a ConvNet is trained as a whole: trainable_layers must be 'all'.")
        weights = "pretrained"  # the default of the estimators; a ConvNet ignores it
    else:
        named = network.text("registered")
        with as_archive_error():
            record = get_backbone(named)
        if record.name != named or not record.is_named:
            raise ArchiveError(f"{named!r} is no backbone that this package or Keras builds.")
    network.finish()
    check_engine(words["engine"], words["precision"], kind_of(named))
    with as_archive_error("there is no such network: "):
        return choose_prefix(named, weights=weights, **words)


def _check_weights(prefix: Prefix, kind: str, digest: str) -> None:
    """Raise WeightsError unless a file or a seed gives the weights of fit."""
    name = prefix.backbone.name
    if kind == "seed":
        if prefix.backbone.values_digest(prefix.network()) != digest:
            raise WeightsError(
                f"The random weights of {name!r} are not those that the model was fitted with: "
                "this version of its library draws others, and so does each backend of Keras. Take "
                "the version that the archive names, and the backend of fit; "
                "save_model(..., include_weights=True) puts them into the archive."
            )
        return
    file = pretrained_file(prefix.backbone, prefix.size)
    if file is not None and file_digest(file) != digest:
        raise WeightsError(
            f"The weights of {name!r} in {file} are not those that the model was fitted with. Take "
            "the version of the package that the archive names, or fit again; "
            "save_model(..., include_weights=True) puts them into the archive."
        )
    # A file that is downloaded later will be compared with the digest.
    prefix.expect_weights(digest)


def _with_values(prefix: Prefix, facts: Facts, arrays: StoredArrays) -> Prefix:
    """Return the prefix with a model that has the weights of the archive."""
    from transferclf.graphs.copying import set_weights
    from transferclf.graphs.isolation import undisturbed

    count, is_imagenet = facts.whole("count", 1), facts.flag("imagenet_graph")
    # The metadata of a library's network may lack the number.
    expected = prefix.backbone.parameters or 1
    if not expected <= arrays.n_numbers:
        raise ArchiveError(f"expected {expected} weights of {prefix.backbone.name!r} at least.")
    with undisturbed():  # both count the same names of layers
        model = build_backbone(prefix.backbone, None, prefix.size, seed=0)
        if is_imagenet:
            model = as_for_imagenet(model, prefix.backbone)
    values = arrays.take_all("backbone", count)
    if [value.shape for value in values] != [tuple(it.shape) for it in model.weights]:
        raise ArchiveError(f"the arrays are no weights of {model.name!r}: their shapes are others.")
    set_weights(model, values)
    weights = PRETRAINED[0] if is_imagenet else None
    return dataclasses.replace(prefix, model=model, weights=weights, seed=0)


def features_below(prefix: Prefix, arrays: StoredArrays) -> int:
    """Return how many features the network ends in.

    Raises ArchiveError if the layers above the cut would be larger than the archive.
    """
    convnet, n_layers = _convnet_of(prefix.backbone), 0
    n_weights = (prefix.backbone.parameters or 0) if prefix.is_empty else 0
    if convnet is not None:
        n_weights, n_layers = convnet.n_kernel_weights(*prefix.size, 3), convnet.n_kernels
    if n_weights > arrays.n_numbers or n_layers > arrays.n_arrays:
        raise ArchiveError(
            f"expected {n_weights:,} numbers or more, the weights of the network. Got "
            f"{arrays.n_numbers:,} in {arrays.n_arrays} arrays instead."
        )
    if convnet is not None:
        return convnet.n_features
    return int(prefix.whole().build().outputs[0].shape[-1])


def _own(
    network: Facts,
    weights: Facts,
    arrays: StoredArrays,
    words: dict[str, Any],
    backbone: object,
) -> Prefix:
    """Return the prefix of the model that the user has passed, or of a registered builder."""
    name, digest = network.text("own"), weights.text("digest")
    network.finish()
    weights.finish()
    if isinstance(backbone, str | ConvNet) and onnx_backbone(backbone) is None:
        raise InvalidParameterError(
            "backbone must be a keras.Model or an ONNX file. "
            f"Got {type(backbone).__name__} instead."
        )
    known = _registered(name) if backbone is None else backbone
    check_engine(words["engine"], words["precision"], kind_of(known))
    try:
        prefix = choose_prefix(cast("keras.Model", known), weights="pretrained", **words)
    except NetworkError as error:
        raise InvalidParameterError(
            f"backbone must be the network {name!r} that the model was fitted with: {error}"
        ) from error
    # The model may have another name each time it is built, but names of features must stay.
    prefix = dataclasses.replace(prefix, backbone=dataclasses.replace(prefix.backbone, name=name))
    if _own_digest(prefix) != digest or not _gives(prefix, arrays.take("backbone/probe", (None,))):
        raise InvalidParameterError(
            f"backbone must be the network {name!r} that the model was fitted with. Got one with "
            "other weights or other features instead."
        )
    prefix.expect_weights(digest)
    return prefix


def _registered(name: str) -> str:
    if onnx_backbone(name) is not None:
        raise InvalidParameterError(
            f"the model was fitted with an ONNX file, which an archive does not hold: pass it, "
            f"load_model(path, backbone={name!r}), or the OnnxBackbone that it was fitted with."
        )
    try:
        record = get_backbone(name)
    except InvalidParameterError:
        record = None
    if record is None or record.is_named:
        raise InvalidParameterError(
            f"the model was fitted with a network of your own, {name!r}, which an archive cannot "
            "hold: pass it, load_model(path, backbone=MODEL), or register_backbone it first."
        )
    return record.name


def _gives(prefix: Prefix, before: np.ndarray) -> bool:
    """Whether the network gives the same features as when it was saved."""
    now = _probe(prefix)
    precision = prefix.precision if prefix.backbone.is_float32 else "bfloat16"
    tolerance = TOLERANCES[precision] * np.abs(before).max(initial=0)
    return now.shape == before.shape and bool(np.abs(now - before).max(initial=0) <= tolerance)
