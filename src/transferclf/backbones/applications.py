"""Facts about `keras.applications <https://keras.io/api/applications/>`_, and how to build them.

Sizes, smallest sizes and weight files are those of Keras; parameters are counted without the
classification layer. Preprocessing is in the words of `imagenet_utils.preprocess_input`, and
"none" where the network scales its pixels itself. The tests hold every line against Keras.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferclf.backbones.preprocessing import TORCH_RGB_DEVIATION
from transferclf.backbones.record import Backbone
from transferclf.backbones.weights import (
    PRETRAINED,
    PretrainedBackbone,
    is_pretrained_file,
    is_readable_weights,
    keras_models_folder,
    pretrained_file,
    unfit_weights,
    weights_errors,
)
from transferclf.exceptions import WeightsError

if TYPE_CHECKING:
    import keras

N_CLASSES = 1000

# How the names of Keras' files without a classification layer differ from those with one.
_WITHOUT_TOP = re.compile(r"_no_?top(_v2)?")

# fmt: off
# name, Keras function, image size, smallest size, preprocessing, parameters, weights file
# ({name} and {keras} stand for the first two, the second in small letters)
_CLASSIC = "{keras}_weights_tf_dim_ordering_tf_kernels_notop.h5"
_NAMED = "{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
_APPLICATIONS: tuple[tuple[str, str, int, int, str, int, str], ...] = (
    ("convnext_tiny", "ConvNeXtTiny", 224, 32, "none", 27_820_128, "{name}_notop.h5"),
    ("convnext_small", "ConvNeXtSmall", 224, 32, "none", 49_454_688, "{name}_notop.h5"),
    ("convnext_base", "ConvNeXtBase", 224, 32, "none", 87_566_464, "{name}_notop.h5"),
    ("convnext_large", "ConvNeXtLarge", 224, 32, "none", 196_230_336, "{name}_notop.h5"),
    ("convnext_xlarge", "ConvNeXtXLarge", 224, 32, "none", 348_147_968, "{name}_notop.h5"),
    ("densenet121", "DenseNet121", 224, 32, "torch", 7_037_504, _CLASSIC),
    ("densenet169", "DenseNet169", 224, 32, "torch", 12_642_880, _CLASSIC),
    ("densenet201", "DenseNet201", 224, 32, "torch", 18_321_984, _CLASSIC),
    ("efficientnet_b0", "EfficientNetB0", 224, 32, "none", 4_049_571, "{keras}_notop.h5"),
    ("efficientnet_b1", "EfficientNetB1", 240, 32, "none", 6_575_239, "{keras}_notop.h5"),
    ("efficientnet_b2", "EfficientNetB2", 260, 32, "none", 7_768_569, "{keras}_notop.h5"),
    ("efficientnet_b3", "EfficientNetB3", 300, 32, "none", 10_783_535, "{keras}_notop.h5"),
    ("efficientnet_b4", "EfficientNetB4", 380, 32, "none", 17_673_823, "{keras}_notop.h5"),
    ("efficientnet_b5", "EfficientNetB5", 456, 32, "none", 28_513_527, "{keras}_notop.h5"),
    ("efficientnet_b6", "EfficientNetB6", 528, 32, "none", 40_960_143, "{keras}_notop.h5"),
    ("efficientnet_b7", "EfficientNetB7", 600, 32, "none", 64_097_687, "{keras}_notop.h5"),
    ("efficientnet_v2_b0", "EfficientNetV2B0", 224, 32, "none", 5_919_312, "efficientnetv2-b0_notop.h5"),
    ("efficientnet_v2_b1", "EfficientNetV2B1", 240, 32, "none", 6_931_124, "efficientnetv2-b1_notop.h5"),
    ("efficientnet_v2_b2", "EfficientNetV2B2", 260, 32, "none", 8_769_374, "efficientnetv2-b2_notop.h5"),
    ("efficientnet_v2_b3", "EfficientNetV2B3", 300, 32, "none", 12_930_622, "efficientnetv2-b3_notop.h5"),
    ("efficientnet_v2_s", "EfficientNetV2S", 384, 32, "none", 20_331_360, "efficientnetv2-s_notop.h5"),
    ("efficientnet_v2_m", "EfficientNetV2M", 480, 32, "none", 53_150_388, "efficientnetv2-m_notop.h5"),
    ("efficientnet_v2_l", "EfficientNetV2L", 480, 32, "none", 117_746_848, "efficientnetv2-l_notop.h5"),
    ("inception_resnet_v2", "InceptionResNetV2", 299, 75, "tf", 54_336_736, _NAMED),
    ("inception_v3", "InceptionV3", 299, 75, "tf", 21_802_784, _NAMED),
    ("mobilenet_v3_large", "MobileNetV3Large", 224, 32, "none", 2_996_352, "weights_{name}_224_1.0_float_no_top_v2.h5"),
    ("mobilenet_v3_small", "MobileNetV3Small", 224, 32, "none", 939_120, "weights_{name}_224_1.0_float_no_top_v2.h5"),
    ("nasnet_large", "NASNetLarge", 331, 32, "tf", 84_916_818, "{name}_no_top.h5"),
    ("nasnet_mobile", "NASNetMobile", 224, 32, "tf", 4_269_716, "{name}_no_top.h5"),
    ("resnet50", "ResNet50", 224, 32, "caffe", 23_587_712, _CLASSIC),
    ("resnet101", "ResNet101", 224, 32, "caffe", 42_658_176, _CLASSIC),
    ("resnet152", "ResNet152", 224, 32, "caffe", 58_370_944, _CLASSIC),
    ("resnet50_v2", "ResNet50V2", 224, 32, "tf", 23_564_800, _CLASSIC),
    ("resnet101_v2", "ResNet101V2", 224, 32, "tf", 42_626_560, _CLASSIC),
    ("resnet152_v2", "ResNet152V2", 224, 32, "tf", 58_331_648, _CLASSIC),
    ("vgg16", "VGG16", 224, 32, "caffe", 14_714_688, _CLASSIC),
    ("vgg19", "VGG19", 224, 32, "caffe", 20_024_384, _CLASSIC),
    ("xception", "Xception", 299, 71, "tf", 20_861_480, _CLASSIC),
)

# The MobileNets come in several widths, and have weights for several sizes.
# name, alpha, parameters, and how the weights file writes alpha
_SIZES = (128, 160, 192, 224)
_FILE = "mobilenet_{alpha}_{size}_tf_no_top.h5"
_MOBILENETS = (
    ("mobilenet", 1.0, 3_228_864, "1_0"),
    ("mobilenet_025", 0.25, 218_544, "2_5"),
    ("mobilenet_050", 0.5, 829_536, "5_0"),
    ("mobilenet_075", 0.75, 1_832_976, "7_5"),
)
_V2_SIZES = (96, 128, 160, 192, 224)
_V2_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}_no_top.h5"
_MOBILENETS_V2 = (
    ("mobilenet_v2", 1.0, 2_257_984, "1.0"),
    ("mobilenet_v2_035", 0.35, 410_208, "0.35"),
    ("mobilenet_v2_050", 0.5, 706_224, "0.5"),
    ("mobilenet_v2_075", 0.75, 1_382_064, "0.75"),
    ("mobilenet_v2_130", 1.3, 3_766_048, "1.3"),
    ("mobilenet_v2_140", 1.4, 4_363_712, "1.4"),
)
# fmt: on


class KerasApplication(PretrainedBackbone):
    """A network of keras.applications, without its classification layer or with it."""

    @property
    def include_top(self) -> bool:
        """Whether it ends in its classification layer."""
        return bool(dict(self.options).get("include_top", False))

    def with_top(self) -> KerasApplication:
        """Return the record of the same network with its classification layer."""
        return dataclasses.replace(
            self,
            weights_file=_WITHOUT_TOP.sub("", str(self.weights_file)),
            options=(*self.options, ("include_top", True)),
            ends_in="vector",
        )

    def network(self, weights: str | Path | None, size: tuple[int, int], seed: int) -> keras.Model:
        """Return the network with its weights."""
        arguments: dict[str, Any] = {"input_shape": (*size, 3)}
        if not self.include_top:
            arguments["include_top"] = False
        with warnings.catch_warnings():
            # Keras warns that a MobileNet has no weights for some sizes and takes those for 224,
            # which is what the record says too.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            if weights in PRETRAINED:
                file = pretrained_file(self, size)
                if file is None or file.parent == keras_models_folder():
                    return _built_by_keras(self, arguments)
                weights = file
            if weights is None:
                return self.build(weights=None, **arguments)
            return self._loaded(Path(weights), arguments)

    def _loaded(self, path: Path, arguments: dict[str, Any]) -> keras.Model:
        height, width, _ = arguments["input_shape"]
        ends = "without its classification layer"
        if self.include_top:
            ends = (
                f"with its classification layer of {N_CLASSES} classes at {height}x{width} pixels"
            )
        with weights_errors(self, path, ends):
            model = self.build(weights=None, **arguments)
            model.load_weights(str(path))
            is_pretrained = is_pretrained_file(self, path, (height, width))
            return as_for_imagenet(model, self) if is_pretrained else model


def as_for_imagenet(model: keras.Model, backbone: Backbone) -> keras.Model:
    """Add what an EfficientNet has only if Keras itself finds the ImageNet weights.

    The first generation was trained on pixels divided by the deviation and once more by its root.
    """
    if not str(backbone.builder).startswith("keras.applications:EfficientNetB"):
        return model
    import keras

    from transferclf.graphs.walking import replay

    once_more = keras.layers.Rescaling([value**-0.5 for value in TORCH_RGB_DEVIATION])

    def replaced(operation: Any) -> Any:
        if isinstance(operation, keras.layers.Normalization):
            return lambda pixels: once_more(operation(pixels))
        return operation

    inputs = keras.Input(batch_shape=model.inputs[0].shape)
    return keras.Model(inputs, replay(model, [inputs], replaced)[0], name=model.name)


def _built_by_keras(backbone: KerasApplication, arguments: dict[str, Any]) -> keras.Model:
    """Let Keras load or download the ImageNet weights, and say clearly when it cannot."""
    path = keras_models_folder() / str(backbone.weights_file_for(arguments["input_shape"][:2]))
    ends = f"{'with' if backbone.include_top else 'without'} its classification layer"
    was_there = path.is_file()  # Keras deletes what it cannot replace by a download
    try:
        return backbone.build(weights="imagenet", **arguments)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        # Keras compares the file with the digest it knows, and downloads another where it differs.
        is_refused = "URL fetch failure" in str(error)
        if is_readable_weights(path) and not is_refused:
            raise unfit_weights(backbone, path, ends, error) from error
        state = "is damaged, or another than Keras expects" if was_there else "is not there"
        raise WeightsError(
            f"The pretrained weights of {backbone.name!r} {ends} cannot be had: {path} {state}, "
            f"and Keras could not load or download it ({error}). Put the file there (or set "
            "KERAS_HOME), pass weights=PATH or weights=None, or use backbone='tiny', which needs "
            "no download."
        ) from error


def _application(
    name: str,
    function: str,
    image_size: int,
    min_image_size: int,
    preprocessing: str,
    parameters: int,
    weights_file: str,
) -> KerasApplication:
    return KerasApplication(
        name,
        f"keras.applications:{function}",
        image_size,
        min_image_size,
        preprocessing,
        parameters,
        weights_file.format(name=name, keras=function.lower()),
        ends_in="map",
    )


def _mobilenet(
    function: str, sizes: tuple[int, ...], file: str, line: tuple[str, float, int, str]
) -> KerasApplication:
    name, alpha, parameters, alpha_text = line
    return KerasApplication(
        name,
        f"keras.applications:{function}",
        preprocessing="tf",
        parameters=parameters,
        weights_file=file.format(alpha=alpha_text, size="{size}"),
        weights_sizes=sizes,
        options=(("alpha", alpha),),
        ends_in="map",
    )


RECORDS = (
    *(_application(*line) for line in _APPLICATIONS),
    *(_mobilenet("MobileNet", _SIZES, _FILE, line) for line in _MOBILENETS),
    *(_mobilenet("MobileNetV2", _V2_SIZES, _V2_FILE, line) for line in _MOBILENETS_V2),
)
