"""Exported `model_` files: right after fit, with the probabilities of `predict_proba`."""

import contextlib
import functools
import io
import warnings

import keras
import numpy as np
import pytest
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images
from keras import layers

from transferclf import ConvNet, TransferClassifier

N, SIDE = 9, 32
IMAGES = striped_images(N, np.random.default_rng(0))
LABELS = np.arange(N) % 3
PIXELS = IMAGES.astype(np.float32)


def own_network():
    x = inputs = keras.Input((SIDE, SIDE, 3))
    norm = layers.Normalization(mean=[120.0, 110.0, 100.0], variance=[900.0, 1600.0, 25.0])
    x = layers.Conv2D(4, 3, kernel_initializer=keras.initializers.HeNormal(1))(norm(x))
    return keras.Model(inputs, layers.ReLU()(layers.BatchNormalization()(x)), name="mine")


def own_head(maps):
    x = layers.Conv2D(4, 1, activation="relu")(maps)
    return layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))


def first_blocks_of_an_efficientnet():
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3)
    )
    return keras.Model(model.input, model.get_layer("block3a_activation").output)


OWN = {"backbone": own_network}
CONVNET = {"backbone": ConvNet((4,), dense_units=(4,), batch_norm="after"), "epochs": 1}
TUNED = {"trainable_layers": "all", "fine_tune_epochs": 1, **ALL_IMAGES}
KINDS = {
    "fine-tuned": {"backbone": "tiny", **TUNED, "trainable_layers": "top"},
    "hidden layers": OWN
    | {"hidden_units": (4,), "epochs": 1, "batch_norm": "before", "dropout": 0.2},
    "dropout": OWN | {"dropout": 0.2, "epochs": 1},
    "own head": OWN | {"head": own_head, "epochs": 1},
    "caffe": OWN | {"preprocessing": "caffe"},  # and a linear head
    "torch": OWN | {"preprocessing": "torch", "pooling": "max"} | TUNED,
    "from nothing": CONVNET,
    "standardized": CONVNET | {"preprocessing": "standardize"},
    "whitened": {
        "backbone": ConvNet((), dense_units=(4,)), "image_size": 8, "preprocessing": "zca",
        "epochs": 1,
    },
    "efficientnet": {"backbone": first_blocks_of_an_efficientnet},
}  # fmt: skip


@functools.cache
def fitted_as(kind):
    parameters = {"image_size": SIDE, "random_state": 0, "l2": 0.1} | KINDS[kind]
    if callable(parameters.get("backbone")):
        parameters["backbone"] = parameters["backbone"]()
    return TransferClassifier(**parameters).fit(IMAGES, LABELS)


def expected(classifier):
    """Return the probabilities, and the pixels that the network gets."""
    side = classifier.prefix_.size[0]
    pixels = PIXELS[:, :side, :side]
    return classifier.predict_proba(pixels.astype(np.uint8)), pixels


def as_saved_model(model, path):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return lambda pixels: loaded.serve(pixels).numpy()


def as_keras_file(model, path):
    model.save(f"{path}.keras")
    # All layers are Keras' own, so loading needs no class of this package.
    loaded = keras.saving.load_model(f"{path}.keras")
    return lambda pixels: loaded.predict(pixels, verbose=0)


def as_onnx_file(model, path):
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of NumPy, about Keras' own tf2onnx
        model.export(f"{path}.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession(f"{path}.onnx")
    (entry,) = session.get_inputs()  # the pixels are the only input
    return lambda pixels: session.run(None, {entry.name: pixels})[0]


def as_litert_file(model, path):
    import tensorflow as tf

    content = tf.lite.TFLiteConverter.from_saved_model(str(path)).convert()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # tf.lite will move to another package
        interpreter = tf.lite.Interpreter(model_content=content)
    (entry,) = interpreter.get_input_details()
    (end,) = interpreter.get_output_details()

    def run(pixels):
        interpreter.resize_tensor_input(entry["index"], pixels.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], pixels)
        interpreter.invoke()
        return interpreter.get_tensor(end["index"])

    return run


# Tolerance of each format: other runtimes add in another order.
FORMATS = {as_keras_file: 1e-5, as_saved_model: 1e-5, as_onnx_file: 1e-4, as_litert_file: 1e-4}

# `export` is tested in every format by test_exporting.py; these are Keras' own exports of `model_`.
# EfficientNet has a Normalization layer inside, and takes long to convert.
FEWER_FORMATS = dict.fromkeys(KINDS, (as_keras_file, as_onnx_file)) | {
    "caffe": FORMATS,
    "efficientnet": (as_onnx_file,),
    "fine-tuned": FORMATS,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exported_models_give_the_probabilities_of_the_classifier(kind, tmp_path):
    classifier = fitted_as(kind)
    probabilities, pixels = expected(classifier)
    assert np.ptp(probabilities) > 1e-3
    path = tmp_path / "exported"
    formats = FEWER_FORMATS[kind]
    if as_saved_model in formats:
        classifier.model_.export(path, format="tf_saved_model", verbose=False)
    for form in formats:
        got = form(classifier.model_, path)(pixels)
        np.testing.assert_allclose(got, probabilities, atol=FORMATS[form], err_msg=form.__name__)


@pytest.mark.slow
@pytest.mark.parametrize("form", [as_keras_file, as_onnx_file])
def test_a_newly_built_model_is_exported_with_the_same_probabilities(form, tmp_path):
    classifier = fitted_as("from nothing")
    classifier._model = None
    probabilities, pixels = expected(classifier)
    got = form(classifier.model_, tmp_path / "exported")(pixels)
    np.testing.assert_allclose(got, probabilities, atol=1e-4)


@pytest.mark.parametrize("kind", ["caffe", "standardized", "hidden layers"])
def test_the_whole_model_has_no_normalization_layers(kind):
    model = fitted_as(kind).model_
    assert not any(isinstance(layer, layers.Normalization) for layer in model.layers)
    probabilities, pixels = expected(fitted_as(kind))
    np.testing.assert_allclose(model.predict(pixels, verbose=0), probabilities, atol=1e-5)
