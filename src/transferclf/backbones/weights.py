"""Backbones whose weights are in files: find, identify and load these.

The digest of pretrained weights is that of their file, so that stored features are found without
importing Keras.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from transferclf.backbones.record import Backbone, Size, Weights
from transferclf.exceptions import NetworkError, WeightsError
from transferclf.graphs.digests import file_digest
from transferclf.graphs.isolation import undisturbed

if TYPE_CHECKING:
    import keras

# Values of `weights=` besides a path and None.
PRETRAINED = ("pretrained", "imagenet")

_TINY_FILE = Path(__file__).with_name("tiny_weights.npz")


def keras_models_folder() -> Path:
    """Return the folder in which Keras looks for weights and to which it downloads them.

    It is in KERAS_HOME, or in ``.keras`` in the home folder. If Keras may not write there, it is in
    the temporary folder.
    """
    home = keras_home()
    # Keras makes its folder when it is imported, which may not have happened yet. It makes one in
    # the home folder only if that exists.
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    is_said = bool(os.environ.get("KERAS_HOME"))
    if not (is_said or os.access(home.parent, os.W_OK)) or not os.access(existing, os.W_OK):
        home = _temporary_home()
    return home / "models"


def keras_home() -> Path:
    """Return the folder that KERAS_HOME names, or Keras' own in the home folder.

    For a user without a home folder, Keras takes the temporary folder.
    """
    home = os.path.expanduser(os.environ.get("KERAS_HOME") or os.path.join("~", ".keras"))
    return _temporary_home() if home.startswith("~") else Path(home).absolute()


def _temporary_home() -> Path:
    return Path("/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir(), ".keras")


def pretrained_file(backbone: Backbone, size: Size) -> Path | None:
    """Return the file with the pretrained weights, or None if there is none (yet)."""
    places, name = backbone.weights_places(size), backbone.weights_file_for(size)
    if places is None and name is not None:
        # Keras ignores a read-only KERAS_HOME, but it may be shared and have the weights.
        places = [keras_models_folder() / name, keras_home() / "models" / name]
    return next((place for place in places or () if place.is_file()), None)


def is_pretrained_file(backbone: Backbone, path: Path, size: Size) -> bool:
    """Whether a file has the name under which Keras keeps the ImageNet weights."""
    return backbone.is_keras_application and path.name == backbone.weights_file_for(size)


def has_imagenet_graph(backbone: Backbone, weights: Weights, size: Size) -> bool:
    """Whether the network is built as Keras builds it for the ImageNet weights."""
    if weights is None or weights in PRETRAINED:
        return weights is not None
    return is_pretrained_file(backbone, Path(weights), size)


def build_backbone(backbone: Backbone, weights: Weights, size: Size, seed: int) -> keras.Model:
    """Build the Keras network of a record, as :meth:`Backbone.network`, in a fresh Keras.

    Raises WeightsError if the weights are missing or do not fit.
    """
    with undisturbed(seed):
        import keras

        if keras.config.image_data_format() != backbone.layout:
            raise NetworkError(
                f"transferclf needs Keras' image_data_format {backbone.layout!r}. Got "
                f"{keras.config.image_data_format()!r} instead; see keras.config."
            )
        return backbone.network(weights, size, seed)


class PretrainedBackbone(Backbone):
    """A backbone whose weights come from a file of its source or of the user."""

    takes_weights: ClassVar[bool] = True

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the digest of the file, or the seed; downloads a file that is not there yet."""
        if weights is None:
            return super().weights_digest(weights, size, seed)
        if weights not in PRETRAINED:
            # Some networks are built differently around a file of this name.
            path = Path(weights)
            digest = file_digest(path)
            return digest if is_pretrained_file(self, path, size) else f"file {digest}"
        file = pretrained_file(self, size)
        if file is None:
            build_backbone(self, weights, size, seed)  # downloads it, or raises
            file = pretrained_file(self, size)
        if file is None:
            raise NetworkError(
                f"The weights of {self.name!r} are not in {keras_models_folder()}, though "
                "Keras loaded them; set KERAS_HOME before Keras is imported."
            )
        return file_digest(file)


class Bundled(PretrainedBackbone):
    """The network whose weights come with this package."""

    is_bundled: ClassVar[bool] = True

    def weights_places(self, size: Size) -> list[Path]:
        """Return the file in this package."""
        return [_TINY_FILE]

    def network(self, weights: Weights, size: Size, seed: int) -> keras.Model:
        """Return the network with its weights."""
        from transferclf.backbones.tiny import load_tiny_weights

        model = self.build(input_shape=(*size, 3), seed=seed)
        if weights in PRETRAINED:
            load_tiny_weights(model)
        elif weights is not None:
            with weights_errors(self, Path(weights), "of this package"):
                model.load_weights(str(weights))
        return model


@contextmanager
def weights_errors(backbone: Backbone, path: Path, ends: str) -> Iterator[None]:
    """Turn errors of building a network and loading a file into WeightsErrors with a reason.

    `ends` describes the end of the network in the message.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path} for backbone {backbone.name!r}.")
    try:
        yield
    except Exception as error:  # h5py and Keras raise many kinds
        if is_readable_weights(path):
            raise unfit_weights(backbone, path, ends, error) from error
        raise WeightsError(
            f"{path} is damaged, or no file of weights, so that backbone {backbone.name!r} cannot "
            f"have its weights: {error}"
        ) from error


def is_readable_weights(path: Path) -> bool:
    """Whether there is a whole HDF5 file, the format of Keras' weights."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            file.visititems(lambda name, item: None)
        return True
    except Exception:  # HDF5 raises several kinds for damage
        return False


def unfit_weights(backbone: Backbone, path: Path, ends: str, error: Exception) -> WeightsError:
    """Return the error for a whole file that does not fit the network."""
    import keras

    return WeightsError(
        f"The weights in {path} do not fit backbone {backbone.name!r} {ends} as Keras "
        f"{keras.__version__} builds it: {error} The file itself is whole. Take the weights of "
        "this very network, or another version of Keras: some versions have built networks of "
        "keras.applications so that their own weights did not fit."
    )


TINY = Bundled(
    "tiny",
    "transferclf.backbones.tiny:build_tiny",
    image_size=96,
    preprocessing="tf",
    parameters=1_728_112,
    weights_file="tiny_weights.npz",
    ends_in="map",
)
