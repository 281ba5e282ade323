"""Tests of saved rejectors: they predict the same, and hostile files are refused."""

import io

import numpy as np
import pytest
from image_helpers import striped_images
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_persistence_hostile import forged

from transferclf import TransferClassifier, UnknownRejector, load_model, save_model
from transferclf.estimators import strangeness
from transferclf.exceptions import ArchiveError, InvalidParameterError

IMAGES = striped_images(30, np.random.default_rng(0))
LABELS = np.array(["a", "b", "c"])[np.arange(30) % 3]
WIDTH = 1152


@pytest.fixture(autouse=True, scope="module")
def _no_covariance_of_many_features():
    before, strangeness.MAX_FEATURES = strangeness.MAX_FEATURES, 64
    yield
    strangeness.MAX_FEATURES = before


def classifier():
    return TransferClassifier(image_size=32, l2=0.1, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    return UnknownRejector(classifier(), coverage=0.8, random_state=0).fit(IMAGES, LABELS)


def saved(rejector):
    file = io.BytesIO()
    save_model(rejector, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def archive(fitted):
    return saved(fitted)


def loaded(content):
    return load_model(io.BytesIO(content))


def test_a_loaded_rejector_is_the_same(fitted, archive):
    again = loaded(archive)
    assert type(again) is UnknownRejector
    assert again.offset_ == fitted.offset_
    np.testing.assert_array_equal(again.score_samples(IMAGES), fitted.score_samples(IMAGES))
    np.testing.assert_array_equal(again.predict(IMAGES), fitted.predict(IMAGES))
    np.testing.assert_array_equal(again.predict_proba(IMAGES), fitted.predict_proba(IMAGES))
    np.testing.assert_array_equal(again.held_out_scores_, fitted.held_out_scores_)
    assert again.unknown_label_ == "unknown"
    given, kept = fitted.get_params(), again.get_params()
    assert {name: kept[name] for name in given if name != "estimator"} == {
        name: given[name] for name in given if name != "estimator"
    }
    assert not hasattr(again.estimator, "head_")
    assert saved(again) == archive


def test_a_frozen_classifier_stays_frozen_and_axes_are_kept(monkeypatch):
    monkeypatch.setattr(strangeness, "MAX_FEATURES", WIDTH)
    inner = FrozenEstimator(classifier().fit(IMAGES, np.arange(30) % 3))
    rejector = UnknownRejector(inner, coverage=0.8, unknown_label=np.int64(9), n_splits=2)
    again = loaded(saved(rejector.fit(IMAGES, np.arange(30) % 3)))
    assert isinstance(again.estimator, FrozenEstimator)
    assert (again.unknown_label, again.unknown_label_) == (9, 9)
    np.testing.assert_array_equal(again.normality_.axes, rejector.normality_.axes)
    np.testing.assert_array_equal(again.score_samples(IMAGES), rejector.score_samples(IMAGES))


def test_rejectors_that_an_archive_cannot_hold_are_refused(fitted):
    piped = UnknownRejector(make_pipeline(FunctionTransformer(), classifier()), coverage=0.8)
    with pytest.raises(InvalidParameterError, match="around a TransferClassifier only"):
        saved(piped.fit(IMAGES, LABELS))
    random = UnknownRejector(classifier(), coverage=0.8, random_state=np.random.RandomState(0))
    with pytest.raises(InvalidParameterError, match="random_state must be a number"):
        saved(random.fit(IMAGES, LABELS))


def change(part, **values):
    def changed(facts):
        facts[part].update(values)

    return changed


def rejector_in_rejector(facts):
    facts["fitted"]["estimator"]["kind"] = "UnknownRejector"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (change("parameters", coverage=1.5), "coverage must be"),
        (change("parameters", coverage="high"), "coverage"),
        (change("parameters", n_splits=1), "'n_splits'"),
        (change("parameters", random_state=-3), "'random_state'"),
        (change("parameters", unknown_label="a"), "none of the classes"),
        (change("parameters", unknown_label=3), "a text, as the classes are"),
        (change("parameters", unknown_label=["x"]), "'unknown_label'"),
        (change("parameters", is_frozen=1), "'is_frozen'"),
        (change("parameters", more=1), "must not have 'more'"),
        (change("fitted", offset="low"), "'offset'"),
        (change("fitted", more=1), "must not have 'more'"),
        (change("fitted", estimator=3), "must be an object"),
        (rejector_in_rejector, "one of TransferClassifier"),
    ],
)
def test_facts_that_contradict_each_other_are_refused(archive, changed, reason):
    with pytest.raises(ArchiveError, match=reason):
        loaded(forged(archive, changed))


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("known", np.zeros((30, 7)), "normality/known must be an array of shape"),
        ("known", np.zeros((0, WIDTH)), "normality/coef must have"),
        ("known", np.full((30, WIDTH), np.nan), "must be finite"),
        ("coef", np.zeros((WIDTH, 9)), "normality/coef must have 1 to 3 columns"),
        ("coef", np.zeros((WIDTH, 0)), "normality/coef must have 1 to 3 columns"),
        ("intercept", np.zeros(2), "normality/intercept must be an array of shape"),
        ("axes", np.zeros((3, 3)), "normality/axes must be an array of shape"),
        ("centres", np.zeros((2, WIDTH)), "normality/centres must be an array of shape"),
        ("typical", np.zeros(2), "normality/typical must be an array of shape"),
        ("mean", np.zeros(3), "normality/mean must be an array of shape"),
        ("scale", np.array([1.0, 0.0]), "normality/scale must be above zero"),
        ("held_out", np.zeros((2, 2)), "normality/held_out must be an array of shape"),
        ("known", np.zeros((30, WIDTH), np.int32), "kind 'f'"),
        ("more", np.zeros(3), "more arrays than expected"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(archive, name, array, reason):
    with pytest.raises(ArchiveError, match=reason):
        loaded(forged(archive, arrays={f"normality/{name}": array}))
