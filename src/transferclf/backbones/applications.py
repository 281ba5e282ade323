"""Facts about `keras.applications <https://keras.io/api/applications/>`_, one line a network.

Sizes, smallest sizes and weight files are those of Keras; parameters are counted without the
classification layer. Preprocessing is in the words of `imagenet_utils.preprocess_input`, and
"none" where the network scales its pixels itself. The tests hold every line against Keras.
"""

from __future__ import annotations

# fmt: off
# name, Keras function, image size, smallest size, preprocessing, parameters, weights file
# ({name} and {keras} stand for the first two, the second in small letters)
_CLASSIC = "{keras}_weights_tf_dim_ordering_tf_kernels_notop.h5"
_NAMED = "{name}_weights_tf_dim_ordering_tf_kernels_notop.h5"
APPLICATIONS: tuple[tuple[str, str, int, int, str, int, str], ...] = (
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

# The MobileNets come in several widths: suffix of the name, alpha, parameters, and how the weights
# file writes alpha.
MOBILENET_WIDTHS = (
    ("", 1.0, 3_228_864, "1_0"),
    ("_025", 0.25, 218_544, "2_5"),
    ("_050", 0.5, 829_536, "5_0"),
    ("_075", 0.75, 1_832_976, "7_5"),
)
MOBILENET_V2_WIDTHS = (
    ("", 1.0, 2_257_984, "1.0"),
    ("_035", 0.35, 410_208, "0.35"),
    ("_050", 0.5, 706_224, "0.5"),
    ("_075", 0.75, 1_382_064, "0.75"),
    ("_130", 1.3, 3_766_048, "1.3"),
    ("_140", 1.4, 4_363_712, "1.4"),
)
# fmt: on
