"""Tests of the estimators inside the tools of scikit-learn, with images.

Some tools require a table as X. They get a column of paths or rows of pixels, as the names of their
tests say.
"""

import joblib
import numpy as np
import pytest
from image_helpers import in_kind, striped_images, taken
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    StratifiedKFold,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from transferclf import Augmentation, CNNFeatureExtractor, ConvNet, TransferClassifier
from transferclf.features import shared_store

N = 24
CLASS = np.arange(N) % 3
LABELS = np.array(["across", "down", "noise"])[CLASS]
IS_DOWN = CLASS == 1


def tiny(**options):
    return TransferClassifier(**{"image_size": 32, "l2": 0.01, "random_state": 0, **options})


def features(**options):
    return CNNFeatureExtractor(image_size=32, **options)


@pytest.fixture(scope="module")
def images():
    return striped_images(N, np.random.default_rng(0))


@pytest.fixture(scope="module")
def paths(images, tmp_path_factory):
    return in_kind(images, "paths", tmp_path_factory.mktemp("pictures"))


@pytest.fixture(name="X", params=["arrays", "paths"])
def images_or_paths(request, images, paths):
    return images if request.param == "arrays" else paths


@pytest.fixture
def column(paths):
    """A column of paths, shape (n, 1)."""
    return np.array(paths, dtype=object)[:, None]


@pytest.fixture
def rows(images):
    return images.reshape(N, -1)


@pytest.fixture(params=["column of paths", "rows"])
def table(request, column, rows):
    """X as a table, and a classifier for it."""
    if request.param == "rows":
        return rows, tiny(image_shape=(32, 32, 3))
    return column, tiny()


# Pipelines -----------------------------------------------------------------------------------


def test_pipelines(X):
    pipeline = Pipeline(
        [("cnn", features()), ("scale", StandardScaler()), ("clf", LogisticRegression())]
    )
    assert pipeline.fit(X, LABELS).score(X, LABELS) == 1
    assert pipeline[:-1].get_feature_names_out()[0] == "tiny_avg_0"
    assert clone(pipeline).fit(X, LABELS).score(X, LABELS) == 1


def test_a_pipeline_caches_its_steps_on_disk(X, tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    pipeline = make_pipeline(features(), StandardScaler(), LogisticRegression(), memory=memory)
    expected = pipeline.fit(X, LABELS).predict_proba(X)
    np.testing.assert_array_equal(clone(pipeline).fit(X, LABELS).predict_proba(X), expected)
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2)
    assert search.fit(X, LABELS).score(X, LABELS) == 1


def test_nested_parameters_can_be_set(images):
    pipeline = Pipeline(
        [
            ("mirror", FunctionTransformer(np.flip, kw_args={"axis": 2})),
            ("clf", tiny(augmentation=Augmentation(rotation=10, views=1))),
        ]
    )
    pipeline.set_params(clf__augmentation__rotation=90)
    assert pipeline["clf"].augmentation.rotation == 90
    assert pipeline.get_params()["clf__augmentation__rotation"] == 90
    search = GridSearchCV(pipeline, {"clf__augmentation__rotation": [5, 45]}, cv=2)
    search.fit(images, LABELS)
    chosen = search.best_params_["clf__augmentation__rotation"]
    assert search.best_estimator_["clf"].augmentation_.rotation == chosen
    assert pipeline["clf"].augmentation.rotation == 90


def test_feature_unions(X):
    union = FeatureUnion([("mean", features()), ("stem", features(layer="stem_relu"))])
    pipeline = make_pipeline(union, StandardScaler(), LogisticRegression())
    assert pipeline.fit(X, LABELS).score(X, LABELS) == 1
    names = union.fit(X).get_feature_names_out()
    assert names[0] == "mean__tiny_avg_0"
    assert names[-1].startswith("stem__tiny_stem_relu_avg_")
    parts = [features().fit_transform(X), features(layer="stem_relu").fit_transform(X)]
    np.testing.assert_array_equal(union.transform(X), np.hstack(parts))
    assert len(names) == sum(part.shape[1] for part in parts)


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("selected", ["path", ["path"]], ids=["series", "column"])
def test_a_column_of_paths_beside_tabular_columns(library, selected, paths):
    frames = pytest.importorskip(library)
    numbers = np.random.default_rng(1).normal(size=(N, 2))
    table = frames.DataFrame({"age": numbers[:, 0], "path": paths, "size": numbers[:, 1]})
    columns = ColumnTransformer(
        [("image", features(), selected), ("numbers", StandardScaler(), ["age", "size"])]
    )
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, LABELS)
    assert pipeline.score(table, LABELS) == 1
    names = columns.fit(table).get_feature_names_out()
    assert [names[0], *names[-2:]] == ["image__tiny_avg_0", "numbers__age", "numbers__size"]
    values = columns.transform(table)
    np.testing.assert_array_equal(values[:, :-2], features().fit_transform(paths))
    columns.set_output(transform=library)
    assert list(columns.fit_transform(table).columns) == list(names)


# Searches and curves -------------------------------------------------------------------------


def test_grids(X):
    search = GridSearchCV(tiny(), {"l2": [1e-2, 1.0], "class_weight": [None, "balanced"]}, cv=2)
    assert search.fit(X, LABELS).score(X, LABELS) == 1
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.classes_.tolist() == ["across", "down", "noise"]


def test_random_searches(X):
    search = RandomizedSearchCV(tiny(), {"l2": [1e-3, 1e-1, 10.0]}, n_iter=2, cv=2, random_state=0)
    assert search.fit(X, LABELS).score(X, LABELS) == 1


def test_halving_searches(X):
    search = HalvingGridSearchCV(
        tiny(), {"l2": [1e-3, 1e-1, 10.0]}, cv=2, min_resources=12, random_state=0
    )
    assert search.fit(X, LABELS).score(X, LABELS) == 1
    assert search.n_resources_[0] == 12


def test_cross_validation_returns_estimators(X):
    result = cross_validate(tiny(), X, LABELS, cv=3, return_estimator=True, return_indices=True)
    assert result["test_score"].tolist() == [1, 1, 1]
    for classifier, held_out in zip(result["estimator"], result["indices"]["test"], strict=True):
        assert classifier.score(taken(X, held_out), LABELS[held_out]) == 1


def test_learning_curves(X):
    sizes, _, scores = learning_curve(
        tiny(), X, LABELS, cv=2, train_sizes=[6, 12], shuffle=True, random_state=0
    )
    assert sizes.tolist() == [6, 12]
    assert scores.mean(axis=1)[1] == 1


@pytest.mark.filterwarnings("ignore:the first call of partial_fit got only")
def test_learning_curves_by_partial_fit(images):
    _, _, scores = learning_curve(
        tiny(), images, LABELS, cv=2, train_sizes=[6, 12], exploit_incremental_learning=True
    )
    for (train, test), found in zip(StratifiedKFold(2).split(images, CLASS), scores.T, strict=True):
        by_hand = tiny()
        for part, score in zip((train[:6], train[6:12]), found, strict=True):
            by_hand.partial_fit(images[part], LABELS[part], classes=np.unique(LABELS))
            assert by_hand.score(images[test], LABELS[test]) == score


def test_validation_curves(X):
    grid = {"param_name": "l2", "param_range": [1e-2, 1e6]}
    _, scores = validation_curve(tiny(), X, LABELS, cv=2, scoring="neg_log_loss", **grid)
    assert scores[0].mean() > scores[1].mean()  # at 1e6 only the intercept remains


def test_permutation_tests(X):
    score, permuted, p_value = permutation_test_score(
        tiny(), X, LABELS, cv=2, n_permutations=9, random_state=0
    )
    assert score == 1
    assert permuted.max() < 1
    assert p_value == pytest.approx(0.1)


# Classifiers made of classifiers ---------------------------------------------------------------


def test_stacks(X):
    members = [("tiny", tiny()), ("max", tiny(pooling="max"))]
    stack = StackingClassifier(members, final_estimator=LogisticRegression(), cv=2)
    assert stack.fit(X, LABELS).score(X, LABELS) == 1
    of_each = [member.predict_proba(X) for member in stack.estimators_]
    np.testing.assert_array_equal(stack.transform(X), np.hstack(of_each))


def test_stacks_with_passthrough_of_rows(rows):
    stack = StackingClassifier([("a", tiny(image_shape="infer"))], cv=2, passthrough=True)
    stack.set_params(final_estimator=LogisticRegression(C=1e-6))
    stack.fit(rows, LABELS)
    expected = np.hstack([stack.estimators_[0].predict_proba(rows), rows])
    np.testing.assert_array_equal(stack.transform(rows), expected)


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_votes(X, voting):
    vote = VotingClassifier([("tiny", tiny()), ("max", tiny(pooling="max"))], voting=voting)
    assert vote.fit(X, LABELS).score(X, LABELS) == 1


def test_bagging_of_a_column_of_paths_or_rows(table):
    X, classifier = table
    bag = BaggingClassifier(classifier, n_estimators=3, random_state=0, oob_score=False)
    assert bag.fit(X, LABELS).score(X, LABELS) == 1
    assert len(bag.estimators_) == 3


def test_boosting_of_a_column_of_paths_or_rows(table):
    X, classifier = table
    boosted = AdaBoostClassifier(classifier, n_estimators=2, random_state=0)
    assert boosted.fit(X, LABELS).score(X, LABELS) == 1


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(X, method):
    calibrated = CalibratedClassifierCV(tiny(), method=method, cv=2).fit(X, LABELS)
    assert calibrated.score(X, LABELS) == 1
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)


def test_calibration_of_a_fitted_classifier(X):
    fitted = tiny().fit(X, LABELS)
    before = fitted.predict_proba(X)
    calibrated = CalibratedClassifierCV(FrozenEstimator(fitted), cv=2).fit(X, LABELS)
    assert calibrated.score(X, LABELS) == 1
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


def test_frozen_estimators_stay_as_they_are(X):
    fitted = tiny().fit(X, LABELS)
    frozen = FrozenEstimator(fitted)
    assert frozen.fit(X, LABELS[::-1]).score(X, LABELS) == 1
    assert clone(frozen).predict(X).tolist() == LABELS.tolist()
    extracted = clone(FrozenEstimator(features().fit(X))).transform(X)
    np.testing.assert_array_equal(extracted, features().fit_transform(X))


def test_one_versus_rest(X):
    classifier = OneVsRestClassifier(tiny()).fit(X, LABELS)
    assert classifier.score(X, LABELS) == 1
    assert len(classifier.estimators_) == 3


def test_one_versus_one_of_rows(rows):
    classifier = OneVsOneClassifier(tiny(image_shape=(32, 32, 3))).fit(rows, LABELS)
    assert classifier.score(rows, LABELS) == 1


def test_thresholds(X):
    tuned = TunedThresholdClassifierCV(tiny(), cv=2).fit(X, IS_DOWN)
    assert 0 < tuned.best_threshold_ < 1
    assert tuned.score(X, IS_DOWN) == 1
    fixed = FixedThresholdClassifier(tiny(), threshold=1.0, response_method="predict_proba")
    assert not fixed.fit(X, IS_DOWN).predict(X).any()


def test_self_training_of_rows(rows):
    some = np.where(np.arange(N) < 12, CLASS, -1)
    classifier = SelfTrainingClassifier(tiny(image_shape=(32, 32, 3)), threshold=0.6)
    classifier.fit(rows, some)
    assert classifier.score(rows, CLASS) == 1
    assert (classifier.transduction_[12:] != -1).any()


def test_importance_of_paths_and_numbers(paths):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"path": paths, "size": np.ones(N)})
    columns = ColumnTransformer([("image", features(), "path"), ("size", "passthrough", ["size"])])
    pipeline = make_pipeline(columns, LogisticRegression()).fit(table, LABELS)
    found = permutation_importance(pipeline, table, LABELS, n_repeats=2, random_state=0)
    assert found.importances_mean[0] > 0.2 > found.importances_mean[1] == 0


def test_importance_of_a_column_of_paths(column):
    fitted = tiny().fit(column, LABELS)
    found = permutation_importance(fitted, column, LABELS, n_repeats=2, random_state=0)
    assert found.importances_mean.shape == (1,)
    assert found.importances_mean[0] > 0.2


def test_inspection_of_pixels(images):
    corners = images[:, 8:24:4, 8:24:4].astype(float).reshape(N, -1)
    fitted = tiny(image_shape=(4, 4, 3)).fit(corners, IS_DOWN)
    found = permutation_importance(fitted, corners, IS_DOWN, n_repeats=1, random_state=0)
    # All pixels of an image are equally informative, so a single one is not important.
    assert found.importances_mean.tolist() == [0] * 48
    curve = partial_dependence(fitted, corners, [5], grid_resolution=3)
    for value, average in zip(curve["grid_values"][0], curve["average"][0], strict=True):
        changed = corners.copy()
        changed[:, 5] = value
        assert average == pytest.approx(fitted.predict_proba(changed)[:, 1].mean(), abs=1e-6)


# Copies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny, features])
def test_clones_of_fitted_and_unfitted(make, X):
    estimator = make()
    before = clone(estimator)
    estimator.fit(X, LABELS)
    after = clone(estimator)
    assert before.get_params() == after.get_params() == estimator.get_params()
    ask = "predict_proba" if hasattr(estimator, "predict_proba") else "transform"
    for fresh in (before, after):
        with pytest.raises(NotFittedError):
            getattr(fresh, ask)(X)
        expected = getattr(estimator, ask)(X)
        np.testing.assert_array_equal(getattr(fresh.fit(X, LABELS), ask)(X), expected)


# imbalanced-learn -------------------------------------------------------------------------------


def test_oversampling_by_imbalanced_learn_of_a_column_of_paths_or_rows(table):
    pipelines = pytest.importorskip("imblearn.pipeline", reason="imbalanced-learn is not installed")
    samplers = pytest.importorskip("imblearn.over_sampling")
    X, classifier = table
    few = np.where(np.arange(N) % 6 == 0, "across", "others")
    sampler = samplers.RandomOverSampler(random_state=0)
    more, labels = sampler.fit_resample(X, few)
    assert (labels == "across").sum() == (labels == "others").sum() == 20
    expected = clone(classifier).fit(more, labels)
    together = pipelines.make_pipeline(sampler, classifier).fit(X, few)
    np.testing.assert_array_equal(together.predict_proba(X), expected.predict_proba(X))


# Displays ----------------------------------------------------------------------------------------


def test_displays_of_an_estimator(X):
    pytest.importorskip("matplotlib")
    import matplotlib.pyplot as plt

    fitted = tiny().fit(X, LABELS)
    shown = ConfusionMatrixDisplay.from_estimator(fitted, X, LABELS)
    assert shown.confusion_matrix.tolist() == (np.eye(3, dtype=int) * 8).tolist()
    assert shown.display_labels.tolist() == fitted.classes_.tolist()
    binary = tiny().fit(X, IS_DOWN)
    assert np.max(RocCurveDisplay.from_estimator(binary, X, IS_DOWN).roc_auc) == 1
    calibration = CalibrationDisplay.from_estimator(binary, X, IS_DOWN, n_bins=2)
    assert calibration.prob_true.tolist() == [0, 1]
    curve = LearningCurveDisplay.from_estimator(tiny(), X, LABELS, cv=2, train_sizes=[6, 12])
    assert curve.test_scores.tolist() == [[1, 1], [1, 1]]
    curve = ValidationCurveDisplay.from_estimator(
        tiny(), X, LABELS, cv=2, param_name="l2", param_range=[0.1, 1.0]
    )
    assert curve.test_scores.tolist() == [[1, 1], [1, 1]]
    plt.close("all")


# Several processes -----------------------------------------------------------------------------


@pytest.mark.slow
# The grid has heads with and without epochs, and with and without fine-tuning.
@pytest.mark.filterwarnings("ignore:set without effect on this fit")
def test_a_search_gives_the_same_in_one_and_two_processes(images, tmp_path):
    pipeline = Pipeline(
        [
            ("mirror", FunctionTransformer(np.flip, kw_args={"axis": 2})),
            ("clf", tiny(epochs=2, fine_tune_epochs=1)),
        ]
    )
    views = {"clf__augmentation": [Augmentation(rotation=20, views=1)]}
    hidden = {"clf__hidden_units": [(8,)]}
    tuned = {"clf__trainable_layers": ["top"]}
    scratch = {"clf__backbone": [ConvNet(filters=(8,))], "clf__image_size": [8]}
    grid = [{}, hidden | views, tuned, tuned | hidden | views, scratch, scratch | hidden | views]
    found = []
    for n_jobs in (1, 2):
        pipeline.set_params(clf__cache=str(tmp_path / f"jobs_{n_jobs}"))
        search = GridSearchCV(
            pipeline,
            grid,
            cv=StratifiedKFold(2),
            scoring=["accuracy", "neg_log_loss"],
            refit="accuracy",
            n_jobs=n_jobs,
        )
        found.append(search.fit(images, LABELS))
        shared_store().clear()
    alone, together = (search.cv_results_ for search in found)
    assert len(alone["params"]) == 6
    scores = [name for name in alone if "_test_" in name]
    assert len(scores) == 10
    for name in scores:
        # Losses differ in the last digits: one thread adds up in another order than two.
        atol = 0 if "accuracy" in name else 1e-6
        np.testing.assert_allclose(together[name], alone[name], 0, atol, err_msg=name)
    # The parameters have an effect: most candidates have different losses.
    assert len(set(alone["mean_test_neg_log_loss"].round(6))) == 6
    np.testing.assert_array_equal(found[0].predict(images), found[1].predict(images))
