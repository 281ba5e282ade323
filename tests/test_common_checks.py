"""scikit-learn's own checks on its own data: rows of numbers, with image_shape="infer"."""

from unittest import SkipTest

import pytest
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from transferclf import (
    CNNFeatureExtractor,
    ConvNet,
    TransferClassifier,
    TransferRegressor,
    UnknownRejector,
)
from transferclf.estimators import strangeness

pytestmark = [
    pytest.mark.every_parameter,  # every check is a parameter
    # The data of the checks look like dark images: most values are a few units of 255.
    pytest.mark.filterwarnings(
        "ignore:the brightest pixel of:transferclf.exceptions.TransferclfWarning"
    ),
    # The checks start partial_fit with few rows.
    pytest.mark.filterwarnings("ignore:the first call of partial_fit got only"),
    pytest.mark.usefixtures("_own_folder"),
]

FEWEST_CHECKS = 50

# Folders are relative, so that all worker processes give the tests the same names.
FOLDER = "features"

NEGATIVE = "the check gives negative numbers to estimators whose tag positive_only is true, too"
SHUFFLED = "Keras optimizers step after each shuffled batch, where a weight of 2 is not two images"


def on_rows(kind=TransferClassifier, **options):
    return kind(**{"image_size": 32, "image_shape": "infer", "random_state": 0, **options})


CLASSIFIERS = {
    "linear": on_rows(),
    "negative pixels": on_rows(pixel_range=(-200, 200), l2=1.0),
    "hidden layer": on_rows(hidden_units=(16,), epochs=10, batch_size=16, learning_rate=0.02),
    "fine-tuned": on_rows(
        l2=0.01, trainable_layers="top", fine_tune_epochs=2, batch_size=8, soup=1.0
    ),
    "on disk": on_rows(l2=0.01, cache=FOLDER),
    "from scratch": on_rows(
        backbone=ConvNet(filters=(8,), dense_units=(16,)),
        image_size=8,
        epochs=10,
        batch_size=16,
        learning_rate=0.01,
    ),
}
# The heads by Keras take the same way as those of classifiers.
REGRESSOR = on_rows(TransferRegressor)
EXTRACTORS = {
    "features": on_rows(CNNFeatureExtractor),
    "a layer on disk": on_rows(CNNFeatureExtractor, layer="block1_unit1_relu1", cache=FOLDER),
    # Without a store, the check of subsets compares one image alone with many. Its tolerance is
    # relative to each feature, also near zero. TensorFlow's kernels for one image and for 32 agree
    # relative to the largest feature only; ONNX Runtime has one kernel for both.
    "negative pixels": on_rows(
        CNNFeatureExtractor, pixel_range="minmax", cache=None, engine="onnxruntime"
    ),
}

# Checks that scikit-learn yields, but does not run for such an estimator or in such a process.
NOT_ASKED = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API was set before SciPy was imported",
    "check_sample_weight_equivalence_on_sparse_data": (
        "scikit-learn 1.6 gives sparse matrices to those that say they take none, too"
    ),
}


def expected_failures(estimator):
    if not isinstance(estimator, TransferClassifier):
        return {}
    failures = {}
    if get_tags(estimator).input_tags.positive_only:
        failures["check_class_weight_classifiers"] = NEGATIVE
        failures["check_decision_proba_consistency"] = NEGATIVE
    is_by_keras = estimator.hidden_units or estimator.trainable_layers
    if is_by_keras or isinstance(estimator.backbone, ConvNet):
        failures["check_sample_weight_equivalence_on_dense_data"] = SHUFFLED
    return failures


def name_of(check):
    return check.func.__name__


@pytest.fixture
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# These run on the oldest versions, too; the others differ only in parameters of this package.
ON_ALL_VERSIONS = [
    CLASSIFIERS["linear"],
    CLASSIFIERS["hidden layer"],
    EXTRACTORS["features"],
    REGRESSOR,
]
ON_THE_NEWEST = [
    estimator
    for estimator in [*CLASSIFIERS.values(), *EXTRACTORS.values()]
    if all(estimator is not other for other in ON_ALL_VERSIONS)
]


@parametrize_with_checks(ON_ALL_VERSIONS, expected_failed_checks=expected_failures)
def test_common_check(estimator, check):
    assert_passes(estimator, check)


@pytest.mark.newest
@parametrize_with_checks(ON_THE_NEWEST, expected_failed_checks=expected_failures)
def test_common_check_of_other_settings(estimator, check):
    assert_passes(estimator, check)


def assert_passes(estimator, check):
    if name_of(check) in NOT_ASKED:
        pytest.skip(NOT_ASKED[name_of(check)])
    try:
        check(estimator)
    except SkipTest as reason:
        pytest.fail(f"{name_of(check)} did not run: {reason}")


def checks_that_must_pass(estimator):
    """Return the checks of test_common_check that have to run to their end and pass."""
    names = [name_of(check) for _, check in estimator_checks_generator(estimator)]
    assert set(expected_failures(estimator)) <= set(names)
    return [name for name in names if name not in {*expected_failures(estimator), *NOT_ASKED}]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_at_least_fifty_checks_run_and_pass(name, pytestconfig):
    assert pytestconfig.getini("xfail_strict")
    assert len(checks_that_must_pass(CLASSIFIERS[name])) >= FEWEST_CHECKS


@pytest.mark.parametrize("name", EXTRACTORS)
def test_no_check_of_the_extractor_may_fail(name):
    assert expected_failures(EXTRACTORS[name]) == {}
    assert len(checks_that_must_pass(EXTRACTORS[name])) >= 40


def test_no_check_of_the_regressor_may_fail():
    assert expected_failures(REGRESSOR) == {}
    assert len(checks_that_must_pass(REGRESSOR)) >= FEWEST_CHECKS


def test_at_most_three_checks_are_expected_to_fail():
    estimators = [*CLASSIFIERS.values(), *EXTRACTORS.values()]
    names = {name for estimator in estimators for name in expected_failures(estimator)}
    assert len(names) <= 3
    # The checks with negative numbers pass where such pixels are allowed.
    assert expected_failures(CLASSIFIERS["negative pixels"]) == {}


REJECTED = "some images that the classifier learned from are rejected"
FAILURES_OF_REJECTORS = {
    "check_classifiers_classes": "the check has a class -1, and -1 means unknown",
    "check_classifiers_train": REJECTED,
    "check_decision_proba_consistency": NEGATIVE,
}


@pytest.mark.newest
@parametrize_with_checks(
    [UnknownRejector(on_rows(l2=0.1), random_state=0)],
    expected_failed_checks=lambda estimator: FAILURES_OF_REJECTORS,
)
@pytest.mark.filterwarnings("ignore:coverage=0.95 needs 19 held-out images")
def test_common_check_of_rejectors(estimator, check, monkeypatch):
    # The covariance takes a second in each fit, however few images there are.
    monkeypatch.setattr(strangeness, "MAX_FEATURES", 64)
    assert_passes(estimator, check)
