"""Where the weights of a backbone are, what they are, and the network that has them.

The digest of pretrained weights is that of their file, so that stored features can be found
without importing Keras.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferclf.backbones.registry import Backbone
from transferclf.exceptions import NetworkError, WeightsError
from transferclf.graphs.isolation import undisturbed

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
    from transferclf.backbones.tiny import load_tiny_weights

    model = backbone.build(input_shape=(*size, 3), seed=seed)
    if weights in PRETRAINED:
        load_tiny_weights(model)
    elif weights is not None:
        with weights_errors(backbone, Path(weights), "of this package"):
            model.load_weights(str(weights))
    return model


def _application(
    backbone: Backbone, weights: str | Path | None, size: tuple[int, int]
) -> keras.Model:
    arguments: dict[str, Any] = {"include_top": False, "input_shape": (*size, 3)}
    if weights in PRETRAINED:
        file = pretrained_file(backbone, size)
        if file is None or file.parent == keras_models_folder():
            return built_by_keras(backbone, arguments)
        weights = file
    if weights is None:
        return backbone.build(weights=None, **arguments)
    path, ends = Path(weights), "without its classification layer"
    with weights_errors(backbone, path, ends):
        model = backbone.build(weights=None, **arguments)
        model.load_weights(str(path))
        is_pretrained = is_pretrained_file(backbone, path, size)
        return as_for_imagenet(model, backbone) if is_pretrained else model


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

    from transferclf.backbones.preprocessing import TORCH_RGB_DEVIATION
    from transferclf.graphs.walking import replay

    once_more = keras.layers.Rescaling([value**-0.5 for value in TORCH_RGB_DEVIATION])

    def replaced(operation: Any) -> Any:
        if isinstance(operation, keras.layers.Normalization):
            return lambda pixels: once_more(operation(pixels))
        return operation

    inputs = keras.Input(batch_shape=model.inputs[0].shape)
    return keras.Model(inputs, replay(model, [inputs], replaced)[0], name=model.name)


def built_by_keras(backbone: Backbone, arguments: dict[str, Any]) -> keras.Model:
    """Let Keras load or download the ImageNet weights, and say clearly when it cannot.

    Parameters
    ----------
    backbone : Backbone
        The record of the network, with or without its classification layer.
    arguments : dict
        What it is built with; `input_shape` among them.

    Raises
    ------
    WeightsError
        If there is no such file and none to be had, if it is damaged, or if it does not fit.
    """
    path = keras_models_folder() / str(backbone.weights_file_for(arguments["input_shape"][:2]))
    has_top = dict(backbone.options).get("include_top", arguments.get("include_top", True))
    ends = f"{'with' if has_top else 'without'} its classification layer"
    was_there = path.is_file()  # Keras deletes what it cannot replace by a download
    try:
        return backbone.build(weights="imagenet", **arguments)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        # Keras compares the file with the digest it knows, and downloads another where it differs.
        is_refused = "URL fetch failure" in str(error)
        if is_readable_weights(path) and not is_refused:
            raise _unfit(backbone, path, ends, error) from error
        state = "is damaged, or another than Keras expects" if was_there else "is not there"
        raise WeightsError(
            f"The pretrained weights of {backbone.name!r} {ends} cannot be had: {path} {state}, "
            f"and Keras could not load or download it ({error}). Put the file there (or set "
            "KERAS_HOME), pass weights=PATH or weights=None, or use backbone='tiny', which needs "
            "no download."
        ) from error


@contextmanager
def weights_errors(backbone: Backbone, path: Path, ends: str) -> Iterator[None]:
    """Say clearly why weights could not be loaded from a file.

    Parameters
    ----------
    backbone : Backbone
        The network that is built and gets the weights within this context.
    path : Path
        The file.
    ends : str
        How the network ends, for the message.

    Raises
    ------
    WeightsError
        If there is no such file, it is damaged, or it does not fit the network.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path} for backbone {backbone.name!r}.")
    try:
        yield
    except Exception as error:  # h5py and Keras raise many kinds
        if is_readable_weights(path):
            raise _unfit(backbone, path, ends, error) from error
        raise WeightsError(
            f"{path} is damaged, or no file of weights, so that backbone {backbone.name!r} cannot "
            f"have its weights: {error}"
        ) from error


def is_readable_weights(path: Path) -> bool:
    """Whether a file is there, whole, and of HDF5, as Keras writes weights."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: None)
        return True
    except Exception:  # of damage HDF5 says this and that
        return False


def _unfit(backbone: Backbone, path: Path, ends: str, error: Exception) -> WeightsError:
    import keras

    return WeightsError(
        f"The weights in {path} do not fit backbone {backbone.name!r} {ends} as Keras "
        f"{keras.__version__} builds it: {error} The file itself is whole. Take the weights of "
        "this very network, or another version of Keras: some versions have built networks of "
        "keras.applications so that their own weights did not fit."
    )


def _check_data_format() -> None:
    import keras

    if keras.config.image_data_format() != "channels_last":
        raise NetworkError(
            "transferclf needs Keras' image_data_format 'channels_last'. Got "
            f"{keras.config.image_data_format()!r} instead; see keras.config."
        )
