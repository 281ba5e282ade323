"""Errors where networks cannot run: TensorFlow without eager execution, and models of Keras 2."""

import keras
import numpy as np
import pytest

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import InvalidParameterError, NetworkError

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
LABELS = [0, 1, 0, 1]


def estimators():
    inputs = keras.Input((32, 32, 3))
    own = keras.Model(inputs, keras.layers.Conv2D(2, 3)(keras.layers.Rescaling(1 / 255)(inputs)))
    return [
        CNNFeatureExtractor(image_size=32, cache=None),
        TransferClassifier(image_size=32, cache=None),
        TransferClassifier(own, cache=None),
        TransferClassifier(image_size=32, hidden_units=(2,), epochs=1, cache=None),
    ]


def test_use_inside_a_graph_raises_one_error():
    import tensorflow as tf

    for estimator in estimators():
        fitted = estimator.fit(IMAGES, LABELS)
        apply = getattr(fitted, "transform", None) or fitted.predict_proba
        before = apply(IMAGES)
        with (
            tf.Graph().as_default(),
            pytest.raises(NetworkError, match="need TensorFlow's eager execution"),
        ):
            apply(IMAGES)
        np.testing.assert_array_equal(apply(IMAGES), before)  # the error leaves no state behind


def test_use_inside_a_traced_function_raises_one_error():
    import tensorflow as tf

    @tf.function(autograph=False)
    def traced():
        CNNFeatureExtractor("tiny", image_size=40, cache=None).fit_transform(IMAGES)

    with pytest.raises(NetworkError, match=r"call this outside of tf.function"):
        traced()


def test_use_without_eager_execution_raises_one_error(in_another_process):
    code = """
        import numpy as np
        import tensorflow as tf
        tf.compat.v1.disable_eager_execution()
        from transferclf import CNNFeatureExtractor, ConvNet, TransferClassifier
        from transferclf.exceptions import NetworkError
        images = np.zeros((2, 32, 32, 3), np.uint8)
        for estimator in (
            CNNFeatureExtractor(image_size=32),
            TransferClassifier(ConvNet((2,)), image_size=8, epochs=1),
            TransferClassifier(image_size=32, head=lambda maps: maps),
        ):
            try:
                estimator.fit(images, [0, 1]).transform(images)
            except NetworkError as error:
                print("eager execution" in str(error))
    """
    assert in_another_process(code).split() == ["True"] * 3


@pytest.mark.parametrize(
    "module", ["tf_keras.src.engine.functional", "tensorflow.python.keras.engine.training"]
)
def test_models_of_keras_2_raise_an_error_that_names_keras_2(module):
    model = type("Functional", (), {"__module__": module, "inputs": [], "layers": []})()
    derived = type("Mine", (type(model),), {"__module__": "__main__"})()
    for value in (model, derived):
        for estimator in (CNNFeatureExtractor(value), TransferClassifier(value)):
            with pytest.raises(InvalidParameterError, match=r"which is Keras 2: save it by"):
                estimator.fit(IMAGES, LABELS)


@pytest.mark.parametrize("value", [3, [1], object(), {"a": 1}, keras.layers.Dense(2)])
def test_values_that_are_no_models_raise_an_error(value):
    with pytest.raises(InvalidParameterError, match="a keras.Model. Got"):
        TransferClassifier(value).fit(IMAGES, LABELS)
