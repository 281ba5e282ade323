"""Copies of models with own layers: they compute the same function or raise one clear error."""

import pickle
from pathlib import Path

import cloudpickle
import keras
import numpy as np
import pytest
from exactness import outputs_of
from fine_tuning_helpers import ALL_IMAGES
from image_helpers import striped_images
from keras import layers
from own_layers import Forgetful, Hiding, Needy, Net, Renamed, Wide, relu
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from transferclf import CNNFeatureExtractor, TransferClassifier
from transferclf.exceptions import NetworkError
from transferclf.graphs.copying import copied
from transferclf.graphs.digests import describe, model_digest

N, SIDE = 12, 24
IMAGES = striped_images(N, np.random.default_rng(0))[:, :SIDE, :SIDE]
LABELS = np.arange(N) % 3


def network(*own, units=4):
    x = inputs = keras.Input((SIDE, SIDE, 3))
    start = keras.initializers.HeNormal(1)
    x = layers.Conv2D(units, 3, kernel_initializer=start)(layers.Rescaling(1 / 255)(x))
    for layer in own:
        x = layer(x)
    return keras.Model(inputs, x, name="own")


def wrapped():
    inputs = keras.Input((SIDE, SIDE, 3))
    return keras.Model(inputs, Net()(inputs), name="wrapped")


def locally_defined():
    class Local(layers.Layer):
        def call(self, x):
            return 2 * x

    return network(Local())


MAKERS = {
    "wider": lambda: network(Wide(4)),
    "in other words": lambda: network(Renamed(3.0)),
    "a function named like Keras' own": lambda: network(layers.Activation(relu)),
    "a subclassed model": wrapped,
    "a local class": locally_defined,
    "a lambda": lambda: network(layers.Lambda(lambda x: x * 2)),
    "a description that forgets": lambda: network(Forgetful(3.0)),
}


def tiny(model, **changes):
    if changes.get("trainable_layers", 0) != 0:
        changes |= {"fine_tune_epochs": 1, **ALL_IMAGES}
    return TransferClassifier(model, **({"random_state": 0} | changes))


def off(classifier):
    got = outputs_of(classifier.model_, IMAGES)
    return np.abs(got - classifier.predict_proba(IMAGES)).max()


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("trainable_layers", [0, "all"])
def test_the_whole_model_and_fine_tuning_give_the_probabilities_of_the_classifier(
    make, trainable_layers
):
    model = make()
    before = model.get_weights()
    classifier = tiny(model, trainable_layers=trainable_layers).fit(IMAGES, LABELS)
    assert off(classifier) < 1e-5
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_clones_share_models_that_keras_cannot_describe(make):
    model = make()
    assert describe(model).has_unknown_code
    extractor = CNNFeatureExtractor(model, preprocessing="none")
    assert clone(extractor).backbone is model
    assert clone(clone(extractor)).get_params()["preprocessing"] == "none"
    before = extractor.fit(IMAGES).prefix_.forward().images_seen
    again = clone(extractor).fit(IMAGES)
    np.testing.assert_array_equal(again.transform(IMAGES), extractor.transform(IMAGES))
    assert extractor.prefix_.forward().images_seen - before == N - 1  # fit has computed one image
    assert len(cross_val_score(tiny(model, preprocessing="none"), IMAGES, LABELS, cv=2)) == 2
    assert extractor.prefix_.forward().images_seen - before == N - 1


def test_clones_copy_models_that_keras_describes():
    model = network(units=3)
    assert clone(TransferClassifier(model)).backbone is not model
    assert model_digest(clone(TransferClassifier(model)).backbone) == model_digest(model)


@pytest.mark.parametrize("name", ["wider", "a function named like Keras' own", "a lambda"])
def test_pickled_classifiers_give_the_same_predictions(name):
    classifier = tiny(MAKERS[name]()).fit(IMAGES, LABELS)
    loaded = pickle.loads(pickle.dumps(classifier))
    assert loaded.backbone is loaded.prefix_.model
    np.testing.assert_allclose(
        loaded.predict_proba(IMAGES), classifier.predict_proba(IMAGES), atol=1e-6
    )
    assert off(loaded) < 1e-5


def with_a_changed_layer():
    layer = Forgetful()
    layer.factor = 3.0
    return layer


@pytest.mark.parametrize("make", [lambda: Forgetful(np.array(3.0)), with_a_changed_layer])
def test_a_layer_whose_config_lacks_an_argument_is_copied_by_its_attributes(make):
    assert off(tiny(network(make())).fit(IMAGES, LABELS)) < 1e-5


def with_a_hidden_change():
    layer = Hiding()
    layer.hidden = 3.0
    return layer


LOST = {
    "changed under another name": (with_a_hidden_change, "Hiding.* computes something else"),
    "an object": (lambda: Needy(lambda x: x + 1), "'needy.*' of class Needy cannot be copied"),
}


@pytest.mark.parametrize(("make", "message"), LOST.values(), ids=LOST)
def test_models_that_cannot_be_copied_raise_an_error(make, message):
    model = network(make())
    classifier = tiny(model).fit(IMAGES, LABELS)
    assert classifier.predict_proba(IMAGES).shape == (N, 3)
    with pytest.raises(NetworkError, match=message):
        _ = classifier.model_
    tuned = tiny(model, trainable_layers="all")
    with pytest.raises(NetworkError, match=message):
        tuned.fit(IMAGES, LABELS)
    assert not hasattr(tuned, "history_")


def test_keras_layers_changed_after_the_build_are_copied_with_the_change():
    model = network(layers.Dense(3, "relu"))
    model.layers[-1].activation = keras.activations.tanh
    assert off(tiny(model, trainable_layers=1).fit(IMAGES, LABELS)) < 1e-5


def test_a_copy_is_flat_with_the_same_names_and_weights():
    inner = network(units=2)
    inputs = keras.Input((SIDE, SIDE, 3), name="images")
    model = keras.Model(inputs, layers.ReLU(name="end")(inner(inputs)), name="outer")
    copy = copied(model)
    assert (copy.name, copy.inputs[0].name) == ("outer", "images")
    assert [layer.name for layer in copy.layers][1:] == [
        *(layer.name for layer in inner.layers[1:]),
        "end",
    ]
    images = IMAGES.astype(np.float32)
    np.testing.assert_array_equal(copy(images), model(images))
    assert not {id(v) for v in copy.weights} & {id(v) for v in model.weights}


def test_two_outputs_are_tuned_side_by_side():
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, [layers.Conv2D(4, 3)(x), layers.Conv2D(5, 5)(x)])
    for trainable_layers in (0, 2):
        classifier = tiny(model, trainable_layers=trainable_layers).fit(IMAGES, LABELS)
        assert len(classifier.head_.mean) == 9
        assert off(classifier) < 1e-5
    with pytest.raises(NetworkError, match="head needs a network with one output"):
        tiny(model, head=layers.Flatten()).fit(IMAGES, LABELS)


def test_layers_of_a_script_work_in_other_processes(tmp_path, in_another_process):
    """Workers of joblib have another __main__ than the process that sends the estimator."""
    script = {"__name__": "__main__"}
    exec(Path(__file__).with_name("own_layers.py").read_text(), script)
    model = network(script["Wide"](4), layers.Activation(script["relu"]))
    classifier = tiny(model).fit(IMAGES, LABELS)
    (tmp_path / "pickle").write_bytes(cloudpickle.dumps((classifier, IMAGES)))
    code = f"""
        import pickle, pathlib
        from sklearn.base import clone
        folder = pathlib.Path({str(tmp_path)!r})
        fitted, images = pickle.loads((folder / "pickle").read_bytes())
        again = clone(fitted).fit(images, {LABELS.tolist()})
        for name, estimator in {{"fitted": fitted, "again": again}}.items():
            estimator.predict_proba(images).tofile(folder / name)
    """
    in_another_process(code)
    expected = classifier.predict_proba(IMAGES).ravel()
    for name in ("fitted", "again"):
        np.testing.assert_allclose(np.fromfile(tmp_path / name), expected, atol=1e-6)
