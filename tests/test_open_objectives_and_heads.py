"""Tests of a user-defined target and a user-defined head, from fit to archive."""

import io

import matplotlib as mpl
import numpy as np
import pytest
from exactness import outputs_of
from image_helpers import striped_images

from transferclf import TransferClassifier, load_model, save_model
from transferclf.exceptions import InvalidParameterError
from transferclf.heads import registry as heads
from transferclf.heads.fitted import FittedHead
from transferclf.heads.gradients import layer_gradients
from transferclf.heads.scaling import Moments
from transferclf.heads.suffix import Suffix
from transferclf.objectives import Classes, Objective, objective_for, register_objective
from transferclf.objectives import registry as objectives
from transferclf.objectives.base import Evaluated, Judged
from transferclf.reports import (
    GradCAMDisplay,
    ImageGridDisplay,
    TrainingHistoryDisplay,
    audit,
    evaluate,
    report,
    run_experiments,
)

mpl.use("Agg")

N, SIDE = 24, 32
IMAGES = striped_images(N, np.random.default_rng(1))
LABELS = np.array(["a", "b", "c"])[np.arange(N) % 3]


@pytest.fixture(autouse=True)
def _registries(monkeypatch):
    """Restore all registries after each test."""
    monkeypatch.setattr(objectives, "_KINDS", dict(objectives._KINDS))
    monkeypatch.setattr(heads, "_FITS", dict(heads._FITS))
    monkeypatch.setattr(heads, "_CLASSES", dict(heads._CLASSES))


def tiny(**changes):
    parameters = {"image_size": SIDE, "l2": 0.01, "random_state": 0}
    return TransferClassifier("tiny", **(parameters | changes))


def saved_and_loaded(classifier):
    file = io.BytesIO()
    save_model(classifier, file)
    return load_model(file)


# --- a target: squared error between scores and points in the plane


class Points(Objective):
    kind = "points"
    measure = "distance"
    outputs = "points"
    activation = "linear"
    n_outputs = 2

    @classmethod
    def takes(cls, y):
        return np.ndim(y) == 2 and np.shape(y)[1] == 2

    @classmethod
    def encode(cls, y, n_samples):
        return cls(), np.asarray(y, dtype=np.float32)

    @classmethod
    def announced(cls, classes):
        return cls()

    def encode_known(self, y, n_samples):
        return np.asarray(y, dtype=np.float32)

    def check_encoded(self, targets, n_samples):
        assert targets.shape == (n_samples, 2)

    def is_same(self, other):
        return isinstance(other, Points)

    def description(self):
        return "points"

    def attributes(self):
        return {}

    def class_factors(self, class_weight, targets):
        return None

    def oversampled(self, targets, seed):
        return np.arange(len(targets))

    def validation_split(self, targets, fraction, seed, groups):
        order = np.random.default_rng(seed).permutation(len(targets))
        n_held_out = int(fraction * len(targets))
        return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])

    def strata(self, targets):
        return (targets[:, 0] > np.median(targets[:, 0])).astype(int)

    def evaluate(self, scores, targets, shares):
        losses, distances = self.losses(scores, targets)
        gradient = shares[:, None] * (scores - targets)
        return Evaluated(float(shares @ losses), float(shares @ distances), gradient)

    def losses(self, scores, targets):
        squares = ((scores - targets) ** 2).sum(axis=1)
        return squares / 2, np.sqrt(squares)

    def judge(self, scores, targets):
        return Judged(*self.losses(scores, targets), 1.0)

    first_curvature = 1.0

    def keras_loss(self, are_mixed):
        import keras

        return keras.losses.MeanSquaredError()

    def keras_metric(self, are_mixed):
        import keras

        return keras.metrics.RootMeanSquaredError(name=self.measure)

    def no_targets(self, n_samples):
        return np.zeros((n_samples, 2), np.float32)

    def spread(self, targets):
        return targets

    def link(self, scores):
        return scores.astype(float)

    def mean_scores(self, several):
        return np.mean(several, axis=0)

    def decision(self, scores):
        return scores

    def decide(self, linked):
        return linked

    def to_json(self):
        return {}

    @classmethod
    def from_json(cls, facts):
        return cls()


@pytest.fixture
def points():
    register_objective(Points)
    centres = np.array([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]])
    return centres[np.arange(N) % 3]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"l2": "auto"},
        {"hidden_units": (32,), "epochs": 60, "learning_rate": 0.01},
        {"test_time_augmentation": "crops"},
    ],
    ids=["linear", "chosen", "hidden", "looks"],
)
def test_a_user_defined_target(points, options):
    classifier = tiny(**options).fit(IMAGES, points)
    predicted = classifier.predict(IMAGES)
    assert np.abs(predicted - points).mean() < 0.2
    assert classifier.history_["loss"][-1] < classifier.history_["loss"][0]
    assert len(classifier.history_["distance"]) == classifier.n_iter_
    np.testing.assert_allclose(classifier.decision_function(IMAGES), predicted)
    np.testing.assert_allclose(saved_and_loaded(classifier).predict(IMAGES), predicted, atol=1e-5)


def test_the_whole_model_ends_in_the_link_of_the_target(points):
    classifier = tiny().fit(IMAGES, points)
    assert classifier.model_.layers[-1].activation.__name__ == "linear"
    found = outputs_of(classifier.model_, IMAGES)
    np.testing.assert_allclose(found, classifier.predict(IMAGES), atol=1e-4)


def test_the_target_measures_validation_images(points):
    options = {"hidden_units": (4,), "epochs": 2, "early_stopping": True}
    classifier = tiny(validation_fraction=0.25, **options).fit(IMAGES, points)
    assert len(classifier.sample_indices_) == 18
    assert {"val_loss", "val_distance"} <= set(classifier.history_)


def test_the_history_display_draws_the_measure_of_the_target(points):
    classifier = tiny().fit(IMAGES, points, validation_data=(IMAGES[:6], points[:6]))
    display = TrainingHistoryDisplay.from_estimator(classifier, name="run")
    assert [axes.get_ylabel() for axes in display.axes_] == ["loss", "distance"]
    drawn = display.lines_["run", "val_distance"].get_ydata()
    np.testing.assert_array_equal(drawn, classifier.history_["val_distance"])


def test_grad_cam_explains_one_output_of_the_target(points):
    classifier = tiny().fit(IMAGES, points)
    of_second = GradCAMDisplay.from_estimator(classifier, IMAGES[:4], class_=1)
    values = classifier.predict(IMAGES[:4])
    np.testing.assert_allclose(of_second.probabilities, values[:, 1], atol=1e-5)
    titles = [axes.get_title() for axes in of_second.axes_]
    assert titles == [f"1\n{value:.3g}" for value in of_second.probabilities]
    of_highest = GradCAMDisplay.from_estimator(classifier, IMAGES[:4])
    np.testing.assert_array_equal(of_highest.classes, values.argmax(axis=1))
    # A softmax ignores the mean of the weights of all outputs; these outputs do not.
    model = classifier.model_
    activations, gradients = layer_gradients(model, of_second.layer, IMAGES[:4], np.ones(4, int))
    other = layer_gradients(model, of_second.layer, IMAGES[:4], np.zeros(4, int))[1]
    assert np.abs(gradients + other).max() > 0.01 * np.abs(gradients).max()
    maps = np.maximum((gradients.mean(axis=(1, 2), keepdims=True) * activations).sum(axis=-1), 0)
    expected = maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(of_second.heatmaps, expected, atol=1e-5)


def test_reports_about_classes_refuse_other_targets(points, tmp_path):
    classifier = tiny().fit(IMAGES, points)
    told = "is about classes: expected one class for each sample. Got .* kind 'points'"
    with pytest.raises(InvalidParameterError, match=told):
        evaluate(classifier, IMAGES, points)
    with pytest.raises(InvalidParameterError, match=told):
        report(classifier, IMAGES, points, tmp_path / "page.html")
    with pytest.raises(InvalidParameterError, match=told):
        ImageGridDisplay.from_estimator(classifier, IMAGES, points)
    with pytest.raises(InvalidParameterError, match=f"audit {told}"):
        audit(IMAGES, points)
    with pytest.raises(InvalidParameterError, match=f"run_experiments {told}"):
        run_experiments({"a": tiny()}, IMAGES, points, directory=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]


def test_labels_of_no_other_kind_are_classes(points):
    assert isinstance(objective_for(points, N)[0], Points)
    objective, targets = objective_for(LABELS, N)
    assert isinstance(objective, Classes)
    np.testing.assert_array_equal(objective.labels[targets], LABELS)


# --- a head: the nearest mean of a class


class NearestMean(FittedHead):
    kind = "nearest mean"

    def scores(self, rows):
        centres = self.weights[0]
        return -np.square(rows[:, None] - centres).sum(axis=2)

    def can_start(self, suffix):
        return False

    def is_head_of(self, suffix, is_linear):
        return is_linear


def fit_nearest_mean(features, targets, objective, *, l2, sample_weight, max_iter, validation):
    masks = [targets == number for number in range(objective.n_outputs)]
    moments = Moments.of(features, sample_weight)
    return NearestMean(
        suffix=Suffix(objective),
        mean=moments.mean,
        scale=moments.scale(),
        weights=[np.stack([features[mask].mean(axis=0) for mask in masks])],
        l2=l2,
        history={"loss": [0.0], "accuracy": [1.0]},
    )


@pytest.fixture
def _nearest_mean():
    heads.register_head("nearest_mean", fit_nearest_mean, NearestMean)


@pytest.mark.usefixtures("_nearest_mean")
def test_a_user_defined_head():
    classifier = tiny(optimizer="nearest_mean").fit(IMAGES[:12], LABELS[:12])
    features = classifier.prefix_.forward()(IMAGES)
    centres = np.stack([features[:12][LABELS[:12] == label].mean(axis=0) for label in "abc"])
    nearest = np.square(features[:, None] - centres).sum(axis=2).argmin(axis=1)
    assert classifier.predict(IMAGES).tolist() == np.array(["a", "b", "c"])[nearest].tolist()
    found = evaluate(classifier, IMAGES[12:], LABELS[12:])
    assert found["accuracy"] == np.mean(np.array(["a", "b", "c"])[nearest[12:]] == LABELS[12:])
    loaded = saved_and_loaded(classifier)
    assert loaded.predict(IMAGES).tolist() == classifier.predict(IMAGES).tolist()
    assert isinstance(loaded.head_, NearestMean)


@pytest.mark.usefixtures("_nearest_mean")
@pytest.mark.parametrize(
    "options",
    [{"hidden_units": (3,)}, {"dropout": 0.1}, {"l1": 0.1}],
    ids=lambda it: next(iter(it)),
)
def test_parameters_of_layers_are_refused(options):
    with pytest.raises(InvalidParameterError, match="optimizer='nearest_mean' fits"):
        tiny(optimizer="nearest_mean", **options).fit(IMAGES, LABELS)


@pytest.mark.usefixtures("_nearest_mean")
def test_names_of_heads_are_registered_once():
    with pytest.raises(InvalidParameterError, match="already"):
        heads.register_head("nearest_mean", fit_nearest_mean, NearestMean)
    with pytest.raises(InvalidParameterError, match="already"):
        heads.register_head("lbfgs", fit_nearest_mean, NearestMean)


def test_an_unknown_head_is_refused():
    with pytest.raises(InvalidParameterError, match="optimizer must be one of"):
        tiny(optimizer="nearest_mean").fit(IMAGES, LABELS)
