"""Networks in ONNX files, as frozen backbones. Nothing here imports Keras or TensorFlow."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal, cast

from transferclf._checks import check_choice, is_number
from transferclf._parameters import ParameterSet
from transferclf.backbones.onnx_reader import OnnxFile, Value, read_onnx
from transferclf.backbones.onnx_record import IMAGE_SIZE, OnnxRecord, content_digest
from transferclf.backbones.preprocessing import check_preprocessing
from transferclf.backbones.record import Size
from transferclf.exceptions import InvalidParameterError, NetworkError

if TYPE_CHECKING:
    from transferclf.backbones.preprocessing import Preprocessing

LAYOUTS = ("NCHW", "NHWC")

# Types of the input that pixels can have.
_ELEMENTS = ("float32", "float16", "uint8")

# Operators whose result is another in each run.
_RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip

# Parts of the names of operators that round to few bits, in which engines differ.
_ROUNDING = ("Quantize", "QLinear", "Integer")

_ENDS = {2: "vector", 3: "tokens", 4: "map"}


@dataclass
class OnnxBackbone(ParameterSet):
    """A network in an ONNX file, as a frozen backbone.

    It runs by OpenVINO or ONNX Runtime, without TensorFlow and Keras. The content of the file and
    of the files with its weights identifies it, so that stored features are found again after it
    was moved or renamed. It has no layers to train or to put into `model_`.

    Parameters
    ----------
    path : str or path
        The file. Weights in other files are read from its folder only.
    preprocessing : {"auto", "none", "rescale", "caffe", "tf", "torch"} or Preprocessing, \
default="auto"
        How pixels from 0 to 255 are scaled, as in the training of the network. A file does not say
        it: "auto" leaves the pixels as they are, and warns.
    output : str or None, default=None
        Name of the tensor whose values are the features. It may be an output of the file or any
        tensor on the way there, such as the input of the layer of class scores. None is the only
        output.
    layout : {"auto", "NCHW", "NHWC"}, default="auto"
        Order of the axes of the input: number, channels, height, width. "auto" looks where the
        shape in the file has 3 channels.
    map_layout : {"auto", "NCHW", "NHWC"}, default="auto"
        Order of the axes of an output of four axes. "auto" is that of the input, unless only the
        other gives maps in the proportion of the images.
    image_size : int, (int, int) or None, default=None
        Side, or height and width, in pixels. None is the size in the file, and 224 if that is open.
    cls_tokens, other_tokens : int, default=0
        Numbers of class tokens, and then of registers and the like, that precede the patches in an
        output of tokens (n, t, c). `pooling="avg"` leaves both out.

    See Also
    --------
    transferclf.CNNFeatureExtractor, transferclf.TransferClassifier : Their parameter `backbone`
        takes it, or the path alone.

    Examples
    --------
    >>> from transferclf import CNNFeatureExtractor, OnnxBackbone
    >>> network = OnnxBackbone("resnet18.onnx", preprocessing="torch", output="features")
    >>> network.get_params()["layout"]
    'auto'
    >>> extractor = CNNFeatureExtractor(network)
    """

    path: str | os.PathLike[str]
    preprocessing: str | Preprocessing = "auto"
    output: str | None = None
    layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    map_layout: Literal["auto", "NCHW", "NHWC"] = "auto"
    image_size: int | tuple[int, int] | None = None
    cls_tokens: int = 0
    other_tokens: int = 0

    def check(self) -> None:
        """Raise InvalidParameterError unless all fields have allowed values; reads no file."""
        if not isinstance(self.path, str | os.PathLike):
            self._refuse("path", "a path")
        if not (isinstance(self.preprocessing, str) and self.preprocessing == "auto"):
            check_preprocessing(self.preprocessing)
        if self.output is not None and not isinstance(self.output, str):
            self._refuse("output", "None or a name")
        for name in ("layout", "map_layout"):
            check_choice(self._full(name), getattr(self, name), ("auto", *LAYOUTS))
        for name in ("cls_tokens", "other_tokens"):
            self._check_number(name, 0, whole=True)
        sides = self._sides
        if sides is not None and (
            len(sides) != 2 or not all(is_number(side, whole=True) and side > 0 for side in sides)
        ):
            self._refuse("image_size", "None, a whole number of pixels or a pair of them")

    @property
    def _sides(self) -> tuple[int, ...] | None:
        size = self.image_size
        if size is None:
            return None
        return tuple(size) if isinstance(size, tuple | list) else (size, size)

    @property
    def file(self) -> Path:
        """The absolute path of the file."""
        return Path(os.path.expanduser(self.path)).absolute()

    def content_digest(self) -> str:
        """SHA-256 of the file and the files with its weights; WeightsError if one is missing."""
        return content_digest(self.file)

    def record(self) -> OnnxRecord:
        """Return all that is known of the network before it runs; reads the file.

        Raises
        ------
        InvalidParameterError
            If a parameter contradicts the file, or the file leaves a choice.
        NetworkError
            If the network does not take one input of RGB images.
        WeightsError
            If the file, or one with its weights, is missing, damaged or no ONNX file.
        """
        self.check()
        path = self.file
        facts = read_onnx(path)
        _check_operators(facts)
        pixels, output = _input(facts), self._output(facts)
        layout = self._layout(facts, pixels)
        shape = pixels.shape or (None,) * 4
        batch, fixed = shape[0], shape[2:] if layout == "NCHW" else shape[1:3]
        if any(name.startswith("DynamicQuantize") for name in facts.operators):
            batch = _alone(facts, batch)
        rank = None if output.shape is None else len(output.shape)
        if rank is not None and rank not in _ENDS:
            raise NetworkError(
                f"expected an output of rows (n, d), tokens (n, t, c) or maps, got {output} of "
                f"{path}; choose another by output="
            )
        is_unscaled = isinstance(self.preprocessing, str) and self.preprocessing == "auto"
        return OnnxRecord(
            path.name,
            "",
            min_image_size=1,
            preprocessing="none" if is_unscaled else self.preprocessing,
            ends_in=_ENDS.get(rank or 0),
            cls_tokens=int(self.cls_tokens),
            other_tokens=int(self.other_tokens),
            path=str(path),
            input=pixels.name,
            output=output.name,
            is_inner=output.name in facts.inner,
            layout_of_input=layout,
            map_layout=None if self.map_layout == "auto" else self.map_layout,
            element=pixels.element,
            batch=batch,
            usual_size=self._size(facts, fixed),
            fixed_size=(fixed[0], fixed[1]),
            is_unscaled=is_unscaled,
            rounds=_rounds(facts, pixels),
        )

    def _output(self, facts: OnnxFile) -> Value:
        known = {value.name: value for value in facts.outputs}
        shown = ", ".join(map(str, facts.outputs))
        if self.output is None:
            if len(known) == 1:
                return facts.outputs[0]
            raise InvalidParameterError(
                f"{facts.path} has {len(known)} outputs: choose one by output=NAME. They are "
                f"{shown}."
            )
        found = known.get(self.output) or facts.inner.get(self.output)
        if found is None:
            near = difflib.get_close_matches(self.output, facts.inner, n=3)
            hint = f" Similar tensors on the way there are {', '.join(map(repr, near))}."
            raise InvalidParameterError(
                f"output={self.output!r} names no tensor of {facts.path}, whose outputs are "
                f"{shown}.{hint if near else ''}"
            )
        return found

    def _layout(self, facts: OnnxFile, pixels: Value) -> str:
        if pixels.shape is not None and len(pixels.shape) != 4:
            raise _no_images(facts, pixels)
        channels = dict(zip(LAYOUTS, (pixels.shape or (None,) * 4)[1::2], strict=True))
        fitting = [layout for layout in LAYOUTS if channels[layout] in (3, None)]
        if not fitting:
            raise _no_images(facts, pixels)
        if self.layout != "auto":
            if self.layout not in fitting:
                raise InvalidParameterError(
                    f"layout={self.layout!r} contradicts {facts.path}, whose input is {pixels}: "
                    f"the channels would be {channels[self.layout]} and must be 3."
                )
            return self.layout
        sure = [layout for layout in fitting if channels[layout] == 3]
        if len(sure) != 1:
            raise InvalidParameterError(
                f"the input of {facts.path} is {pixels}, which does not say where the channels "
                "are: set layout='NCHW' or layout='NHWC' of an OnnxBackbone."
            )
        return sure[0]

    def _size(self, facts: OnnxFile, fixed: tuple[int | None, ...]) -> Size:
        asked = self._sides or (None, None)
        for own, side in zip(fixed, asked, strict=True):
            if None not in (own, side) and own != side:
                raise InvalidParameterError(
                    f"image_size={self.image_size!r} contradicts {facts.path}, which takes images "
                    f"of {_shown(fixed)} pixels only: leave image_size=None, or export the "
                    "network with open height and width."
                )
        height, width = (own or side for own, side in zip(fixed, asked, strict=True))
        usual = height or width or IMAGE_SIZE
        return int(height or usual), int(width or usual)


def onnx_backbone(backbone: object) -> OnnxBackbone | None:
    """Return the ONNX file that a value of `backbone=` stands for, or None."""
    if isinstance(backbone, OnnxBackbone):
        return backbone
    is_path = isinstance(backbone, PurePath)
    if is_path or (isinstance(backbone, str) and backbone.lower().endswith(".onnx")):
        return OnnxBackbone(cast("str | PurePath", backbone))
    return None


def _input(facts: OnnxFile) -> Value:
    if len(facts.inputs) != 1:
        shown = ", ".join(map(str, facts.inputs)) or "none"
        raise NetworkError(
            f"expected {facts.path} to have one input, of images. Got {len(facts.inputs)} inputs: "
            f"{shown}."
        )
    if facts.inputs[0].element not in _ELEMENTS:
        raise _no_images(facts, facts.inputs[0])
    return facts.inputs[0]


def _no_images(facts: OnnxFile, pixels: Value) -> NetworkError:
    return NetworkError(
        f"expected the input of {facts.path} to be RGB images (n, 3, h, w) or (n, h, w, 3) of type "
        f"{', '.join(_ELEMENTS)}. Got {pixels} of type {pixels.element}."
    )


def _check_operators(facts: OnnxFile) -> None:
    """Raise NetworkError if the features of an image would not be the same each time."""
    if random := sorted(facts.operators & _RANDOM):
        raise NetworkError(
            f"{facts.path} draws random numbers ({', '.join(random)}), so that an image would have "
            "other features each time. Export the network for inference."
        )
    if facts.is_training:
        raise NetworkError(
            f"{facts.path} normalises by the statistics of the batch, so that the features of an "
            "image would depend on the others. Export the network for inference."
        )


def _alone(facts: OnnxFile, batch: int | None) -> int:
    """Return a batch of one, for a network that scales its values by the largest in the batch."""
    if batch not in (1, None):
        raise NetworkError(
            f"{facts.path} scales the values of {batch} images together, so that the features of "
            "an image would depend on the others. Export it with open batch size, or quantize it "
            "with static scales."
        )
    return 1


def _rounds(facts: OnnxFile, pixels: Value) -> bool:
    """Whether the network rounds to fewer bits than float32, in which engines differ."""
    is_half = any("float16" in element for element in {*facts.elements, pixels.element})
    return is_half or any(part in name for name in facts.operators for part in _ROUNDING)


def _shown(size: tuple[int | None, ...]) -> str:
    return " x ".join("?" if side is None else str(side) for side in size)
