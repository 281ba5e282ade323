"""Tests of classifiers of several labels for an image: heads, fine-tuning, searches, archives."""

import io
import pickle

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fine_tuning_helpers import PLAIN
from image_helpers import head_alone, in_kind, striped_images
from scipy.sparse import csr_matrix
from scipy.special import logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, make_scorer
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from transferclf import (
    Augmentation,
    CNNFeatureExtractor,
    ConvNet,
    TransferClassifier,
    load_image_folder,
    load_model,
    save_model,
)
from transferclf.exceptions import InvalidParameterError, TransferclfWarning
from transferclf.graphs.folding import fold_batch_norm
from transferclf.reports import GradCAMDisplay
from transferclf.training.batches import Samples, epoch_orders

mpl.use("Agg")

N = 24
KIND = np.arange(N) % 3  # stripes across, stripes down, noise
TABLE = np.stack([KIND == 1, KIND < 2], axis=1).astype(int)
NAMES = ["down", "stripes"]
SETS = [{NAMES[place] for place in np.flatnonzero(row)} for row in TABLE]
FRAME = pd.DataFrame(TABLE, columns=NAMES)
IMAGES = striped_images(N, np.random.default_rng(0))


def tiny(**options):
    return TransferClassifier(**{"image_size": 32, "l2": 0.01, "random_state": 0, **options})


@pytest.fixture(scope="module")
def fitted():
    return tiny().fit(IMAGES, SETS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return in_kind(IMAGES, "paths", tmp_path_factory.mktemp("pictures"))


@pytest.fixture(name="X", params=["arrays", "paths"])
def images_or_paths(request, paths):
    return IMAGES if request.param == "arrays" else paths


# --- what comes back


def test_predictions_are_tables(fitted):
    assert fitted.classes_.tolist() == NAMES
    predicted = fitted.predict(IMAGES)
    assert predicted.dtype == int
    np.testing.assert_array_equal(predicted, TABLE)
    probabilities = fitted.predict_proba(IMAGES)
    np.testing.assert_array_equal(probabilities > 0.5, TABLE)
    np.testing.assert_allclose(fitted.decision_function(IMAGES), logit(probabilities), atol=1e-6)
    assert fitted.history_["binary_accuracy"][-1] == pytest.approx(1)


def test_all_ways_to_write_y_give_the_same_bits(fitted):
    expected = fitted.predict_proba(IMAGES)
    for y in (FRAME, TABLE, csr_matrix(TABLE)):
        found = tiny().fit(IMAGES, y)
        np.testing.assert_array_equal(found.predict_proba(IMAGES), expected)
        assert found.classes_.tolist() == (NAMES if y is FRAME else [0, 1])


def test_the_score_is_the_share_of_images_with_all_labels_right(fitted):
    for y in (SETS, TABLE, FRAME, FRAME[NAMES[::-1]], csr_matrix(TABLE)):
        assert fitted.score(IMAGES, y) == 1
    wrong = [SETS[0] ^ {"down"}, *SETS[1:]]
    assert fitted.score(IMAGES, wrong) == pytest.approx(1 - 1 / N)
    assert fitted.score(IMAGES, wrong, sample_weight=[N - 1] + [1] * (N - 1)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="Got 'stripe' too. Did you mean 'stripes'"):
        fitted.score(IMAGES, [{"stripe"}] * N)


def test_the_whole_model_ends_in_a_sigmoid(fitted):
    assert fitted.model_.layers[-1].activation.__name__ == "sigmoid"
    found = fitted.model_.predict(IMAGES.astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, fitted.predict_proba(IMAGES), atol=1e-4)


def test_archives_and_pickles_give_the_same_bits(fitted):
    file = io.BytesIO()
    save_model(fitted, file)
    for copy in (load_model(file), pickle.loads(pickle.dumps(fitted))):
        assert copy.classes_.tolist() == NAMES
        np.testing.assert_array_equal(copy.predict_proba(IMAGES), fitted.predict_proba(IMAGES))
        assert copy.score(IMAGES, SETS) == 1


def test_grad_cam_explains_a_label(fitted):
    display = GradCAMDisplay.from_estimator(fitted, IMAGES[:2], class_="down")
    assert display.classes.tolist() == ["down"] * 2
    np.testing.assert_allclose(display.probabilities, fitted.predict_proba(IMAGES[:2])[:, 0])
    other = GradCAMDisplay.from_estimator(fitted, IMAGES[:2], class_="stripes")
    assert not np.allclose(other.heatmaps, display.heatmaps)


def test_the_mean_over_equal_looks_changes_nothing(fitted):
    looks = pickle.loads(pickle.dumps(fitted)).set_params(test_time_augmentation="crops")
    expected = fitted.predict_proba(IMAGES)  # the crops of squares are the squares
    np.testing.assert_allclose(looks.predict_proba(IMAGES), expected, atol=1e-6)


# --- parameters of fit


def test_the_chosen_penalty_is_in_use():
    classifier = tiny(l2="auto").fit(IMAGES, TABLE)
    assert 1e-4 / 2 <= classifier.l2_ <= 10 / 2
    np.testing.assert_array_equal(classifier.predict(IMAGES), TABLE)


def test_a_hidden_layer_stops_early_by_validation_images():
    options = {"hidden_units": (16,), "epochs": 30, "learning_rate": 0.01, "early_stopping": True}
    classifier = tiny(validation_fraction=0.25, **options).fit(IMAGES, SETS)
    assert {"val_loss", "val_binary_accuracy"} <= set(classifier.history_)
    assert len(classifier.sample_indices_) == 18
    assert TABLE[classifier.sample_indices_].any(axis=0).all()
    assert classifier.score(IMAGES, SETS) > 0.9
    again = clone(classifier).fit(IMAGES, SETS)
    np.testing.assert_array_equal(again.predict_proba(IMAGES), classifier.predict_proba(IMAGES))


@pytest.mark.parametrize(
    "options", [{"l2": 1.0}, {"hidden_units": (8,), "epochs": 5}], ids=["linear", "adam"]
)
def test_weights_of_a_label_raise_its_probabilities(options):
    plain, weighted = tiny(**options), tiny(class_weight={"down": 20.0}, **options)
    before = plain.fit(IMAGES, SETS).predict_proba(IMAGES)
    after = weighted.fit(IMAGES, SETS).predict_proba(IMAGES)
    assert after[:, 0].mean() > before[:, 0].mean() + 0.01


def test_validation_data_may_be_sets():
    data = (IMAGES[:6], [set(), {"down"}, *SETS[2:6]])
    history = tiny().fit(IMAGES, FRAME, validation_data=data).history_
    assert history["val_binary_accuracy"][-1] == pytest.approx(1 - 2 / 12)
    with pytest.raises(ValueError, match="Got 'up' too"):
        tiny().fit(IMAGES, FRAME, validation_data=(IMAGES[:1], [{"up"}]))


@pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
def test_partial_fit_learns_several_labels():
    options = {"optimizer": "adam", "learning_rate": 0.01, "class_weight": {"stripes": 2.0}}
    classifier = tiny(**options)
    for _ in range(20):
        classifier.partial_fit(IMAGES, SETS, classes=NAMES[::-1])
    assert classifier.classes_.tolist() == NAMES[::-1]
    assert classifier.score(IMAGES, FRAME) > 0.9
    with pytest.raises(ValueError, match="must be those of the first call"):
        classifier.partial_fit(IMAGES, SETS, classes=["down", "up"])


def test_a_warm_start_keeps_the_labels():
    classifier = tiny(hidden_units=(4,), epochs=1, warm_start=True).fit(IMAGES, SETS)
    assert len(classifier.fit(IMAGES, FRAME).history_["loss"]) == 2
    with pytest.raises(ValueError, match="goes on with the labels of the last fit"):
        classifier.fit(IMAGES, FRAME[NAMES[::-1]])
    with pytest.raises(ValueError, match="goes on with the labels of the last fit"):
        classifier.fit(IMAGES, KIND)


@pytest.mark.filterwarnings("ignore:all images have the label")
def test_a_label_of_all_images_keeps_the_fit_finite():
    classifier = tiny(class_weight="balanced").fit(IMAGES, np.c_[TABLE, np.ones(N, int)])
    assert np.isfinite(classifier.head_.coef).all()
    assert (classifier.predict(IMAGES)[:, 2] == 1).all()


def test_errors_come_before_the_network():
    with pytest.raises(ValueError, match="Got none with 'up'"):
        TransferClassifier("no network").fit(IMAGES, FRAME.assign(up=0))
    with pytest.raises(InvalidParameterError, match="oversample=True"):
        tiny(oversample=True).fit(IMAGES, SETS)
    with pytest.warns(TransferclfWarning, match="one-hot"):
        tiny().fit(IMAGES, np.eye(3)[KIND])


def test_mixed_images_have_mixed_labels():
    varied = Augmentation(mixup=0.2, cutmix=0.5)
    network = ConvNet(filters=(8,), dense_units=(16,))
    options = {"backbone": network, "image_size": 8, "augmentation": varied, "l2": 0.0}
    classifier = tiny(epochs=3, learning_rate=0.01, **options).fit(IMAGES, SETS)
    assert np.isfinite(classifier.history_["loss"]).all()
    assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]


@pytest.mark.slow
def test_fine_tuning_through_the_cut_has_the_losses_of_keras():
    import keras

    options = {"trainable_layers": 8, "fine_tune_epochs": 2, "fine_tune_learning_rate": 1e-4}
    options |= PLAIN | {"optimizer": "auto"}  # the head at its optimum, then Adam
    fitted = tiny(batch_size=8, **options).fit(IMAGES, TABLE)
    model = fold_batch_norm(head_alone(fitted).fit(IMAGES, TABLE).model_)
    for layer in model.layers:
        is_trained = layer.name in {*fitted.head_.tuned(), "predictions"}
        layer.trainable = is_trained and not isinstance(layer, keras.layers.BatchNormalization)
    model.get_layer("predictions").kernel.regularizer = keras.regularizers.L2(0.01)
    model.compile("adam", "binary_crossentropy")
    model.optimizer.learning_rate = 1e-4
    losses, pixels, targets = [], IMAGES.astype(np.float32), TABLE.astype(np.float32)
    for order in epoch_orders(Samples.of(IMAGES, TABLE, np.ones(N)), 2, seed=0):
        model.fit(pixels[order], targets[order], batch_size=8, shuffle=False, verbose=0)
        losses += model.history.history["loss"]
    np.testing.assert_allclose(fitted.history_["loss"][-2:], losses, atol=1e-4)
    np.testing.assert_allclose(
        model.predict(pixels, verbose=0), fitted.predict_proba(IMAGES), atol=1e-3
    )


# --- tools of scikit-learn


def test_searches_and_cross_validation_by_scores_of_several_labels(X):
    table = np.c_[TABLE, KIND == 2]
    search = GridSearchCV(tiny(), {"l2": [0.01, 1000.0]}, scoring="f1_samples", cv=2).fit(X, table)
    assert search.best_params_ == {"l2": 0.01}
    mean = make_scorer(average_precision_score, response_method="predict_proba")
    scoring = {"f1": "f1_macro", "auc": "roc_auc", "all": "accuracy", "map": mean}
    found = cross_validate(tiny(), X, table, cv=2, scoring=scoring)
    for name in scoring:
        np.testing.assert_array_equal(found[f"test_{name}"], 1)


def test_scores_of_two_labels_need_a_function(X):
    def mean_average_precision(estimator, X, y):
        return average_precision_score(y, estimator.predict_proba(X))

    found = cross_validate(tiny(), X, TABLE, cv=2, scoring=mean_average_precision)
    assert found["test_score"].tolist() == [1, 1]


def test_thresholds_are_tuned_for_each_label(X):
    tuned = TunedThresholdClassifierCV(tiny(), scoring="f1", cv=2)
    each = MultiOutputClassifier(tuned).fit(X, TABLE)
    assert all(0 < estimator.best_threshold_ < 1 for estimator in each.estimators_)
    np.testing.assert_array_equal(each.predict(X), TABLE)
    plain = MultiOutputClassifier(tiny()).fit(X, TABLE)
    np.testing.assert_array_equal(plain.predict(X), TABLE)


def test_chains_are_of_heads_on_features(X):
    chain = ClassifierChain(LogisticRegression(C=0.01), order=[1, 0])
    pipeline = make_pipeline(CNNFeatureExtractor(image_size=32), chain).fit(X, TABLE)
    np.testing.assert_array_equal(pipeline.predict(X), TABLE)


# Of some kinds of animals in `caltech_animals35`.
ATTRIBUTES = {
    "dalmatian": {"quadruped", "spotted"},
    "beaver": {"quadruped", "in water"},
    "bass": {"in water"},
    "flamingo": {"flies", "in water"},
    "pigeon": {"flies"},
    "tick": set(),
}


@pytest.mark.realdata
def test_attributes_of_animals_are_found_as_well_as_by_scikit_learn(data):
    bunch = load_image_folder(data / "caltech_animals35", classes=list(ATTRIBUTES))
    places = [np.flatnonzero(bunch.target == kind)[:24] for kind in ATTRIBUTES]
    train, test = (
        np.concatenate([one[part] for one in places]) for part in (np.s_[:16], np.s_[16:])
    )
    Y, Y_test = ([ATTRIBUTES[kind] for kind in bunch.target[part]] for part in (train, test))
    classifier = TransferClassifier("tiny", image_size=64).fit(bunch.data[train], Y)
    encode = classifier.head_.suffix.objective.encode_known
    expected = encode(Y_test, len(test))
    found = average_precision_score(expected, classifier.predict_proba(bunch.data[test]))
    extractor = CNNFeatureExtractor("tiny", image_size=64)
    rows, rows_of_test = (
        extractor.fit_transform(bunch.data[train]),
        extractor.transform(bunch.data[test]),
    )
    each = OneVsRestClassifier(make_pipeline(StandardScaler(), LogisticRegression(C=0.01)))
    own = each.fit(rows, encode(Y, len(train))).predict_proba(rows_of_test)
    assert found >= average_precision_score(expected, own) - 0.01
    assert found >= 0.75
