"""Facts about `keras.applications <https://keras.io/api/applications/>`_, and how to build them.

Sizes, smallest sizes and weight files are those of Keras; parameters are counted without the
classification layer. Preprocessing is in the words of `imagenet_utils.preprocess_input`, and
"none" if the network scales its pixels itself. The tests compare every line with Keras.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from transferclf.backbones.preprocessing import TORCH_RGB_DEVIATION
from transferclf.backbones.record import Backbone, Size, Weights
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

# The part of the name of Keras' files that says that there is no classification layer.
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
# name, Keras function, alpha, parameters, weights file
_SIZES = {"MobileNet": (128, 160, 192, 224), "MobileNetV2": (96, 128, 160, 192, 224)}
_V1, _V2 = "mobilenet_", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_"
_MOBILENETS: tuple[tuple[str, str, float, int, str], ...] = (
    ("mobilenet", "MobileNet", 1.0, 3_228_864, _V1 + "1_0_{size}_tf_no_top.h5"),
    ("mobilenet_025", "MobileNet", 0.25, 218_544, _V1 + "2_5_{size}_tf_no_top.h5"),
    ("mobilenet_050", "MobileNet", 0.5, 829_536, _V1 + "5_0_{size}_tf_no_top.h5"),
    ("mobilenet_075", "MobileNet", 0.75, 1_832_976, _V1 + "7_5_{size}_tf_no_top.h5"),
    ("mobilenet_v2", "MobileNetV2", 1.0, 2_257_984, _V2 + "1.0_{size}_no_top.h5"),
    ("mobilenet_v2_035", "MobileNetV2", 0.35, 410_208, _V2 + "0.35_{size}_no_top.h5"),
    ("mobilenet_v2_050", "MobileNetV2", 0.5, 706_224, _V2 + "0.5_{size}_no_top.h5"),
    ("mobilenet_v2_075", "MobileNetV2", 0.75, 1_382_064, _V2 + "0.75_{size}_no_top.h5"),
    ("mobilenet_v2_130", "MobileNetV2", 1.3, 3_766_048, _V2 + "1.3_{size}_no_top.h5"),
    ("mobilenet_v2_140", "MobileNetV2", 1.4, 4_363_712, _V2 + "1.4_{size}_no_top.h5"),
)
# fmt: on


class KerasApplication(PretrainedBackbone):
    """A network of keras.applications, without its classification layer or with it."""

    has_classes: ClassVar[bool] = True
    is_keras_application: ClassVar[bool] = True

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

    def network(self, weights: Weights, size: Size, seed: int) -> keras.Model:
        """Return the network with its weights."""
        with warnings.catch_warnings():
            # Keras warns that a MobileNet has no weights for some sizes and takes those for 224.
            # The record says the same.
            warnings.filterwarnings("ignore", message=".*`input_shape` is undefined or non-square")
            if weights in PRETRAINED:
                file = pretrained_file(self, size)
                if file is None or file.parent == keras_models_folder():
                    return self._from_keras(size)
                weights = file
            return self._built(None, size) if weights is None else self._loaded(Path(weights), size)

    def _built(self, weights: str | None, size: Size) -> keras.Model:
        top = {} if self.include_top else {"include_top": False}
        return self.build(weights=weights, input_shape=(*size, 3), **top)

    def _loaded(self, path: Path, size: Size) -> keras.Model:
        ends = "without its classification layer"
        if self.include_top:
            pixels = f"{size[0]}x{size[1]} pixels"
            ends = f"with its classification layer of {N_CLASSES} classes at {pixels}"
        with weights_errors(self, path, ends):
            model = self._built(None, size)
            model.load_weights(str(path))
            return as_for_imagenet(model, self) if is_pretrained_file(self, path, size) else model

    def _from_keras(self, size: Size) -> keras.Model:
        """Let Keras load or download the ImageNet weights, and explain why it cannot."""
        path = keras_models_folder() / str(self.weights_file_for(size))
        ends = f"{'with' if self.include_top else 'without'} its classification layer"
        was_there = path.is_file()  # Keras deletes a file that it cannot replace by a download
        try:
            return self._built("imagenet", size)
        except Exception as error:  # Keras raises a bare Exception if a download fails
            # Keras knows the digest of the file, and downloads a file with another digest again.
            is_refused = "URL fetch failure" in str(error)
            if is_readable_weights(path) and not is_refused:
                raise unfit_weights(self, path, ends, error) from error
            state = "is damaged, or another than Keras expects" if was_there else "is not there"
            raise WeightsError(
                f"The pretrained weights of {self.name!r} {ends} are not available: {path} {state}, "
                f"and Keras could not load or download it ({error}). Put the file there (or set "
                "KERAS_HOME), pass weights=PATH or weights=None, or use backbone='tiny', which "
                "needs no download."
            ) from error


def as_for_imagenet(model: keras.Model, backbone: Backbone) -> keras.Model:
    """Add the scaling that Keras gives an EfficientNet when Keras loads its ImageNet weights.

    The first generation was trained on pixels divided by the deviation and then by its root.
    """
    if not str(backbone.builder).startswith("keras.applications:EfficientNetB"):
        return model
    import keras

    from transferclf.graphs.walking import Operation, with_replaced

    once_more = keras.layers.Rescaling([value**-0.5 for value in TORCH_RGB_DEVIATION])

    def replaced(operation: Operation) -> Operation:
        if isinstance(operation, keras.layers.Normalization):
            return lambda pixels: once_more(operation(pixels))
        return operation

    return with_replaced(model, replaced)


RECORDS = (
    *(
        KerasApplication(
            name,
            f"keras.applications:{function}",
            image_size,
            min_image_size,
            preprocessing,
            parameters,
            file.format(name=name, keras=function.lower()),
            ends_in="map",
        )
        for name, function, image_size, min_image_size, preprocessing, parameters, file in (
            _APPLICATIONS
        )
    ),
    *(
        KerasApplication(
            name,
            f"keras.applications:{function}",
            preprocessing="tf",
            parameters=parameters,
            weights_file=file,
            weights_sizes=_SIZES[function],
            options=(("alpha", alpha),),
            ends_in="map",
        )
        for name, function, alpha, parameters, file in _MOBILENETS
    ),
)
