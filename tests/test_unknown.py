"""Tests of UnknownRejector: known images are kept, others are rejected."""

import re
import warnings

import numpy as np
import pytest
from image_helpers import in_kind, striped_images
from sklearn.base import clone
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, normalize

from transferclf import (
    FeatureStore,
    TransferClassifier,
    UnknownRejector,
    load_image_folder,
)
from transferclf.estimators import strangeness
from transferclf.estimators.known import check_is_constant
from transferclf.estimators.strangeness import Normality, held_out_measures, offset_of
from transferclf.exceptions import InvalidParameterError, TransferclfWarning

N = 90
KNOWN, UNKNOWN = slice(0, 60), slice(60, N)


def classifier(**parameters):
    return TransferClassifier(**{"image_size": 32, "l2": 0.1, "random_state": 0, **parameters})


def rejector(estimator=None, **parameters):
    estimator = classifier() if estimator is None else estimator
    return UnknownRejector(estimator, **{"coverage": 0.9, "random_state": 0, **parameters})


@pytest.fixture(autouse=True, scope="module")
def _no_covariance_of_many_features():
    """Save a second in each fit: the cost of the covariance does not depend on the images."""
    before, strangeness.MAX_FEATURES = strangeness.MAX_FEATURES, 64
    yield
    strangeness.MAX_FEATURES = before


@pytest.fixture(scope="module")
def images():
    """Return 60 images of horizontal and vertical stripes, then 30 of noise, and their labels."""
    stack, kinds = striped_images(N, np.random.default_rng(0)), np.arange(N) % 3
    order = np.concatenate([np.flatnonzero(kinds < 2), np.flatnonzero(kinds == 2)])
    names = np.array(["flat", "steep", "noise"])
    return stack[order], names[kinds[order]]


@pytest.fixture(scope="module")
def fitted(images):
    X, y = images
    return rejector().fit(X[:40], y[:40])


def test_unknown_images_are_rejected_and_known_ones_are_kept(fitted, images):
    X, y = images
    predicted = fitted.predict(X)
    assert set(predicted[UNKNOWN]) == {"unknown"}
    kept = predicted[40:60] != "unknown"
    assert kept.mean() >= 0.75
    np.testing.assert_array_equal(predicted[40:60][kept], y[40:60][kept])
    assert fitted.classes_.tolist() == ["flat", "steep"]
    assert fitted.unknown_label_ == "unknown"
    is_known = np.arange(40, N) < 60
    assert roc_auc_score(is_known, fitted.score_samples(X[40:])) == 1.0


def test_predictions_are_rejected_below_the_offset(fitted, images):
    X = images[0]
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.predict(X) == "unknown", scores < fitted.offset_)
    inner = fitted.estimator_
    np.testing.assert_array_equal(fitted.predict_proba(X), inner.predict_proba(X))
    np.testing.assert_array_equal(fitted.decision_function(X), inner.decision_function(X))
    kept = scores >= fitted.offset_
    np.testing.assert_array_equal(fitted.predict(X)[kept], inner.predict(X)[kept])


def test_the_score_of_an_image_does_not_depend_on_its_company(fitted, images):
    X = images[0][30:70]
    whole = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.score_samples(X[::-1])[::-1], whole)
    np.testing.assert_array_equal(
        [fitted.score_samples(X[i : i + 1])[0] for i in (0, 39)], whole[[0, 39]]
    )


def test_the_same_seed_gives_the_same_bits(fitted, images):
    X, y = images
    again = rejector().fit(X[:40], y[:40])
    assert again.offset_ == fitted.offset_
    np.testing.assert_array_equal(again.held_out_scores_, fitted.held_out_scores_)
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))


@pytest.mark.parametrize("kind", ["arrays", "paths", "PIL"])
def test_no_image_goes_through_the_network_twice(images, kind, tmp_path):
    X, y = in_kind(images[0], kind, tmp_path), images[1]
    store = FeatureStore()
    fitted = rejector(classifier(cache=store)).fit(X[:40], y[:40])
    assert store.info().misses == 40
    fitted.predict(X[40:])
    assert store.info().misses == N
    fitted.score_samples(X)
    fitted.predict_proba(X)
    assert store.info().misses == N


def test_predicting_without_a_store_takes_one_pass(images, monkeypatch):
    X, y = images
    fitted = rejector(classifier(cache=None)).fit(X[:40], y[:40])
    calls, applied = [], TransferClassifier._applied
    monkeypatch.setattr(
        TransferClassifier, "_applied", lambda *given: calls.append(1) or applied(*given)
    )
    found = fitted.predict(X)
    assert calls == [1]
    np.testing.assert_array_equal(found == "unknown", fitted.score_samples(X) < fitted.offset_)


# --- the score


def features_of(rng, n, n_classes=3, width=5):
    classes = np.arange(n) % n_classes
    return (rng.normal(size=(n, width)) + 3 * np.eye(width)[classes]).astype(np.float32), classes


def typical_by_hand(rows, classes):
    """Cosines to the centre of the other images of the class; five more have the mean of all."""
    found = {c: [] for c in range(3)}
    for i, c in enumerate(classes):
        others = [row for j, row in enumerate(rows) if classes[j] == c and j != i]
        found[c].append(normalize([np.mean(others, axis=0)])[0] @ rows[i])
    mean = np.mean([cosine for cosines in found.values() for cosine in cosines])
    return [(sum(cosines) + 5 * mean) / (len(cosines) + 5) for cosines in found.values()]


def test_closeness_and_contrast_have_the_documented_values(rng):
    known, classes = features_of(rng, 12)
    others = rng.normal(size=(40, 5)).astype(np.float32)
    unit, rows = normalize(known.astype(float)), normalize(others.astype(float))
    means = np.array([unit[classes == c].mean(axis=0) for c in range(3)])
    covariance = np.cov((unit - means[classes]).T)
    covariance /= np.trace(covariance) / 5
    axes = np.linalg.inv(np.linalg.cholesky(0.1 * covariance + 0.9 * np.eye(5))).T
    turned, turned_known = normalize(rows @ axes), normalize(unit @ axes)
    to_images = np.sort(turned @ turned_known.T, axis=1)[:, -2:].mean(axis=1)
    centres = normalize([turned_known[classes == c].mean(axis=0) for c in range(3)])
    typical = typical_by_hand(turned_known, classes)
    closeness = (to_images + (turned @ centres.T - typical).max(axis=1)) / 2
    inverse = np.linalg.inv(0.5 * covariance + 0.5 * np.eye(5))
    scores = [rows @ inverse @ mean - mean @ inverse @ mean / 2 for mean in means]
    contrast = np.max(scores, axis=0) - np.mean(scores, axis=0)
    normality = Normality.of(known, classes)
    expected = np.column_stack([closeness, contrast])
    np.testing.assert_allclose(normality.measures(others), expected, atol=1e-9)
    held_out = np.array([[0.5, 0.2], [0.7, 0.6], [0.6, 0.4]])
    centre, scale = held_out.mean(axis=0), held_out.std(axis=0)
    first, second = ((expected - centre) / scale).T
    found = normality.standardised(held_out).scores(others)
    np.testing.assert_allclose(found, first + np.minimum(second, 0), atol=1e-7)


def test_contrast_makes_no_image_normal(rng):
    normality = Normality.of(*features_of(rng, 30)).standardised(rng.normal(size=(20, 2)))
    few, many = normality.scores_of(np.array([[0.0, 5.0], [0.0, 500.0]]))
    assert few == many


def test_wide_features_and_classes_of_copies_have_a_score(rng, monkeypatch):
    known, classes = features_of(rng, 12)
    copies = np.repeat(known[:3], 4, axis=0)
    assert Normality.of(copies, np.repeat([0, 1, 2], 4)).axes is None
    monkeypatch.setattr(strangeness, "MAX_FEATURES", 4)
    normality = Normality.of(known, classes)
    assert normality.axes is None
    rows = normalize(known)
    centres = normalize([rows[classes == c].mean(axis=0) for c in range(3)])
    to_images = 0.5 + np.sort(rows[:1] @ rows.T)[0, -2] / 2  # itself and the next
    typical = typical_by_hand(rows, classes)
    expected = (to_images + (rows[:1] @ centres.T - typical).max()) / 2
    np.testing.assert_allclose(normality.measures(known[:1])[0, 0], expected, atol=1e-6)


def test_features_of_zeros_are_strange_and_finite(rng):
    normality = Normality.of(*features_of(rng, 12))
    found = normality.measures(np.zeros((1, 5), np.float32))[0, 0]
    assert found == -normality.typical.min() / 2  # all cosines are 0
    assert np.isfinite(normality.measures(np.zeros((1, 5), np.float32))).all()


def test_copies_of_an_image_are_held_out_together(rng):
    features, classes = features_of(rng, 12)
    twice = np.concatenate([features, features])
    once = held_out_measures(features, classes, 12, 0)
    both = held_out_measures(twice, np.concatenate([classes, classes]), 12, 0)
    assert len(both) == 24
    # A copy in another fold would have a cosine of 1.
    assert both[:, 0].max() < 0.9999
    assert once[:, 0].max() < 0.9999


def test_the_only_image_of_a_class_is_not_held_out(rng):
    features, classes = features_of(rng, 12)
    classes[0] = 7
    assert len(held_out_measures(features, classes, 4, 0)) == 11


@pytest.mark.parametrize(
    ("n", "coverage", "place"), [(99, 0.9, 10), (99, 0.95, 5), (99, 0.99, 1), (19, 0.95, 1)]
)
def test_the_offset_is_the_order_statistic_of_conformal_prediction(rng, n, coverage, place):
    scores = rng.normal(size=n)
    assert offset_of(scores, coverage) == np.sort(scores)[place - 1]


def test_new_images_are_kept_with_the_probability_asked_for(rng):
    kept = [np.mean(rng.normal(size=50) >= offset_of(rng.normal(size=59), 0.9)) for _ in range(400)]
    assert np.mean(kept) == pytest.approx(0.9, abs=0.01)


def test_too_few_held_out_images_for_the_coverage_are_a_warning():
    with pytest.warns(TransferclfWarning, match="coverage=0.95 needs 19 held-out .* are 9") as seen:
        assert offset_of(np.arange(9.0), 0.95) == 0.0
    assert "0.9 of the known images" in str(seen[0].message)


# --- labels


@pytest.mark.parametrize(
    ("labels", "unknown_label", "expected"),
    [
        (["a", "b"], None, "unknown"),
        (["a", "b"], "something else", "something else"),
        (np.array(["a", "b"], object), None, "unknown"),
        ([0, 1], None, -1),
        ([3, 5], np.int64(0), 0),
        (np.array([0, 1], np.uint8), None, -1),
        ([1.0, 2.0], None, -1),
        ([False, True], None, -1),
    ],
)
def test_unknown_images_get_a_label_of_the_type_of_the_classes(
    images, fitted, labels, unknown_label, expected
):
    X, y = images
    y = np.asarray(labels)[(y[:40] == "steep").astype(int)]
    found = rejector(unknown_label=unknown_label).fit(X[:40], y)
    predicted = found.predict(X[50:70])
    np.testing.assert_array_equal(
        predicted == expected, fitted.predict(X[50:70]) == "unknown", strict=True
    )
    assert found.unknown_label_ == expected
    assert set(predicted.tolist()) <= {expected, *np.asarray(labels).tolist()}


@pytest.mark.parametrize(
    ("labels", "unknown_label", "reason"),
    [
        (["a", "b"], "b", "none of the classes ['a', 'b']. Got 'b'"),
        (["unknown", "b"], None, "none of the classes"),
        ([-1, 1], None, "none of the classes [-1, 1]. Got -1"),
        (["a", "b"], -1, "a text, as the classes are, or None. Got -1"),
        ([0, 1], "unknown", "a whole number, as the classes are, or None. Got 'unknown'"),
        ([0, 1], True, "a whole number"),
        ([0, 1], np.nan, "a whole number"),
        (["a", "b"], ["c"], "a text"),
    ],
)
def test_labels_that_cannot_mean_unknown_are_refused(images, labels, unknown_label, reason):
    y = np.asarray(labels)[np.arange(40) % 2]
    assert_refused(rejector(unknown_label=unknown_label), images[0][:40], y, reason)


# --- parameters


def assert_refused(estimator, X, y, reason, error=InvalidParameterError):
    """Check that `fit` raises the error before any network is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            TransferClassifier, "_fit_prefix", lambda *args, **kwargs: pytest.fail("built")
        )
        with pytest.raises(error, match=re.escape(reason)):
            estimator.fit(X, y)
    assert not hasattr(estimator, "offset_")


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        *[
            ({"coverage": value}, "coverage must be")
            for value in (0, 1, -0.1, 95, True, "0.9", None)
        ],
        ({"coverage": np.nan}, "coverage must be"),
        *[
            ({"n_splits": value}, "n_splits must be a whole number of at least 2")
            for value in (1, 2.5, True)
        ],
        ({"random_state": -1}, "random_state must be"),
        ({"estimator": LogisticRegression()}, "estimator must be a TransferClassifier"),
        ({"estimator": None}, "estimator must be a TransferClassifier"),
        ({"estimator": TransferClassifier}, "estimator must be a TransferClassifier"),
        ({"estimator": BaggingClassifier(classifier())}, "estimator must be a TransferClassifier"),
        ({"estimator": classifier(resize="squeeze")}, "resize must be"),
    ],
)
def test_invalid_parameters_are_refused(images, parameters, reason):
    assert_refused(rejector().set_params(**parameters), images[0][:40], images[1][:40], reason)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (None, "y to be passed"),
        (["a"] * 40, "at least two classes"),
        (["a", "b"], "40 images and 2 labels"),
        (np.arange(40), "needs two images of a class"),
        ([np.nan, 1.0] * 20, "no label"),
    ],
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_labels_that_cannot_be_learned_from_are_refused(images, y, reason):
    assert_refused(rejector(), images[0][:40], y, reason, ValueError)


@pytest.mark.parametrize("X", [[], np.empty((0, 32, 32, 3), np.uint8)])
def test_no_images_are_an_error(X):
    assert_refused(rejector(), X, [], "mpty", ValueError)


def test_copies_of_one_image_of_each_class_are_an_error(images):
    X, y = images
    with pytest.raises(ValueError, match="all images of a class the same"):
        rejector().fit(np.repeat(X[:2], 5, axis=0), np.repeat(y[:2], 5))


def test_a_rejector_that_is_not_fitted_says_so(images):
    for name in ("predict", "score_samples", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(rejector(), name)(images[0])
    with pytest.raises(NotFittedError):
        rejector(FrozenEstimator(classifier())).fit(images[0][:40], images[1][:40])


def test_a_failed_fit_leaves_the_last_result(fitted, images):
    again = clone(fitted).fit(images[0][:40], images[1][:40])
    with pytest.raises(ValueError, match="two classes"):
        again.fit(images[0][:40], ["a"] * 40)
    assert again.offset_ == fitted.offset_


# --- few images


@pytest.mark.parametrize("sizes", [(5, 5), (2, 2), (5, 1), (2, 1)])
def test_few_images_are_enough(images, sizes):
    X, y = images
    chosen = [*np.flatnonzero(y == "flat")[: sizes[0]], *np.flatnonzero(y == "steep")[: sizes[1]]]
    with pytest.warns(TransferclfWarning, match="coverage=0.95 needs 19"):
        found = rejector(coverage=0.95).fit(X[chosen], y[chosen])
    assert (found.predict(X[UNKNOWN]) == "unknown").mean() == 1.0
    n_alone = sum(size == 1 for size in sizes)
    assert len(found.held_out_scores_) == sum(sizes) - n_alone
    assert np.isfinite(found.score_samples(X)).all()


# --- other estimators inside


def test_a_frozen_classifier_is_kept_as_it_is(fitted, images):
    X, y = images
    inner = classifier().fit(X[:40], y[:40])
    found = rejector(FrozenEstimator(inner)).fit(X[:40], y[:40])
    assert found.estimator_.estimator is inner
    # The classifiers were fitted one after the other, and may have features from other batches.
    np.testing.assert_allclose(found.score_samples(X), fitted.score_samples(X), atol=2e-4)
    some = rejector(FrozenEstimator(inner)).fit(X[:40:2], y[:40:2])
    assert some.classes_.tolist() == ["flat", "steep"]
    with pytest.raises(ValueError, match="known classes"):
        rejector(FrozenEstimator(inner)).fit(X[40:], y[40:])


@pytest.mark.parametrize("kind", ["pipeline", "search", "frozen pipeline", "frozen search"])
def test_pipelines_and_searches_may_end_in_the_classifier(fitted, images, kind):
    X, y = images
    inner = classifier()
    if "pipeline" in kind:
        inner = make_pipeline(FunctionTransformer(), inner)
    else:
        inner = GridSearchCV(inner, {"l2": [0.1]}, cv=2)
    if "frozen" in kind:
        inner = FrozenEstimator(inner.fit(X[:40], y[:40]))
    found = rejector(inner).fit(X[:40], y[:40])
    np.testing.assert_array_equal(found.predict(X), fitted.predict(X))


@pytest.mark.slow
def test_images_are_held_out_from_trained_layers(images):
    X, y = images
    tuned = classifier(l2=0.01, trainable_layers="top", fine_tune_epochs=1)
    found = rejector(tuned, n_splits=4).fit(X[:40], y[:40])
    assert len(found.held_out_scores_) == 10
    assert len(found.normality_.known) == 30
    assert (found.predict(X[UNKNOWN]) == "unknown").mean() >= 0.9
    with pytest.raises(InvalidParameterError, match="no pipeline"):
        rejector(make_pipeline(FunctionTransformer(), tuned)).fit(X[:40], y[:40])
    with pytest.raises(InvalidParameterError, match="the search in estimator chose"):
        check_is_constant(tuned)


def test_several_labels_for_an_image_are_refused(images):
    Y = np.array([[0, 1], [1, 1]])[np.arange(40) % 2]
    with pytest.raises(ValueError, match="label"):
        rejector().fit(images[0][:40], Y)


def test_sample_weights_reach_the_classifier(images):
    X, y = images
    weights = np.where(y[:40] == "flat", 5.0, 1.0)
    found = rejector().fit(X[:40], y[:40], sample_weight=weights)
    expected = classifier().fit(X[:40], y[:40], sample_weight=weights)
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


# --- scikit-learn


def test_parameters_of_the_classifier_can_be_set_and_searched(images):
    X, y = images
    found = rejector().set_params(estimator__l2=0.5, coverage=0.8)
    assert (found.estimator.l2, clone(found).coverage) == (0.5, 0.8)
    grid = {"coverage": [0.6, 0.9], "estimator__l2": [0.1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferclfWarning)
        search = GridSearchCV(found, grid, cv=2).fit(X[:60], y[:60])
        assert search.best_params_["coverage"] == 0.9
        scores = cross_val_score(rejector(), X[:60], y[:60], cv=2)
    # Known images that are rejected count as wrong.
    assert 0.7 <= scores.mean() <= 1.0


def test_rejected_images_count_as_right_where_they_are_unknown(fitted, images):
    X, y = images
    labels = np.where(y == "noise", "unknown", y)
    assert fitted.score(X[UNKNOWN], labels[UNKNOWN]) == 1.0


# --- real images


@pytest.mark.realdata
@pytest.mark.slow
def test_animals_of_other_kinds_and_cells_are_told_apart(data, monkeypatch):
    monkeypatch.setattr(strangeness, "MAX_FEATURES", 4096)
    animals = load_image_folder(data / "caltech_animals35")
    chosen = np.random.default_rng(0).permutation(np.unique(animals.target))[:15]
    places = np.concatenate([np.flatnonzero(animals.target == name)[:24] for name in chosen])
    is_known = np.isin(animals.target[places], chosen[:10])
    train, test = train_test_split(
        places[is_known], stratify=animals.target[places[is_known]], random_state=0
    )
    cells = load_image_folder(data / "blood_cells4", split="test_simple").data[:40]
    found = UnknownRejector(TransferClassifier(l2=0.01), random_state=0)
    found.fit(animals.data[train], animals.target[train])
    known = found.score_samples(animals.data[test])
    for others, least in ((animals.data[places[~is_known]], 0.65), (cells, 0.97)):
        scores = np.concatenate([known, found.score_samples(others)])
        assert roc_auc_score(np.arange(len(scores)) < len(known), scores) >= least
    assert 0.85 <= np.mean(known >= found.offset_) <= 1.0
