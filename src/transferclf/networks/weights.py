"""Where the weights of a backbone are, what they are, and the network that has them.

The digest of pretrained weights is that of their file, so that stored features can be found
without importing Keras.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import tempfile
import uuid
import warnings
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferclf.exceptions import NetworkError, WeightsError
from transferclf.networks.backbones import Backbone
from transferclf.networks.forking import check_not_forked
from transferclf.networks.isolation import undisturbed

if TYPE_CHECKING:
    import keras

# What `weights=` may say besides a path and None.
PRETRAINED = ("pretrained", "imagenet")

_TINY_FILE = Path(__file__).with_name("tiny_weights.npz")


def keras_models_folder() -> Path:
    """The folder in which Keras looks for weights and to which it downloads them.

    Keras takes KERAS_HOME, or ``.keras`` in the home folder, and turns to the temporary folder
    where it may not write.
    """
    home = keras_home()
    # Keras makes its folder when it is imported, which may not have happened yet. It makes one in
    # the home folder only if that is there.
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    is_said = bool(os.environ.get("KERAS_HOME"))
    if not (is_said or os.access(home.parent, os.W_OK)) or not os.access(existing, os.W_OK):
        home = _temporary_home()
    return home / "models"


def keras_home() -> Path:
    """The folder that KERAS_HOME says, or Keras' own in the home folder.

    A user whom the system does not know has no home folder, and Keras takes the temporary one.
    """
    home = os.path.expanduser(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"))
    return _temporary_home() if home.startswith("~") else Path(home).absolute()


def _temporary_home() -> Path:
    return Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(), ".keras")


def pretrained_file(backbone: Backbone, size: tuple[int, int]) -> Path | None:
    """The file with the pretrained weights, or None where there is none (yet)."""
    if backbone.is_bundled:
        return _TINY_FILE
    name = backbone.weights_file_for(size)
    if name is None:
        return None
    # A shared, read-only KERAS_HOME is not looked at by Keras, but is a good place for weights.
    places = [keras_models_folder() / name, keras_home() / "models" / name]
    return next((place for place in places if place.is_file()), None)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, remembered until the file changes."""
    try:
        status = path.stat()
        return _file_digest(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise WeightsError(
            f"The weights file {path} cannot be read: {error.strerror}. weights= takes "
            "'pretrained', 'imagenet', None or the path of a file."
        ) from error


@functools.lru_cache(maxsize=64)
def _file_digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_digest(model: keras.Model) -> str:
    """SHA-256 of a user's own model: of its architecture and of the values of its weights.

    Whether it is compiled or frozen makes no difference; the names of its layers do. A model with
    Lambda layers or Python code of the user's own shares its digest with no other, not even with a
    copy, because what that code does cannot be told.

    Raises
    ------
    NetworkError
        If a layer of the user's own cannot be described.
    """
    check_not_forked()
    try:
        config = model.to_json()
    except Exception as error:  # whatever the get_config of somebody's layer raises
        raise NetworkError(
            f"expected a model whose layers can all be described; {model.name!r} has one that "
            f"cannot: {error} Give it a get_config()."
        ) from error
    facts = json.loads(config, object_hook=_without_training)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    if _has_code_of_others(facts):
        digest.update(_token(model))
    for weights in model.get_weights():
        digest.update(f"{weights.dtype} {weights.shape}".encode())
        digest.update(weights.tobytes())
    return digest.hexdigest()


def _without_training(facts: dict[str, Any]) -> dict[str, Any]:
    left_out = ("trainable", "compile_config")
    return {name: value for name, value in facts.items() if name not in left_out}


def _has_code_of_others(facts: Any) -> bool:
    """Whether a model is made of more than Keras: its description does not say what that does."""
    if isinstance(facts, list):
        return any(map(_has_code_of_others, facts))
    if not isinstance(facts, dict):
        return False
    if "class_name" in facts and not _is_known(facts["class_name"], facts.get("module")):
        return True
    return any(map(_has_code_of_others, facts.values()))


def _is_known(class_name: str, module: str | None) -> bool:
    """Whether Keras says all about this part: its own classes, and plain data like __tuple__."""
    if class_name in ("Lambda", "__lambda__"):
        return False
    return class_name.startswith("__") if module is None else module.split(".")[0] == "keras"


def _token(model: keras.Model) -> bytes:
    """A number that this one object has and no other ever had."""
    return _tokens.setdefault(model, uuid.uuid4()).bytes


_tokens: weakref.WeakKeyDictionary[keras.Model, uuid.UUID] = weakref.WeakKeyDictionary()


def values_digest(model: keras.Model) -> str:
    """SHA-256 of the values of a model's weights, whatever its layers are called."""
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(f"{weights.dtype} {weights.shape}".encode())
        digest.update(weights.tobytes())
    return digest.hexdigest()


def build_backbone(
    backbone: Backbone, weights: str | Path | None, size: tuple[int, int], seed: int
) -> keras.Model:
    """Build the network of a registered backbone, without a classification layer.

    Parameters
    ----------
    backbone : Backbone
        The record.
    weights : {"pretrained", "imagenet"}, path or None
        None starts from random weights drawn from `seed`.
    size : (int, int)
        Height and width of the input in pixels.
    seed : int
        Determines random weights. The caller's random and Keras state are left as they were.

    Returns
    -------
    keras.Model

    Raises
    ------
    WeightsError
        If the weights cannot be had or do not fit.
    """
    _check_data_format()
    with warnings.catch_warnings(), undisturbed(seed):
        # Keras warns that a MobileNet has no weights for some sizes and takes those for 224,
        # which is what the record says too.
        warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square.*")
        if backbone.is_bundled:
            return _tiny(backbone, weights, size, seed)
        if backbone.is_keras_application:
            return _application(backbone, weights, size)
        return backbone.build(input_shape=(*size, 3))


def _tiny(
    backbone: Backbone, weights: str | Path | None, size: tuple[int, int], seed: int
) -> keras.Model:
    from transferclf.networks.tiny import load_tiny_weights

    model = backbone.build(input_shape=(*size, 3), seed=seed)
    if weights in PRETRAINED:
        load_tiny_weights(model)
    elif weights is not None:
        _load_file(model, backbone, Path(weights))
    return model


def _application(
    backbone: Backbone, weights: str | Path | None, size: tuple[int, int]
) -> keras.Model:
    arguments: dict[str, Any] = {"include_top": False, "input_shape": (*size, 3)}
    if weights in PRETRAINED:
        file = pretrained_file(backbone, size)
        if file is None or file.parent == keras_models_folder():
            return _by_keras(backbone, arguments, size, file)
        weights = file
    model = backbone.build(weights=None, **arguments)
    if weights is not None:
        _load_file(model, backbone, Path(weights))
        if is_pretrained_file(backbone, Path(weights), size):
            return as_for_imagenet(model, backbone)
    return model


def is_pretrained_file(backbone: Backbone, path: Path, size: tuple[int, int]) -> bool:
    """Whether a file has the name under which Keras keeps the ImageNet weights."""
    return backbone.is_keras_application and path.name == backbone.weights_file_for(size)


def has_imagenet_graph(
    backbone: Backbone, weights: str | Path | None, size: tuple[int, int]
) -> bool:
    """Whether the network with these weights is built :func:`as_for_imagenet`."""
    if weights is None or weights in PRETRAINED:
        return weights is not None
    return is_pretrained_file(backbone, Path(weights), size)


def as_for_imagenet(model: keras.Model, backbone: Backbone) -> keras.Model:
    """Add what an EfficientNet has only if Keras itself finds the ImageNet weights.

    The first generation was trained on pixels divided by the deviation and once more by its root.
    """
    if not str(backbone.builder).startswith("keras.applications:EfficientNetB"):
        return model
    import keras

    from transferclf.networks.graphs import replay
    from transferclf.networks.preprocessing import TORCH_RGB_DEVIATION

    once_more = keras.layers.Rescaling([value**-0.5 for value in TORCH_RGB_DEVIATION])

    def replaced(operation: Any) -> Any:
        if isinstance(operation, keras.layers.Normalization):
            return lambda pixels: once_more(operation(pixels))
        return operation

    inputs = keras.Input(batch_shape=model.inputs[0].shape)
    return keras.Model(inputs, replay(model, [inputs], replaced)[0], name=model.name)


def _by_keras(
    backbone: Backbone, arguments: dict[str, Any], size: tuple[int, int], file: Path | None
) -> keras.Model:
    """Let Keras load or download the weights, and say clearly when it cannot."""
    try:
        return backbone.build(weights="imagenet", **arguments)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        name = backbone.weights_file_for(size)
        state = "is damaged" if file is not None else "is not there"
        raise WeightsError(
            f"The pretrained weights of {backbone.name!r} cannot be had: "
            f"{keras_models_folder() / str(name)} {state}, and Keras could not load or download "
            f"it ({error}). Put the file there (or set KERAS_HOME), pass weights=PATH or "
            "weights=None, or use backbone='tiny', which needs no download."
        ) from error


def _load_file(model: keras.Model, backbone: Backbone, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path} for backbone {backbone.name!r}.")
    try:
        model.load_weights(str(path))
    except Exception as error:  # h5py and Keras raise many kinds
        raise WeightsError(
            f"The weights in {path} do not fit backbone {backbone.name!r} without its "
            f"classification layer: {error}"
        ) from error


def _check_data_format() -> None:
    import keras

    if keras.config.image_data_format() != "channels_last":
        raise NetworkError(
            "transferclf needs Keras' image_data_format 'channels_last'. Got "
            f"{keras.config.image_data_format()!r} instead; see keras.config."
        )
