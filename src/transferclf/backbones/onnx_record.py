"""The record of a network in an ONNX file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transferclf._checks import refuse
from transferclf.backbones.onnx_reader import read_onnx
from transferclf.backbones.record import Backbone, Size, Weights
from transferclf.engines.onnx_network import OnnxNetwork
from transferclf.exceptions import InvalidParameterError, warn
from transferclf.graphs.digests import file_digest

# The side of the images, if neither the file nor the user says it.
IMAGE_SIZE = 224


@dataclass(frozen=True)
class OnnxRecord(Backbone):
    """The record of a network in an ONNX file; made by :meth:`OnnxBackbone.record`.

    `usual_size` is used if no size is asked for. `fixed_size` has None for an open axis.
    """

    path: str = ""
    input: str = ""
    output: str = ""
    is_inner: bool = False
    layout_of_input: str = "NCHW"
    map_layout: str | None = None
    element: str = "float32"
    batch: int | None = None
    usual_size: Size = (IMAGE_SIZE, IMAGE_SIZE)
    fixed_size: tuple[int | None, int | None] = (None, None)
    is_unscaled: bool = False
    rounds: bool = False

    kind: ClassVar[str] = "onnx"
    can_be_cut: ClassVar[bool] = False

    @property
    def kind_in_words(self) -> str:
        """The kind for messages."""
        return "an ONNX file"

    @property
    def is_float32(self) -> bool:
        """Whether it computes in float32, so that all engines give the same features."""
        return not self.rounds

    @property
    def own_size(self) -> Size:
        """Height and width of images, if no other size is asked for."""
        return self.usual_size

    def network(self, weights: Weights, size: Size, seed: int) -> OnnxNetwork:
        """Return the file, and how to feed it."""
        return OnnxNetwork(
            Path(self.path),
            self.input,
            self.output,
            size,
            self.layout_of_input,
            self.element,
            self.batch,
            self.map_layout,
            self.is_inner,
        )

    def facts(self) -> list[object]:
        """Return the choices that the content of the file leaves open."""
        tokens = [self.cls_tokens, self.other_tokens]
        return ["onnx", self.output, self.layout_of_input, self.map_layout, *tokens]

    def weights_digest(self, weights: Weights, size: Size, seed: int) -> str:
        """Return the digest of the file and of the files with its weights."""
        return content_digest(Path(self.path))

    def check_uncut(self, trainable_layers: int | str, layers: tuple[str, ...]) -> None:
        """Raise InvalidParameterError if layers are asked for; an ONNX file has tensors."""
        if layers:
            raise InvalidParameterError(
                f"layer needs a backbone that is a Keras model. {self.name!r} is an ONNX file: "
                "leave layer as it is, and choose a tensor by OnnxBackbone(PATH, output=NAME)."
            )
        super().check_uncut(trainable_layers, layers)

    def check_size(self, size: Size) -> None:
        """Raise InvalidParameterError if the file takes images of another size only."""
        super().check_size(size)
        if any(own not in (None, side) for own, side in zip(self.fixed_size, size, strict=True)):
            expected = f"None or {self.usual_size}, the size that {self.name!r} was exported with"
            refuse("image_size", expected, size)

    def warn_if_unscaled(self) -> None:
        """Warn that nobody has said which scaling the network expects."""
        if self.is_unscaled:
            warn(
                f"{self.name!r} gets pixels from 0 to 255 as they are, because an ONNX file does "
                "not say how they are to be scaled. If the network was trained on scaled pixels, "
                "set preprocessing='torch', another name or a Preprocessing (or 'none' if this is "
                "meant)"
            )


def content_digest(path: Path) -> str:
    """SHA-256 of an ONNX file and the files with its weights."""
    digests = [file_digest(file) for file in read_onnx(path).files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
