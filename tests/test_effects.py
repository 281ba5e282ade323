"""Fit gives one warning, which names exactly the parameters without an effect."""

import inspect
import warnings

import keras
import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.model_selection import GridSearchCV

from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    ConvNet,
    FeatureStore,
    TransferClassifier,
)
from transferclf.exceptions import TransferclfWarning

N = 24
IMAGES = striped_images(N, np.random.default_rng(5))
LABELS = np.arange(N) % 3
ROWS = IMAGES[:, :8, :8, 0].reshape(N, -1)


def network(vector=False):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 5, strides=4)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x) if vector else x
    return keras.Model(inputs, x, name="mine")


def maps(x):
    return keras.layers.GlobalMaxPooling2D()(x)


OWN, OWN_VECTOR = network(), network(vector=True)
HIDDEN = {"hidden_units": (3,), "epochs": 1}
TUNED = {"trainable_layers": "top", "fine_tune_epochs": 1}
SCRATCH = {"backbone": ConvNet((2,), dense_units=()), "image_size": 4, "epochs": 1}

# For each parameter: a value, a setting where it has an effect, and one where it has none.
CASES = {
    "weights": (None, {}, {"backbone": OWN}),
    "resize": ("pad", {}, None),
    "pooling": ("max", {}, {"head": maps, "epochs": 1}),
    "zca_epsilon": (
        0.3,
        SCRATCH | {"preprocessing": "zca"},
        SCRATCH | {"preprocessing": "standardize"},
    ),
    "activation": ("tanh", HIDDEN, {}),
    "batch_norm": ("before", HIDDEN, SCRATCH),
    "learning_rate": (0.01, HIDDEN, TUNED),
    "lr_schedule": ("cosine", TUNED, {}),
    "epochs": (2, SCRATCH, TUNED),
    "batch_size": (7, TUNED, {}),
    "max_iter": (900, TUNED, HIDDEN),
    "max_memory": ("1GB", {}, {"head": maps, "epochs": 1}),
    "early_stopping": (True, {**TUNED, "validation_fraction": 0.25}, {}),
    "validation_fraction": (0.3, HIDDEN | {"early_stopping": True}, HIDDEN),
    "n_jobs": (2, {}, SCRATCH),
    "patience": (3, TUNED | {"early_stopping": True, "validation_fraction": 0.25}, HIDDEN),
    "callbacks": ([keras.callbacks.History()], HIDDEN, {}),
    "fine_tune_epochs": (1, {"trainable_layers": "top"}, SCRATCH),
    "fine_tune_learning_rate": (1e-4, TUNED, {}),
    "warmup_fraction": (0.2, TUNED, TUNED | {"lr_schedule": None}),
    "layer_decay": (0.5, TUNED, HIDDEN),
    "weight_decay": (0.3, TUNED, HIDDEN),
    "global_clipnorm": (0.3, TUNED, HIDDEN),
    "soup": (0.3, TUNED, HIDDEN),
    "augmentation": ("light", {}, None),
    "test_time_augmentation": (
        "views",
        {"augmentation": "light"},
        SCRATCH | {"augmentation": Augmentation(mixup=0.3)},
    ),
    "image_shape": ((8, 8), None, {}),
    "precision": ("bfloat16", None, SCRATCH),
    # These have an effect in every setting.
    "image_size": (48, {}, None),
    "preprocessing": ("torch", {}, None),
    "hidden_units": ((3,), {}, None),
    "dropout": (0.1, {}, None),
    "head": (maps, {"epochs": 1}, None),
    "l1": (0.1, {}, None),
    "l2": (0.2, HIDDEN, None),
    "optimizer": ("adam", {}, None),
    "warm_start": (True, {}, None),
    "trainable_layers": ("top", {}, None),
    "oversample": (True, {}, None),
    "class_weight": ("balanced", {}, None),
    "pixel_range": ((0, 255), {}, None),
    "cache": (None, {}, None),
    "engine": ("keras", {}, None),
    "on_error": ("skip", {}, None),
    "random_state": (7, {}, None),
    "verbose": (1, SCRATCH, None),
    "backbone": (OWN, {}, None),
}


class NotTrainedError(Exception):
    """Error that ends a fit before training."""


def stop(*_, **__):
    raise NotTrainedError


def said(classifier, X=IMAGES, y=LABELS, **arguments):
    """Return the text of the only warning about parameters without effect, or "".

    The warning is given before training, which is skipped.
    """
    with warnings.catch_warnings(record=True) as caught, pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("always")
        patched.setattr("transferclf.training.learning.Learner.learn", stop)
        with pytest.raises(NotTrainedError):
            classifier.fit(X, y, **arguments)
    texts = [str(each.message) for each in caught if each.category is TransferclfWarning]
    found = [text for text in texts if text.startswith("set without effect on this fit: ")]
    assert len(found) <= 1
    return found[0] if found else ""


def classifier(**parameters):
    return TransferClassifier(**({"image_size": 32, "random_state": 0} | parameters))


def test_every_parameter_has_a_case():
    assert set(CASES) == set(inspect.signature(TransferClassifier).parameters)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1] is not None])
def test_a_parameter_with_an_effect_raises_no_warning(name):
    value, used, _ = CASES[name]
    assert said(classifier(**used | {name: value})) == ""


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[2] is not None])
def test_the_warning_names_only_the_parameter_without_effect(name, monkeypatch):
    if name == "precision":  # which not every CPU supports
        monkeypatch.setattr("transferclf.estimators.parameters.check_engine", lambda *_: None)
    value, _, useless = CASES[name]
    quiet = classifier(**useless)
    assert said(quiet) == ""
    text = said(classifier(**useless | {name: value}))
    shown = "[History]" if name == "callbacks" else repr(value)
    assert text.startswith(f"set without effect on this fit: {name}={shown} (used by ")
    assert "; " not in text


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (
            {"early_stopping": True, "epochs": 50, "learning_rate": 1e-3, "patience": 9},
            {"early_stopping=True", "epochs=50", "learning_rate=0.001", "patience=9"},
        ),
        ({**HIDDEN, "layer_decay": 0.7, "max_iter": 9}, {"layer_decay=0.7", "max_iter=9"}),
        ({**SCRATCH, "pooling": "max", "weights": None}, {"pooling='max'"}),
        ({"backbone": OWN_VECTOR, "pooling": "flatten"}, {"pooling='flatten'"}),
    ],
)
def test_one_warning_names_all_parameters(parameters, names):
    text = said(classifier(**parameters))
    for each in names:
        assert each in text
    assert text.count("=") - text.count("optimizer='adam'") - text.count("ing=True w") - text.count(
        "optimizer='auto'"
    ) == len(names)


def test_values_equal_to_the_effective_one_raise_no_warning():
    for parameters in (
        {"optimizer": "lbfgs"},
        {**HIDDEN, "optimizer": "adam", "l2": 0.01},
        {**TUNED, "layer_decay": 1.0},
        {"hidden_units": [], "dropout": [0.0], "callbacks": ()},
        {"hidden_units": np.array([], int), "epochs": np.int64(20), "early_stopping": np.False_},
        {**SCRATCH, "trainable_layers": "all"},
    ):
        assert said(classifier(**parameters)) == ""


def test_validation_data_leaves_the_fraction_without_effect():
    how = classifier(**HIDDEN, early_stopping=True, validation_fraction=0.3)
    text = said(how, validation_data=(IMAGES[:3], LABELS[:3]))
    assert "validation_fraction=0.3 (used by soup='auto' with trainable_layers" in text


def test_rows_use_an_image_shape_and_strips_are_stretched():
    assert said(classifier(image_shape=(8, 8)), ROWS) == ""
    strips = np.random.default_rng(0).integers(0, 255, (N, 13))
    text = said(classifier(image_shape="infer", resize="pad", l2=0.1), strips)
    assert "resize='pad'" in text
    assert "image_shape" not in text


def test_the_warning_has_the_same_text_for_every_fold():
    history = keras.callbacks.History()
    grid = {"l2": [0.1, 1.0], "epochs": [5]}
    search = GridSearchCV(classifier(callbacks=[history]), grid, cv=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search.fit(IMAGES, LABELS)
    texts = [str(each.message) for each in caught if "without effect" in str(each.message)]
    assert len(texts) == 5
    assert len(set(texts)) == 1


def test_the_warning_points_at_the_call_of_fit():
    with pytest.warns(TransferclfWarning, match="without effect") as caught:
        classifier(epochs=3).fit(IMAGES, LABELS)
    assert caught[0].filename == __file__


def test_parameters_of_a_subclass_are_not_checked():
    class Mine(TransferClassifier):
        def __init__(self, image_size=32, mine=1, epochs=20):
            super().__init__(image_size=image_size, epochs=epochs)
            self.mine = mine

    assert said(Mine(mine=2)) == ""
    assert "epochs=4" in said(Mine(mine=2, epochs=4))
    assert "mine" not in said(Mine(mine=2, epochs=4))


def test_the_extractor_raises_the_warning(tmp_path):
    def said_by(**parameters):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            CNNFeatureExtractor(**parameters).fit(IMAGES)
        return [str(each.message) for each in caught if each.category is TransferclfWarning]

    useful = {"image_size": 32, "layer": "stem_relu", "pooling": "max", "resize": "pad"}
    assert said_by(**useful, cache=FeatureStore(tmp_path), random_state=3) == []
    (text,) = said_by(backbone=OWN_VECTOR, weights=None, pooling="max", image_shape=(8, 8))
    for name in ("weights=None", "pooling='max'", "image_shape=(8, 8)"):
        assert name in text
